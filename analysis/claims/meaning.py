"""What a line of the ledger means, in one or two plain sentences, for a reader who knows no statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping

from analysis.claims.evidence import MOST_FURTHER
from analysis.claims.ledger import Claim
from trainers.fields import plural

_TENFOLD = "where it is ten times as large"

#: Of each claim, what is so where it is supported, and where it is contradicted. {size}: of the effect, without sign;
#: {margin}: what passes for none; {accuracy}: which one.
_MEANING: Mapping[str, tuple[str, str]] = {
    "ratio": (
        f"The larger learning rate / batch size is, the higher the {{accuracy}} accuracy: by about {{size}} "
        f"{_TENFOLD}.",
        f"The larger learning rate / batch size is, the lower the {{accuracy}} accuracy: by about {{size}} {_TENFOLD}.",
    ),
    "ratio_only": (
        "Only learning rate / batch size counts: where both grow together, {accuracy} accuracy changes by less than "
        "{margin} for each tenfold.",
        "Learning rate / batch size is not all that counts: where both grow together, {accuracy} accuracy changes by "
        "about {size} for each tenfold.",
    ),
    "deat_equal_lr": (
        "With the same settings, DEAT's {accuracy} accuracy is higher than SGD's by about {size}.",
        "With the same settings, DEAT's {accuracy} accuracy is lower than SGD's by about {size}.",
    ),
    "deat_own_best": (
        "With the settings that are best for each, DEAT's {accuracy} accuracy is higher than SGD's by about {size}.",
        "With the settings that are best for each, DEAT's {accuracy} accuracy is lower than SGD's by about {size}.",
    ),
    "not_weight_decay": (
        "DEAT's {accuracy} accuracy is higher by about {size} than that of an SGD that makes steps of the same size "
        "and decays its weights as much: these two do not explain its gain.",
        "DEAT's {accuracy} accuracy is lower by about {size} than that of an SGD that makes steps of the same size and "
        "decays its weights as much.",
    ),
    "k1_k2": (
        "It hardly matters how k1 and k2 are set: {accuracy} accuracy at the best and at the worst setting differs by "
        "less than {margin}.",
        "It matters how k1 and k2 are set: {accuracy} accuracy at the best and at the worst setting differs by about "
        "{size}.",
    ),
    "no_extra_time": (
        "DEAT trains as fast as SGD: an epoch takes less than {margin} more time.",
        "DEAT trains more slowly than SGD: an epoch takes about {size} more time.",
    ),
}


def meaning(claim: Claim) -> str:
    """What the verdict of a claim means."""
    if claim.verdict == "not measured":
        return f"These trials cannot say: {claim.note}. {claim.config} has trials that can."
    if claim.verdict == "undecided":
        return " ".join(filter(None, [_open(claim), _further(claim)]))
    text = _MEANING[claim.name][claim.verdict == "contradicted"]
    estimate, margin = shown(claim, claim.estimate), shown(claim, claim.threshold)
    accuracy = claim.y.rpartition("_")[2]
    said = text.format(size=_amount(claim, abs(estimate)), margin=_amount(claim, margin), accuracy=accuracy)
    return " ".join(filter(None, [said, _sure(claim)]))


def shown(claim: Claim, value: float) -> float:
    """A number of a claim as it is shown: percentage points of accuracy, or percent more time."""
    return 100 * (value - (claim.unit == "ratio"))


def _amount(claim: Claim, value: float) -> str:
    digits = f"{value:.1f}".removesuffix(".0")
    return f"{digits} %" if claim.unit == "ratio" else f"{digits} percentage point{'' if digits == '1' else 's'}"


def _sure(claim: Claim) -> str:
    """That it is more than chance; of means alone, whose spread nobody knows, nothing."""
    if claim.replicate == "cell":
        return ""
    return f"The {plural(claim.n, claim.replicate)} agree on it so well that chance is no good explanation."


def _open(claim: Claim) -> str:
    if not (math.isfinite(claim.low) and math.isfinite(claim.high)):
        return f"These trials do not decide it{f', because {claim.reason}' if claim.reason else ''}."
    low, high = (shown(claim, end) for end in (claim.low, claim.high))
    unit = "% more time" if claim.unit == "ratio" else "percentage points"
    within = f"the effect may be anything from {low:+.1f} to {high:+.1f} {unit}"
    tenfold = " for each tenfold" if claim.unit == "fraction a decade" else ""
    why = f" It stays open because {claim.reason}." if claim.reason else ""
    return f"These trials do not decide it: {within}{tenfold}.{why}"


def _further(claim: Claim) -> str:
    """What would decide it."""
    if claim.replicate != "seed" or (claim.reason and math.isnan(claim.p)):
        return ""
    if claim.further_low is None:
        return ""
    if claim.further_low >= MOST_FURTHER:
        return f"To decide it would take more than {MOST_FURTHER} further seeds."
    more = f"more than {MOST_FURTHER}"
    about = f"{more} further seeds" if claim.further is None else f"about {plural(claim.further, 'further seed')}"
    ends = f"from {claim.further_low} to {claim.further_high or more} (95 % interval)"
    return f"{about[0].upper()}{about[1:]} would probably decide it; it may take {ends}."
