"""A launch: through Ray and in this process, again, wider, on too small a machine, with trials that fail."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from analysis.frame import load_trials
from sweep import runner
from sweep.config import SweepConfig
from sweep.progress import Progress
from trainers.errors import UserError
from trainers.record import read

Launch = Callable[..., tuple[int, str]]
Tiny = Callable[..., SweepConfig]
SameNumbers = Callable[[Path, Path], None]


def starts(directory: Path) -> list[str]:
    return [record["trial_id"] for record in read(directory) if record["record"] == "start"]


def test_ray_and_this_process_give_the_same_frame(
    tiny: Tiny, launch: Launch, same_numbers: SameNumbers, tmp_path: Path, local_ray: None
) -> None:
    assert launch(tiny(), tmp_path / "ray")[0] == 0
    assert launch(tiny(), tmp_path / "serial", serial=True)[0] == 0
    same_numbers(tmp_path / "ray", tmp_path / "serial")
    assert (load_trials(tmp_path / "ray").outcome == "completed").all()


def test_a_run_says_where_its_numbers_come_from(tiny: Tiny, launch: Launch, tmp_path: Path) -> None:
    launch(tiny(), tmp_path, serial=True)
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["command"] == "test"
    assert {"torch", "ray", "optuna", "python"} <= set(environment["versions"])
    assert environment["cpu_cores"] > 0
    assert (tmp_path / "sweep.yaml").exists()


def test_the_same_command_again_runs_nothing(tiny: Tiny, launch: Launch, tmp_path: Path) -> None:
    launch(tiny(), tmp_path, serial=True)
    before = (tmp_path / "records.jsonl").read_bytes()
    code, text = launch(tiny(), tmp_path, serial=True)
    assert code == 0
    assert "nothing left to run" in text
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_widened_config_runs_only_what_is_new(tiny: Tiny, launch: Launch, tmp_path: Path) -> None:
    launch(tiny(), tmp_path, serial=True)
    wider = {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.2, 0.3]}
    code, text = launch(tiny(space=wider), tmp_path, serial=True)
    assert code == 0
    assert "finished 4, to resume 0, new 2" in text
    assert len(starts(tmp_path)) == len(set(starts(tmp_path))) == 6
    assert len(load_trials(tmp_path)) == 6


def test_finished_trials_of_other_code_are_kept_and_told(
    tiny: Tiny, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(tiny(), tmp_path, serial=True)
    monkeypatch.setattr(runner, "code_version", lambda: "0123456789ab")
    assert "4 of the finished come from other code" in launch(tiny(), tmp_path, serial=True)[1]


def test_a_trial_that_raises_is_failed_with_its_reason_and_runs_again(
    tiny: Tiny, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("the disk is full\nand more")

    with monkeypatch.context() as patch:
        patch.setattr("trainers.loop.train", broken)
        code, _ = launch(tiny(), tmp_path, serial=True)
    assert code == 1
    trials = load_trials(tmp_path)
    assert set(trials.outcome) == {"failed"}
    assert trials.reason[0].startswith("RuntimeError: the disk is full (logs/")
    assert "the disk is full" in next((tmp_path / "logs").glob("*.log")).read_text()
    assert launch(tiny(), tmp_path, serial=True)[0] == 0
    assert set(load_trials(tmp_path).outcome) == {"completed"}


def test_a_diverged_trial_is_a_result_and_not_a_failure(tiny: Tiny, launch: Launch, tmp_path: Path) -> None:
    config = tiny(space={"optimizer.lr": [0.1, 1e30]})
    code, text = launch(config, tmp_path, serial=True)
    assert code == 0
    assert "] diverged" in text
    trials = load_trials(tmp_path).set_index("optimizer.lr")
    assert trials.outcome[1e30] == "diverged"
    assert "in epoch 1" in trials.reason[1e30]


@pytest.mark.parametrize("after", [1, 4, 7])
def test_an_interrupted_run_goes_on_to_the_frame_of_an_undisturbed_one(
    after: int, tiny: Tiny, launch: Launch, same_numbers: SameNumbers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    add = Progress.add

    def count(progress: Progress, record: dict[str, Any]) -> None:
        nonlocal seen
        add(progress, record)
        seen += record["record"] == "epoch"
        if seen == after and record["record"] == "epoch":
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "add", count)
        code, text = launch(tiny(), tmp_path / "stopped", serial=True)
    assert code == 130
    assert "stopped by SIGTERM" in text
    stopped = load_trials(tmp_path / "stopped")
    assert list(stopped.outcome).count("interrupted") == 1
    assert launch(tiny(), tmp_path / "stopped", serial=True)[0] == 0
    launch(tiny(), tmp_path / "whole", serial=True)
    same_numbers(tmp_path / "stopped", tmp_path / "whole")


def test_a_run_directory_of_another_sweep_is_refused(tiny: Tiny, launch: Launch, tmp_path: Path) -> None:
    launch(tiny(), tmp_path, serial=True)
    with pytest.raises(UserError, match="holds the sweep 'tiny', not 'other'; give another --out"):
        launch(tiny(name="other"), tmp_path, serial=True)


def test_optuna_runs_every_point_with_every_seed_through_ray(
    tiny: Tiny, launch: Launch, tmp_path: Path, local_ray: None
) -> None:
    config = tiny(
        space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": {"loguniform": [0.01, 1]}},
        search={"name": "optuna", "n_trials": 2},
        seeds=[0, 1],
    )
    assert launch(config, tmp_path)[0] == 0
    trials = load_trials(tmp_path)
    assert len(trials) == 8
    assert trials.groupby("optimizer.name")["optimizer.lr"].nunique().to_dict() == {"sgd": 2, "deat": 2}
    code, text = launch(config, tmp_path)
    assert code == 0
    assert "nothing left to run" in text


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"cpu": 1, "gpu": 1}, r"resources.gpu: a trial asks for 1 GPU, and no node of the cluster has more than 0"),
        ({"cpu": 64}, r"resources.cpu: a trial asks for 64 CPU, and no node of the cluster has more than 2"),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused_before_anything_starts(
    resources: dict[str, Any], message: str, tiny: Tiny, launch: Launch, tmp_path: Path, local_ray: None
) -> None:
    with pytest.raises(UserError, match=message):
        launch(tiny(resources=resources), tmp_path)
    assert not (tmp_path / "records.jsonl").exists()


def test_a_gpu_asked_for_in_this_process_where_none_is_is_refused(tiny: Tiny, launch: Launch, tmp_path: Path) -> None:
    config = tiny(resources={"cpu": 1, "gpu": 8})
    with pytest.raises(UserError, match=r"^resources.gpu: a trial asks for 8 GPU, and this machine has \d"):
        launch(config, tmp_path, serial=True)
    assert not (tmp_path / "records.jsonl").exists()


def test_a_worker_that_dies_is_started_again_from_its_checkpoint(
    tiny: Tiny, launch: Launch, same_numbers: SameNumbers, tmp_path: Path, local_ray: None
) -> None:
    killed: list[str] = []
    add = Progress.add

    def kill_once(progress: Progress, record: dict[str, Any]) -> None:
        add(progress, record)
        if record["record"] == "epoch" and not killed:
            killed.append(record["trial_id"])
            ray.get(_kill_workers.remote())

    Progress.add = kill_once  # type: ignore[method-assign]
    try:
        assert launch(tiny(), tmp_path / "killed")[0] == 0
    finally:
        Progress.add = add  # type: ignore[method-assign]
    launch(tiny(), tmp_path / "whole", serial=True)
    same_numbers(tmp_path / "killed", tmp_path / "whole")
    assert starts(tmp_path / "killed").count(killed[0]) == 2


@ray.remote(num_cpus=0)
def _kill_workers() -> None:
    """Kills every process of this Ray that trains, as an out-of-memory killer would."""
    import psutil

    for process in psutil.Process().parent().children():
        if any("ImplicitFunc" in word for word in process.cmdline()):
            process.kill()
