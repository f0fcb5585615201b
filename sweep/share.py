"""A share of a sweep: of several launches in one directory, the trials that one of them runs."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.errors import UserError
from trainers.record.rules import SHARE


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
        if not SHARE.holds(text):
            raise UserError(f"--shard: must be {SHARE.words}, got {text!a}; give such a share")
        index, count = text.split("/")
        return cls(int(index), int(count))

    @classmethod
    def that_has(cls, trial_id: str, count: int) -> Share | None:
        """The one of so many shares that a trial is in.

        Args:
            trial_id: hex digits, the hash of a trial's content, so that shares are about equally large; a word that is
                none, as a foreign line may have, is in no share.
            count: of shares.
        """
        try:
            return cls(int(trial_id, 16) % count + 1, count)
        except ValueError:
            return None

    def has(self, trial_id: str) -> bool:
        """Whether a trial is in this share, and so in no other of as many."""
        return self.that_has(trial_id, self.count) == self

    def named(self, name: str) -> str:
        """What a file is called that each launch has for itself, such as records.1of4.jsonl.

        Args:
            name: of that of a launch of all trials.
        """
        stem, dot, ending = name.partition(".")
        return f"{stem}.{self.index}of{self.count}{dot}{ending}"

    def __str__(self) -> str:
        """As it is given to `sweep launch --shard`."""
        return f"{self.index}/{self.count}"
