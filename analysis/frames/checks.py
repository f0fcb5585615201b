"""Checks of trained networks for masked gradients: a row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame

from analysis.frames.evaluations import by_key, disjoint
from analysis.frames.log import Log, Records, read_log
from analysis.frames.trials import identified
from trainers.ladder.rungs import CHECKS

_COUNTS = ("clean_correct", "against", "in_favour")
_COLUMNS = ("weights", "averaged", "check", "norm", "radius", "split", "images", "asked", "complete", *_COUNTS)


def load_checks(directory: Path) -> DataFrame:
    """One row a check of one trial's weights; its chunks are added up.

    Args:
        directory: a run, as given to `sweep launch --out`.

    Returns:
        trial_id, method, seed, the axes and lr_batch_ratio as in `analysis.frames.trials.load_trials`; weights (last or
        best), averaged, check (a name of `trainers.ladder.checks`), norm, radius (pixel units), split; images, asked,
        complete as in `analysis.frames.evaluations.load_evaluations`; clean_correct, images right when clean; of those
        against and in_favour (`trainers.record.CheckRecord`), and right_under, how many are right under each of the
        check's attacks, in words; seconds. By the trial's number, then in the order of the checks.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return checks_of(read_log(directory))


def checks_of(records: Records) -> DataFrame:
    """`load_checks` of records that are at hand.

    Args:
        records: as for `analysis.frames.trials.trials_of`.
    """
    log = Log.of(records)
    known, numbers = identified(log)
    groups = [chunks for chunks in by_key(log, "check").values() if chunks[0]["trial_id"] in numbers]
    groups.sort(key=lambda chunks: (numbers[chunks[0]["trial_id"]], _place(chunks[0])))
    rows = known.take([numbers[chunks[0]["trial_id"]] for chunks in groups]).reset_index(drop=True)
    columns = [*_COLUMNS, "right_under", "seconds"]
    return rows.join(DataFrame([_row(chunks) for chunks in groups], columns=columns))


def _place(record: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("weights", "averaged", "split")
    place = list(CHECKS).index(record["check"]) if record["check"] in CHECKS else len(CHECKS)
    return (*(record[name] for name in names), tuple(map(str, record["parameters"].values())), place)


def _row(chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    newest, counted = chunks[-1], disjoint(chunks)
    names = ("images", *_COUNTS, "seconds")
    sums: dict[str, Any] = {name: sum(chunk[name] for chunk in counted) for name in names}
    right = sum((Counter(chunk["right_under"]) for chunk in counted), Counter[str]())
    attacks = dict.fromkeys(name for chunk in counted for name in chunk["right_under"])
    return {
        **{name: newest[name] for name in ("weights", "averaged", "check", "split", "asked")},
        **{name: newest["parameters"].get(name) for name in ("norm", "radius")},
        **sums,
        "complete": sums["images"] >= newest["asked"],
        "right_under": ", ".join(f"{name}: {right[name]}" for name in attacks),
    }
