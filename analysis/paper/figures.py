"""The paper's Figures 2, 4 and 5 in any study, and in two beside each other: their numbers and how they look.

[DEAT] Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023 (arXiv 2306.02618).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter
from pandas import DataFrame, Series

from analysis.frames.cells import best_cells, several
from analysis.frames.names import brief, interval_text, label, scale, short
from analysis.paper.parts import CONTROL, TREATMENT, Part, joined, parts, spoken, studies
from analysis.paper.tables import BOTH, CHOICE, shifts
from analysis.plots import accuracy_epoch, accuracy_lr
from analysis.plots.plan import OWN, PUBLISHED, Data, Plan
from analysis.plots.style import banded, dash, diverged_handles, legend, looks, means_by_lr, splits

#: Panels side by side before the next row of them.
_ACROSS = 3

_WIDTH, _HEIGHT = 3.5, 2.9

#: Hollow markers on a curve of epochs.
_MARKS = 12

#: Okabe and Ito's green: clean accuracy; blue, PGD-AT's own colour, is its robust accuracy.
_CLEAN = "#009E73"

_LOG_TICKS = [factor * 10.0**power for power in range(-5, 2) for factor in (1, 2, 5)]

_OTHER_DATA = "accuracies on different data sets are not to be compared"


class ByEpoch(NamedTuple):
    """A figure of curves by epoch: whose curves it has, and of which accuracies."""

    methods: Sequence[str]
    metrics: Sequence[tuple[str, str]]
    """Split and accuracy of each."""


#: Clean and robust test accuracy of PGD-AT [DEAT, Figure 2]; robust accuracy on train and test of both [Figure 5].
FIGURE2 = ByEpoch([CONTROL], [("test", "clean"), ("test", "robust")])
FIGURE5 = ByEpoch([CONTROL, TREATMENT], [("train", "robust"), ("test", "robust")])


def figure4(data: Data) -> DataFrame:
    """Robust test accuracy against the learning rate, PGD-AT and DEAT [DEAT, Figure 4].

    Returns:
        `KEYS`, method, optimizer.lr, trial_id, seed, outcome, value, mean, low, high, n of
        `analysis.plots.accuracy_lr.accuracy_by_lr`, left_out; empty without a part that has two learning rates.
    """
    rows = [part.named(accuracy_lr.accuracy_by_lr(part.trials, data.metric)) for part in parts(data)]
    return joined([part for part in rows if len(part)])


def curves(data: Data, figure: ByEpoch) -> DataFrame:
    """Accuracies against the epoch, of each network and batch size at one learning rate [DEAT, Figures 2 and 5].

    The published learning rates are the paper's; of a run's own, that of PGD-AT's best cell by validation.

    Args:
        data: with the other study, if one stands beside it.
        figure: `FIGURE2` or `FIGURE5`.

    Returns:
        `KEYS`, chosen (by what), method, optimizer.lr, split, accuracy (clean or robust), epoch, mean, low and
        high (least and most over seeds), n (seeds), left_out; empty if nothing can be chosen or was measured.
    """
    keys = ["method", "optimizer.lr"]
    by_epoch = functools.partial(accuracy_epoch.by_epoch, keys=keys, metrics=figure.metrics)
    return joined([part.named(by_epoch(rows).assign(chosen=why)) for part, rows, why in _epochs_shown(data, figure)])


def _epochs_shown(data: Data, figure: ByEpoch) -> Iterator[tuple[Part, DataFrame, str]]:
    """Each part with the epochs that are shown of it, and by what its learning rate was chosen."""
    epochs = {study.study: study.epochs for study in studies(data)}
    needed = [f"{split}_{accuracy}" for split, accuracy in figure.metrics]
    for part in parts(data, figure.methods):
        rows = epochs[part.study]
        rows = rows[rows["trial_id"].isin(part.trials["trial_id"]) & rows[needed].notna().all(axis=1)]
        chosen, why = _chosen(part, rows, data) if len(rows) else (rows, "")
        if set(figure.methods) <= set(chosen["method"]):
            yield part, chosen, why


def _chosen(part: Part, rows: DataFrame, data: Data) -> tuple[DataFrame, str]:
    """The epochs to show: published curves as they are, own ones at the learning rate that is best for PGD-AT."""
    if part.study != OWN:
        length = rows.groupby("trial_id")["epoch"].transform("size")
        return rows[length > 1], "as published"
    control = part.trials[part.trials["method"] == CONTROL]
    best = best_cells(control, f"last_{data.chosen_by.metric}", mode=data.chosen_by.mode)
    completed = part.trials.loc[part.trials["outcome"] == "completed", "trial_id"]
    at_it = rows["optimizer.lr"].isin(best["optimizer.lr"]) & rows["trial_id"].isin(completed)
    return rows[at_it], f"{CONTROL}'s best by {data.chosen_by.metric}"


def draw_figure4(rows: DataFrame, shifts: DataFrame, metric: str) -> Figure:
    """Draws rows of `figure4` with the shifts of the curves, a panel a network and batch size.

    Args:
        rows: of `figure4`.
        shifts: of `analysis.paper.tables.shifts`, one row a study, network and batch size.
        metric: theirs, for the label.
    """
    figure, panels = _panels(rows)
    hollow, styles, any_shift, factor = _hollow(rows), looks([CONTROL, TREATMENT]), False, scale(metric)
    for axes, part in panels:
        pairs = part[["data_set", "study"]].drop_duplicates()
        whose = ", ".join(f"{data_set} ({study})" for data_set, study in pairs.itertuples(index=False))
        axes.set_title(f"{_name(part)}\n{whose}", fontsize=9)
        for (study, method), curve in part.groupby(["study", "method"], sort=True):
            colour = styles[str(method)].colour
            style: dict[str, Any] = {"ls": "--", "mfc": "white", "lw": 1.0} if study in hollow else {"lw": 1.4}
            means_by_lr(axes, curve, colour, factor, marker="o", markersize=3.4, **style)
        _log_axis(axes, part["optimizer.lr"])
        texts = list(_shift_texts(part, shifts))
        axes.text(0.97, 0.04, "\n".join(texts), transform=axes.transAxes, ha="right", fontsize=8)
        any_shift |= bool(texts)
    _axis_labels(figure, label("optimizer.lr"), label(metric))
    own = rows[rows["study"] != PUBLISHED]
    notes = [f"own: mean over seeds; {accuracy_lr.band(own)}"] if len(own) else []
    notes += ["published: means of 3 runs"] if len(own) < len(rows) else []
    notes += ["c: DEAT(lr) = PGD-AT(c lr), 95 % interval"] if any_shift else []
    _legend(figure, rows, [*_methods(), *_studies(rows, marker="o"), *diverged_handles(rows)], notes)
    return figure


def draw_figure2(rows: DataFrame, metric: str) -> Figure:
    """Draws rows of `curves`: clean and robust test accuracy of PGD-AT; a curve shows its own metric, none is read."""
    colours = {"clean": _CLEAN, "robust": looks([CONTROL])[CONTROL].colour}
    handles = [Line2D([], [], color=colour, label=f"{name}, test ({CONTROL})") for name, colour in colours.items()]
    return _by_epoch(rows, "accuracy", colours, handles, "test accuracy (%)")


def draw_figure5(rows: DataFrame, metric: str) -> Figure:
    """Draws rows of `curves`: robust accuracy on train (dashed) and test of both methods; no metric is read."""
    colours = {name: look.colour for name, look in looks([CONTROL, TREATMENT]).items()}
    return _by_epoch(rows, "method", colours, [*_methods(), *splits()], "robust accuracy (%)")


def _by_epoch(rows: DataFrame, told_by: str, colours: dict[str, str], handles: list[Line2D], y: str) -> Figure:
    """The figure of curves by epoch: a colour for each value of the column `told_by`."""
    figure, panels = _panels(rows)
    hollow = _hollow(rows)
    for axes, part in panels:
        axes.set_title(f"{_name(part)}\n" + "\n".join(_rates_chosen(part)), fontsize=9)
        for name, colour in colours.items():
            known = part[part[told_by] == name]
            for (study, split), curve in known.groupby(["study", "split"], sort=True):
                _epochs(axes, curve, colour, dash(str(split)), hollow=str(study) in hollow)
        axes.locator_params(axis="x", integer=True)
    own = rows[rows["study"] != PUBLISHED]
    _legend(figure, rows, [*handles, *_studies(rows)], [accuracy_epoch.band(own)] if len(own) else [])
    _axis_labels(figure, label("epoch"), y)
    return figure


def _epochs(axes: Axes, curve: DataFrame, colour: str, ls: str, *, hollow: bool) -> None:
    style: dict[str, Any] = {"marker": "o", "markersize": 4} if len(curve) == 1 else {}
    if hollow:
        style = {"marker": "o", "mfc": "white", "markersize": 3.4, "markevery": max(1, len(curve) // _MARKS)}
    banded(axes, curve, "epoch", colour, factor=100, ls=ls, lw=0.9 if hollow else 1.4, **style)


def _panels(rows: DataFrame) -> tuple[Figure, list[tuple[Axes, DataFrame]]]:
    """The figure, and each panel with its rows: one a network and batch size, in the order of the rows."""
    groups = [part for _, part in rows.groupby(["model.name", "batch_size"], sort=False)]
    across = min(len(groups), _ACROSS)
    down = -(-len(groups) // across)
    size = (max(across * _WIDTH, 5.6) + 0.3, down * _HEIGHT + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[len(groups) :]:
        axes.remove()
    return figure, list(zip(grid, groups, strict=False))


def _hollow(rows: DataFrame) -> set[str]:
    """The studies drawn dashed or with hollow markers: the published one, where an own one stands beside it."""
    return {PUBLISHED} if several(rows["study"]) else set()


def _name(part: DataFrame) -> str:
    return f"{spoken(str(part['model.name'].iloc[0]))}, batch {part['batch_size'].iloc[0]}"


def _rates_chosen(part: DataFrame) -> Iterator[str]:
    """Of each study: its data, its learning rate, and what that was chosen by."""
    for (study, data_set), rows in part.groupby(["study", "data_set"], sort=True):
        rates = ", ".join(brief(sorted(rows["optimizer.lr"].unique())))
        chosen = "" if study == PUBLISHED else f",\nlr is {rows['chosen'].iloc[0]}"
        yield f"{data_set} ({study}), lr {rates}{chosen}"


def _shift_texts(part: DataFrame, shifts: DataFrame) -> Iterator[str]:
    """`c = 2.17 [1.68, 3.62]`, of each study that has one, and from which learning rate."""
    first = part.iloc[0]
    here = (shifts["model.name"] == first["model.name"]) & (shifts["batch_size"] == first["batch_size"])
    for row in shifts[here & shifts["c"].notna()].to_dict("records"):
        whose = f"{row['study']}: " if several(part["study"]) else ""
        rates = f", lr ≥ {short(row['lr_from'])}" if row["lr_from"] else ""
        yield f"{whose}c = {interval_text(row['c'], row['low'], row['high'])}{rates}"


def _log_axis(axes: Axes, rates: Any) -> None:
    axes.set_xscale("log")
    ticks = [tick for tick in _LOG_TICKS if 0.99 * min(rates) <= tick <= 1.01 * max(rates)]
    if len(ticks) > 1:
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())


def _axis_labels(figure: Figure, x: str, y: str) -> None:
    """On the outer panels: the lowest of each column, the first of each row."""
    columns: dict[int, Axes] = {}
    for axes in figure.axes:
        place = axes.get_subplotspec()
        assert place is not None, "made by subplots"
        columns[place.colspan.start] = axes
        if place.is_first_col():
            axes.set_ylabel(y)
    for axes in columns.values():
        axes.set_xlabel(x)


def _methods() -> list[Line2D]:
    return [Line2D([], [], color=look.colour, label=name) for name, look in looks([CONTROL, TREATMENT]).items()]


def _studies(rows: DataFrame, marker: str = "") -> list[Line2D]:
    """What tells own curves from published ones, where there are both."""
    if not _hollow(rows):
        return []
    style: dict[str, Any] = {"color": "0.35", "marker": "o", "mfc": "white", "markersize": 4, "lw": 0.9}
    published = Line2D([], [], ls="--" if marker else "-", label="published", **style)
    return [Line2D([], [], color="0.35", marker=marker, markersize=4, label="own"), published]


def _legend(figure: Figure, rows: DataFrame, handles: list[Line2D], notes: Sequence[str]) -> None:
    notes = [*notes, *([_OTHER_DATA] if several(rows["data_set"]) else [])]
    legend(figure, handles, "\n".join(notes), centred=True)


def _figure4(data: Data) -> dict[str, DataFrame]:
    rows = figure4(data)
    return {"figure4": rows, "figure4_shift": shifts(data, shown=True) if len(rows) else rows}


def _trials(data: Data, figure: ByEpoch) -> Series[Any]:
    return joined([rows for _, rows, _ in _epochs_shown(data, figure)])["trial_id"]


PLANS: tuple[Plan, ...] = (
    Plan(
        "figure2",
        functools.partial(curves, figure=FIGURE2),
        f"needs completed trials of PGD-AT with test_clean and test_robust by epoch, and {CHOICE}",
        draw_figure2,
        trials=functools.partial(_trials, figure=FIGURE2),
    ),
    Plan("figure4", _figure4, f"needs {BOTH} at two learning rates", draw_figure4),
    Plan(
        "figure5",
        functools.partial(curves, figure=FIGURE5),
        f"needs {BOTH} with train_robust and test_robust by epoch, both at PGD-AT's best learning rate, and {CHOICE}",
        draw_figure5,
        trials=functools.partial(_trials, figure=FIGURE5),
    ),
)
