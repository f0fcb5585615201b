"""Text of others on its way to a screen: nothing in it that a terminal obeys, and no more of it than one reads."""

from __future__ import annotations

import re
from typing import Any

#: Characters of a value that a message shows, half of them from its beginning and half from its end.
MOST = 200

#: Of a message of one line.
_LINE = 2000

#: C0 but tab and newline, DEL, C1; line ends and turns of direction of Unicode; surrogates, which no encoding has.
#: [Boucher and Anderson, Trojan Source, USENIX Security 2023: the turns]
_OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_WORD = re.compile(rf"\S{{{MOST + 101},}}")  # a path of usual length stays whole


def visible(text: str) -> str:
    r"""The text with each character that a terminal would obey, but newline and tab, as its escape.

    >>> visible("a\x1b[31mb\u202ec\n")
    'a\\x1b[31mb\\u202ec\n'
    """
    return _OBEYED.sub(_escape, text)


def shortened(text: str, most: int = MOST) -> str:
    """The text, of which the middle is left out where it is longer.

    >>> shortened("a" * 500 + "b" * 500, 10)
    'aaaaa ... 1000 characters ... bbbbb'
    """
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {len(text)} characters ... {text[-half:]}"


def brief(value: Any) -> str:
    """A value as Python writes it, in at most `MOST` characters and a word on how many they were."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits; what holds itself
        return f"a {type(value).__name__} that is too long to write out"


def in_line(text: str, most: int = _LINE) -> str:
    r"""The text in one line of bounded length; a word that is very long, such as a value, is shortened first.

    >>> in_line("one\nline")
    'one\\nline'
    """
    words = _WORD.sub(lambda word: shortened(word[0]), text)
    return visible(shortened(words, most)).replace("\n", r"\n")


def hanging(line: str, width: int) -> str:
    r"""The line broken between its words, so that a terminal need not break it in one; what goes on is indented.

    >>> hanging("sweep: no such file", 13)
    'sweep: no\n  such file'
    """
    import textwrap

    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def encodable(text: str) -> str:
    """The text that UTF-8 can write: a surrogate, as in a name whose bytes are no UTF-8, as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
