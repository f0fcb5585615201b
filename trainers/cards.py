"""A process and its GPU: how much memory it takes, what it gives back, whether the card still answers it."""

from __future__ import annotations

import gc

import torch

from trainers import process
from trainers.memory import is_out_of_memory

#: What CUDA takes for a process beside the tensors, for its context and kernels, bytes: a bound, held by a test.
CONTEXT = 2**30


def limit(device: torch.device, share: float) -> None:
    """Gives this process no more of the device's memory than a share, in which CUDA's own part is counted.

    Over it torch raises OutOfMemoryError, though the card may have room: that is the neighbours'.

    Args:
        device: nothing happens on a CPU.
        share: of the whole, in (0, 1); from 1 on, nothing happens.
    """
    if device.type == "cuda" and share < 1:
        total = torch.cuda.get_device_properties(device).total_memory
        # Of a small share CUDA's part would leave nothing: then the tensors have half.
        fraction = max(share - CONTEXT / total, share / 2)
        torch.cuda.set_per_process_memory_fraction(fraction, device.index)  # none: the current one


def freed(device: torch.device) -> bool:
    """Gives back the device's memory that nothing uses any more; whether this process can still compute there.

    After some errors, such as an illegal address, every later CUDA call of the process fails too: only a new process
    can go on. A full card still answers. On a CPU nothing happens, and it is True. Where trials share the process, the
    others may still use the memory: what is not used is given back at their end.
    """
    if device.type != "cuda":
        return True
    with process.alone:  # a device on which another thread captures cannot be waited for
        gc.collect()  # an exception and its frames, which hold a model, may be a cycle
        try:
            if not process.shared():  # the captured steps of neighbours hold these addresses
                torch._C._cuda_clearCublasWorkspaces()  # 32 MiB of each stream that a trial computed on
                torch.cuda.empty_cache()
            torch.zeros(1, device=device).add_(1)
            torch.cuda.synchronize(device)
        except RuntimeError as error:
            return is_out_of_memory(error)
        return True
