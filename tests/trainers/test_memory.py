"""Every error that says that memory was short is the outcome out_of_memory, and no other error is."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import checkpoint, hardware, loop, memory
from trainers.config import TrialConfig
from trainers.loop import train
from trainers.memory import is_out_of_memory

SHORT = [
    torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.25 GiB is "
        "free."
    ),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes."),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
    MemoryError("Unable to allocate 8.00 GiB for an array with shape (1073741824,) and data type float64"),
]
#: So only on a full card.
PERHAPS = [
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]
OTHER = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ValueError("out of memory"),
    OSError(errno.ENOSPC, "No space left on device"),
]


def config(**values: Any) -> TrialConfig:
    small = {
        "data": {"name": "digits", "train_per_class": 4, "test_per_class": 2, "validation_fraction": 0.25},
        "model": {"name": "small_cnn"},
        "epochs": 1,
        "evaluation": {"steps": 1},
    }
    return TrialConfig.model_validate(small | values)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*unused: object) -> None:
        raise error

    monkeypatch.setattr(loop.Training, "epoch", fail)


@pytest.mark.parametrize("error", SHORT, ids=repr)
def test_a_lack_of_memory_is_an_outcome_in_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, error)
    outcome = train(config(), lambda record: None)
    assert outcome.outcome == "out_of_memory"
    assert outcome.reason == (str(error).splitlines() or ["MemoryError"])[0]


def test_torchs_allocator_on_a_cpu_says_what_is_looked_for() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize("free", [2**20, 2**40])
@pytest.mark.parametrize("error", PERHAPS, ids=str)
def test_what_a_full_card_makes_a_library_say_counts_on_a_full_card_alone(
    error: Exception, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_out_of_memory(error)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (free, 2**41))
    assert is_out_of_memory(error) == (free < memory._SHORT)


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_another_error_is_raised(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        train(config(), lambda record: None)


def test_a_checkpoint_that_does_not_fit_into_memory_is_not_taken_for_a_damaged_one(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trial.pt"
    checkpoint.save(path, {"history": [], "weights": {}})

    def load(*unused: object, **unread: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("torch.load", load)
    with pytest.raises(RuntimeError, match="allocate"):
        checkpoint.load(path)
    with pytest.raises(RuntimeError, match="allocate"):
        checkpoint.kept_weights(path, "last")


@pytest.mark.gpu
def test_a_trial_on_a_full_card_is_out_of_memory_and_the_next_one_completes() -> None:
    trial = config(device="cuda", model={"name": "preact_resnet18"})
    assert train(trial, lambda record: None).outcome == "completed"
    torch.cuda.empty_cache()
    ballast = torch.empty(torch.cuda.mem_get_info()[0] - 2**26, dtype=torch.uint8, device="cuda")
    assert train(trial, lambda record: None).outcome == "out_of_memory"
    del ballast
    torch.cuda.empty_cache()
    assert train(trial, lambda record: None).outcome == "completed"


def test_a_hosts_memory_is_what_the_groups_around_a_process_leave_it(tmp_path: Path) -> None:
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    for folder, text in (("", "max"), ("job", "2048"), ("job/step", "4096")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "memory.max").write_text(text)
    groups.write_text("0::/job/step\n")
    assert sorted(hardware._limits(groups, root)) == [2048, 4096]
    groups.write_text("5:cpu:/\n4:memory,hugetlb:/docker\n")
    (root / "memory/docker").mkdir(parents=True)
    (root / "memory/docker/memory.limit_in_bytes").write_text("1024\n")
    assert hardware._limits(groups, root) == [1024]
    assert hardware._limits(tmp_path / "none", root) == []
    assert 0 < hardware.host_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
