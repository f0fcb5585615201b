"""Classifiers of the package timm, without pretrained weights: nothing is ever fetched.

A network is what `timm.create_model` gives for so many channels and classes, and for images of that size where it takes
`img_size`: windows, positions and attention follow the images then. Nothing of a stem is adapted, unlike torchvision's
here: patches and strides stay those published for large images, so that of 32 x 32 pixels a patch of 16 leaves four
tokens. Images that are no whole number of patches are padded with zeros, right and below. Weights are drawn as timm
draws them.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from trainers.errors import UserError
from trainers.models.meta import EmptyOnMeta
from trainers.models.vit import Pad

_CLASSES = 10  # that a network is tried with


def check_name(name: str) -> None:
    """timm is installed, and has a network `name`.

    Raises:
        UserError: it is not, or has none.
    """
    if importlib.util.find_spec("timm") is None:
        raise UserError(
            f"model.name: timm:{name} needs the package timm, which is not installed; pip install timm, "
            "or take one of torchvision's: torchvision:NAME"
        )
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        way_out = f"did you mean {near[0]!r}?" if near else "timm.list_models() has the names"
        raise UserError(f"model.name: timm has no network {name!r}; {way_out}")


def build(name: str, channels: int, num_classes: int, height: int, width: int) -> nn.Module:
    """timm's `name` for images of `height` x `width` pixels."""
    network = _created(name, channels, num_classes, (height, width))
    rows, columns = (_whole(size, patch) for size, patch in zip((height, width), _patch(network), strict=True))
    if (rows, columns) == (height, width):
        return network
    return nn.Sequential(Pad(rows, columns), _created(name, channels, num_classes, (rows, columns)))


def _created(name: str, channels: int, num_classes: int, size: tuple[int, int]) -> nn.Module:
    import timm

    create = functools.partial(timm.create_model, name, pretrained=False, in_chans=channels, num_classes=num_classes)
    try:
        network: nn.Module = create(img_size=size)
    except TypeError:  # it takes images of any size, and no such argument
        network = create()
    return network


def _patch(network: nn.Module) -> tuple[int, int]:
    """Height and width of the patches that the images are cut into; 1 where they are not, or timm does not say."""
    size: Any = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if isinstance(size, int):
        return size, size
    return size if isinstance(size, tuple) and len(size) == 2 else (1, 1)


def _whole(size: int, patch: int) -> int:
    """The next whole number of patches, pixels."""
    return math.ceil(size / patch) * patch


@functools.cache
def refusal(name: str, height: int, width: int, batch: int) -> str:
    """Why the network, in train mode, takes no batch of `batch` such images, tried without data or weights; empty: it
    does."""
    shape = batch, 3, height, width
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that a size leaves empty: they raise in the pass
        try:
            with EmptyOnMeta():
                network = build(name, 3, _CLASSES, height, width).to("meta").train()
            logits = network(torch.empty(shape, device="meta"))
        except Exception as error:  # timm has none of its own for a size that a network does not take
            return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    is_classifier = isinstance(logits, Tensor) and logits.shape == (batch, _CLASSES)
    return "" if is_classifier else "it gives no logits, one a class"
