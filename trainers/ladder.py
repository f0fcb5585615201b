"""The ladder: ever stronger attacks on a trained network, in eval mode and fp32. Which images stay right?

With z the logits at an image and y its label:

    clean       none
    fgsm        one step as long as the radius, from the image                               [FGSM, Section 4]
    pgd         raises the cross-entropy, from random starts                                 [Madry, Section 2.1]
    cw          PGD too, but raises max_{j != y} z_j - z_y, whose gradient never saturates   [CW, f_6; so Madry]
    apgd        APGD on the cross-entropy, then on the targeted DLR loss                     [AutoAttack, 3 and 4]
    autoattack  the standard version: apgd, then FAB-T and Square                            [AutoAttack, 5]

An image that nothing breaks costs, in forward passes (a backward pass to the input is one too): clean 1; fgsm 4;
pgd and cw 2 steps + 1 a restart; apgd some 2,000; autoattack some 10,000, half of them Square's. One that is wrong
when clean costs 1.

What is guaranteed: nothing is right under an attack that is not right clean; more restarts of pgd or cw break all
that fewer do; and autoattack breaks, image by image, all that apgd breaks with the same seed, because it begins with
the same two attacks from the same starts. autoattack against pgd is stronger by experience, not by construction.

Sources: [FGSM] Goodfellow, Shlens, Szegedy, ICLR 2015; [Madry] Madry et al., ICLR 2018; [CW] Carlini, Wagner, IEEE
S&P 2017, Section V; [AutoAttack] Croce, Hein, ICML 2020.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from trainers import autoattack
from trainers.attacks import Loss, fgsm, pgd
from trainers.config import Start, TrialConfig
from trainers.engine import attacking, float32_products
from trainers.errors import UserError
from trainers.fields import Frozen
from trainers.objectives import Forward, cross_entropy
from trainers.randomness import generator

AttackName = Literal["clean", "fgsm", "pgd", "cw", "apgd", "autoattack"]
ATTACKS: tuple[AttackName, ...] = get_args(AttackName)

_BALL = ("norm", "radius")
_PGD = (*_BALL, "steps", "step_size", "restarts", "start")
_READ: dict[str, tuple[str, ...]] = {
    "clean": (),
    "fgsm": _BALL,
    "pgd": _PGD,
    "cw": _PGD,
    "apgd": _BALL,
    "autoattack": _BALL,
}


#: Packages that an attack runs in, beside torch.
PACKAGE: dict[str, tuple[str, ...]] = {"apgd": ("pyautoattack",), "autoattack": ("pyautoattack",)}


def reads(attack: str) -> tuple[str, ...]:
    """The parameters that the attack reads."""
    return _READ[attack]


class LadderAttack(Frozen):
    """One attack of the ladder with the parameters that it reads; None for the others."""

    name: AttackName
    norm: Literal["linf", "l2"] | None = None
    radius: float | None = None
    """Of the ball, in pixel units."""
    steps: int | None = None
    step_size: float | None = None
    """Length of a step in the norm, in pixel units."""
    restarts: int | None = None
    """Random starts; an image stays right if none of them breaks it."""
    start: Start | None = None
    """Where each begins, as in `trainers.attacks.pgd`."""

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


def check(attack: LadderAttack, num_classes: int, height: int, width: int) -> None:
    """The attack can be run here on a network of so many classes, on images of this size, pixels.

    Raises:
        UserError: it cannot: a package is missing, or classes are, or Square has no tiling of such images.
    """
    if attack.name in ("apgd", "autoattack"):
        if num_classes < autoattack.MINIMUM_CLASSES:
            raise UserError(
                f"--attack {attack.name}: its DLR loss needs at least {autoattack.MINIMUM_CLASSES} classes, and the "
                f"data have {num_classes}; choose of clean, fgsm, pgd, cw"
            )
        autoattack.check_installed(attack.name)
    if attack.name == "autoattack" and attack.norm == "l2" and not autoattack.tiles(height, width):
        raise UserError(
            f"--attack autoattack: pyautoattack's Square cannot tile images of {height} x {width} pixels in the l2 "
            "norm; choose apgd"
        )


def still_right(model: nn.Module, images: Tensor, labels: Tensor, attack: LadderAttack, seed: int) -> Tensor:
    """Which images the network classifies right, whatever the attack does to them.

    An image that is wrong already is not attacked. An image's result depends on the others of its batch through the
    random draws alone, and not at all for clean and fgsm.

    Args:
        model: its mode and its parameters are left as they are.
        images: (B, C, H, W) in [0, 1], fp32.
        labels: (B,).
        attack: of the ladder.
        seed: of the random draws, with the attack's name and the restart's number; apgd and autoattack have the
            same draws.

    Returns:
        (B,) bool.

    Raises:
        UserError: see `check`.
    """
    with attacking(model, "eval"), float32_products("fp32"):
        right = _right(model, images, labels)
        for restart in range(0 if attack.name == "clean" else attack.restarts or 1):
            left = right.nonzero().squeeze(1)
            if len(left):
                right[left] = _survivors(model, images[left], labels[left], attack, (seed, restart))
    return right


def _survivors(model: nn.Module, images: Tensor, labels: Tensor, attack: LadderAttack, key: tuple[int, int]) -> Tensor:
    """Which of these images (B, C, H, W), all right when clean, one run of the attack leaves right: (B,)."""
    if attack.name in ("apgd", "autoattack"):
        return autoattack.still_right(model, images, labels, attack, key[0])
    return _right(model, adversarial(model, images, labels, attack, key), labels)


def adversarial(model: nn.Module, images: Tensor, labels: Tensor, attack: LadderAttack, key: tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) at which fgsm, pgd or cw ends, in the ball and in [0, 1].

    Args:
        model: in eval mode.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        attack: fgsm, pgd or cw.
        key: of the random start, with the attack's name.
    """
    assert attack.norm is not None
    assert attack.radius is not None
    loss = (margin if attack.name == "cw" else cross_entropy)(model, images, labels)
    if attack.name == "fgsm":
        return fgsm(loss, images, radius=attack.radius, norm=attack.norm)
    assert attack.steps is not None
    assert attack.step_size is not None
    assert attack.start is not None
    return pgd(
        loss,
        images,
        radius=attack.radius,
        step_size=attack.step_size,
        steps=attack.steps,
        norm=attack.norm,
        start=attack.start,
        generator=generator(images.device, *key, attack.name),
    )


def margin(forward: Forward, images: Tensor, labels: Tensor) -> Loss:
    """max_{j != y} z_j - z_y, summed over the batch, as a function of the images [CW, f_6 without its floor]."""

    def loss(x: Tensor) -> Tensor:
        logits = forward(x)
        true = labels.unsqueeze(1)
        wrong = logits.scatter(1, true, -torch.inf).amax(dim=1)
        return (wrong - logits.gather(1, true).squeeze(1)).sum()

    return loss


@torch.no_grad()
def _right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    right: Tensor = model(images).argmax(dim=1) == labels
    return right
