"""Which images a network takes, known before it is built: nothing here loads torch for a network of ours."""

from __future__ import annotations

from typing import NamedTuple

from trainers.errors import UserError
from trainers.own.reference import is_reference

TORCHVISION, TIMM = "torchvision:", "timm:"


class Size(NamedTuple):
    """Heights and widths of images, pixels."""

    minimum: int
    """The smallest that the network takes."""
    one_position: int = 0
    """Up to this, one position is left before one of its batch norms; 0: it never is."""


#: By the name in the config. Of those with one minimum, the first is what `check_size` recommends.
SIZES = {
    "small_cnn": Size(4),  # one stride of 2 leaves 2 x 2
    "preact_resnet18": Size(8, 8),  # three strides of 2 leave 1 x 1, as in the next two
    "resnet18": Size(8, 8),
    "senet18": Size(8, 8),
    # of fewer than 8, two of the five stages would see nothing but 1 x 1; of 16, four poolings leave it to the last's
    "vgg16": Size(8, 16),
    "vgg19": Size(8, 16),
    "wide_resnet28_10": Size(4, 4),  # two strides of 2 leave 1 x 1
    "wide_resnet34_10": Size(4, 4),
    "vit_small": Size(4),  # 2 x 2 patches
}


def check_size(name: str, height: int, width: int) -> None:
    """There is a network `name`, and images of `height` x `width` pixels are large enough for it.

    Raises:
        UserError: they are not, or torchvision or timm has no such network.
    """
    if is_reference(name):
        return  # `trainers.rehearsal` tries it
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
    fitting = {other: of.minimum for other, of in SIZES.items() if size >= of.minimum}
    return f"; use {max(fitting, key=fitting.__getitem__)}" if fitting else ""


def _violated_minimum(name: str, height: int, width: int) -> int | None:
    """The smallest height and width that the network takes, if these are smaller."""
    if name in SIZES:
        minimum = SIZES[name].minimum
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
    if is_reference(name):
        return True  # or not: `trainers.rehearsal` tries it
    if name in SIZES:
        return max(height, width) > SIZES[name].one_position
    if name.startswith(TIMM):
        from trainers.models import timm_models

        return not timm_models.refusal(name.removeprefix(TIMM), height, width, 1)
    from trainers.models import torchvision_models

    return torchvision_models.takes(name.removeprefix(TORCHVISION), height, width, 1)
