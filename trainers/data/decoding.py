"""An image file as pixels: upright, RGB, of the size that is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainers.data.archives import ByteArray

if TYPE_CHECKING:
    from PIL.Image import Image

WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes with more than 8 bits a channel


class BadImage(ValueError):
    """A file that is no image, or not one of 8 bits a channel: what it is, and the way out."""

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(f"{what}; {way_out}")


def rgb(path: Path, image_size: int | None, cropped: bool = False) -> ByteArray:
    """(H, W, 3): the image, upright; its grey copied to three channels, its alpha dropped.

    Args:
        path: of the file.
        image_size: height and width that it is resized to, pixels, by Pillow's bilinear filter, which averages where
            it makes smaller; none: it stays as it is.
        cropped: only the shorter side is resized to that, and of the longer one the middle is taken: torchvision's
            Resize and CenterCrop. Else both sides are, whatever their ratio.

    Raises:
        BadImage: it cannot be read, or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if is_turned(image):
                image.info.pop("exif", None)  # else written anew, which its other tags may not allow
                ImageOps.exif_transpose(image, in_place=True)
            if image.mode in WIDE_MODES:
                raise BadImage(f"has more than 8 bits a channel ({image.mode})", "convert it")
            whole = opaque(image)
            return np.asarray(whole if image_size is None else _resized(whole, image_size, cropped))
    except BadImage:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).partition("\n")[0].replace(f" {str(path)!r}", "")  # whoever says it names the file
        raise BadImage(f"is no readable image ({reason})", "mend it or remove it") from error


def opaque(image: Image) -> Image:
    """As RGB: a palette's numbers as its colours, grey copied, alpha dropped."""
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")


def _resized(image: Image, size: int, cropped: bool) -> Image:
    from PIL.Image import Resampling

    if not cropped:
        return image.resize((size, size), Resampling.BILINEAR)
    shorter = min(image.size)
    width, height = (size if side == shorter else int(size * side / shorter) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def is_turned(image: Image) -> bool:
    """Whether its EXIF says that it lies on a side, its head or its mirror image; damaged EXIF says nothing."""
    from PIL.ExifTags import Base

    try:
        return image.getexif().get(Base.Orientation, 1) in range(2, 9)
    except Exception:  # Pillow has no exception of its own for it: it raises what comes first
        return False


def cores() -> int:
    """By which this process may decode."""
    return len(os.sched_getaffinity(0))
