"""Which completed trials are pooled: those of one number of epochs, on the same images under the same attack."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from analysis.frames.cells import codes
from analysis.frames.conditions import is_condition
from analysis.frames.trials import SUPERSEDED, axes

#: Why a completed trial is left out.
SHORT, BUDGET, CONDITION = "fewer epochs than planned", "another budget", "other conditions"

_AXIS = "planned_epochs"


def one_budget(trials: DataFrame) -> tuple[DataFrame, dict[str, int]]:
    """The completed trials of the commonest budget and conditions; how many are left out, by why.

    A trial that was pruned, diverged, failed, is unfinished or superseded by another one of its cell and seed never
    enters, nor one that is called completed but holds fewer epochs than were planned for it. Of the others: those of
    the commonest number of planned epochs (of equally common ones the longest), and among them those of the commonest
    data and evaluation (`analysis.frames.conditions.is_condition`; of equally common ones the first).

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.

    Returns:
        the trials, in the frame's order, and the others' number by outcome, `SHORT`, `BUDGET` or `CONDITION`; no
        reason stands there with 0, and all numbers add up to the frame's rows.
    """
    why = trials["outcome"].astype(str).to_numpy(dtype=object)
    kept = why == "completed"
    for reason, same in ((SHORT, _whole), (BUDGET, _commonest_budget), (CONDITION, _commonest_conditions)):
        lost = kept.copy()
        lost[kept] = ~same(trials[kept])
        why[lost] = reason
        kept &= ~lost
    counts = Counter(map(str, why[~kept]))
    return trials[kept], {reason: counts[reason] for reason in sorted(counts)}


def network_budgets(trials: DataFrame) -> tuple[DataFrame, dict[str, int]]:
    """`one_budget` of each network by itself, as the ledger reads them; how many are left out of all, by why."""
    found = [one_budget(part) for _, part in trials.groupby("model.name")]
    counts = sum((Counter(lost) for _, lost in found), Counter[str]())
    kept = trials.index.isin([row for rows, _ in found for row in rows.index])
    return trials[kept], {reason: counts[reason] for reason in sorted(counts)}


def same_budget(trials: DataFrame) -> DataFrame:
    """The trials of any outcome that have the budget and conditions that `one_budget` keeps; all, if it keeps none.

    Superseded ones are not among them: each stands there once already.
    """
    trials = trials[trials["outcome"] != SUPERSEDED]
    kept = trials.index.isin(one_budget(trials)[0].index)
    keys = [axis for axis in axes(trials) if axis == _AXIS or is_condition(axis)]
    settings = codes(trials, keys)
    return trials[np.isin(settings, settings[kept])] if kept.any() else trials


def trials_left_out(counts: dict[str, int]) -> str:
    """What `one_budget` left out, in words.

    >>> trials_left_out({"another budget": 4, "pruned": 2}), trials_left_out({})
    ('6 trials left out: 4 another budget, 2 pruned', 'no trial left out')
    """
    total = sum(counts.values())
    if not total:
        return "no trial left out"
    reasons = ", ".join(f"{n} {reason}" for reason, n in counts.items())
    return f"{total} trial{'s' * (total > 1)} left out: {reasons}"


def _whole(trials: DataFrame) -> NDArray[np.bool_]:
    """Which trials hold as many epochs as planned; where the plan is no axis it is the same for all."""
    if "epochs" not in trials:
        return np.ones(len(trials), dtype=np.bool_)
    done = trials["epochs"].to_numpy(dtype=np.float64)
    planned = trials[_AXIS].to_numpy(dtype=np.float64) if _AXIS in trials else np.max(done, initial=0)
    return np.asarray(done >= planned)


def _commonest_budget(trials: DataFrame) -> NDArray[np.bool_]:
    if _AXIS not in trials:
        return np.ones(len(trials), dtype=np.bool_)
    planned: Series[Any] = trials[_AXIS]
    counts = planned.value_counts()
    return np.asarray(planned == counts.index[counts == counts.max()].max())


def _commonest_conditions(trials: DataFrame) -> NDArray[np.bool_]:
    groups = codes(trials, [axis for axis in axes(trials) if is_condition(axis)])
    return np.asarray(groups == np.argmax(np.bincount(groups, minlength=1)))
