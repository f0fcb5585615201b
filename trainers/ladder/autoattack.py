"""AutoAttack [Croce, Hein, ICML 2020] through the package pyautoattack, an optional one.

Three things the package leaves to its caller: with fewer than 10 classes its 9 targets do not exist, and it fails
unless told so; its `custom` version starts APGD-CE five times and the `standard` one once; and it moves torch's
global generators, the trace function of the interpreter and, through FAB, the parameters' .grad.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainers.errors import UserError
from trainers.randomness import stable_seed

if TYPE_CHECKING:
    from trainers.ladder.rungs import LadderAttack

#: The targeted DLR loss divides by a difference to the third and fourth largest logit.
MINIMUM_CLASSES = 4

#: Targets of APGD-T and of FAB-T [AutoAttack, Section 5], where there are so many wrong classes.
TARGETS = 9


def check_installed(attack: str) -> None:
    """The package is there.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("pyautoattack") is None:
        raise UserError(
            f"--attack {attack}: needs pyautoattack, which is not installed; pip install pyautoattack, "
            "or choose of clean, fgsm, pgd, cw"
        )


def tiles(height: int, width: int) -> bool:
    """Whether the package's Square attack in the l2 norm, whose first noise is tiled, takes images of this size."""
    side = height // 5
    if side == 0:
        return False
    first, tiled = (height - side * 5) // 2, side * (height // side)
    return side == 1 or (first + tiled <= height and first + side * (width // side) <= width)


def adversarial(
    model: nn.Module, images: Tensor, labels: Tensor, attack: LadderAttack, seed: int
) -> tuple[Tensor, Tensor]:
    """Adversarial images (B, C, H, W), those that nothing broke as they came, and their predicted classes (B,).

    What is right is said by these classes, the package's own count. The images are not classified once more: FAB's lie
    so close to the boundary that a batch of another size, whose sums are rounded differently, may find them on its
    other side.

    Args:
        model: in eval mode, its parameters frozen.
        images, labels: at least one.
        attack: apgd or autoattack.
        seed: of the random draws, the same in both.

    Raises:
        UserError: the package is not installed.
    """
    check_installed(attack.name)
    with _undisturbed(images.device):
        package = _package(model, images, attack, seed)
        images_and_labels: tuple[Tensor, Tensor] = package.run_standard_evaluation(
            images.contiguous(), labels, batch_size=len(labels)
        )
    return images_and_labels


def _package(model: nn.Module, images: Tensor, attack: LadderAttack, seed: int) -> Any:
    from pyautoattack import AutoAttack

    package = AutoAttack(
        model,
        norm={"linf": "Linf", "l2": "L2"}[attack.norm or "linf"],
        eps=attack.radius,
        seed=stable_seed(seed, "autoattack"),
        version="custom" if attack.name == "apgd" else "standard",
        attacks=["apgd-ce", "apgd-t"] if attack.name == "apgd" else None,
        device=images.device,
    )
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    package.apgd.n_restarts = 1
    package.apgd_targeted.n_target_classes = package.fab.n_target_classes = min(TARGETS, classes - 1)
    return package


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Global generators, trace function and log as they were before."""
    logger, trace = logging.getLogger("auto-attack"), sys.gettrace()
    disabled, logger.disabled = logger.disabled, True
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        logger.disabled = disabled
        sys.settrace(trace)
