"""Accuracy against learning rate / batch size: its numbers and its picture."""

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
from analysis.frames.names import bounds, label, scale
from analysis.plots.style import (
    LEGEND_WIDTH,
    Look,
    crowded,
    grid_of_panels,
    legend_below,
    log_ticks,
    looks,
    marker_handle,
    no_rows,
    outer_labels,
    panel_name,
    title,
    with_group,
)
from analysis.tables.claims import answer
from trainers.fields import plural

#: Points at which a fitted line is written down.
_LINE_POINTS = 50

#: Of the metric with lr / batch size, written beside its line.
_COEFFICIENTS: tuple[Method, ...] = ("pearson", "spearman")


def accuracy_by_ratio(trials: DataFrame, metric: str) -> DataFrame:
    """Each completed trial at its lr / batch size.

    Returns:
        model.name, method, lr_batch_ratio (1/image), optimizer.lr, batch_size, trial_id, seed, value;
        empty if there are not two ratios.
    """
    rows = measured(trials, metric).assign(value=lambda frame: frame[metric])
    order = [*GROUP, "lr_batch_ratio", "optimizer.lr", "batch_size", "seed", "trial_id"]
    rows = rows[[*order, "value"]].sort_values(order, ignore_index=True)
    return rows if several(rows["lr_batch_ratio"]) else no_rows(rows)


def ratio_lines(trials: DataFrame, metric: str, claims: Sequence[Claim] = (), confidence: float = 0.95) -> DataFrame:
    """The least-squares line of the metric on log10(lr / batch size) for each model and method.

    It and its band are of these trials, as if each were a replicate; the ledger's answer stands beside it.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        metric: what is drawn.
        claims: the ledger of that metric.
        confidence: of the band, in (0, 1).

    Returns:
        model.name, method, lr_batch_ratio (1/image), fit, low, high (of `analysis.estimates.intervals.line`), n
        (trials); pearson and spearman of the metric with the ratio itself, each with _low and _high, of
        `analysis.estimates.correlations.correlations`;
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
            parts.append(with_group(_ratio_line(group, metric, confidence).assign(**scalars), key))
    return pd.concat(parts, ignore_index=True) if parts else DataFrame()


def _ratio_line(group: DataFrame, metric: str, confidence: float) -> DataFrame:
    x = np.log10(group["lr_batch_ratio"].to_numpy(dtype=np.float64))
    at = np.linspace(x.min(), x.max(), _LINE_POINTS)
    fit, *band = line(x, group[metric].to_numpy(dtype=np.float64), at, confidence)
    low, high = (ends.clip(*possible(metric)) for ends in band)
    return DataFrame({"lr_batch_ratio": 10**at, "fit": fit, "low": low, "high": high})


def _coefficients(found: DataFrame) -> dict[str, float]:
    """Each coefficient of a group's correlations with its bounds."""
    rows = [(str(row["coefficient"]), row) for row in found.to_dict("records")]
    ends = (("", "estimate"), ("_low", "low"), ("_high", "high"))
    return {f"{name}{end}": row[column] for name, row in rows for end, column in ends}


_MARKERS = "osD^vP*X"


def accuracy_ratio(rows: DataFrame, lines: DataFrame, metric: str) -> Figure:
    """Accuracy against lr / batch size, a marker a batch size, with each method's line and its band.

    Args:
        rows: of `analysis.plots.accuracy_ratio.accuracy_by_ratio`.
        lines: of `analysis.plots.accuracy_ratio.ratio_lines`.
        metric: their metric, for the label.
    """
    batches, styles = sorted(rows["batch_size"].unique()), looks(rows["method"])
    size = {"width": 4.2, "height": 3.4} if crowded(rows["method"]) else {"width": 5.2, "height": 4.0}
    figure, grid, panels = grid_of_panels(rows, [], ["model.name"], **size)
    for axes, part in panels:
        title(axes, panel_name(rows, part), part)
        for (name, batch), points in part.groupby(["method", "batch_size"], sort=True):
            marker = _MARKERS[batches.index(batch) % len(_MARKERS)]
            style: dict[str, Any] = {
                "color": styles[str(name)].colour,
                "alpha": 0.6,
                "markersize": 4.5,
                "markeredgewidth": 0,
            }
            axes.plot(points["lr_batch_ratio"], scale(metric) * points["value"], marker, **style)
        own = (lines["model.name"] == part["model.name"].iloc[0]) & lines["method"].isin(part["method"])
        _ratio_fits(axes, lines[own], styles, scale(metric))
        log_ticks(axes, rows["lr_batch_ratio"], digits=2)
    low, high = grid[0, 0].get_ylim()
    most = max(part["method"].nunique() for _, part in panels)
    grid[0, 0].set_ylim(low, high + 0.12 * most * (high - low))  # the panels share it: room for their legends
    outer_labels(grid, label("lr_batch_ratio"), label(metric))
    note = (
        "line: least squares on the logarithm, 95 % band; r, ρ: Pearson, Spearman with the ratio,\n95 % interval: "
        "they describe these trials, and are no tests over seeds;\nratio: as `sweep claims` answers; p (Holm): over "
        "all of its lines together, which decides"
    )
    few = batches if len(batches) <= len(_MARKERS) else []
    if lines["low"].isna().all():
        note = note.replace(", 95 % band", ", no band of fewer than three trials")
    legend_below(figure, [marker_handle(_MARKERS[i], "0.35", f"batch {batch}") for i, batch in enumerate(few)], note)
    return figure


def _ratio_fits(axes: Axes, lines: DataFrame, styles: dict[str, Look], factor: float) -> None:
    for name, part in lines.groupby("method", sort=True):
        first, (colour, _, shown) = part.iloc[0], styles[str(name)]
        x = part["lr_batch_ratio"]
        texts = [
            f"{symbol} n/a"
            if np.isnan(first[r])
            else f"{symbol} = {first[r]:.2f} {bounds(first[r + '_low'], first[r + '_high'])}"
            for symbol, r in (("r", "pearson"), ("ρ", "spearman"))
        ]
        said = textwrap.fill(first["ratio_claim"] and f"ratio: {first['ratio_claim']}", LEGEND_WIDTH)
        text = "\n".join(filter(None, [f"{shown} (n = {plural(first['n'], 'trial')}): {', '.join(texts)}", said]))
        axes.plot(x, factor * part["fit"], color=colour, lw=1.5, label=text)
        axes.fill_between(x, factor * part["low"], factor * part["high"], color=colour, alpha=0.18, lw=0)
    if len(lines):
        axes.legend(loc="upper left", fontsize=7.5)
