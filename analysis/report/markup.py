"""HTML in which every text is escaped: what stands in records is shown, never obeyed."""

from __future__ import annotations

import html
import json
from typing import Any

from trainers.visible import encodable, visible

#: Elements without content.
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Html(str):
    """Markup that may stand in a page as it is."""

    __slots__ = ()


def text(value: object) -> Html:
    """Any value as it stands between tags or in an attribute; markup stays as it is.

    >>> text("<b>'\\x1b"), text(Html("<b>"))
    ('&lt;b&gt;&#x27;\\\\x1b', '<b>')
    """
    return value if isinstance(value, Html) else Html(html.escape(encodable(visible(str(value)))))


def element(name: str, /, *content: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: of the tag.
        content: markup, or values that are shown; None: nothing.
        attributes: `class_` for class, `data_x` for data-x; True: without a value; None and False: left out.

    >>> element("p", "1 < 2", class_="note", hidden=False)
    '<p class="note">1 &lt; 2</p>'
    """
    known = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    shown = "".join(
        f" {key}" if value is True else f' {key}="{text(value)}"'
        for key, value in known
        if value is not None and value is not False
    )
    opened = f"<{name}{shown}>"
    return Html(opened if name in _VOID else f"{opened}{joined(*content)}</{name}>")


def joined(*parts: object) -> Html:
    """Markup and values one after the other; None: nothing."""
    return Html("".join(text(part) for part in parts if part is not None))


def prose(value: object) -> Html:
    """A text in which `commands` stand in backticks, as terminals show them.

    >>> prose("see `sweep claims`")
    'see <code>sweep claims</code>'
    """
    parts = str(value).split("`")
    if len(parts) % 2 == 0:  # one that opens nothing
        return text(value)
    return joined(*(element("code", part) if place % 2 else part for place, part in enumerate(parts)))


def table(header: list[str], rows: list[list[object]], caption: str = "", numbers: int | None = None) -> Html:
    """A table in a box that scrolls by itself where it is too wide.

    Args:
        header: names of the columns.
        rows: markup or values.
        caption: what it is.
        numbers: from which column on values stand to the right; None: in none.
    """

    def cells(tag: str, values: list[Any]) -> Html:
        right = len(values) if numbers is None else numbers
        return joined(*(element(tag, one, class_="number" if n >= right else None) for n, one in enumerate(values)))

    body = joined(*(element("tr", cells("td", row)) for row in rows))
    head = element("thead", element("tr", cells("th", list(header))))
    said = element("caption", caption) if caption else None
    return element("div", element("table", said, head, element("tbody", body)), class_="wide", tabindex="0")


def data(name: str, value: Any) -> Html:
    """A value for scripts, as JSON in an element that no browser runs.

    >>> data("d", ["</script>"])
    '<script type="application/json" id="d">["\\\\u003c/script>"]</script>'
    """
    shown = json.dumps(_visible(value), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Html(f'<script type="application/json" id="{text(name)}">{shown}</script>')


def _visible(value: Any) -> Any:
    """The same with every text made visible."""
    if isinstance(value, str):
        return encodable(visible(value))
    if isinstance(value, dict):
        return {_visible(key): _visible(one) for key, one in value.items()}
    return [_visible(one) for one in value] if isinstance(value, list | tuple) else value
