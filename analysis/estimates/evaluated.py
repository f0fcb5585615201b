"""What `sweep evaluate` recorded in place of training's own evaluation: trials to compare, and means over seeds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame, Series

from analysis.estimates.crossed import BOTH, SEEDS, methods_variance
from analysis.estimates.intervals import t_test
from analysis.estimates.methods import CLEAN, ROBUST, told_apart
from analysis.estimates.ranges import clipped, possible
from analysis.frames.bits import BITS, TrialBits
from analysis.frames.cells import Mode, codes, own_best
from analysis.frames.evaluations import ATTACKS, PARAMETERS, evaluations_of
from analysis.frames.images import EVALUATION, images_of
from analysis.frames.log import Log
from analysis.frames.recipes import judged_averaged
from analysis.frames.trials import axes

#: What tells evaluations of one trial apart.
KEY = ("weights", "averaged", "attack", *PARAMETERS, "split")


class Evaluated(NamedTuple):
    """Trials whose test accuracies are those under one attack of `sweep evaluate`."""

    trials: DataFrame
    """`last_test_robust`, `last_test_clean` and the bits are of the evaluation; NaN and None where there is none. Where
    averaging names a method, its trials' are of their averaged weights, as in `analysis.frames.recipes`."""
    attack: dict[str, Any]
    """What all of them are of: of `analysis.frames.evaluations.load_evaluations` the columns `KEY` and images."""


def evaluated(
    trials: DataFrame,
    log: Log,
    *,
    by: Sequence[str] = (),
    choosers: Collection[int] = (),
    metric: str = "val_robust",
    mode: Mode = "max",
) -> Evaluated | None:
    """The trials under the strongest attack that all of them saw which are compared, each method at its best cell.

    A trial that was attacked on more images than others counts by the first of them, on which all were.

    The strongest is the last on the ladder of `analysis.frames.evaluations.ATTACKS`; of one rung the one on the most
    images, at the radius that training evaluated at rather than another, and on the last epoch's raw weights.

    Args:
        trials: as `analysis.claims.study.load_study` gives them.
        log: that they are of.
        by, choosers, metric, mode: as in `analysis.estimates.methods.comparison`.

    Returns:
        None: no attack was run, whole, on every one of them.
    """
    best = own_best(told_apart(trials, by), f"last_{metric}", mode=mode, choosers=choosers).compared
    wanted = set(best.loc[best["outcome"] == "completed", "trial_id"])
    if not wanted:
        return None
    rows = _with_own_weights(with_evaluation_bits(evaluations_of(log), log), trials)
    rows = rows[rows["complete"] & (rows["split"] == "test") & (rows["attack"] != "clean")]
    radii = _own_radii(log)
    rows = rows.assign(_own=[row["radius"] == radii.get(row["trial_id"]) for row in rows.to_dict("records")])
    kinds = [part for _, part in rows.groupby(list(KEY), dropna=False) if wanted <= set(part["trial_id"])]
    common = [part for kind in kinds if wanted <= set((part := _on_common_images(kind, wanted))["trial_id"])]
    if not common:
        return None
    chosen = max(common, key=_strength).set_index("trial_id")
    known = trials["trial_id"].where(trials["trial_id"].isin(chosen.index))
    values = {y: known.map(chosen[column]).astype(np.float64) for y, column in _VALUES.items()}
    values |= {own: values[y] for y, own in _AVERAGED.items() if own in trials}  # in place of the raw ones by and by
    bits = Series([chosen[BITS].get(name) for name in trials["trial_id"]], index=trials.index, dtype=object)
    attack = {name: chosen[name].iloc[0] for name in (*KEY, "images")}
    return Evaluated(trials.assign(**values, **{BITS: bits}), attack)


def _on_common_images(part: DataFrame, wanted: Collection[str]) -> DataFrame:
    """Evaluations of one kind, each on as many images of the split's order as every trial that is wanted was.

    One on more images is cut to the first of them by its bits, and left out where it has none; so is one on fewer.
    """
    images = int(part.loc[part["trial_id"].isin(wanted), "images"].min())
    rows = [_first_images(row, images) for row in part[part["images"] >= images].to_dict("records")]
    return DataFrame([row for row in rows if row is not None], columns=part.columns)


def _first_images(row: dict[Any, Any], images: int) -> dict[Any, Any] | None:
    if row["images"] == images:
        return row
    known = {} if row[BITS] is None else {y: row[BITS].of(y) for y in _VALUES}
    right = {y: bits[:images] for y, bits in known.items() if bits is not None}
    if len(right) < len(_VALUES):
        return None
    bits = replace(row[BITS], images=images, right=right)
    return {**row, "images": images, BITS: bits, **{_VALUES[y]: float(one.mean()) for y, one in right.items()}}


def _with_own_weights(rows: DataFrame, trials: DataFrame) -> DataFrame:
    """The evaluations of the weights that each trial is judged by, all called raw: the methods' names say which."""
    if (averages := judged_averaged(trials)) is None:
        return rows
    of_trial = dict(zip(trials["trial_id"], averages, strict=True))
    return rows[rows["averaged"] == rows["trial_id"].map(of_trial)].assign(averaged=False)


_VALUES = {ROBUST: "robust_accuracy", CLEAN: "clean_accuracy"}
_AVERAGED = {ROBUST: "last_averaged_test_robust", CLEAN: "last_averaged_test_clean"}


def _strength(part: DataFrame) -> tuple[Any, ...]:
    row = part.iloc[0]
    ladder = list(ATTACKS)
    numbers = [float(np.nan_to_num(row[name], nan=0.0)) for name in ("restarts", "steps", "radius")]
    plain = row["weights"] == "last", not row["averaged"]
    rung = ladder.index(row["attack"]) if row["attack"] in ladder else -1  # of a newer version
    return bool(part["_own"].all()), rung, row["images"], *plain, *numbers


def _own_radii(log: Log) -> dict[str, float | None]:
    """The radius at which training evaluated each trial."""
    configs = {record["trial_id"]: record["config"] for record in log if record["record"] == "trial"}
    return {name: config.get("evaluation", {}).get("radius") for name, config in configs.items()}


def with_evaluation_bits(rows: DataFrame, log: Log) -> DataFrame:
    """Evaluations with `BITS`, where every image's result is recorded.

    Args:
        rows: of `analysis.frames.evaluations.evaluations_of`.
        log: that they are of.
    """
    images = images_of(log)
    known = {_key(row): row for row in images[images["source"] == EVALUATION].to_dict("records")}
    found = [known.get(_key(row)) for row in rows.to_dict("records")]
    bits = [None if row is None else _bits(row) for row in found]
    return rows.assign(**{BITS: Series(bits, index=rows.index, dtype=object)})


def _key(row: dict[Any, Any]) -> tuple[Any, ...]:
    return row["trial_id"], *(None if row[name] != row[name] else row[name] for name in KEY), row["images"]


def _bits(row: dict[Any, Any]) -> TrialBits:
    right = {ROBUST: row["right"], CLEAN: row["clean_right"]}
    return TrialBits(row["trial_id"], row["fingerprint"], row["images"], right)


def over_seeds(rows: DataFrame, confidence: float = 0.95) -> DataFrame:
    """Mean robust accuracy of each cell under each attack on as many images, over its seeds, where there are several.

    Args:
        rows: of `with_evaluation_bits`, or some of them.
        confidence: of the interval, in (0, 1).

    Returns:
        the columns of the first evaluation of each; n, how many seeds; robust_accuracy, their mean; low and high of its
        interval; holds, whose error that is: `seeds and test images` (`analysis.estimates.crossed`) where all have
        bits of the same images, else `seeds`.
    """
    cells = []
    for place in np.unique(groups := codes(rows, [*axes(rows), *KEY, "images"])):
        cell = rows[groups == place].drop_duplicates("seed", keep="last")
        if len(cell) < 2:
            continue
        trials = cell.assign(method="", **{ROBUST: cell["robust_accuracy"]})
        images = methods_variance(trials, {"": 1.0}, ROBUST)
        mean, low, high, _ = t_test(cell["robust_accuracy"].to_numpy(dtype=np.float64), confidence, images)
        low, high = clipped(low, high, possible(ROBUST))
        holds = SEEDS if np.isnan(images) else BOTH
        said = {"n": len(cell), "robust_accuracy": mean, "low": low, "high": high, "holds": holds}
        cells.append({**cell.iloc[0].to_dict(), **said})
    return DataFrame(cells, columns=[*rows.columns, "n", "holds"])
