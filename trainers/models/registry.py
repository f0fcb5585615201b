"""A network by its name, with seeded weights and its own normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainers import process
from trainers.config import ModelConfig, TrialConfig
from trainers.data.sets import Data
from trainers.errors import UserError
from trainers.models import preact_resnet, resnet, senet, small_cnn, vgg, vit, wide_resnet
from trainers.models.activations import ACTIVATIONS
from trainers.models.sizes import TIMM, TORCHVISION, check_size
from trainers.own import options
from trainers.seeds import stable_seed

#: A network from (channels, num_classes, height, width).
Builder = Callable[[int, int, int, int], nn.Module]


def _any_size(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The builder of a network whose weights do not depend on the size of the images."""
    return lambda channels, num_classes, height, width, **chosen: build(channels, num_classes, **chosen)


#: By the name in the config: a `Builder`, which takes the keyword `activation` too where the config offers a choice.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn.SmallCNN,
    "preact_resnet18": _any_size(preact_resnet.PreActResNet18),
    "resnet18": _any_size(resnet.ResNet18),
    "senet18": _any_size(senet.SENet18),
    "vgg16": _any_size(partial(vgg.VGG, depth=16)),
    "vgg19": _any_size(partial(vgg.VGG, depth=19)),
    "wide_resnet28_10": _any_size(partial(wide_resnet.WideResNet, depth=28, width=10)),
    "wide_resnet34_10": _any_size(partial(wide_resnet.WideResNet, depth=34, width=10)),
    "vit_small": vit.ViTSmall,
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
        if config.is_own:
            bare = _own(config, {"num_classes": num_classes, "channels": channels, "image_size": (height, width)})
        else:
            bare = _builder(config)(channels, num_classes, height, width)
        if not config.normalize:
            return bare
        half = (0.5,) * channels
        return nn.Sequential(Normalize(half, half) if config.moments == "half" else Normalize(mean, std), bare)


def _own(config: ModelConfig, given: dict[str, Any]) -> nn.Module:
    network = options.call(config, "model", given)
    if not isinstance(network, nn.Module):
        raise UserError(f"model.name: {config.name}: must give a torch.nn.Module, got {type(network).__name__}")
    return network


def network(config: TrialConfig, data: Data) -> nn.Module:
    """The network of a trial for its data; see `build`."""
    return build(config.model, **arguments(data), seed=config.seed)


def arguments(data: Data) -> dict[str, Any]:
    """What `build` has to know of the data."""
    names = ("num_classes", "channels", "image_size", "mean", "std")
    return {name: getattr(data, name) for name in names}


def _builder(config: ModelConfig) -> Builder:
    if config.name in NETWORKS:
        build = NETWORKS[config.name]
        return build if config.activation is None else partial(build, activation=ACTIVATIONS[config.activation])
    # their imports take seconds, which no other network needs
    if config.name.startswith(TIMM):
        from trainers.models import timm_models

        return partial(timm_models.build, config.name.removeprefix(TIMM))
    from trainers.models import torchvision_models

    return partial(torchvision_models.build, config.name.removeprefix(TORCHVISION))
