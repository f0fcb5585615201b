"""How methods are told apart in pictures: a colour and a marker each while they are few, else a panel a family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from analysis.frames.names import named, word

#: Okabe and Ito's colours, told apart by colour-blind readers. PGD-AT's and DEAT's stand for SGD and DEAT too.
_SGD, _DEAT = "#0072B2", "#D55E00"
_OTHERS = (("#009E73", "s"), ("#CC79A7", "^"), ("#E69F00", "D"), ("#56B4E9", "v"))

#: Up to so many methods share a panel.
MOST_TOGETHER = 4


class Look(NamedTuple):
    """How one method is drawn."""

    colour: str
    marker: str
    name: str
    """In a legend."""


def crowded(methods: Iterable[str]) -> bool:
    """Whether the methods are too many for one panel: then each family has its own, and colours mean optimizers."""
    return len(set(methods)) > MOST_TOGETHER


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Each method's look, by its name; the same for the same set of methods.

    >>> looks(["TRADES", "PGD-AT"])["TRADES"]
    Look(colour='#009E73', marker='s', name='TRADES')
    """
    known = sorted(set(methods))
    optimizers = {name: named(name).optimizer for name in known}
    if crowded(known):
        return {name: Look(_DEAT if opt == "deat" else _SGD, "o", word(opt)) for name, opt in optimizers.items()}
    fixed = {"PGD-AT": Look(_SGD, "o", "PGD-AT"), "DEAT": Look(_DEAT, "o", "DEAT")}
    others = zip((name for name in known if name not in fixed), _OTHERS, strict=False)
    return fixed | {name: Look(colour, marker, name) for name, (colour, marker) in others}
