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

What is guaranteed: an image's result depends on the image, the attack and the seed alone, but for the rounding of sums
in batches of another size (`still_right`); nothing is right under an attack that is not right clean; more restarts of
pgd or cw break all that fewer do; and autoattack breaks, image by image, all that apgd breaks with the same seed,
because it begins with the same two attacks from the same starts. autoattack against pgd is stronger by experience, not
by construction.

Sources: [FGSM] Goodfellow, Shlens, Szegedy, ICLR 2015; [Madry] Madry et al., ICLR 2018; [CW] Carlini, Wagner, IEEE
S&P 2017, Section V; [AutoAttack] Croce, Hein, ICML 2020.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainers.engine import float32_products
from trainers.errors import UserError
from trainers.ladder import autoattack
from trainers.ladder.rungs import LadderAttack
from trainers.method.attacks import Loss, fgsm, pgd
from trainers.method.batch_norm import attacking
from trainers.method.objectives import Forward, cross_entropy
from trainers.randomness import ImageDraws


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

    An image that is wrong already is not attacked. An image's result does not depend on the others of its batch, in
    whatever order and however many they are: its draws are its own (`trainers.randomness.ImageDraws`). What is left is
    rounding: a network's sums may be rounded otherwise in a batch of another size, as torch chooses its kernels by it.

    Args:
        model: its mode and its parameters are left as they are.
        images: (B, C, H, W) in [0, 1], fp32.
        labels: (B,).
        attack: of the ladder.
        seed: of the random draws, with the attack's name, the restart's number and the image's pixels; apgd and
            autoattack have the same draws.

    Returns:
        (B,) bool.

    Raises:
        UserError: see `check`.
    """
    return ends(model, images, labels, attack, seed).right


class Ends(NamedTuple):
    """Where an attack on some images ended."""

    right: Tensor
    """Which of them the network classifies right whatever the attack does, (B,) bool."""
    margins: Tensor
    """z_y - max_{j != y} z_j where the attack ended, (B,): the smallest over its restarts; of an image that is wrong
    already, as it is; so too of one that apgd or autoattack does not break, as the package gives it back as it came. At
    images of FAB, which lie on the boundary, its sign may be another than `right` says."""


def ends(model: nn.Module, images: Tensor, labels: Tensor, attack: LadderAttack, seed: int) -> Ends:
    """`still_right`, with the margins; arguments and errors are the same."""
    with attacking(model, "eval"), float32_products("fp32"):
        right, margins = _seen(model, images, labels)
        for restart in range(0 if attack.name == "clean" else attack.restarts or 1):
            left = right.nonzero().squeeze(1)
            if len(left):
                end = _ends(model, images[left], labels[left], attack, (seed, restart))
                right[left] = end.right
                margins[left] = torch.minimum(margins[left], end.margins) if restart else end.margins
    return Ends(right, margins)


def _ends(model: nn.Module, images: Tensor, labels: Tensor, attack: LadderAttack, key: tuple[int, int]) -> Ends:
    """Where one run of the attack ends on these images (B, C, H, W), all right when clean."""
    if attack.name in autoattack.PARTS:
        found, predicted = autoattack.adversarial(model, images, labels, attack, key[0])
        return _seen(model, found, labels)._replace(right=predicted == labels)
    return _seen(model, adversarial(model, images, labels, attack, key), labels)


def adversarial(model: nn.Module, images: Tensor, labels: Tensor, attack: LadderAttack, key: tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) at which fgsm, pgd or cw ends, in the ball and in [0, 1].

    Args:
        model: in eval mode.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        attack: fgsm, pgd or cw.
        key: of the random starts, with the attack's name and each image's pixels.
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
        generator=ImageDraws(images, *key, attack.name),
    )


def margin(forward: Forward, images: Tensor, labels: Tensor) -> Loss:
    """max_{j != y} z_j - z_y, summed over the batch, as a function of the images [CW, f_6 without its floor]."""

    def loss(x: Tensor) -> Tensor:
        return _wrong_by(forward(x), labels).sum()

    return loss


def _wrong_by(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y of each image: (B, classes) and (B,) to (B,)."""
    true = labels.unsqueeze(1)
    wrong = logits.scatter(1, true, -torch.inf).amax(dim=1)
    return wrong - logits.gather(1, true).squeeze(1)


@torch.no_grad()
def _seen(model: nn.Module, images: Tensor, labels: Tensor) -> Ends:
    logits = model(images)
    return Ends(logits.argmax(dim=1) == labels, -_wrong_by(logits, labels))
