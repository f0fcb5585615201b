"""A sweep from Python: the config, its plan, the launch."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import yaml
from nbclient import NotebookClient
from processes import started

import sweep
from analysis import load_trials
from sweep import Config, Outcome, launch, load_config, plan_of
from sweep.config_file import load
from trainers.errors import UserError
from trainers.record import read


@pytest.fixture
def values(sweep_file: Callable[..., Path]) -> dict[str, Any]:
    """What the file of the tiny sweep has, of one trial."""
    read: dict[str, Any] = yaml.safe_load(sweep_file(space={"optimizer.lr": [0.1]}).read_text())
    return read


def test_a_file_a_mapping_and_a_config_are_the_same_sweep(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    of_file = load(path)
    assert load_config(path) == load_config(str(path)) == load_config(values) == load_config(of_file) == of_file
    assert isinstance(of_file, Config)


def test_overrides_are_those_of_set(values: dict[str, Any]) -> None:
    values["space"] |= {"optimizer.name": ["sgd", "deat"]}
    config = load_config(values, {"trial.epochs": 2, "trial.optimizer.lr": 1e-5, "name": "other", "seeds": [1, 2]})
    assert (config.trial.epochs, config.trial.optimizer.lr, config.name, config.seeds) == (2, 1e-5, "other", (1, 2))
    assert set(config.space) == {"optimizer.name"}  # a value in place of the axis
    assert load_config(load_config(values), {"trial.epochs": 2}).trial.epochs == 2


@pytest.mark.parametrize("text", ["\U0001f600 \xe9", "no", "1e-05", "a: b # c", "two\nlines", "\x7f", ""])
def test_an_override_is_the_text_that_it_was(text: str, values: dict[str, Any]) -> None:
    assert load_config(values, {"question": text}).question == text


def test_a_plan_brings_what_is_new_of_a_run_in_a_store(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[Path | None] = []
    monkeypatch.setattr(sweep.api, "bring_run", brought.append)
    plan_of(values, tmp_path / "run")
    assert brought == [tmp_path / "run"]


def test_the_mapping_that_was_given_stays_as_it_is(values: dict[str, Any]) -> None:
    before = yaml.safe_dump(values)
    load_config(values, {"space.batch_size": [16, 32], "trial.epochs": 2})
    assert yaml.safe_dump(values) == before


def test_a_mistake_names_its_key_and_the_way_out(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"config: trial.attack.stepsize: unknown key; did you mean 'step_size'\?"):
        load_config(values | {"trial": {"attack": {"stepsize": 1}}})


def test_what_yaml_has_not_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"seeds: must be made of text, numbers, lists and mappings: .*ndarray.*tolist"):
        load_config(values, {"seeds": np.arange(3)})


def test_a_launch_gives_what_it_has_come_to_and_goes_on(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    assert plan_of(values, directory).left == 1
    done = launch(values, directory, serial=True)
    assert done == Outcome(directory, 0, {"completed": 1})
    assert done.finished
    assert "[1/1] completed" in capsys.readouterr().out
    assert list(load_trials(done.directory)["outcome"]) == ["completed"]
    wider = {"space.optimizer.lr": [0.1, 0.3]}
    assert plan_of(values, directory, wider).left == 1
    assert launch(values, directory, wider, serial=True).counts == {"completed": 2}
    assert [one["command"] for one in read(directory) if one["record"] == "launch"] == [
        "sweep.launch(config)",
        f"sweep.launch(config, overrides={wider})",
    ]


def test_a_trial_that_fails_is_an_outcome_and_raises_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    done = launch(values, tmp_path / "run", {"space.optimizer.lr": [1e30]}, serial=True)
    assert (done.counts, done.exit_code, done.finished) == ({"diverged": 1}, 0, True)


def test_without_a_directory_it_lies_where_the_command_would_put_it(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch(values, serial=True, budget_hours=1e-9).directory == Path("runs/tiny")


def test_of_hours_in_which_nothing_fits_nothing_runs(values: dict[str, Any], tmp_path: Path) -> None:
    done = launch(values, tmp_path / "run", serial=True, budget_hours=1e-9)
    assert (done.exit_code, done.finished, done.counts) == (1, False, {})


def test_a_directory_of_another_sweep_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("name: other\n")
    for call in (plan_of, launch):
        with pytest.raises(UserError, match="holds the sweep 'other', not 'tiny'"):
            call(values, tmp_path)


def test_beside_an_address_serial_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="serial: runs without Ray, so that address says nothing; leave one"):
        launch(values, serial=True, address="auto")


@pytest.mark.parametrize("hours", [math.inf, math.nan, -1.0])
def test_hours_that_are_none_are_refused(hours: float, values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"budget_hours: must be a finite number > 0, got .*; None has no bound"):
        launch(values, tmp_path, budget_hours=hours)


def test_another_thread_than_the_main_one_is_refused(values: dict[str, Any]) -> None:
    said: list[str] = []

    def call() -> None:
        with pytest.raises(UserError) as error:
            launch(values, serial=True)
        said.append(str(error.value))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert said == ["launch: must be called in the main thread, which takes the signals; or run `sweep launch`"]


#: Two sweeps one after the other, of which the first is stopped.
LOOP = """
import sys, sweep
for name in ("one", "two"):
    sweep.launch(sys.argv[1], name, {"trial.epochs": 400}, serial=True)
"""


@pytest.fixture
def loop(values: dict[str, Any], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", LOOP, str(tmp_path / "tiny.yaml")]
    environment = os.environ | {"PYTHONPATH": str(Path(sweep.__file__).parents[1])}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(words, cwd=tmp_path, env=environment, **pipes) as process:
        yield process


@pytest.mark.slow
def test_ctrl_c_ends_the_script_and_not_one_sweep_of_it(loop: subprocess.Popen[str], tmp_path: Path) -> None:
    path = tmp_path / "one" / "records.jsonl"
    while not path.exists() or b'"record":"epoch"' not in path.read_bytes():
        assert loop.poll() is None
    loop.send_signal(signal.SIGINT)
    _, said = loop.communicate(timeout=120)
    assert said.rstrip().endswith("KeyboardInterrupt: the sweep was stopped; the same launch goes on")
    assert not (tmp_path / "two").exists()
    assert [one["outcome"] for one in read(tmp_path / "one") if one["record"] == "outcome"] == ["interrupted"]


@pytest.mark.slow
def test_in_a_notebook_all_that_a_launch_prints_stays_and_its_outcome_is_shown(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(sweep.__file__).parents[1]))
    cell = nbformat.v4.new_code_cell(f"from sweep import launch; launch({values!r}, 'run')")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    ours = [output for output in notebook.cells[0].outputs if output.output_type != "stream"]  # as Ray's warnings are
    shown = "".join(output.data["text/plain"] for output in ours)
    assert shown.startswith("tiny: 1 trial (grid over optimizer.lr: 1 value; 1 seed)\n")
    assert "[1/1] completed" in shown
    assert shown.endswith("Outcome(directory=PosixPath('run'), exit_code=0, counts={'completed': 1})")
