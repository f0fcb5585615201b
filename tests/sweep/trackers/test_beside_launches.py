"""A launch with trackers that hang, raise, die or are not there: its records are the same, and it says one line.

What stands for MLflow is a module of a test's own, found in its place by the launch's search path.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults_harness import until
from recorded import append, run, trials_of
from recorded import launch as launch_lines

from sweep.config import SweepConfig
from sweep.run import tracking
from sweep.run.tracking import Trackers
from sweep.trackers.cursor import cursor_path
from sweep.watchers import TrackerConfig

Tiny = Callable[..., SweepConfig]
Launch = Callable[..., tuple[int, str]]
Faulty = Callable[[str], None]

#: A stand-in that takes all that it is given; a fault is put into one of its functions.
STAND_IN = """
import os, signal, sys, time
from types import SimpleNamespace as Space

def log(*words):
    print(*words, flush=True)

class MlflowClient:
    def __init__(self, uri): pass
    def get_experiment_by_name(self, name): return Space(experiment_id="0")
    def search_runs(self, *rest, **more): return []
    def create_run(self, experiment, begun, tags, run_name):
        log("run", run_name)
        return Space(info=Space(run_id="run-" + run_name))
    def log_batch(self, run, metrics=(), params=(), tags=()):
        for epoch in dict.fromkeys(one[3] for one in metrics): log("epoch", run, epoch)
        {fault}
    def set_terminated(self, run, status, end_time): log("end", run, status)
    def update_run(self, run, status): pass
"""
ENTITIES = "Metric = Param = RunTag = lambda *values: values\n"


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """Puts an MLflow with a fault where processes that begin from now on look for one."""

    def put(fault: str) -> None:
        package = tmp_path / "stand_in" / "mlflow"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(STAND_IN.replace("{fault}", fault))
        (package / "entities.py").write_text(ENTITIES)
        monkeypatch.syspath_prepend(str(package.parent))

    return put


def printed(directory: Path) -> list[str]:
    return (directory / "logs" / "tracker-mlflow.log").read_text().splitlines()


def of_tracker(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("tracker ")]


def written(directory: Path, config: SweepConfig, epochs: int = 2) -> None:
    """A run with one trial, as if a launch had written it."""
    trials = trials_of(config)
    (directory / "sweep.yaml").write_text("name: tiny\ntrackers: [{name: mlflow}]\n")
    append(directory, [*launch_lines(trials), *run(trials[0], epochs)])


@pytest.mark.slow
def test_a_launch_feeds_its_tracker_each_trial_and_epoch_once_and_its_next_only_what_is_new(
    tiny: Tiny, launch: Launch, faulty: Faulty, tmp_path: Path
) -> None:
    faulty("pass")
    code, text = launch(tiny(trackers=["mlflow"]), tmp_path / "run", serial=True)
    assert code == 0
    assert of_tracker(text) == []
    said = printed(tmp_path / "run")
    kinds = [words.split()[0] for words in said]
    assert (kinds.count("run"), kinds.count("epoch"), kinds.count("end")) == (4, 12, 4)
    launch(tiny(trackers=["mlflow"], seeds=[0, 1]), tmp_path / "run", serial=True)
    more = printed(tmp_path / "run")
    assert len(set(more)) == len(more) == 2 * len(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("time.sleep(1e6)", "hangs, or has more to send than there was time for"),
        ("raise ConnectionError('no route to host')", "ConnectionError: no route to host"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its process has ended: signal SIGSEGV"),
        ("sys.exit(3)", "its process has ended: exit code 3"),
        ("raise ValueError('password=hunter22 a\\\\x1b[31m')", r"ValueError: password=*** a\x1b[31m"),
    ],
)
def test_one_that_fails_costs_the_sweep_one_line(
    fault: str,
    why: str,
    tiny: Tiny,
    launch: Launch,
    faulty: Faulty,
    tmp_path: Path,
    undisturbed: Path,
    same_numbers: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "ENDING", 0.5 if "sleep" in fault else 60.0)
    faulty(fault)
    code, text = launch(tiny(trackers=["mlflow"]), tmp_path / "run", serial=True)
    assert code == 0
    same_numbers(tmp_path / "run", undisturbed)
    (said,) = of_tracker(text)
    run = tmp_path / "run"
    way_out = f"the sweep goes on without it: sweep sync {run} mlflow sends what is missing"
    assert said == f"tracker mlflow: {why}; {way_out}"


@pytest.mark.slow
def test_what_one_missed_is_sent_by_sync_and_what_it_had_is_not(
    tiny: Tiny, launch: Launch, faulty: Faulty, tmp_path: Path
) -> None:
    faulty("os.kill(os.getpid(), signal.SIGKILL)")
    launch(tiny(trackers=["mlflow"]), tmp_path / "run", serial=True)
    assert len(printed(tmp_path / "run")) == 1  # of the first trial, that its run was made
    faulty("pass")
    path = {"PYTHONPATH": f"{tmp_path / 'stand_in'}:{os.environ.get('PYTHONPATH', '')}"}
    words = [str(word) for word in ("sync", tmp_path / "run")]
    done = [
        subprocess.run(
            [sys.executable, "-c", "from sweep.cli import main; main()", *words],
            env=os.environ | path, capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert done[0].splitlines()[-1] == "mlflow: 12 epochs of 4 trials sent"
    assert done[1] == "mlflow: has all\n"


def test_one_that_is_not_installed_is_one_line_with_how_to_install_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, tiny())
    (tmp_path / "stand_in" / "mlflow").mkdir(parents=True)
    (tmp_path / "stand_in" / "mlflow" / "__init__.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path / "stand_in"))
    with Trackers(tmp_path, [TrackerConfig(name="mlflow")]):
        pass
    assert "tracker mlflow: mlflow: is not installed (No module named 'no_such_module'); pip install" in caplog.text


def test_one_whose_launch_is_killed_sends_the_rest_and_ends(tiny: Tiny, faulty: Faulty, tmp_path: Path) -> None:
    written(tmp_path, tiny())
    faulty("pass")
    trackers = Trackers(tmp_path, [TrackerConfig(name="mlflow")])
    trackers.__enter__()
    (running,) = trackers._running
    with socket.socket(fileno=os.dup(running._socket.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)  # as the system does where the launch is killed
    assert running._process.wait(60) == 0
    assert cursor_path(tmp_path, "mlflow").read_text().count('"trial"') == 1
    running.kill()


def test_one_waits_for_another_that_sends_and_then_goes_on(tiny: Tiny, faulty: Faulty, tmp_path: Path) -> None:
    """As of two shares of a sweep, whose trackers are fed by one process at a time."""
    written(tmp_path, tiny())
    faulty("pass")
    first, second = (Trackers(tmp_path, [TrackerConfig(name="mlflow")]) for _ in range(2))
    with second:
        with first:
            until(lambda: "end" in "".join(printed(tmp_path)), "the first sends")
        until(lambda: len(list((tmp_path / "trackers").iterdir())) > 1, "the second takes over")
    assert [words.split()[0] for words in printed(tmp_path)] == ["run", "epoch", "epoch", "end"]


def test_one_whose_server_is_away_when_the_launch_begins_is_fed_once_it_is_there(
    tiny: Tiny, faulty: Faulty, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, tiny())
    faulty("pass")
    module, away = tmp_path / "stand_in" / "mlflow" / "__init__.py", tmp_path / "away"
    module.write_text(module.read_text().replace("(self, uri): pass", f"(self, uri): open({str(away)!r}, 'x')"))
    away.touch()
    with Trackers(tmp_path, [TrackerConfig(name="mlflow")]):
        until(lambda: "tracker mlflow: FileExistsError" in caplog.text, "it is told of")
        away.unlink()
        until(lambda: "end" in "".join(printed(tmp_path)), "it sends")
    assert caplog.text.count("tracker mlflow") == 1


def test_what_a_tracker_started_ends_with_it(
    tiny: Tiny, faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "ENDING", 0.1)
    written(tmp_path, tiny())
    faulty("import subprocess; child = subprocess.Popen(['sleep', '1000']); log('child', child.pid); time.sleep(1e6)")
    with Trackers(tmp_path, [TrackerConfig(name="mlflow")]):
        until(lambda: "child" in "".join(printed(tmp_path)), "it has started something")
    child = int(next(words.split()[1] for words in printed(tmp_path) if words.startswith("child")))
    until(lambda: not is_alive(child), "that ends")


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
