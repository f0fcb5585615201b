"""Launches that meet others, readers, and a directory or config that changed: refused, or gone on with; never mixed."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults_harness import Commands, numbers

from analysis.frames.trials import load_trials
from sweep.run.directory import holders
from trainers.record import line, read

SameNumbers = Callable[[Path, Path], None]
SweepFile = Callable[..., Path]

#: Trials in the launch's own process: a second one takes seconds to begin, and none of these tests breaks it.
SERIAL = ("--serial", "--debug")


def stopped(commands: Commands, *words: str | Path) -> Path:
    """The directory of a launch that was killed in the midst of its second trial."""
    directory = Path(words[words.index("--out") + 1])
    launched = commands(*words)
    launched.wait_for(directory, "start", 2)
    launched.signal(signal.SIGKILL)
    launched.code()
    return directory


def rewritten(path: Path, change: Callable[[list[bytes]], Sequence[bytes]]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().splitlines())))


def shuffled(lines: list[bytes]) -> list[bytes]:
    return random.Random(0).sample(lines, len(lines))


def doubled(lines: list[bytes]) -> list[bytes]:
    return lines + lines


def each_doubled(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines for _ in range(2)]


@pytest.mark.parametrize(
    "change",
    [shuffled, pytest.param(doubled, marks=pytest.mark.slow), pytest.param(each_doubled, marks=pytest.mark.slow)],
)
def test_records_that_were_shuffled_or_doubled_between_launches_cost_nothing(
    change: Callable[[list[bytes]], list[bytes]],
    commands: Commands,
    sweep_file: SweepFile,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    words = ("launch", sweep_file(), "--out", tmp_path / "run", *SERIAL)
    run = stopped(commands, *words)
    rewritten(run / "records.jsonl", change)
    commands.finish(*words)
    same_numbers(run, undisturbed)
    assert numbers(run) == numbers(undisturbed)


def test_records_that_are_torn_at_any_byte_cost_at_most_what_was_torn_off(
    commands: Commands, sweep_file: SweepFile, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path
) -> None:
    draw = random.Random(0)
    whole = (undisturbed / "records.jsonl").read_bytes()
    for place in (draw.randrange(len(whole)) for _ in range(5)):
        run = Path(shutil.copytree(undisturbed, tmp_path / f"run-{place}"))
        (run / "records.jsonl").write_bytes(whole[:place])
        commands.finish("launch", sweep_file(), "--out", run, *SERIAL)
        same_numbers(run, undisturbed)
        assert numbers(run) == numbers(undisturbed)


def test_a_run_directory_that_was_moved_goes_on_where_it_is(
    commands: Commands, sweep_file: SweepFile, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path
) -> None:
    run = stopped(commands, "launch", sweep_file(), "--out", tmp_path / "run", *SERIAL)
    run.rename(tmp_path / "moved")
    text = commands.finish("launch", sweep_file(), "--out", tmp_path / "moved", *SERIAL)
    assert "finished 0" not in text
    same_numbers(tmp_path / "moved", undisturbed)
    assert not run.exists()


def test_a_clock_that_is_set_back_between_launches_changes_no_number(
    commands: Commands, sweep_file: SweepFile, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path
) -> None:
    words = ("launch", sweep_file(), "--out", tmp_path / "run", *SERIAL)
    run = stopped(commands, *words)

    def later(lines: list[bytes]) -> list[bytes]:
        """As if the first launch had been a year ahead."""
        records = [json.loads(text) for text in lines]
        return [
            line(record["record"], {key: value for key, value in record.items() if key != "record"} | ahead(record))
            .rstrip("\n")
            .encode()
            for record in records
        ]

    def ahead(record: dict[str, Any]) -> dict[str, float]:
        return {"time": record["time"] + 3.2e7}

    rewritten(run / "records.jsonl", later)
    text = commands.finish(*words)
    assert "4 completed" in text
    same_numbers(run, undisturbed)
    assert (load_trials(run).attempts <= 2).all()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["wider", "other base", "other name"])
def test_a_config_that_changes_while_it_runs_changes_nothing_of_what_runs(
    change: str,
    commands: Commands,
    sweep_file: SweepFile,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    run, path = tmp_path / "run", sweep_file()
    first = path.read_text()
    launched = commands("launch", path, "--out", run, *SERIAL)
    launched.wait_for(run, "start", 2)
    launched.stop()
    values: dict[str, Any] = {
        "wider": {"space": {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.3, 0.5]}},
        "other base": {"trial": {**yaml.safe_load(first)["trial"], "batch_size": 16}},
        "other name": {"name": "other"},
    }
    sweep_file(**values[change])
    meanwhile = commands("launch", path, "--out", run, *SERIAL)
    assert meanwhile.code() == 2
    refused = "holds the sweep 'tiny', not 'other'" if change == "other name" else "is in use by another command"
    assert refused in meanwhile.output
    launched.signal(signal.SIGCONT)
    assert launched.code() == 0
    same_numbers(run, undisturbed)
    if change == "other name":
        return
    text = commands.finish("launch", path, "--out", run, *SERIAL)
    assert f"finished {4 if change == 'wider' else 0}, to resume 0, new {2 if change == 'wider' else 4}" in text
    path.write_text(first)
    assert "nothing left to run" in commands.finish("launch", path, "--out", run, *SERIAL)


@pytest.mark.slow
def test_two_hundred_readers_see_whole_records_and_disturb_no_launch(
    commands: Commands, sweep_file: SweepFile, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launched = commands("launch", sweep_file(), *SERIAL, "--set", "trial.epochs=20000", "--out", run)
    launched.wait_for(run, "epoch", 1)
    status, results = ("status", run), ("results", run, "--epochs", "--format", "csv")
    for reader in [commands(*(status if number % 10 else results)) for number in range(200)]:
        assert reader.code() == 0, reader.output
    assert launched.is_running()
    launched.signal(signal.SIGTERM)
    assert launched.code() == 130
    epochs = [record["epoch"] for record in read(run) if record["record"] == "epoch"]
    assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.slow
def test_an_evaluation_and_a_launch_at_once_one_is_refused_and_both_end(
    commands: Commands, sweep_file: SweepFile, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    wider = {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.3, 0.5]}
    launch = ("launch", sweep_file(space=wider), "--out", run, *SERIAL)
    evaluate = ("evaluate", run, "--serial")
    for one, other in ((launch, evaluate), (evaluate, launch)):
        first = commands(*one)
        first.until(lambda: holders(run), "the lock")  # its file is there a moment before it is held
        first.stop()
        second = commands(*other)
        assert second.code() == 2
        assert "is in use by another command (sweep " in second.output
        first.signal(signal.SIGCONT)
        assert first.code() == 0
    commands.finish(*launch)
    commands.finish(*evaluate)
    kinds = [record["record"] for record in read(run)]
    assert kinds.count("outcome") == 6
    assert kinds.count("evaluation") == 3 * 6
