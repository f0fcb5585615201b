"""The claims ledger as text: for the terminal, at 100 columns or fewer, and JSON."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from pandas import DataFrame

from analysis.claims.evidence import MOST_FURTHER
from analysis.claims.ledger import STAND_IN, Claim
from analysis.claims.literature import Finding
from analysis.estimates.crossed import BOTH, WITHOUT
from analysis.frames.names import interval_text, label, short
from analysis.frames.pruned import BIAS, PRUNED
from analysis.glossary import words_in
from analysis.tables.export import json_text
from trainers.fields import plural

#: Columns of text, where there is room for them.
WIDTH = 100

_COLUMNS = (("network", 24), ("effect [95 % interval]", 27), ("n", 12), ("p (Holm)", 8), ("verdict", 12))

_UNITS = {
    "fraction": "percentage points",
    "fraction a decade": "percentage points a decade",
    "ratio": "% more time",
}

_STOPPED = (
    "seeds were added until a claim was decided (--decide): you may look after every seed, for these intervals "
    "(confidence sequences) stay valid, and are wider for it"
)

_VERDICTS = (
    "supported: the interval lies wholly where the claim holds; contradicted: wholly where it does not; where lines "
    "are tested together, p (Holm) is below 0.05 too"
)

_OF_TIME = "; where a % stands behind it, of training time, in % more"

#: What `errors_text` means.
_ALLOWED = {
    f"over {BOTH}": ": other seeds and other test images are allowed for",
    WITHOUT: ": with other test images, effects would move by more than they say",
}

_OF_CELLS = (
    "n in cells: there is one seed, and such an interval tells how cells differ, not what another seed would bring; "
    "nothing is decided by it"
)

_P = (
    "p: how often chance alone would bring an effect this far from the limit in brackets behind the claim, if the "
    "truth lay there; small: hardly chance"
)


def claims_text(claims: Sequence[Claim], width: int = WIDTH) -> str:
    """A paragraph a claim: its statement, a line a network, and what a reader has to know of them.

    Args:
        claims: of `analysis.claims.ledger`.
        width: no line is longer.

    Returns:
        The text that `sweep claims` prints.
    """
    rooms = _rooms(claims, width)
    head = "  ".join(f"{name:<{room}}" for (name, _), room in zip(_COLUMNS, rooms, strict=True))
    blocks = [_block([claim for claim in claims if claim.name == name], width, rooms) for name in _names(claims)]
    about = ", ".join(dict.fromkeys(label(claim.y).removesuffix(" (%)") for claim in claims)) or "accuracies"
    legend = [
        f"effect: of {about}, in percentage points{_OF_TIME * any(map(_is_percent, claims))}; each interval is of its "
        "line by itself",
        _VERDICTS,
        f"{_P}. {_family(claims)}",
        *([_OF_CELLS] if any(claim.replicate == "cell" and STAND_IN not in claim.caveat for claim in claims) else []),
        *([_STOPPED] if any(claim.sequential for claim in claims) else []),
        *([f"intervals {errors}{_ALLOWED.get(errors, '')}"] if (errors := errors_text(claims)) else []),
        *([f"where pruned trials are left out, {BIAS}"] if any(PRUNED in claim.left_out for claim in claims) else []),
    ]
    legend += words_in([*chain(*blocks), *legend])
    parts = [_wrapped(head, width), *blocks, [part for text in legend for part in _wrapped(text, width, indent="")]]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def claims_json(claims: Sequence[Claim | Finding]) -> str:
    """Every field of every line; null where there is no number, accuracies as fractions, times in seconds."""
    return json_text(claims)


def claims_frame(claims: Sequence[Claim]) -> DataFrame:
    """The ledger as a table: every field of every line, accuracies as fractions; `registered` where the run is."""
    frame = DataFrame([{**vars(claim), "left_out": ", ".join(_counts(claim))} for claim in claims])
    return frame if any(claim.registered for claim in claims) else frame.drop(columns="registered", errors="ignore")


def sentence(claim: Claim) -> str:
    """A claim's line in words, as it stands wherever else its question is spoken of.

    `deat_equal_lr, small_cnn: -9.09 [-35.17, +16.99] percentage points, n = 2 seeds, p (Holm) 0.42: undecided`, then
    what the verdict does not say, or why it is none.
    """
    return f"{claim.name}{', ' if _whose(claim) else ': '}{_said(claim)}"


def answer(claim: Claim, *, reason: bool = True) -> str:
    """The numbers and the verdict of a `sentence`; in a picture short, and without the reason of its being none."""
    if claim.verdict == "not measured":
        return f"not measured: {claim.note}"
    _, effect, n, p_holm, verdict = _values(claim)
    verdict = f"{verdict} because {claim.reason}" if claim.reason and reason else verdict
    said = "; ".join(filter(None, [verdict, claim.caveat]))
    unit = _UNITS[claim.unit] if reason else _UNITS[claim.unit].removeprefix("percentage ")
    return f"{effect} {unit}, n = {n}, p (Holm) {p_holm}: {said}"


def _said(claim: Claim) -> str:
    """`sentence` where the claim's name stands above it."""
    return f"{_whose(claim)}: {answer(claim)}" if _whose(claim) else answer(claim)


def judged_lines(claims: Sequence[Claim], *names: str) -> list[str]:
    """The claims that the trials can judge, each with its statement and its lines; nothing where there is none.

    Args:
        claims: the whole ledger.
        names: of these claims alone, then also those that are not measured; none: of all.
    """
    shown = [c for c in claims if (c.name in names if names else c.verdict != "not measured")]
    errors = f" {text}" if (text := errors_text(claims)) else ""
    lines = [f"claims, as `sweep claims` judges them (95 % intervals{errors}; {_family(claims)})"]
    for name in _names(shown):
        own = [claim for claim in shown if claim.name == name]
        lines += [f"{name}: {own[0].statement} ({rule_and_mark(own[0])})", *(f"  {_said(claim)}" for claim in own)]
    return [*lines, *(f"({word})" for word in words_in(lines))] if shown else []


def errors_text(claims: Sequence[Claim]) -> str:
    """Whether the accuracies' intervals hold the error of the test set; goes on `intervals`, and empty: there is none.

    Where some do, the fewer claims are named.

    >>> errors_text([])
    ''
    """
    judged = [claim for claim in claims if claim.verdict != "not measured" and claim.unit != "ratio"]
    parts = {f"over {BOTH}": [c for c in judged if c.holds == BOTH], WITHOUT: [c for c in judged if c.holds != BOTH]}
    most, fewest = sorted(parts, key=lambda text: -len(parts[text]))
    if not parts[fewest]:
        return most if judged else ""
    return f"{most}; only those of {', '.join(_lines_named(parts[fewest], parts[most]))} {fewest}"


def _lines_named(claims: Sequence[Claim], others: Sequence[Claim]) -> list[str]:
    """The claims' names; of one that has lines among the others too, with whose line it is."""
    also = {claim.name for claim in others}
    return list(dict.fromkeys(f"{c.name} ({_whose(c)})" if c.name in also else c.name for c in claims))


def _family(claims: Sequence[Claim]) -> str:
    """What p (Holm) allows for: all lines that have a p, but for a claim that a launch was to decide."""
    decides = "p (Holm) below 0.05 decides"
    if any(claim.sequential for claim in claims):
        together = "lines are tested together, so each needs stronger evidence"
        return f"{together}, but the claim of --decide by itself: {decides}"
    tested = sum(math.isfinite(claim.p) for claim in claims)
    if tested > 1:
        return f"{tested} lines are tested together, so each needs stronger evidence: {decides}"
    return f"one line is tested: {decides}" if tested else "no line can be tested"


def rule(claim: Claim) -> str:
    """Where the claim holds, in words: `holds above 0 percentage points`."""
    number = f"{100 * (claim.threshold - (claim.unit == 'ratio')):.6g}"
    unit = _UNITS[claim.unit]
    bound = f"{number} {unit.replace('points', 'point') if number == '1' else unit}"
    return f"holds within +-{bound}" if claim.region == "within" else f"holds {claim.region} {bound}"


def rule_and_mark(claim: Claim) -> str:
    """`rule`, and of a registered run whether the claim was asked before its first trial."""
    return "; ".join(filter(None, [rule(claim), claim.registered]))


def _values(claim: Claim) -> tuple[str, ...]:
    """What stands under `_COLUMNS`."""
    none = claim.unit == "ratio"  # in percent more time, of which a ratio of 1 is none
    estimate, low, high = (value - none for value in (claim.estimate, claim.low, claim.high))
    effect = interval_text(estimate, low, high, sign="+", factor=100) or "none [no interval]"
    return _whose(claim), effect, plural(claim.n, claim.replicate), short(claim.p_holm, 2) or "none", claim.verdict


def _is_percent(claim: Claim) -> bool:
    return claim.unit == "ratio" and math.isfinite(claim.estimate)


def _cells(claim: Claim) -> tuple[str, ...]:
    """`_values`, with the unit of an effect that is in no percentage points."""
    whose, effect, *others = _values(claim)
    return whose, f"{effect}{' %' * _is_percent(claim)}", *others


def _rooms(claims: Sequence[Claim], width: int) -> list[int]:
    """How wide the columns are: as in `_COLUMNS`, or where that is too wide, as their contents, or not aligned."""
    if width >= WIDTH:
        return [room for _, room in _COLUMNS]
    rows = [[name for name, _ in _COLUMNS], *(_cells(claim) for claim in claims if claim.verdict != "not measured")]
    rooms = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return rooms if sum(rooms) + 2 * len(rooms) <= width else [0] * len(rooms)


def _block(claims: Sequence[Claim], width: int, rooms: Sequence[int]) -> list[str]:
    """One claim's paragraph."""
    first, measured = claims[0], sum(claim.verdict != "not measured" for claim in claims)
    head = _wrapped(f"{first.name}: {first.statement} ({rule_and_mark(first)})", width, indent="")
    if not measured:
        left_out = [part for text in _left_out(first) for part in _wrapped(text, width, indent="    ")]
        return [*head, *_wrapped(_not_measured(first), width), *left_out]
    lines = [part for claim in claims for part in _wrapped(_line(claim, rooms), width)]
    remarks = [remark for claim in claims for remark in _remarks(claim)]
    said = Counter(what for whose, what in remarks if whose)
    remarks = [("" if said[what] == measured else whose, what) for whose, what in remarks]
    remarks.sort(key=lambda remark: bool(remark[0]))  # what is said of all first
    notes = dict.fromkeys(f"{whose}{what}" for whose, what in remarks)
    return [*head, *lines, *(part for note in notes for part in _wrapped(note, width, indent="    "))]


def _line(claim: Claim, rooms: Sequence[int]) -> str:
    """One line of the ledger: network, effect with interval, n, Holm's p and verdict; unmeasured, why."""
    if claim.verdict == "not measured":
        return f"{_whose(claim)}  {_not_measured(claim)}"
    return "  ".join(f"{value:<{room}}" for value, room in zip(_cells(claim), rooms, strict=True)).rstrip()


def _not_measured(claim: Claim) -> str:
    return f"not measured: {claim.note}; {claim.config} measures it"


def _whose(claim: Claim) -> str:
    """Network and method, as far as the line is of one."""
    return ", ".join(filter(None, [claim.network, claim.of]))


def _remarks(claim: Claim) -> Iterator[tuple[str, str]]:
    """(whose, what) of a line: how it was had, what is left out, what would decide it."""
    whose = f"{_whose(claim)}: "
    if claim.verdict == "not measured":  # its line says why
        yield from ((whose, text) for text in _left_out(claim))
        return
    for part in filter(None, claim.caveat.split("; ")):
        yield ("" if part == STAND_IN else whose), part
    yield "", claim.method
    if math.isfinite(claim.seeds_low):
        ends = interval_text(claim.estimate, claim.seeds_low, claim.seeds_high, sign="+", factor=100)
        if ends != _values(claim)[1]:  # where the images add nothing it is the line's own
            yield whose, f"interval over seeds alone, on these test images: {ends}"
    yield from (("", part) for part in filter(None, claim.note.split("; ")))
    yield from ((whose, text) for text in _left_out(claim))
    if claim.reason:
        yield whose, f"undecided because {claim.reason}"
    if claim.verdict == "undecided" and (further := _further(claim)):
        yield ("" if claim.replicate == "cell" else whose), further


def _left_out(claim: Claim) -> list[str]:
    """At most one line: the trials that are not used, by why."""
    return [f"left out: {', '.join(_counts(claim))}"] if claim.left_out else []


def _counts(claim: Claim) -> list[str]:
    return [f"{plural(n, 'trial')} ({why})" for why, n in claim.left_out.items()]


def _further(claim: Claim) -> str:
    """What would decide, with its interval; nothing where no number of the same replicates would."""
    if claim.reason and math.isnan(claim.p):
        return ""
    if claim.replicate == "cell":
        return "undecided: each cell has one value, whose noise only the runs behind it would tell"
    if claim.further_low is None:
        seen = plural(claim.n, claim.replicate)
        return f"{seen} cannot tell how many further {claim.replicate}s would decide"
    more = f"more than {MOST_FURTHER}"
    if claim.further_low >= MOST_FURTHER:
        return f"{more} further {claim.replicate}s would be needed to decide"
    noun = f"further {claim.replicate}"
    about = f"{more} {noun}s" if claim.further is None else f"about {plural(claim.further, noun)}"
    cost = f", about {_duration(claim.further_seconds)} of trials" if math.isfinite(claim.further_seconds) else ""
    return f"{about} would decide (95 % interval {claim.further_low} to {claim.further_high or more}){cost}"


def _duration(seconds: float) -> str:
    """As a person says it: `42 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=f"{indent}  ")


def _names(claims: Iterable[Claim]) -> list[str]:
    return list(dict.fromkeys(claim.name for claim in claims))
