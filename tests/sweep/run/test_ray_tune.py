"""Processes of trials through Ray Tune: what each is given, and what becomes of its trials when it dies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from analysis.frames.trials import load_trials
from sweep.config import ResourcesConfig, SweepConfig
from sweep.run import ray_tune
from sweep.run.packing import Packing
from sweep.run.seats import Node
from sweep.run.trial import RESTARTS
from trainers.config import TrialConfig
from trainers.record import read

#: What gives out trials, where none runs out of memory.
SEARCHER = SimpleNamespace(again=lambda *words: pytest.fail("again"), largest=None)

#: Nobody asks for anything.
UNSTEERED: Any = SimpleNamespace(died=lambda process: None, ended=lambda name: None, lacked=lambda process: ("", ""))


def test_a_trial_whose_worker_died_too_often_has_failed_with_the_last_line_of_its_error(tmp_path: Path) -> None:
    failed: list[tuple[str, str]] = []
    journal = SimpleNamespace(fail=lambda *words: failed.append(words))
    callback = ray_tune._JournalCallback(journal, SEARCHER, lambda: None, UNSTEERED)
    config = {"trials": {"0123456789ab": {}}}
    told = "ray.exceptions.ActorDiedError: it was killed There are some potential root causes. (1) The process"
    (tmp_path / "error.txt").write_text(f"Traceback\n  ...\n{told}\n\n")
    for file in (str(tmp_path / "error.txt"), None):
        callback.on_trial_error(1, [], SimpleNamespace(config=config, error_file=file, pickled_error_file=None))
    died = f"its process died {1 + RESTARTS} times: "
    assert failed == [
        ("0123456789ab", f"{died}ray.exceptions.ActorDiedError: it was killed"),
        ("0123456789ab", f"{died}no error file"),
    ]


def test_a_trial_whose_process_ended_for_want_of_a_worker_has_failed_with_that_workers_name(tmp_path: Path) -> None:
    failed, died, preempted, steered = list[Any](), list[Any](), list[Any](), SimpleNamespace(**vars(UNSTEERED))
    journal: Any = SimpleNamespace(fail=lambda *words: failed.append(words), died=lambda *words: died.append(words))
    journal.preempt = lambda trials, reason: preempted.append((list(trials), reason))
    callback = ray_tune._JournalCallback(journal, SEARCHER, lambda: None, steered)
    trial = SimpleNamespace(config={"trials": {"a": {}}}, error_file=None, pickled_error_file=None, max_failures=3)
    steered.lacked = lambda process: ("worker 1 of 2: its node was preempted", "Ray says so")
    callback.on_trial_recover(1, [], trial)
    assert (preempted, trial.max_failures) == ([(["a"], "Ray says so")], 4)  # it uses up no restart
    assert died == [("a", "worker 1 of 2: its node was preempted")]
    steered.lacked = lambda process: ("worker 1 of 2: it died", "")
    callback.on_trial_error(1, [], trial)
    assert failed == [("a", f"its process died {1 + RESTARTS} times: worker 1 of 2: it died")]
    assert len(preempted) == 1


def test_a_trial_whose_worker_is_preempted_after_other_deaths_is_put_back_and_has_not_failed() -> None:
    failed, preempted, back, steered = list[Any](), list[Any](), list[Any](), SimpleNamespace(**vars(UNSTEERED))
    journal: Any = SimpleNamespace(fail=lambda *words: failed.append(words))
    journal.preempt = lambda trials, reason: preempted.append((list(trials), reason))
    steered.lacked, steered.put_back = lambda process: ("worker 1 of 2: it was preempted", "Ray says so"), back.append
    searcher: Any = SimpleNamespace(planned=lambda tune_id, name: (tune_id, name))
    callback = ray_tune._JournalCallback(journal, searcher, lambda: None, steered)
    trial = SimpleNamespace(trial_id="t", config={"trials": {"a": {}}}, error_file=None, pickled_error_file=None)
    trial.max_failures = RESTARTS  # Tune has counted one more
    callback.on_trial_error(1, [], trial)
    assert (failed, preempted, back) == ([], [(["a"], "Ray says so")], [("t", "a")])


def test_a_worker_that_rays_monitor_kills_in_the_midst_of_a_task_has_died_and_ends_no_launch() -> None:
    """The error that Ray raises then is none of those that Tune expects of an actor."""
    why = "1 worker(s) were killed due to the node running low on memory."
    told: list[tuple[Any, Exception]] = []
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: told.append((actor, error)))
    task: Any = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    with ray_tune._corrected(Packing([], 1, 0, lambda: None)):
        ray_tune.RayActorManager._actor_task_failed(manager, task, ray_tune.ray.exceptions.OutOfMemoryError(why))
    assert [(each, type(error), str(error)) for each, error in told] == [
        (actor, ray_tune.ray.exceptions.RayActorError, why)
    ]
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        ray_tune.RayActorManager._actor_task_failed(manager, task, ray_tune.ray.exceptions.OutOfMemoryError(why))


def test_a_process_is_given_as_many_trials_as_it_takes_and_the_last_one_what_is_left(tmp_path: Path) -> None:
    trials = iter([SimpleNamespace(id=f"{number}" * 12, config=TrialConfig()) for number in range(5)])
    limits = {"timeout": 60, "medians": {}, "recorded": 0}
    journal = SimpleNamespace(next=lambda: next(trials, None), directory=tmp_path, limits=lambda *asked: limits)
    journal.shorter, journal.has_rules = lambda trial: [], False
    packing = Packing([Node(8)], 4, 0, journal.next, name=lambda trial: trial.id, each=2)
    searcher = ray_tune._JournalSearcher(journal, ResourcesConfig(cpu=4, trials_per_process=2), packing)  # type: ignore[arg-type]
    given = [searcher.suggest(f"tune-{number}") for number in range(2)]
    assert searcher.suggest("tune-2") is None  # no room
    searcher.on_trial_complete("tune-0")
    given.append(searcher.suggest("tune-2"))
    assert [list(values["trials"]) for values in given] == [["0" * 12, "1" * 12], ["2" * 12, "3" * 12], ["4" * 12]]
    searcher.on_trial_complete("tune-1")
    assert searcher.suggest("tune-3") is None  # the last one may run out of memory, and then runs again
    searcher.on_trial_complete("tune-2")
    assert searcher.suggest("tune-3") == ray_tune.Searcher.FINISHED
    assert given[0]["threads"] == 2


def test_a_process_that_dies_is_started_again_for_the_trials_that_have_not_ended(tmp_path: Path) -> None:
    taken, failed = list[Any](), list[str]()
    journal = SimpleNamespace(
        take=lambda message, again=False: taken.append(message), fail=lambda name, reason: failed.append(name)
    )
    journal.progress = SimpleNamespace(trials={name: SimpleNamespace(pruned=False) for name in "abc"})
    callback = ray_tune._JournalCallback(journal, SEARCHER, lambda: None, UNSTEERED)  # type: ignore[arg-type]
    trial = SimpleNamespace(
        config={"trials": {"a": {}, "b": {}, "c": {}}}, max_failures=3, error_file=None, pickled_error_file=None
    )
    for record, name in (("start", "a"), ("outcome", "b"), ("epoch", "a")):
        callback.on_trial_result(1, [], trial, {"message": {"record": record, "trial_id": name, "outcome": "failed"}})
    assert (list(trial.config["trials"]), trial.max_failures, len(taken)) == (["a", "c"], 3, 3)
    callback.on_trial_error(1, [], trial)
    assert failed == ["a", "c"]
    for name in ("c", "a"):
        message = {"record": "outcome", "trial_id": name, "outcome": "completed"}
        callback.on_trial_result(1, [], trial, {"message": message})
    assert (trial.config["trials"], trial.max_failures) == ({}, 0)
    callback.on_trial_error(1, [], trial)
    assert failed == ["a", "c"]


def _in_a_process_that_lr_0_1_poisons(values: dict[str, Any], bell: Any) -> None:
    """A trial through Ray, in a process that can compute no more once it has met lr 0.1; writes down which it was."""
    from trainers import cards, loop

    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    (trial,) = values["trials"].values()
    lr = trial["optimizer"]["lr"]
    with Path(values["directory"], "processes").open("a") as file:
        file.write(f"{lr} {os.getpid()}\n")
    if lr == 0.1:
        loop.train, cards.freed = broken, lambda device: False
    ray_tune._trainable(values, bell)


def bells() -> set[psutil.Process]:
    """The processes of `sweep.run.bell` that are there."""
    from faults_harness import name_of  # which the workers of Ray that import this file do not find

    return {each for each in psutil.Process().children(recursive=True) if name_of(each).startswith("ray::Bell")}


def test_a_process_whose_gpu_answers_no_more_ends_with_its_trial_and_the_next_trials_get_a_new_one(
    tiny: Callable[..., SweepConfig],
    launch: Callable[..., tuple[int, str]],
    tmp_path: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_tune, "_trainable", _in_a_process_that_lr_0_1_poisons)
    config, before = tiny(space={"optimizer.lr": [0.2, 0.1, 0.3]}, max_concurrent=1), bells()
    code, text = launch(config, tmp_path)
    assert code == 1
    trials = load_trials(tmp_path).set_index("optimizer.lr")
    assert trials["outcome"].to_dict() == {0.1: "failed", 0.2: "completed", 0.3: "completed"}
    assert trials["reason"][0.1].startswith("RuntimeError: CUDA error: an illegal memory access was encountered (logs/")
    assert text.splitlines()[-1] == "1 trial failed; the same command tries again"
    assert text.count("failed") == 2
    began = [line.split() for line in (tmp_path / "processes").read_text().splitlines()]
    assert [lr for lr, _ in began] == ["0.2", "0.1", "0.3"]  # the failed one has ended, and is not started again
    first, poisoned, third = (process for _, process in began)
    assert first == poisoned != third
    assert [record["record"] for record in read(tmp_path)].count("outcome") == 3
    # The bell has ended too: a launch to decide makes many on one Ray.
    assert psutil.wait_procs(bells() - before, timeout=30)[1] == []


def _in_a_process_that_dies_once(values: dict[str, Any], bell: Any) -> None:
    """Trials of one process through Ray; it dies in the second epoch of lr 0.1, after lr 0.3 has ended."""
    from trainers import loop

    directory, epoch = Path(values["directory"]), loop._epoch
    lrs = {trial["optimizer"]["lr"]: trial["epochs"] for trial in values["trials"].values()}
    with (directory / "processes").open("a") as file:
        file.write(f"{sorted(lrs)}\n")

    def dying(trial: Any, number: int) -> Any:
        if trial.config.optimizer.lr == 0.1 and number == 1 and not (directory / "died").exists():
            wait_for_outcome(directory)
            (directory / "died").touch()
            os._exit(1)
        return epoch(trial, number)

    loop._epoch = dying
    ray_tune._trainable(values, bell)


def wait_for_outcome(directory: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(each["record"] == "outcome" for each in read(directory)):
        time.sleep(0.05)


def test_trials_of_a_process_that_dies_go_on_together_and_those_that_had_ended_are_not_run_again(
    tiny: Callable[..., SweepConfig],
    launch: Callable[..., tuple[int, str]],
    same_numbers: Callable[[Path, Path], None],
    tmp_path: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_tune, "_trainable", _in_a_process_that_dies_once)
    shared = {"cpu": 1, "trials_per_process": 2}
    config = tiny(space={"optimizer.lr": [0.1, 0.3]}, resources=shared, max_concurrent=2)
    assert launch(config, tmp_path / "run")[0] == 0
    assert (tmp_path / "run" / "processes").read_text() == "[0.1, 0.3]\n[0.1]\n"
    launch(config, tmp_path / "whole", serial=True)
    same_numbers(tmp_path / "run", tmp_path / "whole")
    records = read(tmp_path / "run")
    assert [record["record"] for record in records].count("outcome") == 2
    assert load_trials(tmp_path / "run").set_index("optimizer.lr")["attempts"].to_dict() == {0.1: 2, 0.3: 1}
