"""Augmentation policies: torchvision's, drawn for each image by itself, done at once to all images that drew the same.

A policy of torchvision's v2 draws one transform for all that it is given: a batch would be turned as one, where the
papers turn each image by itself; and given image by image, a GPU would wait for its launches. So what each image gets
is drawn here, as torchvision draws it, and each operation is torchvision's own, done to its images together. The draws
are made on the CPU, which must know the groups, and so are the same for a GPU.

    autoaugment     one of 25 pairs of operations, each done or not             [Cubuk et al., CVPR 2019]
    randaugment     2 of 14 operations, at magnitude 9 of 30                    [Cubuk et al., NeurIPS 2020]
    trivialaugment  1 of 14 operations, at any of 31 magnitudes                 [Mueller, Hutter, ICCV 2021]
    augmix          the image and 3 chains of 1 to 3 operations, mixed by Dirichlet(1, 1, 1) and Beta(1, 1)
                                                                                [Hendrycks et al., ICLR 2020]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from trainers.randomness import generator

Policy = Literal["autoaugment", "randaugment", "trivialaugment", "augmix"]
Space: TypeAlias = "dict[str, tuple[Callable[[int, int, int], Tensor | None], bool]]"
"""Of each operation: its magnitudes, given how many, height and width; and whether either sign is drawn."""

_CHAINS, _DEPTH = 3, 3  # of AugMix


class Operation(NamedTuple):
    """One of torchvision's names, and how strong."""

    name: str
    magnitude: float


class Draws(NamedTuple):
    """What images get.

    Attributes:
        steps: (steps, N) int64 on the CPU, places in `operations`; -1: nothing.
        operations: that occur.
        shares: (1 + chains, N) float32 on the CPU: AugMix's weights of the image and of each chain; none: one chain.
    """

    steps: Tensor
    operations: tuple[Operation, ...]
    shares: Tensor | None = None

    def part(self, images: slice | list[int]) -> Draws:
        """Of these images alone."""
        return Draws(self.steps[:, images], self.operations, None if self.shares is None else self.shares[:, images])


def drawn(policy: Policy, data: str, count: int, size: tuple[int, int], seed: int, epoch: int) -> Draws:
    """What each of an epoch's images gets.

    Args:
        policy: its name.
        data: `data.name`, by which AutoAugment chooses between its three policies.
        count: of the images, N.
        size: their height and width, pixels.
        seed, epoch: of the trial.
    """
    source = generator("cpu", seed, epoch, "policy")
    if policy == "autoaugment":
        return _autoaugment(data, count, size, source)
    transform = _transform(policy)
    if policy == "randaugment":
        bins, most = range(transform.magnitude, transform.magnitude + 1), transform.num_magnitude_bins
        steps = transform.num_ops
    elif policy == "trivialaugment":
        most = transform.num_magnitude_bins
        bins, steps = range(most), 1
    else:
        bins, most, steps = range(transform.severity), transform._PARAMETER_MAX, _CHAINS * _DEPTH
    table = _Table(transform._AUGMENTATION_SPACE, bins, most, size)
    codes = table.drawn((steps, count), source)
    if policy != "augmix":
        return Draws(codes, table.operations)
    deep = torch.randint(1, _DEPTH + 1, (_CHAINS, 1, count), generator=source)
    codes = codes.view(_CHAINS, _DEPTH, count).where(torch.arange(_DEPTH)[:, None] < deep, -1).flatten(0, 1)
    return Draws(codes, table.operations, _shares(count, source))


def _shares(count: int, source: torch.Generator) -> Tensor:
    """(1 + chains, N): Beta(1, 1) between image and chains; among these Dirichlet(1, 1, 1): normalised exponentials."""
    chains = torch.empty(_CHAINS, count).exponential_(generator=source)
    own = torch.rand((1, count), generator=source)
    return torch.cat([own, (1 - own) * chains / chains.sum(dim=0)])


class _Table:
    """The operations of a space at some of its magnitudes, either sign of one that has it, one after another."""

    def __init__(self, space: Space, bins: range, most: int, size: tuple[int, int]) -> None:
        operations: list[Operation] = []
        starts, choices, signs = [], [], []
        for name, (magnitudes, signed) in space.items():
            values = magnitudes(most, *size)
            strengths = [0.0] if values is None else [float(values[each]) for each in bins]
            starts.append(len(operations))
            choices.append(len(strengths))
            signs.append(1 + signed)
            operations += [Operation(name, sign * one) for one in strengths for sign in ((1, -1) if signed else (1,))]
        self.operations = tuple(operations)
        self._starts, self._choices, self._signs = (torch.tensor(each) for each in (starts, choices, signs))
        self._bins = len(bins)

    def drawn(self, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
        """Places in the table: an operation, a magnitude and a sign, each evenly."""
        which = torch.randint(len(self._starts), shape, generator=source)
        strength = torch.randint(self._bins, shape, generator=source)
        sign = torch.randint(2, shape, generator=source)
        strength, signs = strength.minimum(self._choices[which] - 1), self._signs[which]
        return self._starts[which] + strength * signs + sign.minimum(signs - 1)


def _autoaugment(data: str, count: int, size: tuple[int, int], source: torch.Generator) -> Draws:
    transform = _transform("autoaugment", data)
    operations: dict[Operation, int] = {}
    pairs = transform._policies
    codes = torch.full((len(pairs), 2, 2), -1)  # by policy, step and sign
    chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])
    for number, pair in enumerate(pairs):
        for step, (name, _, level) in enumerate(pair):
            magnitudes, signed = transform._AUGMENTATION_SPACE[name]
            value = 0.0 if level is None else float(magnitudes(10, *size)[level])
            for sign in (0, 1):
                one = Operation(name, -value if signed and sign else value)
                codes[number, step, sign] = operations.setdefault(one, len(operations))
    which = torch.randint(len(pairs), (count,), generator=source)
    signs = torch.randint(2, (2, count), generator=source)
    done = torch.rand((2, count), generator=source) <= chances[which].T
    steps = torch.stack([codes[which, step, signs[step]] for step in (0, 1)])
    return Draws(steps.where(done, -1), tuple(operations))


def _transform(policy: Policy, data: str = "") -> Any:
    """Torchvision's, with its own settings."""
    from torchvision.transforms import v2  # takes a second, which only trials with a policy wait for

    if policy == "autoaugment":
        choices = v2.AutoAugmentPolicy
        found_on = dict.fromkeys(("cifar10", "cifar100"), choices.CIFAR10) | dict.fromkeys(
            ("svhn", "digits"), choices.SVHN
        )
        return v2.AutoAugment(found_on.get(data, choices.IMAGENET))
    return {"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide, "augmix": v2.AugMix}[policy]()


def augmented(images: Tensor, draws: Draws, policy: Policy) -> Tensor:
    """The images, each with what it drew.

    Args:
        images: (N, C, H, W) uint8, C 1 or 3; not changed.
        draws: of these images.
        policy: that drew.

    Returns:
        (N, C, H, W) uint8.
    """
    transform = _transform(policy)
    if draws.shares is None:
        return _chain(images, draws.steps, draws.operations, transform)
    chains = (_chain(images, steps, draws.operations, transform) for steps in torch.split(draws.steps, _DEPTH))
    shares = draws.shares.to(images.device)[:, :, None, None, None]
    whole = images * shares[0]
    for share, chain in zip(shares[1:], chains, strict=True):
        whole += share * chain
    return whole.to(torch.uint8)  # cut off, as torchvision does


def _chain(images: Tensor, steps: Tensor, operations: tuple[Operation, ...], transform: Any) -> Tensor:
    images = images.clone()
    for codes in steps:
        order = codes.argsort()
        sizes = torch.bincount(codes + 1, minlength=len(operations) + 1).tolist()
        groups = torch.split(order.to(images.device), sizes)[1:]
        for operation, group in zip(operations, groups, strict=True):
            if len(group) > 0:
                images[group] = _done(images[group], operation, transform)
    return images


def _done(images: Tensor, operation: Operation, transform: Any) -> Tensor:
    made: Tensor = transform._apply_image_or_video_transform(
        images, *operation, interpolation=transform.interpolation, fill=transform._fill
    )
    return made
