"""Can gradients be trusted to find what breaks a network? The field's checks for masked gradients.

A network may stay right because it is robust, or because the attack's gradients lead nowhere. Each check counts, of the
images that are right when clean, those that speak against honest gradients:

    steps        broken by PGD-20 and not by PGD-100: more steps should break no fewer                      [Carlini]
    single_step  broken by FGSM and not by PGD-20: one step should break no more than many              [Athalye, 3.1]
    black_box    broken by Square, which sees no gradient, and not by APGD, which does                  [Athalye, 3.1]
    restarts     broken by the second to fifth start of PGD-20 and not by the first: starts should hardly matter
                                                                                                         [Mosbach]
    unbounded    right at a radius at which any image is within reach, after PGD-100 from the clean image,
                 which only a gradient can lead away                                                    [Athalye, 3.1]
    ascent       not raised in loss by a step of a quarter of the radius along the gradient, above the clean image's
                 and a random step's of the same length                                                   [Pintor]

What these counts mean is said by `analysis.estimates.masking`.

Sources: [Athalye] Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018;
[Carlini] Carlini et al., "On evaluating adversarial robustness", arXiv:1902.06705, the checks of convergence and the
sanity tests; [Mosbach] Mosbach et al., "Logit pairing methods can fool gradient-based attacks", arXiv:1810.12042;
[Pintor] Pintor et al., "Indicators of attack failure", NeurIPS 2022, unavailable gradients. Step sizes are 2.5 radius
/ steps [Madry et al., ICLR 2018, Section 5].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.engine import float32_products
from trainers.ladder.rungs import CheckName, LadderAttack
from trainers.ladder.survivors import still_right
from trainers.ladder.trained import SEED, SplitName, Trained, batches
from trainers.method.attacks import fgsm, pgd
from trainers.method.batch_norm import attacking
from trainers.method.objectives import cross_entropy
from trainers.randomness import ImageDraws

#: Of Square; the standard one of AutoAttack has 5,000, most of which find nothing that the first did not.
QUERIES = 1000


@dataclass
class CheckCounts:
    """Of the images how many are right when clean, and of those what a check counts."""

    images: int = 0
    clean_correct: int = 0
    right_under: dict[str, int] = field(default_factory=dict)
    """Right under each of the check's attacks, by name."""
    against: int = 0
    """Speak against honest gradients."""
    in_favour: int = 0
    """Broken by the attack that should be the stronger one, and by it alone; of a check of one attack 0."""


class _Arms(NamedTuple):
    """What a check found of images that are all right when clean, (B,) bool each."""

    right_under: dict[str, Tensor]
    against: Tensor
    in_favour: Tensor


def count_check(
    network: Trained, check: CheckName, ball: LadderAttack, split: SplitName, first: int, images: int
) -> CheckCounts:
    """Runs a check on the images number `first` to `first + images - 1` of a split's `trained.order`.

    Args:
        network: from `trained.trained`.
        check: which.
        ball: whose norm and radius count.
        split: of its data.
        first: from 0.
        images: how many.

    Raises:
        UserError: see `survivors.check`.
    """
    counts = CheckCounts()
    for pixels, labels in batches(network, split, first, images):
        clean = still_right(network.model, pixels, labels, LadderAttack(name="clean"), SEED)
        counts.images += len(labels)
        counts.clean_correct += int(clean.sum())
        if clean.any():
            arms = _run(network.model, pixels[clean], labels[clean], check, ball)
            for name, bits in arms.right_under.items():
                counts.right_under[name] = counts.right_under.get(name, 0) + int(bits.sum())
            counts.against += int(arms.against.sum())
            counts.in_favour += int(arms.in_favour.sum())
    return counts


def _run(model: nn.Module, images: Tensor, labels: Tensor, check: CheckName, ball: LadderAttack) -> _Arms:
    right = partial(still_right, model, images, labels, seed=SEED)
    many = _pgd(ball, 20)
    if check == "steps":
        return _compared("PGD-20", right(many), "PGD-100", right(_pgd(ball, 100)))
    if check == "single_step":
        return _compared("FGSM", right(LadderAttack(name="fgsm", **_ball(ball))), "PGD-20", right(many))
    if check == "black_box":
        square = LadderAttack(name="square", steps=QUERIES, **_ball(ball))
        return _compared("Square", right(square), "APGD", right(LadderAttack(name="apgd", **_ball(ball))))
    if check == "restarts":
        one, five = right(many), right(many.model_copy(update={"restarts": 5}))
        return _Arms({"PGD-20": one, "PGD-20 x 5": five}, one & ~five, torch.zeros_like(one))
    if check == "unbounded":
        whole = 1.0 if ball.norm == "linf" else math.sqrt(images[0].numel())
        left = right(_pgd(ball.model_copy(update={"radius": whole}), 100).model_copy(update={"start": "clean"}))
        return _Arms({f"radius {whole:.4g}": left}, left, torch.zeros_like(left))
    flat = ~_raised(model, images, labels, ball)
    return _Arms({"not raised": flat}, flat, torch.zeros_like(flat))


def _compared(weaker: str, under_weaker: Tensor, stronger: str, under_stronger: Tensor) -> _Arms:
    arms = {weaker: under_weaker, stronger: under_stronger}
    return _Arms(arms, under_stronger & ~under_weaker, under_weaker & ~under_stronger)


def _ball(ball: LadderAttack) -> dict[str, object]:
    return {"norm": ball.norm, "radius": ball.radius}


def _pgd(ball: LadderAttack, steps: int) -> LadderAttack:
    assert ball.radius is not None
    start = "uniform" if ball.norm == "linf" else "uniform_radius"
    step_size = 2.5 * ball.radius / steps
    return LadderAttack(name="pgd", **_ball(ball), steps=steps, step_size=step_size, restarts=1, start=start)


@torch.no_grad()
def _raised(model: nn.Module, images: Tensor, labels: Tensor, ball: LadderAttack) -> Tensor:
    """Whether a step along the gradient raises an image's loss above those of the image and of a random step: (B,)."""
    assert ball.radius is not None
    assert ball.norm is not None
    length = ball.radius / 4
    noise = ImageDraws(images, SEED, "ascent").normal_(torch.empty_like(images))
    with attacking(model, "eval"), float32_products("fp32"):
        along = fgsm(cross_entropy(model, images, labels), images, radius=length, norm=ball.norm)
        # a step of the attack's own, along the noise in place of the gradient
        aside = pgd(lambda x: (x * noise).sum(), images, radius=length, step_size=length, steps=1, norm=ball.norm,
                    start="clean")  # fmt: skip
        losses = [F.cross_entropy(model(x), labels, reduction="none") for x in (images, aside, along)]
    return losses[2] > torch.maximum(losses[0], losses[1])
