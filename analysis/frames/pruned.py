"""Trials that early stopping ended: what is known of them, and which way the numbers of the others are wrong for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame

from analysis.frames.history import TrialHistory
from trainers.fields import plural

#: The outcome of a trial that a stopping rule ended, or never let start.
PRUNED = "pruned"

#: Column of the frame to key of the outcome.
_NUMBERS = {"pruned_rung": "rung", "pruned_rank": "rank", "pruned_share": "share"}

#: What a reader has to know of numbers from which pruned trials are left out. Whether the rest of a cell's seeds looked
#: good early is chance in part, so that they are no sample of its seeds; a race that gives a cell up does so after
#: seeds that came out badly.
BIAS = (
    "the others were kept for their validation accuracy, which is partly chance: means of cells that lost seeds are "
    "too high (too low where a race gave a cell up), differences between cells and correlations too near 0"
)


def pruned_columns(trials: Sequence[TrialHistory]) -> dict[str, Any]:
    """Of each trial where and by what it was pruned; NaN or none of one that was not."""
    ends: list[Mapping[str, Any]] = [trial.end if trial.outcome == PRUNED else {} for trial in trials]
    columns = {name: np.array([end.get(key) for end in ends], dtype=np.float64) for name, key in _NUMBERS.items()}
    return {**columns, "pruned_by": [end.get("by") for end in ends]}


def number_pruned(trials: DataFrame) -> int:
    """How many of the trials were pruned."""
    return int((trials["outcome"] == PRUNED).sum())


def pruned_text(pruned: int, trials: int) -> str:
    """How many trials enter no number because they were pruned, and what is biased by that; nothing for none.

    >>> pruned_text(0, 36), pruned_text(1, 36)[:57]
    ('', '1 of 36 trials was pruned and is in no number: the others')
    """
    if not pruned:
        return ""
    verbs = "was pruned and is" if pruned == 1 else "were pruned and are"
    said = f"{pruned} of {plural(trials, 'trial')} {verbs} in no number"
    return f"{said}: {BIAS}" if pruned < trials else said


def pruned_line(trials: DataFrame) -> str:
    """`pruned_text` of a frame of trials."""
    return pruned_text(number_pruned(trials), len(trials))
