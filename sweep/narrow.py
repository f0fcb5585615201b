"""Tables in the width there is: no line is wider, no name or number is cut, and what is left out is named."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from trainers.visible import hanging, visible

#: Columns that a table may take where nothing bounds it.
WIDEST = 1000
#: A row of more lines reads worse than a paragraph.
TALLEST = 3
#: Of so many rows a paragraph each can still be compared, and nothing is left out.
FEW = 4

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
    """A table that is as it is where that fits, else without frame, else without some columns, else a paragraph a row.

    Without a frame a cell that has to goes on in the next line, headers are short, and what all rows share is said
    once, above. Columns are left out of more than a few rows alone, and only those of which another way is named.
    """

    def __init__(self, table: Table, *, share: bool = True) -> None:
        """Draws nothing yet.

        Args:
            table: its cells are text.
            share: whether what all rows share is said once; not in a table whose values change while one looks.
        """
        self.table, self._share = table, share
        self._spare = getattr(table, "spare", ())  # of `analysis.tables.sheet.RowsTable`, whose module loads numpy

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws of it."""
        if Measurement.get(console, options.update(width=WIDEST), self.table).maximum <= options.max_width:
            yield self.table
            return
        columns, left_out = _columns(console, self.table), ""
        shared, columns = _shared(columns, self._spare) if self._share else ([], columns)
        yield from filter(None, [_line(console, self.table.title)])
        yield from map(Text, _packed(shared, options.max_width))
        table = _frameless(columns, options.max_width)
        if table is None and len(columns[0].cells) > FEW:
            table, left_out = self._with_room(columns, options.max_width)
        yield table or Text("\n").join(_paragraphs(columns, options.max_width))
        yield from filter(None, [_line(console, self.table.caption), _line(console, left_out)])

    def _with_room(self, columns: Sequence[_Column], width: int) -> tuple[Table | None, str]:
        """The table of the columns that fit, the more telling before the others, and what is left out, in words.

        Args:
            columns: that are left of the table's.
            width: of the screen.
        """
        shown = [one for one in columns if one.name not in self._spare]
        table = _frameless(shown, width) if self._spare else None
        if table is None:
            return None, ""
        for name in self._spare:
            more = [one for one in columns if one in shown or one.name == name]
            if (wider := _frameless(more, width)) is not None:
                shown, table = more, wider
        names = ", ".join(one.header for one in columns if one not in shown)
        return table, f"left out for want of room: {names}; --columns, a wider terminal or --format csv shows them"


class Hung:
    """Text whose lines are broken between words, what goes on indented: it does not look like a line of its own."""

    def __init__(self, text: str) -> None:
        """Draws nothing yet."""
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws of it."""
        for line in visible(self._text).split("\n"):
            yield Text(hanging(line, options.max_width))


def fitted(shown: RenderableType) -> RenderableType:
    """The same with every table `Fitted`, and every text `Hung`."""
    if isinstance(shown, Group):
        return Group(*map(fitted, shown.renderables))
    if isinstance(shown, Text):
        return Hung(shown.plain)
    return Fitted(shown) if isinstance(shown, Table) else shown


@dataclass(frozen=True, eq=False)
class _Column:
    name: str
    header: str
    """As it is shown."""
    cells: list[str]
    right: bool

    @cached_property
    def least(self) -> int:
        """Columns of the screen below which a word would be cut."""
        words = [*_PARTS.findall(self.header), *(word for cell in self.cells for word in _WORDS.findall(cell))]
        return max(map(cell_len, words), default=0)

    @cached_property
    def most(self) -> int:
        """That no cell breaks in; a header may."""
        return max([self.least, *map(cell_len, self.cells)])

    @cached_property
    def rooms(self) -> list[int]:
        """For each height of a row the fewest columns of the screen in which no cell takes more lines."""
        return [self._narrowest(lines) for lines in range(1, TALLEST + 1)]

    def _narrowest(self, lines: int) -> int:
        cells = set(self.cells)
        rooms = range(self.least, self.most)
        return next((r for r in rooms if all(_broken(c, r, _WORDS).count("\n") < lines for c in cells)), self.most)


def _columns(console: Console, table: Table) -> list[_Column]:
    return [
        _Column(str(one.header), name, [_plain(console, cell) for cell in one.cells], one.justify == "right")
        for one, name in zip(table.columns, _short([_plain(console, one.header) for one in table.columns]), strict=True)
    ]


def _short(headers: Sequence[str]) -> list[str]:
    """`lr` for `optimizer.lr` and `optimizer` for `optimizer.name`, where no other column is called so.

    >>> _short(["optimizer.name", "optimizer.lr", "a.k", "b.k"])
    ['optimizer', 'lr', 'a.k', 'b.k']
    """
    brief = [name.removesuffix(".name") if name.endswith(".name") else name.rpartition(".")[2] for name in headers]
    brief = [short if " " not in name else name for name, short in zip(headers, brief, strict=True)]
    return [short if brief.count(short) == 1 else name for name, short in zip(headers, brief, strict=True)]


def _shared(columns: Sequence[_Column], spare: Sequence[str]) -> tuple[list[str], list[_Column]]:
    """What is the same in all of several rows, in words, and the columns that are left.

    The first always is, and so are the numbers that a table is about, of which equal ones are so by chance: estimates,
    and where some columns may be left out the numbers of the others.
    """
    first, *others = columns
    alike = [one for one in others if len(one.cells) > 1 and len(set(one.cells)) == 1]
    about = [one for one in alike if " [" in one.cells[0] or (spare and one.right and one.name not in spare)]
    alike = [one for one in alike if one not in about or not one.cells[0]]
    said = [f"{one.header} {one.cells[0] or 'empty'}" for one in alike]
    words = ["in every row:", *(f"{text};" for text in said[:-1]), *said[-1:]] if said else []
    return words, [first, *(one for one in others if one not in alike)]


def _frameless(columns: Sequence[_Column], width: int) -> Table | None:
    """The table without a frame, if it fits in so many columns with rows of few lines."""
    for widths in zip(*(one.rooms for one in columns), strict=True):
        for gap in (2, 1):
            if sum(widths) + gap * (len(columns) - 1) <= width:
                return _drawn(columns, widths, gap)
    return None


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


def _line(console: Console, said: RenderableType | None) -> Hung | None:
    return Hung(_plain(console, said)) if said else None
