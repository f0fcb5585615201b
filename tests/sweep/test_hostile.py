"""Configs, command lines, paths, links and texts that somebody made to break or to deceive."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from faults_harness import Commands

from analysis.tables.export import csv_text
from sweep.cli import main
from sweep.run.directory import RunLock, is_live
from sweep.run.lock import LOCK_FILE
from sweep.run.soft_lock import FOLDER, SoftLock
from trainers.errors import UserError
from trainers.machine import machine
from trainers.record import RecordFile

#: Seconds of this process, and by the clock on a machine that is busy with other things.
SOON, PATIENCE = 30, 300


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in an empty folder, and holds it to a time."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Result:
        begun, began = time.process_time(), time.monotonic()
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert time.process_time() - begun < SOON
        assert time.monotonic() - began < PATIENCE
        return result

    return run


def refused(result: Result) -> str:
    """The one short line of a command that refuses."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert (result.stderr.count("\n"), len(result.stderr) < 1500) == (1, True)
    return result.stderr.removeprefix("sweep: ").rstrip("\n")


def bomb(first: str, each: str) -> str:
    """A text of 20 lines, each of which holds the one before nine times."""
    lines = [f"k0: &k0 {first}"]
    lines += [f"k{n}: &k{n} {each.format(','.join([f'*k{n - 1}'] * 9))}" for n in range(1, 20)]
    return "\n".join(lines)


DEEP = "lists or mappings stand 100 deep in each other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(pytest.param(part * n, f"any.yaml:1: {DEEP}", id=f"{n} of {part}")
          for n in (1000, 100_000) for part in ("[", "{a: ", "- ", "? ")),
        ("[" * 1000 + "]" * 1000, f"any.yaml:1: {DEEP}"),
        (bomb("[x]", "[{}]"), "its aliases (*name) stand for more than 1,000,000 characters"),
        (f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 1000)}]", "stand for more than 1,000,000 characters"),
        (bomb(f"{{{', '.join(f'a{n}: 1' for n in range(401))}}}", "{{<<: [{}]}}"), "merges more than 400 keys"),
        ("\n".join(f"k{n}: &k{n} [{f'*k{n - 1}' if n else ''}]" for n in range(300)), "stand over 100 deep"),
        ("a: &a [*a]", "an alias (*name) holds itself; write its values out"),
        ("name: !!python/object/apply:os.system ['touch bad']", "the tag tag:yaml.org,2002:python/object/apply"),
        ("name: !!binary aGk=", "the tag tag:yaml.org,2002:binary: no value has one; leave it out"),
        ("name: !!int '[*a]'", "'[*a]' is no number; leave its tag out"),
        ("a: 1\na: 2", "duplicate key 'a': give each key once"),
        ("name: a\0b", "unacceptable character #x0000"),
        (f"name: {'9' * 5000}", "a number of 5000 characters, which no key takes"),
        ("x" * 1_000_001, "any.yaml: cannot be read as text: is longer than 1,000,000 bytes; give a YAML file"),
        ("", "must be a mapping of keys to values, got NoneType"),
    ],
)  # fmt: skip
def test_a_hostile_yaml_text_is_refused_in_one_line(text: str, message: str, cli: Callable[..., Result]) -> None:
    Path("any.yaml").write_text(text)
    assert message in refused(cli("plan", "any.yaml"))
    assert not Path("bad").exists()


def test_a_config_of_utf_16_is_refused_and_one_with_a_mark_of_byte_order_is_read(
    sweep_file: Callable[..., Path], cli: Callable[..., Result]
) -> None:
    text = sweep_file().read_text()
    Path("16.yaml").write_text(text, encoding="utf-16")
    assert "16.yaml: cannot be read as text: 'utf-8' codec" in refused(cli("plan", "16.yaml"))
    Path("mark.yaml").write_text(text, encoding="utf-8-sig")
    assert cli("plan", "mark.yaml", "--rate", "1").exit_code == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=[" + "[" * 1000, f"--set seeds: {DEEP}"),
        (f"trial.optimizer.{'a.' * 3000}lr=1", "a key has at most 100 parts"),
        ("trial=3", "trial: must be a mapping of keys to values, got 3"),
        (f"trial.epochs={10**18 * 10**18}", "trial.epochs: must be a whole number of at most 64 bits"),
        ("trial.optimizer.lr=1.0e+300", "trial.optimizer.lr: must be at most 3.40282e+38"),
        ("trial.optimizer.lr=.inf", "trial.optimizer.lr: must be "),
        (f"resources.gpu={10**350}", "resources.gpu: must be auto or a number from 0 to 1, got 1000"),
        ("resources.cpu=1.0e+30", "resources.cpu: must be <= 10000"),
        (f"name={'x' * 10_000}", "name: must match "),
        (f"space.optimizer.lr={[n / 1e6 for n in range(1, 10_002)]}", "must have at most 10000 values, got ['1e-06', "),
        (f"seeds={list(range(10_001))}", "seeds: must have at most 10000 values, got [0, 1, 2"),
        ("search={name: random, n_trials: 1000000000000}", "space: must have at most 100,000 trials, of all its seeds"),
        ('trial.data.root="a\\0b"', "trial.data.root: must be a path, which has no NUL character, got 'a\\x00b'"),
        ('trial.data.root="\\ud800"', "trial.data.root: must be "),
        ("trial.data.extra=~nosuchuser/x", "trial.data.extra: there is no user '~nosuchuser', whose home that would "),
        ("trial.model.fine_tune=~nosuchuser/x", "trial.model.fine_tune: there is no user '~nosuchuser'"),
        ("trial.model.name=~nosuchuser/x.py:Net", "trial.model.name: there is no user '~nosuchuser'"),
        ("code_folder=~nosuchuser/x", "code_folder: there is no user '~nosuchuser'"),
    ],
)  # fmt: skip
def test_a_hostile_value_is_refused_in_one_line(
    override: str, message: str, sweep_file: Callable[..., Path], cli: Callable[..., Result]
) -> None:
    assert message in refused(cli("plan", sweep_file(), "--set", override))


def test_a_space_of_millions_of_points_is_refused_before_it_is_listed(
    sweep_file: Callable[..., Path], cli: Callable[..., Result]
) -> None:
    numbers = [n / 1000 for n in range(1, 301)]
    space = dict.fromkeys(("optimizer.lr", "optimizer.weight_decay", "objective.label_smoothing"), numbers)
    for command in ("plan", "theory"):
        assert refused(cli(command, sweep_file(space=space))) == (
            "space: must have at most 100,000 combinations of the values that it lists; list fewer values or seeds, or "
            "draw some: {choice: [...]} in place of a list, and search={name: random, n_trials: 100}"
        )
    few = {key: {"choice": listed[:100]} for key, listed in space.items()}
    ranges = {"optimizer.lr": {"uniform": [0.1, 0.2]}}
    for values, way_out in (
        ({"space": few, "search": {"name": "one_at_a_time"}, "seeds": list(range(1000))}, "list fewer values or "),
        ({"space": ranges, "search": {"name": "optuna", "n_trials": 10**12}}, "lower search.n_trials, 1000"),
        ({"space": ranges, "search": {"name": "quasi_random", "n_trials": 10**12}}, "lower search.n_trials, 1000"),
    ):
        text = "space: must have at most 100,000 trials, of all its seeds; "
        assert refused(cli("plan", sweep_file(**values))).startswith(f"{text}{way_out}")


@pytest.mark.parametrize("words", [["plan", "{}"], ["status", "{}"], ["results", "{}"], ["theory", "{}"],
                                   ["show", "{}", "a"], ["evaluate", "{}"], ["export", "{}", "a", "--torch"],
                                   ["init", "own", "{}"], ["note", "{}", "a", "x"], ["compare", "{}", "a", "b"],
                                   ["rerun", "{}", "a"]], ids=lambda words: words[0])  # fmt: skip
@pytest.mark.parametrize("path", ["a\0b", "\ud800", "pipe", "socket", "loop", "zero", "x" * 300, "x" * 9999,
                                  "a\nb", "\x1b[31mred", "\u202e"], ids=lambda path: ascii(path[:9]))  # fmt: skip
def test_a_path_that_is_no_file_is_refused_and_not_waited_for(
    path: str, words: list[str], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.plain_file.PATIENCE", 0.1)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    Path("loop").symlink_to("loop")
    Path("zero").symlink_to("/dev/zero")
    answer = cli(*(word.format(path) for word in words))
    if answer.exit_code == 0:  # a name that a folder can have
        assert words[0] == "init"
    else:
        assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", refused(answer))


@pytest.mark.parametrize("name", ["records.jsonl", "records.1of2.jsonl", "sweep.yaml", ".lock"])
def test_a_pipe_in_the_place_of_a_file_of_a_run_holds_nobody_up(
    name: str, sweep_file: Callable[..., Path], cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.plain_file.PATIENCE", 0.1)
    Path("run").mkdir()
    os.mkfifo(Path("run") / name)
    for words in (["status", "run"], ["results", "run"], ["launch", sweep_file(), "--serial", "--out", "run"]):
        refused(cli(*words))


@pytest.mark.parametrize("name", [".lock.soft/000000000001", ".store.json"])
@pytest.mark.parametrize(
    "text", [None, "{}", "[]", "[5]", "[" * 99_999, "3", "[{}]", "", "x"], ids=lambda text: ascii(text)[:9]
)
def test_whatever_stands_in_a_mark_or_a_soft_lock_is_refused_or_nothing(
    name: str, text: str | None, undisturbed: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.plain_file.PATIENCE", 0.1)
    path = Path("run") / name
    path.parent.mkdir(parents=True)
    shutil.copy(undisturbed / "records.jsonl", "run")
    os.mkfifo(path) if text is None else path.write_text(text)
    answer = cli("status", "run")
    if text in ("[]", "{}") and ".lock" in name:  # nobody holds it
        assert answer.exit_code == 0
    else:
        assert str(path) in refused(answer)


HOLDER = {"token": "0" * 16, "name": "x", "share": None, "machine": "y", "process": 1, "started": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"token": "../../victim"}, {"token": 5}, {"name": 5}, {"share": "x"}, {"share": 5}, {"machine": None}),
        *({"process": "1"}, {"started": "1"}, {"more": 1}),
    ],
    ids=str,
)
def test_a_holder_of_a_soft_lock_that_is_none_is_refused_and_no_file_of_its_name_removed(
    wrong: dict[str, object], victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run" / FOLDER
    folder.mkdir(parents=True)
    (folder / HOLDER["token"]).touch()
    (folder / f"{1:012d}").write_text(json.dumps([{**HOLDER, "machine": machine(), **wrong}]))
    with pytest.raises(UserError, match="is not as it was written; if no launch runs there, delete"):
        is_live(tmp_path / "run")
    with pytest.raises(UserError, match="is not as it was written"):
        SoftLock(tmp_path / "run").take("x")
    assert victim.exists()


def test_a_link_that_leads_nowhere_and_a_pipe_as_a_heartbeat_hold_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / f"{1:012d}").write_text(json.dumps([HOLDER]))
    os.mkfifo(folder / HOLDER["token"])
    assert not is_live(tmp_path)
    (folder / f"{2:012d}").symlink_to("nowhere")
    (folder / "\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0669").touch()
    with pytest.raises(UserError, match="is not as it was written"):
        is_live(tmp_path)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious\n")
    return path


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("name", [LOCK_FILE, "records.jsonl", "records.1of2.jsonl", "logs/ray.log"])
def test_no_file_outside_a_run_is_written_through_a_link_in_it(
    name: str, how: str, victim: Path, sweep_file: Callable[..., Path], cli: Callable[..., Result]
) -> None:
    (Path("run") / name).parent.mkdir(parents=True)
    getattr(Path("run") / name, how)(victim)
    what = "is a symbolic link" if how == "symlink_to" else "is a hard link"
    message = refused(cli("launch", sweep_file(), "--serial", "--out", "run"))
    assert f"{Path(name).name} {what}, and is written to in place" in message or "damaged" in message
    assert victim.read_text() == "precious\n"
    if name == LOCK_FILE:
        assert not is_live(Path("run"))


def test_a_config_and_a_run_whose_names_are_no_utf8_are_launched_and_read(
    sweep_file: Callable[..., Path], commands: Commands, tmp_path: Path
) -> None:
    path = sweep_file(space={"optimizer.lr": [0.1]}).rename(tmp_path / "caf\udce9.yaml")
    for _ in range(2):
        commands.finish("launch", path, "--serial", "--out", tmp_path / "run\udce9")
    assert "1 completed" in commands.finish("status", tmp_path / "run\udce9")


def test_a_run_that_lies_behind_a_link_and_keeps_its_checkpoints_behind_one_is_a_run(
    sweep_file: Callable[..., Path], cli: Callable[..., Result], tmp_path: Path
) -> None:
    for name in ("big", "bigger"):
        (tmp_path / name).mkdir()
    Path("run").symlink_to(tmp_path / "big")
    (tmp_path / "big" / "checkpoints").symlink_to(tmp_path / "bigger")
    path = sweep_file(space={"optimizer.lr": [0.1]})
    assert cli("launch", path, "--serial", "--out", "run").exit_code == 0
    assert len([*(tmp_path / "bigger").glob("*.pt")]) == 1


def test_the_holder_of_a_lock_is_named_in_one_line_whatever_stands_there(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run", "\x1b[2J" + "x" * 10_000), pytest.raises(UserError) as caught:
        RunLock(tmp_path / "run")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("name", ["w.pt", "w.py"])
def test_an_export_takes_the_place_of_no_device_and_no_link(
    kind: str, name: str, undisturbed: Path, victim: Path, cli: Callable[..., Result]
) -> None:
    os.mkfifo(name) if kind == "pipe" else Path(name).symlink_to(victim)
    trial = next(undisturbed.glob("checkpoints/*.pt")).stem
    message = refused(cli("export", undisturbed, trial, "--torch", "--out", "w.pt"))
    assert message == f"--out {name}: is a link, a device or the like, whose place no file takes; give another"
    assert victim.read_text() == "precious\n"


EVIL = "\x1b[31mred\x1b]0;title\x07\x9b1m\x7f\u202e[bold]b[/bold]:smile: $x^{$ | _&%"
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def evil(undisturbed: Path, tmp_path: Path) -> Path:
    """A run whose every free text in the records is hostile."""
    (tmp_path / "evil").mkdir()
    lines = [json.loads(line) for line in (undisturbed / "records.jsonl").read_text().splitlines()]
    file = RecordFile(tmp_path / "evil")
    for record in lines:
        kind = record.pop("record")
        record.pop("crc", None)
        record |= {key: EVIL for key in ("host", "device", "code_version", "command", "preset") if key in record}
        if kind == "trial":
            record["point"] = {**record["point"], f"model.{EVIL}": EVIL}
            record["preset"] = EVIL
        if kind == "outcome":
            record |= {"outcome": "failed", "reason": EVIL * 1000} if record["trial_id"][0] < "8" else {}
        file.append(kind, record)
        if kind == "trial":
            file.append("note", {"trial_id": record["trial_id"], "note": EVIL * 10, "tags": ["odd"]})
    file.close()
    return tmp_path / "evil"


@pytest.mark.parametrize(
    "words",
    [
        *(["status", "{}"], ["results", "{}"], ["results", "{}", "--epochs"], ["results", "{}", "--format", "json"]),
        *(["methods", "{}"], ["methods", "{}", "--format", "markdown"], ["ratio", "{}"], ["claims", "{}"]),
        *(["show", "{}", "{trial}"], ["compare", "{}", "{trial}", "{other}"], ["note", "{}", "{trial}", EVIL]),
        *(["results", "{}", "--columns", "trial_id,host,reason,note"], ["rerun", "{}", "--where", "tag.odd", "--list"]),
        *(["images", "{}"], pytest.param(["figures", "{}"], marks=pytest.mark.slow)),
    ],
    ids=lambda words: ascii(" ".join(words).replace("{}", "run"))[:50],
)
def test_nothing_of_a_hostile_run_is_obeyed_by_a_terminal(
    words: list[str], evil: Path, undisturbed: Path, cli: Callable[..., Result]
) -> None:
    trial, other, *_ = sorted(path.stem for path in undisturbed.glob("checkpoints/*.pt"))
    named = {"{}": str(evil), "{trial}": trial, "{other}": other}
    answer = cli(*(named.get(word, word) for word in words))
    assert answer.exit_code in (0, 2), answer.exception
    assert not OBEYED.search(answer.output)
    for path in evil.glob("figures/*.[mt][de]*"):
        assert not OBEYED.search(path.read_text())


def test_csv_keeps_what_is_there_but_no_formula() -> None:
    texts = ["=1+1", "@x", "+1+cmd", "-1+cmd", "-1", "+1e-4", "-", "a\x1b="]
    frame = pd.DataFrame({"text": texts, "=number": [-1.5] * len(texts)})
    header, *rows = csv_text(frame).splitlines()
    assert header == "text,'=number"
    assert [row.removesuffix(",-1.5") for row in rows] == [
        *("'=1+1", "'@x", "'+1+cmd", "'-1+cmd", "-1", "+1e-4", "-", "a\x1b=")
    ]


def test_a_launch_whose_config_is_hostile_leaves_nothing(cli: Callable[..., Result], tmp_path: Path) -> None:
    Path("any.yaml").write_text(bomb("[x]", "[{}]"))
    refused(cli("launch", "any.yaml", "--serial"))
    assert [*tmp_path.iterdir()] == [tmp_path / "any.yaml"]
