"""How the paper's figures look: a frame of `analysis.paper.parts` -> a matplotlib Figure. Percent in pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter
from pandas import DataFrame

from analysis.frames.cells import best_cells, several
from analysis.frames.names import bounds, brief, label, of_spread, scale, short
from analysis.paper import tables
from analysis.paper.parts import CONTROL, FIGURE2, FIGURE5, TREATMENT, Part, joined, parts, spoken, studies
from analysis.plots import accuracy_lr
from analysis.plots.plan import OWN, PUBLISHED, Data, Plan
from analysis.plots.style import looks

#: Panels side by side before the next row of them.
_ACROSS = 3

_WIDTH, _HEIGHT = 3.5, 2.9

#: Hollow markers on a curve of epochs.
_MARKS = 12

#: Okabe and Ito's green: clean accuracy; blue, PGD-AT's own colour, is its robust accuracy.
_CLEAN = "#009E73"

_LOG_TICKS = [factor * 10.0**power for power in range(-5, 2) for factor in (1, 2, 5)]

_OTHER_DATA = "accuracies on different data sets are not to be compared"

BOTH = "completed trials of PGD-AT and DEAT of one network and batch size"

CHOICE = "the sweep's metric of validation, to choose PGD-AT's learning rate without looking at the test set"


def _figure4(data: Data) -> dict[str, DataFrame]:
    rows = figure4(data)
    return {"figure4": rows, "figure4_shift": tables.shifts(data, shown=True) if len(rows) else rows}


def _single(name: str, function: Callable[[Data], DataFrame]) -> Callable[[Data], dict[str, DataFrame]]:
    return lambda data: {name: function(data)}


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


def _band(rows: DataFrame) -> list[str]:
    own = rows[rows["study"] != PUBLISHED]
    return [of_spread("band: least to most over seeds", own["n"] > 1, "no band of one seed")] if len(own) else []


def _epochs(axes: Axes, curve: DataFrame, colour: str, *, train: bool, hollow: bool) -> None:
    every = max(1, len(curve) // _MARKS)
    marks: dict[str, Any] = {"marker": "o", "mfc": "white", "markersize": 3.4, "markevery": every} if hollow else {}
    marks = {"marker": "o", "markersize": 4} if len(curve) == 1 and not marks else marks
    width = 0.9 if hollow else 1.4
    axes.plot(curve["epoch"], 100 * curve["mean"], "--" if train else "-", color=colour, lw=width, **marks)
    axes.fill_between(curve["epoch"], 100 * curve["low"], 100 * curve["high"], color=colour, alpha=0.18, lw=0)


def _hollow(rows: DataFrame) -> set[str]:
    """The studies drawn dashed or with hollow markers: the published one, where an own one stands beside it."""
    return {PUBLISHED} if several(rows["study"]) else set()


def _name(part: DataFrame) -> str:
    return f"{spoken(str(part['model.name'].iloc[0]))}, batch {part['batch_size'].iloc[0]}"


def _panels(rows: DataFrame) -> tuple[Figure, list[tuple[Axes, DataFrame]]]:
    """The figure, and each panel with its rows: one a network and batch size, in the order of the rows."""
    parts = [part for _, part in rows.groupby(["model.name", "batch_size"], sort=False)]
    across = min(len(parts), _ACROSS)
    down = -(-len(parts) // across)
    size = (max(across * _WIDTH, 5.6) + 0.3, down * _HEIGHT + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[len(parts) :]:
        axes.remove()
    return figure, list(zip(grid, parts, strict=False))


def _rates_chosen(part: DataFrame) -> Iterator[str]:
    """Of each study: its data, its learning rate, and what that was chosen by."""
    for (study, data_set), rows in part.groupby(["study", "data_set"], sort=True):
        rates = ", ".join(brief(sorted(rows["optimizer.lr"].unique())))
        chosen = "" if study == PUBLISHED else f",\nlr is {rows['chosen'].iloc[0]}"
        yield f"{data_set} ({study}), lr {rates}{chosen}"


def _draw_by_epoch(rows: DataFrame, curves: Sequence[tuple[str, str, dict[str, str]]]) -> Figure:
    """The panels of curves by epoch, each curve a colour and the columns that choose it."""
    figure, panels = _panels(rows)
    hollow = _hollow(rows)
    for axes, part in panels:
        axes.set_title(f"{_name(part)}\n" + "\n".join(_rates_chosen(part)), fontsize=9)
        for _, colour, chosen in curves:
            known = part[np.logical_and.reduce([part[key] == value for key, value in chosen.items()])]
            for (study, split), curve in known.groupby(["study", "split"], sort=True):
                _epochs(axes, curve, colour, train=split == "train", hollow=str(study) in hollow)
        axes.locator_params(axis="x", integer=True)
    return figure


def _legend(figure: Figure, handles: list[Line2D], notes: Sequence[str]) -> None:
    """One legend under all panels, with the notes, a line each, as its title."""
    columns, title = max(1, min(len(handles), 6)), "\n".join(notes)
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title or None, fontsize=8)
    legend.get_title().set_fontsize(7.5)
    legend.get_title().set_color("0.35")
    legend.get_title().set_multialignment("center")
    legend.set_alignment("center")


def _other_data(rows: DataFrame) -> list[str]:
    return [_OTHER_DATA] if several(rows["data_set"]) else []


def _study_handles(rows: DataFrame, marker: str = "") -> list[Line2D]:
    """What tells own curves from published ones, where there are both."""
    if not _hollow(rows):
        return []
    style: dict[str, Any] = {"color": "0.35", "marker": "o", "mfc": "white", "markersize": 4, "lw": 0.9}
    published = Line2D([], [], ls="--" if marker else "-", label="published", **style)
    return [Line2D([], [], color="0.35", marker=marker, markersize=4, label="own"), published]


def draw_figure2(rows: DataFrame, metric: str) -> Figure:
    """Clean and robust test accuracy of PGD-AT against the epoch, a panel a network and batch size.

    Args:
        rows: of `analysis.paper.figures.figure2`.
        metric: not read: a curve by epoch shows its own.
    """
    colours = {"clean": _CLEAN, "robust": looks([CONTROL])[CONTROL].colour}
    figure = _draw_by_epoch(rows, [(name, colour, {"accuracy": name}) for name, colour in colours.items()])
    handles = [Line2D([], [], color=colour, label=f"{name}, test ({CONTROL})") for name, colour in colours.items()]
    _legend(figure, [*handles, *_study_handles(rows)], [*_band(rows), *_other_data(rows)])
    _axis_labels(figure, label("epoch"), "test accuracy (%)")
    return figure


def _log_axis(axes: Axes, rates: Any) -> None:
    axes.set_xscale("log")
    low, high = min(rates), max(rates)
    ticks = [tick for tick in _LOG_TICKS if 0.99 * low <= tick <= 1.01 * high]
    if len(ticks) > 1:
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())


def _own_band(own: DataFrame) -> str:
    lacking = "no band where each learning rate has one trial"
    drawn = own.loc[own["mean"].notna(), "low"].notna()
    band = of_spread("band: its 95 % t interval, variance pooled over a curve, cut at 0 and 100", drawn, lacking)
    return f"own: mean over seeds; {band}"


def _rates(axes: Axes, curve: DataFrame, colour: str, *, hollow: bool, factor: float) -> None:
    means = curve.drop_duplicates("optimizer.lr").dropna(subset=["mean"])
    style: dict[str, Any] = {"ls": "--", "mfc": "white", "lw": 1.0} if hollow else {"ls": "-", "lw": 1.4}
    x = means["optimizer.lr"]
    axes.plot(x, factor * means["mean"], color=colour, marker="o", markersize=3.4, **style)
    band = means.dropna(subset=["low"])
    edges = (factor * band["low"], factor * band["high"])
    axes.fill_between(band["optimizer.lr"], *edges, color=colour, alpha=0.18, lw=0)
    lost = curve.loc[curve["outcome"] == "diverged", "optimizer.lr"]
    if len(lost):  # an empty line would have no extent, and the layout no solution
        foot = axes.get_xaxis_transform()
        axes.plot(lost, np.full(len(lost), 0.04), "x", color=colour, transform=foot, markersize=5)


def _shift_texts(part: DataFrame, shifts: DataFrame) -> Iterator[str]:
    """`c = 2.17 [1.68, 3.62]`, of each study that has one, and from which learning rate."""
    first = part.iloc[0]
    here = (shifts["model.name"] == first["model.name"]) & (shifts["batch_size"] == first["batch_size"])
    for row in shifts[here & shifts["c"].notna()].to_dict("records"):
        whose = f"{row['study']}: " if several(part["study"]) else ""
        rates = f", lr ≥ {short(row['lr_from'])}" if row["lr_from"] else ""
        yield f"{whose}c = {row['c']:.2f} {bounds(row['low'], row['high'])}{rates}"


def _studies(part: DataFrame) -> str:
    """`digits (own), CIFAR-10 (published)`."""
    pairs = part[["data_set", "study"]].drop_duplicates()
    return ", ".join(f"{data_set} ({study})" for data_set, study in pairs.itertuples(index=False))


def draw_figure4(rows: DataFrame, shifts: DataFrame, metric: str) -> Figure:
    """Robust test accuracy against the learning rate, a panel a network and batch size.

    Args:
        rows: of `analysis.paper.figures.figure4`.
        shifts: of `analysis.paper.tables.shifts`, one row a study, network and batch size.
        metric: their metric, for the label.
    """
    figure, panels = _panels(rows)
    hollow, styles, told = _hollow(rows), looks([CONTROL, TREATMENT]), False
    for axes, part in panels:
        axes.set_title(f"{_name(part)}\n{_studies(part)}", fontsize=9)
        for (study, method), curve in part.groupby(["study", "method"], sort=True):
            _rates(axes, curve, styles[str(method)].colour, hollow=str(study) in hollow, factor=scale(metric))
        _log_axis(axes, part["optimizer.lr"])
        drawn = list(_shift_texts(part, shifts))
        axes.text(0.97, 0.04, "\n".join(drawn), transform=axes.transAxes, ha="right", fontsize=8)
        told |= bool(drawn)
    _axis_labels(figure, label("optimizer.lr"), label(metric))
    handles = [Line2D([], [], color=styles[name].colour, label=name) for name in (CONTROL, TREATMENT)]
    handles += _study_handles(rows, marker="o")
    if (rows["outcome"] == "diverged").any():
        handles.append(Line2D([], [], color="0.3", marker="x", ls="none", label="diverged trial (at the foot)"))
    notes = [_own_band(rows[rows["study"] != PUBLISHED])] if (rows["study"] != PUBLISHED).any() else []
    notes += ["published: means of 3 runs"] if (rows["study"] == PUBLISHED).any() else []
    notes += ["c: DEAT(lr) = PGD-AT(c lr), 95 % interval"] if told else []
    _legend(figure, handles, [*notes, *_other_data(rows)])
    return figure


def draw_figure5(rows: DataFrame, metric: str) -> Figure:
    """Robust accuracy on train (dashed) and test against the epoch, a panel a network and batch size.

    Args:
        rows: of `analysis.paper.figures.figure5`.
        metric: not read: a curve by epoch shows its own.
    """
    styles = looks([CONTROL, TREATMENT])
    figure = _draw_by_epoch(rows, [(name, styles[name].colour, {"method": name}) for name in (CONTROL, TREATMENT)])
    handles = [Line2D([], [], color=styles[name].colour, label=name) for name in (CONTROL, TREATMENT)]
    handles += [Line2D([], [], color="0.35", ls=ls, label=name) for name, ls in (("train", "--"), ("test", "-"))]
    _legend(figure, [*handles, *_study_handles(rows)], [*_band(rows), *_other_data(rows)])
    _axis_labels(figure, label("epoch"), "robust accuracy (%)")
    return figure


def _by_epoch(rows: DataFrame, metrics: Sequence[tuple[str, str]]) -> DataFrame:
    identity = ["method", "optimizer.lr"]
    long = joined(
        [
            rows[[*identity, "epoch"]].assign(split=split, accuracy=accuracy, value=rows[f"{split}_{accuracy}"])
            for split, accuracy in metrics
        ]
    )
    grouped = long.groupby([*identity, "split", "accuracy", "epoch"])["value"]
    return grouped.agg(mean="mean", low="min", high="max", n="count").reset_index()


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


def epochs_shown(
    data: Data, methods: Sequence[str], metrics: Sequence[tuple[str, str]]
) -> Iterator[tuple[Part, DataFrame, str]]:
    """Each part with the epochs that `figure2` or `figure5` shows of it, and by what its learning rate was chosen."""
    epochs = {study.study: study.epochs for study in studies(data)}
    for part in parts(data, methods):
        rows = epochs[part.study]
        needed = [f"{split}_{accuracy}" for split, accuracy in metrics]
        rows = rows[rows["trial_id"].isin(part.trials["trial_id"]) & rows[needed].notna().all(axis=1)]
        chosen, why = _chosen(part, rows, data) if len(rows) else (rows, "")
        if set(methods) <= set(chosen["method"]):
            yield part, chosen, why


def _curves(data: Data, methods: Sequence[str], metrics: Sequence[tuple[str, str]]) -> DataFrame:
    shown = epochs_shown(data, methods, metrics)
    return joined([part.named(_by_epoch(rows, metrics).assign(chosen=why)) for part, rows, why in shown])


def figure2(data: Data) -> DataFrame:
    """Clean and robust test accuracy of PGD-AT against the epoch [DEAT, Figure 2]; as `figure5`."""
    return _curves(data, *FIGURE2)


def figure5(data: Data) -> DataFrame:
    """Robust accuracy on train and test against the epoch, PGD-AT and DEAT at one learning rate [DEAT, Figure 5].

    The published learning rates are the paper's; of a run's own, that of PGD-AT's best cell by validation.

    Returns:
        `KEYS`, chosen (by what), method, optimizer.lr, split, accuracy (clean or robust), epoch, mean, low and
        high (least and most over seeds), n (seeds), left_out; empty if nothing can be chosen or was measured.
    """
    return _curves(data, *FIGURE5)


PLANS: tuple[Plan, ...] = (
    Plan(
        "figure2",
        _single("figure2", figure2),
        lambda frames, metric: draw_figure2(frames["figure2"], metric),
        f"needs completed trials of PGD-AT with test_clean and test_robust by epoch, and {CHOICE}",
    ),
    Plan(
        "figure4",
        _figure4,
        lambda frames, metric: draw_figure4(frames["figure4"], frames["figure4_shift"], metric),
        f"needs {BOTH} at two learning rates",
    ),
    Plan(
        "figure5",
        _single("figure5", figure5),
        lambda frames, metric: draw_figure5(frames["figure5"], metric),
        f"needs {BOTH} with train_robust and test_robust by epoch, both at PGD-AT's best learning rate, and {CHOICE}",
    ),
)


def figure4(data: Data) -> DataFrame:
    """Robust test accuracy against the learning rate, PGD-AT and DEAT [DEAT, Figure 4].

    Returns:
        `KEYS`, method, optimizer.lr, trial_id, seed, outcome, value, mean, low, high, n of
        `analysis.plots.accuracy_lr.accuracy_by_lr`, left_out; empty without a part that has two learning rates.
    """
    found = [part.named(accuracy_lr.accuracy_by_lr(part.trials, data.metric)) for part in parts(data)]
    return joined([rows for rows in found if len(rows)])
