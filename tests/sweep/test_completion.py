"""Completion on TAB: what each shell asks for, and what it is given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.cli import main
from trainers.record import RecordFile, read


def complete(*words: str, shell: str = "bash", cwd: Path) -> list[str]:
    """What the command answers a shell in which these words are typed, the last one to be completed."""
    typed = {"COMP_WORDS": " ".join(["sweep", *words]), "COMP_CWORD": str(len(words))}
    before = Path.cwd()
    os.chdir(cwd)
    try:
        done = CliRunner(env={**typed, "_SWEEP_COMPLETE": f"{shell}_complete"}).invoke(main, [], prog_name="sweep")
    finally:
        os.chdir(before)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return done.stdout.strip("\n").splitlines()


@pytest.fixture
def home(undisturbed: Path, tmp_path: Path) -> Path:
    """A folder with the run runs/tiny and a folder that is none."""
    shutil.copytree(undisturbed, tmp_path / "runs" / "tiny")
    (tmp_path / "runs" / "other").mkdir()
    return tmp_path


def test_commands_and_options_are_completed(home: Path) -> None:
    assert complete("rer", cwd=home) == ["plain,rerun"]
    assert set(complete("note", "--", cwd=home)) >= {"plain,--tag", "plain,--untag"}
    assert complete("init", "t", cwd=home) == ["plain,tune"]


@pytest.mark.parametrize("command", ["results", "show", "note", "launch"])
def test_a_run_is_completed_from_two_folders_above_it(command: str, home: Path) -> None:
    before = ["x.yaml", "--out"] if command == "launch" else []
    for beginning in ("", "ru", "runs/", "runs/t", "runs/tiny"):
        words = [command, *before, beginning]
        assert complete(*words, cwd=home) == ["plain,runs/tiny"]
    assert complete(command, *before, "none", cwd=home) == ["dir,none"]


@pytest.mark.parametrize("command", ["show", "cancel", "evaluate", "images", "export", "note", "rerun", "compare"])
def test_the_ids_of_a_runs_trials_are_completed(command: str, home: Path) -> None:
    ids = [one["trial_id"] for one in read(home / "runs" / "tiny") if one["record"] == "trial"]
    assert complete(command, "runs/tiny", "", cwd=home) == [f"plain,{name}" for name in ids]
    assert complete(command, "runs/tiny", ids[0][:6], cwd=home) == [f"plain,{ids[0]}"]


def test_zsh_and_fish_show_which_point_a_trial_is(home: Path) -> None:
    first = next(one["trial_id"] for one in read(home / "runs" / "tiny") if one["record"] == "trial")
    point = "optimizer.lr=0.1 optimizer.name=sgd seed=0"
    words = ["show", "runs/tiny", first[:6]]
    assert complete(*words, shell="zsh", cwd=home) == ["plain", first, point]
    done = CliRunner(env={"COMP_WORDS": "sweep show runs/tiny", "COMP_CWORD": "", "_SWEEP_COMPLETE": "fish_complete"})
    os.chdir(home)
    assert f"plain,{first}\t{point}" in done.invoke(main, [], prog_name="sweep").stdout.splitlines()


def test_what_cannot_be_read_completes_nothing_and_says_nothing(home: Path) -> None:
    assert complete("show", "runs/other", "", cwd=home) == []
    assert complete("show", "none", "", cwd=home) == []
    (home / "runs" / "tiny" / "records.jsonl").write_text("{\n{}\n")
    assert complete("show", "runs/tiny", "", cwd=home) == []
    (home / "runs" / "other" / "records.jsonl").touch()
    file = RecordFile(home / "runs" / "other")
    file.append("trial", {"trial_id": "abc", "number": 0, "config": {}, "point": {"x": "a\x1b[31m\n"}, "seed": 0})
    file.append("of_tomorrow", {})
    file.close()
    assert complete("show", "runs/other", "", shell="zsh", cwd=home) == ["plain", "abc", r"x=a\x1b[31m\n seed=0"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    assert f"_SWEEP_COMPLETE={shell}_complete" in script
    assert "sweep" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script_that_is_printed(home: Path) -> None:
    root = Path(main.callback.__code__.co_filename).parents[1]  # type: ignore[union-attr]
    (home / "bin").mkdir()
    program = home / "bin" / "sweep"
    program.write_text(f"#!{sys.executable} -P\nfrom sweep.cli import main\nmain()\n")
    program.chmod(0o755)
    script = 'eval "$(sweep completion bash)"; COMP_WORDS=(sweep results ru); COMP_CWORD=2; _sweep_completion sweep; '
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", f'{script}echo "${{COMPREPLY[@]}}"']
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("runs/tiny\n", "")
