"""What others wrote, on the way to a terminal: shown, and neither obeyed nor read as markup."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

import sweep
from sweep.narrow import fitted
from sweep.plain_console import PlainConsole
from sweep.run.screen import print_whole, say

EVIL, SHOWN = "\x1b[31mred\x1b]0;title\x07\x9b1m\u202e[bold]b[/bold]:smile:", r"\x1b[31mred\x1b]0;title\x07\x9b1m\u202e"
PLAIN = f"{SHOWN}[bold]b[/bold]:smile:"


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[io.StringIO, Terminal])
def console(request: pytest.FixtureRequest) -> PlainConsole:
    return PlainConsole(request.param(), 200)


def printed(console: PlainConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def a_table(cell: str | Text) -> Table:
    table = Table(f"head{EVIL}", title=EVIL, caption=EVIL)
    table.add_row(cell)
    return table


@pytest.mark.parametrize("cell", [EVIL, Text(EVIL)])
@pytest.mark.parametrize("width", [200, 40])
def test_no_cell_header_title_or_caption_of_a_table_is_obeyed(
    cell: str | Text, width: int, console: PlainConsole
) -> None:
    console.width = width
    print_whole(console, a_table(cell))
    assert "red" in printed(console)
    assert not {
        mark
        for mark in printed(console)
        .replace("\x1b[1m", "")
        .replace("\x1b[0m", "")
        .replace("\x1b[3m", "")
        .replace("\x1b[2;3m", "")
        if mark in EVIL and not mark.isprintable()
    }
    assert "[bold]b[/bold]:smile:" in "".join(printed(console).split())


def test_a_line_is_shown_as_it_was_written(console: PlainConsole) -> None:
    say(console, EVIL)
    assert printed(console) == f"{PLAIN}\n"


def test_cells_that_are_no_plain_words_are_as_wide_as_they_are_shown() -> None:
    console = PlainConsole(io.StringIO(), 200)
    console.print(a_table(EVIL))
    assert len({len(line) for line in printed(console).splitlines() if line[:1] in "┏┃┡│└"}) == 1


def test_the_consoles_own_moves_of_the_cursor_stay() -> None:
    console = PlainConsole(Terminal(), 200)
    with Live(fitted(a_table(EVIL)), console=console, auto_refresh=False, transient=True) as live:
        live.refresh()
    assert "\x1b[2K" in printed(console)
    assert "\x1b[31mred" not in printed(console)


def test_nothing_is_printed_past_the_two_ways_out() -> None:
    """`echo` of sweep.streams and sweep.plain_console's console: everything else would have to escape by itself."""
    root = Path(sweep.__file__).parents[1]
    others = [
        f"{path.relative_to(root)}:{node.lineno}"
        for floor in ("trainers", "analysis", "sweep")
        for path in (root / floor).rglob("*.py")
        if "examples" not in path.parts and path.name not in ("streams.py", "plain_console.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func)
        in ("print", "click.echo", "click.secho", "Console", "sys.stdout.write", "sys.stderr.write")
    ]
    known = (
        "sweep/group.py",
        "sweep/submitted_main.py",
        "sweep/reports/output.py",
        "trainers/__main__.py",
    )  # what hides us, or is damaged, said before we are loaded; a file's text to a pipe; each line made visible there
    assert [place for place in others if place.partition(":")[0] not in known] == []
    assert len(others) == 5
