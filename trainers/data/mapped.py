"""Images in mapped files: read as they are asked for, from one copy that all processes of a machine share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainers.data.stored import Stored
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


class Mapped(Stored):
    """Some images of arrays that lie in mapped files, (N, C, H, W) uint8, on the host.

    What was read stays in the system's page cache as long as there is room for it.
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
        super().__init__(sum(map(len, self._arrays)), self._arrays[0].shape[1:], places)

    def take(self, chosen: Tensor, out: Tensor) -> Tensor:
        """`self[chosen]`, written to `out`: from a file by reads."""
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
