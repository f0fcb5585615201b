"""Tables at any width: no line is wider, nothing is cut, and what is left out is named."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from analysis.tables.sheet import console_table
from sweep.cli import main
from sweep.narrow import fitted

NUMBER = re.compile(r"[-+]?\d[\d.e/+-]*\*?")


def trials() -> Table:
    """As `sweep results` has them: 36 rows of 14 columns, 200 columns wide."""
    axes = ("optimizer.name", "optimizer.lr", "batch_size", "optimizer.k1", "optimizer.weight_decay")
    metrics = ("best val robust", "last val robust", "last test robust", "last test clean")
    table = Table(caption="accuracies in %")
    for name in ("trial_id", "outcome", *axes, "seed", "epochs", *metrics, "seconds"):
        table.add_column(name, justify="left" if name in ("trial_id", "outcome") else "right")
    for n in range(36):
        values = (f"{(n + 1) / 700:.17g}", "128", f"{n / 10:g}", "5e-4", str(2**63 - 1 - n), "110")
        numbers = (f"{41.25 + n:.2f}", f"{40.01 + n:.2f}", f"{39.5 + n:.2f}", f"{80 + n / 7:.2f}", str(1000 + n))
        table.add_row(f"{n:012x}", "completed", "deat" if n % 2 else "sgd", *values, *numbers)
    return table


def intervals() -> Table:
    """As the launch's correlations: estimates with their intervals, 112 columns wide."""
    table = Table("method", "x", "pearson", "spearman", "kendall", title="correlation of last_test_robust")
    table.add_column("n", justify="right")
    for method in ("all", "PGD-AT", "TRADES-AWP+S2O, DEAT"):
        for x in ("optimizer.lr", "lr_batch_ratio"):
            row = [Text(f"-0.{n}{len(x)} [-0.{n}8, -0.{len(method)}]") for n in (3, 4, 5)]
            table.add_row(method, x, *row, "36")
    return table


def one_row() -> Table:
    table = Table("trial", "point", box=None)
    table.add_row("a" * 12, "optimizer.name=deat optimizer.lr=0.012345678901234567 batch_size=32 optimizer.k1=1 seed=0")
    return table


def no_rows() -> Table:
    """As the epochs of a trial that failed in its first."""
    table = trials()
    return Table(*(column.header for column in table.columns), caption=table.caption)


def shown(table: object, width: int, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    Console(file=file, width=width, force_terminal=True, color_system=None).print(table)
    file.seek(0)
    return file.read()


def texts(table: Table) -> list[list[str]]:
    return [[str(cell) for cell in column.cells] for column in table.columns]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 300])
@pytest.mark.parametrize(
    "table", [trials(), intervals(), one_row(), no_rows()], ids=["trials", "intervals", "one row", "no rows"]
)
def test_no_line_is_wider_than_the_terminal_and_every_number_is_there_whole(table: Table, width: int) -> None:
    text = shown(fitted(table), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    there = set(NUMBER.findall(text))
    for column in texts(table):
        for cell in column:
            assert set(NUMBER.findall(cell)) <= there, cell


def test_a_table_that_fits_is_as_it_is() -> None:
    assert shown(fitted(intervals()), 120) == shown(intervals(), 120)


def test_a_table_that_does_not_says_once_what_all_rows_share_and_breaks_before_intervals() -> None:
    assert [line.rstrip() for line in shown(fitted(intervals()), 80).splitlines()[:6]] == [
        "correlation of last_test_robust",
        "in every row: n 36",
        "method           x               pearson         spearman        kendall",
        "─" * 79,
        "all              optimizer.lr    -0.312          -0.412          -0.512",
        "                                 [-0.38, -0.3]   [-0.48, -0.3]   [-0.58, -0.3]",
    ]


def test_equal_estimates_stay_in_the_table() -> None:
    table = Table("method", "x", "pearson", "spearman", "n", title="correlation of last_test_robust")
    for x in ("optimizer.lr", "batch_size", "lr_batch_ratio"):
        table.add_row("PGD-AT", x, *(Text("0.25 [no interval]"),) * 2, "4")
    text = shown(fitted(table), 48)
    assert "in every row: method" not in text
    assert text.splitlines()[1] == "in every row: n 4"
    assert text.count("0.25") == 6


def test_equal_numbers_that_a_table_is_about_stay_in_it_and_equal_settings_do_not() -> None:
    rows = [(name * 12, "completed", "0.1", "10.00") for name in "ab"]
    names = ("trial_id", "outcome", "optimizer.lr", "last val robust")
    text = shown(fitted(console_table(names, rows, right=names[2:], wraps=names, spare=["optimizer.lr"])), 40)
    assert text.splitlines()[0].rstrip() == "in every row: outcome completed; lr 0.1"
    assert text.count("10.00") == 2


def ranked(rows: int) -> Table:
    """A table of three columns that have to be there, and of three that need not, of which the last tells least."""
    names = ("trial_id", "outcome", "robust", "note", "optimizer.lr", "seconds")
    cells = [
        (f"{n:012x}", "completed" if n else "failed", f"{n}.00", f"{n:030}", str(n / 8), str(n)) for n in range(rows)
    ]
    return console_table(names, cells, wraps=names, spare=["note", "optimizer.lr", "seconds"])


def test_of_many_rows_the_columns_that_fit_are_a_table_the_more_telling_first() -> None:
    text = shown(fitted(ranked(12)), 50)
    head, rule, *rows = [line.rstrip() for line in text.splitlines()]
    assert head.split() == ["trial_id", "outcome", "robust", "lr", "seconds"]
    assert set(rule) == {"─"}
    assert rows[1].split() == ["000000000001", "completed", "1.00", "0.125", "1"]
    assert " ".join(" ".join(rows[12:]).split()) == (
        "left out for want of room: note; --columns, a wider terminal or --format csv shows them"
    )
    narrower = shown(fitted(ranked(12)), 36)
    assert "left out for want of room: note, seconds;" in " ".join(narrower.split())


def test_of_few_rows_nothing_is_left_out() -> None:
    assert shown(fitted(ranked(3)), 50).startswith("000000000000: outcome failed;")
    assert "left out" not in shown(fitted(ranked(3)), 50)


@pytest.mark.parametrize("words", [["results"], ["images"]])
def test_a_run_of_many_trials_is_a_table_in_80_columns(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = Path(__file__).parents[2] / "benchmarks" / "study" / "small"
    said = CliRunner().invoke(main, [*words, str(run), "--where", "batch_size == 64"]).stdout
    assert re.search(r"^─+$", said, re.MULTILINE)
    assert not re.search(r"^\w{12}:", said, re.MULTILINE)
    assert max(map(len, said.splitlines())) <= 80
    assert ("left out for want of room: " in said) == (words == ["results"])


def test_headers_go_on_in_the_next_line_and_lose_the_part_that_needs_no_saying() -> None:
    table = Table("optimizer.name", "optimizer.lr", "attack.radius", "evaluation.radius", "last val robust")
    for row in (("sgd", "0.1", "1", "2", "40.00"), ("deat", "0.2", "3", "4", "50.00")):
        table.add_row(*row)
    assert [line.rstrip() for line in shown(fitted(table), 48).splitlines()] == [
        "                                      last",
        "                attack.  evaluation.  val",
        "optimizer  lr   radius   radius       robust",
        "─" * 44,
        "sgd        0.1  1        2            40.00",
        "deat       0.2  3        4            50.00",
    ]


def test_a_table_too_wide_for_its_columns_is_a_paragraph_a_row() -> None:
    table = Table("trial_id", "optimizer.lr", "last val robust", "verdict")
    table.add_row("a" * 12, "0.012345678901234567", "40.00", "")
    table.add_row("b" * 12, "0.1", "50.00", "better than the baseline")
    assert shown(fitted(table), 40).splitlines() == [
        "aaaaaaaaaaaa: lr 0.012345678901234567;",
        "  last val robust 40.00",
        "bbbbbbbbbbbb: lr 0.1;",
        "  last val robust 50.00;",
        "  verdict better than the baseline",
    ]


def test_a_row_of_numbers_is_named_by_its_header() -> None:
    table = Table("epoch", *(f"quite a long header {n}" for n in range(9)))
    table.add_row("7", *(f"0.123456789{n}" for n in range(9)))
    assert shown(fitted(table), 40).splitlines()[0] == "epoch 7:"


def test_markup_is_none_and_tables_within_groups_are_fitted_too() -> None:
    table = Table("name", "estimate", title="title")
    table.add_row(Text("x" * 30), Text("0.5 [n/a]"))
    text = shown(fitted(Group(Text("a note"), Group(table))), 40)
    assert text.splitlines()[:2] == ["a note", "title"]
    assert "0.5 [n/a]" in text


def test_a_stdout_of_ascii_has_lines_of_ascii() -> None:
    for width in (40, 80, 300):
        assert shown(fitted(intervals()), width, "ascii").isascii()
        assert "\\u" not in shown(fitted(intervals()), width, "ascii")


def test_a_line_that_goes_on_is_indented_and_lines_that_fit_stay() -> None:
    lines = "one line of several words\n  its own line\n"
    table = Table("name", title="a title of several words", caption="a caption of several words")
    table.add_row("a " * 30)
    text = shown(fitted(Group(Text(lines), table)), 16)
    assert [line.rstrip() for line in text.splitlines()][:5] == [
        "one line of",
        "  several words",
        "  its own line",
        "",
        "a title of",
    ]
    assert "\na caption of\n  several words\n" in text
