"""The command line without training: help, schema, plan, and what it says to a mistake."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import sweep
from sweep.cli import _print_summary, main
from trainers.record import EpochRecord, OutcomeRecord, RecordFile, has_records

PROGRAM = [sys.executable, "-c", "from sweep.cli import main; main()"]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def config(sweep_file: Callable[..., Path]) -> Path:
    return sweep_file()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two trials: one completed, one begun."""
    directory = tmp_path / "run"
    directory.mkdir()
    file = RecordFile(directory)
    file.append("launch", {"time": 0.0, "size": 2, "wanted": ["aaaa", "abbb"]})
    for name in ("aaaa", "abbb"):
        point = {"optimizer.lr": 0.1}
        values = {
            "model": {"name": "small_cnn"},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "batch_size": 32,
            "epochs": 1,
        }
        file.append("trial", {"trial_id": name, "number": 0, "config": values, "point": point, "seed": 0})
        file.append("start", {"trial_id": name, "time": 1.0, "host": "h", "device": "cpu", "code_version": "abc"})
    file.append("epoch", EpochRecord("aaaa", 1, 0.1, val_robust=0.5, seconds=2.0))
    file.append("outcome", OutcomeRecord("aaaa", "completed", "", 1))
    file.close()
    return directory


def said(result: Result) -> str:
    """The one line on stderr of a command that was given wrong input."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("sweep: ")
    return result.stderr.removeprefix("sweep: ").rstrip("\n")


def test_help_answers_in_under_half_a_second() -> None:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        answer = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - started)
        assert "launch" in answer.stdout
    assert statistics.median(seconds) < 0.5


#: What takes some tenths of a second to import, or more.
HEAVY = ("torch", "torchvision", "ray", "optuna", "sklearn", "scipy", "statsmodels", "pandas", "matplotlib", "numpy")


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--help"], set()),
        (["schema"], set()),
        (["status", "run"], set()),
        (["results", "run", "--epochs", "--format", "csv"], {"numpy", "pandas"}),
        (["plan", "tiny.yaml", "--rate", "1"], {"numpy", "torch"}),
    ],
)
def test_a_command_imports_only_what_it_needs(words: list[str], needed: set[str], run: Path, config: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(sweep.__file__).parents[1]), "PYTHONPROFILEIMPORTTIME": "1"}
    answer = subprocess.run(
        [*PROGRAM, *words], cwd=config.parent, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert answer.stdout
    assert {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()} & set(HEAVY) == needed


def test_looking_for_what_may_be_thrown_away_goes_on_after_a_command(cli: Callable[..., Result]) -> None:
    cli("schema")
    assert gc.isenabled()


COMMANDS = [
    "plan",
    "launch",
    "evaluate",
    "status",
    "results",
    "images",
    "methods",
    "ratio",
    "claims",
    "figures",
    "show",
    "report",
    "dashboard",
    "schema",
    "init",
    "set",
    "pause",
    "resume",
    "cancel",
]


@pytest.mark.parametrize("group", [(), ("data",)])
def test_a_group_without_a_command_prints_its_help_as_it_is(group: tuple[str, ...], cli: Callable[..., Result]) -> None:
    result = cli(*group)
    assert (result.exit_code, result.stdout) == (0, cli(*group, "--help").stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command: str, cli: Callable[..., Result]) -> None:
    assert f" {command}" in cli("--help").stdout
    answer = cli(command, "-h")
    assert answer.exit_code == 0
    assert answer.stdout.startswith(f"Usage: main {command} ")


def test_the_version_is_that_of_the_distribution(cli: Callable[..., Result]) -> None:
    assert cli("--version").stdout.split()[-1].count(".") == 2


@pytest.mark.parametrize("words", [["lauch"], ["plan"], ["plan", "--st", "a"], ["results", "d", "--format", "xml"]])
def test_a_mistyped_command_exits_with_2(words: list[str], cli: Callable[..., Result]) -> None:
    answer = cli(*words)
    assert answer.exit_code == 2
    assert answer.stderr.startswith("sweep: ")
    assert answer.stderr.count("\n") == 1


def test_the_schema_is_a_json_schema_of_the_file(cli: Callable[..., Result]) -> None:
    schema = json.loads(cli("schema").stdout)
    assert set(schema["required"]) == {"name", "space"}
    assert schema["additionalProperties"] is False
    assert {"trial", "seeds", "search", "metric"} < set(schema["properties"])


def test_a_plan_prints_and_writes_nothing(cli: Callable[..., Result], config: Path, tmp_path: Path) -> None:
    answer = cli("plan", config)
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert [lines[0], lines[2]] == [
        "tiny: 4 trials (grid over optimizer.lr: 2 values, optimizer.name: 2 values; 1 seed)",
        "  finished 0, to resume 0, new 4",
    ]
    assert lines[1] == "  digits: 80 training, 20 validation and 50 test images"
    assert [line.partition(":")[0] for line in lines[3:8]] == [
        "  cost",
        "  wall-clock",
        "  memory",
        "  disk",
        "  warnings",
    ]
    assert lines[-1] == "  run directory: runs/tiny"
    assert list(tmp_path.iterdir()) == [config]


def test_set_and_out_are_taken_by_plan(cli: Callable[..., Result], config: Path) -> None:
    answer = cli("plan", config, "--set", "seeds=[1,2,3]", "--set", "trial.optimizer.lr=1e-2", "--out", "there")
    assert answer.stdout.startswith("tiny: 6 trials (grid over optimizer.name: 2 values; 3 seeds)\n")
    assert answer.stdout.endswith("run directory: there\n")


@pytest.mark.parametrize("command", [["plan"], ["launch", "--serial"]])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml"], "none.yaml: no such file; the repository has some in configs/, and sweep init methods writes "
         "one"),
        (["{config}", "--set", "trial.lr=1"], "--set trial.lr: unknown key; did you mean "
         "'trial.optimizer.lr'?"),
        (["{config}", "--set", "trial.optimizer.lr=-1"], "--set trial.optimizer.lr: must be > 0.0, got -1"),
        (["{config}", "--set", "metric=test_robust"], "--set metric: must be one of val_robust, val_clean, "
         "val_robust_loss, val_clean_loss; got 'test_robust'; the test set only reports, and chooses nothing; did you "
         "mean 'val_robust'?"),
        (["{config}", "--set", "trial.epochs"], "--set trial.epochs: must be KEY=VALUE, such as trial.epochs=3"),
        (["{config}", "--set", "trial.data={{name: image_folder, root: {config}}}"], None),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_exit_2_and_leaves_nothing(
    command: list[str], words: list[str], message: str | None, cli: Callable[..., Result], config: Path, tmp_path: Path
) -> None:
    answer = said(cli(*command, *(word.format(config=config) for word in words)))
    if message is None:
        assert answer.startswith("trial.data.root: ")
    else:
        assert answer == message.format(config=config)
    assert list(tmp_path.iterdir()) == [config]


def test_each_of_many_mistakes_is_a_line_up_to_twenty(cli: Callable[..., Result], config: Path) -> None:
    result = cli("plan", config, *(word for n in range(25) for word in ("--set", f"key{n}=1")))
    *told, last = result.stderr.splitlines()
    assert result.exit_code == 2
    assert [line.partition(": unknown key")[0] for line in told] == [f"sweep: --set key{n}" for n in range(20)]
    assert last == "sweep: and 5 more, once these are mended"


@pytest.mark.parametrize("name", ["image_folder", "cifar10"])
def test_a_launch_refuses_data_that_are_not_there(name: str, cli: Callable[..., Result], config: Path) -> None:
    answer = said(cli("launch", config, "--serial", "--set", f"trial.data={{name: {name}, root: none}}"))
    assert answer.startswith("trial.data.root: ")


def test_values_that_do_not_go_together_are_refused_before_anything_runs(
    cli: Callable[..., Result], config: Path
) -> None:
    answer = said(cli("plan", config, "--set", "space.optimizer.momentum=[0, 0.9]"))
    assert answer.startswith("the point {")
    assert ": optimizer.momentum: DEAT has none; give it to sgd alone" in answer


def test_an_unwritable_output_is_refused(cli: Callable[..., Result], config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert said(cli("launch", config, "--serial", "--out", "file/run")) == (
        "--out file/run: cannot be written: Not a directory; give a folder that can"
    )


@pytest.mark.parametrize("name", ["trainers/__init__.py", "analysis.py"])
def test_a_module_of_the_users_that_pythonpath_puts_before_ours_is_named(name: str, tmp_path: Path) -> None:
    """An empty part of PYTHONPATH is the working folder: `export PYTHONPATH=$PYTHONPATH:/opt` makes one."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise RuntimeError")
    path = f"{os.pathsep}{Path(sweep.__file__).parents[1]}"
    answer = subprocess.run(
        [sys.executable, "-P", *PROGRAM[1:], "plan", "x.yaml"],  # as the command's own script: no working folder
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    place = tmp_path / (name if name == "analysis.py" else "trainers")
    assert answer.stderr == (
        f"sweep: {place}: hides the package {place.stem} of robustsweep; rename it, or take its folder out of "
        "PYTHONPATH, where an empty part means the working folder\n"
    )


def test_a_file_named_as_a_library_is_named_where_the_working_folder_is_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("raise RuntimeError")
    path = f"{os.pathsep}{Path(sweep.__file__).parents[1]}"
    answer = subprocess.run(
        [sys.executable, "-P", *PROGRAM[1:], "plan", "x.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        f"sweep: {tmp_path}/pandas.py: hides the library pandas; rename it, or take the working folder out of "
        "PYTHONPATH\n"
    )


def test_debug_is_of_a_serial_launch(cli: Callable[..., Result], config: Path) -> None:
    assert said(cli("launch", config, "--debug")) == (
        "--debug: is of --serial, whose trials then run in this very process; give both, or neither"
    )


def test_serial_and_an_address_contradict_each_other(cli: Callable[..., Result], config: Path) -> None:
    assert said(cli("launch", config, "--serial", "--address", "auto")) == (
        "--serial: runs without Ray, so that --address says nothing; leave one of the two out"
    )


def test_the_directory_of_another_sweep_is_refused(cli: Callable[..., Result], config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "sweep.yaml").write_text("name: other\n")
    for command in (["plan"], ["launch", "--serial"]):
        assert said(cli(*command, config, "--out", "run")) == (
            "--out run: holds the sweep 'other', not 'tiny'; give another --out"
        )


@pytest.mark.parametrize("command", [["status"], ["results"], ["figures"], ["show", "{run}", "abc"]])
@pytest.mark.parametrize("name", ["none", "."])
def test_a_directory_that_is_no_run_is_refused(command: list[str], name: str, cli: Callable[..., Result]) -> None:
    words = command if len(command) > 1 else [*command, "{run}"]
    assert said(cli(*(word.format(run=name) for word in words))) == (
        f"{name}: not a run directory: it has no records.jsonl; give the --out of a launch"
    )


@pytest.mark.parametrize("command", [["status", "run"], ["results", "run"], ["figures", "run"], ["show", "run", "a"],
                                     ["plan", "tiny.yaml", "--out", "run"],
                                     ["launch", "tiny.yaml", "--serial", "--out", "run"]])  # fmt: skip
def test_a_damaged_line_is_named(command: list[str], cli: Callable[..., Result], run: Path, config: Path) -> None:
    path = run / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"record":"start"', b'"record', 1))
    message = "run/records.jsonl:3: damaged line: must be one whole JSON record, got '{\"record"
    assert said(cli(*command)).startswith(message)


def test_status_tells_what_the_records_tell(cli: Callable[..., Result], run: Path) -> None:
    answer = cli("status", run)
    assert answer.exit_code == 0
    assert answer.stdout.splitlines() == ["no launch is running", "2 trials: 1 completed, 1 interrupted"]


WHY = "2 trials failed: OSError: no disk; sweep show {run} aaaa says more, and where its log is"


@pytest.fixture
def failed(run: Path) -> Path:
    """The run, both of whose trials have failed."""
    file = RecordFile(run)
    for name in ("aaaa", "abbb"):
        file.append("outcome", OutcomeRecord(name, "failed", f"OSError: no disk (logs/{name}.log)", 0))
    file.close()
    return run


@pytest.mark.parametrize("command", ["status", "results"])
def test_why_trials_failed_is_said_in_a_line(command: str, cli: Callable[..., Result], failed: Path) -> None:
    assert WHY.format(run=failed) in cli(command, failed).stdout.splitlines()


def test_a_launch_ends_with_why_its_trials_failed_and_offers_no_figures_of_none(failed: Path) -> None:
    text = io.StringIO()
    _print_summary(failed, Console(file=text, width=300))
    assert text.getvalue().splitlines()[-2:] == [WHY.format(run=failed), f"results: sweep results {failed}"]


def test_a_launch_ends_with_the_commands_that_show_its_completed_trials(run: Path) -> None:
    text = io.StringIO()
    _print_summary(run, Console(file=text, width=300))
    ends = [f"results: sweep results {run}", f"figures: sweep figures {run}", f"page: sweep report {run}"]
    assert text.getvalue().splitlines()[-3:] == ends


def test_each_command_that_is_named_can_be_typed_whatever_the_run_is_called(
    cli: Callable[..., Result], failed: Path
) -> None:
    place = failed.rename(failed.parent / "it's a run")
    (place / "sweep.yaml").write_text("name: tiny\n")
    text, word = io.StringIO(), shlex.quote(str(place))
    _print_summary(place, Console(file=text, width=300))
    assert f"sweep show {word} aaaa says more" in text.getvalue()
    assert text.getvalue().endswith(f"results: sweep results {word}\n")
    for words, named in {
        ("status",): f"sweep show {word} aaaa",
        ("pause",): f"sweep resume {word} goes on",
        ("results", "--evaluations"): f"sweep evaluate {word} makes them",
        ("results", "--checks"): f"sweep evaluate {word} --checks",
        ("images",): f"sweep evaluate {word} records them",
        ("cancel", "c"): f"`sweep results {word}` lists",
        ("audit",): f"`sweep register CONFIG --out {word}` makes one",
        ("rerun", "a", "--where", "seed == 0"): "2 trials begin",
        ("rerun", "aaaa"): f"sweep launch {word}/sweep.yaml --out {word}",
    }.items():
        answer = cli(words[0], place, *words[1:])
        assert named in answer.output, answer.output


@pytest.mark.parametrize("command", ["figures", "importance"])
def test_what_needs_a_completed_trial_says_why_there_is_none(
    command: str, cli: Callable[..., Result], failed: Path
) -> None:
    message = said(cli(command, failed))
    assert "got 0 of 2: " + WHY.format(run="DIR") in message
    assert message.endswith("; launch the sweep again once that is mended")


def test_status_of_a_live_run_shows_the_running_trials(cli: Callable[..., Result], run: Path) -> None:
    from sweep.run.directory import RunLock

    with RunLock(run):
        lines = cli("status", run).stdout.splitlines()
    assert lines[:2] == ["running", "2 trials: 1 completed, 1 running"]
    assert lines[3].split() == ["abbb", "0/1", "-", "-", "optimizer.lr=0.1", "seed=0"]


STARTING = "a launch is starting: its trials are being planned, or Ray starts; none has begun yet\n"


@pytest.mark.parametrize("opened", [False, True])
def test_a_launch_that_has_no_records_yet_is_starting(opened: bool, cli: Callable[..., Result], tmp_path: Path) -> None:
    from sweep.run.directory import RunLock

    with RunLock(tmp_path / "new"):
        if opened:
            (tmp_path / "new" / "records.jsonl").touch()
        answer = cli("status", "new")
        assert (answer.exit_code, answer.stdout) == (0, STARTING)
        for words in (["results"], ["methods"], ["claims"], ["ratio"], ["figures"], ["show", "{}", "a"], ["evaluate"]):
            words = [words[0], *(words[1:] or ["{}"])]
            message = "new: a launch is starting there and has no records yet; wait for its first trial"
            assert said(cli(*(word.format("new") for word in words))) == message
    (tmp_path / "new" / "records.jsonl").unlink(missing_ok=True)
    assert said(cli("status", "new")).startswith("new: not a run directory: ")  # a refused launch left its lock


def test_a_run_without_evaluations_says_what_makes_them(cli: Callable[..., Result], run: Path) -> None:
    answer = cli("results", run, "--evaluations").stdout
    assert answer == f"no evaluations yet; sweep evaluate {run} makes them\n"
    assert cli("results", run, "--evaluations", "--format", "csv").stdout.startswith("trial_id,")


def test_results_are_written_as_files(cli: Callable[..., Result], run: Path, tmp_path: Path) -> None:
    rows = cli("results", run, "--format", "csv").stdout.splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("trial_id,outcome,")
    assert cli("results", run, "--format", "csv", "--output", "new/table.csv").stdout == ""
    assert (tmp_path / "new" / "table.csv").read_text().splitlines() == rows
    assert len(json.loads(cli("results", run, "--epochs", "--format", "json").stdout)) == 1
    assert cli("results", run, "--format", "parquet", "--output", "t.parquet").exit_code == 0
    assert (tmp_path / "t.parquet").read_bytes()[:4] == b"PAR1"


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("results", "{run}"), "new/t.csv"),
        (("results", "{run}"), "t.txt"),
        (("results", "{run}"), "t.parquet"),
        (("images", "{run}"), "i.txt"),
        (("proxy", "{run}"), "p.csv"),
        (("ratio", "--published"), "r.md"),
    ],
)
def test_of_a_written_file_stderr_has_the_path(
    words: Sequence[str], path: str, cli: Callable[..., Result], run: Path
) -> None:
    done = cli(*(word.format(run=run) for word in words), "--output", path)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{path}\n")


def test_no_folder_is_made_above_a_file_s_own(cli: Callable[..., Result], run: Path) -> None:
    assert said(cli("results", run, "--output", "mistyped/new/t.csv")) == (
        "--output mistyped/new/t.csv: cannot be written: No such file or directory; give a path that can"
    )
    assert not Path("mistyped").exists()


LR, SEED = 3.975001798549015e-09, 2**63 - 1


@pytest.fixture
def exact(tmp_path: Path) -> Path:
    """A run of one trial whose numbers need every digit."""
    directory = tmp_path / "exact"
    directory.mkdir()
    file = RecordFile(directory)
    config = {"model": {"name": "small_cnn"}, "optimizer": {"name": "sgd", "lr": LR}, "batch_size": 32, "epochs": 1}
    trial = {"trial_id": "aaaa", "number": 0, "config": config, "point": {"optimizer.lr": LR}, "seed": SEED}
    file.append("trial", trial)
    file.append("start", {"trial_id": "aaaa", "time": 1.0, "host": "h", "device": "cpu", "code_version": "abc"})
    file.append("epoch", EpochRecord("aaaa", 1, LR, val_robust=1 / 3, test_robust=0.1 + 0.2, test_clean_loss=1e-320))
    file.append("outcome", OutcomeRecord("aaaa", "completed", "", 1))
    file.close()
    return directory


def read_back(path: Path) -> dict[str, Any]:
    """The one row of a file of numbers."""
    if path.suffix == ".json":
        return dict(json.loads(path.read_text(), parse_constant=pytest.fail)[0])
    frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    return dict(frame.iloc[0])


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_results_in_every_format_give_every_number_back(ending: str, cli: Callable[..., Result], exact: Path) -> None:
    path = exact / f"t.{ending}"
    assert cli("results", exact, "--output", path).exit_code == 0
    row = read_back(path)
    assert (row["optimizer.lr"], row["lr_batch_ratio"], row["seed"]) == (LR, LR / 32, SEED)
    assert (row["last_val_robust"], row["last_test_robust"], row["last_test_clean_loss"]) == (1 / 3, 0.1 + 0.2, 1e-320)
    assert cli("results", exact, "--epochs", "--output", path).exit_code == 0
    row = read_back(path)
    assert (row["lr"], row["test_robust"], row["seed"]) == (LR, 0.1 + 0.2, SEED)


def test_methods_and_ratio_give_every_number_back(cli: Callable[..., Result], exact: Path) -> None:
    rows = json.loads(cli("methods", exact, "--format", "json").stdout, parse_constant=pytest.fail)
    assert (rows["methods"][0]["validation"], rows["methods"][0]["robust"]) == (1 / 3, 0.1 + 0.2)
    assert cli("methods", exact, "--output", exact / "m.csv").exit_code == 0
    assert read_back(exact / "m.csv")["robust"] == 0.1 + 0.2
    for words in (["ratio", exact, "--format", "json"], ["claims", exact, "--json"]):
        json.loads(cli(*words).stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["results", "{run}", "--output", "r.xlsx"],
         "--output r.xlsx: must end in one of .txt, .csv, .json, .parquet, got .xlsx; or name the --format"),
        (["methods", "{run}", "--output", "r.parquet"],
         "--output r.parquet: must end in one of .txt, .csv, .json, .md, got .parquet; or name the --format"),
        (["ratio", "{run}", "--output", "r.csv"],
         "--output r.csv: must end in one of .txt, .json, .md, got .csv; or name the --format"),
        (["results", "{run}", "--format", "csv", "--output", "r.json"],
         "--output r.json: ends in .json and --format is csv; leave one of the two out"),
        (["methods", "{run}", "--format", "table", "--output", "r.md"],
         "--output r.md: ends in .md and --format is table; leave one of the two out"),
    ],
)  # fmt: skip
def test_an_ending_that_is_no_format_or_another_one_is_refused(
    words: list[str], message: str, cli: Callable[..., Result], run: Path
) -> None:
    assert said(cli(*(word.format(run=run) for word in words))) == message
    assert not [path for path in Path().iterdir() if path.name.startswith("r.")]


def test_a_format_by_name_needs_no_ending_of_its_own(cli: Callable[..., Result], run: Path) -> None:
    for name in ("numbers", "numbers.dat", "numbers.CSV"):
        assert cli("results", run, "--format", "csv", "--output", name).exit_code == 0
        assert Path(name).read_text().startswith("trial_id,")
    assert cli("results", run, "--output", "table.txt").exit_code == 0
    assert "trial_id" in Path("table.txt").read_text()


def test_parquet_is_not_written_to_a_terminal(cli: Callable[..., Result], run: Path) -> None:
    assert said(cli("results", run, "--format", "parquet")) == (
        "--output: parquet is binary and is not written to a terminal; give a file"
    )


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "table"])
def test_results_that_cannot_be_written_are_refused(
    form: str, cli: Callable[..., Result], run: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in (("file/new/table", "Not a directory"), (".", "Is a directory")):
        assert said(cli("results", run, "--format", form, "--output", path)) == (
            f"--output {path}: cannot be written: {reason}; give a path that can"
        )


def test_a_reader_that_goes_away_is_no_error(run: Path) -> None:
    command = [*PROGRAM, "results", str(run), "--format", "json"]
    read, write = os.pipe()
    os.close(read)
    answer = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_hours_in_which_nothing_fits_start_nothing_and_end_with_1(sweep_file: Callable[..., Path], tmp_path: Path):
    words = ["launch", str(sweep_file()), "--out", str(tmp_path / "run"), "--serial", "--budget-hours", "1e-9"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1, result.output
    *plan, budget, last = result.stdout.splitlines()
    assert "  cost: each trial takes 1 CPU; how long is estimated with the budget" in plan
    assert budget.startswith("budget: 1e-09 of 1e-09 trial hours are left; a seed of all points takes about ")
    assert re.fullmatch(r"nothing fits in what is left; the next trial needs --budget-hours \S+ at least", last)
    assert not has_records(tmp_path / "run")
