"""Trials that run out of memory: what a launch records and says of them, and which of them the next one runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from analysis.frames.trials import load_trials
from sweep.config import ResourcesConfig, SweepConfig
from sweep.progress import Progress
from sweep.run import child, nodes, ray_tune
from sweep.run import launch as runner
from sweep.run.capacity import check_resources
from sweep.run.packing import Peak, memory_shape, peaks_of
from trainers import loop
from trainers.errors import UserError
from trainers.hardware import host_bytes
from trainers.record import OutcomeRecord, read

Launch = Callable[..., tuple[int, str]]
Tiny = Callable[..., SweepConfig]
SERIAL = {"serial": True, "debug": True}

#: Nobody asks for anything.
UNSTEERED: Any = SimpleNamespace(died=lambda process: None, ended=lambda name: None, lacked=lambda process: ("", ""))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials with lr 0.3 run out of memory."""
    train = loop.train

    def short_of_memory(config: Any, *args: Any, **options: Any) -> OutcomeRecord:
        if config.optimizer.lr == 0.3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return train(config, *args, **options)

    monkeypatch.setattr(loop, "train", short_of_memory)


def starts(directory: Path) -> int:
    return sum(record["record"] == "start" for record in read(directory))


def test_a_trial_that_ran_out_of_memory_alone_is_left_out_until_there_is_more_or_somebody_asks(
    tiny: Tiny, launch: Launch, short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(space={"optimizer.lr": [0.1, 0.3]})
    code, text = launch(config, tmp_path, **SERIAL)
    (last,) = (r for r in read(tmp_path) if r.get("outcome") == "out_of_memory")
    assert (code, last["alone"], last["memory_bytes"], starts(tmp_path)) == (1, True, None, 2)
    gib = f"{host_bytes() / 2**30:.1f} GiB"
    line = f"1 trial is out_of_memory for good, alone on {gib}: {last['trial_id']}; only more memory, or sweep launch "
    assert line in text

    code, text = launch(config, tmp_path, **SERIAL)
    assert (code, starts(tmp_path)) == (1, 2)
    assert line in text
    assert "nothing left to run" in text
    assert load_trials(tmp_path)["outcome"].tolist() == ["completed", "out_of_memory"]

    with monkeypatch.context() as larger:
        larger.setattr(runner, "capacity_here", lambda resources: host_bytes() + 1.0)
        launch(config, tmp_path, **SERIAL)
    assert starts(tmp_path) == 3
    launch(config, tmp_path, **SERIAL, again=True)
    assert starts(tmp_path) == 4


def test_beside_new_trials_it_is_left_out_and_counts_as_what_it_is(
    tiny: Tiny, launch: Launch, short: None, tmp_path: Path
) -> None:
    launch(tiny(space={"optimizer.lr": [0.1, 0.3]}), tmp_path, **SERIAL)
    code, text = launch(tiny(space={"optimizer.lr": [0.1, 0.2, 0.3]}), tmp_path, **SERIAL)
    assert (code, starts(tmp_path)) == (1, 3)
    assert "finished 1, to resume 0, new 1" in text
    assert "[3/3] completed" in text
    live = Progress.of(read(tmp_path)).counts(live=True)
    assert live == {"completed": 2, "out_of_memory": 1}


def test_one_whose_records_do_not_say_that_it_was_alone_runs_again(
    tiny: Tiny, launch: Launch, short: None, tmp_path: Path
) -> None:
    """Older code did not write it."""
    config, path = tiny(space={"optimizer.lr": [0.1, 0.3]}), tmp_path / "records.jsonl"
    launch(config, tmp_path, **SERIAL)
    before = path.read_text()
    path.write_text(re.sub(r',"(alone|memory_bytes|cuda_bytes|crc)":("\w+"|true|false|null)', "", before))
    assert '"alone"' in before
    assert '"alone"' not in path.read_text()
    launch(config, tmp_path, **SERIAL)
    assert starts(tmp_path) == 3


def test_auto_without_a_gpu_is_one_line(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(
        UserError, match=r"^resources.gpu: auto needs a GPU, .* none on this machine; set resources.gpu=0"
    ):
        check_resources(tiny(resources={"gpu": "auto"}), serial=False, address=None)


@pytest.mark.parametrize(
    ("resources", "serial", "message"),
    [
        ({"workers": 3}, False, "3 workers with 1 CPU each, and this machine has 2 CPU; set resources.workers=2"),
        (
            {"workers": 3, "gpu": 1},
            True,
            "3 workers with 1 CPU and 1 GPU each, and this machine has 2 GPU; set resources.workers=2",
        ),
        ({"workers": 3}, True, ""),
        ({"workers": 2, "gpu": "auto"}, False, ""),
    ],
)
def test_a_machine_has_room_for_all_workers_of_a_trial_or_that_is_one_line(
    resources: dict[str, Any], serial: bool, message: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
    with (
        pytest.raises(UserError, match=f"^resources.workers: a trial asks for {message}$") if message else nullcontext()
    ):
        check_resources(tiny(resources=resources), serial=serial, address=None)


def test_by_memory_as_many_run_at_once_as_cores_allow_and_shares_can_be_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auto = ResourcesConfig.model_validate({"cpu": 0.5, "gpu": "auto"})
    for up, expected in (
        ([{"CPU": 8, "GPU": 2}], 16),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 64}], 16),
        ([{"CPU": 999, "GPU": 1}], 100),
    ):
        monkeypatch.setattr(nodes, "nodes_up", lambda up=up: [{"Resources": node} for node in up])
        assert nodes.most_at_once(auto, None) == expected
    monkeypatch.setattr(nodes, "nodes_up", lambda: [{"Resources": {"CPU": 8}}])
    with pytest.raises(UserError, match=r"^resources.gpu: .* no node has more than 0; lower it"):
        nodes.most_at_once(auto, None)


def test_peaks_of_earlier_launches_count_by_shape_where_they_ran_as_this_one_would(
    tiny: Tiny, launch: Launch, tmp_path: Path
) -> None:
    launch(tiny(space={"optimizer.name": ["sgd", "deat"]}), tmp_path, **SERIAL)
    progress = Progress.of(read(tmp_path))
    small, large = progress.trials.values()  # whose optimizers hold other buffers
    for trial, memory in ((small, 3), (large, 5)):
        trial.start, trial.end = {"device": "a GPU"}, {"memory_bytes": memory, "cuda_bytes": 1}
        trial.last = {"engine": "graph"}
    auto = tiny(resources={"gpu": "auto"})
    assert peaks_of(progress, auto) == {
        memory_shape(small.config): Peak(3, 1),
        memory_shape(large.config): Peak(5, 1),
    }
    large.last = {"engine": "eager"}
    small.end = {}
    assert peaks_of(progress, auto) == {}


class _Searcher:
    """Puts trials in line to run once more."""

    largest = None

    def __init__(self) -> None:
        self.again_asked: list[str] = []

    def again(self, trial_id: str, name: str) -> bool:
        self.again_asked.append(name)
        return True


def callback_of(*trials: str) -> tuple[ray_tune._JournalCallback, _Searcher, list[tuple[dict[str, Any], bool]]]:
    """What Tune calls; what it puts in line again; and the messages that it hands on."""
    taken: list[tuple[dict[str, Any], bool]] = []
    known = {name: SimpleNamespace(start={"capacity_bytes": 2**30}, pruned=False) for name in trials}
    progress = SimpleNamespace(trials=known)
    journal: Any = SimpleNamespace(
        take=lambda message, again: taken.append((message, again)), progress=progress, died=lambda name, how: None
    )
    searcher: Any = _Searcher()
    return ray_tune._JournalCallback(journal, searcher, lambda: None, UNSTEERED), searcher, taken


@pytest.mark.parametrize("called", ["on_trial_recover", "on_trial_error"])
@pytest.mark.parametrize(
    ("alone", "share", "once_more"),
    [(False, 0.0, True), (True, 0.0, False), (True, 1.0, True)],  # beside others; alone; alone on its card only
)
def test_a_process_that_rays_monitor_ended_has_run_out_of_memory_and_is_not_started_again_beside_others(
    called: str, alone: bool, share: float, once_more: bool, tmp_path: Path
) -> None:
    error = tmp_path / "error.txt"
    error.write_text("ActorDiedError: the node was running low on memory.\nOOM kill reason: Memory usage 2B\nmore\n")
    callback, searcher, taken = callback_of("a")
    config = {"trials": {"a": {}}, "alone": alone, "share": share}
    trial = SimpleNamespace(trial_id="tune", config=config, max_failures=3, error_file=str(error))
    getattr(callback, called)(1, [], trial)
    ((message, again),) = taken
    assert (message["outcome"], message["alone"], again) == ("out_of_memory", not once_more, once_more)
    end = "it runs once more, alone, at the end of the launch" if once_more else "alone on 1.0 GiB"
    assert message["reason"] == f"Ray's memory monitor ended its process: Memory usage 2B; {end}"
    assert (trial.config["trials"], trial.max_failures) == ({}, 0)
    assert searcher.again_asked == (["a"] if once_more else [])


def test_all_trials_of_a_process_that_rays_monitor_ended_run_once_more_but_not_those_of_one_that_died_otherwise(
    tmp_path: Path,
) -> None:
    """The error file holds every death of the process."""
    error = tmp_path / "error.txt"
    callback, searcher, taken = callback_of("a", "b")
    config = {"trials": {"a": {}, "b": {}}, "alone": False, "share": 0.0}
    files = {"error_file": str(error), "pickled_error_file": None}
    trial = SimpleNamespace(trial_id="tune", config=config, max_failures=3, **files)
    error.write_text("Failure # 1\nit died\n")
    callback.on_trial_recover(1, [], trial)
    assert (taken, trial.max_failures) == ([], 3)
    with error.open("a") as more:
        more.write("Failure # 2\nthe node was running low on memory.\n")
    callback.on_trial_recover(1, [], trial)
    assert [(message["trial_id"], again) for message, again in taken] == [("a", True), ("b", True)]
    assert (searcher.again_asked, trial.config["trials"], trial.max_failures) == (["a", "b"], {}, 0)
    callback.on_trial_error(1, [], trial)
    assert len(taken) == 2


@pytest.mark.parametrize("gpu", [0, 1])
def test_a_trial_of_a_serial_launch_that_the_system_kills_for_want_of_memory_is_left_out_where_that_is_its_devices(
    gpu: int, tiny: Tiny, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(work: Any, take: Any, *how: Any, **asked: Any) -> tuple[str, str]:
        start = {"host": "h", "device": "cpu", "code_version": "c", "capacity_bytes": 2**30}
        take({"record": "start", "trial_id": work["name"], **start})
        return "out_of_memory", "the system killed its process for want of memory"

    monkeypatch.setattr(child, "here", lambda *how: SimpleNamespace(train=train))
    monkeypatch.setattr(runner, "check_resources", lambda *asked: None)
    monkeypatch.setattr(runner, "capacity_here", lambda resources: 2.0**30)
    config = tiny(space={"optimizer.lr": [0.1]}, resources={"gpu": gpu})
    for starts_then in (1, 2 if gpu else 1):
        assert launch(config, tmp_path, serial=True, debug=False)[0] == 1
        assert starts(tmp_path) == starts_then
