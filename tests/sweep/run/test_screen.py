"""What a person reads while a sweep runs, at any width."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.box import HEAVY_HEAD, SIMPLE, Box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sweep.progress import Progress
from sweep.run import screen
from sweep.run.screen import (
    LONG,
    ROWS,
    Screen,
    _long,
    begun_again_line,
    best_line,
    counts_line,
    duration,
    percent,
    print_whole,
    rate_line,
    say,
    table,
)

Records = list[dict[str, Any]]
POINT = {"optimizer.name": "deat", "optimizer.lr": 0.1, "batch_size": 32, "optimizer.k1": 1.0}


def names(count: int) -> list[str]:
    return [f"{number:012x}" for number in range(count)]


def running(count: int, size: int, done: int = 0, began: float = 0.0) -> Progress:
    """A launch with so many trials completed, and then so many running at epoch 7 of 110."""
    records: Records = [{"record": "launch", "time": 0.0, "size": size, "wanted": names(size)}]
    for number, name in enumerate(names(size)):
        planned = {"number": number, "point": POINT, "seed": 0, "config": {"epochs": 110 if number >= done else 7}}
        records.append({"record": "trial", "trial_id": name, **planned})
    for number, name in enumerate(names(done + count)):
        records.append({"record": "start", "trial_id": name, "time": began, "code_version": "abc"})
        for epoch in range(1, 8):
            robust = {"val_robust": 0.4567, "test_robust": 0.4321}
            times = {"seconds": 30.0, "evaluation_seconds": 1.0, "time": 60.0}
            records.append({"record": "epoch", "trial_id": name, "epoch": epoch, "lr": 0.1, **robust, **times})
        if number < done:
            records.append(ended(name, "completed", 7))
    return Progress.of(records)


def ended(name: str, outcome: str, epochs: int = 7, reason: str = "") -> dict[str, Any]:
    return {"record": "outcome", "trial_id": name, "outcome": outcome, "reason": reason, "epochs": epochs}


def drawn(progress: Progress, width: int, live: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(table(progress, live))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_shows_every_count_and_running_trial_at_any_width(width: int) -> None:
    progress = running(3, size=1234, done=17)
    text = drawn(progress, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0] == "1234 trials: 17 completed, 3 running, 1214 waiting"
    head = next(number for number, line in enumerate(lines) if line.startswith("trial "))
    assert sorted(" ".join(lines[1 : head + 1]).split()) == sorted(
        ["trial", "epoch", "val", "robust", "test", "robust", "point"]
    )
    for name in names(20)[17:]:
        assert [line.split()[1] for line in lines if line.startswith(name)] == ["7/110"]
    assert text.count("45.7 %") == text.count("43.2 %") == 3
    assert "".join(lines[head + 1 : -1]).replace(" ", "").count("optimizer.name=deat") == 3
    assert lines[-1] == rate_line(progress)
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_all_states_at_once_are_all_counted(width: int) -> None:
    progress = running(5, size=99, done=1)
    for name, outcome in zip(names(6)[1:5], ("diverged", "out_of_memory", "failed", "interrupted"), strict=True):
        progress.add(ended(name, outcome))
    text = " ".join(drawn(progress, width).split())
    assert text.startswith(
        "99 trials: 1 completed, 1 diverged, 1 out_of_memory, 1 failed, 1 interrupted, 1 running, 93 waiting"
    )


def test_no_more_rows_than_fit_and_the_rest_is_counted() -> None:
    text = drawn(running(ROWS + 5, size=100), 120)
    assert text.count("7/110") == ROWS
    assert "\nand 5 more\n" in text


def test_without_a_launch_there_are_only_counts() -> None:
    assert drawn(running(2, size=5), 120, live=False) == "5 trials: 2 interrupted, 3 never started\n"


def test_the_rate_and_the_time_left_are_words() -> None:
    progress = running(2, size=3)
    # 14 epochs in a minute; 2 * 103 + 110 are left
    assert rate_line(progress) == "rate 14.0 epochs a minute, time left 23 min"
    assert (
        rate_line(running(2, size=3, began=30.0)) == "rate 28.0 epochs a minute, time left 11 min"
    )  # without Ray's start
    assert rate_line(Progress()) == "rate unknown, time left unknown"
    assert counts_line(Progress(), live=True) == "0 trials"
    assert counts_line(running(1, size=1), live=True) == "1 trial: 1 running"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"),
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3540, "59 min"),
        (3599, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (360000, "100 h 00 min"),
    ],
)
def test_a_duration_is_said_in_its_own_unit(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_an_accuracy_is_a_percentage_and_what_was_not_measured_a_dash() -> None:
    assert [percent(value) for value in (0.4567, 1, 0, None)] == ["45.7 %", "100.0 %", "0.0 %", "-"]


@pytest.mark.parametrize(
    ("metric", "mode", "values", "said"),
    [
        ("val_robust", "max", {"a": [0.3, 0.4], "b": [0.5, 0.4], "c": [0.9]}, "val robust 45.0 %, 2 seeds, lr=b"),
        ("val_robust_loss", "min", {"a": [1.25], "b": [1.5], "c": [2.0]}, "val robust loss 1.25, 1 seed, lr=a"),
        ("val_robust", "max", {"a": [0.3, 0.4]}, ""),
        ("val_robust", "max", {}, ""),
    ],
    ids=["of the most seeds", "least loss", "one point", "none yet"],
)
def test_the_best_point_so_far_is_a_line_once_two_have_completed(
    metric: str, mode: str, values: dict[str, list[float]], said: str
) -> None:
    records: Records = [{"record": "launch", "time": 0.0, "size": 9, "metric": metric, "mode": mode}]
    records[0]["wanted"] = [f"{point}{seed}" for point, of_point in values.items() for seed in range(len(of_point))]
    for point, of_point in values.items():
        for seed, value in enumerate(of_point):
            name = f"{point}{seed}"
            records.append({"record": "trial", "trial_id": name, "number": 0, "point": {"lr": point}, "seed": seed})
            records[-1]["config"] = {"epochs": 1}
            records.append({"record": "start", "trial_id": name, "time": 0.0, "code_version": "abc"})
            records.append({"record": "epoch", "trial_id": name, "epoch": 1, "lr": 0.1, "seconds": 1.0, metric: value})
            records.append(ended(name, "completed", 1))
    progress = Progress.of(records)
    assert best_line(progress) == (f"best so far: {said}" if said else "")
    assert ("best so far: " in drawn(progress, 120)) == bool(said)
    assert "best so far" not in drawn(progress, 120, live=False)


def completed(points: list[dict[str, Any]]) -> Progress:
    """One seed of each point, each better than the one before."""
    of_metric = {"metric": "val_robust", "mode": "max"}
    records: Records = [{"record": "launch", "time": 0.0, "size": 9, "wanted": names(len(points)), **of_metric}]
    for number, (name, point) in enumerate(zip(names(len(points)), points, strict=True)):
        planned = {"number": number, "point": point, "seed": 0, "config": {"epochs": 1}}
        records.append({"record": "trial", "trial_id": name, **planned})
        records.append({"record": "start", "trial_id": name, "time": 0.0, "code_version": "abc"})
        measured = {"epoch": 1, "lr": 0.1, "seconds": 1.0, "val_robust": number / 10}
        records.append({"record": "epoch", "trial_id": name, **measured})
        records.append(ended(name, "completed", 1))
    return Progress.of(records)


@pytest.mark.parametrize(
    ("key", "named"), [("evaluation.steps", False), ("data.name", False), ("data.augment", True), ("lr", True)]
)
def test_no_best_point_is_named_where_points_were_measured_differently(key: str, named: bool) -> None:
    progress = completed([{"batch_size": size, key: value} for size in (1, 2) for value in (1, 2)])
    assert bool(best_line(progress)) == named
    alike = completed([{"batch_size": size, key: 1} for size in (1, 2)])
    assert best_line(alike) == f"best so far: val robust 10.0 %, 1 seed, batch_size=2 {key}=1"


def test_the_best_point_is_worked_out_when_a_trial_has_ended_and_not_at_each_redraw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worked_out = list[str]()

    def line(progress: Progress) -> str:
        worked_out.append(best_line(progress))
        return worked_out[-1]

    monkeypatch.setattr(screen, "best_line", line)
    monkeypatch.setattr(screen, "REFRESH", -1.0)
    file, progress = io.StringIO(), completed([{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}])
    console = Console(file=file, width=100, force_terminal=True, color_system=None)
    with Screen(console, progress) as shown_on:
        for _ in range(3):
            shown_on.refresh()
        assert len(worked_out) == 1
        name = names(3)[0]
        progress.add({"record": "epoch", "trial_id": name, "epoch": 1, "lr": 0.1, "seconds": 1.0, "val_robust": 0.9})
        progress.add(ended(name, "completed", 1))
        shown_on.show(progress.trials[name], ended(name, "completed", 1))
        shown_on.refresh()
    assert [text.rpartition(" ")[2] for text in worked_out] == ["lr=0.3", "lr=0.1"]
    assert file.getvalue().count(worked_out[0]) >= 3


def shown(terminal: bool, *outcomes: tuple[str, str]) -> str:
    file = io.StringIO()
    progress = running(len(outcomes), size=9)
    with Screen(Console(file=file, width=300, force_terminal=terminal, color_system=None), progress) as screen:
        for name, (outcome, reason) in zip(names(len(outcomes)), outcomes, strict=True):
            message = ended(name, outcome, reason=reason)
            progress.add(message)
            screen.show(progress.trials[name], message)
    return file.getvalue()


def test_without_a_terminal_every_ended_trial_is_a_plain_line() -> None:
    label = "optimizer.name=deat optimizer.lr=0.1 batch_size=32 optimizer.k1=1 seed=0"
    assert shown(False, ("completed", ""), ("diverged", "val_clean_loss is nan [red]"), ("failed", "why")) == (
        f"[1/9] completed 000000000000 {label}: val robust 45.7 %, test robust 43.2 %, 4 min\n"
        f"[2/9] diverged 000000000001 {label}: val_clean_loss is nan [red], 4 min\n"
        f"[3/9] failed 000000000002 {label}: why, 4 min\n"
    )


def test_without_a_terminal_nothing_else_is_printed() -> None:
    file = io.StringIO()
    with Screen(Console(file=file, force_terminal=False), running(1, size=2)) as screen:
        screen.refresh()
    assert file.getvalue() == ""


def test_on_a_terminal_the_table_is_live_and_every_ended_trial_is_a_line_that_stays() -> None:
    text = shown(True, ("completed", ""), ("out_of_memory", "no room"))
    assert "[1/9] completed 000000000000 " in text
    assert "[2/9] out_of_memory 000000000001 " in text
    assert "no room" in text
    assert "9 trials: 1 completed, 1 running, 7 waiting\n" in text
    assert text.endswith("\x1b[2K")  # in the end the table is wiped away


def test_a_table_is_printed_whole_where_there_is_no_terminal_and_the_console_stays_narrow() -> None:
    table = Table("name", "value")
    table.add_row("n" * 50, "69.54 [67.36, 71.72]")
    text = io.StringIO()
    console = Console(file=text, width=40)
    print_whole(console, Group(Text("a note"), Group(table)))
    assert "n" * 50 in text.getvalue()
    assert "69.54 [67.36, 71.72]" in text.getvalue()
    assert console.width == 40


def test_a_terminal_is_printed_to_in_its_own_width() -> None:
    table = Table("name", "value", "a longer header")
    table.add_row("n" * 20, "69.54 [67.36, 71.72]", "1")
    text = io.StringIO()
    print_whole(Console(file=text, width=40, force_terminal=True, color_system=None), Group(Text("a note"), table))
    assert [line.rstrip() for line in text.getvalue().splitlines()] == [
        "a note",
        f"{'n' * 20}:",
        "  value 69.54 [67.36, 71.72];",
        "  a longer header 1",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_the_live_table_of_a_narrow_terminal_is_no_wider(width: int) -> None:
    text = drawn(running(3, size=1234, done=17), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("7/110") == text.count("45.7 %") == text.count("seed=0") == 3


def test_a_line_longer_than_the_terminal_goes_on_indented_between_its_words() -> None:
    lines = ["  warnings:", "    " + "the-learning-rate never falls " * 3]
    for width, shown in ((40, 4), (500, 2)):
        console = Console(file=io.StringIO(), force_terminal=True, width=width)
        say(console, "\n".join(lines))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert text.split() == " ".join(lines).split()
        assert [len(line) <= width for line in text.splitlines()] == [True] * shown
        assert all(line.startswith("      the-learning") for line in text.splitlines()[2:])


def test_a_start_after_a_start_is_a_process_that_died_and_one_after_an_outcome_is_none() -> None:
    progress, file = running(1, 1), io.StringIO()
    (trial,) = progress.trials.values()
    screen = Screen(Console(file=file, width=200), progress)
    start = {"record": "start", "trial_id": trial.id}
    for message in (start, {"record": "epoch"}, {"record": "outcome"}, start, start):
        screen.show(trial, message)
    line = f"trial {trial.id}: its process died in epoch 8; another goes on from its newest checkpoint"
    assert [said for said in file.getvalue().splitlines() if "died" in said] == [line]
    trial.epoch = 0
    screen.show(trial, start)
    assert file.getvalue().endswith(f"trial {trial.id}: its process died in epoch 1; another begins it anew\n")
    trial.epoch = trial.epochs_wanted
    screen.show(trial, start)
    assert ": its process died after its last epoch; another goes on from its newest" in file.getvalue()


def test_a_start_that_says_how_the_process_before_it_died_has_that_in_its_line() -> None:
    (trial,) = running(1, 1).trials.values()
    line = begun_again_line(trial, {"died": "worker 1 of 2: its process (7) ended by signal SIGKILL"})
    assert line == (
        f"trial {trial.id}: its process died in epoch 8 (worker 1 of 2: its process (7) ended by signal SIGKILL); "
        "another goes on from its newest checkpoint"
    )


def test_why_an_engine_is_not_the_one_asked_for_is_said_once() -> None:
    progress, file = running(2, size=2), io.StringIO()
    screen = Screen(Console(file=file, width=80), progress)
    for trial in progress.running():
        for reason in ("", "a step can be captured on a GPU only"):
            screen.show(trial, {"record": "epoch", "engine": "eager", "engine_reason": reason})
    assert file.getvalue() == (
        f"trial {names(1)[0]} runs with engine eager: a step can be captured on a GPU only "
        "(others that do so are not named)\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("box", [HEAVY_HEAD, SIMPLE, None])
@pytest.mark.parametrize("width", [20, 200])
def test_a_long_table_is_printed_at_once_as_rich_lays_it_out(width: int, box: Box | None, encoding: str) -> None:
    def filled(cell: Callable[[str], Any]) -> Table:
        wide = Table(caption="accuracies in %, and more words than stand in one line below a narrow table", box=box)
        for name in ("trial_id", "optimizer.lr", "last test robust"):
            wide.add_column(name, justify="left" if name == "trial_id" else "right", overflow="fold")
        for number in range(LONG):
            cells = f"{number:012x}", str(0.1 * number), "" if number % 7 == 0 else f"{number:.2f}"
            wide.add_row(*map(cell, cells))
        return wide

    def printed(wide: Table) -> str:
        print_whole(Console(file=(file := io.TextIOWrapper(io.BytesIO(), encoding)), width=width), wide)
        assert file.seek(0) == 0
        return file.read()

    plain, others = filled(str), filled(Text)  # the second is left to rich
    assert printed(plain) == printed(others)
    assert printed(plain).count("\n") > LONG
    assert [bool(_long(Console(file=io.StringIO()), wide)) for wide in (plain, others)] == [True, False]
