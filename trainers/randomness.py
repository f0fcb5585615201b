"""Stateless randomness: a generator is seeded by what it is for, so a resumed trial repeats its numbers.

And so an attack on a trained network does by image, whatever other images it is attacked with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from trainers import process
from trainers.errors import UserError
from trainers.seeds import stable_seed

#: Of cuBLAS, with which it gives the same bits each time: 8 buffers of 4,096 KiB.
#: https://docs.nvidia.com/cuda/cublas/index.html#results-reproducibility
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator on `device`, seeded from `key`: commonly (seed, epoch, purpose).

    A CPU and a GPU give different numbers for the same key.
    """
    return torch.Generator(device=device).manual_seed(stable_seed(*key))


class ImageDraws:
    """Random numbers by image: those of an image depend on its pixels and the key, and not on its batch.

    Number j of an image's draw c is splitmix64's hash of (key, pixels, c) plus j steps of its counter: nothing is kept
    from one number to the next, so that a batch's are worked out at once, on any device from the same integers.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, Fig. 17.
    """

    def __init__(self, images: Tensor, *key: int | str) -> None:
        """A stream for each image; images of equal pixels have the same.

        Args:
            images: (B, C, H, W) in [0, 1]. Two that differ by less than 1 / 65535 may count as equal, so that the
                rounding of a division by 255 tells no image from itself.
            key: of all the streams: commonly (seed, purpose).
        """
        levels = images.detach().double().mul(65535).round_().to(torch.int64).flatten(1)
        self._keys = _mixed(_mixed(levels + _counters(levels.shape[1:], images.device)).sum(1) ^ stable_seed(*key))
        self._draws = 0

    def uniform_(self, numbers: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Fills (B, ...) with numbers uniform between low and high."""
        return numbers.copy_(self._shares(numbers).mul_(high - low).add_(low))

    def normal_(self, numbers: Tensor) -> Tensor:
        """Fills (B, ...) with standard normal numbers."""
        return numbers.copy_(torch.special.ndtri(self._shares(numbers)))

    def _shares(self, numbers: Tensor) -> Tensor:
        """The next draw of each image: fp64 in (0, 1), of 53 random bits, in the shape of `numbers`."""
        shape = numbers.shape[1:]
        keys = _mixed(self._keys + self._draws).reshape(-1, *[1] * len(shape))
        self._draws += 1
        high = _shifted(_mixed(keys + _counters(shape, numbers.device)), 11)
        return high.double().add_(0.5).mul_(2.0**-53)


class PartDraws:
    """Random numbers for a part of a batch: drawn for the whole of it, by each of the workers that share it."""

    def __init__(self, generator: torch.Generator, images: slice, whole: int) -> None:
        """A stream that goes on from the generator's.

        Args:
            generator: in the same state in each worker.
            images: of the batch, which get the numbers.
            whole: how many the batch has.
        """
        self._generator, self._images, self._whole = generator, images, whole

    def uniform_(self, numbers: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Fills (B, ...), B of the part, with numbers uniform between low and high."""
        return numbers.copy_(self._batch(numbers).uniform_(low, high, generator=self._generator)[self._images])

    def normal_(self, numbers: Tensor) -> Tensor:
        """Fills (B, ...), B of the part, with standard normal numbers."""
        return numbers.copy_(self._batch(numbers).normal_(generator=self._generator)[self._images])

    def _batch(self, numbers: Tensor) -> Tensor:
        """Room for those of the whole batch, in the same memory format: numbers are drawn in the order of addresses."""
        shape, strides = numbers.shape[1:], numbers.stride()[1:]
        return numbers.new_empty_strided((self._whole, *shape), (shape.numel(), *strides))


def _counters(shape: torch.Size, device: torch.device) -> Tensor:
    """Splitmix64's counter at each place of a draw: the odd part of 2^64 over the golden ratio, 1, 2, ... times."""
    return torch.arange(1, shape.numel() + 1, device=device).mul_(0x9E3779B97F4A7C15 - 2**64).reshape(shape)


def _mixed(words: Tensor) -> Tensor:
    """Splitmix64's hash of 64-bit words; products wrap around."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ _shifted(words, shift)) * (factor - 2**64)
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in: torch's own shift keeps the sign."""
    return (words >> bits).bitwise_and_((1 << 64 - bits) - 1)


@contextmanager
def default_generators(device: torch.device, *key: int | str) -> Iterator[None]:
    """A block in which torch's own generators are seeded from `key`; afterwards they go on as if it had not been.

    Dropout and stochastic depth take no generator: without this a resumed trial of such a network would differ.
    """
    gpu = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpu):
        torch.default_generator.manual_seed(stable_seed(*key))
        for each in gpu:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(stable_seed(*key))
        yield


@contextmanager
def repeatable(device: torch.device, wanted: bool) -> Iterator[None]:
    """A block in which a GPU's kernels give the same bits each time, if that is wanted; on a CPU they always do.

    Set for all trials is cuBLAS's workspace: torch looks for it at a process's first product, and once it has found
    none, no later trial of that process can be deterministic.

    Raises:
        UserError: one of the kernels in the block has no form that does; or the trials that share the process want the
            other.
    """
    if device.type != "cuda":
        yield
        return
    if process.shared() and wanted != torch.are_deterministic_algorithms_enabled():
        raise UserError(
            f"deterministic: must be the same for trials that share a process, got {wanted}; {process.WAY_OUT}"
        )
    name, value = _WORKSPACE
    cudnn, workspace = torch.backends.cudnn, os.environ.get(name)
    flags = cudnn.deterministic, cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault(name, value)
    if wanted:
        cudnn.deterministic, cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if not wanted or "deterministic" not in str(error):
            raise
        first = str(error).partition(", but")[0].splitlines()[0]
        raise UserError(
            f"deterministic: must be false for this network on a GPU: {first}; set it so, take another model.name, "
            "or device: cpu"
        ) from None
    finally:
        cudnn.deterministic, cudnn.benchmark = flags
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        if workspace is None:
            os.environ.pop(name, None)
