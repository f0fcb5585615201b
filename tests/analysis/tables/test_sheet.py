"""The one way to print a table."""

from __future__ import annotations

import io

from rich.console import Console

from analysis.tables.sheet import Bold, Sheet, cells, console_table, latex, markdown, markdown_table

SHEET = Sheet("Gain", ["lr", "a_1", "p"], [["0.1", Bold("5 %"), ""]], ["* best"], [("", 1), ("DEAT", 2)])


def shown(width: int, **options: object) -> str:
    table = console_table(["name", "interval"], [["a name of words", "[n/a]"]], **options)  # type: ignore[arg-type]
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_brackets_are_text_and_no_markup() -> None:
    assert "[n/a]" in shown(80)


def test_what_stands_below_a_table_begins_at_its_left() -> None:
    assert shown(40, caption="a caption of many words, in two lines").splitlines()[-1].startswith("two lines")


def test_where_there_is_no_room_only_the_columns_that_wrap_are_broken_into_lines() -> None:
    assert "a name of words" in shown(24, wraps=["interval"])
    assert "a name of words" not in shown(24, wraps=["name"])


def test_markdown_keeps_what_would_be_its_own_marks_as_text() -> None:
    table = markdown_table(["x", "n"], [["a|b*", "1"]], right=["n"])
    assert table == "| x | n |\n| --- | ---: |\n| a\\|b\\* | 1 |"


def test_bold_cells_groups_and_notes_are_in_markdown_and_latex() -> None:
    text = markdown(SHEET)
    assert "| lr | DEAT: a_1 | DEAT: p |" in text
    assert "| 0.1 | **5 %** |  |" in text
    assert text.endswith("\n- \\* best\n")
    tex = latex(SHEET)
    assert r"\textbf{5 \%}" in tex
    assert r" & \multicolumn{2}{c}{DEAT} \\" in tex
    assert r"\cmidrule(lr){2-3}" in tex
    assert r"a\_1" in tex


def test_a_column_in_which_nothing_stands_goes_with_its_share_of_the_heading_over_it() -> None:
    filled = SHEET.filled()
    assert (filled.header, filled.rows) == (["lr", "a_1"], [["0.1", "5 %"]])
    assert filled.groups == [("", 1), ("DEAT", 1)]


def test_cells_are_the_mappings_keys_and_values() -> None:
    assert cells([{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]) == (["a", "b"], [["1", "2"], ["3", "4"]])
    assert cells([]) == ([], [])
