"""`sweep rerun`: the next launch trains chosen trials anew, and comes to the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis.frames.evaluations import load_evaluations
from analysis.frames.log import Log
from analysis.frames.trials import load_epochs, load_trials
from sweep.cli import main
from sweep.plan.plan import earlier_records, plan
from sweep.progress import Progress
from sweep.run.directory import EVALUATION, RunLock
from trainers.files import checkpoint_path
from trainers.provenance import code_version
from trainers.record import RECORDS_FILE, EpochRecord, EvaluationRecord, OutcomeRecord, RecordFile, read


def sweep(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def trials_of(run: Path) -> list[str]:
    return [str(record["trial_id"]) for record in read(run) if record["record"] == "trial"]


def test_chosen_trials_are_trained_anew_from_their_first_epoch_and_come_to_the_same(
    finished: Path,
    undisturbed: Path,
    tiny: Callable[..., object],
    launch: Callable[..., tuple[int, str]],
    same_numbers: Callable[[Path, Path], None],
) -> None:
    deat = load_trials(finished).query("method == 'DEAT'").trial_id.tolist()
    said = sweep("rerun", finished, "--where", "optimizer.name == 'deat'").stdout
    assert said.splitlines()[-1] == (
        f"2 trials will be trained anew by: sweep launch {finished}/sweep.yaml --out {finished}"
    )
    for name in trials_of(finished):
        assert checkpoint_path(finished, name).exists() == (name not in deat)
    assert set(load_trials(finished).query("outcome == 'interrupted'").trial_id) == set(deat)
    planned = plan(tiny(), earlier_records(finished), code_version())  # type: ignore[arg-type]
    assert (planned.finished, planned.resumable, planned.left) == (2, 0, 2)
    assert sum(one.epochs for one in planned.to_run) == 6
    assert launch(tiny(), finished, serial=True)[0] == 0
    same_numbers(finished, undisturbed)
    epochs = Counter(one["trial_id"] for one in read(finished) if one["record"] == "epoch")
    assert {epochs[name] for name in deat} == {6}
    assert "nothing left to run" in launch(tiny(), finished, serial=True)[1]


def test_what_was_measured_before_stands_nowhere_until_it_is_measured_again(finished: Path) -> None:
    first = trials_of(finished)[0]
    sweep("rerun", finished, first)

    def shown() -> tuple[Any, ...]:
        row, epochs = load_trials(finished).set_index("trial_id").loc[first], load_epochs(finished)
        known = [Progress.of(made).trials[first].last for made in (log, Log.of(log))]
        assert known[0] == known[1]
        return row["epochs"], row["last_val_robust"], sum(epochs["trial_id"] == first), known[0].get("epoch")

    log = list(read(finished))
    count, robust, rows, last = shown()
    assert (count, rows, last) == (0, 0, None)
    assert pd.isna(robust)
    before = next(one for one in log if one["record"] == "epoch" and one["trial_id"] == first and one["epoch"] == 1)
    start = next(one for one in log if one["record"] == "start" and one["trial_id"] == first)
    file = RecordFile(finished)
    file.append("start", {**start, "time": 4e9})
    file.append("epoch", EpochRecord(first, 1, before["lr"], val_robust=0.125, seconds=1.0))
    file.close()
    log = list(read(finished))
    assert shown() == (1, 0.125, 1, 1)


def test_a_list_changes_nothing(finished: Path) -> None:
    before = (finished / RECORDS_FILE).read_bytes()
    first, second, *_ = trials_of(finished)
    lines = sweep("rerun", finished, first[:8], second, "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [first, second]
    assert lines[2:] == ["2 trials; nothing is changed"]
    assert sweep("rerun", finished, "--where", "seed == 7").stdout == "0 trials; nothing is changed\n"
    one = sweep("rerun", finished, first, second, "--where", "optimizer.name == 'deat'", "--list").stdout
    assert one.splitlines()[-1] == "1 trial; nothing is changed"
    assert (finished / RECORDS_FILE).read_bytes() == before
    assert checkpoint_path(finished, first).exists()


def test_what_cannot_be_trained_anew_is_refused_in_one_line_and_stays(finished: Path) -> None:
    first, second, *_ = trials_of(finished)
    file = RecordFile(finished)
    file.append("outcome", {**vars(OutcomeRecord(first, "pruned", "by asha", 1)), "time": 4e9})
    file.close()
    before = (finished / RECORDS_FILE).read_bytes()
    anew = "sweep launch --resume-pruned trains such trials to their end\n"
    refused = {
        (first,): f"1 of the 1 trials were pruned, such as {first}, and their rule would end them again; {anew}",
        (first, second): f"again; leave them out with --where \"outcome != 'pruned'\"; {anew}",
        (): "rerun: needs --where or a TRIAL_ID",
        ("none",): "no trial begins with 'none'",
        ("--where", "sed == 0"): "--where: must be a column of the table, got 'sed'; did you mean 'seed'?",
    }
    for words, says in refused.items():
        result = sweep("rerun", finished, *words)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert says in result.stderr
    listed = sweep("rerun", finished, "--where", "outcome == 'pruned'", "--list")
    assert (listed.exit_code, listed.stdout.splitlines()[-1]) == (0, "1 trial; nothing is changed")
    assert listed.stderr.startswith("sweep: without --list these are refused: 1 of the 1 trials were pruned, ")
    assert sweep("rerun", finished, second, "--where", "outcome != 'pruned'", "--list").stderr == ""
    for holder in ("sweep launch, process", EVALUATION):
        with RunLock(finished, holder):
            result = sweep("rerun", finished, second)
            assert (result.exit_code, "rerun trials once it has ended" in result.stderr) == (2, True)
    assert (finished / RECORDS_FILE).read_bytes() == before
    assert checkpoint_path(finished, second).exists()


def test_what_was_evaluated_of_the_networks_before_is_told_of_and_counts_no_longer(finished: Path) -> None:
    first, second, *_ = trials_of(finished)

    def evaluated(*names: str) -> None:
        file = RecordFile(finished)
        where = {"host": "h", "device": "cpu", "code_version": "abc", "versions": {}}
        for name in names:
            values = EvaluationRecord(name, "last", False, "clean", {}, "test", 9, 0, 9, 8, 8, 1.0, **where)  # type: ignore[arg-type]
            file.append("evaluation", values)
        file.close()

    evaluated(first, second)
    assert set(load_evaluations(finished)["trial_id"]) == {first, second}
    assert "1 of them were evaluated, which no longer counts" in sweep("rerun", finished, first).stderr
    assert set(load_evaluations(finished)["trial_id"]) == {second}
    assert "no longer counts" not in sweep("rerun", finished, first).stderr
    evaluated(first)
    assert set(load_evaluations(finished)["trial_id"]) == {first, second}


@pytest.mark.parametrize("outcome", ["failed", "diverged", "out_of_memory", "cancelled"])
def test_whatever_its_outcome_was_the_next_launch_runs_it(
    outcome: str, finished: Path, tiny: Callable[..., object]
) -> None:
    first = trials_of(finished)[0]
    file = RecordFile(finished)
    file.append("outcome", {**vars(OutcomeRecord(first, outcome, "why", 3, alone=True)), "time": 4e9})  # type: ignore[arg-type]
    file.close()
    sweep("rerun", finished, "--where", f"outcome == '{outcome}'")
    planned = plan(tiny(), earlier_records(finished), code_version(), capacity=0.0)  # type: ignore[arg-type]
    assert (planned.finished, planned.left, planned.resumable) == (3, 1, 0)
