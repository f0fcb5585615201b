"""What others published that bears on the claims, as text: a table a setting, a line an epoch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from analysis.claims.literature import Finding, twins
from analysis.frames.names import interval_text, short
from analysis.tables.claims import WIDTH
from trainers.fields import plural

_HEAD = (
    "What others published that bears on these claims, robust accuracy in percent: each value is one run, so that the "
    "seeds' noise is unknown, and no line decides a claim. Where each number stands: "
    "PROVENANCE.md in analysis/published_numbers"
)
_BATCH = (
    "Batch size (bears on ratio, ratio_only): no number of others. Pang et al. 2021 and Gowal et al. 2020 varied it, "
    "but no source of their tables could be read"
)
_SLOPE = (
    "slope: points of accuracy for ten times the setting, by least squares over the values; where accuracies rise and "
    "then fall, it is no more than their mean direction"
)
_CHOSEN = "best epoch: chosen by the test set itself, so that its accuracies are too high"


def findings_text(findings: Sequence[Finding], width: int = WIDTH) -> str:
    """A paragraph a setting: what was varied and held, then for each epoch every value's accuracy and the slope.

    Args:
        findings: of `analysis.claims.literature`.
        width: no line is longer.

    Returns:
        The text that `sweep claims --published` prints below its ledger.
    """
    settings = groupby(findings, lambda one: (one.name, one.source, one.varied))
    blocks = [_block(list(same), width) for _, same in settings]
    legend = [part for text in (_SLOPE, _CHOSEN, _noise()) for part in _wrapped(text, width)]
    parts = [_wrapped(_HEAD, width), *blocks, _wrapped(_BATCH, width), legend]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _block(findings: Sequence[Finding], width: int) -> list[str]:
    first = findings[0]
    head = _wrapped(f"{first.source}: {first.varied} (bears on {first.name})", width)
    rows = [["", *map(short, first.values), "slope a decade [95 % interval]", "highest at"], *map(_row, findings)]
    rooms = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{room}}" for cell, room in zip(row, rooms, strict=True)).rstrip() for row in rows]
    return [*head, *(part for line in (*lines, f"  {_remark(first)}") for part in _wrapped(f"  {line}", width, "    "))]


def _row(one: Finding) -> list[str]:
    slope = interval_text(one.estimate, one.low, one.high, sign="+", factor=100)
    return [one.at, *(f"{100 * accuracy:.2f}" for accuracy in one.values.values()), slope, short(one.highest)]


def _remark(first: Finding) -> str:
    without = f"; without {plural(first.left_out, 'value')} at which nothing was learned" if first.left_out else ""
    return f"{first.setting}; n = {first.n} values{without}; {first.verdict}: {first.reason}"


def _noise() -> str:
    apart = ", ".join(f"{100 * difference:.2f} at epoch {epoch}" for epoch, difference in twins().items())
    return f"noise: two of Rice's runs differ only in whether batch norm and biases decay; points apart: {apart}"


def _wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent)
