"""Stateless randomness: a generator is seeded by what it is for, so a resumed trial repeats its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
