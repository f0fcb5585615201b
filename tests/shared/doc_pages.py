"""The pages of the documentation as values: their blocks of code, and the commands in these.

A block that `<!-- run -->` stands above is run by tests/docs/test_walk.py, page by page; `<!-- run: WORDS -->` appends
words to its launches there, so that they take seconds. Commands in all other blocks are parsed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

#: Every page that is written by hand.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^>]+) -->\n)?^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    """Of its first line of text, from 1."""
    language: str
    text: str
    mark: str
    """What stands in the comment above it; empty: none does."""

    @property
    def is_run(self) -> bool:
        """Whether its commands are run, and not parsed alone."""
        return re.match(r"run\b", self.mark) is not None

    @property
    def appended(self) -> str:
        """What its launches get besides where they are run."""
        return self.mark.partition(":")[2].strip() if self.is_run else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All blocks in a language of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for one in _BLOCK.finditer(text):
            line = text.count("\n", 0, one.start("text")) + 1
            found.append(Block(page, line, one["language"], one["text"], one["mark"] or ""))
    return [block for block in found if block.language == language]


def commands(block: Block) -> list[list[str]]:
    """Its lines as words, each command by itself: without comments, continued lines as one, split at && and ;."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [_words(line) for line in lines]
    return [part for line in words for part in _parts(line) if part]


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|>")
    lexer.whitespace_split = True
    return list(lexer)


def _parts(words: list[str]) -> list[list[str]]:
    """Split where a shell would end a command; where its output goes is no word of it."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in (";", "&&", "|", "||"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [part[: part.index(">")] if ">" in part else part for part in parts]
