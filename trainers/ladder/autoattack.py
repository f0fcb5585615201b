"""AutoAttack [Croce, Hein, ICML 2020] through the package pyautoattack, an optional one.

Four things the package leaves to its caller: with fewer than 10 classes its 9 targets do not exist, and it fails
unless told so; its `custom` version starts APGD-CE five times and the `standard` one once; it moves torch's
global generators, the trace function of the interpreter and, through FAB, the parameters' .grad; and it draws for all
images of a batch at once, so that what one gets depends on the others. Here each image has draws of its own. What the
package draws for all images together, the places and the colours of Square's windows, it draws from its seed, and so
the same for each batch; FAB-T draws nothing at one restart.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainers.errors import UserError
from trainers.randomness import ImageDraws
from trainers.seeds import stable_seed

if TYPE_CHECKING:
    from trainers.ladder.rungs import LadderAttack

#: The targeted DLR loss divides by a difference to the third and fourth largest logit.
MINIMUM_CLASSES = 4

#: Targets of APGD-T and of FAB-T [AutoAttack, Section 5], where there are so many wrong classes.
TARGETS = 9

#: What of the package an attack runs; None: its standard version.
PARTS = {"apgd": ["apgd-ce", "apgd-t"], "square": ["square"], "autoattack": None}


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
        seed: of the random draws, with the image; the same in both.

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
        version="custom" if PARTS[attack.name] else "standard",
        attacks=PARTS[attack.name],
        device=images.device,
    )
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    package.apgd.n_restarts = 1
    package.square.n_queries = attack.steps or package.square.n_queries
    package.apgd_targeted.n_target_classes = package.fab.n_target_classes = min(TARGETS, classes - 1)
    _start_by_image(package.apgd, seed, "apgd-ce")
    _start_by_image(package.apgd_targeted, seed, "apgd-t")
    _SquareByImage(package.square, seed)
    return package


def _start_by_image(apgd: Any, seed: int, part: str) -> None:
    """Lets each of APGD's runs, one a target, begin at points that the images draw for themselves."""
    run, numbers = apgd.attack_single_run, itertools.count()

    def run_by_image(images: Tensor, labels: Tensor) -> Any:
        # an image that is left has been in every run before, so that the number is the same in any batch
        draws, noise = ImageDraws(images, seed, part, next(numbers)), torch.empty_like(images)
        noise = draws.uniform_(noise, -1, 1) if apgd.norm == "Linf" else draws.normal_(noise)
        return run(images, labels, x_init=images + apgd.eps * apgd.normalize(noise))

    apgd.attack_single_run = run_by_image


class _SquareByImage:
    """Lets Square's images draw for themselves what it draws for each: the first stripes; in the l2 norm signs too."""

    #: Calls in the l2 norm, one a query, whose signs are drawn at once: one by one they took a sixth of a small
    #: network's time.
    CALLS = 64

    def __init__(self, square: Any, seed: int) -> None:
        self._seed, self._run = seed, square.attack_single_run
        self._signs, self._margin = square.random_choice, square.margin_and_loss
        square.attack_single_run, square.random_choice = self.run, self.signs
        self._at_once = 1
        if square.norm == "L2":
            square.margin_and_loss, self._at_once = self.margin, self.CALLS

    def run(self, images: Tensor, labels: Tensor) -> Any:
        self._draws, self._calls = ImageDraws(images, self._seed, "square"), 0
        self._images = len(images)
        self._left = torch.arange(len(images), device=images.device)
        return self._run(images, labels)

    def signs(self, shape: list[int]) -> Tensor:
        if len(shape) < 4:  # one window's colours, for all images
            signs: Tensor = self._signs(shape)
            return signs
        call = self._calls % self._at_once
        if call == 0:
            empty = torch.empty((self._images, self._at_once, *shape[1:]), device=self._left.device)
            self._drawn = self._draws.uniform_(empty, -1, 1).sign_()
        self._calls += 1
        return self._drawn[self._left, call]

    def margin(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The package's; it goes on with the images that are right by it, and asks signs for them alone."""
        margin, loss = self._margin(images, labels)
        self._left = self._left[margin > 0]
        return margin, loss


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
