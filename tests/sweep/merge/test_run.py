"""What was run of a sweep elsewhere, taken into one directory: each trial once, the better one, whole at any moment."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from faults_harness import numbers
from locks import refusal
from rich.console import Console

from analysis.frames.evaluations import load_evaluations
from analysis.frames.images import classes_of, images_of
from analysis.frames.log import read_log
from sweep import cli
from sweep.config import SweepConfig
from sweep.evaluate.plan import Asked
from sweep.evaluate.run import evaluate
from sweep.merge.run import merge_runs
from sweep.run.directory import RunLock
from sweep.share import Share
from trainers.record import RECORDS_FILE, line, read

Records = list[dict[str, Any]]
Launch = Callable[..., tuple[int, str]]
SameNumbers = Callable[[Path, Path], None]


def taken(directory: Path, *others: Path, checkpoints: bool = True) -> str:
    """The merge; what it said."""
    return "\n".join(merge_runs(directory, others, checkpoints=checkpoints, command="test"))


def ids(run: Path) -> list[str]:
    return [record["trial_id"] for record in read(run) if record["record"] == "trial"]


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(line(record["record"], record) for record in records))


def part(run: Path, folder: Path, trials: Collection[str], file: str = RECORDS_FILE) -> Path:
    """A run of the same sweep that trained some of its trials alone."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "sweep.yaml", folder)
    own = [one for one in read(run) if one["record"] in ("launch", "trial") or one["trial_id"] in trials]
    write(folder / file, own)
    for name in trials:
        shutil.copy(run / "checkpoints" / f"{name}.pt", folder / "checkpoints")
    return folder


def changed(run: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The run with each of its records changed, or left out where the change says False."""
    write(run / RECORDS_FILE, [one for one in read(run) if change(one) is not False])
    return run


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def parts(undisturbed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that trained two trials each, one of them with code of a user's own."""
    names = ids(undisturbed)
    one, two = part(undisturbed, tmp_path / "one", names[::2]), part(undisturbed, tmp_path / "two", names[1::2])
    (two / "code").mkdir()
    (two / "code" / "0123abcd.zip").write_bytes(b"a user's own")
    return one, two


def test_what_parts_of_a_sweep_ran_elsewhere_is_the_whole_one(
    parts: tuple[Path, Path], undisturbed: Path, same_numbers: SameNumbers, tmp_path: Path
) -> None:
    before = [content(one) for one in parts]
    told = taken(tmp_path / "run", *parts)
    assert told.splitlines() == [
        f"{parts[0]}: 2 trials taken, 0 here already",
        f"{parts[1]}: 2 trials taken, 0 here already",
        f"{tmp_path}/run: 4 trials: 4 completed",
    ]
    same_numbers(tmp_path / "run", undisturbed)
    assert numbers(tmp_path / "run") == numbers(undisturbed)
    for path in undisturbed.glob("checkpoints/*"):
        assert (tmp_path / "run" / "checkpoints" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "run" / "sweep.yaml").read_bytes() == (undisturbed / "sweep.yaml").read_bytes()
    assert (tmp_path / "run" / "code" / "0123abcd.zip").read_bytes() == b"a user's own"
    assert [content(one) for one in parts] == before


def test_what_is_left_is_launched_and_nothing_else(
    parts: tuple[Path, Path],
    undisturbed: Path,
    tiny: Callable[..., SweepConfig],
    launch: Launch,
    same_numbers: SameNumbers,
    tmp_path: Path,
) -> None:
    lacking = ids(undisturbed)[1]
    changed(parts[1], lambda record: record.get("trial_id") != lacking or record["record"] == "trial")
    told = taken(parts[0], parts[1])
    assert told.splitlines()[-1].endswith(
        ": 4 trials: 3 completed, 1 never started; `sweep launch` runs what is left: 1"
    )
    assert "finished 3, to resume 0, new 1" in launch(tiny(), parts[0], serial=True)[1]
    same_numbers(parts[0], undisturbed)


def test_a_trial_that_no_record_tells_of_yet_is_left_too(parts: tuple[Path, Path], undisturbed: Path) -> None:
    lacking = ids(undisturbed)[1]
    for one in parts:
        changed(one, lambda record: record.get("trial_id") != lacking)
    assert taken(parts[0], parts[1]).splitlines()[-1].endswith("1 never started; `sweep launch` runs what is left: 1")


def test_a_launch_goes_on_from_the_checkpoint_of_a_trial_that_was_interrupted_elsewhere(
    parts: tuple[Path, Path],
    undisturbed: Path,
    tiny: Callable[..., SweepConfig],
    launch: Launch,
    same_numbers: SameNumbers,
    tmp_path: Path,
) -> None:
    late = ids(undisturbed)[1]

    def interrupted(record: dict[str, Any]) -> bool:
        if record.get("trial_id") == late and record["record"] == "outcome":
            record |= {"outcome": "interrupted", "reason": "test", "epochs": 2}
        return record.get("trial_id") != late or record.get("epoch", 0) < 3

    changed(parts[1], interrupted)
    assert "2 trials taken" in taken(parts[0], parts[1])
    assert "finished 3, to resume 1, new 0" in launch(tiny(), parts[0], serial=True)[1]
    same_numbers(parts[0], undisturbed)


def test_merging_twice_changes_nothing(parts: tuple[Path, Path], tmp_path: Path) -> None:
    taken(tmp_path / "run", *parts)
    before = content(tmp_path / "run")
    assert "0 trials taken, 2 here already" in taken(tmp_path / "run", parts[1], parts[0])
    assert content(tmp_path / "run") == before


def test_a_launch_after_it_knows_the_trials_of_other_runs_that_each_part_was_started_from(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    known = [{"pilot": ["b", "c"]}, {"pilot": ["a", "b"], "other": []}]
    for run, own in zip(parts, known, strict=True):
        changed(run, lambda record, own=own: record.update({"start_from": own} if record["record"] == "launch" else {}))
    taken(tmp_path / "run", *parts)
    assert read(tmp_path / "run")[-1]["start_from"] == {"pilot": ["a", "b", "c"], "other": []}


def test_the_axes_of_its_strata_are_those_of_the_first_launch_that_names_some(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    """One of an older version names none."""
    axes = ["method"]
    changed(parts[1], lambda record: record.update({"strata": axes} if record["record"] == "launch" else {}))
    taken(tmp_path / "run", *parts)
    assert read(tmp_path / "run")[-1]["strata"] == axes
    assert "strata" not in read(parts[0])[0]


class Killed(BaseException):
    """Nothing that follows is run."""


def test_a_merge_that_is_killed_at_any_file_is_whole_once_it_is_done_again(
    parts: tuple[Path, Path],
    undisturbed: Path,
    same_numbers: SameNumbers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moves, real = 0, os.replace

    def replace(*paths: Any) -> None:
        nonlocal moves
        moves -= 1
        if moves < 0:
            raise Killed
        real(*paths)

    for number in range(20):
        run, moves = tmp_path / f"run-{number}", number
        monkeypatch.setattr(os, "replace", replace)
        try:
            taken(run, *parts)
            break
        except Killed:
            pass
        finally:
            monkeypatch.setattr(os, "replace", real)
        assert not (run / RECORDS_FILE).exists() or not (run / RECORDS_FILE).read_bytes()
        taken(run, *parts)
        same_numbers(run, undisturbed)
        assert numbers(run) == numbers(undisturbed)
    assert number == 7  # 4 checkpoints, the code, the config, the records


def test_of_a_trial_that_two_have_the_finished_one_counts_or_else_the_further_one(
    undisturbed: Path, same_numbers: SameNumbers, tmp_path: Path
) -> None:
    names = ids(undisturbed)
    whole = part(undisturbed, tmp_path / "whole", names)

    def up_to(folder: str, epochs: Mapping[str, int]) -> Path:
        """A run of which each trial has so many epochs, and no outcome."""

        def kept(record: Mapping[str, Any]) -> bool:
            most = epochs.get(record.get("trial_id", ""), 9)
            return (record["record"] != "outcome" or most > 3) and record.get("epoch", 0) <= most

        return changed(part(undisturbed, tmp_path / folder, names), kept)

    here = up_to("here", {names[0]: 2, names[1]: 1, names[2]: 2})
    (here / "checkpoints" / f"{names[0]}.pt").write_bytes(b"mine")
    (here / "checkpoints" / f"{names[1]}.pt").write_bytes(b"mine")
    there = up_to("there", {names[0]: 1, names[1]: 2, names[3]: 2})
    assert f"{there}: 2 trials taken, 0 here already" in taken(here, there)
    assert (here / "checkpoints" / f"{names[0]}.pt").read_bytes() == b"mine"
    assert (here / "checkpoints" / f"{names[1]}.pt").read_bytes() != b"mine"
    assert f"{whole}: 2 trials taken, 2 here already" in taken(here, whole)
    same_numbers(here, undisturbed)


@pytest.mark.parametrize("code", ["the same", "another"])
def test_other_numbers_by_the_same_code_are_told_and_what_is_here_is_kept(
    code: str, undisturbed: Path, finished: Path, same_numbers: SameNumbers, tmp_path: Path
) -> None:
    first = ids(undisturbed)[0]

    def other(record: dict[str, Any]) -> None:
        if record["record"] == "epoch" and record["trial_id"] == first:
            record["val_robust"] = 0.123
        if code == "another" and record["record"] == "start":
            record["code_version"] = "older"

    there = changed(part(undisturbed, tmp_path / "there", ids(undisturbed)), other)
    told = taken(finished, there).splitlines()[0]
    odd = f"; the same code gave other numbers there, and kept is what is here: {first}" if code == "the same" else ""
    assert told == f"{there}: 0 trials taken, 3 here already{odd}"
    same_numbers(finished, undisturbed)


def test_damaged_lines_are_passed_over_and_counted_and_cost_what_they_held(undisturbed: Path, tmp_path: Path) -> None:
    there = part(undisturbed, tmp_path / "there", ids(undisturbed))
    lines = (there / RECORDS_FILE).read_bytes().splitlines()
    place = next(number for number, text in enumerate(lines) if b'"record":"epoch"' in text)
    lines[place] = lines[place].replace(b'"lr":', b'"lr";')
    (there / RECORDS_FILE).write_bytes(b"\n".join([*lines, b'{"record":"ep']))
    told = taken(tmp_path / "run", there)
    assert f"{there}: 4 trials taken, 0 here already; 1 damaged line passed over: records.jsonl:{place + 1}" in told
    assert "3 completed, 1 interrupted" in told


def test_where_records_came_from_is_kept(parts: tuple[Path, Path], tmp_path: Path) -> None:
    taken(tmp_path / "run", *parts)
    launches = [one for one in read(tmp_path / "run") if one["record"] == "launch"]
    assert [one.get("merged") for one in launches] == [
        *(
            {
                "from": str(one / RECORDS_FILE),
                "sha256": hashlib.sha256((one / RECORDS_FILE).read_bytes()).hexdigest(),
            }
            for one in parts
        ),
        None,
    ]
    assert [one["command"] for one in launches] == ["test"] * 3
    starts = [[one for one in read(run) if one["record"] == "start"] for run in (tmp_path / "run", *parts)]
    assert starts[0] == starts[1] + starts[2]  # host, device and code version as they were written


def test_a_launch_that_is_here_is_taken_again_only_with_what_it_has_begun_since(
    undisturbed: Path, tmp_path: Path
) -> None:
    launch, *rest = read(part(undisturbed, tmp_path / "there", ids(undisturbed)))
    own = {name: [one for one in rest if one.get("trial_id") == name] for name in ids(undisturbed)}
    grown: Records = []
    for number, lines in enumerate(own.values()):
        grown += [{**launch, "command": f"stint {number // 2}"}] * (number % 2 == 0) + lines
        write(tmp_path / "there" / RECORDS_FILE, grown)
        taken(tmp_path / "run", tmp_path / "there")
    commands = [one["command"] for one in read(tmp_path / "run") if one["record"] == "launch" and "merged" in one]
    assert commands == ["stint 0", "stint 0", "stint 1", "stint 1"]
    assert numbers(tmp_path / "run") == numbers(undisturbed)


def test_a_file_of_records_is_a_run(undisturbed: Path, same_numbers: SameNumbers, tmp_path: Path) -> None:
    names = ids(undisturbed)
    run = part(undisturbed, tmp_path / "run", names[:1])
    (tmp_path / "there").mkdir()
    shutil.copy(undisturbed / RECORDS_FILE, tmp_path / "there" / "from-node-7.jsonl")
    assert "3 trials taken, 1 here already" in taken(run, tmp_path / "there" / "from-node-7.jsonl")
    same_numbers(run, undisturbed)
    assert len(list((run / "checkpoints").iterdir())) == 1


def test_shares_are_merged_whatever_the_clocks_of_their_machines_said(
    undisturbed: Path, same_numbers: SameNumbers, tmp_path: Path
) -> None:
    names = ids(undisturbed)
    here, there = tmp_path / "here", tmp_path / "there"
    for index, own in ((1, names[:1]), (2, names[1:2])):
        part(undisturbed, here, own, Share(index, 2).named(RECORDS_FILE))
    for index, own in ((1, names[2:3]), (2, names[3:])):
        part(undisturbed, there, own, Share(index, 2).named(RECORDS_FILE))
    late = names[0]
    ahead = [
        one | ({"time": one["time"] + 1e6} if "time" in one else {})
        for one in read(undisturbed)
        if one["record"] != "outcome" and one.get("epoch", 0) < 3 and one.get("trial_id", late) == late
    ]
    write(here / Share(1, 2).named(RECORDS_FILE), ahead)  # began, and its clock is a week ahead
    whole = part(undisturbed, tmp_path / "whole", [late])
    assert "1 trial taken" in taken(here, whole)
    assert "2 trials taken" in taken(here, there)
    same_numbers(here, undisturbed)


def test_evaluations_come_with_the_classes_of_their_images_and_once(
    undisturbed: Path, finished: Path, tmp_path: Path
) -> None:
    names = ids(undisturbed)
    there = Path(shutil.copytree(undisturbed, tmp_path / "there"))
    quiet = Console(quiet=True)
    assert evaluate(there, Asked(("clean", "fgsm"), trial_ids=(names[0],)), quiet, serial=True) == 0
    assert evaluate(there, Asked(("clean",), trial_ids=(names[1],)), quiet, serial=True) == 0
    assert "0 trials taken, 4 here already, 3 chunks of evaluations" in taken(finished, there)
    frames = [load_evaluations(run).drop(columns="seconds") for run in (finished, there)]
    assert frames[0].equals(frames[1])
    images, of_there = (images_of(read_log(run)) for run in (finished, there))
    assert images.equals(of_there)
    before = content(finished)
    taken(finished, there)
    assert content(finished) == before


def test_classes_come_also_where_the_record_that_holds_them_does_not(undisturbed: Path, tmp_path: Path) -> None:
    names = ids(undisturbed)
    there = Path(shutil.copytree(undisturbed, tmp_path / "there"))
    assert evaluate(there, Asked(("clean",), trial_ids=tuple(names[:2])), Console(quiet=True), serial=True) == 0
    first, second = (one for one in read(there) if one["record"] == "evaluation")
    assert "classes" not in second
    here = part(undisturbed, tmp_path / "here", names)
    changed(here, lambda one: one.get("trial_id") != first["trial_id"] or one.update(val_robust=0.5))
    changed(here, lambda one: one["record"] != "epoch" or one.pop("right", None) or True)
    taken(here, there)
    assert [one["trial_id"] for one in read(here) if one["record"] == "evaluation"] == [second["trial_id"]]
    assert classes_of(read_log(here)).keys() >= {first["fingerprint"]}


# What is refused


def test_another_sweep_another_metric_and_a_changed_trial_are_refused_and_nothing_is_written(
    undisturbed: Path, finished: Path, tmp_path: Path
) -> None:
    names = ids(undisturbed)
    there = part(undisturbed, tmp_path / "there", names)
    before = content(finished)
    text = (there / "sweep.yaml").read_text()
    (there / "sweep.yaml").write_text(text.replace("name: tiny", "name: huge"))
    assert refusal(lambda: taken(finished, there)) == (
        f"{finished}: holds the sweep 'tiny', not 'huge'; merge runs of one sweep"
    )
    (there / "sweep.yaml").write_text(text)
    changed(there, lambda one: one.update(metric="val_clean") if one["record"] == "launch" else None)
    assert refusal(lambda: taken(finished, there)) == (
        f"{there}: its metric is val_clean, and here it is val_robust; merge runs of one sweep"
    )
    there = part(undisturbed, tmp_path / "there", names)
    changed(there, lambda one: one["config"].update(epochs=7) if one["record"] == "trial" else None)
    told = refusal(lambda: taken(finished, there))
    assert told.startswith(f"{there}: trial {names[0]}: its config is that of a trial ")
    assert refusal(lambda: taken(finished, finished)).startswith(f"{finished}: is of the run that it would be merged")
    assert refusal(lambda: taken(finished, tmp_path / "none")) == (
        f"{tmp_path}/none: not a run directory: it has no records.jsonl; give the --out of a launch"
    )
    assert content(finished) == before


def test_a_directory_in_which_something_runs_is_refused(parts: tuple[Path, Path]) -> None:
    with RunLock(parts[0], share=Share(1, 2)):
        assert "is in use by another command (sweep launch --shard 1/2, process " in refusal(lambda: taken(*parts))


def test_the_command_says_what_it_did_and_a_mistake_in_one_line(parts: tuple[Path, Path], tmp_path: Path) -> None:
    def call(*words: str | Path) -> Any:
        return CliRunner().invoke(cli.main, ["merge", *map(str, words)])

    answer = call(tmp_path / "run", *parts, "--no-checkpoints")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines()[-1] == f"{tmp_path}/run: 4 trials: 4 completed"
    assert not (tmp_path / "run" / "checkpoints").exists()
    answer = call(tmp_path / "run", tmp_path / "none")
    assert answer.exit_code == 2
    assert call(tmp_path / "run").exit_code == 2
