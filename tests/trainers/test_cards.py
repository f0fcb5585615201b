"""A process and its GPU, on a GPU that is played by a CPU, and on one where there is one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainers import cards
from trainers.config import TrialConfig
from trainers.loop import train
from trainers.record import OutcomeRecord

GIB = 2**30
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
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert cards.freed(CUDA) is expected
    assert waited == [CUDA]
    assert cards.freed(CPU)
    assert waited == [CUDA]


#: Ends well if the card answers before an index beyond the end is read on it, and no more afterwards.
POISONED = """
import torch
from trainers import cards
device = torch.device("cuda")
assert cards.freed(device)
try:
    torch.zeros(3, device=device)[torch.tensor([10**6], device=device)].sum().item()
except RuntimeError:
    assert not cards.freed(device)
    print("poisoned")
"""


@pytest.mark.gpu
def test_after_a_sticky_error_the_card_answers_its_process_no_more_and_others_still() -> None:
    run = subprocess.run([sys.executable, "-c", POISONED], capture_output=True, text=True, check=False)
    assert "poisoned" in run.stdout, run.stderr
    assert cards.freed(CUDA)


def trained(report: Callable[[Any], None]) -> OutcomeRecord:
    config = TrialConfig.model_validate(
        {"data": {"name": "digits", "train_per_class": 10}, "model": {"name": "small_cnn"}, "epochs": 1}
        | {"attack": {"radius": 0.1, "step_size": 0.05, "steps": 1}, "evaluation": {"steps": 1}, "device": "cuda"}
    )
    return train(config, report)


@pytest.mark.gpu
def test_after_a_trial_its_memory_is_back() -> None:
    ballast = 2**30
    trained(lambda record: None)
    assert cards.freed(CUDA)
    before = torch.cuda.memory_reserved()  # the data set stays, for the next trial
    outcome = trained(lambda record: torch.empty(ballast, dtype=torch.uint8, device=CUDA).fill_(1).sum().item())
    assert outcome.outcome == "completed"
    assert torch.cuda.memory_reserved() > ballast
    assert cards.freed(CUDA)
    assert torch.cuda.memory_reserved() <= before


@pytest.mark.gpu
def test_a_trial_over_its_share_is_out_of_memory_while_the_card_has_room() -> None:
    free, total = torch.cuda.mem_get_info()
    ballast = int(0.1 * total)
    assert free > ballast + cards.CONTEXT
    cards.limit(CUDA, 0.1)
    try:
        outcome = trained(lambda record: torch.empty(ballast, dtype=torch.uint8, device=CUDA).fill_(1).sum().item())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert outcome.outcome == "out_of_memory"
    assert cards.freed(CUDA)


class Card:
    """A card of 80 GiB that a CPU plays: what its driver and torch say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.others = self.cuda = self.held = self.most = 0
        total = 80 * GIB
        told = {
            "mem_get_info": lambda device: (total - self.others - self.cuda - self.held, total),
            "memory_reserved": lambda device: self.held,
            "max_memory_reserved": lambda device: self.most,
            "reset_peak_memory_stats": lambda device: setattr(self, "most", self.held),
        }
        for name, value in told.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def take(self, held: float, cuda: float) -> None:
        self.held, self.cuda = int(held * GIB), int(cuda * GIB)
        self.most = max(self.most, self.held)


def test_a_process_has_taken_the_most_that_torch_held_and_what_is_cudas_own(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    card.take(90, 0.3)  # an earlier trial of the process
    card.take(2, 0.3)
    meter = cards.Meter(CUDA, True)
    for held, cuda in ((5, 0.4), (30, 0.5), (10, 0.75)):
        card.take(held, cuda)
        meter.look()
        torch.cuda.reset_peak_memory_stats(CUDA)  # as each epoch does
    assert meter.alone
    assert meter.taken() == (30.75 * GIB, 0.75 * GIB)


@pytest.mark.parametrize("since", ["before", "meanwhile"])
def test_where_others_are_on_the_card_nothing_is_taken_for_the_process(
    since: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(monkeypatch)
    card.take(3, 0.5)
    card.others = 2 * GIB if since == "before" else 0
    meter = cards.Meter(CUDA, True)
    card.others = 2 * GIB
    meter.look()
    card.others = 0
    meter.look()
    assert not meter.alone
    assert meter.taken() == (None, None)


def test_nothing_is_measured_on_a_cpu_or_where_the_card_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: pytest.fail("asked"))
    for meter in (cards.Meter(CPU, True), cards.Meter(CUDA, False)):
        meter.look()
        assert meter.taken() == (None, None)
    assert cards.Meter(CPU, True).alone


def test_a_share_made_of_a_peak_leaves_torch_that_peak_and_the_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap counts CUDA's own part as it was measured, not as a bound."""
    total, reserved, own, margin = 80 * GIB, 3 * GIB, GIB // 4, 1.1
    parts: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=total))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, device: parts.append(part))
    cards.limit(CUDA, margin * (reserved + own) / total, int(margin * own))
    assert parts == [pytest.approx(margin * reserved / total)]


#: Trains a trial alone, says what its meter counted, and waits with all that is its own still held.
COUNTING = """
import sys
from pathlib import Path
import torch
from trainers import cards
from trainers.config import TrialConfig
from trainers.loop import train
device = torch.device("cuda")
cards.CONTEXT *= 4  # the process of the tests is on the card too
meter = cards.Meter(device, True)
config = TrialConfig.model_validate(
    {"data": {"name": "digits", "train_per_class": 10}, "model": {"name": "preact_resnet18"}, "epochs": 1}
    | {"attack": {"radius": 0.1, "step_size": 0.05, "steps": 1}, "evaluation": {"steps": 1}, "device": "cuda"}
)
def report(record):
    meter.look()
    memory, cuda = meter.taken()
    print(memory, cuda, memory - cuda - torch.cuda.memory_reserved(), flush=True)
    input()
train(config, report)
"""


@pytest.mark.gpu
def test_what_a_trial_counts_is_what_others_see_gone() -> None:
    """Nothing else may start or end on the card meanwhile."""
    before, total = torch.cuda.mem_get_info()
    with subprocess.Popen(
        [sys.executable, "-c", COUNTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        memory, cuda, given_back = map(int, process.stdout.readline().split())
        gone = before - torch.cuda.mem_get_info()[0]
        process.communicate("\n")
    print(f"a process of {memory / 2**20:.0f} MiB, {cuda / 2**20:.0f} of them CUDA's own; gone {gone / 2**20:.0f}")
    others = total - before  # this process and the driver, which that one takes for its own
    assert memory - given_back - others == pytest.approx(gone, abs=2**26)


#: Takes one of everything that a trial takes of CUDA, says how much of it torch counts, and waits.
TAKING = """
import torch
from trainers.models import registry
from trainers.config import ModelConfig
model = registry.build(ModelConfig(name="preact_resnet18"), num_classes=10, channels=3, image_size=(32, 32),
                       mean=(0.5,) * 3, std=(0.2,) * 3, seed=0).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for precision in (torch.float32, torch.bfloat16):
    with torch.autocast("cuda", dtype=precision, enabled=precision == torch.bfloat16):
        model(torch.rand(128, 3, 32, 32, device="cuda")).sum().backward()
    optimizer.step()
torch.cuda.synchronize()
print(torch.cuda.memory_reserved(), flush=True)
input()
"""


@pytest.mark.gpu
def test_cuda_takes_no_more_of_a_process_than_is_kept_for_it() -> None:
    """Nothing else may start or end on the card meanwhile."""
    before = torch.cuda.mem_get_info()[0]
    with subprocess.Popen(
        [sys.executable, "-c", TAKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        counted = int(process.stdout.readline())
        taken = before - torch.cuda.mem_get_info()[0] - counted
        process.communicate("\n")
    print(f"CUDA's own part of a process: {taken / 2**20:.0f} MiB")
    assert 0 < taken <= cards.CONTEXT


#: What a launch's or an evaluation's own process asks of CUDA.
ASKING = """
import torch
from trainers.engine import device_of
from trainers.provenance import environment
assert environment()["gpus"]
assert device_of("auto").type == "cuda"
print(torch._C._cuda_hasPrimaryContext(0))
"""


@pytest.mark.gpu
def test_asking_what_cards_there_are_takes_nothing_of_them() -> None:
    """Else a launch would hold memory of the card that its trials need, and all of one in exclusive mode."""
    run = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=False)
    assert run.stdout == "False\n", run.stderr
