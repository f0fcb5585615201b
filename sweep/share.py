"""A share of a sweep: of several launches in one directory, the trials that one of them runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainers.errors import UserError

_TEXT = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True)
class Share:
    """One of `count` launches that share a sweep's trials out by their ids, and know nothing of one another.

    >>> share = Share.of("1/4")
    >>> share.has("00c0ffee0008"), share.has("00c0ffee0009"), str(share)
    (True, False, '1/4')
    """

    index: int
    """From 1 to `count`."""
    count: int

    @classmethod
    def of(cls, text: str) -> Share:
        """The share that a text such as 1/4 names.

        Raises:
            UserError: it names none.
        """
        parts = _TEXT.fullmatch(text)
        if parts is None or int(parts[1]) > int(parts[2]):
            raise UserError(f"--shard: must be i/N with 1 <= i <= N, such as 1/4, got {text!a}; give such a share")
        return cls(int(parts[1]), int(parts[2]))

    def has(self, trial_id: str) -> bool:
        """Whether a trial is in this share, and so in no other of as many.

        Args:
            trial_id: hex digits, the hash of a trial's content, so that shares are about equally large.
        """
        return int(trial_id, 16) % self.count == self.index - 1

    def __str__(self) -> str:
        """As it is given to `sweep launch --shard`."""
        return f"{self.index}/{self.count}"
