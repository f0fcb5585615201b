"""One local Ray for all tests that need one, and tiny sweeps for it to run."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import small
import yaml
from faults_harness import Command, Commands
from recorded import ENVIRONMENT
from rich.console import Console

from analysis.frames.trials import load_epochs, load_trials
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.run import launch as runner
from sweep.search.inputs import data_key


@pytest.fixture(scope="session")
def hiding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's with packages and a module that are named as ours."""
    folder = tmp_path_factory.mktemp("hiding")
    for name in ("trainers", "sweep"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('the user\\'s')")
    (folder / "analysis.py").write_text("raise RuntimeError('the user\\'s')")
    return folder


@pytest.fixture(scope="session")
def local_ray(hiding: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray with two CPUs, started from a folder that hides our packages; a launch that finds it up uses it."""
    from sweep.run import cluster

    with ExitStack() as up:
        with chdir(hiding):
            console, logs = Console(file=io.StringIO()), tmp_path_factory.mktemp("logs")
            up.enter_context(cluster.local(console, logs, cpus=2))
        yield


#: A sweep of two methods and two learning rates: four trials of three short epochs.
TINY: dict[str, Any] = {
    "name": "tiny",
    "trial": small.TINY,
    "space": {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.3]},
    "max_concurrent": 2,
}


def _written(folder: Path, **values: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | values))
    return path


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the file of the tiny sweep, with other values where told."""
    return lambda **values: _written(tmp_path, **values)


@pytest.fixture
def tiny(sweep_file: Callable[..., Path]) -> Callable[..., SweepConfig]:
    """The same sweep, loaded."""
    return lambda **values: load(sweep_file(**values))


def _launched(config: SweepConfig, directory: Path, **options: Any) -> tuple[int, str]:
    text = io.StringIO()
    options.setdefault("debug", options.get("serial", False))  # in this process, in which tests change things
    code = runner.Launch(config, directory, Console(file=text, width=200), command="test", **options).run()
    return code, text.getvalue()


@pytest.fixture
def launch() -> Callable[..., tuple[int, str]]:
    """Launches a config in a directory; gives the exit code and what was printed."""
    return _launched


@pytest.fixture(scope="session")
def launched() -> Callable[..., tuple[int, str]]:
    """The same, for fixtures that outlive a test."""
    return _launched


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the tiny sweep, run once to its end in this process; for reading only."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert _launched(load(_written(folder)), folder / "run", serial=True)[0] == 0
    return folder / "run"


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of it, to go on from."""
    return Path(shutil.copytree(undisturbed, tmp_path / "finished"))


#: Columns that may differ between two runs of the same sweep.
INCIDENTAL = [
    "seconds",
    "evaluation_seconds",
    "checkpoint_seconds",
    "preparing_seconds",
    "samples_per_second",
    "peak_memory_bytes",
    "memory_bytes",
    "host",
    "device",
    "code_version",
    "attempts",
]


@pytest.fixture
def same_numbers() -> Callable[[Path, Path], None]:
    """Asserts that two runs have the same frames in every column but times, host and attempts."""

    def check(one: Path, other: Path) -> None:
        for load_frame in (load_trials, load_epochs):
            left, right = (load_frame(path).drop(columns=INCIDENTAL, errors="ignore") for path in (one, other))
            pd.testing.assert_frame_equal(left, right, check_exact=True)

    return check


@pytest.fixture(scope="session")
def sweep_command() -> list[str]:
    """The command `sweep`, of the very Python that runs the tests."""
    return [sys.executable, "-c", "from sweep.cli import main; main()"]


@pytest.fixture
def driver(sweep_file: Callable[..., Path], commands: Commands, tmp_path: Path) -> Callable[..., Command]:
    """Starts `sweep launch` in a process of its own, with the variables that the test has set."""

    def start(*options: str, **values: Any) -> Command:
        words = ("launch", sweep_file(), "--out", tmp_path / "run", *options)
        afresh = {"tempfile.tempdir": None}  # of the variables
        return commands(*words, environment=dict(os.environ), values=afresh | values)

    return start


@contextmanager
def _cluster(script: str) -> Iterator[tuple[str, Callable[[], None]]]:
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = next(line.split()[1] for line in process.stdout if line.startswith("address"))
        yield address, partial(print, file=process.stdin, flush=True)
        print(file=process.stdin, flush=True)


@pytest.fixture
def ray_cluster() -> Callable[[str], AbstractContextManager[tuple[str, Callable[[], None]]]]:
    """A Ray cluster for a block, in a process of its own that runs a script: its address, and what sends it a line.

    The script prints `address HOST:PORT` and waits for a line twice: before its fault, and before it ends.
    """
    return _cluster


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Starts `sweep ...` in processes to break (tests/shared/faults_harness.py); none is left after the test."""
    started = Commands(tmp_path)
    yield started
    started.close()


@pytest.fixture
def planned_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that read no data and try no trial."""
    monkeypatch.setattr("sweep.plan.plan.fingerprints", lambda config, own: {data_key(config.trial): "digits-0"})
    monkeypatch.setattr("sweep.plan.plan.check_trials", lambda config, trials, unseen, own: {})


@pytest.fixture
def launched_without_data(planned_without_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals of such plans, on a machine that is known."""
    monkeypatch.setattr("sweep.run.journal.environment", lambda: dict(ENVIRONMENT))
