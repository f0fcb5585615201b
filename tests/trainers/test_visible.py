"""Text of others on its way to a screen."""

from __future__ import annotations

import unicodedata

import pytest

from trainers.visible import MOST, brief, encodable, in_line, shortened, visible


def test_of_all_characters_a_terminal_is_left_only_newline_and_tab_to_obey() -> None:
    every = "".join(map(chr, range(0x110000)))
    left = {mark for mark in visible(every) if unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp")}
    assert left == {"\n", "\t"}
    turns = {
        mark
        for mark in visible(every)
        if unicodedata.bidirectional(mark)[-1:] in ("E", "O", "I") or mark in "\u202c\u2069"
    }
    assert not {mark for mark in turns if unicodedata.category(mark) == "Cf"}


@pytest.mark.parametrize("text", ["", "plain", "a\nb\tc", "漢 ± é – 8/255", "العربية"])
def test_what_a_terminal_only_shows_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = shortened("a" * 10_000 + "z")
    assert (text[:3], text[-2:]) == ("aaa", "az")
    assert len(text) < MOST + 40
    assert shortened("a" * MOST) == "a" * MOST


@pytest.mark.parametrize(
    "value", [10**5000, list(range(10**5)), "x" * 10**6, {"a": "\x1b" * 10**5}], ids=["int", "list", "str", "dict"]
)
def test_every_value_has_a_brief_text(value: object) -> None:
    assert len(brief(value)) < MOST + 40


def test_a_message_is_one_line_in_which_a_long_value_leaves_where_and_the_way_out() -> None:
    line = in_line(f"where: got {'x' * 100_000}\nand {'y' * 100_000}; the way out")
    assert (line.startswith("where: got xxx"), line.endswith("yyy; the way out")) == (True, True)
    assert (line.count("\n"), len(line) < 600) == (0, True)
    assert len(in_line("a b " * 100_000)) < 2100


def test_a_name_whose_bytes_are_no_utf_8_can_be_written() -> None:
    assert encodable("a\udcff\ud800b").encode("utf-8") == rb"a\udcff\ud800b"
