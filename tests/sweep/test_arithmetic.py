"""How a trial was computed is told at its start; a process that has no memory for CUDA tells of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.chunk import run_chunk
from sweep.trial import Message, run_trial
from trainers.config import TrialConfig
from trainers.loop import with_fingerprint

DIGITS = {"name": "digits", "train_per_class": 2, "test_per_class": 1, "validation_fraction": 0.5}


def values(**parts: Any) -> dict[str, Any]:
    small = {"data": DIGITS, "model": {"name": "small_cnn"}, "epochs": 1, "attack": {"steps": 1}, "device": "cpu"}
    return with_fingerprint(TrialConfig.model_validate({**small, **parts})).model_dump(mode="json")


def messages(tmp_path: Path, **parts: Any) -> list[Message]:
    sent: list[Message] = []
    run_trial(values(**parts), tmp_path, 1, sent.append)
    return sent


def test_the_start_says_how_the_trial_is_computed(tmp_path: Path) -> None:
    start, *_, end = messages(tmp_path, precision="tf32", deterministic=True)
    assert end["outcome"] == "completed"
    assert start["arithmetic"] == {
        "precision": "fp32",  # a CPU has no TF32
        "engine": "eager",
        "deterministic": True,
        "torch": torch.__version__,
        "cudnn": None,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
    }


def test_a_lack_of_memory_at_cudas_start_is_the_trials_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*unused: object) -> None:
        raise torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr("trainers.engine.device_of", fail)
    (end,) = messages(tmp_path)
    assert (end["outcome"], end["reason"]) == ("out_of_memory", "CUDA error: out of memory")
    assert not (tmp_path / "logs").exists()


def test_a_chunk_that_does_not_fit_says_so_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*unused: object) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    monkeypatch.setattr("sweep.chunk._record", fail)
    answer = run_chunk({"threads": 1, "directory": str(tmp_path), "record": {"trial_id": "a"}})
    assert answer == "out of memory: cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
    assert not (tmp_path / "logs").exists()
