"""A process and its GPU: whether the card still answers it."""

from __future__ import annotations

import torch


def answers(device: torch.device) -> bool:
    """Whether this process can still compute on the device; True for a CPU.

    After some errors, such as an illegal address, every later CUDA call of the process fails too: only a new process
    can go on. A full card still answers.
    """
    if device.type != "cuda":
        return True
    try:
        torch.zeros(1, device=device).add_(1)
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        return True
    except RuntimeError:
        return False
    return True
