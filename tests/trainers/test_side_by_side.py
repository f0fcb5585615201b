"""Trials of one process, each in a thread: the numbers that each has alone, no flags, draws or captures mixed.

On a CPU threads take turns far more often here than Python has them do, so that what is not safe fails.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small import tiny

from trainers import loop, process
from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data import sets
from trainers.engine import engine_of, float32_products
from trainers.errors import UserError
from trainers.models import registry
from trainers.randomness import repeatable
from trainers.record import DynamicsRecord, EpochRecord, OutcomeRecord
from trainers.side_by_side import side_by_side
from trainers.stepper import Stepper
from trainers.training import Training

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TIMES = dict.fromkeys(
    ("seconds", "evaluation_seconds", "checkpoint_seconds", "preparing_seconds", "samples_per_second"), 0.0
)


@pytest.fixture(autouse=True)
def many_turns() -> Iterator[None]:
    """Threads take turns every 10 microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


TRIALS = [
    tiny(optimizer={"lr": 0.1}),
    tiny(optimizer={"name": "deat", "lr": 0.2}, seed=1, data={"name": "digits", "train_per_class": 12}),
    tiny(objective={"name": "trades"}, weights={"name": "awp", "warmup": 1}, averaging={"name": "ema"}),
    tiny(attack={"radius": 0.15, "step_size": 0.15, "replays": 2, "radius_warmup": 2}),
    tiny(attack={"radius": 0.15, "step_size": 0.1, "tau": 0}, optimizer={"name": "adamw", "lr": 0.01}),
    tiny(precision="bf16", batch_norm_data="clean"),
    tiny(precision="bf16", seed=3),
]
MEASURED = tiny(dynamics={"every": 3, "images": 50, "eigenpairs": 2, "probes": 2, "batches": 4}, seed=2)


class Stopped(Exception):
    """What kills a trial in these tests."""


def train(
    config: TrialConfig, found: list[Any], path: Path | None = None, stop_after: int | None = None
) -> OutcomeRecord:
    """The trial's records without times, and its outcome as the last; one that stops raises after so many records."""

    def report(record: EpochRecord | DynamicsRecord) -> None:
        if isinstance(record, EpochRecord):
            record = replace(record, **TIMES, peak_memory_bytes=0)
        found.append({name: value for name, value in asdict(record).items() if name != "seconds"})
        if len(found) == stop_after:
            raise Stopped

    outcome = loop.train(config, report, path)
    found.append(asdict(outcome))
    return outcome


def together(configs: list[TrialConfig], device: torch.device = CPU, **options: Any) -> list[list[Any]]:
    found: list[list[Any]] = [[] for _ in configs]
    works = [partial(train, config, records) for config, records in zip(configs, found, strict=True)]
    side_by_side(works, device, **options)
    return found


def alone(config: TrialConfig) -> list[Any]:
    found: list[Any] = []
    train(config, found)
    return found


def test_trials_side_by_side_have_the_numbers_that_each_has_alone() -> None:
    assert together([*TRIALS, MEASURED]) == [alone(config) for config in (*TRIALS, MEASURED)]


def test_trials_that_stop_together_go_on_together_to_the_numbers_of_trials_never_stopped(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.pt" for number in range(len(TRIALS))]
    found: list[list[Any]] = [[] for _ in TRIALS]
    works = [
        partial(train, config, records, path, stop_after=2)
        for config, records, path in zip(TRIALS, found, paths, strict=True)
    ]
    with pytest.raises(Stopped):
        side_by_side(works, CPU)
    assert [len(records) for records in found] == [2] * len(TRIALS)
    again: list[list[Any]] = [[] for _ in TRIALS]
    works = [partial(train, config, records, path) for config, records, path in zip(TRIALS, again, paths, strict=True)]
    side_by_side(works, CPU)
    assert again == [alone(config) for config in TRIALS]


def test_a_trial_that_diverges_or_fails_leaves_its_neighbours_alone() -> None:
    diverging = tiny(optimizer={"lr": 1e9}, schedule={"name": "constant"})
    other = tiny(data={"name": "digits", "fingerprint": "0" * 12})
    found: list[list[Any]] = [[], [], []]
    works = [partial(train, *each) for each in zip((other, diverging, TRIALS[0]), found, strict=True)]
    with pytest.raises(UserError, match=r"^data.fingerprint: "):
        side_by_side(works, CPU)
    assert found == [[], alone(diverging), alone(TRIALS[0])]
    assert found[1][-1]["outcome"] == "diverged"


def test_networks_built_at_once_have_the_weights_of_networks_built_one_after_another() -> None:
    def build(seed: int) -> torch.Tensor:
        shape: dict[str, Any] = {"num_classes": 10, "channels": 1, "image_size": 8, "mean": (0.5,), "std": (0.5,)}
        network = registry.build(ModelConfig(name="small_cnn"), **shape, seed=seed)
        return torch.cat([each.flatten() for each in network.parameters()])

    before, found = torch.get_rng_state(), dict[int, torch.Tensor]()
    side_by_side([partial(lambda seed: found.update({seed: build(seed)}), seed) for seed in range(24)], CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(found[seed], build(seed)) for seed in range(24))


def test_who_seeds_torchs_own_generators_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Initial weights, an epoch's dropout, passes for batch norm, dynamics."""
    fork, held = torch.random.fork_rng, list[bool]()

    def forked(**options: Any) -> Any:
        held.append(process.alone._is_owned())  # type: ignore[attr-defined]
        return fork(**options)

    monkeypatch.setattr(torch.random, "fork_rng", forked)
    together([*TRIALS, MEASURED])
    assert len(held) >= len(TRIALS) + 3
    assert all(held)


def test_data_that_trials_share_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, loaded = list[str](), sets._loaded
    monkeypatch.setattr(sets, "_last", {})
    monkeypatch.setattr(sets, "_loaded", lambda *given: (loads.append("a load"), loaded(*given))[1])
    side_by_side([partial(sets.load, DataConfig(name="digits"), "cpu")] * 8, CPU)
    assert loads == ["a load"]


def _tf32() -> tuple[bool, str]:
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


def test_no_neighbour_that_leaves_its_block_gives_up_true_fp32_and_afterwards_torch_is_as_it_was() -> None:
    torch.backends.cudnn.allow_tf32 = True
    before, within, left = _tf32(), threading.Event(), threading.Event()
    seen = []

    def short() -> None:
        with float32_products("bf16"):
            within.wait(60)
        left.set()

    def long() -> None:
        with float32_products("fp32"):
            within.set()
            assert left.wait(60)
            seen.append(_tf32())

    side_by_side([short, long], CPU)
    assert seen == [(False, "highest")]
    assert _tf32() == before


def test_tf32_and_trials_that_differ_in_deterministic_are_refused() -> None:
    with process.sharing():
        with pytest.raises(UserError, match=r"^precision: tf32 .*set resources.trials_per_process: 1$"):
            float32_products("tf32").__enter__()
        with pytest.raises(UserError, match=r"^deterministic: must be the same .* got True; .*trials_per_process: 1$"):
            repeatable(GPU, True).__enter__()


def test_kernels_stay_deterministic_after_the_first_trial_has_ended() -> None:
    with repeatable(GPU, True):
        with process.sharing(), repeatable(GPU, True):
            pass
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_network_that_draws_itself_is_refused_and_its_neighbours_are_not() -> None:
    dropout = tiny(model={"name": "torchvision:squeezenet1_1"}, optimizer={"lr": 0.01})
    found: list[list[Any]] = [[], []]
    with pytest.raises(UserError, match=r"^model.name: draws at random .*; set resources.trials_per_process: 1$"):
        side_by_side([partial(train, *each) for each in zip((dropout, TRIALS[2]), found, strict=True)], CPU)
    assert found == [[], alone(TRIALS[2])]


def test_trials_that_share_a_process_are_not_compiled_and_say_so() -> None:
    with process.sharing():
        engine, reason = engine_of(tiny(engine="compile", device="cpu"))
    assert (engine.mode, reason) == ("eager", "trials that share a process are not compiled")


class Watched:
    """A step whose capture is for a thread that is alone."""

    def __init__(self, generators: list[torch.Generator]) -> None:
        del generators

    def capture(self, function: Callable[[], None]) -> None:
        assert process.alone._is_owned()  # type: ignore[attr-defined]
        self._function = function

    def replay(self) -> None:
        self._function()


def test_one_thread_at_a_time_captures() -> None:
    def trains(seed: int) -> None:
        config = loop.with_fingerprint(tiny(seed=seed))
        training = Training.begin(config)
        training.stepper = Stepper(training.model, training.engine, seed, Watched)
        training.epoch(0)
        assert len(training.stepper._captured) == 1

    side_by_side([partial(trains, seed) for seed in range(6)], CPU)


def test_steps_after_the_first_and_replays_wait_for_no_neighbour() -> None:
    """They go on while another thread captures."""
    trainings = [Training.begin(loop.with_fingerprint(tiny(seed=seed))) for seed in range(2)]
    trainings[1].stepper = Stepper(trainings[1].model, trainings[1].engine, 1, Watched)
    for training in trainings:
        training.epoch(0)
        training.epoch(1)
    held, done = threading.Event(), threading.Event()

    def holds() -> None:
        with process.alone:
            held.set()
            assert done.wait(60)

    def goes_on() -> None:
        assert held.wait(60)
        for training in trainings:
            training.epoch(2)
        done.set()

    side_by_side([holds, goes_on], CPU)


def test_a_trial_gives_no_memory_back_that_a_neighbour_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS's workspaces are those of captured steps too."""
    from trainers import cards

    asked, zeros = list[str](), torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append("answers"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty_cache"))
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: asked.append("workspaces"), raising=False)
    with process.sharing():
        assert cards.freed(GPU)
    assert asked == ["answers"]
    assert cards.freed(GPU)
    assert asked == ["answers", "workspaces", "empty_cache", "answers"]


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_on_a_gpu_trials_on_streams_of_their_own_have_the_numbers_that_each_has_alone(engine: str) -> None:
    configs = [config.model_copy(update={"engine": engine, "deterministic": True}) for config in TRIALS[:3]]
    found = together(configs, GPU, deterministic=True)
    assert found == [alone(config) for config in configs]
    assert {record["engine"] for records in found for record in records[:-1]} == {engine}
