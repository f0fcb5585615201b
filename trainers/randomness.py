"""Stateless randomness: a generator is seeded by what it is for, so a resumed trial repeats its numbers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainers import process
from trainers.errors import UserError

#: Of cuBLAS, with which it gives the same bits each time: 8 buffers of 4,096 KiB.
#: https://docs.nvidia.com/cuda/cublas/index.html#results-reproducibility
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def stable_seed(*key: int | str) -> int:
    """A seed in [0, 2**63) from a hash of `key` that is the same in every process and version of Python.

    >>> stable_seed(0, 3, "order") == stable_seed(0, 3, "order") != stable_seed(0, 4, "order")
    True
    """
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator on `device`, seeded from `key`: commonly (seed, epoch, purpose).

    A CPU and a GPU give different numbers for the same key.
    """
    return torch.Generator(device=device).manual_seed(stable_seed(*key))


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
