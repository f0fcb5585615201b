"""The rungs: names of the attacks on trained networks, and how strong each is. No torch."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from trainers.config import Start, TrialConfig
from trainers.errors import UserError
from trainers.fields import Frozen

AttackName = Literal["clean", "fgsm", "pgd", "cw", "apgd", "autoattack"]

ATTACKS: tuple[AttackName, ...] = get_args(AttackName)

#: What `trainers.ladder.checks` looks at.
CheckName = Literal["steps", "single_step", "black_box", "restarts", "unbounded", "ascent"]

CHECKS: tuple[CheckName, ...] = get_args(CheckName)

_BALL = ("norm", "radius")

_PGD = (*_BALL, "steps", "step_size", "restarts", "start")

_READ: dict[str, tuple[str, ...]] = {
    "clean": (),
    "fgsm": _BALL,
    "pgd": _PGD,
    "cw": _PGD,
    "apgd": _BALL,
    "autoattack": _BALL,
    "square": (*_BALL, "steps"),
    "checks": _BALL,
}

#: Packages that an attack or a check runs in, beside torch.
PACKAGE: dict[str, tuple[str, ...]] = dict.fromkeys(("apgd", "autoattack", "black_box"), ("pyautoattack",))


def reads(attack: str) -> tuple[str, ...]:
    """The parameters that the attack reads, or that the checks do."""
    return _READ[attack]


class LadderAttack(Frozen):
    """One attack of the ladder with the parameters that it reads; None for the others."""

    name: AttackName | Literal["square"]
    """Square alone is no rung; `steps` are its queries."""
    norm: Literal["linf", "l2"] | None = None
    radius: float | None = None
    """Of the ball, in pixel units."""
    steps: int | None = None
    step_size: float | None = None
    """Length of a step in the norm, in pixel units."""
    restarts: int | None = None
    """Random starts; an image stays right if none of them breaks it."""
    start: Start | None = None
    """Where each begins, as in `trainers.method.attacks.pgd`."""

    def parameters(self) -> dict[str, Any]:
        """What the attack reads, as plain values."""
        return {key: getattr(self, key) for key in reads(self.name)}


class Strength(NamedTuple):
    """What a user may set of the attacks; None: as the trial was evaluated while it trained."""

    radius: float | None = None
    steps: int = 20
    """[Madry, Section 5: PGD-20]"""
    step_size: float | None = None
    """None: the trial's, in proportion where the radius is another."""
    restarts: int = 1


def ladder_attack(name: AttackName, strength: Strength, config: TrialConfig) -> LadderAttack:
    """The attack `name` on a trial: in the norm of its training attack, by default at its evaluation's radius.

    Raises:
        UserError: several restarts are asked for where the trial's evaluation starts at the clean image.
    """
    own = config.resolved().evaluation
    assert own.radius is not None
    assert own.step_size is not None
    if own.start == "clean" and strength.restarts > 1 and "restarts" in reads(name):
        raise UserError(
            f"--restarts {strength.restarts}: the trial's evaluation.start is clean, and from the clean image all "
            "restarts are the same; leave --restarts out"
        )
    radius = own.radius if strength.radius is None else strength.radius
    # Where the trial has no radius to scale from: 2.5 radius / steps [Madry, Section 5].
    scaled = own.step_size * (radius / own.radius) if own.radius else 2.5 * radius / strength.steps
    values = {
        "norm": config.attack.norm,
        "radius": radius,
        "steps": strength.steps,
        "step_size": scaled if strength.step_size is None else strength.step_size,
        "restarts": strength.restarts,
        "start": own.start,
    }
    return LadderAttack(name=name, **{key: values[key] for key in reads(name)})
