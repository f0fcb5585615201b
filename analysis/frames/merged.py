"""The logs of a run's several files as one: `trainers.record.merged`, of columns."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.frames.columns import PLACE
from analysis.frames.log import Log
from trainers.record import written

Places: TypeAlias = NDArray[np.int64]


def merged(logs: Sequence[Log]) -> Log:
    """One log of several, by when a line was written, those of one file in their order.

    Args:
        logs: one a file, in the order of `trainers.record.record_files`.
    """
    lines = [len(log.others) + len(log.epochs.table) for log in logs]
    moments, before = (np.concatenate(parts) for parts in zip(*map(_moments, logs), strict=True))
    places = np.empty(len(moments), np.int64)
    places[np.lexsort((before, np.repeat(np.arange(len(logs)), lines), moments))] = np.arange(len(moments))
    first, *others = map(_placed, logs, np.split(places, np.cumsum(lines)[:-1]))
    every = first.followed_by(*others)
    in_order = sorted(zip(every.places, every.others, strict=True), key=itemgetter(0))
    return Log([one for _, one in in_order], [place for place, _ in in_order], every.epochs.by_place())


def _moments(log: Log) -> tuple[NDArray[np.float64], Places]:
    """Of each line, the others first, how late it is, and its place: the latest time of those up to it, (lines,)."""
    of_epochs = np.nan_to_num(log.epochs.numbers("time"))
    times = np.concatenate([np.fromiter(map(written, log.others), np.float64, len(log.others)), of_epochs])
    places = np.concatenate([np.asarray(log.places, np.int64), log.epochs.table[PLACE].to_numpy()])
    by_place = np.argsort(places)
    times[by_place] = np.maximum.accumulate(times[by_place])
    return times, places


def _placed(log: Log, places: Places) -> Log:
    """The log with its lines, the others first, at other places."""
    n = len(log.others)
    return Log(log.others, places[:n].tolist(), log.epochs.placed(places[n:]))
