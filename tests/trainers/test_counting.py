"""What a trial takes, counted: FLOPs against a step that is counted whole, memory against what lives in one."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers import counting
from trainers.config import TrialConfig
from trainers.data.sources import Shape
from trainers.engine import Engine
from trainers.method.step import Tally, training_step

SMALL = Shape(100, 20, 40, 10, 3, 16, 16)
NO_IMAGES = {f"{name}_images": 0 for name in ("train", "val", "test", "extra")}
CPU = torch.device("cpu")


def trial(**parts: Any) -> TrialConfig:
    return TrialConfig.model_validate({"model": {"name": "preact_resnet18"}, **parts}).resolved()


def test_preact_resnet18_takes_what_is_published_of_it() -> None:
    """1.11 GFLOP forward, two a multiply-add: 0.56 G multiply-adds, as in
    https://github.com/kuangliu/pytorch-cifar of ResNet-18; 11.2 million parameters."""
    found = counting.work(trial(), Shape(49_000, 1_000, 10_000, 10, 3, 32, 32))
    assert found.forward == pytest.approx(1.11e9, rel=0.005)
    assert found.parameters == pytest.approx(11.17e6, rel=0.001)
    assert found.step / found.forward == pytest.approx(25, abs=0.1)
    assert found.attack == 21 * found.forward


@pytest.mark.parametrize(
    ("parts", "passes"),
    [
        ({"objective": {"name": "natural"}}, 3),
        ({"attack": {"steps": 0}}, 3),
        ({"attack": {"steps": 1}}, 7),
        ({"attack": {"steps": 2}}, 9),
        ({"attack": {"steps": 40}}, 85),
        ({"objective": {"name": "trades"}}, 28),
        ({"objective": {"name": "mart"}, "weights": {"name": "awp"}}, 32),
        ({"weights": {"name": "awp", "warmup": 10}, "epochs": 40}, 24 + 3 * 30 / 40),
        ({"weights": {"name": "awp", "warmup": 50}, "epochs": 40}, 25),
        ({"optimizer": {"name": "deat"}}, 25),
        ({"optimizer": {"name": "adamw"}, "objective": {"label_smoothing": 0.1}}, 25),
        ({"attack": {"steps": 1, "start_scale": 2, "project": False}, "batch_norm_data": "adversarial"}, 5),
        ({"attack": {"tau": 0, "tau_milestones": [1], "radius_warmup": 2}}, 25),
        ({"attack": {"replays": 8}}, 3),
        ({"attack": {"replays": 8}, "objective": {"name": "mart"}, "weights": {"name": "awp"}}, 12),
    ],
    ids=str,
)
def test_a_step_takes_so_many_forward_passes(parts: dict[str, Any], passes: float) -> None:
    found = counting.work(trial(model={"name": "small_cnn"}, **parts), SMALL)
    # less the first layer's input gradient, which no update needs: a ninth of a pass here
    assert found.step / found.forward == pytest.approx(passes, abs=0.5)


@pytest.mark.parametrize(
    "parts",
    [
        {"objective": {"name": "mart"}, "weights": {"name": "awp"}},
        {"attack": {"tau": 0}, "averaging": {"name": "swa"}},
        {"attack": {"replays": 8}, "optimizer": {"name": "deat"}},
        {"objective": {"name": "avmixup"}, "optimizer": {"name": "adamw"}},
        {"objective": {"s2o": {"enabled": True}}},
    ],
    ids=str,
)
def test_a_small_network_is_computed_and_counted_as_one_without_values(
    parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (counting._COMPUTED, 0):
        monkeypatch.setattr(counting, "_COMPUTED", most)
        counting._work.cache_clear()
        counting._network.cache_clear()
        found.append(counting.work(trial(model={"name": "small_cnn"}, **parts), SMALL))
        network = counting._network(trial(model={"name": "small_cnn"}).model, SMALL._replace(**NO_IMAGES))
        assert next(network.parameters()).is_meta == (most == 0)
    computed, without_values = found
    assert computed[:5] == without_values[:5]
    assert computed.kept == pytest.approx(without_values.kept, rel=0.05)


def test_neither_a_plan_nor_training_loads_torchs_compiler() -> None:
    """It takes 2 s of a process."""
    code = """
import sys
from trainers.config import TrialConfig
from trainers.counting import rates
from trainers.data.sources import Shape
for values in ({"name": "sgd"}, {"name": "sgd", "decoupled_weight_decay": True}, {"name": "deat"}, {"name": "adamw"}):
    config = TrialConfig.model_validate({"model": {"name": "small_cnn"}, "optimizer": values, "attack": {"steps": 1}})
    rates(config.resolved(), Shape(100, 20, 40, 10, 3, 16, 16), 1, "cpu")
assert "torch" in sys.modules
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_epoch_is_its_training_and_the_evaluations_that_it_has_on_average() -> None:
    work = counting.Work(forward=1.0, step=23.0, attack=21.0, parameters=0, buffers=0, kept=0.0, kept_attacking=0.0)
    assert counting.epoch_flops(trial(), SMALL, work) == (2300, 100 + 60 * 22)
    seldom = trial(epochs=10, evaluation={"every": 4})  # after 4, 8 and 10
    assert counting.epoch_flops(seldom, SMALL, work) == (2300, pytest.approx((100 + 60 * 22) * 3 / 10))
    assert counting.epoch_flops(trial(attack={"replays": 8}), SMALL, work)[0] == 8 * 2300
    averaged = trial(averaging={"name": "ema"}, evaluation={"splits": ["test"]})
    assert counting.epoch_flops(averaged, SMALL, work) == (2300, 2 * 40 * 22)


class Living(TorchDispatchMode):
    """Bytes of the tensors that live, and the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._seen:
                self._born(tensor.untyped_storage())
        return out

    def _born(self, storage: torch.UntypedStorage) -> None:
        self._seen[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._died, storage._cdata)

    def _died(self, key: int) -> None:
        self.now -= self._seen.pop(key, 0)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"objective": {"name": "trades"}},
        {"weights": {"name": "awp"}, "optimizer": {"name": "deat"}},
        {"optimizer": {"momentum": 0.9}},
        {"optimizer": {"name": "adamw"}},
        {"attack": {"replays": 2}},
    ],
    ids=str,
)
def test_the_memory_estimated_is_what_lives_at_the_fullest_moment_of_two_steps(parts: dict[str, Any]) -> None:
    config = trial(**{"attack": {"steps": 1}, "evaluation": {"batch_size": 1}, "batch_size": 64, **parts})
    with FakeTensorMode(), Living() as living:
        model = counting._built(config.model, SMALL)
        images, labels = counting._batch(SMALL, config.batch_size, CPU)
        slots, draws = counting._slots(config, model, Engine(CPU), 10, images), torch.Generator()
        for _ in range(2):
            training_step(model.train(), slots, images, labels, draws, draws, Tally.empty(CPU))
    images_held = 160 * SMALL.pixels
    found = counting.memory(config, SMALL, counting.work(config, SMALL)) - images_held
    assert found == pytest.approx(living.most, rel=0.06)


def test_an_evaluation_of_large_batches_holds_the_most() -> None:
    shape = SMALL._replace(test_images=1000)
    small, large = (
        counting.memory(config, shape, counting.work(config, shape))
        for config in (trial(batch_size=8, evaluation={"batch_size": size}) for size in (8, 500))
    )
    kept = counting.work(trial(), shape).kept_attacking
    assert large - small == pytest.approx(492 * kept, rel=1e-3)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"keep": "none"},
        {"keep": "both", "optimizer": {"name": "deat"}},
        {"optimizer": {"momentum": 0.9}, "averaging": {"name": "ema"}},
        {"optimizer": {"name": "adamw"}},
        {"attack": {"replays": 2}},
        {"keep": "state", "optimizer": {"name": "adamw"}, "averaging": {"name": "ema"}},
        {"keep": "state", "attack": {"replays": 2}},
    ],
    ids=str,
)
def test_the_files_estimated_are_those_that_a_trial_writes(
    parts: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most three of a trial that trains, and at its end one."""
    from trainers.checkpoint import write_held
    from trainers.data.sources import shapes
    from trainers.loop import train, with_fingerprint

    digits = {"data": {"name": "digits", "train_per_class": 4, "test_per_class": 2, "validation_fraction": 0.25}}
    values = {**digits, "model": {"name": "small_cnn"}, "epochs": 4, "attack": {"steps": 1}, **parts}
    config = with_fingerprint(TrialConfig.model_validate(values))
    sizes: list[int] = []
    file = tmp_path / "trial.pt"
    replace = os.replace

    def moved(source: Any, target: Any) -> None:
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", moved)

    def report(record: object) -> None:
        write_held()

    train(config, report, resume=file)
    shape = shapes([config.data])[config.data]
    running, kept = counting.checkpoint_bytes(config, shape, counting.work(config, shape))
    assert sizes[-4] == pytest.approx(running, rel=0.2, abs=60_000)  # names and pickles take 15 kB each
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == pytest.approx(kept, rel=0.2, abs=20_000)


def test_rates_are_timed_and_leave_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    config = trial(model={"name": "small_cnn"}, attack={"steps": 2})
    training, evaluation = counting.rates(config, SMALL, threads=1, device="cpu")
    assert 1e7 < training < 1e13
    assert 1e7 < evaluation < 1e13
    assert torch.get_num_threads() == before


def test_an_attack_in_bf16_is_faster_and_the_passes_that_count_are_not() -> None:
    evaluation = {"steps": 10, "restarts": 1}
    exact = trial(evaluation=evaluation)
    rough = trial(evaluation={**evaluation, "precision": "bf16"})
    assert counting.evaluation_rate(exact, SMALL, 16.0, 1.0) == 1.0
    flops = counting.epoch_flops(rough, SMALL, counting.work(rough, SMALL)._replace(forward=1.0, attack=21.0))[1]
    held_out = SMALL.val_images + SMALL.test_images
    seconds = held_out * 20 / 16 + held_out * 2 + SMALL.train_images
    assert counting.evaluation_rate(rough, SMALL, 16.0, 1.0) == pytest.approx(flops / seconds)
    assert counting.rates(rough, SMALL, threads=1, device="cpu")[1] > 1e7


def test_what_is_timed_is_some_images_on_a_cpu_and_a_whole_batch_on_a_gpu() -> None:
    """Of a few images it would be the launching of kernels: PreActResNet-18's step on 128 takes 3.55 TFLOP."""
    step = counting.work(trial(), Shape(49_000, 1_000, 10_000, 10, 3, 32, 32)).step
    assert 128 * step == pytest.approx(3.55e12, rel=0.01)
    assert counting._size(128, step, CPU) == 2
    assert counting._size(128, step, torch.device("cuda")) == 128


@pytest.mark.parametrize(
    ("takes", "times"),
    [
        ([5.0, 0.004], counting._REPEATS),  # what the first loads is no timing
        ([0.5, 0.2], 3),
        ([5.0, 4.0], 2),
        ([0.001, 0.001], counting._REPEATS),
    ],
)
def test_a_step_is_timed_anew_for_a_tenth_of_a_second_once_it_is_warm(
    takes: list[float], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, begun = 0.0, 0

    def once() -> None:
        nonlocal now, begun
        now += takes[min(begun, 1)]
        begun += 1

    monkeypatch.setattr(counting.time, "perf_counter", lambda: now)
    assert counting._seconds(once, CPU) == pytest.approx(takes[1])
    assert begun == times


@pytest.mark.gpu
def test_a_gpu_is_timed_at_more_than_launching_kernels_takes() -> None:
    config = trial(precision="bf16", data={"name": "cifar10"})
    training, evaluation = counting.rates(config, Shape(49_000, 1_000, 10_000, 10, 3, 32, 32), 1, "cuda")
    print(f"PreActResNet-18, PGD-10: {training / 1e12:.1f} TFLOP/s in bf16, evaluation {evaluation / 1e12:.1f} in fp32")
    assert min(training, evaluation) > 5e12
