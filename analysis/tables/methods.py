"""The comparison of methods and the slots' effects as text: for the terminal, CSV, JSON and Markdown."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from pandas import Series
from rich.console import Group, RenderableType
from rich.text import Text

from analysis.claims.ledger import Claim
from analysis.claims.questions import asked_by
from analysis.estimates.crossed import BOTH, SEEDS
from analysis.estimates.intervals import Estimate
from analysis.estimates.methods import (
    EDGE,
    NO_PRESETS,
    ROBUST,
    SELF_CHOSEN,
    MethodResult,
    Verdict,
    results_frame,
)
from analysis.estimates.slot_effects import SlotEffect, effects_frame
from analysis.frames.cells import better_text, left_out_text
from analysis.frames.names import interval_text, of_spread, readable, short
from analysis.frames.pruned import pruned_text
from analysis.tables.claims import judged_lines
from analysis.tables.export import csv_text, json_text
from analysis.tables.sheet import cells, console_table, markdown_table
from trainers.fields import plural

#: No comparison under another attack.
NOTHING: Mapping[str, Any] = {}

#: Families of their own, and named so: the ledger's p (Holm) is over its lines.
_OF_METHODS = ("p (methods)", "Holm (methods)")
_OF_EFFECTS = ("p (effects)", "Holm (effects)")

_NUMERIC = ("n", "pairs", "seeds", *_OF_METHODS, *_OF_EFFECTS)

#: The claim of the ledger that is asked of methods at their best.
(_ASKED,) = asked_by("methods")

_VERDICTS: dict[str, Verdict] = {"supported": "better", "contradicted": "worse", "undecided": "undecided"}

_AS_CLAIMED = f"{_ASKED} as `sweep claims` judges it"

_OWN_BEST = (
    "each method at its own best cell (one configuration with all its seeds), which validation chose; accuracies in "
    "% {}, means over n seeds"
)
_LAST = "at the last epoch"
_BRACKETS = (
    "brackets: 95 % t intervals over seeds ({}). They leave out the error of the test set, which is the same for all "
    "methods, and that of choosing the cell"
)
_BOTH_BRACKETS = f"brackets: 95 % intervals over {BOTH} ({{}}). They leave out the error of choosing the cell"
_MIXED_BRACKETS = (
    f"brackets: 95 % intervals, t over seeds or over {BOTH} ({{}}). They leave out the error of choosing the cell, and "
    "those over seeds alone that of the test set too"
)
_CUT = "intervals are cut at what can be: 0 and 100 for an accuracy, -100 and 100 for a difference"

_SELF_CHOSEN_NOTE = (
    "undecided because the same seeds chose each method's best cell, which flatters the method with more cells near "
    "its best; other seeds have to decide: by --chosen-by-seed"
)

_EFFECTS_NOTE = (
    "robust test accuracy in percentage points: mean over pairs of methods that differ in that slot (a part "
    "of a method, such as AWP) alone, each at its own best cell; brackets: 95 % {}interval over {}, the pairs averaged "
    "within each; no interval for one seed, equal differences and where the pairs have different seeds; no p where the "
    "same seeds chose the cells"
)

Row = dict[str, str]

Said = TypeVar("Said", bound=Hashable)


def methods_view(
    results: Sequence[MethodResult],
    effects: Sequence[SlotEffect],
    claims: Sequence[Claim] = (),
    presets: Mapping[str, str] = NO_PRESETS,
    under: str = "",
) -> RenderableType:
    """Both as tables for the terminal, with the notes that they need, below the ledger's answer on DEAT.

    Args:
        results: of `analysis.estimates.methods.comparison`.
        effects: of `analysis.estimates.slot_effects.slot_effects`.
        claims: the ledger; none: its answer stands elsewhere.
        presets: of `analysis.tables.settings.preset_of_each`.
        under: of `analysis.tables.evaluations.attack_text`, where accuracies are of an evaluation; none: of training's
            own.
    """
    lines = [*map(Text, answers(claims))]
    rows = cells(results_rows(results, presets)) if results else (["method"], [])
    below: list[RenderableType] = [*map(Text, notes(results, under))]
    if effects:
        table = console_table(*cells(effects_rows(effects)), title="effect of each slot", right=_NUMERIC)
        below += [Text(""), table, Text(_effects_note(effects))]
    title = f"methods {under}" if under else "methods"
    return Group(*lines, console_table(*rows, title=title, right=_NUMERIC), *below)


def methods_text(
    results: Sequence[MethodResult],
    effects: Sequence[SlotEffect],
    form: str,
    claims: Sequence[Claim] = (),
    presets: Mapping[str, str] = NO_PRESETS,
    under: str = "",
    evaluated: Mapping[str, Any] = NOTHING,
) -> str:
    """Both as `json` or `markdown`; as `csv` the methods alone, for a CSV holds one table.

    Args:
        results: of `analysis.estimates.methods.comparison`.
        effects: of `analysis.estimates.slot_effects.slot_effects`.
        form: csv, json or markdown.
        claims, presets, under: as in `methods_view`.
        evaluated: of `evaluated_frames`; JSON alone holds it.
    """
    if form == "csv":
        return csv_text(results_frame(results, presets))
    if form == "json":
        tables = {"methods": results_frame(results, presets), "slot_effects": effects_frame(effects)}
        return json_text({**tables, "claims": [claim for claim in claims if claim.name == _ASKED], **evaluated})
    lines = [f"**methods {under}**"] if under else []
    lines += [f"- {line.strip()}" for line in answers(claims)]
    lines += [""] if lines else []
    lines += [f"{markdown_table(*cells(results_rows(results, presets)), right=_NUMERIC)}\n"] if results else [""]
    lines += [f"- {note}".replace(EDGE, rf"\{EDGE}") for note in notes(results, under)]
    if effects:
        table = markdown_table(*cells(effects_rows(effects)), right=_NUMERIC)
        lines += ["", f"{table}\n", f"- {_effects_note(effects)}"]
    return "\n".join(lines) + "\n"


def evaluated_frames(
    results: Sequence[MethodResult], effects: Sequence[SlotEffect], under: str, presets: Mapping[str, str] = NO_PRESETS
) -> dict[str, Any]:
    """The comparison under an attack of `sweep evaluate`, for JSON; the arguments are those of `methods_text`."""
    return {
        "evaluated_under": under.removeprefix("under "),
        "evaluated_methods": results_frame(results, presets),
        "evaluated_slot_effects": effects_frame(effects),
    }


def answers(claims: Sequence[Claim]) -> list[str]:
    """What the ledger says of DEAT and SGD at their best, where the trials can judge it."""
    measured = any(claim.name == _ASKED and claim.verdict != "not measured" for claim in claims)
    return judged_lines(claims, _ASKED) if measured else []


def as_judged(results: Sequence[MethodResult], claims: Sequence[Claim]) -> list[MethodResult]:
    """The methods, DEAT at its best against SGD's with the ledger's interval and verdict where the trials are the same.

    Its own would be a second answer to one question: by a variance pooled over methods, in another family of tests, and
    by t where `--decide` stopped at its n.

    Args:
        results: of `analysis.estimates.methods.comparison`.
        claims: the ledger.
    """

    def judged(row: MethodResult) -> MethodResult:
        claim = _same_question(row.model, row.difference.value, claims) if row.method == "DEAT" else None
        if claim is None:
            return row
        return replace(
            row,
            difference=Estimate(claim.estimate, claim.low, claim.high),
            p_value=np.nan,
            p_holm=np.nan,
            test=f"{SELF_CHOSEN}; interval: {_AS_CLAIMED}" if row.self_chosen else _AS_CLAIMED,
            verdict=_VERDICTS[claim.verdict],
            reason=claim.reason,
        )

    return [judged(row) for row in results]


def stopped_text(claims: Sequence[Claim]) -> str:
    """What to add where trials are compared by other accuracies than those by which `--decide` stopped at their seeds.

    >>> stopped_text([])
    ''
    """
    stopped = any(claim.sequential for claim in claims if claim.name == _ASKED)
    return "; --decide stopped at these seeds by training's accuracies, for which no p here allows" if stopped else ""


def effects_as_judged(effects: Sequence[SlotEffect], claims: Sequence[Claim]) -> list[SlotEffect]:
    """`as_judged` of the slots' effects, of which DEAT - SGD may be the ledger's.

    Args:
        effects: of `analysis.estimates.slot_effects.slot_effects`.
        claims: the ledger.
    """

    def judged(row: SlotEffect) -> SlotEffect:
        claim = _same_question(row.model, row.estimate, claims) if row.label.startswith("DEAT - ") else None
        if claim is None:
            return row
        verdict = _VERDICTS[claim.verdict]
        row = replace(row, low=claim.low, high=claim.high, p=np.nan, p_holm=np.nan, verdict=verdict)
        return replace(row, holds=claim.holds)

    return [judged(row) for row in effects]


def _same_question(model: str, estimate: float, claims: Sequence[Claim]) -> Claim | None:
    """The ledger's line on DEAT and SGD at their best in this network, if it is of the same trials: the same number."""
    for claim in claims:
        if (claim.name, claim.network, claim.y) == (_ASKED, model, ROBUST) and claim.verdict in _VERDICTS:
            return claim if math.isclose(claim.estimate, estimate, abs_tol=1e-12) else None
    return None


def results_rows(results: Sequence[MethodResult], presets: Mapping[str, str] = NO_PRESETS) -> list[Row]:
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
            "robust": interval_text(*result.robust, factor=100),
            "clean": interval_text(*result.clean, factor=100),
            "robust - baseline": interval_text(*result.difference, sign="+", factor=100),
            **_p_columns(_OF_METHODS, tested, result.p_value, result.p_holm),
            "verdict": _said(result.verdict),
        }
        for result in results
    ]


def effects_rows(effects: Sequence[SlotEffect]) -> list[Row]:
    """The slots' effects as they are read: header to text."""
    several_models = len({effect.model for effect in effects}) > 1
    tested = any(np.isfinite(effect.p) for effect in effects)
    return [
        {
            **({"model.name": effect.model} if several_models else {}),
            **{key: readable(value) for key, value in effect.conditions.items()},
            "effect": effect.label,
            "robust": interval_text(effect.estimate, effect.low, effect.high, sign="+", factor=100),
            "pairs": str(effect.pairs),
            "seeds": str(effect.seeds or "differ"),
            **_p_columns(_OF_EFFECTS, tested, effect.p, effect.p_holm),
            "verdict": _said(effect.verdict),
        }
        for effect in effects
    ]


def _said(verdict: Verdict) -> str:
    """A verdict as it is read; files have `n/a` where there is none."""
    return "none" if verdict == "n/a" else verdict


def _p_columns(names: tuple[str, str], tested: bool, p: float, p_holm: float) -> Row:
    """Both p, nothing where none of the table was tested."""
    return dict(zip(names, (short(p, 2), short(p_holm, 2)), strict=True)) if tested else {}


def _named(result: MethodResult, results: Sequence[MethodResult]) -> str:
    """The method, with its network where there are several, and what it was measured under."""
    model = [result.model] if len({other.model for other in results}) > 1 else []
    return ", ".join([*model, result.method, *(f"{key} {short(value)}" for key, value in result.conditions.items())])


def _of_cell(result: MethodResult, axis: str) -> str:
    value = readable({**result.conditions, **result.cell}.get(axis))
    return f"{value}{EDGE}" if value and axis == "optimizer.lr" and result.edge else value


def notes(results: Sequence[MethodResult], under: str = "") -> list[str]:
    """What a reader of the comparison has to know, one line each."""
    known = Series([bool(np.isfinite(result.robust.low)) for result in results if np.isfinite(result.robust.value)])
    brackets = _brackets(results)
    lines = [
        _OWN_BEST.format(under or _LAST),
        of_spread(brackets, known, "no interval: one seed, or seeds that do not differ"),
    ]
    lines += _by_other_seeds(results)
    ends = [end for r in results for end in (*r.robust[1:], *r.clean[1:], *r.difference[1:], *r.own[1:])]
    if {0.0, 1.0, -1.0} & set(ends):
        lines.append(_CUT)
    if any(result.test == _AS_CLAIMED for result in results):
        lines.append(f"DEAT: {_AS_CLAIMED}")
    base = next((result.method for result in results if result.verdict == "baseline"), "")
    tested = [result for result in results if np.isfinite(result.p_value)]
    if tested:
        tests = " or ".join(dict.fromkeys(result.test for result in tested))
        together = (
            f"{len(tested)} are tested together, so each needs stronger evidence: Holm (methods) below 0.05 decides"
            if len(tested) > 1
            else "Holm (methods) below 0.05 decides"
        )
        lines.append(f"differences from {base}, {tests}; {together}")
    if untested := [result for result in results if result.self_chosen]:
        how = " or ".join(dict.fromkeys(result.test.rpartition("interval: ")[2] for result in untested))
        lines += [f"differences from {base}: {how}", _SELF_CHOSEN_NOTE]
    decided = [result for result in results if result.verdict in ("better", "worse")]
    if decided:
        alone = sum(result.own.low > 0 or result.own.high < 0 for result in decided)
        lines.append(
            f"{plural(len(decided), 'verdict')}; the intervals from each pair's own seeds alone "
            f"(own_low, own_high in the CSV) exclude 0 for {alone} of them"
        )
    if lost := ", ".join(f"{result.diverged} of {result.method}" for result in results if result.diverged):
        lines.append(f"diverged at the best cell, which other seeds chose, and are in no mean: {lost}")
    if left_out := left_out_text(sum(result.left_out for result in results)):
        lines.append(left_out)
    doubts = (
        better_text(one.left_out_better, one.best_left_out, one.chosen_by, _named(one, results)) for one in results
    )
    lines += filter(None, doubts)
    if pruned := sum(result.pruned for result in results):
        lines.append(pruned_text(pruned, sum(result.trials for result in results)))
    if at_edge := [result for result in results if EDGE in _of_cell(result, "optimizer.lr")]:
        among = edge_of(sum(result.pruned for result in at_edge))
        lines.append(f"{EDGE} the best learning rate is at the edge of those {among}: a better one may lie beyond")
    return [*lines, *_reasons(results)]


def edge_of(pruned: int) -> str:
    """Among which learning rates the best one is at the edge, in words: those of pruned trials were tried too.

    >>> edge_of(0), edge_of(3)
    ('tried', 'that completed (others were pruned)')
    """
    return "that completed (others were pruned)" if pruned else "tried"


def _grouped(pairs: Iterable[tuple[Said, str]]) -> dict[Said, str]:
    """What is said of several methods, with their names: to `PGD-AT, DEAT`."""
    names: defaultdict[Said, list[str]] = defaultdict(list)
    for said, method in pairs:
        names[said].append(method)
    return {said: _listed(list(dict.fromkeys(methods))) for said, methods in names.items()}


def _listed(methods: Sequence[str]) -> str:
    """Names one after the other; those that hold commas themselves behind other marks."""
    return (" | " if any("," in name for name in methods) else ", ").join(methods)


def _brackets(results: Sequence[MethodResult]) -> str:
    """Whose error the intervals hold and whose variance they take, with the methods where it is not so for all."""
    pairs = zip(_intervals(results), results, strict=True)
    texts = [(text, one.method) for both_of_one, one in pairs for text in both_of_one if text]
    both = {text.startswith(BOTH) for text, _ in texts}
    template = _MIXED_BRACKETS if len(both) > 1 else _BOTH_BRACKETS if True in both else _BRACKETS
    prefix = "" if len(both) > 1 else f"{BOTH}, " if True in both else "t, "
    robust, clean = ({pair[place] for pair in _intervals(results) if pair[place]} for place in (0, 1))
    if len(robust) == len(clean) == 1 and robust != clean:
        by_accuracy = (("robust", *robust), ("clean", *clean))
        return template.format("; ".join(f"{name}: {text.removeprefix(prefix)}" for name, text in by_accuracy))
    whose = _grouped((text.removeprefix(prefix), method) for text, method in texts)
    return template.format(
        "".join(whose) if len(whose) < 2 else "; ".join(f"{text}: {names}" for text, names in whose.items())
    )


def _intervals(results: Sequence[MethodResult]) -> list[tuple[str, str]]:
    """How the intervals of each method's robust and clean accuracy were made, in words."""
    return [(one.robust_interval, one.clean_interval) for one in results]


def _effects_note(effects: Sequence[SlotEffect]) -> str:
    """What the slots' effects are, and whose error their intervals hold."""
    holds = list(dict.fromkeys(effect.holds for effect in effects if np.isfinite(effect.low))) or [SEEDS]
    return _EFFECTS_NOTE.format("t " if holds == [SEEDS] else "", " or over ".join(holds))


def _by_other_seeds(results: Sequence[MethodResult]) -> list[str]:
    """Which seeds chose the cells, and which are compared there, where they are others."""
    chose = next((_seeds(result.choosers) for result in results if result.choosers), "")
    if not chose:
        return []
    compared = _grouped((_seeds(result.seeds), result.method) for result in results)
    whose = [f"{seeds} ({names})" if len(compared) > 1 else seeds for seeds, names in compared.items() if seeds]
    return [f"{chose} chose each method's cell; compared there: {'; '.join(whose) or 'no seed'}"]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else ""


def _lacking(result: MethodResult) -> str:
    """What a method has not, or its verdict."""
    return "n 0" if not result.n else "no verdict" if result.verdict == "n/a" else result.verdict


def _reasons(results: Sequence[MethodResult]) -> list[str]:
    """Why methods have no cell or no verdict, one line a reason; that all chose for themselves is said already."""
    said = [result for result in results if result.reason and not result.self_chosen]
    whose = _grouped(((_lacking(one), one.reason), one.method) for one in said)
    return [f"{verdict} ({names}): {reason}" for (verdict, reason), names in whose.items()]
