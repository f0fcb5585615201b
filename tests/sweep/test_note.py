"""`sweep note`: what a user writes of a trial is in the records, and in every table that lists trials."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis.frames.notes import Written, notes_of
from analysis.frames.trials import load_trials
from sweep.cli import main
from sweep.merge.run import merge_runs
from sweep.run import requests
from sweep.run.directory import EVALUATION, RunLock
from trainers.record import RECORDS_FILE, read


def sweep(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def trials_of(run: Path) -> list[str]:
    return [str(record["trial_id"]) for record in read(run) if record["record"] == "trial"]


def test_the_newest_note_counts_and_tags_add_up(finished: Path) -> None:
    name = trials_of(finished)[1]
    before = load_trials(finished)
    assert not {"note", "tags"} & set(before)
    said = sweep("note", finished, name[:8], "spikes", "--tag", "odd", "--tag", "keep").stdout
    assert said.startswith(f"{name} optimizer.lr=0.1 optimizer.name=deat seed=0: note 'spikes'; tag odd, keep; written")
    assert sweep("note", finished, name, " of the data \n", "--untag", "odd", "--tag", "keep").exit_code == 0
    frame = load_trials(finished)
    assert frame.set_index("trial_id").loc[name, ["note", "tags"]].tolist() == ["of the data", "keep"]
    assert list(frame.columns) == [*before.columns, "note", "tags"]
    pd.testing.assert_frame_equal(frame.drop(columns=["note", "tags"]), before)
    assert "of the data" in sweep("results", finished).stdout
    assert "of the data" in sweep("results", finished, "--format", "csv").stdout
    sweep("note", finished, name, "", "--untag", "keep")
    pd.testing.assert_frame_equal(load_trials(finished), before)


def test_a_note_changes_no_line_and_no_figure(finished: Path) -> None:
    before = (finished / RECORDS_FILE).read_bytes()
    sweep("note", finished, trials_of(finished)[0], "x\x1b[31m")
    after = (finished / RECORDS_FILE).read_bytes()
    assert after.startswith(before)
    (line,) = after.removeprefix(before).splitlines()
    record = json.loads(line)
    assert (record["record"], record["note"], record["tags"]) == ("note", "x\x1b[31m", [])
    assert record["time"] > max(one.get("time", 0) for one in map(json.loads, before.splitlines()))
    assert "\x1b" not in sweep("results", finished).stdout


def test_while_somebody_holds_the_run_a_note_waits_and_comes_with_the_next(finished: Path) -> None:
    first, second, *_ = trials_of(finished)
    with RunLock(finished):
        assert "the launch that runs writes it down" in sweep("note", finished, first, "--tag", "one").stdout
    with RunLock(finished, EVALUATION):
        assert "it holds for the next one" in sweep("note", finished, first, "--untag", "one", "--tag", "two").stdout
    assert "2 notes to be written down" in sweep("status", finished).stdout
    assert not notes_of(read(finished))
    assert sweep("note", finished, second, "three").stdout.endswith("written down\n")
    assert notes_of(read(finished)) == {first: Written("", ["two"]), second: Written("three")}
    assert requests.asked(finished) == requests.Asked()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "note: needs a TEXT, a --tag or an --untag; give one of them"),
        (["--tag", "two words"], "--tag: must be a name, of letters, digits and _, got 'two words'; give such a word"),
        (["--untag", ""], "--untag: must be a name, of letters, digits and _, got ''; give such a word"),
        (21 * ["--tag", "a"], "--tag: at most 20 at once, got 21; give some of them by a second command"),
        (["x" * 1001], "note: must have at most 1,000 characters, got 1,001; make it shorter"),
        (["a\ud800"], "note: must be of whole characters, got 'a\\ud800'; write it anew"),
    ],
)
def test_what_is_no_note_is_refused_in_one_line_and_nothing_written(
    words: list[str], says: str, finished: Path
) -> None:
    before = (finished / RECORDS_FILE).read_bytes()
    result = sweep("note", finished, trials_of(finished)[0], *words)
    assert (result.exit_code, result.stderr) == (2, f"sweep: {says}\n")
    assert (finished / RECORDS_FILE).read_bytes() == before
    result = sweep("note", finished, "none", "x")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no trial begins with 'none'" in result.stderr


def test_a_merge_takes_the_notes_of_trials_along_once(finished: Path, undisturbed: Path, tmp_path: Path) -> None:
    first = trials_of(finished)[0]
    sweep("note", finished, first, "odd", "--tag", "odd")
    for _ in range(2):  # into a run of the same trials, which has no notes
        merge_runs(tmp_path / "here", [undisturbed], checkpoints=False, command="merge")
        merge_runs(tmp_path / "here", [finished], checkpoints=False, command="merge")
    assert notes_of(read(tmp_path / "here")) == {first: Written("odd", ["odd"])}
    assert [one["record"] for one in read(tmp_path / "here")].count("note") == 1
