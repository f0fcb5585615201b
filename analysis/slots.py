"""A method is a choice in the four slots of the training step: its keys in a config, and its name."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

_OBJECTIVES = {"pgd_at": "PGD-AT", "trades": "TRADES", "mart": "MART", "avmixup": "AVmixup"}
_OTHERS = {"awp": "AWP", "sgd": "SGD", "deat": "DEAT"}

#: The method that others are compared with, unless another is named.
BASELINE = "PGD-AT"


class Slots(NamedTuple):
    """What is chosen in each slot; the defaults are what a record that lacks the key was trained with."""

    objective: str = "pgd_at"
    s2o: bool = False
    weights: str = "none"
    optimizer: str = "sgd"

    @property
    def method(self) -> str:
        """The method's name, as the papers write it: `TRADES-AWP` [AWP, Table 2], `TRADES+S2O` [S2O, Table 1].

        The optimizer follows after a comma, SGD being understood; PGD-AT under DEAT alone is the paper's DEAT.

        >>> Slots().method, Slots(optimizer="deat").method, Slots("trades", True, "awp", "deat").method
        ('PGD-AT', 'DEAT', 'TRADES-AWP+S2O, DEAT')
        """
        if self == Slots(optimizer="deat"):
            return "DEAT"
        return self.family if self.optimizer == "sgd" else f"{self.family}, {word(self.optimizer)}"

    @property
    def family(self) -> str:
        """The method without its optimizer: `TRADES-AWP+S2O`."""
        return word(self.objective) + self.modification

    @property
    def modification(self) -> str:
        """What is done to the objective: `-AWP+S2O`, nothing for the plain one."""
        return ("" if self.weights == "none" else f"-{word(self.weights)}") + ("+S2O" if self.s2o else "")


S2O = "objective.s2o.enabled"

#: The key of each slot in a trial's config, in the order of `Slots`.
KEYS: tuple[str, ...] = ("objective.name", S2O, "weights.name", "optimizer.name")

#: The parts of a config in which a key belongs to the slot's choice and means nothing to others.
PARTS = ("objective.", "weights.", "optimizer.")


def word(value: Any) -> str:
    """How a slot's value is written; one that has no name of its own stands for itself.

    >>> word("avmixup"), word("deat"), word("natural")
    ('AVmixup', 'DEAT', 'natural')
    """
    return _OBJECTIVES.get(str(value)) or _OTHERS.get(str(value), str(value))


def named(method: str) -> Slots:
    """The choice that a method's name means; a name of no known choice is an objective of its own.

    >>> named("MART+S2O, DEAT")
    Slots(objective='mart', s2o=True, weights='none', optimizer='deat')
    """
    return _CHOICES.get(method, Slots(method))


_CHOICES = {
    slots.method: slots
    for slots in itertools.starmap(
        Slots, itertools.product(("natural", *_OBJECTIVES), (False, True), ("none", "awp"), ("sgd", "deat"))
    )
}
