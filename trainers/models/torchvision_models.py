"""Classifiers of torchvision.models, without pretrained weights, their stems adapted to small images.

The published stems shrink a 224 x 224 image by 2 to 4 before the first block; of a 32 x 32 image this would leave
little. So for images under 64 pixels the first convolution, where it strides, becomes 3 x 3 of stride 1 and the
max-pool behind it goes, as is usual on CIFAR (He et al., CVPR 2016, Section 4.2); patches of swin and convnext are
such strides, those of vit become 4 times smaller. All else is torchvision's: dropout, stochastic depth, the momentum
of batch norm (of mnasnet 0.0003, so that eval mode lags thousands of steps), the final ReLU of squeezenet.

Weights are drawn as torchvision draws them; a first convolution of another shape is normal, scaled so that its
outputs vary as those of the one it replaces.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torchvision import models

from trainers.errors import UserError, suggestion
from trainers.models.meta import EmptyOnMeta
from trainers.models.vit import Pad

#: Images whose shorter side is below this, pixels, get the small stem; inception_v3 takes fewer than 75 with no other.
SMALL_BELOW = 64
SMALL_BELOW_OF = {"inception_v3": 75}

#: Side of the images for which these networks were published, pixels.
PUBLISHED_SIZE = 224

#: Without auxiliary classifiers, whose logits no objective here reads; drawn as published.
_SINGLE_OUTPUT = {"aux_logits": False, "init_weights": True}
ARGUMENTS: Mapping[str, Mapping[str, bool]] = {"googlenet": _SINGLE_OUTPUT, "inception_v3": _SINGLE_OUTPUT}


def check_name(name: str, height: int, width: int) -> None:
    """torchvision has a classifier `name`, and it is not one of those that take no other size than theirs.

    Raises:
        UserError: it has none, or images of `height` x `width` pixels are not what it takes.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"model.name: torchvision has no classifier {name!r}; {suggestion(name, known)}")
    if name.startswith("maxvit") and (height != width or height % PUBLISHED_SIZE):
        raise UserError(
            f"model.name: torchvision:{name} cuts its features into whole windows of 7 x 7, so it needs square images "
            f"with a multiple of {PUBLISHED_SIZE} pixels a side, got {height} x {width}; use torchvision:swin_t"
        )


def build(name: str, channels: int, num_classes: int, height: int, width: int) -> nn.Module:
    """torchvision's `name` for images of `height` x `width` pixels; see the module's text for what is adapted."""
    if name.startswith("vit_"):
        return _vit(name, channels, num_classes, height, width)
    arguments: dict[str, Any] = {"num_classes": num_classes, **ARGUMENTS.get(name, {})}
    if name.startswith("maxvit"):
        arguments["input_size"] = (height, width)
    network: nn.Module = models.get_model(name, weights=None, **arguments)
    _adapt_stem(network, channels, small=_is_small(name, height, width))
    return network


def _is_small(name: str, height: int, width: int) -> bool:
    return min(height, width) < SMALL_BELOW_OF.get(name, SMALL_BELOW)


def _adapt_stem(network: nn.Module, channels: int, *, small: bool) -> None:
    path, stem = _layers(network, nn.Conv2d)[0]
    if small and max(stem.stride) > 1:
        network.set_submodule(path, _like(stem, channels, kernel_size=3, stride=1, padding=1))
        for pool, _ in _layers(network, nn.MaxPool2d)[:1]:  # where there are any, the first is the stem's
            network.set_submodule(pool, nn.Identity())
    elif channels != stem.in_channels:
        shape = {"kernel_size": stem.kernel_size, "stride": stem.stride, "padding": stem.padding}
        network.set_submodule(path, _like(stem, channels, **shape))


def _layers(network: nn.Module, kind: type[nn.Module]) -> list[tuple[str, Any]]:
    """The network's layers of a kind, each with its path, in the order of their definition."""
    return [(path, layer) for path, layer in network.named_modules() if isinstance(layer, kind)]


def _like(old: nn.Conv2d, channels: int, **shape: Any) -> nn.Conv2d:
    """A convolution of another shape whose outputs vary as the old one's: fan-in times variance is kept."""
    new = nn.Conv2d(channels, old.out_channels, **shape, bias=old.bias is not None)
    with torch.no_grad():
        ratio = math.sqrt(old.weight[0].numel() / new.weight[0].numel())
        new.weight.copy_(torch.randn_like(new.weight) * old.weight.std() * ratio)
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    return new


def _vit(name: str, channels: int, num_classes: int, height: int, width: int) -> nn.Module:
    """torchvision's accepts one square of whole patches, so the images are padded to the next."""
    published = int(name.rpartition("_")[2])
    patch = published // 4 if _is_small(name, height, width) else published
    rows = math.ceil(max(height, width) / patch)
    # its number of positions follows from image_size, in its own patches
    network = models.get_model(name, weights=None, num_classes=num_classes, image_size=rows * published)
    network.conv_proj = _like(network.conv_proj, channels, kernel_size=patch, stride=patch)
    network.patch_size, network.image_size = patch, rows * patch
    return nn.Sequential(Pad(rows * patch, rows * patch), network)


@functools.cache
def takes(name: str, height: int, width: int, batch: int) -> bool:
    """Whether the network, in train mode, takes a batch of `batch` such images: tried without data or weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            with EmptyOnMeta():
                network = build(name, 3, 10, height, width).to("meta")
            network(torch.empty(batch, 3, height, width, device="meta"))
        except (RuntimeError, ValueError):  # an empty feature map; too few values for batch norm
            return False
    return True


def minimum_size(name: str) -> int:
    """The side, pixels, of the smallest square images that the network takes."""
    sides = range(1, PUBLISHED_SIZE + 1)
    return sides[bisect.bisect_left(sides, True, key=lambda side: takes(name, side, side, 2))]
