"""The comparison of methods and the slots' effects as text: for the terminal, CSV, JSON and Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from pandas import Series
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.claims.ledger import Claim
from analysis.estimates.intervals import Estimate
from analysis.estimates.methods import (
    EDGE,
    NO_PRESETS,
    ROBUST,
    SELF_CHOSEN,
    MethodResult,
    SlotEffect,
    Verdict,
    effects_frame,
    results_frame,
)
from analysis.frames.cells import left_out_text
from analysis.frames.names import of_spread, short
from analysis.tables.claims import judged_lines
from analysis.tables.export import csv_text, json_text

#: Families of their own, and named so: the ledger's p (Holm) is over its lines.
_OF_METHODS = ("p (methods)", "Holm (methods)")

_OF_EFFECTS = ("p (effects)", "Holm (effects)")

_NUMERIC = ("n", "pairs", "seeds", *_OF_METHODS, *_OF_EFFECTS)

#: The claim of the ledger that is asked of methods at their best.
_ASKED = "deat_own_best"

_VERDICTS: dict[str, Verdict] = {"supported": "better", "contradicted": "worse", "undecided": "undecided"}

_AS_CLAIMED = f"{_ASKED} as `sweep claims` judges it"

_OWN_BEST = (
    "each method at its own best cell by the validation metric; accuracies in % at the last epoch, means over n seeds"
)

_BRACKETS = (
    "brackets: 95 % t intervals over seeds ({}). The test images, the same for all methods, and the choice of the "
    "cell add an error that no bracket holds"
)

_CUT = "intervals are cut at what can be: 0 and 100 for an accuracy, -100 and 100 for a difference"


def methods_view(
    results: Sequence[MethodResult],
    effects: Sequence[SlotEffect],
    claims: Sequence[Claim] = (),
    presets: Mapping[str, str] = NO_PRESETS,
) -> RenderableType:
    """Both as tables for the terminal, with the notes that they need, below the ledger's answer on DEAT.

    Args:
        results: of `analysis.estimates.methods.comparison`.
        effects: of `analysis.estimates.methods.slot_effects`.
        claims: the ledger; none: its answer stands elsewhere.
        presets: of `analysis.tables.settings.preset_of_each`.
    """
    parts: list[RenderableType] = list(map(Text, answers(claims)))
    parts += [_table("methods", results_rows(results, presets)), *map(Text, notes(results))]
    if effects:
        parts += [Text(""), _table("effect of each slot", effects_rows(effects)), Text(_EFFECTS_NOTE)]
    return Group(*parts)


def answers(claims: Sequence[Claim]) -> list[str]:
    """What the ledger says of DEAT and SGD at their best, where the trials can judge it."""
    asked = [claim for claim in claims if claim.name == _ASKED]
    return judged_lines(claims, _ASKED) if any(claim.verdict != "not measured" for claim in asked) else []


def as_judged(results: Sequence[MethodResult], claims: Sequence[Claim]) -> list[MethodResult]:
    """The methods, DEAT at its best against SGD's with the ledger's interval and verdict where the trials are the same.

    Its own would be a second answer to one question: by a variance pooled over methods, in another family of tests, and
    by t where `--decide` stopped at its n.

    Args:
        results: of `analysis.estimates.methods.comparison`.
        claims: the ledger.
    """
    judged = []
    for row in results:
        claim = _same_question(row.model, row.difference.value, claims) if row.method == "DEAT" else None
        if claim is not None:
            how = f"{SELF_CHOSEN}; interval: {_AS_CLAIMED}" if row.self_chosen else _AS_CLAIMED
            answer = Estimate(claim.estimate, claim.low, claim.high)
            verdict = _VERDICTS[claim.verdict]
            row = replace(row, difference=answer, p_value=np.nan, p_holm=np.nan, test=how, verdict=verdict)
            row = replace(row, reason=claim.reason)
        judged.append(row)
    return judged


def effects_as_judged(effects: Sequence[SlotEffect], claims: Sequence[Claim]) -> list[SlotEffect]:
    """`as_judged` of the slots' effects, of which DEAT - SGD may be the ledger's.

    Args:
        effects: of `analysis.estimates.methods.slot_effects`.
        claims: the ledger.
    """
    judged = []
    for row in effects:
        claim = _same_question(row.model, row.estimate, claims) if row.label.startswith("DEAT - ") else None
        if claim is not None:
            verdict = _VERDICTS[claim.verdict]
            row = replace(row, low=claim.low, high=claim.high, p=np.nan, p_holm=np.nan, verdict=verdict)
        judged.append(row)
    return judged


def _same_question(model: str, estimate: float, claims: Sequence[Claim]) -> Claim | None:
    """The ledger's line on DEAT and SGD at their best in this network, if it is of the same trials: the same number."""
    for claim in claims:
        if (claim.name, claim.network, claim.y) == (_ASKED, model, ROBUST) and claim.verdict in _VERDICTS:
            return claim if math.isclose(claim.estimate, estimate, abs_tol=1e-12) else None
    return None


def methods_text(
    results: Sequence[MethodResult],
    effects: Sequence[SlotEffect],
    form: str,
    claims: Sequence[Claim] = (),
    presets: Mapping[str, str] = NO_PRESETS,
) -> str:
    """Both as `json` or `markdown`; as `csv` the methods alone, for a CSV holds one table.

    Args:
        results: of `analysis.estimates.methods.comparison`.
        effects: of `analysis.estimates.methods.slot_effects`.
        form: csv, json or markdown.
        claims, presets: as in `methods_view`.
    """
    if form == "csv":
        return csv_text(results_frame(results, presets))
    if form == "json":
        tables = {"methods": results_frame(results, presets), "slot_effects": effects_frame(effects)}
        return json_text({**tables, "claims": [claim for claim in claims if claim.name == _ASKED]})
    parts = [*(f"- {line}" for line in map(str.strip, answers(claims))), ""] if answers(claims) else []
    parts.append(_markdown(results_rows(results, presets)))
    parts += [*(f"- {note}".replace(EDGE, rf"\{EDGE}") for note in notes(results))]
    if effects:
        parts += ["", _markdown(effects_rows(effects)), f"- {_EFFECTS_NOTE}"]
    return "\n".join(parts) + "\n"


def results_rows(results: Sequence[MethodResult], presets: Mapping[str, str] = NO_PRESETS) -> list[dict[str, str]]:
    """A comparison as it is read: header to text, one mapping a method; a model that all share is left out."""
    columns = dict.fromkeys(axis for result in results for axis in (*result.conditions, *result.cell))
    several_models = len({result.model for result in results}) > 1
    tested = any(np.isfinite(result.p_value) for result in results)
    return [
        {
            **({"model.name": result.model} if several_models else {}),
            "method": result.method,
            **({"preset": presets.get(result.method, "")} if presets else {}),
            **{axis: _of_cell(result, axis) for axis in columns},
            "n": str(result.n),
            "robust": _percent(result.robust),
            "clean": _percent(result.clean),
            "robust - baseline": _percent(result.difference, "+"),
            **_p_columns(_OF_METHODS, tested, result.p_value, result.p_holm),
            "verdict": result.verdict,
        }
        for result in results
    ]


def effects_rows(effects: Sequence[SlotEffect]) -> list[dict[str, str]]:
    """The slots' effects as they are read: header to text."""
    several_models = len({effect.model for effect in effects}) > 1
    tested = any(np.isfinite(effect.p) for effect in effects)
    return [
        {
            **({"model.name": effect.model} if several_models else {}),
            **{key: short(value) for key, value in effect.conditions.items()},
            "effect": effect.label,
            "robust": _percent(Estimate(effect.estimate, effect.low, effect.high), "+"),
            "pairs": str(effect.pairs),
            "seeds": str(effect.seeds or "differ"),
            **_p_columns(_OF_EFFECTS, tested, effect.p, effect.p_holm),
            "verdict": effect.verdict,
        }
        for effect in effects
    ]


def _p_columns(names: tuple[str, str], tested: bool, p: float, p_holm: float) -> dict[str, str]:
    """Both p, nothing where none of the table was tested."""
    return dict(zip(names, (short(p, 2), short(p_holm, 2)), strict=True)) if tested else {}


def notes(results: Sequence[MethodResult]) -> list[str]:
    """What a reader of the comparison has to know, one line each."""
    known = Series([bool(np.isfinite(result.robust.low)) for result in results if np.isfinite(result.robust.value)])
    brackets = _BRACKETS.format(_variances(results))
    lines = [_OWN_BEST, of_spread(brackets, known, "[n/a]: one seed, or seeds that do not differ, have no interval")]
    lines += _by_other_seeds(results)
    ends = [end for r in results for end in (*r.robust[1:], *r.clean[1:], *r.difference[1:], *r.own[1:])]
    if {0.0, 1.0, -1.0} & set(ends):
        lines.append(_CUT)
    if any(result.test == _AS_CLAIMED for result in results):
        lines.append(f"DEAT: {_AS_CLAIMED}")
    tests = dict.fromkeys(result.test for result in results if np.isfinite(result.p_value))
    if tests:
        n = sum(bool(np.isfinite(result.p_value)) for result in results)
        base = next(result.method for result in results if result.verdict == "baseline")
        lines.append(
            f"differences from {base}, {' or '.join(tests)}; a verdict holds at 5 % for all {n} together (Holm)"
        )
    if untested := [result for result in results if result.self_chosen]:
        base = next(result.method for result in results if result.verdict == "baseline")
        how = " or ".join(dict.fromkeys(result.test.rpartition("interval: ")[2] for result in untested))
        lines.append(f"differences from {base}: {how}")
        lines.append(
            "undecided because the same seeds chose the best cells, which flatters the method that has more of them "
            "near its best; --chosen-by-seed has other seeds decide"
        )
    decided = [result for result in results if result.verdict in ("better", "worse")]
    if decided:
        alone = sum(result.own.low > 0 or result.own.high < 0 for result in decided)
        lines.append(
            f"{len(decided)} verdict{'s' * (len(decided) > 1)}; the intervals from each pair's own seeds alone "
            f"(own_low, own_high in the CSV) exclude 0 for {alone} of them"
        )
    if lost := ", ".join(f"{result.diverged} of {result.method}" for result in results if result.diverged):
        lines.append(f"diverged at the best cell, which other seeds chose, and in no mean: {lost}")
    if left_out := left_out_text(sum(result.left_out for result in results)):
        lines.append(left_out)
    if any(EDGE in _of_cell(result, "optimizer.lr") for result in results):
        lines.append(f"{EDGE} the best learning rate is at the edge of those tried: a better one may lie beyond")
    return [*lines, *_reasons(results)]


def _variances(results: Sequence[MethodResult]) -> str:
    """Whose variance the intervals take, with the methods where it is not the same for all."""
    found: dict[str, list[str]] = {}
    for result in results:
        for text in filter(None, (result.robust_interval, result.clean_interval)):
            found.setdefault(text.removeprefix("t, "), []).append(result.method)
    if len(found) < 2:
        return "".join(found)
    return "; ".join(f"{text}: {', '.join(dict.fromkeys(names))}" for text, names in found.items())


def _by_other_seeds(results: Sequence[MethodResult]) -> list[str]:
    """Which seeds chose the cells, and which are compared there, where they are others."""
    if not any(result.choosers for result in results):
        return []
    compared: dict[tuple[int, ...], list[str]] = {}
    for result in results:
        compared.setdefault(result.seeds, []).append(result.method)
    chose = _seeds(next(result.choosers for result in results))
    whose = {seeds: f" ({', '.join(dict.fromkeys(names))})" for seeds, names in compared.items() if len(compared) > 1}
    there = "; ".join(f"{_seeds(seeds)}{whose.get(seeds, '')}" for seeds in compared if seeds) or "no seed"
    return [f"{chose} chose each method's cell; compared there: {there}"]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _reasons(results: Sequence[MethodResult]) -> list[str]:
    """Why methods have no cell or no verdict, one line a reason; that all chose for themselves is said already."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.reason and not result.self_chosen:
            found.setdefault((result.verdict if result.n else "n 0", result.reason), []).append(result.method)
    return [f"{what} ({', '.join(dict.fromkeys(named))}): {reason}" for (what, reason), named in found.items()]


_EFFECTS_NOTE = (
    "robust test accuracy in points: mean over pairs of methods that differ in that slot alone, each at its own best "
    "cell; 95 % t interval over seeds, the pairs averaged within each, n/a for one seed, equal differences and where "
    "the pairs have different seeds; no p where the same seeds chose the cells"
)


def _of_cell(result: MethodResult, axis: str) -> str:
    value = short({**result.conditions, **result.cell}.get(axis))
    return f"{value}{EDGE}" if value and axis == "optimizer.lr" and result.edge else value


def _percent(estimate: Estimate, sign: str = "") -> str:
    """`45.20 [44.10, 46.30]`, nothing for NaN."""
    value, low, high = (100 * number for number in estimate)
    if np.isnan(value):
        return ""
    return f"{value:{sign}.2f} " + ("[n/a]" if np.isnan(low) else f"[{low:{sign}.2f}, {high:{sign}.2f}]")


def _table(title: str, rows: Sequence[dict[str, str]]) -> Table:
    table = Table(title=title)
    for name in rows[0] if rows else ("method",):
        table.add_column(name, justify="right" if name in _NUMERIC else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return ""
    lines = [list(rows[0]), ["---:" if name in _NUMERIC else "---" for name in rows[0]]]
    lines += [[value.replace("|", r"\|").replace("*", r"\*") for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
