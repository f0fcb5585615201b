"""PGD in the l_inf and the l_2 ball, FGSM its one-step case: where in the ball, slot 1 of the training step.

Source: [Madry] Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
Adversarial Attacks", ICLR 2018, Section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from trainers.config import Start
from trainers.randomness import ImageDraws, PartDraws

Loss: TypeAlias = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [0, 1] to the loss summed over the batch: ()."""

Step: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Images and their gradient, both (B, C, H, W), to the images after one step."""

Gradient: TypeAlias = Callable[[Loss, Tensor], Tensor]
"""A loss and images (B, C, H, W), which require a gradient, to the loss's gradient by them, without a graph."""

Draws: TypeAlias = torch.Generator | PartDraws | ImageDraws | None
"""Where random numbers come from: a generator, one for a batch of which this is a part, a stream an image, or torch's
global generator."""

NORMAL_START = 0.001  # pixel units


def gradient(loss: Loss, images: Tensor) -> Tensor:
    """The loss's gradient by the images, (B, C, H, W), which require one; without a graph."""
    return torch.autograd.grad(loss(images), images)[0]


@torch.no_grad()
def pgd(
    loss: Loss,
    images: Tensor,
    *,
    radius: float | Tensor,
    step_size: float | Tensor,
    steps: int,
    norm: Literal["linf", "l2"] = "linf",
    start: Start = "uniform",
    start_scale: float = 1.0,
    project: bool = True,
    going: Callable[[], Tensor] | None = None,
    generator: Draws = None,
    gradient: Gradient = gradient,
) -> Tensor:
    """Projected gradient ascent on the loss in a ball around each image.

        x <- project(x + step_size d),    d = sign(g) for linf, g / |g| for l2

    project: onto the ball around the clean image, then onto [0, 1], which never leaves the ball [Madry, 2.1].
    Only the gradient by the images is asked for: parameters may be frozen, and neither they, nor their .grad,
    nor the model's mode are touched. Nothing waits for the device, and no branch depends on the data.

    The surprise: the loss is summed over the batch, not averaged. Each image's step is the same, but a mean
    divides every gradient by the batch size, and those of well-classified images then underflow in fp16.

    Args:
        loss: the batch's summed loss as a function of the images. Image i must act on its own term only.
        images: (B, C, H, W) in [0, 1], fp32 or fp64; the steps are in that precision whatever the loss's is.
        radius: of the ball, in pixel units, >= 0; a tensor () on the images' device can be changed in place between
            the replays of a captured step.
        step_size: length of one step in the norm, in pixel units; likewise.
        steps: number of steps; 0 returns the clean images, wherever it would start: natural training.
        norm: of the ball and the steps.
        start: where it begins, clamped to [0, 1]. uniform: at a point uniform in the ball's volume, which in many
            dimensions lies near the sphere [foolbox, attacks/gradient_descent_base.py]; uniform_radius: in a uniform
            direction, at a distance uniform in [0, radius] [Rice et al., ICML 2020, train_cifar.py]; in the linf ball
            both are the point uniform in the cube. normal: at the image plus 0.001 times standard normal noise
            [Zhang et al., ICML 2019, code]; clean: at the image.
        start_scale: of a uniform start: the radius of the ball that it lies in, in radii.
        project: whether a step ends in the ball; else in [0, 1] alone, as N-FGSM's [de Jorge et al., NeurIPS 2022].
        going: asked once a step has its gradient: which images take it, (B, 1, 1, 1) bool; the others stay.
        generator: of a random start, on the images' device, or other draws; none: torch's global one.
        gradient: works out the loss's gradient.

    Returns:
        Adversarial images (B, C, H, W) in [0, 1], without a graph. At steps 0 they share the images' memory.

    Raises:
        ValueError: norm or start is not one of those.
    """
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm: must be one of linf, l2; got {norm!r}")
    if start not in get_args(Start):
        raise ValueError(f"start: must be one of {', '.join(get_args(Start))}; got {start!r}")
    assert images.dtype in (torch.float32, torch.float64), f"images must be fp32 or fp64, got {images.dtype}"
    images = adversarial = images.detach()
    if steps == 0:
        return images
    if start in ("uniform", "uniform_radius"):
        if norm == "linf":
            adversarial = _start_linf(images, radius * start_scale, generator)
        else:
            adversarial = _start_l2(images, radius * start_scale, generator, by_volume=start == "uniform")
    elif start == "normal":
        noise = _normal(torch.empty_like(images), generator)
        adversarial = torch.add(images, noise, alpha=NORMAL_START).clamp_(0, 1)
    step = _step(images, radius if project else math.inf, step_size, norm)
    for _ in range(steps):
        with torch.enable_grad():
            ascent = gradient(loss, adversarial.detach().requires_grad_())
        stepped = step(adversarial, ascent)
        adversarial = stepped if going is None else torch.where(going(), stepped, adversarial)
    return adversarial


class EarlyStop:
    """PGD-K-tau: an image stops once it was taken for another class in more than tau passes.

    Before each of the K steps the pass of its gradient says which class each image is taken for. One that is wrong may
    still step tau times; then it stays where it is. tau = K stops none. [FAT] Zhang et al., "Attacks Which Do Not Kill
    Training Make Adversarial Learning Stronger", ICML 2020, Algorithm 1; zjfheart/Friendly-Adversarial-Training,
    earlystop.py. There images that stopped leave the batch, which saves their passes, and in train mode changes batch
    norm's; here they stay in it, and a step costs as PGD's does.

    Args:
        labels: (B,).
        tau: steps that may follow; a tensor () can be changed in place between the replays of a captured step.
    """

    def __init__(self, labels: Tensor, tau: int | Tensor) -> None:
        self._labels, self._tau = labels, tau
        self._logits: Tensor | None = None
        self._misses = torch.zeros_like(labels)

    def watching(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """`forward`, of whose last pass of candidates the logits (B, classes) are looked at.

        Candidates are images that require a gradient: an inner loss may pass the clean ones too, or both at once, the
        candidates last.
        """

        def watched(images: Tensor) -> Tensor:
            logits = forward(images)
            if images.requires_grad:
                self._logits = logits.detach()[-len(self._labels) :]
            return logits

        return watched

    def __call__(self) -> Tensor:
        """Which images take the step that comes, (B, 1, 1, 1) bool."""
        assert self._logits is not None, "no pass was watched"
        self._misses += self._logits.argmax(dim=1) != self._labels
        return (self._misses <= self._tau).view(-1, 1, 1, 1)


def fgsm(loss: Loss, images: Tensor, *, radius: float, norm: Literal["linf", "l2"] = "linf") -> Tensor:
    """The fast gradient sign method: one step as long as the radius, from the clean image.

        x + radius sign(g) for linf, x + radius g / |g| for l2, clamped to [0, 1]

    Goodfellow, Shlens, Szegedy, ICLR 2015. Arguments and result as in `pgd`.
    """
    return pgd(loss, images, radius=radius, step_size=radius, steps=1, norm=norm, start="clean")


def one_step(
    images: Tensor,
    adversarial: Tensor,
    gradient: Tensor,
    *,
    radius: float | Tensor,
    step_size: float | Tensor,
    norm: Literal["linf", "l2"] = "linf",
) -> Tensor:
    """One of PGD's steps, from any place: `adversarial` along its `gradient`, in the ball around `images`.

    All three are (B, C, H, W); the others as in `pgd`.
    """
    return _step(images, radius, step_size, norm)(adversarial, gradient)


def _start_linf(images: Tensor, radius: float | Tensor, generator: Draws) -> Tensor:
    """Uniform in the cube of side 2 radius around each image, clamped."""
    delta = torch.empty_like(images)
    if isinstance(radius, Tensor):
        uniform_(delta, -1, 1, generator).mul_(radius)
    else:
        uniform_(delta, -radius, radius, generator)
    return delta.add_(images).clamp_(0, 1)


def _start_l2(images: Tensor, radius: float | Tensor, generator: Draws, *, by_volume: bool) -> Tensor:
    """A uniform direction, clamped, of length radius u^(1/d), which is uniform in the ball's volume; else radius u."""
    direction = _unit(_normal(torch.empty_like(images), generator))
    share = uniform_(images.new_empty((len(images), 1, 1, 1)), 0, 1, generator)
    length = radius * (share ** (1 / images.shape[1:].numel()) if by_volume else share)
    return direction.mul_(length).add_(images).clamp_(0, 1)


def uniform_(numbers: Tensor, low: float, high: float, draws: Draws) -> Tensor:
    """Fills (B, ...) with numbers uniform between low and high."""
    if isinstance(draws, ImageDraws | PartDraws):
        return draws.uniform_(numbers, low, high)
    return numbers.uniform_(low, high, generator=draws)


def _normal(numbers: Tensor, draws: Draws) -> Tensor:
    return draws.normal_(numbers) if isinstance(draws, ImageDraws | PartDraws) else numbers.normal_(generator=draws)


def _step(images: Tensor, radius: float | Tensor, step_size: float | Tensor, norm: Literal["linf", "l2"]) -> Step:
    return (_step_linf if norm == "linf" else _step_l2)(images, radius, step_size)


def _moved(images: Tensor, direction: Tensor, length: float | Tensor) -> Tensor:
    """images + length * direction; a length that is a tensor is not read back."""
    if isinstance(length, Tensor):
        return torch.addcmul(images, direction, length)
    return torch.add(images, direction, alpha=length)


def _step_linf(images: Tensor, radius: float | Tensor, step_size: float | Tensor) -> Step:
    lower = (images - radius).clamp_(min=0)
    upper = (images + radius).clamp_(max=1)

    def step(adversarial: Tensor, gradient: Tensor) -> Tensor:
        return _moved(adversarial, gradient.sign(), step_size).clamp_(lower, upper)

    return step


def _step_l2(images: Tensor, radius: float | Tensor, step_size: float | Tensor) -> Step:
    smallest = torch.finfo(images.dtype).tiny

    def step(adversarial: Tensor, gradient: Tensor) -> Tensor:
        delta = _moved(adversarial, _unit(gradient), step_size).sub_(images)
        length: Tensor = torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True)
        shrink = (radius / length.clamp_(min=smallest)).clamp_(max=1)
        return delta.mul_(shrink).add_(images).clamp_(0, 1)

    return step


def _unit(vectors: Tensor) -> Tensor:
    """Each image-shaped vector (B, C, H, W) over its l_2 norm; zero stays zero.

    The largest entry is divided out first, because the squares of entries under 1e-19 are 0 in fp32, and
    confident models have such gradients.
    """
    smallest = torch.finfo(vectors.dtype).tiny
    largest: Tensor = torch.linalg.vector_norm(vectors, ord=torch.inf, dim=(1, 2, 3), keepdim=True)
    scaled = vectors / largest.clamp_(min=smallest)
    return scaled.div_(torch.linalg.vector_norm(scaled, dim=(1, 2, 3), keepdim=True).clamp_(min=smallest))
