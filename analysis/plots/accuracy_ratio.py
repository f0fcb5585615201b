"""Accuracy against lr / batch size: a marker a batch size, each method's line with its band, the ledger's answer."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from analysis.claims.ledger import Claim
from analysis.estimates.correlations import Method, correlations
from analysis.estimates.intervals import line
from analysis.estimates.ranges import possible
from analysis.frames.cells import GROUP, measured, several
from analysis.frames.names import interval_text, label, scale
from analysis.plots.plan import Data, Plan
from analysis.plots.style import Look, banded, crowded, legend, log_ticks, looks, marker, outer_labels, panels, titled
from analysis.tables.claims import answer
from trainers.fields import plural

#: Points at which a fitted line is written down.
_LINE_POINTS = 50

#: Of the metric with lr / batch size, written beside its line, with their symbols.
_COEFFICIENTS: dict[Method, str] = {"pearson": "r", "spearman": "ρ"}

_MARKERS = "osD^vP*X"

#: Characters of a line in a panel's legend.
_LEGEND_WIDTH = 80

_NOTE = (
    "line: least squares on the logarithm, 95 % band; r, ρ: Pearson, Spearman with the ratio,\n95 % interval: "
    "they describe these trials, and are no tests over seeds;\nratio: as `sweep claims` answers; p (Holm): over "
    "all of its lines together, which decides"
)


def accuracy_by_ratio(trials: DataFrame, metric: str) -> DataFrame:
    """Each completed trial at its lr / batch size.

    Returns:
        model.name, method, lr_batch_ratio (1/image), optimizer.lr, batch_size, trial_id, seed, value;
        empty if there are not two ratios.
    """
    rows = measured(trials, metric).assign(value=lambda frame: frame[metric])
    order = [*GROUP, "lr_batch_ratio", "optimizer.lr", "batch_size", "seed", "trial_id"]
    rows = rows[[*order, "value"]].sort_values(order, ignore_index=True)
    return rows if several(rows["lr_batch_ratio"]) else rows.iloc[:0]


def ratio_lines(trials: DataFrame, metric: str, claims: Sequence[Claim] = ()) -> DataFrame:
    """The least-squares line of the metric on log10(lr / batch size) for each model and method.

    It and its band are of these trials, as if each were a replicate; the ledger's answer stands beside it.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        metric: what is drawn.
        claims: the ledger of that metric.

    Returns:
        model.name, method, lr_batch_ratio (1/image), fit, low, high (of `analysis.estimates.intervals.line`), n
        (trials); pearson and spearman of the metric with the ratio itself, each with _low and _high, of
        `analysis.estimates.correlations.correlations`; ratio_claim: the ledger's line on `ratio` in words, empty where
        there is none.
    """
    names = tuple(_COEFFICIENTS)
    fits = correlations(trials, metric, predictors=["lr_batch_ratio"], methods=names)
    said = {(claim.network, claim.of): answer(claim, reason=False) for claim in claims if claim.name == "ratio"}
    parts = []
    for (model, method), group in measured(trials, metric).groupby(list(GROUP)):
        if several(group["lr_batch_ratio"]):
            own = fits[(fits["model.name"] == model) & (fits["method"] == method)]
            known = {
                f"{row['coefficient']}{end}": row[column]
                for row in own.to_dict("records")
                for end, column in (("", "estimate"), ("_low", "low"), ("_high", "high"))
            }
            key, claim = (str(model), str(method)), said.get((str(model), str(method)), "")
            scalars = {"n": len(group), **known, "ratio_claim": claim, **dict(zip(GROUP, key, strict=True))}
            parts.append(_line(group, metric).assign(**scalars))
    no_lines = DataFrame(
        columns=[*GROUP, "lr_batch_ratio", "fit", "low", "high"]
    )  # each method at one ratio of its own
    return pd.concat(parts, ignore_index=True) if parts else no_lines


def _line(group: DataFrame, metric: str) -> DataFrame:
    x = np.log10(group["lr_batch_ratio"].to_numpy(dtype=np.float64))
    at = np.linspace(x.min(), x.max(), _LINE_POINTS)
    fit, *band = line(x, group[metric].to_numpy(dtype=np.float64), at)
    low, high = (ends.clip(*possible(metric)) for ends in band)
    return DataFrame({"lr_batch_ratio": 10**at, "fit": fit, "low": low, "high": high})


def accuracy_ratio(rows: DataFrame, lines: DataFrame, metric: str) -> Figure:
    """Draws rows of `accuracy_by_ratio` with `ratio_lines`, a panel a network; the metric is theirs, for the label."""
    batches, styles = sorted(rows["batch_size"].unique()), looks(rows["method"])
    shapes = {batch: _MARKERS[place % len(_MARKERS)] for place, batch in enumerate(batches)}
    size = {"width": 4.2, "height": 3.4} if crowded(rows["method"]) else {"width": 5.2, "height": 4.0}
    figure, grid, places = panels(rows, [], ["model.name"], **size)
    for axes, part in places:
        titled(axes, rows, part)
        for (name, batch), points in part.groupby(["method", "batch_size"], sort=True):
            style: dict[str, Any] = {
                "color": styles[str(name)].colour,
                "alpha": 0.6,
                "markersize": 4.5,
                "markeredgewidth": 0,
            }
            axes.plot(points["lr_batch_ratio"], scale(metric) * points["value"], shapes[batch], **style)
        own = (lines["model.name"] == part["model.name"].iloc[0]) & lines["method"].isin(part["method"])
        _fits(axes, lines[own], styles, scale(metric))
        log_ticks(axes, rows["lr_batch_ratio"], digits=2)
    low, high = grid[0, 0].get_ylim()
    most = max(part["method"].nunique() for _, part in places)
    grid[0, 0].set_ylim(low, high + 0.12 * most * (high - low))  # the panels share it: room for their legends
    outer_labels(grid, label("lr_batch_ratio"), label(metric))
    lacking = lines["low"].isna().all()
    note = _NOTE.replace(", 95 % band", ", no band of fewer than three trials") if lacking else _NOTE
    few = shapes if len(batches) <= len(_MARKERS) else {}
    legend(figure, [marker(shape, "0.35", f"batch {batch}") for batch, shape in few.items()], note)
    return figure


def _fits(axes: Axes, lines: DataFrame, styles: dict[str, Look], factor: float) -> None:
    """Each method's line, its numbers in the panel's legend."""
    for name, part in lines.groupby("method", sort=True):
        first, (colour, _, shown) = part.iloc[0], styles[str(name)]
        known = [(symbol, *first[[r, f"{r}_low", f"{r}_high"]]) for r, symbol in _COEFFICIENTS.items()]
        texts = [f"{s} n/a" if np.isnan(r) else f"{s} = {interval_text(r, low, high)}" for s, r, low, high in known]
        said = textwrap.fill(first["ratio_claim"] and f"ratio: {first['ratio_claim']}", _LEGEND_WIDTH)
        text = "\n".join(filter(None, [f"{shown} (n = {plural(first['n'], 'trial')}): {', '.join(texts)}", said]))
        names = ("fit", "low", "high")
        banded(axes, part, "lr_batch_ratio", colour, names=names, factor=factor, lw=1.5, label=text)
    if len(lines):
        axes.legend(loc="upper left", fontsize=7.5)


def _frames(data: Data) -> dict[str, DataFrame]:
    return {
        "accuracy_ratio": accuracy_by_ratio(data.trials, data.metric),
        "accuracy_ratio_lines": ratio_lines(data.trials, data.metric, data.claims),
    }


PLAN = Plan("accuracy_ratio", _frames, "needs completed trials at two values of lr / batch size", accuracy_ratio)
