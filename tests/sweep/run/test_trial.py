"""One trial as a process runs it: what its start says, and on a GPU that a CPU plays, the memory it takes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import tiny

from sweep.run.signals import Interrupted
from sweep.run.trial import never, run_together, run_trial
from trainers import cards, loop
from trainers.config import TrialConfig
from trainers.identity import trial_id

GB = 10**9


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of a GPU of 80 GB, in its order."""
    asked: list[Any] = []
    zeros = torch.zeros
    monkeypatch.setattr("trainers.engine.device_of", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))
    monkeypatch.setattr("trainers.outcome.arithmetic", lambda config, device: {})
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 * GB))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty_cache"))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda part, device: asked.append(round(part * 80 * GB))
    )
    return asked


def run(tmp_path: Path, send: Any, share: float = 1, **values: Any) -> bool:
    config = TrialConfig.model_validate({"data": {"name": "digits", "fingerprint": "0" * 12}, **values})
    return run_trial(trial_id(config), config.model_dump(mode="json"), tmp_path, 1, send, share=share)


def test_nothing_holds_the_model_of_a_failed_trial_when_its_memory_is_given_back(
    calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception holds its frames, and they the model and, here, the exception: a cycle."""
    models: list[weakref.ref[torch.nn.Module]] = []

    def broken(*args: Any, **options: Any) -> None:
        model = torch.nn.Linear(2, 2)
        models.append(weakref.ref(model))
        kept = RuntimeError("a fault")
        raise kept

    monkeypatch.setattr("trainers.loop.train", broken)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append([model() for model in models]))
    sent: list[Any] = []
    assert run(tmp_path, sent.append)
    assert [message["record"] for message in sent] == ["start", "outcome"]
    assert sent[1]["reason"].startswith("RuntimeError: a fault (logs/")
    assert calls == [[], [None]]


@pytest.mark.parametrize(("share", "limit"), [(0.5, [40 * GB - cards.CONTEXT]), (0.01, [0.4 * GB]), (1, [])])
def test_memory_is_given_back_and_capped_before_a_trial_and_given_back_before_its_outcome_is_sent(
    share: float, limit: list[float], calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its share, CUDA's own part counted in; of a tiny share by half."""
    monkeypatch.setattr("trainers.loop.train", lambda *args, **options: 1 / 0)
    assert run(tmp_path, lambda message: calls.append(message["record"]), share)
    assert calls == ["empty_cache", *limit, "start", "empty_cache", "outcome"]


def test_on_a_cpu_no_gpu_is_asked_for_anything(
    calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.engine.device_of", lambda name: torch.device("cpu"))
    monkeypatch.setattr("trainers.loop.train", lambda *args, **options: 1 / 0)
    assert run(tmp_path, lambda message: None, 0.5)
    assert calls == []


def test_the_start_says_how_the_trial_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.loop.train", lambda *args, **options: 1 / 0)
    sent: list[Any] = []
    assert run(tmp_path, sent.append, precision="tf32", deterministic=True, device="cpu", engine="graph")
    assert sent[0]["arithmetic"] == {
        "precision": "fp32",  # a CPU has no TF32
        "engine": "graph",  # as asked for
        "deterministic": True,
        "torch": torch.__version__,
        "cudnn": None,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
    }


def test_a_lack_of_memory_at_cudas_start_is_the_trials_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr("trainers.engine.device_of", fail)
    sent: list[Any] = []
    assert run(tmp_path, sent.append)
    assert [(end["outcome"], end["reason"]) for end in sent] == [("out_of_memory", "CUDA error: out of memory")]
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt("mine"), GeneratorExit("mine"), MemoryError("mine")]
)
def test_whatever_a_trial_raises_is_its_outcome(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("trainers.loop.train", raises)
    sent: list[Any] = []
    assert run(tmp_path, sent.append, device="cpu")
    ended = ("out_of_memory", "mine") if isinstance(error, MemoryError) else ("failed", f"{type(error).__name__}: ")
    assert sent[-1]["outcome"] == ended[0]
    assert sent[-1]["reason"].startswith(ended[1])


@pytest.mark.parametrize("end", [SystemExit(0), Interrupted("SIGTERM")])
def test_what_ends_this_process_while_a_message_is_taken_is_no_outcome(end: BaseException, tmp_path: Path) -> None:
    """Ray Tune ends a trial by SystemExit where it reports, and a signal may come anywhere."""

    def send(message: Any) -> None:
        sent.append(message["record"])
        raise end

    sent: list[str] = []
    with pytest.raises(type(end)):
        run(tmp_path, send, device="cpu")
    assert sent == ["start"]


def test_a_signal_that_comes_while_a_trial_trains_is_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: Any, **options: Any) -> None:
        raise Interrupted("SIGTERM")

    monkeypatch.setattr("trainers.loop.train", stopped)
    sent: list[Any] = []
    with pytest.raises(Interrupted):
        run(tmp_path, sent.append, device="cpu")
    assert [message["record"] for message in sent] == ["start"]


def together(directory: Path, *trials: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """What trials of one process sent, and who trained while."""
    configs = [loop.with_fingerprint(tiny(**{"epochs": 2} | trial)) for trial in trials]
    values = {trial_id(config): config.model_dump(mode="json") for config in configs}
    sent, trained = list[Any](), list[str]()

    @contextmanager
    def training(name: str) -> Iterator[Callable[[], bool]]:
        trained.append(f"{name} begins")
        yield never
        trained.append(f"{name} ends")

    assert run_together(values, directory, 1, sent.append, share=1, training=training, lost=lambda: None)
    return sent, trained


def test_trials_of_one_process_each_send_all_that_happens_and_one_that_fails_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = loop._evaluation

    def broken(trial: Any, epoch: int) -> dict[str, float]:
        if trial.config.seed == 1 and epoch == 1:
            raise RuntimeError("a fault")
        return measured(trial, epoch)

    monkeypatch.setattr(loop, "_evaluation", broken)
    sent, trained = together(tmp_path, {"seed": 0}, {"seed": 1}, {"optimizer": {"lr": 1e9}})
    by_trial: dict[str, list[Any]] = {}
    for message in sent:
        by_trial.setdefault(message["trial_id"], []).append(message)
    kinds = [[message["record"] for message in messages] for messages in by_trial.values()]
    assert sorted(kinds) == [
        ["start", "epoch", "epoch", "outcome"],
        ["start", "epoch", "outcome"],
        ["start", "outcome"],
    ]
    assert sorted(messages[-1]["outcome"] for messages in by_trial.values()) == ["completed", "diverged", "failed"]
    assert {f"{name} {what}" for name in by_trial for what in ("begins", "ends")} == set(trained)


def test_of_trials_of_one_process_a_rule_ends_one_with_its_epoch_and_the_others_go_on(tmp_path: Path) -> None:
    configs = [loop.with_fingerprint(tiny(epochs=3, seed=seed)) for seed in range(2)]
    values = {trial_id(config): config.model_dump(mode="json") for config in configs}
    ended, other = values
    sent: list[Any] = []

    def pruned(name: str) -> bool:
        return name == ended and any(one["record"] == "epoch" and one["trial_id"] == ended for one in sent)

    how = {"share": 1, "training": lambda name: nullcontext(never), "lost": lambda: None, "pruned": pruned}
    assert run_together(values, tmp_path, 1, sent.append, **how)
    ends = {one["trial_id"]: (one["outcome"], one["epochs"]) for one in sent if one["record"] == "outcome"}
    assert ends == {ended: ("pruned", 1), other: ("completed", 3)}


def test_of_the_trials_of_a_process_whose_gpu_answers_no_more_one_has_failed_and_the_others_send_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on in a new process."""
    poisoned, ending, over = threading.Event(), threading.Event(), threading.Event()
    both = threading.Barrier(2)

    def broken(*args: Any, **options: Any) -> None:
        both.wait(60)
        poisoned.set()
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def lost() -> None:  # as a process that ends: nothing comes after it
        ending.set()
        assert over.wait(60)

    monkeypatch.setattr("trainers.loop.train", broken)
    monkeypatch.setattr(cards, "freed", lambda device: not poisoned.is_set())
    configs = [loop.with_fingerprint(tiny(epochs=2, seed=seed)) for seed in range(2)]
    values = {trial_id(config): config.model_dump(mode="json") for config in configs}
    sent: list[Any] = []
    options = {"share": 1, "training": lambda name: nullcontext(never), "lost": lost}
    bundle = threading.Thread(target=run_together, args=(values, tmp_path, 1, sent.append), kwargs=options)
    bundle.start()
    assert ending.wait(60)
    bundle.join(0.5)
    outcomes = [message["outcome"] for message in sent if message["record"] == "outcome"]
    over.set()
    bundle.join(60)
    assert outcomes == ["failed"]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_paused_trial_ends_with_an_epoch_and_goes_on_from_there_and_a_last_epoch_is_an_end(
    after: int, tmp_path: Path
) -> None:
    config = loop.with_fingerprint(tiny(epochs=3))
    name, values = trial_id(config), config.model_dump(mode="json")
    sent: list[Any] = []

    def paused() -> bool:
        return sum(message["record"] == "epoch" for message in sent) >= after

    assert run_trial(name, values, tmp_path, 1, sent.append, paused=paused)
    assert sent[-1]["outcome"] == ("completed" if after == 3 else "paused")
    assert sent[-1]["epochs"] == after
    before = [message for message in sent if message["record"] == "epoch"]
    assert run_trial(name, values, tmp_path, 1, sent.append)
    epochs = [message for message in sent if message["record"] == "epoch"]
    assert [message["epoch"] for message in epochs] == [*range(1, after + 1), 1, 2, 3]
    # said again, not trained again: each of the same seconds
    assert [m["seconds"] for m in epochs[after : 2 * after]] == [m["seconds"] for m in before]


def test_a_pruned_trial_ends_with_its_epoch_and_a_last_epoch_is_an_end(tmp_path: Path) -> None:
    """Also where it is to pause at that epoch; taken up again it goes on from there."""
    config = loop.with_fingerprint(tiny(epochs=3))
    name, values = trial_id(config), config.model_dump(mode="json")
    sent: list[Any] = []

    def pruned() -> bool:
        return sent[-1]["epoch"] == 2

    def paused() -> bool:
        return sent[-1].get("epoch") == 2

    assert run_trial(name, values, tmp_path, 1, sent.append, pruned=pruned, paused=paused)
    assert (sent[-1]["outcome"], sent[-1]["epochs"]) == ("pruned", 2)
    before = [message["seconds"] for message in sent if message["record"] == "epoch"]
    sent.clear()
    assert run_trial(name, values, tmp_path, 1, sent.append, pruned=lambda: sent[-1]["epoch"] == 3)
    assert [message["seconds"] for message in sent if message["record"] == "epoch"][:2] == before
    assert sent[-1]["outcome"] == "completed"


def test_a_paused_trial_has_its_file_in_the_store_before_its_outcome_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = loop.with_fingerprint(tiny(epochs=3))
    name, sent, happened = trial_id(config), list[Any](), list[Any]()
    monkeypatch.setattr(
        "sweep.storage.checkpoints.settle",
        lambda *_: happened.append((tmp_path / "checkpoints" / f"{name}.pt").exists()),
    )

    def send(message: Any) -> None:
        sent.append(message)
        if message["record"] == "outcome":
            happened.append(message["outcome"])

    run_trial(name, config.model_dump(mode="json"), tmp_path, 1, send, paused=lambda: sent[-1]["record"] == "epoch")
    assert happened == [True, "paused"]
