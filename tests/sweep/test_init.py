"""`sweep init`: from an empty folder to a sweep that runs, by the commands that it prints."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.estimates.importance import FEWEST, FEWEST_AN_AXIS
from analysis.frames.trials import load_trials
from sweep.cli import main
from sweep.config_file import load
from sweep.init import CONFIG, EXAMPLES, KINDS
from sweep.plan.plan import plan

ROOT = Path(__file__).parents[2]


def init(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["init", *words])
    return done.exit_code, done.output


def test_it_writes_the_example_of_the_repository_and_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init("own", "new")[0] == 0
    for file in (ROOT / "examples" / "own_method").iterdir():
        assert (tmp_path / "new" / file.name).read_bytes() == file.read_bytes()
    (tmp_path / "sweep.yaml").write_text("mine")
    code, said = init("own")
    assert code == 2
    assert "sweep.yaml: is there already, and is not written over; give another folder" in said
    assert (tmp_path / "sweep.yaml").read_text() == "mine"
    assert not (tmp_path / "method.py").exists()
    assert init("nothing")[1].startswith(
        "sweep: Invalid value for 'KIND': 'nothing' is not one of 'ratio', 'methods', "
    )


def test_without_a_kind_it_says_which_there_are_in_one_line() -> None:
    code, said = init()
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("sweep: init: needs a KIND, what the sweep asks: ratio (is the ratio of learning rate and ")
    assert all(f"{kind} (" in said for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_is_a_sweep_that_can_be_planned(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned_without_data: None
) -> None:
    monkeypatch.chdir(tmp_path)
    _, said = init(kind, "new")
    config = load(tmp_path / "new" / CONFIG)
    assert said.splitlines()[-1].endswith(f" runs/{config.name}")
    assert config.question is None or config.stopping is None  # of which early stopping would bias the answer
    search = plan(config, [], "abc", data="unseen").search
    assert search.size() >= 12
    lines = (tmp_path / "new" / CONFIG).read_text().splitlines()
    assert max(map(len, lines)) <= 120
    assert sum("#" in line for line in lines) > 3
    assert all("CIFAR-10" in line.partition("#")[2] for line in lines if line.startswith(("  data:", "  attack:")))
    assert any(re.match(r"resources: .*# .*gpu: 1", line) for line in lines)


def test_the_printed_commands_can_be_pasted_though_the_folder_has_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, said = init("own", "my method")
    assert shlex.split(said.splitlines()[-3]) == ["sweep", "plan", "my method/sweep.yaml"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_answers_the_question_is_named_where_it_is_asked(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said, one = init(kind)[1], KINDS[kind]
    answer = " and ".join(f"sweep {command}" for command in one.reads)
    assert f"asks: {one.asks} Answered by: {answer}\nnext:\n" in said
    assert all(f"sweep {command} runs/{one.folder} " in Path(CONFIG).read_text() for command in one.reads)


def test_the_tune_example_has_the_cells_that_importance_needs() -> None:
    config = load(EXAMPLES / "tune" / CONFIG)
    needed = max(FEWEST, FEWEST_AN_AXIS * len(config.space))
    assert config.stopping is None  # pruned trials are in no cell
    assert (config.search.n_trials or 0) >= 1.2 * needed  # some may diverge


def test_network_and_objective_of_the_example_are_forty_lines() -> None:
    assert len((ROOT / "examples" / "own_method" / "method.py").read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "own"])
def test_what_is_printed_runs_as_it_is_but_for_its_size(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fewer = {
        "ratio": ["seeds=[0, 1]", "space.batch_size=[64, 128]", "space.optimizer.lr=[0.06, 0.12]"],
        "methods": ["seeds=[0, 1]", "space.objective.name=[pgd_at]", "space.optimizer.lr=[0.2]"],
        "tune": ["search.n_trials=8"],
    }
    changes = ["trial.epochs=2", "trial.data.train_per_class=10", "trial.evaluation.every=1", *fewer[kind]]
    small = [word for change in changes for word in ("--set", change)]
    for command in init(kind)[1].partition("next:\n")[2].splitlines():
        _, name, *words = shlex.split(command)
        more = small if name in ("plan", "launch") else []
        serial = ["--serial", "--debug"] if name == "launch" else []
        done = CliRunner().invoke(main, [name, *words, *more, *serial])
        assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_the_printed_commands_work_though_the_folder_holds_names_of_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep_command: list[str]
) -> None:
    """Through a Ray of their own, in a folder whose files would break ours, Ray, torch and Python if they hid any."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    safe = [sweep_command[0], "-P", *sweep_command[1:]]  # as the installed command: the folder is not on the path
    said = subprocess.run([*safe, "init", "own"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for name in ("random", "torch", "pandas", "ray", "click", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the user\\'s')")
    for name in ("trainers", "analysis", "sweep"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the user\\'s')")
    for command in said.partition("next:\n")[2].splitlines():
        words = shlex.split(command)
        assert words[0] == "sweep"
        short = ["--set", "trial.epochs=1", "--set", "seeds=[0, 1]"] if words[1] in ("plan", "launch") else []
        done = subprocess.run([*safe, *words[1:], *short], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "LogitPairing" in done.stdout
    assert "PGD-AT" in done.stdout
    trials = load_trials(tmp_path / "runs" / "own_method")
    assert trials["outcome"].tolist() == ["completed"] * 8
    assert set(trials["method"]) == {"PGD-AT", "LogitPairing"}
