"""Captured and compiled steps against eager ones: the same numbers, and nothing stale."""

from __future__ import annotations

import copy
import fcntl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import TINY, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from trainers import engine as engines
from trainers.config import TrialConfig
from trainers.identity import trial_id
from trainers.loop import with_fingerprint
from trainers.method import optimizers
from trainers.method.attacks import gradient
from trainers.method.step import adversarial
from trainers.models.small_cnn import SmallCNN
from trainers.stepper import Stepper
from trainers.training import Training


class Recording(TorchDispatchMode):
    """What a CUDA graph does, on a CPU: every operation with its tensors' addresses and its numbers, done again.

    A replay runs no Python of the step: what was a number then is that number for ever, what is a tensor is read anew.
    """

    def __init__(self, generators: list[torch.Generator]) -> None:
        super().__init__()
        self._done: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._generators = generators
        self._kept: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        """All memory that an operation was given, by its address, and what it held before the first was."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        for each in (*args, *given.values()):
            ours = {own.initial_seed() for own in self._generators}
            assert not isinstance(each, torch.Generator) or each.initial_seed() in ours, f"{func}: another generator"
        assert func is not torch.ops.aten._local_scalar_dense.default, "a step waits for the device"
        for each in tree_leaves((args, given)):
            if isinstance(each, torch.Tensor) and (place := each.untyped_storage()).data_ptr() not in self._kept:
                self._kept[place.data_ptr()] = place, place.clone()
        out = func(*args, **given)
        # an alias is the address: a parameter's `data` may be another tensor later
        self._done.append(tree_map_only(torch.Tensor, torch.Tensor.detach, (func, args, given, out)))
        return out

    def capture(self, function: Callable[[], None]) -> None:
        """A capture does nothing on the device: here it is done, and undone."""
        drawn = [each.get_state() for each in self._generators]
        with self:
            function()
        for storage, before in self._kept.values():
            storage.copy_(before)
        self._kept.clear()
        for each, state in zip(self._generators, drawn, strict=True):
            each.set_state(state)

    def replay(self) -> None:
        """Every operation again, its result put where it was when it was recorded."""
        with torch.no_grad():
            for func, args, given, out in self._done:
                again = func(*args, **given)
                for place, value in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if (
                        isinstance(place, torch.Tensor)
                        and place.untyped_storage().data_ptr() != value.untyped_storage().data_ptr()
                    ):
                        place.copy_(value)


def trial(**parts: Any) -> TrialConfig:
    """Seven steps an epoch, the last of them short."""
    data = TINY["data"] | {"train_per_class": 13}
    schedule = {"schedule": {"name": "cosine"}, "evaluation": {}}
    return with_fingerprint(tiny(**{"data": data, "batch_size": 16} | schedule | parts))


#: One trial for everything that changes what a step does.
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"optimizer": {"momentum": 0.9, "nesterov": True}},
    "decoupled": {"optimizer": {"decoupled_weight_decay": True}},
    "deat": {"optimizer": {"name": "deat"}},
    "deat, coupled": {"optimizer": {"name": "deat", "decoupled_weight_decay": False}},
    "awp": {"weights": {"name": "awp", "warmup": 1}},
    "trades": {"objective": {"name": "trades"}},
    "mart": {"objective": {"name": "mart"}},
    "avmixup": {"objective": {"name": "avmixup"}},
    "s2o": {"objective": {"name": "pgd_at", "s2o": {"enabled": True}}},
    "trades, awp, s2o under deat": {
        "objective": {"name": "trades", "s2o": {"enabled": True}},
        "weights": {"name": "awp", "warmup": 1},
        "optimizer": {"name": "deat"},
    },
    "ema": {"averaging": {"name": "ema", "ema_warmup": True}},
    "swa": {"averaging": {"name": "swa", "start": 1}, "optimizer": {"name": "deat"}},
    "l2": {"attack": {"norm": "l2", "radius": 1.0, "step_size": 0.3, "steps": 2}},
    "attack in train mode": {"attack": {"radius": 0.15, "step_size": 0.04, "steps": 2, "batch_norm": "train"}},
    "clean statistics": {"batch_norm_data": "clean"},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.01}},
    "smooth labels": {"objective": {"name": "trades", "label_smoothing": 0.1}},
    "fgsm_rs": {"attack": {"radius": 0.15, "step_size": 0.19, "steps": 1, "batch_norm": "train"}},
    "n_fgsm": {"attack": {"radius": 0.1, "step_size": 0.1, "steps": 1, "start_scale": 2, "project": False}},
    "rising": {"attack": {"radius": 0.15, "step_size": 0.1, "steps": 2, "radius_warmup": 2.5, "step_size_warmup": 1}},
    "rising in l2": {"attack": {"norm": "l2", "radius": 1.0, "step_size": 0.3, "steps": 2, "radius_warmup": 2.5}},
    "fat": {"attack": {"radius": 0.15, "step_size": 0.05, "steps": 3, "tau": 0, "tau_milestones": [1, 2]}},
    "free": {"attack": {"radius": 0.15, "step_size": 0.15, "replays": 2, "radius_warmup": 1.5}},
    "free, mart, awp, s2o under adamw": {
        "attack": {"radius": 0.15, "step_size": 0.15, "replays": 2},
        "objective": {"name": "mart", "s2o": {"enabled": True}},
        "weights": {"name": "awp", "warmup": 1},
        "optimizer": {"name": "adamw", "lr": 0.01},
    },
    "natural": {"objective": {"name": "natural"}},
    "decay inside": {"schedule": {"name": "one_cycle"}},
    "bf16": {"precision": "bf16"},
    "cutmix": {"data": TINY["data"] | {"train_per_class": 13, "cutmix": 0.5}},
    "trades, awp, cutmix": {
        "data": TINY["data"] | {"train_per_class": 13, "cutmix": 1, "cutmix_window": "20/32"},
        "objective": {"name": "trades"},
        "weights": {"name": "awp", "warmup": 1},
    },
    "policy": {"data": TINY["data"] | {"train_per_class": 13, "policy": "randaugment"}},
    "augmented": {"data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 13, "augment": True}},
}


def capturable(training: Training) -> Training:
    """The training with the optimizer that a GPU has: its learning rate a tensor."""
    for group in training.optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"])
        if "fused" in group:
            group["fused"], group["foreach"] = True, False
        if "capturable" in group:
            group["capturable"] = True
    return training


def run(config: TrialConfig, *, captured: bool, epochs: int = 3, stale: bool = False) -> tuple[Training, list[Any]]:
    """Some epochs, and what they gave."""
    training = Training.begin(config) if stale else capturable(Training.begin(config))
    if captured:
        training.stepper = Stepper(training.model, training.engine, config.seed, Recording)
    return training, [training.epoch(number)._replace(seconds=0.0, preparing=0.0) for number in range(epochs)]


def state(training: Training) -> list[torch.Tensor]:
    """All that the training has come to."""
    kept = [value for each in training.optimizer.state.values() for _, value in sorted(each.items())]
    averaged = [] if training.averaging is None else list(training.averaging.state_dict()["model"].values())
    carried = training.attack.state_dict().values()
    kept = [value for value in kept if value is not None]
    return [*training.model.state_dict().values(), *kept, *averaged, *carried]


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_steps_are_eager_ones_to_the_bit(kind: str) -> None:
    config = trial(**KINDS[kind])
    eager, expected = run(config, captured=False)
    replayed, found = run(config, captured=True)
    assert replayed.stepper.reason == ""
    assert replayed.stepper._captured, "nothing was captured"
    assert found == expected
    for ours, theirs in zip(state(replayed), state(eager), strict=True):
        assert torch.equal(ours, theirs)


def test_a_number_in_a_captured_step_goes_stale_and_these_tests_see_it() -> None:
    config = trial()
    eager, _ = run(config, captured=False, stale=True)
    replayed, _ = run(config, captured=True, stale=True)
    assert not all(torch.equal(*pair) for pair in zip(state(replayed), state(eager), strict=True))


class Refusing:
    """A capture that breaks off in the middle of the step, as CUDA's does at an operation that waits."""

    def __init__(self, generators: list[torch.Generator]) -> None:
        self._recording = Recording(generators)

    def capture(self, function: Callable[[], None]) -> None:
        """Runs the whole step's Python, and raises."""
        self._recording.capture(function)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    def replay(self) -> None:
        """Never."""
        raise AssertionError("replayed")


@pytest.mark.parametrize(
    "kind", ["sgd", "deat", "trades, awp, s2o under deat", "fat", "free, mart, awp, s2o under adamw"]
)
def test_a_step_that_cannot_be_captured_goes_on_eagerly_and_says_why(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = trial(**KINDS[kind])
    eager, expected = run(config, captured=False)
    training = capturable(Training.begin(config))
    training.stepper = Stepper(training.model, training.engine, config.seed, Refusing)
    assert [training.epoch(number)._replace(seconds=0.0, preparing=0.0) for number in range(3)] == expected
    assert all(torch.equal(*pair) for pair in zip(state(training), state(eager), strict=True))
    assert training.stepper.reason == (
        "a step cannot be captured: RuntimeError: operation not permitted when stream is capturing"
    )
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]
)
def test_out_of_memory_at_a_capture_is_no_reason_to_go_on_eagerly(error: Exception) -> None:
    class Full(Refusing):
        def capture(self, function: Callable[[], None]) -> None:
            raise error

    training = Training.begin(trial())
    training.stepper = Stepper(training.model, training.engine, 0, Full)
    with pytest.raises(RuntimeError) as raised:
        training.epoch(0)
    assert raised.value is error


@pytest.mark.parametrize("kind", ["sgd", "deat", "ema", "momentum"])
def test_replays_go_on_from_a_state_as_eager_steps_do(kind: str) -> None:
    config = trial(**KINDS[kind])
    whole, expected = run(config, captured=True)
    first, _ = run(config, captured=True, epochs=2)
    second = capturable(Training.begin(config))
    second.model.load_state_dict(first.model.state_dict())
    optimizers.restore(second.optimizer, copy.deepcopy(first.optimizer.state_dict()))
    if second.averaging is not None and first.averaging is not None:
        second.averaging.load_state_dict(first.averaging.state_dict())
    second.stepper = Stepper(second.model, second.engine, config.seed, Recording)
    assert second.epoch(2)._replace(seconds=0.0, preparing=0.0) == expected[2]
    assert all(torch.equal(*pair) for pair in zip(state(second), state(whole), strict=True))


@pytest.mark.slow
def test_compiled_steps_are_near_eager_ones_and_a_second_trial_compiles_nothing() -> None:
    parts: dict[str, Any] = {"optimizer": {"lr": 0.01}, "schedule": {"name": "constant"}}
    eager, _ = run(trial(**parts, engine="eager"), captured=False)
    compiled = capturable(Training.begin(trial(**parts, engine="compile")))
    preparing = [compiled.epoch(number).preparing for number in range(3)]
    assert (compiled.engine.mode, compiled.stepper.reason) == ("compile", "")
    assert preparing[0] > 0
    assert preparing[1:] == [0, 0]
    for ours, theirs in zip(state(compiled), state(eager), strict=True):
        # 21 steps: sums in another order (2e-7 here), and the sign of a pixel's gradient that is nearly 0
        torch.testing.assert_close(ours, theirs, rtol=5e-4, atol=5e-4)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch.compiler.set_stance("fail_on_recompile"):
        run(trial(**parts, engine="compile", seed=1), captured=False, epochs=1)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs > 0


def test_torchs_settings_hold_in_the_new_thread_of_each_trial() -> None:
    found = []

    def begin() -> None:
        engine = engines.Engine(torch.device("cpu"), mode="compile")
        engine.forward(torch.nn.Identity())
        flags = torch._dynamo.config
        found.append((engine.whole(gradient), flags.recompile_limit, flags.trace_autograd_ops))

    for _ in range(2):
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
    assert found[0] == found[1]
    assert found[0][1:] == (128, True)


@pytest.mark.slow
def test_compiled_dropout_draws_what_eager_dropout_does() -> None:
    model, found = torch.nn.Dropout(0.5), []
    for mode in ("eager", "compile"):
        torch.manual_seed(0)
        found.append(engines.Engine(torch.device("cpu"), mode=mode).forward(model)(torch.ones(4, 5)))  # type: ignore[arg-type]
    assert torch.equal(*found)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["pgd_at", "trades"])
def test_on_a_cpu_an_attacks_gradient_is_compiled_as_one_graph(objective: str) -> None:
    config = trial(objective={"name": objective}, engine="compile", device="cpu")
    engine, _ = engines.engine_of(config)
    training = Training.begin(config)
    images, labels = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10
    inner = training._method(0).objective.inner
    images = engine.images(images)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = []
    for each in (engine, engine.eager):
        forward, draws = each.forward(training.model), torch.Generator().manual_seed(1)
        found.append(
            adversarial(training.model, inner, images, labels, config.attack, forward, draws, each.whole(gradient))
        )
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1 + (objective == "trades")  # and the reference


def test_a_step_that_cannot_be_compiled_goes_on_as_if_it_had_not_been_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        with (tmp_path / "robustsweep.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no neighbour compiles meanwhile
        raise RuntimeError("no such target")

    parts: dict[str, Any] = {"epochs": 1, "objective": {"name": "trades"}}
    _, expected = run(trial(**parts, engine="eager"), captured=False, epochs=1)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(engines, "_compiled", lambda function: torch.compile(function, backend=broken, dynamic=False))
    tried, found = run(trial(**parts, engine="compile"), captured=False, epochs=1)
    assert found == expected
    assert tried.engine.mode == "eager"
    assert tried.stepper.reason == "a step cannot be compiled: RuntimeError: no such target"
    torch._dynamo.reset()


def test_a_step_of_which_a_pass_after_the_update_cannot_be_compiled_ends_the_trial_and_is_not_made_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        if updated:
            raise RuntimeError("no such target")
        return graph.forward

    updated: list[bool] = []
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(engines, "_compiled", lambda function: torch.compile(function, backend=broken, dynamic=False))
    training = Training.begin(trial(epochs=1, engine="compile", clean_passes=1))
    training.optimizer.register_step_post_hook(lambda *_: updated.append(True))
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed):
        training.epoch(0)
    assert len(updated) == 1
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("asked", "here", "why"),
    [
        ("auto", "eager", ""),
        ("eager", "eager", ""),
        ("graph", "eager", "a step can be captured on a GPU only"),
    ],
)
def test_an_engine_that_is_not_possible_here_says_why(asked: str, here: str, why: str) -> None:
    engine, reason = engines.engine_of(trial(engine=asked, device="cpu"))
    assert (engine.mode, reason) == (here, why)


@pytest.mark.parametrize(
    ("asked", "images", "lacking", "here", "why"),
    [
        ("auto", 333_333, "", "graph", ""),
        ("auto", 333_334, "", "compile", ""),
        ("auto", 333_334, "no triton", "graph", ""),
        ("compile", 70, "", "compile", ""),
        ("compile", 70, "no triton", "graph", "no triton"),
        ("graph", 333_334, "", "graph", ""),
        ("eager", 333_334, "", "eager", ""),
    ],
)
def test_on_a_gpu_the_engine_is_chosen_by_the_config_and_its_data_alone(
    asked: str, images: int, lacking: str, here: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a trial that goes on takes the one that it began with. It has three epochs."""
    monkeypatch.setattr(engines, "device_of", torch.device)
    monkeypatch.setattr(engines, "_no_compiler", lambda device: lacking)
    engine, reason = engines.engine_of(trial(engine=asked, device="cuda"), images)
    assert (engine.mode, reason) == (here, why)


def test_without_a_compiler_a_cpu_trial_is_eager_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/no/such/compiler",))
    engine, reason = engines.engine_of(trial(engine="compile", device="cpu"))
    assert (engine.mode, reason) == ("eager", "torch.compile needs a C++ compiler here")


def test_the_engine_is_no_part_of_a_trial() -> None:
    assert trial_id(trial(engine="compile")) == trial_id(trial())


def test_a_network_that_draws_itself_is_trained_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def dropped(self: SmallCNN, images: torch.Tensor) -> torch.Tensor:
        return plain(self, torch.nn.functional.dropout(images, 0.1, self.training))

    plain = SmallCNN.forward
    monkeypatch.setattr(SmallCNN, "forward", dropped)
    _, expected = run(trial(), captured=False)
    replayed, found = run(trial(), captured=True)
    assert found == expected
    assert replayed.stepper.reason == "the network draws at random itself, as dropout does"


def test_on_a_gpu_the_cpus_generator_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    stepper = Training.begin(trial()).stepper
    stepper.engine = replace(stepper.engine, device=torch.device("cuda"))
    with torch.random.fork_rng():
        before = stepper._global()
        assert torch.equal(stepper._global(), before)
        torch.rand(())  # as a network does that leaves out a layer by it
        assert not torch.equal(stepper._global(), before)


def test_a_network_that_gives_its_buffer_a_new_tensor_is_trained_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def levelled(self: SmallCNN, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.level = 0.9 * self.level + 0.1 * images.detach().mean()
        return plain(self, images - self.level)

    def made(self: SmallCNN, *shape: int, **options: Any) -> None:
        make(self, *shape, **options)
        self.register_buffer("level", torch.zeros(()))

    plain, make = SmallCNN.forward, SmallCNN.__init__
    monkeypatch.setattr(SmallCNN, "forward", levelled)
    monkeypatch.setattr(SmallCNN, "__init__", made)
    _, expected = run(trial(), captured=False)
    replayed, found = run(trial(), captured=True)
    assert found == expected
    assert replayed.stepper.reason == "the network gives its buffer level a new tensor in each step"


def on_card(engine: str, **parts: Any) -> Training:
    """A training on the GPU."""
    return Training.begin(trial(**parts, engine=engine, device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_replayed_steps_are_eager_ones_to_the_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # else one eager trial is not another's equal
    eager, replayed = (on_card(engine, **KINDS[kind]) for engine in ("eager", "graph"))
    for number in range(3):
        expected, found = (each.epoch(number)._replace(seconds=0.0, preparing=0.0) for each in (eager, replayed))
        assert found == expected
    assert (replayed.stepper.reason, replayed.engine.mode) == ("", "graph")
    assert replayed.stepper._captured
    for ours, theirs in zip(state(replayed), state(eager), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["trades, awp, s2o under deat", "bf16"])
def test_on_a_gpu_compiled_steps_are_near_eager_ones(kind: str) -> None:
    slow = {"optimizer": {"lr": 0.01, **KINDS[kind].get("optimizer", {})}, "schedule": {"name": "constant"}}
    eager, compiled = (on_card(engine, **(KINDS[kind] | slow)) for engine in ("eager", "compile"))
    for each in (eager, compiled):
        each.epoch(0)
    assert (compiled.stepper.reason, compiled.engine.mode) == ("", "compile")
    near = 2e-2 if kind == "bf16" else 5e-3
    for ours, theirs in zip(state(compiled), state(eager), strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=near, atol=near)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch.compiler.set_stance("fail_on_recompile"):
        on_card("compile", **(KINDS[kind] | slow), seed=1).epoch(0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["eager", "graph"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_step_waits_for_the_gpu(kind: str, engine: str) -> None:
    training = on_card(engine, **KINDS[kind])
    training.epoch(0)
    training.epoch(1)
    with training.stepper.epoch(training._method(2), 2, training.config.batch_size):
        torch.cuda.set_sync_debug_mode("error")
        try:
            training._steps(2)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_on_a_gpu_a_step_that_waits_cannot_be_captured_and_goes_on_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def waiting(self: SmallCNN, images: torch.Tensor) -> torch.Tensor:
        assert images.sum().item() > float("-inf")
        return plain(self, images)

    plain = SmallCNN.forward
    monkeypatch.setattr(SmallCNN, "forward", waiting)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    kind = KINDS["trades, awp, s2o under deat"]
    eager, tried = (on_card(engine, **kind) for engine in ("eager", "graph"))
    for number in range(3):
        expected, found = (each.epoch(number)._replace(seconds=0.0, preparing=0.0) for each in (eager, tried))
        assert found == expected
    assert tried.engine.mode == "eager"
    assert tried.stepper.reason.startswith("a step cannot be captured: ")
    torch.rand(3, device="cuda")  # as the next trial's dropout does
    assert all(torch.equal(*pair) for pair in zip(state(tried), state(eager), strict=True))


@pytest.mark.gpu
def test_on_a_gpu_a_network_that_draws_itself_is_trained_eagerly() -> None:
    training = on_card(
        "graph", model={"name": "torchvision:efficientnet_b0"}, data={"name": "digits", "train_per_class": 8}
    )
    training.epoch(0)
    assert training.stepper.reason == "the network draws at random itself, as dropout does"


@pytest.mark.gpu
def test_a_diverged_trial_is_noticed_within_the_epoch_on_a_gpu() -> None:
    data = {"name": "digits", "validation_fraction": 0.1}
    training = on_card("graph", data=data, batch_size=4, optimizer={"lr": 1e6}, schedule={"name": "constant"})
    found = training.epoch(0)
    assert not found.loss < float("inf")
    assert training.stepper.tally.images < len(training.data.train.labels)
