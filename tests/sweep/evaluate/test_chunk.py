"""One chunk of an evaluation as a process runs it: the share of a card that it takes, and what it leaves."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.evaluate import chunk
from trainers import cards
from trainers.errors import UserError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("a fault\nand more"), "RuntimeError: a fault (logs/0123456789ab.log)"),
        (UserError("a mistake"), "a mistake"),
        (OSError("401: https://me:PLANTED@host"), "OSError: 401: https://me:***@host (logs/0123456789ab.log)"),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            "out of memory: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        ),
    ],
)
@pytest.mark.parametrize("answers", [True, False])
def test_a_chunk_keeps_to_its_share_and_of_a_failed_one_nothing_is_held_when_its_memory_is_given_back(
    error: Exception, told: str, answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    models: list[weakref.ref[torch.nn.Module]] = []

    def broken(values: Any) -> None:
        model = torch.nn.Linear(2, 2)
        models.append(weakref.ref(model))
        raise type(error)(str(error))

    def freed(device: torch.device) -> bool:
        calls.append([model() for model in models])
        return answers

    monkeypatch.setattr(chunk, "device_of", torch.device)
    monkeypatch.setattr(chunk, "_record", broken)
    monkeypatch.setattr(cards, "limit", lambda device, share: calls.append((device.type, share)))
    monkeypatch.setattr(cards, "freed", freed)
    values = {"threads": 1, "share": 0.5, "directory": str(tmp_path), "config": {"device": "cuda"}}
    result, usable = chunk.run_chunk({**values, "record": {"trial_id": "0123456789ab"}})
    assert calls == [("cuda", 0.5), [None]]
    assert usable is answers
    assert str(result).startswith(told)
    assert (tmp_path / "logs").exists() is ("log" in told)
    assert not any(b"PLANTED" in log.read_bytes() for log in tmp_path.glob("logs/*"))
