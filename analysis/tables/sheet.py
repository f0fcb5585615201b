"""A table as Markdown and as LaTeX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from pandas import DataFrame


class Cell(NamedTuple):
    """What stands in one place of a table."""

    text: str
    bold: bool = False


class Sheet(NamedTuple):
    """A table as it is read."""

    caption: str
    groups: list[tuple[str, int]]
    """Heads over several columns: name (may be empty) and how many columns."""
    header: list[str]
    rows: list[list[Cell]]
    notes: list[str]


def filled(sheet: Sheet) -> Sheet:
    """The table without columns in which nothing stands, such as what was printed of an own run."""
    kept = [place for place in range(len(sheet.header)) if any(row[place].text for row in sheet.rows)]
    over = [group for group, (_, span) in enumerate(sheet.groups) for _ in range(span)]
    spans = Counter(over[place] for place in kept) if over else Counter[int]()
    return sheet._replace(
        groups=[(name, spans[group]) for group, (name, _) in enumerate(sheet.groups) if spans[group]],
        header=[sheet.header[place] for place in kept],
        rows=[[row[place] for place in kept] for row in sheet.rows],
    )


def _rules(groups: list[tuple[str, int]]) -> list[str]:
    """A rule under each head that has a name."""
    ends = np.cumsum([span for _, span in groups])
    rules = [
        rf"\cmidrule(lr){{{end - span + 1}-{end}}}" for (name, span), end in zip(groups, ends, strict=True) if name
    ]
    return ["".join(rules)] if rules else []


_TEX = {
    "\\": r"\textbackslash{}",
    **{mark: rf"\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(mark, mark) for mark in text)


def latex(sheet: Sheet) -> str:
    r"""A `table` environment with `\toprule` and the like of booktabs, its notes in small print below."""
    head = []
    if sheet.groups:
        spans = [rf"\multicolumn{{{span}}}{{c}}{{{_tex(name)}}}" for name, span in sheet.groups]
        head = [" & ".join(spans) + r" \\", *_rules(sheet.groups)]
    body = [
        " & ".join(rf"\textbf{{{_tex(cell.text)}}}" if cell.bold else _tex(cell.text) for cell in row)
        for row in sheet.rows
    ]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(sheet.caption)}.}}",
            rf"\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}",
            r"\toprule",
            *head,
            " & ".join(map(_tex, sheet.header)) + r" \\",
            r"\midrule",
            *(rf"{line} \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip{{\footnotesize {_tex(note)}.}}" for note in sheet.notes),
            r"\end{table}",
            "",
        ]
    )


def _md(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_")


def markdown(sheet: Sheet) -> str:
    """A table with its notes below, as a list."""
    over = [name for name, span in sheet.groups or [("", len(sheet.header))] for _ in range(span)]
    header = [f"{group}: {name}" if group else name for group, name in zip(over, sheet.header, strict=True)]
    lines = [header, ["---"] * len(header)]
    lines += [[f"**{_md(cell.text)}**" if cell.bold else _md(cell.text) for cell in row] for row in sheet.rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {_md(note)}" for note in sheet.notes)
    return f"**{sheet.caption}**\n\n{table}\n\n{notes}\n"


def written(sheet: Callable[[DataFrame], Sheet], *, apart: bool = False) -> dict[str, Callable[[DataFrame], str]]:
    """A table's further files: ending to the text of its frame.

    Args:
        sheet: a function of this module.
        apart: one table a study, for one with a column a network.
    """

    def sheets(rows: DataFrame) -> list[Sheet]:
        return [sheet(part) for _, part in rows.groupby("study", sort=False)] if apart else [sheet(rows)]

    return {
        "md": lambda rows: "\n".join(map(markdown, sheets(rows))),
        "tex": lambda rows: "\n".join(map(latex, sheets(rows))),
    }
