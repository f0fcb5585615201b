"""Trials that fail alike: the same exception at the same place, or the same words but for numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.stopping.fail_fast import FailFast, kind_of

TRACE = 'Traceback (most recent call last):\n  File "step.py", line {}, in step\n    raise\n{}: {}\n'


def outcome(trial: str, reason: str = "ValueError: no", what: str = "failed") -> dict[str, Any]:
    return {"trial_id": trial, "outcome": what, "reason": reason}


def ends(*outcomes: dict[str, Any], most: int = 2) -> list[bool]:
    counted = FailFast(most)
    return [counted.ended(one, Path("none.log")) is not None for one in outcomes]


def test_the_sweep_ends_with_the_nth_of_its_first_trials_to_fail_alike() -> None:
    assert ends(*(outcome(name) for name in "abc"), most=3) == [False, False, True]


def test_the_reason_is_theirs() -> None:
    assert FailFast(1).ended(outcome("a"), Path("none.log")) == (
        "fail_fast: the first 1 trial failed alike: ValueError: no"
    )


@pytest.mark.parametrize("what", ["completed", "diverged", "out_of_memory"])
def test_a_trial_that_ended_otherwise_shows_that_not_all_fail(what: str) -> None:
    assert ends(outcome("a"), outcome("b", "", what), outcome("c"), outcome("d")) == [False] * 4


def test_a_failure_of_another_kind_shows_that_they_do_not_fail_alike() -> None:
    assert ends(outcome("a"), outcome("b", "KeyError: 'x'"), outcome("c"), outcome("d")) == [False] * 4


@pytest.mark.parametrize("what", ["interrupted", "preempted", "paused", "cancelled", "pruned"])
def test_a_trial_that_has_only_stopped_says_nothing(what: str) -> None:
    assert ends(outcome("a"), outcome("b", "", what), outcome("c")) == [False, False, True]


def test_one_trial_that_fails_again_and_again_is_one() -> None:
    assert ends(outcome("a"), outcome("a"), outcome("b")) == [False, False, True]


def test_failures_are_alike_whatever_numbers_and_ids_their_words_have() -> None:
    kinds = {kind_of(f"no epoch within {n} s, trial 00c0ffee000{n} at 0x{n}f", Path("a.log")) for n in range(3)}
    assert len(kinds) == 1


def test_an_exception_is_known_by_its_type_and_place_and_not_by_its_words(tmp_path: Path) -> None:
    def kind(name: str, line: int, words: str, error: str = "ValueError") -> str:
        log = tmp_path / f"{name}.log"
        log.write_text(TRACE.format(line, error, words))
        return kind_of(f"{error}: {words} (logs/{log.name})", log)

    same = kind("a", 7, "no file left")
    assert kind("b", 7, "no file right") == same
    assert kind("c", 8, "no file left") != same
    assert kind("d", 7, "no file left", "KeyError") != same
