"""What is asked of a run by command: taken where it means something, else refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis.frames.log import read_records
from analysis.frames.notes import Written, notes_of
from analysis.frames.trials import load_trials
from sweep.cli import main
from sweep.run import outside, requests
from sweep.run.directory import EVALUATION, RunLock
from sweep.share import Share
from trainers.record import NoteRecord, PrunedRecord, RecordFile, read

Launch = Callable[..., tuple[int, str]]


def sweep(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def trial_of(run: Path) -> str:
    return next(str(record["trial_id"]) for record in read(run) if record["record"] == "trial")


@pytest.fixture
def begun(finished: Path) -> Path:
    """A run whose last trial lacks its end: the launch was killed."""
    lines = (finished / "records.jsonl").read_bytes().splitlines(keepends=True)
    (finished / "records.jsonl").write_bytes(b"".join(lines[:-1]))
    return finished


def unfinished(run: Path) -> str:
    return str(load_trials(run).query("outcome == 'unfinished'").trial_id.item())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["set", "RUN", "trial.epochs=3"],
            "may not be changed while trials run; known: max_concurrent, resources.epoch_",
        ),
        (
            ["set", "RUN", "max_concurent=3"],
            "set max_concurent: may not be changed while trials run; did you mean 'max_",
        ),
        (["set", "RUN", "max_concurrent"], "set: must be KEY=VALUE, such as max_concurrent=2, got 'max_concurrent'"),
        (
            ["set", "RUN", "max_concurrent=0"],
            "set max_concurrent: must be a whole number from 1 on, or null",
        ),
        (["set", "RUN", "max_concurrent=two"], "got 'two'"),
        (
            ["set", "RUN", "resources.epoch_timeout=.nan"],
            "must be a number of seconds over 0, at most 1e+08, or null for the config's",
        ),
        (["set", "RUN"], "Missing argument 'KEY=VALUE...'; see"),
        (["cancel", "RUN", "ffffffffffff"], "no trial begins with 'ffffffffffff'; `sweep results"),
        (["cancel", "RUN", ""], "4 trials begin with ''"),
        (["cancel", "RUN", "TRIAL"], "has ended (completed), and its numbers stay"),
        (["cancel", "RUN", "TRIAL", "--undo"], "is not cancelled (completed)"),
        (["cancel", "RUN"], "cancel: needs --where or a TRIAL_ID, which say what is to end"),
        (["pause", "EMPTY"], "not a run directory: it has no records"),
        (["resume", "EMPTY"], "not a run directory: it has no records"),
        (["set", "EMPTY", "max_concurrent=1"], "not a run directory: it has no records"),
        (["cancel", "EMPTY", "TRIAL"], "not a run directory: it has no records"),
    ],
)
def test_what_would_change_nothing_is_refused_in_one_line(
    words: list[str], says: str, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    named = {"RUN": str(finished), "EMPTY": str(tmp_path / "empty"), "TRIAL": trial_of(finished)}
    result = sweep(*(named.get(word, word) for word in words))
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (finished / requests.FOLDER).exists()


def test_with_no_launch_a_pause_and_a_setting_hold_for_the_next_one_and_status_tells_of_them(finished: Path) -> None:
    assert "no launch is running: it holds for the next one" in sweep("pause", finished).stdout
    since = requests.asked(finished).paused
    assert since in sweep("pause", finished).stdout  # it stays as it is
    assert "max_concurrent: 2" in sweep("set", finished, "max_concurrent=2", "resources.epoch_timeout=90").stdout
    assert f"paused since {since}; max_concurrent=2; resources.epoch_timeout=90" in sweep("status", finished).stdout
    assert sweep("resume", finished).stdout.startswith("goes on")
    assert sweep("resume", finished).stdout == "was not paused\n"
    assert "as in the config" in sweep("set", finished, "max_concurrent=null", "resources.epoch_timeout=null").stdout
    assert requests.asked(finished) == requests.Asked()


def test_with_no_launch_a_cancel_stands_in_the_records_at_once_and_can_be_taken_back(begun: Path) -> None:
    name = unfinished(begun)
    assert (
        f"{name} optimizer.lr=0.3 optimizer.name=deat seed=0: cancelled; no launch is running"
        in sweep("cancel", begun, name[:8]).stdout
    )
    assert load_trials(begun).set_index("trial_id").outcome[name] == "cancelled"
    assert f"1 trial is cancelled: {name}; sweep cancel --undo" in sweep("status", begun).stdout
    assert "is to run after all" in sweep("cancel", begun, name, "--undo").stdout
    assert load_trials(begun).set_index("trial_id").outcome[name] == "interrupted"
    assert requests.asked(begun) == requests.Asked()


def test_trials_are_cancelled_by_an_expression_those_that_ended_passed_over(begun: Path) -> None:
    trial = unfinished(begun)
    text = sweep("cancel", begun, "--where", "seed >= 0").stdout
    assert [line.split()[0] for line in text.splitlines()] == [trial]
    assert sweep("cancel", begun, "--where", "seed >= 0").stdout == "0 trials; nothing is changed\n"
    assert sweep("cancel", begun, "--undo", "--where", "outcome == 'cancelled'").stdout.startswith(trial)


def test_an_expression_passes_over_a_pruned_trial_that_a_merged_launch_does_not_name(begun: Path) -> None:
    trial = unfinished(begun)
    launch = next(dict(record) for record in read(begun) if record["record"] == "launch")
    file = RecordFile(begun)
    file.append("outcome", PrunedRecord(trial, "pruned", "by asha", 1, rung=1, rank=2, of=2, share=0.5, by="asha"))
    file.append("launch", {key: value for key, value in launch.items() if key not in ("record", "left_out")})
    file.close()
    assert sweep("cancel", begun, "--where", "seed >= 0").stdout == "0 trials; nothing is changed\n"


def test_while_somebody_holds_the_run_a_cancel_is_asked_of_the_launch(begun: Path) -> None:
    name, before = unfinished(begun), (begun / "records.jsonl").read_bytes()
    with RunLock(begun):
        assert "the launch that runs takes it up" in sweep("cancel", begun, name).stdout
    assert requests.asked(begun).cancel == {name}
    with RunLock(begun, EVALUATION):
        assert "no launch is running" in sweep("cancel", begun, name, "--undo").stdout
    assert requests.asked(begun) == requests.Asked(undo=frozenset({name}))
    assert (begun / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize("words", [["cancel"], ["rerun"]])
def test_what_is_written_while_a_command_reads_stands(
    words: list[str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch that completes the trial just before the command gets the run."""
    file = finished / "records.jsonl"
    *lines, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines))
    name = unfinished(finished)
    weights = finished / "checkpoints" / f"{name}.pt"
    assert weights.exists()

    def late(directory: Path, holder: str) -> RunLock:
        with file.open("ab") as records:
            records.write(last)
        return RunLock(directory, holder)

    monkeypatch.setattr(outside, "RunLock", late)
    told = sweep(*words, finished, name)
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.endswith("another command wrote there in this moment; give this one once more\n")
    assert load_trials(finished).set_index("trial_id").outcome[name] == "completed"
    assert weights.exists()


def test_a_cancel_that_came_too_late_is_not_taken_back_over_what_has_ended(finished: Path) -> None:
    name = trial_of(finished)
    requests.cancel(finished, name)
    told = sweep("cancel", finished, name, "--undo")
    assert (told.exit_code, "is not cancelled (completed)" in told.stderr) == (2, True)
    assert sweep("cancel", finished, "--undo", "--where", "seed >= 0").stdout == "0 trials; nothing is changed\n"
    assert load_trials(finished).set_index("trial_id").outcome[name] == "completed"


def test_a_run_that_cannot_be_written_is_not_taken_for_one_that_somebody_holds(finished: Path, tmp_path: Path) -> None:
    file = finished / "records.jsonl"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    for words in (["rerun", "TRIAL"], ["note", "TRIAL", "odd"]):
        told = sweep(words[0], finished, *(trial_of(finished) if word == "TRIAL" else word for word in words[1:]))
        assert (told.exit_code, "cannot be written: records.jsonl is a symbolic link" in told.stderr) == (2, True)
    assert not (finished / ".lock").exists()


def test_what_was_asked_while_a_launch_ended_is_done_by_the_next(
    begun: Path, tiny: Callable[..., object], launch: Launch
) -> None:
    name = unfinished(begun)
    requests.cancel(begun, name)
    code, text = launch(tiny(), begun, serial=True)
    assert code == 0
    assert f"1 trial is cancelled: {name}" in text
    assert requests.asked(begun) == requests.Asked()
    requests.cancel(begun, name, undo=True)  # with nothing left to run but that
    assert launch(tiny(), begun, serial=True)[0] == 0
    assert load_trials(begun).set_index("trial_id").outcome[name] == "completed"
    assert requests.asked(begun) == requests.Asked()


def test_a_note_that_waits_is_written_down_by_the_next_launch_of_its_trial_that_has_nothing_to_run(
    finished: Path, tiny: Callable[..., object], launch: Launch
) -> None:
    name = trial_of(finished)
    requests.note(finished, NoteRecord(name, "spikes"))
    mine = Share.that_has(name, 2)
    assert mine is not None
    for share in (Share(3 - mine.index, 2), mine):
        assert not notes_of(read_records(finished))
        assert launch(tiny(), finished, serial=True, share=share)[0] == 0
    assert notes_of(read_records(finished)) == {name: Written("spikes")}
    assert not requests.asked(finished).notes


def test_what_is_asked_of_a_trial_whose_share_does_not_run_is_said_to_wait(finished: Path) -> None:
    name = trial_of(finished)
    mine = Share.that_has(name, 2)
    assert mine is not None
    for share, says in ((mine, "the launch that runs writes it"), (Share(3 - mine.index, 2), "no launch of its share")):
        with RunLock(finished, share=share):
            assert says in sweep("note", finished, name, "spikes").stdout
