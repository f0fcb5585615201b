"""Trials of a list for some minutes: in order, in time, clean at a signal, with the numbers of trials never stopped."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from small import tiny

from trainers import __main__ as command
from trainers import provenance, stint
from trainers.errors import UserError
from trainers.files import checkpoint_path
from trainers.identity import identity, trial_id
from trainers.loop import train, with_fingerprint
from trainers.record import RECORDS_FILE, read, read_file
from trainers.record.linked import CHAIN, NOTED, REGISTRATION_FILE, registered
from trainers.stint import Stint
from trainers.trial_list import ListedTrial, TrialList, read_list, write_list

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ("epoch", "lr", "train_robust", "train_robust_loss", "val_robust", "test_robust")


def listed(*seeds: int, **values: Any) -> TrialList:
    """A list of tiny trials that differ in their seeds."""
    trials = []
    for number, seed in enumerate(seeds):
        config = with_fingerprint(tiny(**{"epochs": 3, "seed": seed} | values))
        record = {"trial_id": trial_id(config), "number": number, "config": identity(config), "point": {}, "seed": seed}
        trials.append(ListedTrial(record, config))
    launch = {"metric": "val_robust", "mode": "max", "size": len(trials), "wanted": [one.id for one in trials]}
    return TrialList("tiny", launch, 1, tuple(trials))


def kinds(records: list[dict[str, Any]]) -> list[str]:
    return [record["record"] for record in records]


def epochs(records: list[dict[str, Any]], trial: str) -> list[list[Any]]:
    mine = [one for one in records if one["record"] == "epoch" and one["trial_id"] == trial]
    return [[one[key] for key in MEASURED] for one in mine]


def after_epochs(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], None]) -> None:
    """Does something once a stint has been told of so many epochs."""
    told = [0]

    def trained(config: Any, report: Any, *rest: Any) -> Any:
        def reports(record: Any) -> None:
            told[0] += record.kind == "epoch"
            if told[0] == count:
                act()
            report(record)

        return train(config, reports, *rest)

    monkeypatch.setattr(stint, "train", trained)


def test_trials_run_in_the_lists_order_with_the_records_of_a_launch(tmp_path: Path) -> None:
    said: list[str] = []
    trials = listed(3, 1)
    ended = Stint(trials, tmp_path / RECORDS_FILE, say=said.append).run()
    records = read(tmp_path)
    one = ["start", "epoch", "epoch", "epoch", "outcome"]
    assert kinds(records) == ["launch", "trial", "trial", *one, *one]
    assert [record["trial_id"] for record in records if record["record"] == "start"] == [t.id for t in trials.trials]
    assert [(one.outcome, one.epochs) for one in ended] == [("completed", 3)] * 2
    assert records[0]["wanted"] == trials.launch["wanted"]
    assert records[0]["code_version"] == provenance.code_version()
    assert json.loads((tmp_path / "environment.json").read_text())["cpu_cores"] == os.cpu_count()
    assert "seed=3: completed, 3 epochs" in said[0]
    assert all(checkpoint_path(tmp_path, trial.id).is_file() for trial in trials.trials)


def test_a_stint_over_finished_trials_writes_nothing(tmp_path: Path) -> None:
    trials = listed(0, epochs=1)
    Stint(trials, tmp_path / RECORDS_FILE, say=lambda line: None).run()
    before = (tmp_path / RECORDS_FILE).read_bytes()
    again = Stint(trials, tmp_path / RECORDS_FILE, say=lambda line: None)
    assert again.run() == []
    assert again.left() == 0
    assert (tmp_path / RECORDS_FILE).read_bytes() == before


def test_a_stint_ends_at_the_epoch_after_which_another_does_not_fit_and_the_next_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = listed(0, 1)
    Stint(trials, tmp_path / "whole" / RECORDS_FILE, say=lambda line: None).run()
    cut = Stint(trials, tmp_path / "cut" / RECORDS_FILE, say=lambda line: None)
    after_epochs(monkeypatch, 2, lambda: setattr(cut, "_until", -math.inf))
    (ended,) = cut.run()
    assert (ended.outcome, ended.epochs) == ("interrupted", 2)
    assert ended.reason == "its minutes are over; the next goes on with it"
    assert cut.left() == 2
    monkeypatch.setattr(stint, "train", train)
    assert [one.outcome for one in Stint(trials, tmp_path / "cut" / RECORDS_FILE, say=lambda line: None).run()] == [
        "completed"
    ] * 2
    whole, gone_on = read(tmp_path / "whole"), read(tmp_path / "cut")
    assert kinds(gone_on).count("epoch") == 6  # none was trained twice
    for trial in trials.trials:
        assert epochs(gone_on, trial.id) == epochs(whole, trial.id)


def test_a_trial_begun_anew_and_cut_says_how_far_it_is_and_not_how_far_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is further is not to be replaced by it in a merge."""
    trials, path = listed(0), tmp_path / RECORDS_FILE
    for epoch, code in ((2, "another"), (1, provenance.code_version())):
        monkeypatch.setattr("trainers.checkpoint.code_version", partial(str, code))
        cut = Stint(trials, path, say=lambda line: None)
        after_epochs(monkeypatch, epoch, partial(setattr, cut, "_until", -math.inf))
        (ended,) = cut.run()
        assert (ended.outcome, ended.epochs) == ("interrupted", epoch)
        monkeypatch.setattr(stint, "train", train)


def test_images_that_are_not_those_of_the_list_are_told_in_a_line_before_anything_is_written(tmp_path: Path) -> None:
    trials = listed(0, 1)
    data = trials.trials[0].config.data.model_copy(update={"fingerprint": "0" * 12})
    other = tuple(replace(one, config=one.config.model_copy(update={"data": data})) for one in trials.trials)
    with pytest.raises(UserError, match=r"^data.fingerprint: the data in .* are .*, not 000000000000; point data.root"):
        Stint(replace(trials, trials=other), tmp_path / RECORDS_FILE, say=lambda line: None).run()
    assert [path.name for path in tmp_path.iterdir()] == []


def test_on_a_full_disk_a_stint_ends_with_a_line_and_holds_nothing(
    tmp_path: Path, full_disk: Callable[..., AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.files.PATIENCE", 0.0)
    with full_disk(16), pytest.raises(UserError, match=r"environment\.json: cannot be written: .*; mend that, or make"):
        Stint(listed(0), tmp_path / RECORDS_FILE, say=lambda line: None).run()
    assert not (tmp_path / ".lock").exists()


def test_no_time_left_begins_no_trial(tmp_path: Path) -> None:
    work = Stint(listed(0), tmp_path / RECORDS_FILE, seconds=-1, say=lambda line: None)
    assert work.run() == []
    assert kinds(read(tmp_path)) == ["launch", "trial"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_a_stint_with_the_newest_epoch_on_the_disk(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, before = listed(0, 1), signal.getsignal(number)
    after_epochs(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    work = Stint(trials, tmp_path / RECORDS_FILE, say=lambda line: None)
    (ended,) = work.run()
    assert (ended.outcome, ended.reason, work.signal) == ("interrupted", f"stopped by {number.name}", number.name)
    assert signal.getsignal(number) is before
    assert kinds(read(tmp_path)).count("start") == 1
    monkeypatch.setattr(stint, "train", train)
    Stint(trials, tmp_path / RECORDS_FILE, say=lambda line: None).run()
    assert sorted(row[0] for row in epochs(read(tmp_path), trials.trials[0].id)) == [1, 2, 3]


def test_a_trial_that_failed_is_tried_again_after_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = listed(0, 1, epochs=1)

    def fails(*of: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(stint, "train", lambda config, *rest: (fails if config.seed == 0 else train)(config, *rest))
    first = Stint(trials, tmp_path / RECORDS_FILE, say=lambda line: None).run()
    assert [one.outcome for one in first] == ["failed", "completed"]
    assert first[0].reason == f"RuntimeError: a fault (logs/{trials.trials[0].id}.log)"
    monkeypatch.setattr(stint, "train", train)
    more = TrialList("tiny", trials.launch, 1, (*trials.trials, *listed(2, epochs=1).trials))
    again = Stint(more, tmp_path / RECORDS_FILE, say=lambda line: None).run()
    assert [one.trial_id for one in again] == [more.trials[2].id, more.trials[0].id]


def test_two_stints_do_not_write_to_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = listed(0, epochs=1)
    refused: list[str] = []

    def beside() -> None:
        with pytest.raises(UserError) as error:
            Stint(trials, tmp_path / "other.jsonl", say=lambda line: None).run()
        refused.append(str(error.value))

    after_epochs(monkeypatch, 1, beside)
    Stint(trials, tmp_path / RECORDS_FILE, say=lambda line: None).run()
    assert refused[0].startswith(f"{tmp_path}: is in use by another command (python -m trainers, process {os.getpid()}")
    assert not (tmp_path / ".lock").exists()


def test_the_records_of_a_registered_run_name_the_registration_and_are_linked(tmp_path: Path) -> None:
    (tmp_path / REGISTRATION_FILE).write_text("{}")
    Stint(listed(0, epochs=1), tmp_path / RECORDS_FILE, say=lambda line: None).run()
    records = read(tmp_path)
    assert records[0][NOTED] == registered(tmp_path)
    assert [one["record"] for one in records if CHAIN in one] == ["launch", "outcome"]
    lines = (tmp_path / RECORDS_FILE).read_bytes().splitlines(keepends=True)
    assert records[-1][CHAIN]["bytes"] == sum(map(len, lines[:-1]))


def test_a_registered_run_goes_on_nowhere_without_its_registration(tmp_path: Path) -> None:
    (tmp_path / REGISTRATION_FILE).write_text("{}")
    Stint(listed(0, epochs=1), tmp_path / RECORDS_FILE, say=lambda line: None).run()
    before = (tmp_path / RECORDS_FILE).read_bytes()
    for change, what in ((lambda path: path.write_text("[]"), "another one"), (Path.unlink, "not there")):
        change(tmp_path / REGISTRATION_FILE)
        with pytest.raises(UserError, match=f"registration.json: is {what}, and trials were begun under"):
            Stint(listed(0, 1, epochs=1), tmp_path / RECORDS_FILE, say=lambda line: None).run()
        assert (tmp_path / RECORDS_FILE).read_bytes() == before


def test_a_lock_that_its_holder_has_just_removed_is_not_taken_but_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opened it before would hold a file that nobody else can see, beside who makes a new one."""
    lock, folder, seen = fcntl.flock, tmp_path / "run", list[bool]()

    def removed_between(file: Any, how: int) -> None:
        if not seen:
            shutil.rmtree(folder)  # the one before had made it
        lock(file, how)
        seen.append((folder / ".lock").exists())

    monkeypatch.setattr(stint.fcntl, "flock", removed_between)
    Stint(listed(0, epochs=1), folder / RECORDS_FILE, say=lambda line: None).run()
    assert seen[:2] == [False, True]
    assert len(read(folder)) > 1


def test_which_files_give_trials_out_changes_no_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is gone on from by the same code alone; what gives trials out changes none of their numbers."""
    folder = tmp_path / "trainers"
    (folder / "record").mkdir(parents=True)
    for name in ("provenance.py", "loop.py", *provenance._GIVE_OUT):
        (folder / name).write_text("1")
    monkeypatch.setattr(provenance, "__file__", str(folder / "provenance.py"))
    version = provenance.code_version.__wrapped__
    before = version()
    for name in provenance._GIVE_OUT:
        assert (ROOT / "trainers" / name).is_file()
        (folder / name).write_text("2")
    assert version() == before
    (folder / "loop.py").write_text("2")
    assert version() != before


def test_a_list_is_read_as_it_was_written_and_its_images_may_lie_elsewhere(tmp_path: Path) -> None:
    trials = listed(0, 5)
    write_list(tmp_path / "sub" / "trials.jsonl", trials)
    again = read_list(tmp_path / "sub" / "trials.jsonl")
    assert [asdict(one) for one in again.trials] == [asdict(one) for one in trials.trials]
    assert (again.sweep, again.launch, again.threads) == ("tiny", trials.launch, 1)
    moved = again.with_root(Path("/elsewhere"))
    assert [one.config.data.root for one in moved.trials] == ["/elsewhere"] * 2
    assert [trial_id(one.config) for one in moved.trials] == [one.id for one in trials.trials]


def damaged(path: Path, change: Callable[[list[str]], list[str]]) -> str:
    """What is said of a list of two trials whose lines were changed."""
    write_list(path, listed(0, 1))
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    with pytest.raises(UserError) as error:
        read_list(path)
    return str(error.value)


ANEW = "have `sweep plan CONFIG --trials-file` write it anew"


def test_a_list_that_was_changed_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    other = damaged(path, lambda lines: [lines[0], lines[1].replace('"batch_size": ', '"batch_size": 1')])
    assert other.startswith(f"{path}:2: trial {listed(0).trials[0].id}: its config is that of a trial ")
    assert other.endswith(f": it was changed, or other code wrote it; {ANEW}")
    assert damaged(path, lambda lines: lines[1:]) == (
        f"{path}:1: must be the line of a list of trials, with the keys sweep, launch, threads; {ANEW}"
    )
    assert damaged(path, lambda lines: [lines[0], "{}\n"]) == (
        f"{path}:2: must be the line of a trial, with the keys trial, config; {ANEW}"
    )
    assert damaged(path, lambda lines: [lines[0], lines[1].replace('"point": {}, ', "")]) == (
        f"{path}:2: trial: point must be a mapping of axes to values, got nothing; {ANEW}"
    )
    assert damaged(path, lambda lines: [lines[0].replace('"size": 2', '"size": -2'), *lines[1:]]).startswith(
        f"{path}:1: launch: size must be a whole number"
    )
    assert damaged(path, lambda lines: [*lines, lines[1]]) == (
        f"{path}: must hold each trial once, and holds one twice; {ANEW}"
    )
    assert damaged(path, lambda lines: []) == f"{path}: must be a list of trials, and is empty; {ANEW}"


def test_the_command_says_in_a_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none.jsonl"
    assert command.main([str(missing), "--records", str(tmp_path / RECORDS_FILE)]) == 2
    assert capsys.readouterr().err == (
        f"trainers: {missing}: must be a list of trials that you may read: No such file or directory; {ANEW}\n"
    )
    with pytest.raises(SystemExit) as ended:
        command.main([str(missing), "--records", "x", "--minutes", "0"])
    assert ended.value.code == 2
    assert "argument --minutes: must be a number > 0, got 0" in capsys.readouterr().err


ALONE = """
import sys

sys.modules.update(dict.fromkeys(["ray", "optuna", "pandas", "sweep", "analysis", "click"]))  # None: it is not there
from trainers.__main__ import main
sys.exit(main())
"""


@pytest.mark.slow
def test_the_command_needs_neither_ray_nor_optuna_nor_pandas_and_a_signal_ends_it_with_130(tmp_path: Path) -> None:
    trials, file = tmp_path / "trials.jsonl", tmp_path / "run" / "there.jsonl"
    write_list(trials, listed(*range(200)))
    words = [sys.executable, "-c", ALONE, str(trials), "--records", str(file)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (file.exists() and b'"outcome"' in file.read_bytes()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == stint.EXIT_STOPPED
    assert output.splitlines()[-1].startswith(f"{file}: ")
    assert output.splitlines()[-1].endswith(" of 200 trials finished")
    ends = [record["outcome"] for record in read_file(file) if record["record"] == "outcome"]
    assert ends[0] == "completed"
    assert ends[-1] in ("interrupted", "completed")
