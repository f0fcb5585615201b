"""Several processes that train one trial: each takes a part of every batch, and gradients are averaged once a step.

The numbers are those of one process that takes whole batches, to rounding: what is drawn at random for an image is
drawn by its place in the whole batch, and what is a mean over the batch is one over all of it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, distributed
from torch._C._distributed_c10d import TCPStore
from torch.distributed import distributed_c10d

from trainers.randomness import PartDraws

Spoken = TypeVar("Spoken")


class Workers(NamedTuple):
    """The processes of one trial, as one of them sees them; by default it is the only one.

    Attributes:
        rank: of this one, from 0. The one of rank 0 reports, and writes the files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether this process has the trial to itself."""
        return self.size == 1

    @property
    def own_key(self) -> tuple[int, ...]:
        """What to add to a generator's key so that each worker draws numbers of its own: nothing for the first."""
        return (self.rank,) if self.rank else ()

    def part(self, count: int) -> slice:
        """Which of `count` things, a batch's images, are this one's: those in a row that fall to its rank.

        Parts differ by one at most.

        >>> [Workers(rank, 3).part(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the workers, which all give tensors of the same shapes and types."""
        if self.alone:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            distributed.all_reduce(flat)
            sums = torch.split(flat, [tensor.numel() for tensor in alike])
            for tensor, total in zip(alike, sums, strict=True):
                tensor.copy_(total.view_as(tensor))

    @torch.no_grad()
    def sum_gradients_(self, parameters: Sequence[Tensor]) -> None:
        """Replaces each parameter's gradient by its sum over the workers, all in one sum.

        One that a worker has none of, as its images took another way through the network, counts as zeros there; one
        that none has stays none, as where a worker has the whole batch.
        """
        if self.alone or not parameters:
            return
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        there = torch.tensor([float(each.grad is not None) for each in parameters], dtype=parameters[0].dtype)
        there = there.to(parameters[0].device, non_blocking=True)
        self.sum_([*gradients, there])
        if any(each.grad is None for each in parameters):  # or it would wait for the GPU at each step
            for parameter, gradient, workers in zip(parameters, gradients, there.tolist(), strict=True):
                parameter.grad = gradient if workers else None

    @torch.no_grad()
    def gathered(self, part: Tensor) -> Tensor:
        """The workers' parts one after another, in order of rank; they may differ in their first dimension's length."""
        if self.alone:
            return part
        lengths = torch.zeros(self.size, dtype=torch.long, device=part.device)
        lengths[self.rank] = len(part)
        distributed.all_reduce(lengths)
        counts = lengths.tolist()
        padded = part.new_zeros(max(counts), *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([each[:count] for each, count in zip(parts, counts, strict=True)])

    def said(self, value: Spoken) -> Spoken:
        """What the worker of rank 0 gives, to all of them: anything that pickle takes."""
        if self.alone:
            return value
        spoken = [value if self.rank == 0 else None]
        distributed.broadcast_object_list(spoken, src=0)
        return cast(Spoken, spoken[0])


#: A process that has its trial to itself.
ALONE = Workers()


class Part(NamedTuple):
    """What of a batch is one worker's.

    Attributes:
        workers: of the trial.
        whole: images of the batch.
    """

    workers: Workers
    whole: int

    @property
    def images(self) -> slice:
        """Which of the batch's."""
        return self.workers.part(self.whole)

    @property
    def share(self) -> float:
        """Of the batch's images."""
        return len(range(self.whole)[self.images]) / self.whole

    def of_mean(self, mean: Tensor) -> Tensor:
        """What a mean over this part adds to that over the batch, which is the sum over the workers."""
        return mean if self.workers.alone else mean * self.share

    def draws(self, generator: torch.Generator) -> torch.Generator | PartDraws:
        """Random numbers for these images, which are those that they get where one worker has the batch."""
        return generator if self.workers.alone else PartDraws(generator, self.images, self.whole)


def opened(host: str, size: int) -> TCPStore:
    """Where the workers of a trial meet, on a free port of this machine, its `port`: for the one of rank 0.

    Args:
        host: an address of this machine, as the others reach it.
        size: how many workers there are.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)  # TCPStore itself would listen on all addresses
    port = listening.getsockname()[1]
    return TCPStore(host, port, size, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())


def found(host: str, port: int, size: int) -> TCPStore:
    """The same, which another worker has opened."""
    return TCPStore(host, port, size, is_master=False)


@contextmanager
def joined(store: TCPStore, rank: int, size: int, device: torch.device, seconds: float) -> Iterator[Workers]:
    """A block in which this process is one of a trial's; it begins once all are there.

    Args:
        store: where they meet.
        rank, size: of this one, and how many there are.
        device: that it trains on: gloo joins processes on CPUs, NCCL those on GPUs.
        seconds: that a worker waits for the others, at the beginning and in each sum.
    """
    backend, limit = "nccl" if device.type == "cuda" else "gloo", timedelta(seconds=seconds)
    # NCCL sends what is no tensor by way of the current GPU
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        try:
            distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        except BaseException:
            distributed_c10d._world.group_count = 0  # by which groups find each other: as in a process that is new
            raise
        try:
            yield Workers(rank, size)
        finally:
            distributed.destroy_process_group()
