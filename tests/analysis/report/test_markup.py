"""What others wrote is shown in a page, and never obeyed."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from analysis.report.markup import Html, data, element, joined, table

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><b>',
    "' onmouseover='alert(1)",
    "<!--<script>",
    "{{constructor}}",
    "\x1b[31m\u202e\x00",
    "\ud800",
)


class Reader(HTMLParser):
    """The elements and texts that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    return reader


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_one_text_wherever_it_stands(text: str) -> None:
    seen = read(element("p", text, title=text))
    assert [name for name, _ in seen.elements] == ["p"]
    assert list(seen.elements[0][1]) == ["title"]
    seen = read(table([text], [[text, element("b", text)]], caption=text))
    assert {name for name, _ in seen.elements} == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "b"}


@pytest.mark.parametrize("text", HOSTILE)
def test_data_come_back_from_json_and_end_no_element(text: str) -> None:
    markup = data("d", {text: [text, 1.5, None, True]})
    inside = markup.removeprefix('<script type="application/json" id="d">').removesuffix("</script>")
    assert "<" not in inside
    ((key, values),) = json.loads(inside).items()
    assert values[1:] == [1.5, None, True]
    assert key == values[0]
    assert markup.isascii()


def test_an_attribute_of_nought_is_one_and_none_is_none() -> None:
    assert element("rect", x=0, y=None, hidden=True, open=False) == '<rect x="0" hidden></rect>'
    assert joined("<", None, Html("<br>"), 1) == "&lt;<br>1"


def test_data_that_no_browser_can_read_are_refused() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        data("d", float("nan"))
