"""A user's own objective, as the step takes one: see docs/own_code.md for what it may look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from trainers.config import ObjectiveConfig
from trainers.errors import UserError
from trainers.method.attacks import Draws
from trainers.method.objectives import (
    Descended,
    Forward,
    Inputs,
    Logits,
    Objective,
    Outer,
    Terms,
    cross_entropy,
)
from trainers.own import options


@dataclass(frozen=True)
class OwnObjective(Objective):
    """An objective whose outer loss is one function of the user's."""

    own_outer: Callable[..., Any] = lambda forward, images, adversarial, labels: None
    """Forward, clean images, adversarial images and labels to the loss (), or to (fit, what is added in full)."""
    given: Any = None
    """What the user's class or function gave: `own_outer` and `inner` may be of it."""

    def outer(
        self, forward: Forward, images: Tensor, adversarial: Tensor, labels: Tensor, generator: Draws
    ) -> Descended:
        """As `Objective.outer`, but that the function draws at every call, AWP's and the update's.

        S2O takes its share of what the function gives, or of the first of two.
        """
        own = partial(self.own_outer, generator=generator) if self._draws else self.own_outer

        def outer(*, ascending: bool = False) -> Outer:
            passes = _Passes(forward)
            given = own(passes, images, adversarial, labels)
            fit, added = given if isinstance(given, tuple) else (given, None)
            trained = passes.at(adversarial, len(labels))
            if self.s2o is not None and (self.s2o_in_awp or not ascending):
                clean = passes.of(images)
                term = self.s2o(Logits(trained, forward(images) if clean is None else clean), labels)
                fit = (1 - self.s2o_weight) * fit + self.s2o_weight * term
            return Outer(fit if added is None else fit + added, trained)

        return outer

    @property
    def _draws(self) -> bool:
        return options.takes(self.own_outer, "generator")


class _Passes:
    """The network as a function of images, which remembers what it was asked."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._made: list[tuple[Tensor, Tensor]] = []

    def __call__(self, images: Tensor) -> Tensor:
        logits = self._forward(images)
        self._made.append((images, logits))
        return logits

    def of(self, images: Tensor) -> Tensor | None:
        """The logits of the last pass of these very images."""
        return next((logits for asked, logits in reversed(self._made) if asked is images), None)

    def at(self, images: Tensor, count: int) -> Tensor:
        """The same, or else the last so many logits of the last pass."""
        if not self._made:
            raise UserError("objective.name: outer never passes images through the network, forward(images); it must")
        logits = self.of(images)
        return self._made[-1][1][-count:] if logits is None else logits


def build(config: ObjectiveConfig, num_classes: int) -> Objective:
    """What a user's own class or function gives of (num_classes, **options), without S2O.

    That is an `Objective`; or has `outer`, and `inner` where that is not the cross-entropy; or is the pair of them.
    `passes_clean = True` beside `outer` says that it passes the clean images through the network.

    Raises:
        UserError: it is none of these.
    """
    given = options.call(config, "objective", {"num_classes": num_classes})
    if isinstance(given, Objective):
        return given
    inner, outer = given if isinstance(given, tuple) and len(given) == 2 else _named(given)
    if not (callable(inner) and callable(outer)):
        raise UserError(
            f"objective.name: {config.name}: must give an object with `outer` (and `inner`), a pair of functions "
            f"(inner, outer) or an Objective, got {type(given).__name__}"
        )
    clean = bool(getattr(given, "passes_clean", False))
    return OwnObjective(inner, _unused, _adversarial, reads_clean=clean, own_outer=outer, given=given)


def with_state(objective: Objective) -> Any:
    """The user's own object behind an objective, where it has a state to keep, as torch's parts have; else None."""
    given = getattr(objective, "given", objective)
    keeps = all(callable(getattr(given, name, None)) for name in ("state_dict", "load_state_dict"))
    return given if keeps else None


def _named(given: Any) -> tuple[Any, Any]:
    return getattr(given, "inner", cross_entropy), getattr(given, "outer", None)


def _adversarial(images: Tensor, adversarial: Tensor, labels: Tensor, generator: Draws) -> Inputs:
    return Inputs(adversarial, labels)


def _unused(logits: Logits, targets: Tensor) -> Terms:
    raise AssertionError("an own objective's outer loss is one function")
