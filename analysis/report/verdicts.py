"""The claims on the page: each with its interval drawn, its numbers, its verdict, and what that means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from matplotlib.ticker import MaxNLocator

from analysis.claims.ledger import Claim
from analysis.claims.meaning import meaning, shown
from analysis.frames.names import interval_text, short
from analysis.report.markup import Html, element, joined, prose
from analysis.tables.claims import errors_text, rule_and_mark
from trainers.fields import plural

#: What stands before a verdict, which colour alone does not tell.
_MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "not measured": "–"}

_UNITS = {
    "fraction": "percentage points",
    "fraction a decade": "percentage points a decade",
    "ratio": "% more time",
}

#: Of the drawing of an interval, in its own units; and of the numbers below it.
_WIDTH, _HEIGHT, _EDGE, _SCALE = 240.0, 26.0, 14.0, 15.0

#: Steps of the scale below an interval, at most.
_STEPS = 7


def verdicts(claims: Sequence[Claim]) -> Html:
    """A card a claim, those that were measured first."""
    names = list(dict.fromkeys(claim.name for claim in claims))
    cards = {name: [claim for claim in claims if claim.name == name] for name in names}
    asked = {name: lines for name, lines in cards.items() if any(one.verdict != "not measured" for one in lines)}
    others = [lines for name, lines in cards.items() if name not in asked]
    return joined(
        *(_card(lines) for lines in asked.values()),
        _unasked(others) if others else None,
        _how(claims) if asked else None,
    )


def _card(lines: Sequence[Claim]) -> Html:
    first = lines[0]
    span = _span([one for one in lines if one.verdict != "not measured"])
    return element(
        "article",
        element(
            "h3", first.statement, " ", element("span", f"({rule_and_mark(first).replace('+-', '±')})", class_="rule")
        ),
        *(_line(one, span) for one in lines),
        _details(lines),
        class_="claim",
        id=f"claim-{first.name}",
    )


def _line(claim: Claim, span: tuple[float, float]) -> Html:
    whose = ", ".join(filter(None, [claim.network, claim.of])) or "all networks"
    badge = element("span", f"{_MARKS[claim.verdict]} {claim.verdict}", class_=f"badge {claim.verdict.split()[0]}")
    if claim.verdict == "not measured":
        numbers: list[Html] = []
    else:
        estimate, low, high = (shown(claim, value) for value in (claim.estimate, claim.low, claim.high))
        first, _, rest = interval_text(estimate, low, high, sign="+").partition(" ")
        effect = joined(element("strong", first), f" {rest} {_UNITS[claim.unit]}")
        counts = f"n = {plural(claim.n, claim.replicate)}"
        p = f", p (Holm) {short(claim.p_holm, 2)}" if math.isfinite(claim.p_holm) else ""
        numbers = [_drawn(claim, span), element("p", effect, element("span", f"{counts}{p}", class_="n"))]
    return element(
        "div",
        element("div", element("span", whose, class_="whose"), badge, class_="whose-badge"),
        element("div", *numbers, class_="numbers") if numbers else None,
        element("p", prose(meaning(claim)), class_="meaning"),
        class_="line",
    )


def _span(lines: Sequence[Claim]) -> tuple[float, float]:
    """From where to where the intervals of a card are drawn: all of them, 0, and the edge of what the claim says."""
    values = [shown(one, value) for one in lines for value in (one.low, one.high, one.estimate, one.threshold)]
    values += [-shown(one, one.threshold) for one in lines if one.region == "within"]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    room = 0.06 * (high - low or 1.0)
    return low - room, high + room


def _drawn(claim: Claim, span: tuple[float, float]) -> Html:
    """The interval, where the claim holds behind it."""

    def x(value: float) -> float:
        share = (min(max(value, span[0]), span[1]) - span[0]) / (span[1] - span[0])
        return round(_EDGE + share * (_WIDTH - 2 * _EDGE), 1)

    middle, threshold = _HEIGHT / 2, shown(claim, claim.threshold)
    ends = {"above": (threshold, span[1]), "below": (span[0], threshold), "within": (-threshold, threshold)}
    left, right = (x(value) for value in ends[claim.region])
    parts = [
        element("rect", x=left, y=0, width=round(right - left, 1), height=_HEIGHT, class_="holds"),
        element("line", x1=x(0), x2=x(0), y1=0, y2=_HEIGHT, class_="zero"),
    ]
    if math.isfinite(claim.low) and math.isfinite(claim.high):
        low, high = x(shown(claim, claim.low)), x(shown(claim, claim.high))
        parts.append(element("line", x1=low, x2=high, y1=middle, y2=middle, class_="interval"))
        caps = (element("line", x1=end, x2=end, y1=middle - 4, y2=middle + 4, class_="interval") for end in (low, high))
        parts += [*caps]
    parts.append(element("circle", cx=x(shown(claim, claim.estimate)), cy=middle, r=4, class_="estimate"))
    unit = _UNITS[claim.unit]
    said = f"the estimate with its 95 % interval, in {unit}; shaded: where the claim holds; the line: no effect"
    box = f"0 0 {_WIDTH:.0f} {_HEIGHT + _SCALE:.0f}"
    return element("svg", *parts, *_scale(span, x), viewBox=box, role="img", aria_label=said)


def _scale(span: tuple[float, float], x: Callable[[float], float]) -> Iterator[Html]:
    """The axis below an interval: a line, and round numbers along it."""
    yield element("line", x1=x(span[0]), x2=x(span[1]), y1=_HEIGHT, y2=_HEIGHT, class_="axis-line")
    for value in map(float, MaxNLocator(_STEPS, steps=[1, 2, 5, 10]).tick_values(*span)):
        if span[0] <= value <= span[1]:
            yield element("line", x1=x(value), x2=x(value), y1=_HEIGHT, y2=_HEIGHT + 3, class_="axis-line")
            number = f"{value:+g}" if value else "0"
            yield element("text", number, x=x(value), y=_HEIGHT + 12.5, class_="axis-number")


def _details(lines: Sequence[Claim]) -> Html | None:
    """How the lines were had, and what is left out."""
    said: dict[str, None] = {}
    for claim in lines:
        whose = f"{', '.join(filter(None, [claim.network, claim.of]))}: " if len(lines) > 1 else ""
        said |= dict.fromkeys(filter(None, [claim.method, *claim.caveat.split("; ")]))
        if claim.verdict != "not measured":
            said |= dict.fromkeys(filter(None, claim.note.split("; ")))
        said |= {f"{whose}left out: {plural(n, 'trial')} ({why})": None for why, n in claim.left_out.items()}
    if not said:
        return None
    return element(
        "details",
        element("summary", "How this was measured"),
        element("ul", *(element("li", prose(one)) for one in said)),
    )


def _unasked(cards: Sequence[Sequence[Claim]]) -> Html:
    """The claims of which these trials say nothing, in short."""
    items = [element("li", lines[0].statement, " ", element("span", prose(meaning(lines[0])))) for lines in cards]
    count = plural(len(cards), "claim")
    summary = element("summary", f"{count} that these trials cannot speak of")
    return element("details", summary, element("ul", *items), class_="unasked")


def _how(claims: Sequence[Claim]) -> Html:
    """How verdicts are read, once."""
    tested = sum(math.isfinite(claim.p) for claim in claims)
    errors = errors_text(claims)
    together = f"{tested} lines are tested together, so each needs stronger evidence than alone. " if tested > 1 else ""
    means = "Of each published setting there is one value, no repeated runs: the settings stand in for them. "
    sequential = "Seeds were added until a claim was decided; its interval allows for that. "
    return element(
        "p",
        "A claim is supported if its interval lies wholly where the claim holds (shaded), contradicted if wholly "
        "elsewhere, and else undecided. ",
        together,
        means if any(claim.replicate == "cell" for claim in claims) else "",
        sequential if any(claim.sequential for claim in claims) else "",
        f"Brackets are 95 % intervals{f', {errors}' if errors else ''}.",
        class_="note",
    )
