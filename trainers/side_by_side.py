"""Several trials in one process, each in a thread with a CUDA stream of its own: small networks leave a GPU idle.

Each trial's numbers are those that it has alone. What belongs to the process is settled for all of them: the flags of
arithmetic (fp32 products, whether kernels are deterministic) hold before they begin and until the last has ended, so
that each trial sets what is set. What draws from torch's own generators, and every first step and capture, is one
thread's at a time (`process.alone`). Refused is what cannot be shared: TF32, trials that differ in `deterministic`, and
networks that draw at random in training, as dropout does. Nothing is compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from trainers import process
from trainers.engine import float32_products
from trainers.randomness import repeatable


def _own_stream(device: torch.device) -> AbstractContextManager[object]:
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def side_by_side(works: Sequence[Callable[[], object]], device: torch.device, deterministic: bool = False) -> None:
    """Does all at once, and returns when the last has ended.

    Args:
        works: each trains a trial.
        device: of all.
        deterministic: `TrialConfig.deterministic` of all.

    Raises:
        what the first raised that did, once all have ended.
    """
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            with _own_stream(device):
                work()
        except BaseException as error:  # of Tune's, SystemExit too
            errors.append(error)

    # Daemons: a process that is told to end waits for no trial.
    threads = [threading.Thread(target=run, args=(work,), name="trial", daemon=True) for work in works]
    with repeatable(device, deterministic), float32_products("fp32"), process.sharing():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
