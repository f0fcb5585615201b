"""What is submitted is what runs: hours later too, whatever became of the checkout, the config and the user's code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
import yaml

from sweep import submitted, submitted_main
from sweep.config_file import load
from sweep.own_code import sources
from sweep.submitted import following, submit
from trainers import provenance
from trainers.errors import UserError
from trainers.provenance import code_version
from trainers.record import read

ROOT = Path(__file__).parents[2]

SUBMIT = """
import json, sys
from pathlib import Path
from sweep.config_file import load
from sweep.submitted import following, submit
path, directory = Path(sys.argv[1]), Path(sys.argv[2])
config = load(path, ["trial.epochs=1"])
print(json.dumps([submit(config, directory), following(path, ["trial.epochs=1"], directory)]))
"""

#: Of modules that only a launch and its processes import: that which is edited ends whatever imports it.
EDITED = ["sweep/run/launch.py", "sweep/run/child.py", "sweep/run/trial.py", "sweep/run/bell.py", "trainers/loop.py"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the checkout's packages, to edit."""
    for name in ("trainers", "analysis", "sweep"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tree"


@pytest.fixture
def commands(tree: Path, tmp_path: Path) -> tuple[list[str], list[str]]:
    """Submitted from the tree, which is then edited: the commands of what was kept, and of what is there then."""
    path = tmp_path / "mine" / "sweep.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"name": "one", "trial": small.TINY, "space": {"optimizer.lr": [0.1]}}))
    done = subprocess.run(
        [sys.executable, "-c", SUBMIT, path.name, "run"],
        cwd=path.parent,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    )
    path.write_text("edited: too")
    for name in EDITED:
        (tree / name).write_text("raise SystemExit('the edited code ran')")
    kept, followed = json.loads(done.stdout)
    return kept, followed


def run(command: list[str], tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """As a job would, from another folder; the tree, edited as it is, stands first for whatever looks there."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run([*command, *options], cwd="/", env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("how", ["--serial", pytest.param("", marks=pytest.mark.slow)])
def test_what_was_submitted_runs_whatever_became_of_the_checkout(
    commands: tuple[list[str], list[str]], tree: Path, tmp_path: Path, how: str
) -> None:
    directory = tmp_path / "mine" / "run"
    done = run(commands[0], tree, *filter(None, [how]))
    assert done.returncode == 0, done.stdout + done.stderr
    records = read(directory)
    assert {line["code_version"] for line in records if line["record"] in ("launch", "start")} == {code_version()}
    assert [line["epochs"] for line in records if line["record"] == "outcome"] == [1]


def test_code_is_followed_by_request_alone(commands: tuple[list[str], list[str]], tree: Path) -> None:
    done = run(commands[1], tree)
    assert (done.returncode, done.stderr) == (1, "the edited code ran\n")


def test_a_snapshot_that_is_damaged_is_refused_in_one_line(
    commands: tuple[list[str], list[str]], tree: Path, tmp_path: Path
) -> None:
    folder, config = Path(commands[0][1]), Path(commands[0][3])
    (folder / "sweep" / "added.py").touch()
    done = run(commands[0], tree)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"sweep: {folder}: the code in it is not what was submitted: files were changed, added or lost; delete the "
        "folder and submit anew\n",
    )
    (folder / "sweep" / "added.py").unlink()
    config.write_text(config.read_text().replace("epochs: 1", "epochs: 2"))
    done = run(commands[0], tree)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"sweep: {config}: is not what was submitted: it was changed since, as its name tells; submit anew\n"
    )


def test_the_same_code_is_kept_once_and_what_is_not_code_is_left_out(tiny: Callable[..., Any], tmp_path: Path) -> None:
    first, again = submit(tiny(), tmp_path / "run"), submit(tiny(), tmp_path / "run")
    assert first == again
    assert {path.name for path in (tmp_path / "run" / "code").iterdir()} == {Path(first[1]).name, Path(first[3]).name}
    folder = Path(first[1])
    assert submitted_main.damage(folder) == ""
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"analysis/published_numbers/figure2.csv", "sweep/examples/own_method/sweep.yaml"} <= kept
    assert not [name for name in kept if "__pycache__" in name]
    (folder / "sweep" / "__pycache__").mkdir()
    (folder / "sweep" / "__pycache__" / "cli.cpython-311.pyc").touch()  # as whoever runs it leaves
    assert submitted_main.damage(folder) == ""
    (folder / "submitted.json").unlink()
    with pytest.raises(UserError, match="the code in it is not what was submitted"):
        submit(tiny(), tmp_path / "run")


def test_what_a_killed_submission_left_goes_with_the_next_and_what_another_writes_now_stays(
    tiny: Callable[..., Any], tmp_path: Path
) -> None:
    code = tmp_path / "run" / "code"
    left, new = code / ".robustsweep-01234567.part", code / ".robustsweep-89abcdef.part"
    for part in (left, new):
        (part / "sweep").mkdir(parents=True)
    os.utime(left, (0, 0))
    submit(tiny(), tmp_path / "run")
    assert (left.exists(), new.exists()) == (False, True)


def test_submitted_code_tells_the_commit_that_it_was_at(
    tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitted, "commit", lambda: ("c0ffee", True))
    folder = Path(submit(tiny(), tmp_path / "run")[1])
    monkeypatch.setattr(provenance, "__file__", str(folder / "trainers" / "provenance.py"))
    assert provenance.commit() == ("c0ffee", True)


def test_files_that_git_does_not_track_are_no_change_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainers").mkdir()
    path = Path(shutil.copy(str(provenance.__file__), tmp_path / "trainers"))

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        git(*words)
    (tmp_path / "mine.yaml").touch()
    monkeypatch.setattr(provenance, "__file__", str(path))
    assert provenance.commit()[1] is False
    path.write_text(path.read_text() + "\n")
    assert provenance.commit()[1] is True


def test_the_config_that_is_kept_has_every_set_and_means_the_same(tiny: Callable[..., Any], tmp_path: Path) -> None:
    config = tiny(seeds=[3, 4])
    command = submit(config, tmp_path / "run")
    assert command[2:] == ["launch", command[3], "--out", str(tmp_path / "run")]
    assert load(Path(command[3])) == config
    path = Path("sweep.yaml")
    words = following(path, ["trial.epochs=2"], Path("run"))
    assert words[1:5] == ["-P", "-m", "sweep", "launch"]
    assert words[5:] == [str(path.absolute()), "--out", str(Path("run").absolute()), "--set", "trial.epochs=2"]


def test_a_users_own_code_is_that_which_was_submitted(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("import torch\n\ndef Net(classes): return torch.nn.LazyLinear(classes)\n")
    path = tmp_path / "own.yaml"
    trial = small.TINY | {"model": {"name": "./nets.py:Net"}}
    path.write_text(yaml.safe_dump({"name": "own", "trial": trial, "space": {"optimizer.lr": [0.1]}}))
    (before,) = sources(load(path)).values()
    command = submit(load(path), tmp_path / "run")
    (tmp_path / "nets.py").write_text("edited(")
    (kept,) = sources(load(Path(command[3]))).values()
    assert (kept.hash, kept.files) == (before.hash, before.files)
    archive = tmp_path / "run" / "code" / f"{before.hash}.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"unreadable snapshot"):
        sources(load(Path(command[3])))
    archive.unlink()
    with pytest.raises(UserError, match="no such file, looked for in"):
        sources(load(Path(command[3])))
    other = load(Path(command[3]), ["trial.model.name=./other.py:Net"])
    with pytest.raises(UserError, match=r"model.name: ./other.py:Net: no source of it was submitted"):
        sources(other)
