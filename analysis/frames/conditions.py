"""Axes across which accuracies are not comparable, and no best point is chosen."""

from __future__ import annotations

#: Whatever else is compared, trials that differ here were measured differently: on other images, by another attack.
CONDITIONS = ("data.", "evaluation.")

#: But these, and what begins so, say only what is trained on.
_TRAINED_ON = ("data.augment", "data.padding", "data.crop", "data.policy", "data.cutmix", "data.extra")


def is_condition(axis: str) -> bool:
    """Whether accuracies of trials that differ on the axis are not comparable: other images, another attack."""
    return axis.startswith(CONDITIONS) and not axis.startswith(_TRAINED_ON)
