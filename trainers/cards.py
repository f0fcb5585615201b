"""A process and its GPU: how much memory it takes, what it gives back, whether the card still answers it."""

from __future__ import annotations

import gc

import torch

from trainers import process
from trainers.hardware import host_bytes
from trainers.memory import is_out_of_memory

#: What CUDA takes for a process beside the tensors, for its context and kernels, bytes: a bound, held by a test.
CONTEXT = 2**30


def capacity(device: torch.device) -> int:
    """Bytes of memory that there are: of the card; of a CPU, that this process may have of its host's."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else host_bytes()


def limit(device: torch.device, share: float, cuda: int = CONTEXT) -> None:
    """Gives this process no more of the device's memory than a share, in which CUDA's own part is counted.

    Over it torch raises OutOfMemoryError, though the card may have room: that is the neighbours'.

    Args:
        device: nothing happens on a CPU.
        share: of the whole, in (0, 1); from 1 on, nothing happens.
        cuda: bytes of CUDA's own part.
    """
    if device.type == "cuda" and share < 1:
        # Of a small share CUDA's part would leave nothing: then the tensors have half.
        fraction = max(share - cuda / capacity(device), share / 2)
        torch.cuda.set_per_process_memory_fraction(fraction, device.index)  # none: the current one


class Meter:
    """The most that this process takes of its card while a trial trains, as the driver counts.

    The driver tells what is free, and so what all take together; torch what its allocator holds. The rest is CUDA's
    own part, which never shrinks: so their peaks add up to the process's. That holds where nobody else is on the card,
    which the rest shows too: over `CONTEXT` it is not ours alone. (What NVML tells of a process it tells by process ids
    of the host, which in a container are not ours.)
    """

    def __init__(self, device: torch.device, alone: bool) -> None:
        """Begins to count.

        Args:
            device: of the trial.
            alone: whether the launch gave it to this process and trial alone.
        """
        self.alone = alone
        self._device, self._reserved, self._cuda = device, 0, 0
        if self._counts:
            torch.cuda.reset_peak_memory_stats(device)
        self.look()

    @property
    def _counts(self) -> bool:
        return self.alone and self._device.type == "cuda"

    def look(self) -> None:
        """Takes note; to be called before anything resets torch's peak."""
        if not self._counts:
            return
        free, total = torch.cuda.mem_get_info(self._device)
        cuda = total - free - torch.cuda.memory_reserved(self._device)
        self.alone = cuda <= CONTEXT
        self._cuda = max(self._cuda, cuda)
        self._reserved = max(self._reserved, torch.cuda.max_memory_reserved(self._device))

    def taken(self) -> tuple[int, int] | tuple[None, None]:
        """Bytes in all, and of them CUDA's own; None where they cannot be known."""
        return (self._reserved + self._cuda, self._cuda) if self._counts else (None, None)


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
