"""A network by its name, with seeded weights and its own normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.config import ModelConfig
from trainers.errors import UserError
from trainers.models import preact_resnet, small_cnn
from trainers.randomness import stable_seed

MINIMUM_SIZES = {"small_cnn": small_cnn.MINIMUM_SIZE, "preact_resnet18": preact_resnet.MINIMUM_SIZE}

#: Networks that shrink images of this height and width, pixels, to 1 x 1 before a batch norm.
ONE_POSITION_SIZES = {"preact_resnet18": preact_resnet.MINIMUM_SIZE}


class Normalize(nn.Module):
    """(images - mean) / std by channel: inside the model, so that attacks act on pixels in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to the same shape, mean 0 and standard deviation 1 over the data set."""
        return (images - self.mean) / self.std


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
        mean, std: (channels,) in [0, 1] units; read only if `config.normalize`.

    Raises:
        UserError: the images are too small for the network.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    check_size(config.name, height, width)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would reseed the GPUs as well, which fork_rng does not undo here
        torch.default_generator.manual_seed(stable_seed(seed, "initialisation"))
        network: nn.Module
        if config.name == "small_cnn":
            network = small_cnn.SmallCNN(channels, num_classes, height, width)
        else:
            network = preact_resnet.PreActResNet18(channels, num_classes)
        return nn.Sequential(Normalize(mean, std), network) if config.normalize else network


def check_size(name: str, height: int, width: int) -> None:
    """The images, in pixels, are large enough for the network `name`.

    Raises:
        UserError: they are not.
    """
    size = min(height, width)
    if size >= MINIMUM_SIZES[name]:
        return
    fitting = [other for other, minimum in MINIMUM_SIZES.items() if size >= minimum]
    way_out = f"; use {' or '.join(fitting)}" if fitting else ""
    raise UserError(
        f"model.name: {name} needs images of at least {MINIMUM_SIZES[name]} x {MINIMUM_SIZES[name]} pixels, "
        f"got {height} x {width}{way_out}"
    )


def check_batches(name: str, height: int, width: int, train_images: int, batch_size: int) -> None:
    """Every batch of an epoch gives each batch norm of the network at least two values a channel.

    Raises:
        UserError: the last batch has one image, of which one position is left: it has no variance.
    """
    single = (train_images - 1) % batch_size == 0
    if single and max(height, width) <= ONE_POSITION_SIZES.get(name, 0):
        raise UserError(
            f"batch_size: the last of an epoch's batches has 1 image ({train_images} training images, batch_size "
            f"{batch_size}), and batch norm in {name} needs 2 where images have {height} x {width} pixels; "
            "take another batch_size, or more or fewer training images"
        )
