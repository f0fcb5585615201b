"""Accuracy against lr / batch size: a marker a batch size, each method's line with its band; the ledger's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.claims.ledger import Claim
from analysis.estimates.correlations import correlations
from analysis.estimates.intervals import line
from analysis.estimates.ranges import possible
from analysis.frames.cells import GROUP, measured, several
from analysis.frames.names import interval_text, label, of_spread, scale, sentence
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import banded, crowded, in_order, legend, looks, marker, outer_labels, panels, titled
from analysis.plots.ticks import log_axis, side_by_side
from analysis.tables.claims import answer
from trainers.fields import plural

#: The ratio's logarithm, as a column.
_LOG = "log10_lr_batch_ratio"

#: Points at which a fitted line is written down.
_LINE_POINTS = 50

#: Columns of what the caption says of a line, with their symbols: the line is fitted on the logarithm, and so is r.
_COEFFICIENTS = {"pearson_log10": "r", "spearman": "ρ"}

_MARKERS = "osD^vP*X"


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
        `analysis.estimates.correlations.correlations`; pearson_log10, with the ratio's logarithm, likewise;
        ratio_claim: the ledger's line on `ratio` in words, empty where there is none.
    """
    with_log = trials.assign(**{_LOG: np.log10(trials["lr_batch_ratio"].astype(np.float64))})
    fits = correlations(with_log, metric, predictors=["lr_batch_ratio", _LOG], methods=("pearson", "spearman"))
    fits = fits[(fits["x"] != _LOG) | (fits["coefficient"] == "pearson")]
    said = {(claim.network, claim.of): answer(claim, reason=False) for claim in claims if claim.name == "ratio"}
    parts = []
    for (model, method), group in measured(trials, metric).groupby(list(GROUP)):
        if several(group["lr_batch_ratio"]):
            own = fits[(fits["model.name"] == model) & (fits["method"] == method)]
            known = {
                f"{row['coefficient']}{'_log10' * (row['x'] == _LOG)}{end}": row[column]
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


def accuracy_ratio(rows: DataFrame, lines: DataFrame, metric: str, page: Page = PAGE) -> Figure:
    """Draws rows of `accuracy_by_ratio` with `ratio_lines`, a panel a network; the metric is theirs, for the label."""
    batches, styles = sorted(rows["batch_size"].unique()), looks(rows["method"])
    shapes = {batch: _MARKERS[place % len(_MARKERS)] for place, batch in enumerate(batches)}
    size = (4.2, 3.4) if crowded(rows["method"]) else (5.2, 4.0)
    figure, grid, places = panels(rows, [], ["model.name"], *size, page)
    for axes, part in places:
        titled(axes, rows, part)
        part = part.assign(_at=_beside(part))
        for (name, batch), points in part.groupby(["method", "batch_size"], sort=True):
            style: dict[str, Any] = {
                "color": styles[str(name)].colour,
                "alpha": 0.6,
                "markersize": 4,
                "markeredgewidth": 0,
            }
            axes.plot(points["_at"], scale(metric) * points["value"], shapes[batch], **style)
        own = lines[(lines["model.name"] == part["model.name"].iloc[0]) & lines["method"].isin(part["method"])]
        for name, fit in own.groupby("method", sort=True):
            names = ("fit", "low", "high")
            colour = styles[str(name)].colour
            banded(axes, fit, "lr_batch_ratio", colour, names=names, factor=scale(metric), lw=1.5)
        log_axis(axes.xaxis, rows["lr_batch_ratio"], page, digits=2)
    outer_labels(grid, label("lr_batch_ratio"), label(metric))
    shown = dict.fromkeys(styles[name] for name in in_order(rows["method"]))
    handles = [Line2D([], [], color=look.colour, label=look.name) for look in shown]
    few = shapes if len(batches) <= len(_MARKERS) else {}
    legend(figure, [*handles, *(marker(shape, "0.35", f"batch {batch}") for batch, shape in few.items())], page)
    return figure


def _beside(part: DataFrame) -> NDArray[np.float64]:
    """Where the marks of a panel are drawn: by method, then batch size, then seed."""
    order = in_order(part["method"])
    ranks = part["method"].map(order.index).to_numpy(dtype=np.float64)
    batches = part["batch_size"].to_numpy(dtype=np.float64)
    return side_by_side(part, "lr_batch_ratio", [np.arange(len(part), dtype=np.float64), batches, ranks])


#: Of more lines the numbers stand in the CSV alone.
_MOST_SAID = 6


def caption(rows: DataFrame, lines: DataFrame, metric: str) -> str:
    """What is drawn, and of each line what it says."""
    said = f"{sentence(metric)}, against learning rate / batch size, of {plural(len(rows), 'trial')}; a mark a trial, "
    said += "those of one ratio beside each other."
    if lines.empty:
        return said
    band = of_spread("its 95 % band", lines["low"].notna(), "no band of fewer than three trials")
    said += f" Line: least squares on the ratio's logarithm; {band}."
    fits = [part.iloc[0] for _, part in lines.groupby(list(GROUP), sort=False)]
    if len(fits) > _MOST_SAID:
        return f"{said} Each line's numbers stand in accuracy_ratio_lines.csv."
    said += (
        " r is Pearson's correlation with that logarithm, ρ Spearman's rank correlation, each with its 95 % interval: "
    )
    said += "they describe these trials and test nothing."
    said += " Behind them stands the answer over seeds, of `sweep claims`." * bool(lines["ratio_claim"].any())
    several_networks = several(rows["model.name"])
    for fit in sorted(fits, key=lambda fit: in_order(rows["method"]).index(fit["method"])):
        known = [(symbol, *fit[[r, f"{r}_low", f"{r}_high"]]) for r, symbol in _COEFFICIENTS.items()]
        numbers = [f"{s}: none" if np.isnan(r) else f"{s} = {interval_text(r, low, high)}" for s, r, low, high in known]
        whose = f"{fit['model.name']}, {fit['method']}" if several_networks else fit["method"]
        answer = f"; {fit['ratio_claim']}" if fit["ratio_claim"] else ""
        said += f" {whose} (n = {plural(int(fit['n']), 'trial')}): {', '.join(numbers)}{answer}."
    return said


def _frames(data: Data) -> dict[str, DataFrame]:
    return {
        "accuracy_ratio": accuracy_by_ratio(data.trials, data.metric),
        "accuracy_ratio_lines": ratio_lines(data.trials, data.metric, data.claims),
    }


PLAN = Plan(
    "accuracy_ratio",
    _frames,
    "needs completed trials at two values of lr / batch size",
    caption,
    accuracy_ratio,
)
