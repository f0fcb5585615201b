"""Evaluations of trained networks: a row each, with the interval of its accuracy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pandas import DataFrame

from analysis.frames.log import Log, Records, read_log
from analysis.frames.trials import identified
from trainers.record import begins_anew

#: From the weakest to the strongest, and what they are called; `trainers.ladder.survivors` runs them.
ATTACKS = {
    "clean": "clean",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "cw": "CW",
    "apgd": "APGD",
    "autoattack": "AutoAttack",
}

#: What an attack may read; NaN in a row whose attack does not.
PARAMETERS = ("norm", "radius", "steps", "step_size", "restarts", "start")

Key: TypeAlias = tuple[Any, ...]

Kind: TypeAlias = Literal["evaluation", "check"]

#: Of records that say what `sweep evaluate` measured.
KINDS: tuple[Kind, ...] = get_args(Kind)


def load_evaluations(directory: Path, level: float = 0.95) -> DataFrame:
    """One row an evaluation: one trial's weights under one attack on one split; its chunks are added up.

    Args:
        directory: a run, as given to `sweep launch --out`.
        level: of the interval.

    Returns:
        trial_id, method, seed, the axes and lr_batch_ratio as in `analysis.frames.trials.load_trials`; weights (last or
        best), averaged, attack, norm, radius and step_size (pixel units), steps, restarts, start, split; images
        evaluated, asked (images that the last command wanted of it), complete (whether all of those are there);
        clean_accuracy and robust_accuracy, fractions of the images, equal for the attack `clean`; low and high, the
        Wilson interval of robust_accuracy (see `wilson`); seconds. By the trial's number, then the attack's place
        on the ladder.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return evaluations_of(read_log(directory), level)


def evaluations_of(records: Records, level: float = 0.95) -> DataFrame:
    """`load_evaluations` of records that are at hand.

    Args:
        records: as for `analysis.frames.trials.trials_of`.
        level: of the interval.
    """
    log = Log.of(records)
    known, numbers = identified(log)
    groups = by_key(log).values()
    evaluated = [group for group in groups if group[0]["trial_id"] in numbers]
    evaluated.sort(key=lambda group: evaluation_place(group[0], numbers))
    rows = known.take([numbers[group[0]["trial_id"]] for group in evaluated]).reset_index(drop=True)
    measured = DataFrame([_row(group) for group in evaluated], columns=[*_row_names(), "correct"])
    low, high = wilson(measured.pop("correct").to_numpy(np.int64), measured["images"].to_numpy(np.int64), level)
    seconds = measured.pop("seconds")
    columns = {name: measured[name] for name in measured.columns}
    return rows.assign(**columns, low=low, high=high, seconds=seconds)


def by_key(records: Iterable[Mapping[str, Any]], kind: Kind = "evaluation") -> dict[Key, list[Mapping[str, Any]]]:
    """The evaluation records of a run, or its checks, each one's chunks together: those that count.

    Chunks whose draws are seeded by image and older ones, whose draws were seeded by chunk, are never added up: where
    an evaluation has both, those that hold the more images count, and of as many those seeded by image.
    """
    return {name: _counted(chunks) for name, chunks in all_by_key(records, kind).items()}


def all_by_key(records: Iterable[Mapping[str, Any]], kind: Kind = "evaluation") -> dict[Key, list[Mapping[str, Any]]]:
    """`by_key` with every chunk, whatever its draws were seeded by.

    Of a trial that was to be trained anew (`sweep rerun`) none from before: they are of a network that is gone.
    """
    groups: dict[Key, list[Mapping[str, Any]]] = {}
    of_trial: dict[str, set[Key]] = defaultdict(set)
    for record in records:
        if record["record"] == kind:
            groups.setdefault(name := key(record), []).append(record)
            of_trial[record["trial_id"]].add(name)
        elif record["record"] == "outcome" and begins_anew(record):
            for name in of_trial.pop(record["trial_id"], ()):
                del groups[name]
    return groups


def _counted(chunks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kinds = [[chunk for chunk in chunks if drawn_by_image(chunk) is by_image] for by_image in (True, False)]
    return max(kinds, key=lambda alike: sum(chunk["images"] for chunk in disjoint(alike)))


def drawn_by_image(chunk: Mapping[str, Any]) -> bool:
    """Whether the attack's random draws, if it has any, were seeded by image: where chunks were cut is no matter."""
    return chunk.get("draws") == "image" or chunk.get("attack") in ("clean", "fgsm")


def key(record: Mapping[str, Any]) -> Key:
    """What the chunks of one evaluation share."""
    parameters = tuple(parameters_of(record).get(name) for name in PARAMETERS)
    names = ("trial_id", "weights", "averaged", "check" if "check" in record else "attack", "split")
    return (*(record[name] for name in names), *parameters)


def parameters_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What its attack read; one that does not say where it started is older than the choice, and started uniform."""
    before = {"start": "uniform"} if record.get("attack") in ("pgd", "cw") else {}
    return {**before, **record["parameters"]}


def disjoint(chunks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The chunks that count, in order: where two hold an image, the one that begins first, is longer, or is newer.

    >>> [chunk["images"] for chunk in disjoint([{"first": 0, "images": 5}, {"first": 0, "images": 9}])]
    [9]
    """
    counted, position = [], 0
    newest_first = reversed(list(chunks))
    for chunk in sorted(newest_first, key=lambda chunk: (chunk["first"], -chunk["images"])):
        if chunk["first"] >= position:
            counted.append(chunk)
            position = chunk["first"] + chunk["images"]
    return counted


def wilson(correct: ArrayLike, images: ArrayLike, level: float = 0.95) -> tuple[NDArray[np.float64], ...]:
    """The interval of a share of images that are right, by Wilson's score test (JASA 1927).

    The images are taken as drawn at random from those that might have been tested. It says nothing of another
    training: its spread is that over seeds.

    Args:
        correct: (k,) how many of the images are right.
        images: (k,) how many there are, > 0.
        level: of the interval.

    Returns:
        low and high, (k,) each, in [0, 1].

    >>> [round(float(end), 4) for end in wilson(81, 263)]
    [0.2553, 0.3662]
    """
    from statsmodels.stats.proportion import proportion_confint

    count, n = np.asarray(correct), np.asarray(images)
    low, high = proportion_confint(count, n, 1 - level, "wilson")
    # Where none or all are right one end is exactly 0 or 1; rounding must not move it.
    return np.where(count == 0, 0.0, low), np.where(count == n, 1.0, high)


def _row_names() -> list[str]:
    names = ("weights", "averaged", "attack", *PARAMETERS, "split", "images", "asked", "complete")
    return [*names, "clean_accuracy", "robust_accuracy", "seconds"]


def _row(chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of one evaluation."""
    newest, counted = chunks[-1], disjoint(chunks)
    images, clean, correct = (sum(chunk[name] for chunk in counted) for name in ("images", "clean_correct", "correct"))
    return {
        **{name: newest[name] for name in ("weights", "averaged", "attack", "split", "asked")},
        **{name: parameters_of(newest).get(name, np.nan) for name in PARAMETERS},
        "images": images,
        "complete": images >= newest["asked"],
        "clean_accuracy": clean / images,
        "robust_accuracy": correct / images,
        "correct": correct,
        "seconds": sum(chunk["seconds"] for chunk in counted),
    }


def evaluation_place(record: Mapping[str, Any], numbers: Mapping[str, int]) -> Key:
    """Where an evaluation stands among others: by its trial's number, then by the attack's place on the ladder."""
    ladder = list(ATTACKS)
    rung = ladder.index(record["attack"]) if record["attack"] in ladder else len(ladder)
    parameters = tuple(str(value) for value in record["parameters"].values())
    return (numbers[record["trial_id"]], record["weights"], record["averaged"], record["split"], rung, parameters)
