"""Signals that end a launch at a safe point."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sweep.run.signals import SIGNALS, Interrupted, Interrupts


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """After the test every signal is taken by whoever took it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_each_stops_at_the_end_of_what_is_not_to_be_cut(number: signal.Signals) -> None:
    done = False

    def held(interrupts: Interrupts) -> None:
        nonlocal done
        with interrupts.held():
            os.kill(os.getpid(), number)
            done = True

    before = signal.signal(number, signal.SIG_DFL)  # under `nohup` it is ignored, and would stay so
    try:
        with Interrupts() as interrupts, pytest.raises(Interrupted, match=number.name):
            held(interrupts)
    finally:
        signal.signal(number, before)
    assert done


@pytest.mark.parametrize(("number", "stops"), [("SIGHUP", False), ("SIGUSR1", False), ("SIGTERM", True)])
def test_what_is_ignored_stays_ignored_as_nohup_wants_but_for_what_ends_a_process_in_the_background(
    number: str, stops: bool
) -> None:
    """A shell that runs a script has SIGINT ignored by what it starts in the background."""
    before = signal.signal(signal.Signals[number], signal.SIG_IGN)
    try:
        stopped = False
        try:
            with Interrupts() as interrupts:
                interrupts.catch()  # again, as after Ray's start
                os.kill(os.getpid(), signal.Signals[number])
        except Interrupted:
            stopped = True
        assert stopped == stops
        assert signal.getsignal(signal.Signals[number]) == signal.SIG_IGN
    finally:
        signal.signal(signal.Signals[number], before)
