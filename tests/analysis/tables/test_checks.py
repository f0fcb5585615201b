"""The table of checks, as wide as a terminal, and what stands under it."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from analysis.frames.checks import load_checks
from analysis.tables.checks import checks_view
from trainers.ladder.rungs import CHECKS
from trainers.record import RecordFile


@pytest.fixture
def view(run: Any) -> Any:
    """Writes the checks of two trials, those of the second with numbers of its own; gives the text of the table."""

    def text(**second: Any) -> str:
        run.whole("0123456789ab", [0.5, 0.6])
        run.whole("ba9876543210", [0.5, 0.7], seed=1)
        run.close()
        file = RecordFile(run.directory)
        for trial, given in (("0123456789ab", {}), ("ba9876543210", second)):
            for check in CHECKS:
                what = {"trial_id": trial, "weights": "last", "averaged": False, "check": check, "split": "test"}
                where = {"parameters": {"norm": "linf", "radius": 8 / 255}, "asked": 200, "first": 0, "seconds": 2.0}
                counts = {"images": 200, "clean_correct": 188, "against": 0, "in_favour": 3}
                under = {"right_under": {"PGD-20": 126, "PGD-20 x 5": 123}}
                file.append("check", {**what, **where, **counts, **under, **given})
        file.close()
        console = Console(width=80)
        with console.capture() as capture:
            console.print(checks_view(load_checks(run.directory)))
        return capture.get()

    return text


def test_the_table_has_80_columns_and_says_what_should_hold_the_numbers_and_the_verdict(view: Any) -> None:
    text = view()
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.replace("│", " ").split())
    assert text.count("passed") == 12
    assert "0123456789ab (last epoch, test, linf, radius 8/255)" in words
    for part in (*CHECKS, "PGD-20: 126", "of 188", "fails"):
        assert part in words, part
    assert "2 trials: no check failed. n: images classified correctly without an attack. Of networks whose" in words


def test_a_trial_that_fails_is_named_with_the_checks_and_one_with_few_images_is_said_to_have_few(view: Any) -> None:
    words = " ".join(view(against=150).split())
    assert "ba9876543210 fails steps, single_step, black_box, restarts, unbounded, ascent: do not trust" in words
    assert "Too few" not in words


def test_too_few_images_and_a_part_of_them_are_said(view: Any) -> None:
    words = " ".join(view(images=9, clean_correct=3).replace("│", " ").split())
    assert "too few" in words
    assert "(9 of" in words
    assert "Too few: with so few images the check cannot fail." in words
