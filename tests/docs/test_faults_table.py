"""docs/faults.md: each row of its tables names a test that is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = ["Processes", "Nodes", "Storage", "Checkpoints", "Records", "Trials", "Launches"]
HEAD = ["| fault | what is done | lost | test |", "|---|---|---|---|"]
NAME = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def tables() -> dict[str, list[str]]:
    """The lines of each section's table, by its name."""
    sections = re.split(r"^## (.+)$", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {name: text.strip().splitlines() for name, text in zip(sections[::2], sections[1::2], strict=True)}


ROWS = [(section, row) for section, lines in tables().items() for row in lines[2:]]


@cache
def named_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_kind_of_fault_has_its_table() -> None:
    assert {name: lines[:2] for name, lines in tables().items()} == dict.fromkeys(SECTIONS, HEAD)


@pytest.mark.parametrize(("section", "row"), ROWS)
def test_a_row_has_four_cells_and_tests_that_are_there(section: str, row: str) -> None:
    cells = row.strip("|").split(" | ")
    assert len(cells) == 4
    assert all(cell.strip() for cell in cells)
    named = NAME.findall(cells[3])
    assert named
    assert NAME.sub("", cells[3]).strip(" ,") == ""
    for path, test in named:
        assert test in named_in(ROOT / path)


def test_no_row_stands_twice() -> None:
    assert len({row for _, row in ROWS}) == len(ROWS)
