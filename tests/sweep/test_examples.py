"""Every help ends with examples: each is a command that there is, and those that read a run work on one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sweep.cli import main
from trainers.record import read

CONFIGS = Path(__file__).parents[2] / "configs"

#: Columns of a narrow terminal, and how far an example is indented.
TERMINAL, INDENT = 80, 4

#: Of what is asked here: click keeps the option -h, --help of a command as it was asked for first.
PARENT = click.Context(main, terminal_width=TERMINAL, help_option_names=["-h", "--help"])

#: Commands whose examples are run.
READING = ("results", "images", "show", "compare", "status", "claims", "note", "rerun")

#: Commands whose examples of a config of this project, or of none, are run, of `launch` those that train nothing; and
#: what makes them short: no step is timed, and fewer trials are drawn.
WITHOUT_A_RUN: dict[str, list[str]] = {
    **{name: [] for name in ("theory", "ratio", "init", "register", "schema", "completion")},
    "plan": ["--rate", "1"],
    "launch": ["--set", "seeds=[0]"],
}


def commands(
    group: click.Group = main, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))


def examples(command: click.Command) -> list[str]:
    text = command.get_help(click.Context(command, PARENT, "x"))
    return [line for line in text.partition("Examples:")[2].splitlines() if line.strip()]


def words(line: str) -> list[str]:
    """Of an example, without `sweep` and without what the shell does with its output."""
    found = shlex.split(line, comments=True)
    assert found[0] == "sweep"
    return found[1 : next((place for place, word in enumerate(found) if word in ("|", ">")), len(found))]


def parsed(given: list[str]) -> None:
    """Raises where click refuses the words."""
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[given.pop(0)]
    command.make_context("sweep", given, PARENT)


EVERY = [((), main), *commands()]


@pytest.mark.parametrize(("name", "command"), EVERY, ids=[" ".join(name) for name, _ in EVERY])
def test_a_help_ends_with_examples_that_can_be_typed_and_fit_a_terminal(
    name: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = examples(command)
    assert lines
    assert any(words(line)[: len(name)] == list(name) for line in lines)
    for line in lines:
        assert len(line) <= TERMINAL
        assert line.startswith(INDENT * " " + "sweep ")
        parsed(words(line))


@pytest.mark.parametrize(("name", "command"), EVERY, ids=[" ".join(name) for name, _ in EVERY])
def test_the_help_of_an_option_says_what_it_is_before_it_says_of_what(
    name: tuple[str, ...], command: click.Command
) -> None:
    texts = [option.help or "" for option in command.params if isinstance(option, click.Option)]
    assert not [text for text in texts if text.startswith(("Of ", "May ", "Given "))]


@pytest.mark.parametrize("name", READING)
def test_the_examples_that_read_a_run_work_on_one(
    name: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, *_ = [one["trial_id"] for one in read(finished) if one["record"] == "trial"]
    real = {"runs/demo": str(finished), "3f2a": first, "90bc": second}
    for line in examples(main.commands[name]):
        given = [real.get(word, word) for word in words(line)]
        if given[0] in READING and "--watch" not in given:  # which ends by Ctrl-C alone
            result = CliRunner().invoke(main, given)
            assert result.exit_code == 0, (line, result.output)


@pytest.mark.parametrize("name", WITHOUT_A_RUN)
def test_the_examples_that_need_no_run_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = main.commands[name]
    inner = command.commands.values() if isinstance(command, click.Group) else [command]
    tried = 0
    for number, line in enumerate(line for one in inner for line in examples(one)):
        given = words(line)
        if given[0] != name or "runs/" in line or (name == "launch" and "--surrogate" not in given):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "configs").symlink_to(CONFIGS)
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(main, [*given, *WITHOUT_A_RUN[name]])
        assert result.exit_code == 0, (line, result.output)
        tried += 1
    assert tried
