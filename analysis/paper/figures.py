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
from pandas import DataFrame, Series

from analysis.frames.cells import best_cells, several
from analysis.frames.names import brief, interval_text, label, scale, sentence, short, spoken
from analysis.paper.parts import CONTROL, TREATMENT, Part, joined, parts, studies
from analysis.paper.tables import BOTH, CHOICE, shifts
from analysis.plots import accuracy_epoch, accuracy_lr
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import OWN, PUBLISHED, Data, Plan
from analysis.plots.style import at_the_foot, banded, dash, diverged_handles, legend, looks, means_by_lr, middle
from analysis.plots.ticks import log_axis

#: Panels side by side before the next row of them.
_ACROSS = 3

_WIDTH, _HEIGHT = 3.5, 2.9

#: Hollow markers on a curve of epochs.
_MARKS = 12

#: Okabe and Ito's green: clean accuracy; blue, PGD-AT's own colour, is its robust accuracy.
_CLEAN = "#009E73"

_OTHER_DATA = " Accuracies on different data sets are not to be compared."


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
        high (least and most over seeds), n (seeds), left_out; empty if nothing can be chosen or was measured at two
        epochs.
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
        if set(figure.methods) <= set(chosen["method"]) and several(chosen["epoch"]):
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


def draw_figure4(rows: DataFrame, shifts: DataFrame, metric: str, page: Page = PAGE) -> Figure:
    """Draws rows of `figure4` with the shifts of the curves, a panel a network and batch size.

    Args:
        rows: of `figure4`.
        shifts: of `analysis.paper.tables.shifts`, one row a study, network and batch size.
        metric: theirs, for the label.
        page: for what it is drawn.
    """
    figure, panels = _panels(rows, page)
    styles, factor = looks([CONTROL, TREATMENT]), scale(metric)
    for axes, part in panels:
        pairs = part[["data_set", "study"]].drop_duplicates()
        whose = [_whose(rows, data_set, study) for data_set, study in pairs.itertuples(index=False)]
        axes.set_title(f"{_name(part)}\n{', '.join(whose)}")
        for (study, method), curve in part.groupby(["study", "method"], sort=True):
            colour = styles[str(method)].colour
            hollow: dict[str, Any] = {"ls": "--", "mfc": "white", "lw": 1.0}
            style = hollow if study in _hollow(part) else {"lw": 1.4}
            means_by_lr(axes, curve, colour, factor, marker="o", markersize=3.4, **style)
            turn = 0.98 if method == CONTROL else 1.02  # beside each other
            at_the_foot(axes, turn * curve.loc[curve["outcome"] == "diverged", "optimizer.lr"], colour)
        log_axis(axes.xaxis, part["optimizer.lr"], page)
        corner = axes.text(0.97, 0.04, "\n".join(_shift_texts(part, shifts)), transform=axes.transAxes, ha="right")
        corner.set_fontsize("small")
    _axis_labels(panels, label("optimizer.lr"), label(metric))
    entries = [
        Line2D([], [], color=look.colour, marker="o", ms=4, label=name)
        for name, look in looks([CONTROL, TREATMENT]).items()
    ]
    legend(figure, [*entries, *_studies(rows), *diverged_handles(rows)], page)
    return figure


def caption_of_figure4(rows: DataFrame, shifts: DataFrame, metric: str) -> str:
    """What is drawn."""
    own = rows[rows["study"] != PUBLISHED]
    notes = [f"{_of_own(rows)}mean over seeds; {accuracy_lr.band(own)}"] if len(own) else []
    notes += ["published: means of 3 runs, whose spread is not published"] if len(own) < len(rows) else []
    notes += ["c: DEAT(lr) = PGD-AT(c lr), 95 % interval"] if any(_all_shift_texts(rows, shifts)) else []
    return f"{sentence(metric)}, of {CONTROL} and {TREATMENT} by learning rate; {'; '.join(notes)}.{_apart(rows)}"


def draw_figure2(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `curves`: clean and robust test accuracy of PGD-AT."""
    colours = {"clean": _CLEAN, "robust": looks([CONTROL])[CONTROL].colour}
    return _by_epoch(rows, "accuracy", colours, "test accuracy (%)", page)


def draw_figure5(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `curves`: robust accuracy on train (dashed) and test of both methods."""
    colours = {name: look.colour for name, look in looks([CONTROL, TREATMENT]).items()}
    return _by_epoch(rows, "method", colours, "robust accuracy (%)", page)


def caption_of_epochs(rows: DataFrame, what: str) -> str:
    """What is drawn."""
    own = rows[rows["study"] != PUBLISHED]
    notes = [f"{_of_own(rows)}mean over seeds; {accuracy_epoch.band(own)}"] if len(own) else []
    notes += ["published: as read off the paper's figure"] if len(own) < len(rows) else []
    chosen = dict.fromkeys(own["chosen"]) if len(own) else {}
    notes += [f"the learning rate is {why}" for why in chosen]
    return f"{what}; {'; '.join(notes)}.{_apart(rows)}"


def _by_epoch(rows: DataFrame, told_by: str, colours: dict[str, str], y: str, page: Page) -> Figure:
    """The figure of curves by epoch: a colour for each value of the column `told_by`; its legend shows each look."""
    figure, panels = _panels(rows, page)
    entries: dict[str, Line2D] = {}
    for axes, part in panels:
        axes.set_title(f"{_name(part)}\n" + "\n".join(_rates_chosen(part, rows)))
        for name, colour in colours.items():
            known = part[part[told_by] == name]
            for (study, split), curve in known.groupby(["study", "split"], sort=True):
                style = _style(curve, dash(str(split)), hollow=str(study) in _hollow(part))
                banded(axes, curve, "epoch", colour, factor=100, **style)
                text = f"{name}, {split}{f' ({study})' * bool(_hollow(rows))}"
                entries.setdefault(text, Line2D([], [], color=colour, label=text, **(style | {"markevery": None})))
        axes.locator_params(axis="x", integer=True)
    legend(figure, list(entries.values()), page)
    _axis_labels(panels, label("epoch"), y)
    return figure


def _style(curve: DataFrame, ls: str, *, hollow: bool) -> dict[str, Any]:
    if hollow:
        every = max(1, len(curve) // _MARKS)
        return {"ls": ls, "lw": 0.9, "marker": "o", "mfc": "white", "markersize": 3.4, "markevery": every}
    return {"ls": ls, "lw": 1.4}


def _panels(rows: DataFrame, page: Page) -> tuple[Figure, list[tuple[Axes, DataFrame]]]:
    """The figure, and each panel with its rows: one a network and batch size, in the order of the rows.

    Panels of one data set share their axis of accuracies, so that they can be compared. A last row that is not full
    stands in the middle.
    """
    groups = [part for _, part in rows.groupby(["model.name", "batch_size"], sort=False)]
    across = page.across(_side_by_side(len(groups)), _WIDTH)
    down = -(-len(groups) // across)
    figure = Figure(figsize=page.size(across, down, (_WIDTH, _HEIGHT), 0.8), layout="constrained")
    grid = figure.add_gridspec(down, 2 * across)
    shared: dict[str, Axes] = {}
    found = []
    for place, part in enumerate(groups):
        of = ", ".join(sorted(part["data_set"].unique()))
        axes = figure.add_subplot(middle(grid, place, across, len(groups)), sharey=shared.get(of))
        shared.setdefault(of, axes)
        found.append((axes, part))
    return figure, found


def _side_by_side(panels: int) -> int:
    """Four make a square, which three and one would not."""
    return 2 if panels == 4 else min(panels, _ACROSS)


def _hollow(part: DataFrame) -> set[str]:
    """The studies drawn dashed or with hollow marks: the published one, where an own one stands in the same panel."""
    groups = part.groupby(["model.name", "batch_size"])["study"].nunique()
    return {PUBLISHED} if (groups > 1).any() else set()


def _apart(rows: DataFrame) -> str:
    """What a reader has to know of two studies in one figure; nothing of one."""
    if not several(rows["study"]):
        return ""
    together = _hollow(rows)
    where = (
        "Published curves are hollow."
        if together
        else "Published curves have panels of their own: none is of this run's networks and batch sizes."
    )
    return f" {where}{_OTHER_DATA * several(rows['data_set'])}"


def _name(part: DataFrame) -> str:
    return f"{spoken(str(part['model.name'].iloc[0]))}, batch {part['batch_size'].iloc[0]}"


def _whose(rows: DataFrame, data_set: str, study: str) -> str:
    """`digits (own)`; of a figure that has own curves alone `digits`."""
    return f"{data_set} ({study})" if (rows["study"] != OWN).any() else data_set


def _of_own(rows: DataFrame) -> str:
    """How a caption begins what it says of own curves."""
    return "own: " if several(rows["study"]) else "line: "


def _rates_chosen(part: DataFrame, rows: DataFrame) -> Iterator[str]:
    """Of each study in a panel of the figure: its data and its learning rate."""
    for (study, data_set), curves in part.groupby(["study", "data_set"], sort=True):
        rates = ", ".join(brief(sorted(curves["optimizer.lr"].unique())))
        yield f"{_whose(rows, str(data_set), str(study))}, lr {rates}"


def _shift_texts(part: DataFrame, shifts: DataFrame) -> Iterator[str]:
    """`c = 2.17 [1.68, 3.62]`, of each study that has one, and from which learning rate."""
    first = part.iloc[0]
    here = (shifts["model.name"] == first["model.name"]) & (shifts["batch_size"] == first["batch_size"])
    for row in shifts[here & shifts["c"].notna()].to_dict("records"):
        whose = f"{row['study']}: " if several(part["study"]) else ""
        rates = f", lr ≥ {short(row['lr_from'])}" if row["lr_from"] else ""
        yield f"{whose}c = {interval_text(row['c'], row['low'], row['high'])}{rates}"


def _all_shift_texts(rows: DataFrame, shifts: DataFrame) -> Iterator[str]:
    for _, part in rows.groupby(["model.name", "batch_size"], sort=False):
        yield from _shift_texts(part, shifts)


def _axis_labels(panels: Sequence[tuple[Axes, DataFrame]], x: str, y: str) -> None:
    """Names the axes: of each panel that along the picture, of the first of each row the other."""
    for axes, _ in panels:
        axes.set_xlabel(x)
    rows = [spec.rowspan.start for axes, _ in panels if (spec := axes.get_subplotspec()) is not None]
    for place, (axes, _) in enumerate(panels):
        first = place == 0 or rows[place - 1] != rows[place]
        if first:
            axes.set_ylabel(y)
        elif axes.get_shared_y_axes().joined(axes, panels[place - 1][0]):
            axes.tick_params(axis="y", labelleft=False)


def _studies(rows: DataFrame) -> list[Line2D]:
    """What tells own curves from published ones, where a panel has both."""
    if not _hollow(rows):
        return []
    style: dict[str, Any] = {"color": "0.35", "marker": "o", "markersize": 4}
    published = Line2D([], [], ls="--", mfc="white", lw=0.9, label="published", **style)
    return [Line2D([], [], label="own", **style), published]


def _figure4(data: Data) -> dict[str, DataFrame]:
    rows = figure4(data)
    return {"figure4": rows, "figure4_shift": shifts(data, shown=True) if len(rows) else rows}


def _trials(data: Data, figure: ByEpoch) -> Series[Any]:
    return joined([rows for _, rows, _ in _epochs_shown(data, figure)])["trial_id"]


_TEST = f"Clean and robust accuracy on test images by epoch, of {CONTROL}"
_BOTH = f"Robust accuracy on train (dashed) and test images by epoch, of {CONTROL} and {TREATMENT}"

PLANS: tuple[Plan, ...] = (
    Plan(
        "figure2",
        functools.partial(curves, figure=FIGURE2),
        f"needs completed trials of PGD-AT with test_clean and test_robust at two epochs, and {CHOICE}",
        lambda rows, metric: caption_of_epochs(rows, _TEST),
        lambda rows, metric, page: draw_figure2(rows, page),
        overlays=True,
        trials=functools.partial(_trials, figure=FIGURE2),
    ),
    Plan(
        "figure4",
        _figure4,
        f"needs {BOTH} at two learning rates",
        caption_of_figure4,
        draw_figure4,
        overlays=True,
    ),
    Plan(
        "figure5",
        functools.partial(curves, figure=FIGURE5),
        f"needs {BOTH} with train_robust and test_robust at two epochs, at PGD-AT's best learning rate, and {CHOICE}",
        lambda rows, metric: caption_of_epochs(rows, _BOTH),
        lambda rows, metric, page: draw_figure5(rows, page),
        overlays=True,
        trials=functools.partial(_trials, figure=FIGURE5),
    ),
)
