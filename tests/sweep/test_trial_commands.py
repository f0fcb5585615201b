"""`sweep show` and `sweep compare`: one trial, and two beside each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis.frames.images import images_of
from analysis.frames.log import read_log
from analysis.frames.trials import load_trials
from analysis.tables.comparison import agreement_of
from analysis.tables.curve import WIDTH, curves
from sweep.cli import main


def sweep(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def ids(run: Path) -> list[str]:
    return [str(name) for name in load_trials(run).trial_id]


def test_a_curve_has_its_first_and_last_value_at_its_corners_and_is_no_wider_than_asked() -> None:
    lines = curves({"v": [(epoch, epoch / 100) for epoch in range(1, 91)], "t": [(1, 0.2), (90, 0.2)]}, "title")
    assert lines[0].strip() == "title"
    assert WIDTH - 2 < max(map(len, lines)) <= WIDTH
    assert (lines[1].startswith(" 90.0 |"), lines[1][-1]) == (True, "v")
    assert lines[-3].startswith("  1.0 |v")
    assert lines[-1].split() == ["1", "90"]
    assert all(line.isascii() for line in lines)
    assert {line.count("t") for line in lines[1:-2]} == {0, 2}


def test_curves_that_meet_and_a_single_epoch_are_drawn() -> None:
    assert curves({}) == curves({"v": []}) == []
    one = curves({"a": [(3, 0.5)], "b": [(3, 0.5)]}, width=20, height=3)
    assert one == [" 50.0 |", " 50.0 |", " 50.0 |*", "      +------------", "       3"]


def test_show_draws_the_trials_curve_names_its_log_and_says_what_was_written_of_it(finished: Path) -> None:
    name = ids(finished)[0]
    sweep("note", finished, name, "odd", "--tag", "keep")
    said = sweep("show", finished, name[:6]).stdout
    assert "%, by epoch: r: train robust, v: val robust, t: test robust, *: several\n" in said
    drawn = said.partition("*: several\n")[2].splitlines()
    assert drawn[13].split() == ["1", "3"]
    assert max(map(len, drawn[:14])) <= WIDTH
    assert f"log: none; a trial that raises an error leaves one, {finished}/logs/{name}.log" in said
    assert "note: odd\ntags: keep\n" in said
    (finished / "logs").mkdir(exist_ok=True)
    (finished / "logs" / f"{name}.log").write_text("Traceback")
    assert sweep("show", finished, name).stdout.endswith(f"log: {finished}/logs/{name}.log\n")


def test_trials_without_an_epoch_are_shown_and_compared_on_a_terminal_of_80_columns(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names, path = ids(finished)[:2], finished / "records.jsonl"
    kept = [one for one in path.read_text().splitlines(keepends=True) if not one.startswith('{"record":"epoch"')]
    path.write_text("".join(kept))
    said = sweep("show", finished, names[0]).stdout
    assert said.startswith(f"trial {names[0]} of")
    assert "\nno epoch is recorded\nlog: none; " in said
    assert sweep("compare", finished, *names).stdout.endswith("\nno epoch of either is recorded\n")


def test_compare_says_what_differs_and_what_came_of_it(undisturbed: Path) -> None:
    trials = load_trials(undisturbed)
    one, other = trials.iloc[0], trials.iloc[3]
    said = sweep("compare", undisturbed, one.trial_id[:8], other.trial_id).stdout
    assert (
        f"A: trial {one.trial_id}, PGD-AT, seed 0, completed\nB: trial {other.trial_id}, DEAT, seed 0, completed"
        in said
    )
    rows = [re.findall(r"[^\s│]+", line) for line in said.splitlines()]
    assert ["optimizer.lr", "0.1", "0.3"] in rows
    assert ["optimizer.name", "sgd", "deat"] in rows
    assert not any(row[:1] == ["batch_size"] for row in rows)
    last = [f"{100 * row.last_test_robust:.2f}" for row in (one, other)]
    difference = f"{100 * (other.last_test_robust - one.last_test_robust):+.2f}"
    assert ["last", "test", "robust", *last, difference] in rows
    assert "val robust, %, by epoch                 test robust, %, by epoch" in said


def test_images_on_which_two_trials_agree_are_counted(undisturbed: Path) -> None:
    images, trials = images_of(read_log(undisturbed)), load_trials(undisturbed).set_index("trial_id")
    one, other = trials.index[[0, 3]]
    rows = agreement_of(images, one, other).set_index(["split", "attack"])
    for split in ("val", "test"):
        row = rows.loc[split, "pgd"]
        assert row["both"] + row["only A"] + row["only B"] + row["neither"] == row["n"]
        for name, alone in ((one, "only A"), (other, "only B")):
            accuracy = trials.loc[name, f"last_{split}_robust"]
            assert (row["both"] + row[alone]) / row["n"] == pytest.approx(accuracy)
    same = agreement_of(images.assign(trial_id=images["trial_id"].replace(one, "x")), one, other)
    assert same.empty


def test_a_trial_is_not_compared_with_itself_or_with_none(undisturbed: Path) -> None:
    name = ids(undisturbed)[0]
    assert sweep("compare", undisturbed, name, name[:8]).stderr == (
        f"sweep: compare: A and B are both trial {name}; give two trials\n"
    )
    result = sweep("compare", undisturbed, name, "none")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
