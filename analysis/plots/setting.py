"""On which data, and under which attack, the accuracies of a figure are: for its caption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pandas import DataFrame

from analysis.frames.names import short, spoken
from analysis.tables.evaluations import attack_name

#: Columns of a frame of trials.
DATA_SET, ATTACK = "data_set", "judged_under"

_BALLS = {"linf": "ℓ∞", "l2": "ℓ2"}

#: Of the published study [DEAT, Section 5].
PUBLISHED_ATTACK = "PGD-10, ℓ∞ radius 8/255"


def attack_of(config: Mapping[str, Any]) -> str:
    """The attack by which a trial's robust accuracies are measured, in words; empty: its config does not say.

    >>> config = {"attack": {"norm": "linf"}, "evaluation": {"steps": 10, "restarts": 1, "radius": 8 / 255}}
    >>> attack_of(config), attack_of({})
    ('PGD-10, ℓ∞ radius 8/255', '')

    Args:
        config: of a trial's record.
    """
    known = config.get("evaluation", {})
    if not {"steps", "radius"} <= set(known):
        return ""
    norm = config.get("attack", {}).get("norm", "linf")
    name = attack_name({"attack": "pgd", "steps": known["steps"], "restarts": known.get("restarts", 1)})
    return f"{name}, {_BALLS.get(norm, norm)} radius {short(known['radius'])}"


def setting(trials: DataFrame, whose: str = "Data") -> str:
    """A sentence on the data set and the attack of these trials; empty where neither is known.

    >>> setting(DataFrame({"data_set": ["digits"] * 2, "judged_under": ["PGD-10, ℓ∞ radius 0.15"] * 2}))
    'Data: digits; robust accuracy: under PGD-10, ℓ∞ radius 0.15.'

    Args:
        trials: with `DATA_SET` and `ATTACK`, if these are known.
        whose: what the data set is called.
    """
    known = [
        (word, [spoken(str(value)) for value in trials[column].dropna().unique() if value])
        for word, column in ((f"{whose}: ", DATA_SET), ("robust accuracy: under ", ATTACK))
        if column in trials
    ]
    said = "; ".join(word + " or ".join(values) for word, values in known if values)
    return f"{said[0].upper()}{said[1:]}." if said else ""
