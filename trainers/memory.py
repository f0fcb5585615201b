"""Memory that is not enough: the many errors that say so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import torch

#: What torch's other errors say, in lower case: of the driver, of Triton and at CUDA's start; of cuBLAS; of cuDNN 8 and
#: 9; of torch's allocator on a CPU; of C++, as torch hands it on.
_TEXTS = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",
    "host_allocation_failed",
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
)

#: What a library says of a missing handle, plan or kernel, which on a full card is for want of memory: cuDNN loads some
#: hundred megabytes of kernels when they are first needed [pytorch#81620].
_PERHAPS = (
    "cublas_status_not_initialized",
    "cudnn_status_not_initialized",
    "cudnn_status_internal_error",
    "unable to find an engine to execute this computation",
)
_SHORT = 500 * 2**20  # bytes


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that there was not enough memory, on a GPU or on the host.

    `torch.OutOfMemoryError` is what torch's own allocator on a GPU raises; its other parts and CUDA's libraries raise
    RuntimeErrors, told apart by their text alone.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # a file that cannot be mapped
        return True
    text = str(error).lower()
    says_so = isinstance(error, RuntimeError) and any(each in text for each in _TEXTS)
    return says_so or (isinstance(error, RuntimeError) and any(each in text for each in _PERHAPS) and _is_short())


def reason(error: BaseException) -> str:
    """What the error says, in one line; its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_short() -> bool:
    """Whether the GPU in use is nearly full."""
    try:
        return torch.cuda.is_available() and torch.cuda.mem_get_info()[0] < _SHORT
    except RuntimeError:  # as after an error that only a new process mends
        return False


def card_bytes() -> list[int]:
    """The memory of each card that torch sees; nothing is taken of them. None where CUDA does not start on them."""
    try:
        return [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
    except RuntimeError:  # NVML counts cards of which CUDA itself can say nothing, as with another driver
        return []


def host_bytes() -> int:
    """The memory of this host, or what this process may have of it in its container or job (control group)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _limits(groups: Path, root: Path) -> list[int]:
    """Of the groups that this process is in, and of those around them: version 2's and version 1's."""
    files = []
    try:
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base, name = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
            if not controllers or "memory" in controllers.split(","):
                inner = base / path.lstrip("/")
                files += [folder / name for folder in (inner, *inner.parents) if folder.is_relative_to(base)]
    except (OSError, ValueError):
        return []
    return [int(text) for file in files if (text := _text_of(file)).isdigit()]


def _text_of(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
