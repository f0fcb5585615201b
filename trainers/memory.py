"""Memory that is not enough: the many errors that say so."""

from __future__ import annotations

import errno

import torch

from trainers.blanked import blanked

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
    """What the error says, in one line without secrets; its name where it says nothing."""
    return blanked((str(error).strip().splitlines() or [type(error).__name__])[0])


def _is_short() -> bool:
    """Whether the GPU in use is nearly full."""
    try:
        return torch.cuda.is_available() and torch.cuda.mem_get_info()[0] < _SHORT
    except RuntimeError:  # as after an error that only a new process mends
        return False
