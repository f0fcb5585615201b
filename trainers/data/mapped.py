"""Images in mapped files: read as they are asked for, from one copy that all processes of a machine share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Mapped:
    """Some images of arrays that lie in mapped files, (N, C, H, W) uint8, on the host.

    Indexing gives a tensor, and it alone takes memory. What was read stays in the system's page cache as long as there
    is room for it. Which of the images these are is said by their places, so that a part of a file is no copy of it.

    Attributes:
        shape: (N, C, H, W).
        device: the CPU, where what indexing gives lies.
    """

    def __init__(self, arrays: Sequence[Tensor], places: Tensor | None = None) -> None:
        """Images of arrays that stand one behind the other.

        Args:
            arrays: each (M, C, H, W) uint8, on the host; see `mapped`.
            places: (N,) int64, counted over all arrays; none: all of them.
        """
        self._arrays = tuple(arrays)
        self._places = torch.arange(sum(map(len, arrays))) if places is None else places.cpu()
        self.shape = torch.Size((len(self._places), *arrays[0].shape[1:]))
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        """Images, N."""
        return len(self._places)

    def __getitem__(self, chosen: Tensor | slice | int) -> Tensor:
        """Images of these numbers, (B, C, H, W) uint8: one gather; of a single number, (C, H, W).

        Args:
            chosen: (B,) int64 or (N,) bool, on any device; a slice; or a number.
        """
        places = self._places[chosen.cpu() if isinstance(chosen, Tensor) else chosen]
        if places.ndim == 0:
            return self._taken(places[None])[0]
        return self._taken(places)

    def take(self, chosen: Tensor, out: Tensor) -> Tensor:
        """`self[chosen]`, written to memory that is there, such as a pinned buffer.

        Args:
            chosen: (B,) int64, on any device.
            out: (B, C, H, W) uint8, on the host.
        """
        return self._taken(self._places[chosen.cpu()], out)

    def at(self, chosen: Tensor) -> Mapped:
        """The images of these numbers, (B,), still in their files."""
        return Mapped(self._arrays, self._places[chosen.cpu()])

    def followed_by(self, images: Tensor) -> Mapped:
        """These images, and behind them others that are in memory, (M, C, H, W) uint8."""
        there = sum(map(len, self._arrays))
        return Mapped((*self._arrays, images.cpu()), torch.cat([self._places, torch.arange(len(images)) + there]))

    def _taken(self, places: Tensor, out: Tensor | None = None) -> Tensor:
        if len(self._arrays) == 1:
            return torch.index_select(self._arrays[0], 0, places, out=out)
        if out is None:
            out = torch.empty(len(places), *self.shape[1:], dtype=torch.uint8)
        first = 0
        for array in self._arrays:
            here = ((places >= first) & (places < first + len(array))).nonzero().flatten()
            out[here] = array[places[here] - first]
            first += len(array)
        return out


def mapped(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """A mapped array as a tensor, which nothing may write to.

    Not a private mapping that may be written to: the system counts such a one as memory that it must find.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
