"""The one loop: what it reports, how it ends, and that a stopped trial goes on as if it never had been."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import tiny

from trainers import checkpoint as checkpoints
from trainers import loop, stepper, training
from trainers.config import TrialConfig
from trainers.engine import Engine
from trainers.errors import UserError
from trainers.evaluate import Evaluation
from trainers.loop import train
from trainers.method.averaging import Averaging
from trainers.record import METRICS, EpochRecord
from trainers.seeds import stable_seed
from trainers.workers import ALONE

TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}


def config(**values: Any) -> TrialConfig:
    return tiny(**{"epochs": 4} | values)


class Stopped(Exception):
    """What kills a trial in these tests."""


def run(trial: TrialConfig, checkpoint: Path | None = None, stop_after: int | None = None) -> list[EpochRecord]:
    """The trial's records without times; a trial that stops raises after reporting so many epochs."""
    records: list[EpochRecord] = []

    def report(record: EpochRecord) -> None:
        records.append(replace(record, **TIMES))
        if len(records) == stop_after:
            raise Stopped

    try:
        train(trial, report, checkpoint)
    except Stopped:
        assert len(records) == stop_after
    return records


VARIANTS = {
    "sgd": {},
    "momentum": {"optimizer": {"momentum": 0.9, "nesterov": True}},
    "deat": {"optimizer": {"name": "deat"}},
    "deat coupled": {"optimizer": {"name": "deat", "decoupled_weight_decay": False}},
    "milestones": {"schedule": {"milestones": [2, 3]}},
    "one cycle, l2": {"schedule": {"name": "one_cycle"}, "attack": {"norm": "l2", "radius": 0.5, "step_size": 0.2}},
    "augmented": {"data": {"name": "digits", "augment": True, "train_per_class": 10, "test_per_class": 5}},
    "bf16": {"precision": "bf16"},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.01}},
    "rising, free": {"attack": {"radius": 0.15, "step_size": 0.15, "replays": 2, "radius_warmup": 2.5}},
    "friendly": {"attack": {"radius": 0.15, "step_size": 0.05, "tau": 0, "tau_milestones": [1, 2]}},
    "dropout": {"model": {"name": "torchvision:squeezenet1_1"}, "optimizer": {"lr": 0.01}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_trial_stopped_twice_gives_the_numbers_of_one_never_stopped(name: str, tmp_path: Path) -> None:
    trial = config(**VARIANTS[name])
    for stop_after in (1, 3):
        run(trial, tmp_path / "trial.pt", stop_after)
    assert run(trial, tmp_path / "trial.pt") == run(trial)


#: What makes Python wait for a GPU: a tensor's value as a number, a list or an array.
WAITS = ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__float__", "__index__")


@pytest.mark.parametrize("objective", ["natural", "pgd_at", "trades", "mart", "avmixup"])
@pytest.mark.parametrize("optimizer", ["sgd", "deat"])
def test_nothing_waits_for_the_device_inside_an_epoch(
    objective: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    step, after_step = stepper.training_step, Averaging.after_step

    def waits(tensor: torch.Tensor, *args: object) -> None:
        raise AssertionError("waits for the device")

    def counted(*args: Any) -> None:
        with pytest.MonkeyPatch.context() as banned:
            for name in WAITS:
                banned.setattr(torch.Tensor, name, waits)
            step(*args)
            steps.append(1)

    def averaged(averaging: Any, model: Any, epoch: int) -> None:
        with pytest.MonkeyPatch.context() as banned:
            for name in WAITS:
                banned.setattr(torch.Tensor, name, waits)
            after_step(averaging, model, epoch)

    monkeypatch.setattr(stepper, "training_step", counted)
    monkeypatch.setattr(Averaging, "after_step", averaged)
    run(
        config(
            epochs=1,
            objective={"name": objective, "s2o": {"enabled": True}},
            weights={"name": "awp"},
            optimizer={"name": optimizer},
            averaging={"name": "ema"},
            evaluation={"steps": 1, "splits": ["val"]},
        )
    )
    assert len(steps) == 3


def test_training_leaves_torchs_own_generator_where_it_was() -> None:
    before = torch.random.get_rng_state()
    run(config(epochs=1, model={"name": "torchvision:squeezenet1_1"}))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_finished_trial_reports_again_what_it_had_and_trains_nothing(tmp_path: Path) -> None:
    trial = config()
    whole = run(trial, tmp_path / "trial.pt")
    seconds = []
    train(trial, lambda record: seconds.append(record.seconds), tmp_path / "trial.pt")
    again = []
    train(trial, lambda record: again.append(record.seconds), tmp_path / "trial.pt")
    assert seconds == again
    assert len(whole) == 4


def test_every_epoch_has_every_metric_and_the_epochs_count_from_one() -> None:
    records = run(config())
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    for record in records:
        values = {name: getattr(record, name) for name in METRICS if not name.startswith("averaged")}
        assert all(value is not None and math.isfinite(value) for value in values.values()), values
        assert all(0 <= value <= 1 for name, value in values.items() if not name.endswith("loss"))


@dataclass
class Watched:
    """What an epoch asked for, and a clock: a training step takes 1 s, a clean evaluation 10 s, a robust one 100 s."""

    clock: float = 0.0
    lrs: list[float] = field(default_factory=list)
    """Of every step."""
    modes: list[bool] = field(default_factory=list)
    """Whether the network was in train mode, at every step."""
    evaluated: list[tuple[bool, str, bool]] = field(default_factory=list)
    """Of every evaluation: train mode, precision of the engine, and whether cuDNN may take TF32."""
    models: list[Any] = field(default_factory=list)
    keys: list[tuple[Any, ...]] = field(default_factory=list)
    """Of every generator."""
    passes: list[dict[str, Any]] = field(default_factory=list)
    """How the images were asked for."""
    perturbed: list[int] = field(default_factory=list)
    """Epochs for which slot 3 was asked."""


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Epochs that train and evaluate nothing."""
    found = Watched()
    made, seeded, images, slot = loop.generator, training.default_generators, training.batches, training.weights.build

    def step(model: Any, slots: Any, images: Any, labels: Any, attacking: Any, mixing: Any, tally: Any, _: int) -> None:
        found.clock += 1
        found.lrs.append(slots.optimizer.param_groups[0]["lr"])
        found.modes.append(model.training)
        tally.count(labels == 0, torch.full((len(labels),), 1.5))

    def evaluation(seconds: float, accuracy: float, loss: float) -> Callable[..., Evaluation]:
        def measured(model: Any, split: Any, *rest: Any) -> Evaluation:
            found.clock += seconds
            (engine,) = (each for each in rest if isinstance(each, Engine))
            found.evaluated.append((model.training, engine.precision, torch.backends.cudnn.allow_tf32))
            found.models.append(model)
            return Evaluation(accuracy, loss, torch.ones(len(split.labels), dtype=torch.bool))

        return measured

    for module in (loop, training):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: found.clock))
    monkeypatch.setattr(stepper, "training_step", step)
    monkeypatch.setattr(loop.evaluate, "clean", evaluation(10, 0.5, 2.5))
    monkeypatch.setattr(loop.evaluate, "robust", evaluation(100, 0.25, 3.5))
    monkeypatch.setattr(loop, "generator", lambda device, *key: (found.keys.append(key), made(device, *key))[1])
    monkeypatch.setattr(stepper, "stable_seed", lambda *key: (found.keys.append(key), stable_seed(*key))[1])
    monkeypatch.setattr(
        training, "default_generators", lambda device, *key: (found.keys.append(key), seeded(device, *key))[1]
    )
    monkeypatch.setattr(
        training, "batches", lambda split, size, **how: (found.passes.append(how), images(split, size, **how))[1]
    )
    monkeypatch.setattr(
        training.weights,
        "build",
        lambda settings, epoch, *workers: (found.perturbed.append(epoch), slot(settings, epoch, *workers))[1],
    )
    return found


def test_an_epoch_says_what_was_measured_of_which_split_and_how_long_each_part_took(watched: Watched) -> None:
    records: list[EpochRecord] = []
    train(config(epochs=1), records.append)
    (record,) = records
    splits = {f"{split}_clean": 0.5 for split in ("train", "val", "test")}
    splits |= {f"{split}_clean_loss": 2.5 for split in ("train", "val", "test")}
    splits |= {f"{split}_robust": 0.25 for split in ("val", "test")}
    splits |= {f"{split}_robust_loss": 3.5 for split in ("val", "test")}
    assert {name: getattr(record, name) for name in splits} == splits
    assert record.train_robust_loss == 1.5
    assert (record.seconds, record.evaluation_seconds, record.samples_per_second) == (3, 3 * 10 + 2 * 100, 80 / 3)
    assert record.peak_memory_bytes > 5e7  # torch alone takes more, and in KiB it would be a thousandth


def test_the_learning_rate_is_the_schedules_at_each_step_and_the_recorded_one_the_last(watched: Watched) -> None:
    records: list[EpochRecord] = []
    train(config(epochs=2, schedule={"name": "linear"}, evaluation={"every": 9, "steps": 1}), records.append)
    expected = [0.1 * (1 - (epoch + step / 3) / 2) for epoch in range(2) for step in range(3)]
    assert watched.lrs == pytest.approx(expected)
    assert [record.lr for record in records] == pytest.approx([expected[2], expected[5]])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_is_in_train_mode_and_evaluation_in_eval_mode_and_fp32_also_of_the_average(
    precision: str, watched: Watched
) -> None:
    averaging = {"name": "swa", "start": 1}
    train(config(epochs=2, precision=precision, averaging=averaging), lambda record: None)
    assert watched.modes == [True] * 2 * 3
    assert watched.evaluated == [(False, "fp32", False)] * (5 + 5 + 4)
    raw, averaged = watched.models[0], watched.models[-1]
    assert raw is not averaged
    assert [model is raw for model in watched.models] == [True] * 10 + [False] * 4


@pytest.mark.parametrize("augment", [True, False])
def test_all_that_is_drawn_is_seeded_from_seed_epoch_and_purpose(augment: bool, watched: Watched) -> None:
    data = {"name": "digits", "validation_fraction": 0.2, "train_per_class": 10, "test_per_class": 5}
    trial = config(epochs=2, seed=7, data=data | {"augment": augment}, weights={"name": "awp", "warmup": 1})
    train(trial, lambda record: None)
    purposes = ["dropout", "attack", "mixing", "evaluation val", "evaluation test"]
    assert watched.keys == [(7, epoch, purpose) for epoch in range(2) for purpose in purposes]
    plain = {"augment": augment, "padding": "reflect", "crop_scale": None}
    plain |= {"policy": None, "mix": None, "extra": None, "seed": 7, "workers": ALONE}
    assert watched.passes == [plain | {"epoch": epoch} for epoch in range(2)]
    assert watched.perturbed == [0, 1]


def test_evaluation_is_every_n_epochs_and_always_after_the_last(watched: Watched) -> None:
    records = run(config(epochs=5, evaluation={"every": 2, "steps": 1}))
    assert [record.epoch for record in records if record.test_robust is not None] == [2, 4, 5]
    assert all(record.train_robust is not None for record in records)


def test_only_the_named_splits_are_measured(watched: Watched) -> None:
    record = run(config(epochs=1, evaluation={"splits": ["test"], "steps": 1}))[0]
    assert record.test_robust is not None
    assert record.val_robust is None
    assert record.train_clean is None


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name in METRICS if name.endswith("loss")])
def test_whichever_loss_is_not_finite_ends_the_trial_and_its_epoch_is_neither_reported_nor_kept(
    name: str, lost: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also one that only the evaluation meets."""

    def epoch(trial: Any, number: int) -> EpochRecord:
        losses = {each: 1.0 for each in METRICS if each.endswith("loss")}
        return EpochRecord(trial.id, number + 1, 0.1, **(losses | {name: lost if number == 1 else 1.0}))

    monkeypatch.setattr(loop, "_epoch", epoch)
    records: list[EpochRecord] = []
    outcome = train(config(), records.append, tmp_path / "trial.pt")
    assert (outcome.outcome, outcome.reason, outcome.epochs) == ("diverged", f"{name} is {lost} in epoch 2", 1)
    assert [record.epoch for record in records] == [1]
    state = checkpoints.load(tmp_path / "trial.pt")
    assert len(state["history"]) == 1


def test_divergence_keeps_the_records_up_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.schedules, "lr_factor", lambda schedule, progress, epochs: 1e30 if progress >= 2 else 1.0)
    records: list[EpochRecord] = []
    evaluated, evaluation = [], loop._evaluation
    monkeypatch.setattr(loop, "_evaluation", lambda trial, epoch: evaluated.append(epoch) or evaluation(trial, epoch))
    outcome = train(config(), records.append)
    assert (outcome.outcome, outcome.epochs) == ("diverged", 2)
    assert [record.epoch for record in records] == [1, 2]
    assert evaluated == [0, 1]  # and not what is lost


def test_running_out_of_memory_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(stepper, "training_step", full)
    outcome = train(config(), lambda record: None)
    assert outcome.outcome == "out_of_memory"
    assert outcome.reason == "CUDA out of memory. Tried to allocate 2 GiB"


def test_seeds_change_the_numbers_and_one_seed_repeats_them() -> None:
    assert run(config(seed=1)) == run(config(seed=1))
    assert run(config(seed=1))[0].train_robust_loss != run(config(seed=2))[0].train_robust_loss


def test_data_with_another_fingerprint_are_refused() -> None:
    with pytest.raises(UserError, match="fingerprint"):
        run(config(data={"name": "digits", "fingerprint": "digits-0000"}))


def test_adversarial_training_on_digits_makes_a_network_robust() -> None:
    trial = config(
        data={"name": "digits", "validation_fraction": 0.1},
        epochs=6,
        attack={"radius": 0.15, "step_size": 0.04, "steps": 5},
        evaluation={"steps": 10, "splits": ["test"]},
    )
    natural = run(trial.model_copy(update={"attack": trial.attack.model_copy(update={"steps": 0})}))
    robust = run(trial)
    assert robust[-1].test_robust is not None
    assert natural[-1].test_robust is not None
    assert robust[-1].test_robust > natural[-1].test_robust + 0.1
    assert robust[-1].test_robust > 0.5
