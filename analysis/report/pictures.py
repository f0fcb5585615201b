"""Figures and tables on the page: those of `sweep figures`, drawn of the same numbers."""

from __future__ import annotations

import base64
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from csv import DictReader

from PIL import Image

from analysis.figures import painted
from analysis.paper import figures as paper_figures
from analysis.plots.plan import Product
from analysis.report.markup import Html, element, joined, prose, table
from trainers.fields import plural

#: Bytes of an SVG over which a PNG takes its place, and trials of a figure: a mark of each is some hundred bytes.
MOST_SVG, MOST_DRAWN = 120_000, 300

#: Points of width over which a figure takes the whole page: in half of it, its letters would be too small to read.
_WIDE = 560

#: Dots of a PNG to a point.
_DOTS = 150 / 72

_SIZE = re.compile(rb'<svg [^>]*width="([\d.]+)pt" height="([\d.]+)pt"')

_PAPER = tuple(plan.name for plan in paper_figures.PLANS)

#: A figure to the one that draws the same curves, and more.
_ALIKE = {"accuracy_lr": "figure4"}

#: What Markdown marks: its own escapes, and bold.
_ESCAPED, _BOLD = re.compile(r"\\([|*_])"), re.compile(r"^\*\*(.*)\*\*$")


def pictures(made: Iterable[Product]) -> Html:
    """Every figure with its caption, the paper's own last; of two with the same curves, one."""
    drawn = {one.name: one for one in made if one.picture is not None}
    for name, other in _ALIKE.items():
        if name in drawn and other in drawn and _panels(drawn[name]) <= _panels(drawn[other]):
            del drawn[name]
    return joined(*map(_figure, sorted(drawn.values(), key=lambda one: one.name in _PAPER)))


def _panels(product: Product) -> set[tuple[str, str]]:
    """The trials of a figure, each with the batch size whose panel it is in: `all` where one panel has all sizes."""
    return {
        (row["trial_id"], row["batch_size"]) for row in DictReader(io.StringIO(product.texts[f"{product.name}.csv"]))
    }


def not_drawn(skipped: Mapping[str, str]) -> Html | None:
    """The figures and tables that these trials do not allow, by what they lack, folded up; None where there is none."""
    if not skipped:
        return None
    lacking: defaultdict[str, list[str]] = defaultdict(list)
    for name, why in skipped.items():
        lacking[why].append(name)
    items = [element("li", element("strong", ", ".join(names)), f": {why}") for why, names in lacking.items()]
    summary = f"Figures and tables that these trials do not allow, and why ({len(skipped)})"
    return element("details", element("summary", summary), element("ul", *items), class_="sheet", id="not-drawn")


def _figure(product: Product) -> Html:
    address, width, height = encoded(product)
    picture = element("img", src=address, alt=product.caption or product.name, width=width, height=height)
    counted = f"{plural(len(product.trials), 'trial')}; numbers: {', '.join(_stems(product))} of `sweep figures`"
    larger = element("button", picture, type="button", aria_pressed="false", title="Larger, or as it was")
    said = element("figcaption", element("span", prose(product.caption)), element("small", prose(counted)))
    paper = element("div", larger, class_="paper")
    kind = "wide" if width > _WIDE else None
    return element("figure", paper, said, id=f"figure-{product.name}", class_=kind)


def _stems(product: Product) -> list[str]:
    return [name for name in product.texts if name.endswith(".csv")]


def encoded(product: Product) -> tuple[str, int, int]:
    """A figure as the address of itself, SVG or where that is long PNG, with its width and height in points."""
    if len(product.trials) <= MOST_DRAWN:
        (content,) = painted(product, ["svg"])
        if len(content) <= MOST_SVG:
            width, height = (round(float(one)) for one in _SIZE.search(content).groups())  # type: ignore[union-attr]
            return _address("svg+xml", content), width, height
    content, size = _in_few_colours(*painted(product, ["png"]))
    width, height = (round(one / _DOTS) for one in size)
    return _address("png", content), width, height


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _in_few_colours(png: bytes) -> tuple[bytes, tuple[int, int]]:
    """The same with a palette of 256 colours, a third of its bytes; and its width and height in dots."""
    held, picture = io.BytesIO(), Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(held, "png", optimize=True)
    return held.getvalue(), picture.size


def tables(made: Iterable[Product]) -> Html:
    """Every table that has a text, folded up."""
    texts = [(one.name, one.texts[f"{one.name}.md"]) for one in made if f"{one.name}.md" in one.texts]
    return joined(*(from_markdown(text) for _, text in texts))


def from_markdown(text: str) -> Html:
    """A table as `analysis.tables.sheet.markdown` writes it."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    caption, parts = "", []
    for lines in blocks:
        if lines[0].startswith("|"):
            header, _, *rows = (_cells(line) for line in lines)
            parts.append(table(list(map(str, header)), rows, numbers=1))
        elif lines[0].startswith("- "):
            parts.append(element("ul", *(element("li", prose(_plain(line[2:]))) for line in lines), class_="note"))
        else:
            caption = str(_plain(" ".join(lines)))
    return element("details", element("summary", _BOLD.sub(r"\1", caption) or "table"), *parts, class_="sheet")


def _cells(line: str) -> list[object]:
    return [_marked(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _marked(cell: str) -> object:
    bold = _BOLD.match(cell)
    return element("strong", _plain(bold[1])) if bold else _plain(cell)


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
