"""What a person reads of one trial."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from analysis.frames.log import read_log
from analysis.tables.trials import trial_view

KNOWN = {"precision": "fp32", "engine": "auto", "deterministic": False, "torch": "2.15.0", "cudnn": None}


def test_each_start_says_in_which_engine_it_ran_and_one_that_trained_nothing_which_was_asked_for(run: Any) -> None:
    run.trial("a")
    for epoch, used in enumerate(("graph", "eager", None), start=1):
        run.start("a", arithmetic=KNOWN | {"processor": "AVX2", "threads": 1})
        if used:
            run.epoch("a", epoch, 0.5, engine=used)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(trial_view(read_log(run.directory), "run", "a"))
    starts = [line.split("code abc, ")[1] for line in shown.get().splitlines() if "start on h (cpu)" in line]
    assert starts == [f"fp32 {engine}, torch 2.15.0, AVX2, 1 thread" for engine in ("graph", "eager", "auto")]


def test_a_start_in_place_of_a_process_that_died_says_how_that_ended(run: Any) -> None:
    run.trial("a")
    run.start("a")
    run.start("a", died="worker 1 of 2: its process (7) ended by signal SIGKILL")
    console = Console(width=200)
    with console.capture() as shown:
        console.print(trial_view(read_log(run.directory), "run", "a"))
    first, second = [line for line in shown.get().splitlines() if "start on h (cpu)" in line]
    assert "died" not in first
    assert second.endswith("; the process before it died: worker 1 of 2: its process (7) ended by signal SIGKILL")
