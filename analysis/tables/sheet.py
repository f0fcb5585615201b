"""A table as it is read, and the one way to print it: in the terminal, as Markdown, as LaTeX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.box import HEAVY_HEAD, Box
from rich.table import Table
from rich.text import Text

from trainers.visible import visible

_TEX = {
    "\\": r"\textbackslash{}",
    **{mark: rf"\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
}

#: What Markdown would read as its own.
_MARKS = "|*"


class Bold(str):
    """A cell that stands out."""


class RowsTable(Table):
    """A table of which a terminal that is too narrow may leave columns out, for `--columns` shows any of them."""

    spare: Sequence[str] = ()
    """Names of these columns, the most telling first."""


class Sheet(NamedTuple):
    """A table with its caption and notes, ready to be printed."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    groups: Sequence[tuple[str, int]] = ()
    """Headings over several columns: name (may be empty) and how many columns."""

    def filled(self) -> Sheet:
        """The table without columns in which nothing stands, such as what was printed of an own run."""
        kept = [place for place in range(len(self.header)) if any(row[place] for row in self.rows)]
        over = [group for group, (_, span) in enumerate(self.groups) for _ in range(span)]
        spans = Counter(over[place] for place in kept) if over else Counter[int]()
        return self._replace(
            groups=[(name, spans[group]) for group, (name, _) in enumerate(self.groups) if spans[group]],
            header=[self.header[place] for place in kept],
            rows=[[row[place] for place in kept] for row in self.rows],
        )


def console_table(
    header: Sequence[str],
    rows: Iterable[Iterable[str]],
    *,
    title: str | None = None,
    caption: str | None = None,
    right: Collection[str] = (),
    wraps: Collection[str] = (),
    folds: bool = False,
    box: Box | None = HEAVY_HEAD,
    spare: Sequence[str] = (),
) -> Table:
    """A table for the terminal; no cell is read as markup.

    Args:
        header: of each column.
        rows: of text.
        title: above it.
        caption: below it.
        right: columns whose text is set to the right.
        wraps: columns that may be broken into lines where there is no room.
        folds: whether their text is then cut anywhere, and not between words.
        box: how it is ruled; none: not at all.
        spare: columns that may be left out where there is no room, the most telling first; none: no column may.
    """
    table = RowsTable(title=title, caption=caption, box=box, caption_justify="left")
    table.spare = spare
    for name in header:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold" if folds else "ellipsis",
            no_wrap=name not in wraps,
        )
    for row in ([*map(visible, each)] for each in rows):
        # Only what rich could read as markup or emoji is wrapped: a long table prints faster.
        table.add_row(*(Text(cell) if "[" in cell or ":" in cell else cell for cell in row))
    return table


def markdown_table(
    header: Sequence[str], rows: Iterable[Iterable[str]], *, right: Collection[str] = (), marks: str = _MARKS
) -> str:
    """A table in Markdown, without a line end at its end.

    Args:
        header: of each column.
        rows: of text.
        right: columns whose text is set to the right.
        marks: characters that are text, and not Markdown's.
    """
    lines: list[Sequence[str]] = [header, ["---:" if name in right else "---" for name in header]]
    lines += [[_marked(cell, marks) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _marked(cell: str, marks: str) -> str:
    text = "".join(f"\\{mark}" if mark in marks else mark for mark in visible(cell).replace("\n", " "))
    return f"**{text}**" if isinstance(cell, Bold) else text


def markdown(sheet: Sheet) -> str:
    """A table in Markdown with its caption above and its notes below, as a list."""
    marks = f"{_MARKS}_"
    over = [name for name, span in sheet.groups or [("", len(sheet.header))] for _ in range(span)]
    header = [f"{group}: {name}" if group else name for group, name in zip(over, sheet.header, strict=True)]
    notes = "\n".join(f"- {_marked(note, marks)}" for note in sheet.notes)
    return f"**{sheet.caption}**\n\n{markdown_table(header, sheet.rows, marks=marks)}\n\n{notes}\n"


def latex(sheet: Sheet) -> str:
    r"""A `table` environment with `\toprule` and the like of booktabs, its notes in small print below."""
    spans = [rf"\multicolumn{{{span}}}{{c}}{{{_tex(name)}}}" for name, span in sheet.groups]
    ends = np.cumsum([span for _, span in sheet.groups])
    rules = [
        rf"\cmidrule(lr){{{end - span + 1}-{end}}}"
        for (name, span), end in zip(sheet.groups, ends, strict=True)
        if name
    ]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(sheet.caption)}.}}",
        rf"\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}",
        r"\toprule",
        *([" & ".join(spans) + r" \\"] if spans else []),
        *(["".join(rules)] if rules else []),
        " & ".join(map(_tex, sheet.header)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_tex, row)) + r" \\" for row in sheet.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {_tex(note)}.}}" for note in sheet.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    written = "".join(_TEX.get(mark, mark) for mark in visible(text).replace("\n", " "))
    return rf"\textbf{{{written}}}" if isinstance(text, Bold) else written


def cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of mappings that all have the same keys; nothing of no rows."""
    return (list(rows[0]), [list(row.values()) for row in rows]) if rows else ([], [])
