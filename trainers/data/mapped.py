"""Images in mapped files: read as they are asked for, from one copy that all processes of a machine share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainers.errors import UserError


class _File(NamedTuple):
    """Where an array lies on the disk: its path, and the byte where it begins."""

    path: str
    start: int

    def read(self, places: Tensor, rows: Tensor, out: Tensor) -> None:
        """Reads the images at `places` of the file into `out[rows]`.

        By reads, not through the mapping: of a file that was cut off, or of a disk that fails, the system answers a
        read with an error, and a look at mapped memory by ending the process.
        """
        images = out.numpy().reshape(len(out), -1)
        size = images.shape[1]
        file = os.open(self.path, os.O_RDONLY)
        try:
            for place, row in zip(places.tolist(), rows.tolist(), strict=True):
                if (got := os.preadv(file, [images[row].data], self.start + place * size)) != size:
                    raise UserError(
                        f"data.root: {self.path}: image {place} must have {size:,} bytes and has {got:,}: the file was "
                        "cut off while it was read; copy it again"
                    )
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None
        finally:
            os.close(file)


class Mapped:
    """Some images of arrays that lie in mapped files, (N, C, H, W) uint8, on the host.

    Indexing gives a tensor, and it alone takes memory. What was read stays in the system's page cache as long as there
    is room for it. Which of the images these are is said by their places, so that a part of a file is no copy of it.

    Attributes:
        shape: (N, C, H, W).
        device: the CPU, where what indexing gives lies.
    """

    def __init__(
        self, arrays: Sequence[Tensor | np.memmap[Any, np.dtype[np.uint8]]], places: Tensor | None = None
    ) -> None:
        """Images of arrays that stand one behind the other.

        Args:
            arrays: each (M, C, H, W) uint8, on the host: a mapped file, or a tensor, as `mapped` makes of one.
            places: (N,) int64, counted over all arrays; none: all of them.
        """
        self._arrays = tuple(array if isinstance(array, Tensor) else mapped(array) for array in arrays)
        self._files = tuple(None if isinstance(array, Tensor) else _file(array) for array in arrays)
        self._places = torch.arange(sum(map(len, self._arrays))) if places is None else places.cpu()
        self.shape = torch.Size((len(self._places), *self._arrays[0].shape[1:]))
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        """Images, N."""
        return len(self._places)

    def __getitem__(self, chosen: Tensor | slice | int) -> Tensor:
        """Images of these numbers, (B, C, H, W) uint8, by `take`; of a single number, (C, H, W).

        Args:
            chosen: (B,) int64 or (N,) bool, on any device; a slice; or a number.
        """
        numbers = torch.arange(len(self))[chosen.cpu() if isinstance(chosen, Tensor) else chosen]
        out = torch.empty(numbers.numel(), *self.shape[1:], dtype=torch.uint8)
        taken = self.take(numbers.reshape(-1), out)
        return taken if numbers.ndim else taken[0]

    def take(self, chosen: Tensor, out: Tensor) -> Tensor:
        """`self[chosen]`, written to memory that is there, such as a pinned buffer; from a file by reads.

        Args:
            chosen: (B,) int64, on any device.
            out: (B, C, H, W) uint8, on the host.

        Raises:
            OSError, UserError: an image cannot be read.
        """
        places, first = self._places[chosen.cpu()], 0
        for array, file in zip(self._arrays, self._files, strict=True):
            rows = ((places >= first) & (places < first + len(array))).nonzero().flatten()
            if file is None:
                out[rows] = array[places[rows] - first]
            elif len(rows) > 0:
                file.read(places[rows] - first, rows, out)
            first += len(array)
        return out

    def at(self, chosen: Tensor) -> Mapped:
        """The images of these numbers, (B,), still in their files."""
        return self._with(self._arrays, self._files, self._places[chosen.cpu()])

    def followed_by(self, images: Tensor) -> Mapped:
        """These images, and behind them others that are in memory, (M, C, H, W) uint8."""
        there = sum(map(len, self._arrays))
        places = torch.cat([self._places, torch.arange(len(images)) + there])
        return self._with((*self._arrays, images.cpu()), (*self._files, None), places)

    @staticmethod
    def _with(arrays: Sequence[Tensor], files: tuple[_File | None, ...], places: Tensor) -> Mapped:
        made = Mapped(arrays, places)
        made._files = files
        return made


def _file(array: np.memmap[Any, np.dtype[np.uint8]]) -> _File | None:
    """Where a mapped array lies; none where it is only a part of what was mapped."""
    whole = not isinstance(array.base, np.memmap) and array.flags.c_contiguous
    return _File(os.fspath(array.filename), array.offset) if whole and array.filename is not None else None


def mapped(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """A mapped array as a tensor, which nothing may write to.

    Not a private mapping that may be written to: the system counts such a one as memory that it must find.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
