"""Images of a folder that are decoded whenever they are read, and kept nowhere: for a disk with no room for pixels.

They are to the byte those that are decoded ahead. So Pillow's `draft`, which decodes a JPEG at a half of its size, is
not used: other pixels come of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainers.data import image_folder, moments
from trainers.data.archives import ByteArray, Channels, LabelArray
from trainers.data.decoding import BadImage, rgb
from trainers.data.image_folder import File, Listing
from trainers.data.stored import Stored
from trainers.errors import UserError
from trainers.files import whole
from trainers.lock import locked

_log = logging.getLogger(__name__)

_AT_ONCE = 2**25  # bytes of pixels that the moments are counted of together


class Files(NamedTuple):
    """Image files, and how they become pixels.

    Attributes:
        root: of the paths.
        files: each an image.
        shape: (C, H, W), of every image.
        image_size, cropped: see `decoding.rgb`.
    """

    root: Path
    files: Sequence[File]
    shape: tuple[int, int, int]
    image_size: int | None
    cropped: bool

    def read(self, place: int, out: ByteArray) -> None:
        """Decodes one into `out`, (C, H, W).

        Raises:
            UserError: it cannot be read, or has another size.
        """
        path = self.root / self.files[place].path
        try:
            image = rgb(path, self.image_size, self.cropped)
        except BadImage as error:
            raise UserError(f"data.root: {path} {error}") from error
        if image.shape[:2] != self.shape[1:]:
            raise UserError(
                f"data.image_size: images must have one size, but the first is {self.shape[1]} x {self.shape[2]} and "
                f"{path} is {image.shape[0]} x {image.shape[1]} pixels; set data.image_size to resize them"
            )
        out[:] = image.transpose(2, 0, 1)


class Decoded(Stored):
    """Some images of a folder, (N, C, H, W) uint8 once they are read, on the host.

    They are decoded by as many threads as torch has, which a trial's cores are: Pillow decodes and resizes without
    Python's lock. The threads end with each reading.
    """

    def __init__(self, files: Files, more: Tensor | None = None, places: Tensor | None = None) -> None:
        """The images of files, and others behind them.

        Args:
            files: to decode.
            more: (M, C, H, W) uint8, in memory.
            places: (N,) int64, counted over both; none: all of them.
        """
        self._files = files
        self._more = torch.empty(0, *files.shape, dtype=torch.uint8) if more is None else more.cpu()
        super().__init__(len(files.files) + len(self._more), files.shape, places)

    def take(self, chosen: Tensor, out: Tensor) -> Tensor:
        """`self[chosen]`, written to `out`."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for _ in pool.map(self._put, self._places[chosen.cpu()].tolist(), out.numpy()):
                pass  # a failure in a thread is raised here, and what waits is not begun
        return out

    def _put(self, place: int, out: ByteArray) -> None:
        if (behind := place - len(self._files.files)) >= 0:
            out[:] = self._more[behind].numpy()
        else:
            self._files.read(place, out)

    def at(self, chosen: Tensor) -> Decoded:
        """The images of these numbers, (B,), still in their files."""
        return Decoded(self._files, self._more, self._places[chosen.cpu()])

    def followed_by(self, images: Tensor) -> Decoded:
        """These images, and behind them others that are in memory, (M, C, H, W) uint8."""
        more = torch.cat([self._more, images.cpu()])
        there = len(self._files.files) + len(self._more)
        return Decoded(self._files, more, torch.cat([self._places, torch.arange(len(images)) + there]))


def splits(listed: Listing, shape: tuple[int, int, int], image_size: int | None) -> tuple[Decoded, Decoded]:
    """The training and the test images of a folder.

    Args:
        listed: the folder.
        shape: (C, H, W), of every image.
        image_size: resize to this height and width in pixels; none: all images have one size already.
    """
    train, test = (
        Files(listed.root, files, shape, image_size, listed.cropped) for files in (listed.train, listed.test)
    )
    return Decoded(train), Decoded(test)


def moments_of(images: Decoded, chosen: LabelArray, listed: Listing, name: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation of some images, exact: decoded once, and kept in the folder's cache.

    Args:
        images: of the folder.
        chosen: numbers of the images, (B,).
        listed: the folder.
        name: of the content, the size and the choice; what is kept is found by it again.

    Raises:
        UserError: an image cannot be read, or what was found cannot be kept.
    """
    for folder in image_folder.cache_folders(listed.root):
        if (kept := _kept(folder / f"{name}.json")) is not None:
            return kept
    folder = image_folder.writable(listed.root)
    path = folder / f"{name}.json"
    with locked(folder / "lock"):
        if (kept := _kept(path)) is not None:  # another process was first
            return kept
        _log.warning("%s: all training images are decoded once for their mean and deviation: %s", listed.root, path)
        together = max(1, _AT_ONCE // images.shape[1:].numel())
        parts = [torch.from_numpy(chosen[first : first + together]) for first in range(0, len(chosen), together)]
        found = moments.of_counts(np.sum([moments.counts(images[part].numpy()) for part in parts], axis=0))
        _keep(path, found)
    return found


def _kept(path: Path) -> tuple[Channels, Channels] | None:
    """What is in the file; none if it is not there or damaged."""
    try:
        mean, std = json.loads(path.read_bytes())
        return tuple(map(float, mean)), tuple(map(float, std))
    except (OSError, ValueError, TypeError):
        return None


def _keep(path: Path, found: tuple[Channels, Channels]) -> None:
    try:
        with whole(path) as part:
            part.write_text(json.dumps(found))
            part.chmod(0o644)  # whoever shares the folder may read it, whatever the umask
    except OSError as error:
        raise UserError(f"data.root: {path} cannot be written ({error.strerror})") from error
