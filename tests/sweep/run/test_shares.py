"""Launches of shares in one directory, as real processes: beside one another, killed, relaunched, with other shares."""

from __future__ import annotations

import io
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults_harness import Command, Commands, lines, numbers
from rich.console import Console

from analysis.frames.trials import load_trials
from sweep.cli import _print_summary
from sweep.config import SweepConfig
from sweep.run.directory import RunLock
from sweep.run.journal import Journal
from sweep.share import Share
from trainers.errors import UserError
from trainers.record import read, record_files

SameNumbers = Callable[[Path, Path], None]
SweepFile = Callable[..., Path]


def started(commands: Commands, config: Path, directory: Path, *shares: str) -> list[Command]:
    """Launches of these shares, all at once."""
    words = ("launch", config, "--out", directory, "--serial", "--debug", "--shard")
    return [commands(*words, share) for share in shares]


def kill(launched: list[Command]) -> None:
    for command in launched:
        command.signal(signal.SIGKILL)
    for command in launched:
        command.code()


def assert_each_share_wrote_its_own(directory: Path) -> None:
    for path in record_files(directory):
        _, _, rest = path.stem.partition(".")
        share = Share.of(rest.replace("of", "/"))
        records = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert {record["shard"] for record in records if record["record"] == "launch"} == {str(share)}
        assert {len(record["wanted"]) for record in records if record["record"] == "launch"} == {4}
        assert all(share.has(record["trial_id"]) for record in records if record["record"] != "launch")


def test_a_share_that_ends_while_another_runs_closes_with_how_far_all_are_and_calls_nothing_unfinished(
    finished: Path,
) -> None:
    lines = (finished / "records.jsonl").read_bytes().splitlines(keepends=True)
    (finished / "records.jsonl").write_bytes(b"".join(lines[:-1]))  # the last trial's outcome
    file = io.StringIO()
    trial = str(json.loads(lines[-1])["trial_id"])
    share = Share.that_has(trial, 2)
    with RunLock(finished, share=share):
        _print_summary(finished, Console(file=file, width=300))
    counts, results = file.getvalue().splitlines()
    assert "1 running" in counts
    assert "running: 1 other share; how far they are: sweep status" in counts
    assert results.startswith("results, also while they run: sweep results")
    assert "unfinished" not in file.getvalue()
    _print_summary(finished, Console(file=file, width=300))
    assert "1 unfinished" in file.getvalue()


@pytest.mark.slow
def test_shares_at_once_killed_and_launched_again_end_with_the_frame_of_one_undisturbed_launch(
    commands: Commands, sweep_file: SweepFile, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path
) -> None:
    """They plan at the same moment, in a directory that is not there yet."""
    rng, config, run = random.Random(0), sweep_file(), tmp_path / "run"
    for epochs in (rng.randrange(1, 4), rng.randrange(5, 9)):
        launched = started(commands, config, run, "1/2", "2/2")
        launched[0].until(lambda until=epochs: lines(run, "epoch") >= until, f"{epochs} epochs")  # type: ignore[misc]
        kill(launched)
    assert [command.code() for command in started(commands, config, run, "1/2", "2/2")] == [0, 0]
    same_numbers(run, undisturbed)
    assert numbers(run) == numbers(undisturbed)
    assert [path.name for path in record_files(run)] == ["records.1of2.jsonl", "records.2of2.jsonl"]
    assert_each_share_wrote_its_own(run)
    assert not list(run.rglob(".*"))


@pytest.mark.slow
def test_a_later_launch_of_other_shares_or_of_none_runs_what_is_left(
    commands: Commands, sweep_file: SweepFile, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path
) -> None:
    config, run = sweep_file(), tmp_path / "run"
    trials = list(load_trials(undisturbed)["trial_id"])
    (first,) = started(commands, config, run, "2/3")
    first.wait_for(run, "epoch", 2)
    kill([first])
    assert started(commands, config, run, "2/2")[0].code() == 0
    half = {one for one in trials if Share(2, 2).has(one)}
    ended = load_trials(run).query("outcome == 'completed'")
    assert half <= set(ended["trial_id"])
    commands.finish("launch", config, "--out", run, "--serial", "--debug")
    same_numbers(run, undisturbed)
    assert numbers(run) == numbers(undisturbed)
    again = commands.finish("launch", config, "--out", run, "--serial", "--shard", "1/4")
    assert "nothing left to run" in again
    starts = [record["trial_id"] for record in read(run) if record["record"] == "start"]
    assert len(starts) <= len(trials) + 1  # what was killed began twice


def test_through_ray_a_share_leaves_what_the_others_leave_each_under_a_name_of_its_own(
    tiny: Callable[..., SweepConfig],
    launch: Callable[..., tuple[int, str]],
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
    local_ray: None,
) -> None:
    """Two may begin in one second, by which Ray's folders are named."""
    for share in (Share(1, 2), Share(2, 2)):
        assert launch(tiny(), tmp_path / "run", share=share)[0] == 0
    same_numbers(tmp_path / "run", undisturbed)
    names = sorted(path.name for path in (tmp_path / "run" / "logs").iterdir())
    assert names[:2] == ["driver.1of2.log", "driver.2of2.log"]
    assert sorted(name.rpartition(".")[2] for name in names[2:]) == ["1of2", "2of2"]


def test_while_shares_run_status_tells_of_each_and_who_wants_all_is_refused_in_one_line(
    commands: Commands, sweep_file: SweepFile, tmp_path: Path
) -> None:
    config, run = sweep_file(), tmp_path / "run"
    trials = started(commands, config, run, "1/3", "3/3")
    for command in trials:
        command.until(lambda: lines(run, "start") >= 1 and lines(run, "launch") == 2, "both begun")
    for command in trials:
        command.stop()
    told = commands.finish("status", run).splitlines()
    assert told[0] == "running: 2 shares"
    assert [line.split(":")[0] for line in told if line.startswith("share ")] == ["share 1/3", "share 3/3"]
    assert sum(line.startswith("4 trials: ") for line in told) == 1
    for words in (
        ["launch", config, "--out", run, "--serial"],
        ["launch", config, "--out", run, "--serial", "--shard", "1/2"],
        ["launch", config, "--out", run, "--serial", "--shard", "1/3"],
        ["launch", config, "--out", run, "--serial", "--decide", "ratio", "--budget-hours", "1"],
        ["evaluate", run, "--serial"],
    ):
        refused = commands(*words)
        assert refused.code() == 2
        (why,) = (line for line in refused.output.splitlines() if line.startswith("sweep: "))
        assert "is in use by another command (sweep launch --shard " in why
    assert commands.finish("results", run)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shard", "0/2"], "--shard: must be i/N with 1 <= i <= N"),
        (["--shard", "half"], "--shard: must be i/N with 1 <= i <= N"),
        (["--shard", "1/2", "--decide", "ratio", "--budget-hours", "1"], "leave --shard out"),
        (["--shard", "1/2", "--set", "search={name: optuna, n_trials: 2}"], "leave --shard out"),
    ],
)
def test_what_needs_one_driver_is_refused_in_one_line_with_the_way_out(
    words: list[str], says: str, commands: Commands, sweep_file: SweepFile, tmp_path: Path
) -> None:
    refused = commands("launch", sweep_file(), "--out", tmp_path / "run", "--serial", *words)
    assert refused.code() == 2
    assert says in refused.output
    assert refused.output.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_share_without_a_trial_has_nothing_to_do(commands: Commands, sweep_file: SweepFile, tmp_path: Path) -> None:
    said = commands.finish("launch", sweep_file(), "--out", tmp_path / "run", "--serial", "--shard", "1/999")
    assert "share 1/999, 0 of 4 trials" in said
    assert "nothing left to run" in said


def test_a_share_of_another_sweep_that_began_meanwhile_is_refused_before_it_writes(
    tiny: Callable[..., SweepConfig],
    launch: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, how, open_block = tmp_path / "run", {"serial": True}, Journal.open

    def late(journal: Journal, *reason: Any) -> Any:
        monkeypatch.setattr(Journal, "open", open_block)
        assert launch(tiny(name="other"), run, share=Share(2, 2), **how)[0] == 0
        return open_block(journal, *reason)

    monkeypatch.setattr(Journal, "open", late)
    with pytest.raises(UserError, match="holds the sweep 'other', not 'tiny'; give another --out"):
        launch(tiny(), run, share=Share(1, 2), **how)
    assert [path.name for path in record_files(run)] == ["records.2of2.jsonl"]
