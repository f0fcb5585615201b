"""The page that explains the statistics: its words are those that tables print, its factors Student's."""

from __future__ import annotations

import doctest
import re

import pytest
from doc_pages import ROOT
from scipy import stats

from analysis import glossary
from analysis.claims import effects

PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


def row(head: str) -> list[str]:
    """The cells of the table's row that begins so."""
    (line,) = re.findall(rf"^\| {re.escape(head)} \|(.*)\|$", PAGE, re.MULTILINE)
    return [cell.strip() for cell in line.split(" | ")]


def test_there_are_thirteen_words_and_the_page_has_each_as_tables_explain_it() -> None:
    assert len(glossary.GLOSSARY) == 13
    assert {word: row(f"**{word}**") for word in glossary.GLOSSARY} == {
        word: [meaning] for word, meaning in glossary.GLOSSARY.items()
    }


def test_the_standard_errors_to_each_side_are_students() -> None:
    seeds, factors = (list(map(float, row(head))) for head in ("seeds", "standard errors to each side"))
    assert factors == pytest.approx(stats.t.ppf(0.975, [n - 1 for n in seeds]), rel=2e-3)


def test_the_page_on_the_published_numbers_gives_the_reason_that_the_command_gives() -> None:
    assert effects._TEST_CHOSEN in " ".join((ROOT / "docs" / "published.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2 percentage points, undecided", ["percentage points", "undecided"]),
        ("18 cells", ["cell"]),
        ("three points, an appointment, a cellar", []),
    ],
)
def test_only_the_words_of_a_text_are_explained(text: str, words: list[str]) -> None:
    assert glossary.words_in([text]) == [f"{word}: {glossary.GLOSSARY[word]}" for word in words]


def test_examples_hold() -> None:
    tried = doctest.testmod(glossary)
    assert (tried.failed, tried.attempted > 0) == (0, True)
