"""Which trials each figure and table is made of: what the manifest says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pandas import DataFrame, concat

from analysis.estimates.differences import differences, paired_difference
from analysis.estimates.methods import ROBUST
from analysis.frames.cells import GROUP, best_trials, measured, one_budget
from analysis.paper import figures, parts, tables
from analysis.plots import dynamics
from analysis.plots.plan import Data

Ids = Iterable[str]


def trial_ids(name: str, data: Data, frames: Sequence[DataFrame]) -> frozenset[str]:
    """The ids of the trials that a figure or table is made of.

    Where its own rows name trials, these; else those that its numbers are worked out from. A trial that only took part
    in a choice, of a cell or a budget, is none of them.

    Args:
        name: of the figure or table.
        data: what it was made from.
        frames: its numbers.
    """
    named = [frame["trial_id"] for frame in frames if "trial_id" in frame]
    if named:
        return frozenset(map(str, concat(named)))
    return frozenset(map(str, _USED[name](data) if name in _USED else _estimated(data, frames[0])))


def _estimated(data: Data, rows: DataFrame) -> Ids:
    """Completed trials of one budget, where the rows name networks and methods only theirs."""
    usable = measured(one_budget(data.trials)[0], data.metric)
    if set(GROUP) <= set(rows.columns) and "all" not in set(rows["method"]):
        pairs = usable[list(GROUP)].merge(rows[list(GROUP)].drop_duplicates(), how="left", indicator=True)
        usable = usable[(pairs["_merge"] == "both").to_numpy()]
    return usable["trial_id"]


def _judged(data: Data) -> Ids:
    """Those that the ledger reads: of each network by itself its commonest budget."""
    return concat([one_budget(part)[0] for _, part in data.trials.groupby("model.name")])["trial_id"]


def _compared(data: Data) -> Ids:
    best = best_trials(data.trials, f"last_{data.chosen_by.metric}", mode=data.chosen_by.mode, seeds=data.chose or None)
    return measured(best[~best["seed"].isin(data.chose)], ROBUST)["trial_id"]


def _on_the_grid(data: Data) -> Ids:
    diverged = data.trials["outcome"] == "diverged"
    return data.trials.loc[diverged | data.trials.index.isin(measured(data.trials, data.metric).index), "trial_id"]


def _of_deat(data: Data) -> Ids:
    return _on_the_grid(data._replace(trials=data.trials[data.trials["optimizer.name"] == "deat"]))


def _best(data: Data) -> DataFrame:
    return best_trials(data.trials, f"last_{data.chosen_by.metric}", mode=data.chosen_by.mode)


def _with_epochs(data: Data) -> Ids:
    best = _best(data)["trial_id"]
    return best[best.isin(data.epochs["trial_id"])]


def _paired(data: Data) -> Ids:
    return frozenset().union(*(found.trial_ids for found in differences(data.trials, data.metric).values()))


def _of_parts(data: Data) -> Ids:
    return parts.joined([measured(part.trials, data.metric) for part, _ in tables.counted(data)])["trial_id"]


def _of_table2(data: Data) -> Ids:
    return parts.joined([measured(part.trials, data.metric) for part in parts.parts(data)])["trial_id"]


def _of_table4(data: Data) -> Ids:
    found = [paired_difference(part.trials, data.metric) for part, _ in tables.counted(data)]
    return frozenset().union(*(one.trial_ids for one in found))


def _at_own_best(data: Data) -> Ids:
    sides = [measured(side, data.metric) for _, best in tables.at_own_best(data) for side in best]
    return parts.joined(sides)["trial_id"]


def _curves(which: tuple[list[str], list[tuple[str, str]]]) -> Callable[[Data], Ids]:
    return lambda data: parts.joined([rows for _, rows, _ in figures.epochs_shown(data, *which)])["trial_id"]


def _dynamics(data: Data) -> Ids:
    return dynamics.chosen(data)["trial_id"]


#: Of figures and tables whose rows name no trials, and which are not of all completed ones.
_USED: dict[str, Callable[[Data], Ids]] = {
    "claims": _judged,
    "paired_difference_cells": _paired,
    "surface_lr_batch": _on_the_grid,
    "surface_k1_k2": _of_deat,
    "accuracy_epoch": _with_epochs,
    "methods": _compared,
    "dynamics_decay": _dynamics,
    "dynamics_kurtosis": _dynamics,
    "dynamics_quadratic": _dynamics,
    "table2": _of_table2,
    "table3": _of_parts,
    "table4": _of_table4,
    "shift": _of_table2,
    "own_best": _at_own_best,
    "figure2": _curves(parts.FIGURE2),
    "figure5": _curves(parts.FIGURE5),
}
