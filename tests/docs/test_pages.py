"""The pages lead to each other, and to what is there; the README stays short."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT
from reference_pages import pages

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
OTHERS = [ROOT / name for name in ("DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]


def links(page: Path) -> list[str]:
    """Where its links lead, but for those out of the project; of code there are none."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in LINK.findall(text) if "://" not in link]


#: The pages of the reference, which are files only once the site is built.
MADE = pages()


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of its headings, as they are made of them: small letters, a hyphen for a space, nothing else but letters."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere_in_a_checkout_too(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {link}"
        assert there.parent != ROOT / "docs" / "reference", f"{page.name}: {link}: is there once the site is built"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name}: {link}"


def test_every_page_has_its_place_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = [line for block in re.findall(r"```\{toctree\}(.*?)```", index, re.DOTALL) for line in block.split()]
    names = [name for name in listed if not name.startswith((":", "1")) and re.fullmatch(r"[a-z0-9_/]+", name)]
    there = {path.stem for path in (ROOT / "docs").glob("*.md")} | {f"reference/{name[:-3]}" for name in MADE}
    assert there - {"index"} <= set(names)
    assert len(names) == len(set(names))


def test_no_page_has_a_name_that_sphinx_takes_for_its_own() -> None:
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} & {"search", "genindex", "py-modindex"} == set()


def test_the_readme_has_at_most_120_lines_and_says_how_to_cite() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert max(map(len, text.splitlines())) <= 130
    assert "CITATION.cff" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_stands_between_fences_where_tests_find_it(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\n\n    \S.*", text) == []


def test_no_page_is_long_enough_to_be_two_but_those_of_tables() -> None:
    long = {page.name for page in PAGES if len(page.read_text(encoding="utf-8").splitlines()) > 240}
    assert long == set()
