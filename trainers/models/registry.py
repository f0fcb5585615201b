"""A network by its name, with seeded weights and its own normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainers import process
from trainers.config import ModelConfig, TrialConfig
from trainers.data.sets import Data
from trainers.errors import UserError
from trainers.models import preact_resnet, resnet, senet, small_cnn, vgg, vit, wide_resnet
from trainers.models.activations import ACTIVATIONS
from trainers.randomness import stable_seed

TORCHVISION, TIMM = "torchvision:", "timm:"

#: A network from (channels, num_classes, height, width).
Builder = Callable[[int, int, int, int], nn.Module]


class Network(NamedTuple):
    """What there is to know of a network before it is built."""

    build: Callable[..., nn.Module]
    """A `Builder`, which takes the keyword `activation` too where the config offers a choice of it."""
    minimum_size: int
    """The smallest height and width of images, pixels."""
    one_position_size: int
    """Images of at most this height and width, pixels, are 1 x 1 before one of its batch norms; 0: none are."""


def _any_size(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The builder of a network whose weights do not depend on the size of the images."""
    return lambda channels, num_classes, height, width, **chosen: build(channels, num_classes, **chosen)


def _wide_resnet(depth: int) -> Network:
    build = _any_size(partial(wide_resnet.WideResNet, depth=depth, width=10))
    return Network(build, wide_resnet.MINIMUM_SIZE, wide_resnet.MINIMUM_SIZE)


def _vgg(depth: int) -> Network:
    return Network(_any_size(partial(vgg.VGG, depth=depth)), vgg.MINIMUM_SIZE, vgg.ONE_POSITION_SIZE)


#: By the name in the config. Of those with one minimum, the first is what `check_size` recommends.
NETWORKS = {
    "small_cnn": Network(small_cnn.SmallCNN, small_cnn.MINIMUM_SIZE, 0),
    "preact_resnet18": Network(
        _any_size(preact_resnet.PreActResNet18), preact_resnet.MINIMUM_SIZE, preact_resnet.MINIMUM_SIZE
    ),
    "resnet18": Network(_any_size(resnet.ResNet18), resnet.MINIMUM_SIZE, resnet.MINIMUM_SIZE),
    "senet18": Network(_any_size(senet.SENet18), senet.MINIMUM_SIZE, senet.MINIMUM_SIZE),
    "vgg16": _vgg(16),
    "vgg19": _vgg(19),
    "wide_resnet28_10": _wide_resnet(28),
    "wide_resnet34_10": _wide_resnet(34),
    "vit_small": Network(vit.ViTSmall, vit.MINIMUM_SIZE, 0),
}


class Normalize(nn.Module):
    """(images - mean) / std by channel: inside the model, so that attacks act on pixels in [0, 1]."""

    mean: Tensor
    std: Tensor
    _scale: Tensor
    _shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        exact_mean, exact_std = (torch.tensor(moment, dtype=torch.float64).view(-1, 1, 1) for moment in (mean, std))
        self.register_buffer("mean", exact_mean.float())
        self.register_buffer("std", exact_std.float())
        # as one operation, in both directions; kept files hold the moments alone
        self.register_buffer("_scale", (1 / exact_std).float(), persistent=False)
        self.register_buffer("_shift", (-exact_mean / exact_std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to the same shape, mean 0 and standard deviation 1 over the data set."""
        return torch.addcmul(self._shift, images, self._scale)


def build(
    config: ModelConfig,
    *,
    num_classes: int,
    channels: int,
    image_size: int | tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
) -> nn.Module:
    """The network on the CPU, its weights drawn from (seed, "initialisation"); no global generator moves.

    Args:
        image_size: height and width, or both in one number; pixels.
        mean, std: (channels,) in [0, 1] units; of the data; read only if `config.normalize` with its own moments.

    Raises:
        UserError: as `check_size`.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    with process.alone, torch.random.fork_rng(devices=[]), torch.device("cpu"):
        check_size(config.name, height, width)
        # torch.manual_seed would reseed the GPUs as well, which fork_rng does not undo here
        torch.default_generator.manual_seed(stable_seed(seed, "initialisation"))
        bare = _builder(config)(channels, num_classes, height, width)
        if not config.normalize:
            return bare
        half = (0.5,) * channels
        return nn.Sequential(Normalize(half, half) if config.moments == "half" else Normalize(mean, std), bare)


def network(config: TrialConfig, data: Data) -> nn.Module:
    """The network of a trial for its data; see `build`."""
    return build(config.model, **arguments(data), seed=config.seed)


def arguments(data: Data) -> dict[str, Any]:
    """What `build` has to know of the data."""
    names = ("num_classes", "channels", "image_size", "mean", "std")
    return {name: getattr(data, name) for name in names}


def _builder(config: ModelConfig) -> Builder:
    if config.name in NETWORKS:
        build = NETWORKS[config.name].build
        return build if config.activation is None else partial(build, activation=ACTIVATIONS[config.activation])
    # their imports take seconds, which no other network needs
    if config.name.startswith(TIMM):
        from trainers.models import timm_models

        return partial(timm_models.build, config.name.removeprefix(TIMM))
    from trainers.models import torchvision_models

    return partial(torchvision_models.build, config.name.removeprefix(TORCHVISION))


def check_size(name: str, height: int, width: int) -> None:
    """There is a network `name`, and images of `height` x `width` pixels are large enough for it.

    Raises:
        UserError: they are not, or torchvision or timm has no such network.
    """
    what = ""
    if name.startswith(TIMM):
        from trainers.models import timm_models

        timm_models.check_name(name.removeprefix(TIMM))
        if refusal := timm_models.refusal(name.removeprefix(TIMM), height, width, 2):
            what = f"takes no images of {height} x {width} pixels: {refusal}"
    elif minimum := _violated_minimum(name, height, width):
        what = f"needs images of at least {minimum} x {minimum} pixels, got {height} x {width}"
    if what:
        raise UserError(f"model.name: {name} {what}{_fitting(min(height, width))}")


def _fitting(size: int) -> str:
    """The way out for images that a network does not take; empty where there is none."""
    fitting = {other: network.minimum_size for other, network in NETWORKS.items() if size >= network.minimum_size}
    return f"; use {max(fitting, key=fitting.__getitem__)}" if fitting else ""


def _violated_minimum(name: str, height: int, width: int) -> int | None:
    """The smallest height and width that the network takes, if these are smaller."""
    if name in NETWORKS:
        minimum = NETWORKS[name].minimum_size
        return minimum if min(height, width) < minimum else None
    from trainers.models import torchvision_models

    published = name.removeprefix(TORCHVISION)
    torchvision_models.check_name(published, height, width)
    fits = torchvision_models.takes(published, height, width, 2)
    return None if fits else torchvision_models.minimum_size(published)


def check_batches(name: str, height: int, width: int, train_images: int, batch_size: int) -> None:
    """Every batch of an epoch gives each batch norm of the network at least two values a channel.

    Raises:
        UserError: the last batch has one image, of which one position is left: it has no variance.
    """
    single = (train_images - 1) % batch_size == 0
    if single and not _takes_one(name, height, width):
        raise UserError(
            f"batch_size: the last of an epoch's batches has 1 image ({train_images} training images, batch_size "
            f"{batch_size}), and batch norm in {name} needs 2 where images have {height} x {width} pixels; "
            "take another batch_size, or more or fewer training images"
        )


def _takes_one(name: str, height: int, width: int) -> bool:
    if name in NETWORKS:
        return max(height, width) > NETWORKS[name].one_position_size
    if name.startswith(TIMM):
        from trainers.models import timm_models

        return not timm_models.refusal(name.removeprefix(TIMM), height, width, 1)
    from trainers.models import torchvision_models

    return torchvision_models.takes(name.removeprefix(TORCHVISION), height, width, 1)
