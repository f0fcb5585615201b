"""The numbers behind each figure, frame -> frame; an empty frame: the data do not allow the figure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame
from scipy import stats

from analysis.claim_tables import answer
from analysis.claims.ledger import Claim
from analysis.estimates.correlations import Method, correlations
from analysis.estimates.intervals import line
from analysis.estimates.methods import ROBUST, comparison, results_frame
from analysis.estimates.ranges import possible
from analysis.frames.cells import GROUP, Mode, best_trials, measured, several
from analysis.frames.trials import axes
from analysis.method_tables import as_judged
from analysis.surfaces import surfaces

#: Up to so many batch sizes get a panel each; more are drawn in one.
MOST_PANELS = 6

#: Fewer methods are compared in words.
FEWEST_METHODS = 3

#: Points at which a fitted line is written down.
_LINE_POINTS = 50

#: Of the metric with lr / batch size, written beside its line.
_COEFFICIENTS: tuple[Method, ...] = ("pearson", "spearman")

#: A grid of two axes is a picture if more than this share of its cells was planned.
_GRID_SHARE = 0.5


class ChosenBy(NamedTuple):
    """What a method's cell is chosen by, at the last epoch; of validation, never of test."""

    metric: str = "val_robust"
    mode: Mode = "max"
    """max for an accuracy, min for a loss."""


#: As a sweep chooses unless its config says otherwise.
BY_VAL_ROBUST = ChosenBy()


def accuracy_by_lr(trials: DataFrame, metric: str, confidence: float = 0.95) -> DataFrame:
    """Each trial at its learning rate, with the mean over trials of its model, method, batch size and lr.

    The mean's t interval takes one seed variance a curve, pooled over its learning rates: two or three seeds
    alone say too little about their own. Axes other than these (optimizer.k1) are pooled.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        metric: what is drawn.
        confidence: of the interval, in (0, 1).

    Returns:
        model.name, batch_size (`all` beyond `MOST_PANELS`), method, optimizer.lr, trial_id, seed,
        outcome (completed or diverged), value (NaN if diverged), mean, low, high, n (trials in the mean), interval
        (whose variance it takes);
        empty if there are not two learning rates.
    """
    usable = measured(trials, metric)
    diverged = trials["outcome"] == "diverged"
    rows = trials[trials.index.isin(usable.index) | diverged]
    rows = rows.assign(value=rows[metric].where(rows["outcome"] == "completed").astype(np.float64))
    if len(rows["batch_size"].unique()) > MOST_PANELS:
        rows = rows.assign(batch_size="all")
    curve = ["model.name", "batch_size", "method"]
    rows = rows[[*curve, "optimizer.lr", "trial_id", "seed", "outcome", "value"]]
    rows = rows.sort_values([*curve, "optimizer.lr", "seed", "trial_id"], ignore_index=True)
    return _with_interval(rows, curve, confidence, possible(metric)) if several(usable["optimizer.lr"]) else _none(rows)


def accuracy_by_ratio(trials: DataFrame, metric: str) -> DataFrame:
    """Each completed trial at its lr / batch size.

    Returns:
        model.name, method, lr_batch_ratio (1/image), optimizer.lr, batch_size, trial_id, seed, value;
        empty if there are not two ratios.
    """
    rows = measured(trials, metric).assign(value=lambda frame: frame[metric])
    order = [*GROUP, "lr_batch_ratio", "optimizer.lr", "batch_size", "seed", "trial_id"]
    rows = rows[[*order, "value"]].sort_values(order, ignore_index=True)
    return rows if several(rows["lr_batch_ratio"]) else _none(rows)


def ratio_lines(trials: DataFrame, metric: str, claims: Sequence[Claim] = (), confidence: float = 0.95) -> DataFrame:
    """The least-squares line of the metric on log10(lr / batch size) for each model and method.

    It and its band are of these trials, as if each were a replicate; the ledger's answer stands beside it.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        metric: what is drawn.
        claims: the ledger of that metric.
        confidence: of the band, in (0, 1).

    Returns:
        model.name, method, lr_batch_ratio (1/image), fit, low, high (of `analysis.estimates.intervals.line`), n (trials); pearson
        and spearman of the metric with the ratio itself, each with _low and _high, of `analysis.estimates.correlations.correlations`;
        ratio_claim: the ledger's line on `ratio` in words, empty where there is none.
    """
    found = correlations(trials, metric, predictors=["lr_batch_ratio"], methods=_COEFFICIENTS, confidence=confidence)
    said = {(claim.network, claim.of): answer(claim, reason=False) for claim in claims if claim.name == "ratio"}
    parts = []
    for key, group in measured(trials, metric).groupby(list(GROUP)):
        if several(group["lr_batch_ratio"]):
            own = found[(found[list(GROUP)] == list(key)).all(axis=1)]
            scalars: dict[str, Any] = {"n": len(group), **_coefficients(own)}
            scalars["ratio_claim"] = said.get((str(key[0]), str(key[1])), "")
            parts.append(_named(_ratio_line(group, metric, confidence).assign(**scalars), key))
    return pd.concat(parts, ignore_index=True) if parts else DataFrame()


def grid(trials: DataFrame, x: str, y: str, metric: str) -> DataFrame:
    """The metric's surface over x and y for each model and method, other axes pooled.

    Returns:
        model.name, method, x, y, mean, sd, n (completed trials), diverged (trials); empty if x or y
        takes one value or if the planned points fill no more than half of the grid, as a random search does.
    """
    rows = _stacked(trials, x, y, metric)
    drawable = len(measured(trials, metric)) and _fills_a_grid(trials, x, y)
    return rows if drawable and several(rows[x]) and several(rows[y]) else _none(rows)


def deat_grid(trials: DataFrame, metric: str) -> DataFrame:
    """`grid` over k1 and k2 of DEAT's trials; one that is no axis stands as the text `fixed`.

    Returns:
        as `grid`; empty if neither takes two values or if the points fill no more than half of the grid.
    """
    own = trials[trials["optimizer.name"] == "deat"]
    names = ["optimizer.k1", "optimizer.k2"]
    own = own.assign(**{name: "fixed" for name in names if name not in own.columns})
    rows = _stacked(own, names[0], names[1], metric)
    drawable = rows["n"].sum() and _fills_a_grid(own, *names)
    return rows if drawable and any(several(rows[name]) for name in names) else _none(rows)


def _fills_a_grid(trials: DataFrame, x: str, y: str) -> bool:
    """Whether the planned points fill more than half of the grid that all panels of a figure share."""
    points = trials[[*GROUP, x, y]].dropna().drop_duplicates()
    panels = len(points[list(GROUP)].drop_duplicates())
    return len(points) > _GRID_SHARE * panels * points[x].nunique() * points[y].nunique()


def accuracy_by_epoch(trials: DataFrame, epochs: DataFrame, chosen_by: ChosenBy = BY_VAL_ROBUST) -> DataFrame:
    """Robust accuracy on train and test against the epoch, in each model's and method's best cell.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        epochs: as `analysis.frames.trials.load_epochs` gives them.
        chosen_by: the metric whose mean over seeds picks the cell.

    Returns:
        model.name, method, the axes of the cell, split (train or test), epoch, mean, low and
        high (least and most over seeds), n (seeds); empty if no cell can be chosen.
    """
    chosen = best_trials(trials, f"last_{chosen_by.metric}", mode=chosen_by.mode)
    rows = epochs[epochs["trial_id"].isin(chosen["trial_id"])]
    keys = [*GROUP, *(axis for axis in axes(trials) if axis not in GROUP)]
    long = pd.concat(
        [rows[[*keys, "epoch"]].assign(split=s, value=rows[f"{s}_robust"]) for s in ("train", "test")]
    ).dropna(subset=["value"])
    grouped = long.groupby([*keys, "split", "epoch"], dropna=False)["value"]
    return grouped.agg(mean="mean", low="min", high="max", n="count").reset_index()


def methods(
    trials: DataFrame,
    chosen_by: ChosenBy = BY_VAL_ROBUST,
    choosers: Collection[int] = (),
    claims: Sequence[Claim] = (),
) -> DataFrame:
    """Each method at its own best cell by validation, the most robust first.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        chosen_by: the metric whose mean over seeds picks the cell.
        choosers: as in `analysis.estimates.methods.comparison`.
        claims: the ledger, where there is one (`analysis.method_tables.as_judged`).

    Returns:
        of `analysis.estimates.methods.results_frame`; empty for fewer than 3 methods with a test accuracy.
    """
    if measured(trials, ROBUST).empty:
        return DataFrame()
    rows = results_frame(as_judged(comparison(trials, choosers=choosers, **chosen_by._asdict()), claims))
    return rows if len(rows) and rows["robust"].notna().sum() >= FEWEST_METHODS else _none(rows)


def _stacked(trials: DataFrame, x: str, y: str, metric: str) -> DataFrame:
    columns = [*GROUP, x, y, "mean", "sd", "n", "diverged"]
    found = surfaces(trials, x, y, metric)
    tables = [_named(surface.table(), key) for key, surface in found.items()]
    return pd.concat(tables, ignore_index=True)[columns] if tables else DataFrame(columns=columns)


def _with_interval(rows: DataFrame, curve: list[str], confidence: float, within: tuple[float, float]) -> DataFrame:
    """The mean of each learning rate and its t interval, with the seed variance pooled over a curve."""
    cells = rows.groupby([*curve, "optimizer.lr"])["value"].agg(["mean", "count", "var"]).reset_index()
    freedom = (cells["count"] - 1).clip(lower=0)
    squares = (cells["var"] * freedom).where(freedom > 0, 0.0)
    keys = [cells[column] for column in curve]
    pooled = freedom.groupby(keys).transform("sum").astype(np.float64)
    pooled = pooled.where(pooled > 0)
    error = np.sqrt(squares.groupby(keys).transform("sum") / pooled / cells["count"].where(cells["count"] > 0))
    half = stats.t.ppf((1 + confidence) / 2, pooled) * error
    ends = {"low": (cells["mean"] - half).clip(*within), "high": (cells["mean"] + half).clip(*within)}
    cells = cells.assign(**ends, n=cells["count"])
    cells["interval"] = np.where(cells["low"].notna(), "t, variance pooled over a curve", "")
    return rows.merge(
        cells[[*curve, "optimizer.lr", "mean", "low", "high", "n", "interval"]], on=[*curve, "optimizer.lr"]
    )


def _ratio_line(group: DataFrame, metric: str, confidence: float) -> DataFrame:
    x = np.log10(group["lr_batch_ratio"].to_numpy(dtype=np.float64))
    fitted = line(x, group[metric].to_numpy(dtype=np.float64), np.linspace(x.min(), x.max(), _LINE_POINTS), confidence)
    fitted = replace(fitted, low=fitted.low.clip(*possible(metric)), high=fitted.high.clip(*possible(metric)))
    return DataFrame({"lr_batch_ratio": 10**fitted.at, "fit": fitted.fit, "low": fitted.low, "high": fitted.high})


def _coefficients(found: DataFrame) -> dict[str, float]:
    """Each coefficient of a group's correlations with its bounds."""
    rows = [(str(row["coefficient"]), row) for row in found.to_dict("records")]
    ends = (("", "estimate"), ("_low", "low"), ("_high", "high"))
    return {f"{name}{end}": row[column] for name, row in rows for end, column in ends}


def _named(rows: DataFrame, key: Any) -> DataFrame:
    return rows.assign(**{column: str(name) for column, name in zip(GROUP, key, strict=True)})


def _none(rows: DataFrame) -> DataFrame:
    return rows.iloc[:0]
