"""Tables in the width there is: no line is wider, and no name or number is cut or left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from trainers.visible import visible

#: Columns that a table may take where nothing bounds it.
WIDEST = 1000
#: A row of more lines reads worse than a paragraph.
TALLEST = 3

#: Digits of a cell that speaks for itself; fewer are a number, such as an epoch.
_ID = 6

#: What stays on one line of a cell: an interval, or a word; `lr=0.1` may go on after the sign.
_WORDS = re.compile(r"\[[^\]]*\]\S*|[^\s=]+=*|=+")
#: The same of a header: `optimizer.lr` may go on after the dot.
_PARTS = re.compile(r"[^\s._]+[._]*|[._]+")


def width_is_set() -> bool:
    """Whether COLUMNS says how wide what is printed may be, wherever it goes."""
    return os.environ.get("COLUMNS", "").isdecimal()


class Fitted:
    """A table that is as it is where that fits, else without frame, else a paragraph a row.

    Without a frame a cell that has to goes on in the next line, headers are short, and what all rows share is said
    once, above.
    """

    def __init__(self, table: Table, *, share: bool = True) -> None:
        """Draws nothing yet.

        Args:
            table: its cells are text.
            share: whether what all rows share is said once; not in a table whose values change while one looks.
        """
        self.table, self._share = table, share

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws of it."""
        if Measurement.get(console, options.update(width=WIDEST), self.table).maximum <= options.max_width:
            yield self.table
            return
        columns = _columns(console, self.table)
        shared, columns = _shared(columns) if self._share else ([], columns)
        yield from filter(None, [_line(console, self.table.title)])
        yield from map(Text, _packed(shared, options.max_width))
        yield _frameless(columns, options.max_width) or Text("\n").join(_paragraphs(columns, options.max_width))
        yield from filter(None, [_line(console, self.table.caption)])


def fitted(shown: RenderableType) -> RenderableType:
    """The same with every table `Fitted`."""
    if isinstance(shown, Group):
        return Group(*map(fitted, shown.renderables))
    return Fitted(shown) if isinstance(shown, Table) else shown


class _Column(NamedTuple):
    header: str
    cells: list[str]
    right: bool

    @property
    def least(self) -> int:
        """Columns of the screen below which a word would be cut."""
        words = [*_PARTS.findall(self.header), *(word for cell in self.cells for word in _WORDS.findall(cell))]
        return max(map(cell_len, words), default=0)

    @property
    def most(self) -> int:
        """That no cell breaks in; a header may."""
        return max([self.least, *map(cell_len, self.cells)])


def _columns(console: Console, table: Table) -> list[_Column]:
    columns = [
        _Column(_plain(console, one.header), [_plain(console, cell) for cell in one.cells], one.justify == "right")
        for one in table.columns
    ]
    names = _short([one.header for one in columns])
    return [one._replace(header=name) for one, name in zip(columns, names, strict=True)]


def _short(headers: Sequence[str]) -> list[str]:
    """`lr` for `optimizer.lr` and `optimizer` for `optimizer.name`, where no other column is called so.

    >>> _short(["optimizer.name", "optimizer.lr", "a.k", "b.k"])
    ['optimizer', 'lr', 'a.k', 'b.k']
    """
    brief = [name.removesuffix(".name") if name.endswith(".name") else name.rpartition(".")[2] for name in headers]
    brief = [short if " " not in name else name for name, short in zip(headers, brief, strict=True)]
    return [short if brief.count(short) == 1 else name for name, short in zip(headers, brief, strict=True)]


def _shared(columns: Sequence[_Column]) -> tuple[list[str], list[_Column]]:
    """What is the same in all of several rows, in words, and the columns that are left; the first always is."""
    first, *others = columns
    alike = [one for one in others if len(one.cells) > 1 and len(set(one.cells)) == 1]
    said = [f"{one.header} {one.cells[0] or 'empty'}" for one in alike]
    words = ["in every row:", *(f"{text};" for text in said[:-1]), *said[-1:]] if said else []
    return words, [first, *(one for one in others if one not in alike)]


def _frameless(columns: Sequence[_Column], width: int) -> Table | None:
    """The table without a frame, if it fits in so many columns with rows of few lines."""
    for lines in range(1, TALLEST + 1):
        widths = [_narrowest(one, lines) for one in columns]
        for gap in (2, 1):
            if sum(widths) + gap * (len(columns) - 1) <= width:
                return _drawn(columns, widths, gap)
    return None


def _narrowest(column: _Column, lines: int) -> int:
    """The fewest columns of the screen in which no cell takes more than so many lines."""
    cells = set(column.cells)
    rooms = range(column.least, column.most)
    return next((r for r in rooms if all(_broken(c, r, _WORDS).count("\n") < lines for c in cells)), column.most)


def _drawn(columns: Sequence[_Column], widths: Sequence[int], gap: int) -> Table:
    headers = [_broken(one.header, room, _PARTS) for one, room in zip(columns, widths, strict=True)]
    tallest = max(header.count("\n") for header in headers)
    made = [
        Column(
            Text("\n" * (tallest - header.count("\n")) + header), justify="right" if one.right else "left", width=room
        )
        for header, one, room in zip(headers, columns, widths, strict=True)
    ]
    table = Table(*made, box=SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)
    cells = ([Text(_broken(c, room, _WORDS)) for c in one.cells] for one, room in zip(columns, widths, strict=True))
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table


def _broken(text: str, width: int, words: re.Pattern[str]) -> str:
    """The text in lines of at most so many columns, words whole; what a header has between its parts stays."""
    lines = [""]
    for line in text.splitlines() or [""]:
        if lines != [""]:
            lines.append("")
        for match in words.finditer(line):
            gap = " " if match.start() and line[match.start() - 1] == " " else ""
            if lines[-1] and cell_len(lines[-1] + gap + match[0]) > width:
                lines.append(match[0])
            else:
                lines[-1] += (gap if lines[-1] else "") + match[0]
    return "\n".join(lines)


def _paragraphs(columns: Sequence[_Column], width: int) -> Iterator[Text]:
    """A paragraph a row: the first cell, then what stands in the others, each behind its header."""
    first, *others = columns
    for number, name in enumerate(first.cells):
        pairs = [f"{one.header} {one.cells[number]}" for one in others if one.cells[number]]
        whose = f"{first.header} {name}:" if name.isdigit() and len(name) < _ID else f"{name}:"
        yield Text("\n".join(_packed([whose, *(f"{pair};" for pair in pairs[:-1]), *pairs[-1:]], width)))


def _packed(pairs: Iterable[str], width: int) -> Iterator[str]:
    """The pairs in lines, the later ones indented; one that is longer than a line is broken between its words."""
    line = ""
    for pair in pairs:
        if line and cell_len(f"{line} {pair}") > width:
            yield line
            line = ""
        if line:
            line += f" {pair}"
            continue
        *full, line = _broken(pair, width - 2, _WORDS).split("\n")
        yield from (f"  {part}" for part in full)
        line = f"  {line}" if not pair.endswith(":") or full else line
    if line:
        yield line


def _plain(console: Console, shown: RenderableType) -> str:
    plain = (console.render_str(shown) if isinstance(shown, str) else shown) if isinstance(shown, str | Text) else ""
    return visible(str(plain))


def _line(console: Console, said: RenderableType | None) -> Text | None:
    return Text(_plain(console, said)) if said else None
