"""Why trials of other runs tell a sweep's search nothing, counted by reason, in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sweep.axes import Axis, holds, value_at
from trainers.config import leaves
from trainers.fields import number_text
from trainers.visible import brief

#: Keys that are named for a reason.
_NAMED = 3


class PassedOver:
    """The trials that are not taken in, by reason."""

    def __init__(self) -> None:
        """Knows none."""
        self._trials: Counter[str] = Counter()
        self._keys: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.alone: Counter[str] = Counter()
        """Settings, the one key in which trials differ at their value, with how many would be taken in with it."""

    def not_finished(self) -> None:
        """One has not ended with the objectives."""
        self._trials["not finished, or without the objectives"] += 1

    def of_other_keys(self, here: Mapping[str, Any], there: Mapping[str, Any]) -> None:
        """One differs from the sweep's trials in more than its point: both as their ids have them."""
        every = list(_differing(here, there))
        named = [one for one in every if not one[0].endswith("fingerprint")] or every  # of what the others tell
        self._count("other keys", (f"{key} {_text(theirs)}, here {_text(ours)}" for key, ours, theirs in named))
        if len(named) == 1 and not named[0][0].endswith("fingerprint"):
            self.alone[f"trial.{named[0][0]}={_text(named[0][2])}"] += 1

    def outside(self, space: Mapping[str, Axis], values: Mapping[str, Any]) -> None:
        """One lies at values of the axes, by key, that the sweep does not have."""
        beside = [key for key, value in values.items() if value is not None and not space[key].admits(value)]
        self._count("outside of the space", (f"{key} {_text(values[key])}" for key in beside))

    def _count(self, reason: str, keys: Iterable[str]) -> None:
        self._trials[reason] += 1
        self._keys[reason].update(keys)

    def reasons(self) -> Iterator[str]:
        """Each with how many trials it holds for, and its most frequent keys."""
        for reason, number in self._trials.items():
            named = "; ".join(key for key, _ in self._keys[reason].most_common(_NAMED))
            yield f"{number} not: {reason}" + (f" ({named})" if named else "")


def _differing(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*leaves(here), *leaves(there)]):
        ours, theirs = (value_at(one, key) if holds(one, key) else None for one in (here, there))
        if ours != theirs:
            yield key, ours, theirs


def _text(value: Any) -> str:
    return "null" if value is None else number_text(value) if isinstance(value, float) else brief(value).strip("'")
