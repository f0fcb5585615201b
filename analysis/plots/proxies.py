"""How well the epochs of trials rank the settings as the last epoch does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from analysis.estimates.proxies import OVER_POINTS, proxies, strata_axes
from analysis.frames.names import label, of_spread
from analysis.frames.strata import stratum_name
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan, that_choose
from analysis.plots.style import banded, crowded, in_order, legend, looks, outer_labels, panels
from analysis.plots.ticks import whole_epochs
from trainers.fields import plural

#: What a panel is called by.
_STRATUM = "stratum"


def by_epoch(data: Data) -> DataFrame:
    """The rows of `analysis.estimates.proxies.proxies` that are of epochs; empty where nothing was measured early."""
    metric, mode = data.chosen_by
    rows = proxies(data.trials, data.epochs, metric, mode, by=strata_axes(data.trials, data.grid))
    rows = rows[(rows["setting"] == "epoch") & rows["estimate"].notna()]
    return rows.rename(columns={"value": "epoch"}).assign(metric=metric).reset_index(drop=True)


def proxy(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `by_epoch`, a panel a network and combination of grid axes; dashed, how far seeds agree."""
    keys = ["model.name", *rows.columns[2 : rows.columns.get_loc("setting")]]
    rows = rows.assign(**{_STRATUM: [stratum_name(keys, row, keys[1:]) for row in rows[keys].itertuples(index=False)]})
    styles = looks(rows["method"])
    size = (4.2, 3.2) if crowded(rows["method"]) else (5.2, 3.8)
    figure, grid, places = panels(rows, [], [_STRATUM], *size, page)
    for axes, part in places:
        for name in in_order(part["method"]):
            for _, curve in part[part["method"] == name].groupby(_STRATUM, sort=True):
                look, first = styles[str(name)], curve.iloc[0]
                known: dict[str, Any] = {"names": ("estimate", "low", "high"), "marker": look.marker, "ms": 4}
                banded(axes, curve, "epoch", look.colour, lw=1.4, **known)
                axes.axhline(first["ceiling"], color=look.colour, ls="--", lw=1)
        whole_epochs(axes)
        axes.set_title(f"{part[_STRATUM].iloc[0]}\n{_counted(part)}")
    outer_labels(grid, label("epoch"), "Kendall's tau with the last epoch")
    shown = dict.fromkeys(styles[name] for name in in_order(rows["method"]))
    entries = [Line2D([], [], color=look.colour, marker=look.marker, label=look.name) for look in shown]
    if rows["ceiling"].notna().any():
        entries.append(Line2D([], [], color="0.35", ls="--", lw=1, label="two halves of the seeds, last epoch"))
    legend(figure, entries, page)
    return figure


def _counted(part: DataFrame) -> str:
    """`9 settings, n = 18 trials`, of each curve of a panel; the fewest and the most where they differ."""
    settings, trials = (dict.fromkeys((part[name].min(), part[name].max())) for name in ("points", "n"))
    return f"{_between(settings, 'setting')}, n = {_between(trials, 'trial')}"


def _between(ends: Iterable[int], noun: str) -> str:
    *low, high = map(int, ends)
    return "".join(f"{end} to " for end in low) + plural(high, noun)


def caption(rows: DataFrame) -> str:
    """What is drawn."""
    seeds = rows["interval_method"] != OVER_POINTS
    how = "seeds" if seeds.all() else "settings" if not seeds.any() else "seeds, or over settings where each has one"
    band = of_spread(f"band: 95 % over {how}", rows["low"].notna(), "no band where settings or seeds are too few")
    dashed = (
        "; dashed: tau between two halves of the seeds, both at the last epoch. It is what an early epoch could reach "
        "with other seeds; a curve may lie above, as it compares epochs of the same seeds, which share their chance"
    )
    return (
        f"How well an epoch ranks the settings as the last epoch does: Kendall's tau (1: the same order, 0: as by "
        f"chance) of the settings' mean {rows['metric'].iloc[0]} at the epoch with that at the last one; {band}"
        f"{dashed * bool(rows['ceiling'].notna().any())}."
    )


PLAN = Plan(
    "proxy",
    by_epoch,
    "needs completed trials of three points with the sweep's metric before the last epoch; set trial.evaluation.every",
    lambda rows, metric: caption(rows),
    lambda rows, metric, page: proxy(rows, page),
    trials=that_choose,
)
