"""Nothing of a trial stays behind on the CPU while its network is on another device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainers import engine, loop, stepper, training
from trainers.config import TrialConfig
from trainers.data import batches
from trainers.dynamics import loss, measurement
from trainers.engine import Engine
from trainers.ladder import rungs, survivors
from trainers.ladder.rungs import LadderAttack
from trainers.loop import train
from trainers.record import DynamicsRecord, EpochRecord
from trainers.seeds import stable_seed

CARD = torch.device("meta")


class Card(TorchDispatchMode):
    """Stands in for a GPU: torch's meta device, which like it refuses tensors of the CPU, and generators too.

    Its tensors hold no values: whoever asks for one gets 1, and the CPU a tensor of ones. Torch has no generators for
    them: those that stand for the card's are known by their seeds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seeds: set[int] = set()

    def generator(self, device: torch.device | str, *key: int | str) -> torch.Generator:
        """What `trainers.randomness.generator` gives."""
        return torch.Generator().manual_seed(self.seed(*key) if device == CARD else stable_seed(*key))

    def seed(self, *key: int | str) -> int:
        """Of a generator on the card."""
        self.seeds.add(stable_seed(*key))
        return stable_seed(*key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        first = args[0] if args else None
        on_card = isinstance(first, torch.Tensor) and first.device == CARD
        if func is torch.ops.aten._local_scalar_dense.default and on_card:
            return 1.0 if first.is_floating_point() else 1
        if func is torch.ops.aten.nonzero.default and on_card:
            return torch.zeros((len(first), first.dim()), dtype=torch.long, device=CARD)
        if func is torch.ops.aten._to_copy.default and on_card and given.get("device") == torch.device("cpu"):
            return torch.ones(first.shape, dtype=given.get("dtype") or first.dtype)
        found = func(*args, **given)
        if (draws := given.get("generator")) is not None:
            assert (draws.initial_seed() in self.seeds) == (found.device == CARD), f"{func} on {found.device}"
        return found


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which `auto` is the card."""

    for module in (loop, training, engine):
        monkeypatch.setattr(module, "device_of", lambda name: CARD)
    with Card() as card:
        for module in (loop, stepper, measurement, loss, batches):
            monkeypatch.setattr(module, "generator", card.generator)
        monkeypatch.setattr(stepper, "stable_seed", card.seed)
        yield


def config(**values: Any) -> TrialConfig:
    small = {
        "data": {"name": "digits", "train_per_class": 2, "test_per_class": 1, "validation_fraction": 0.5},
        "model": {"name": "small_cnn"},
        "batch_size": 8,
        "epochs": 2,
        "attack": {"steps": 2},
        "evaluation": {"steps": 2, "batch_size": 16},
        "engine": "eager",
    }
    return TrialConfig.model_validate(small | values)


class Killed(Exception):
    pass


def kill(record: object) -> None:
    """Ends a trial at what it reports first."""
    raise Killed(type(record).__name__)


DYNAMICS = {"every": 1, "images": 10, "eigenpairs": 2, "probes": 2, "batches": 4, "line": [1.0]}


@pytest.mark.parametrize(("name", "batch_norm"), [("pgd_at", "eval"), ("avmixup", "train")])
def test_dynamics_are_measured_where_the_network_is(card: None, name: str, batch_norm: str) -> None:
    trial = config(objective={"name": name}, dynamics=DYNAMICS | {"batch_norm": batch_norm, "batch_sizes": [4]})
    with pytest.raises(Killed, match="DynamicsRecord"):  # of epoch 0: a measurement takes seconds here
        train(trial, kill)


METHODS: list[dict[str, Any]] = [
    {"objective": {"name": "trades"}, "weights": {"name": "awp", "warmup": 0}},
    {"objective": {"name": "mart", "s2o": {"enabled": True}}, "averaging": {"name": "ema"}},
    {"optimizer": {"name": "deat"}, "averaging": {"name": "swa", "start": 0}, "data": {"augment": True}},
    {"attack": {"steps": 2, "norm": "l2", "radius": 0.5, "start": "uniform_radius", "batch_norm": "batch"}},
    {"optimizer": {"momentum": 0.9}, "evaluation": {"restarts": 2, "steps": 2, "batch_size": 16}},
]


@pytest.mark.parametrize("values", METHODS, ids=str)
def test_a_trial_and_what_it_goes_on_from_are_on_its_device(card: None, values: dict[str, Any], tmp_path: Path) -> None:
    plain = config().model_dump(exclude_unset=True)
    trial = config(**{key: plain.get(key, {}) | part for key, part in values.items()})

    with pytest.raises(Killed):
        train(trial, kill, resume=tmp_path / "trial.pt")
    assert train(trial, lambda record: None, resume=tmp_path / "trial.pt").outcome == "completed"


@pytest.mark.parametrize("name", ["fgsm", "pgd", "cw"])
def test_the_ladder_attacks_where_the_network_is(card: None, name: rungs.AttackName) -> None:
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    network = Engine(CARD).prepare(torch.nn.Sequential(*layers))
    images, labels = torch.rand(6, 3, 8, 8, device=CARD), torch.zeros(6, dtype=torch.long, device=CARD)
    attack = LadderAttack(name=name, norm="l2", radius=0.5, steps=2, step_size=0.2, restarts=2, start="uniform_radius")
    assert survivors.still_right(network, images, labels, attack, seed=0).device == CARD


@pytest.mark.gpu
@pytest.mark.parametrize("batch_norm", ["eval", "train"])
@pytest.mark.parametrize("network", ["small_cnn", "vit_small"])
def test_a_whole_measurement_runs_on_a_gpu_and_agrees_with_the_cpu_s(network: str, batch_norm: str) -> None:
    measured: dict[str, DynamicsRecord] = {}
    for device in ("cpu", "cuda"):
        records: list[EpochRecord | DynamicsRecord] = []
        settings = DYNAMICS | {"batch_norm": batch_norm, "batch_sizes": [4]}
        # without attack steps nothing is drawn on the device before the weights' first measurement
        trial = config(device=device, epochs=1, attack={"steps": 0}, model={"name": network}, dynamics=settings)
        assert train(trial, records.append).outcome == "completed"
        found = [record for record in records if isinstance(record, DynamicsRecord)]
        assert [record.epoch for record in found] == [0, 1]
        measured[device] = found[0]
    for name in ("loss", "gradient_squared", "curvatures"):
        here, there = (getattr(measured[device], name) for device in ("cpu", "cuda"))
        assert there == pytest.approx(here, rel=0.02, abs=1e-3), name
