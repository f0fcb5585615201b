"""A process and its GPU, on a GPU that is played by a CPU, and on one where there is one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from trainers import cards

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (None, True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: unspecified launch failure"), False),
        (torch.OutOfMemoryError("CUDA out of memory."), True),  # the card is full, by a neighbour perhaps
    ],
)
def test_a_card_answers_unless_a_sum_of_one_number_raises(
    raised: Exception | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    def synchronize(device: torch.device) -> None:
        waited.append(device)
        if raised is not None:
            raise raised

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert cards.answers(CUDA) is expected
    assert waited == [CUDA]
    assert cards.answers(CPU)
    assert waited == [CUDA]


#: Ends well if the card answers before an index beyond the end is read on it, and no more afterwards.
POISONED = """
import torch
from trainers import cards
device = torch.device("cuda")
assert cards.answers(device)
try:
    torch.zeros(3, device=device)[torch.tensor([10**6], device=device)].sum().item()
except RuntimeError:
    assert not cards.answers(device)
    print("poisoned")
"""


@pytest.mark.gpu
def test_after_a_sticky_error_the_card_answers_its_process_no_more_and_others_still() -> None:
    run = subprocess.run([sys.executable, "-c", POISONED], capture_output=True, text=True, check=False)
    assert "poisoned" in run.stdout, run.stderr
    assert cards.answers(CUDA)
