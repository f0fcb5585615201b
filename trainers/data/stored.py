"""Images on the host or the disk, which are read as they are asked for, in place of a tensor of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor


class Stored(ABC):
    """Some images, (N, C, H, W) uint8 once they are read. Indexing gives a tensor, and it alone takes memory.

    Which of those that are there these are is said by their places, so that a part of them is no copy.

    Attributes:
        shape: (N, C, H, W).
        device: the CPU, where what indexing gives lies.
    """

    def __init__(self, there: int, shape: tuple[int, ...], places: Tensor | None) -> None:
        """Of so many images that are there, those at some places.

        Args:
            there: how many.
            shape: (C, H, W), of each.
            places: (N,) int64; none: all of them.
        """
        self._places = torch.arange(there) if places is None else places.cpu()
        self.shape = torch.Size((len(self._places), *shape))
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

    @abstractmethod
    def take(self, chosen: Tensor, out: Tensor) -> Tensor:
        """`self[chosen]`, written to memory that is there, such as a pinned buffer.

        Args:
            chosen: (B,) int64, on any device.
            out: (B, C, H, W) uint8, on the host.

        Raises:
            OSError, UserError: an image cannot be read.
        """

    @abstractmethod
    def at(self, chosen: Tensor) -> Self:
        """The images of these numbers, (B,), still in their files."""

    @abstractmethod
    def followed_by(self, images: Tensor) -> Self:
        """These images, and behind them others that are in memory, (M, C, H, W) uint8."""
