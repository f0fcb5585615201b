"""The claims ledger: what the study says of robust accuracy, each claim with its effect, interval and verdict.

A verdict is read from an interval, never from a failed test: a claim is supported if the interval lies wholly where
the claim says, contradicted if wholly elsewhere, else undecided. `p` is the smallest level at which the interval would
decide, Holm's adjustment over all lines of the ledger (`p_holm`) makes the verdicts hold at 5 % together.

It is the answer to each of its questions: whatever else speaks of one prints these lines, in the words of
`analysis.tables.claims`, and shows another view of the same trials as what it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.claims import effects
from analysis.claims.blocks import ROBUST, Effect, NotMeasured, Options, published_settings
from analysis.claims.evidence import MOST_FURTHER, Evidence, of_values
from analysis.claims.questions import QUESTIONS, Question, Region, Unit, question
from analysis.claims.study import Study
from analysis.estimates.intervals import holm
from analysis.estimates.ranges import clipped, possible_difference
from analysis.frames.cells import Mode, one_budget, same_budget
from analysis.frames.names import short

Verdict = Literal["supported", "contradicted", "undecided", "not measured"]

#: How much of robust accuracy (fraction) and how much more time (share) still pass for none.
MARGIN, TIME_MARGIN = 0.01, 0.05

CONFIDENCE = 0.95

#: Why a completed trial is left out of a claim: of another setting, without its counterpart, or its cell lacks a seed.
UNMATCHED = "not of this claim or unmatched"

_MEANS = "each cell is the mean of 3 runs, which are not published"

#: What the published lines of one network do not say.
STAND_IN = "the cells of one network stand in for replicates"

_ACROSS = "its interval leaves out 0, but holds values within the margin as well as beyond it"


@dataclass(frozen=True)
class Claim:
    """One line of the ledger: a claim in one network, or over several. Accuracies are fractions, times seconds."""

    name: str
    statement: str
    network: str
    """A model's name; `3 networks` where they are the replicates; empty: measured in none."""
    of: str
    """The method that it is asked of; empty: it is about several."""
    verdict: Verdict
    unit: Unit
    estimate: float = np.nan
    low: float = np.nan
    """Of the interval at 95 %, for this line alone; NaN or infinite where there is none."""
    high: float = np.nan
    region: Region = "above"
    threshold: float = np.nan
    """The claim holds where the effect is `region` this, in its unit."""
    n: int = 0
    """Replicates."""
    replicate: str = ""
    """What n counts: seed, cell or network."""
    n_trials: int = 0
    method: str = ""
    """Of the effect and its interval."""
    sequential: bool = False
    """Whether the interval is valid though n was stopped at."""
    p: float = np.nan
    """Smallest alpha at which the interval of 1 - alpha decides."""
    p_holm: float = np.nan
    further: int | None = None
    """Replicates that would decide, if effect and spread are as estimated, with power 0.8; None: more than
    `analysis.claims.evidence.MOST_FURTHER`, or, where `further_low` is None too, not to be said."""
    further_low: int | None = None
    further_high: int | None = None
    """Ends of its 95 % interval (`analysis.claims.evidence.Evidence.further_interval`); high None: more than that; low
    at most that."""
    further_seconds: float = np.nan
    """What `further` would take one after another."""
    caveat: str = ""
    """What the verdict does not say yet."""
    reason: str = ""
    """Why it is undecided, where that is not plain from its interval; goes on `undecided because`."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Trials of the network that are not used, by why."""
    note: str = ""
    config: str = ""
    """That would measure it, where it is not."""
    y: str = ROBUST
    """The accuracy that the ledger is about."""


def ledger(
    study: Study,
    *,
    margin: float = MARGIN,
    time_margin: float = TIME_MARGIN,
    metric: str = "val_robust",
    mode: Mode = "max",
    y: str = ROBUST,
    only: str | None = None,
) -> tuple[Claim, ...]:
    """Every claim in every network, and over the networks where there are several, with verdicts that hold together.

    Where a launch stopped at its number of seeds (`sweep launch --decide`), all intervals are of
    `analysis.claims.evidence`, and the claim that it was to decide, named beforehand, is a family of its own.

    Args:
        study: a run's or the published one.
        margin: of accuracy, a fraction, below which a difference passes for none.
        time_margin: of time, a share.
        metric: of validation; what best cells are chosen by.
        mode: max for an accuracy, min for a loss.
        y: the accuracy that claims are about, such as last_test_clean.
        only: a claim; none: all.
    """
    chooser = "last_test_robust" if study.published else f"last_{metric}"
    confirm = "deat_own_best" in study.launched
    best = "max" if study.published else mode
    options = Options(chooser, best, bool(study.launched), y, confirm, study.choosers, study.published)
    lines: list[tuple[Claim, Evidence | None, float]] = []
    for asked in QUESTIONS if only is None else (question(only),):
        lines += _asked(asked, study, options, asked.threshold(margin, time_margin))
    families = [
        (line[0].name if line[0].name in study.launched and line[1] is not None else "", line) for line in lines
    ]
    decided: dict[int, Claim] = {}
    for family in dict.fromkeys(name for name, _ in families):
        members = [place for place, (name, _) in enumerate(families) if name == family]
        decided |= dict(zip(members, _judged([lines[place] for place in members]), strict=True))
    return tuple(decided[place] for place in range(len(lines)))


def _stated(statement: str, y: str) -> str:
    """The statement with the accuracy that it is about."""
    word = y.rpartition("_")[2]
    return statement.format(accuracy=word.capitalize() if statement.startswith("{") else word)


def _asked(
    asked: Question, study: Study, options: Options, threshold: float
) -> list[tuple[Claim, Evidence | None, float]]:
    """The claim's lines without verdicts, each with its evidence and the seconds of one replicate."""
    trials = study.trials
    if asked.name in study.launched and asked.name != "deat_own_best":
        trials = trials[trials["trial_id"].isin(study.launched[asked.name])]
    base = Claim(
        asked.name,
        _stated(asked.statement, options.y),
        "",
        "",
        "not measured",
        asked.unit,
        region=asked.region,
        threshold=_shown(asked, threshold),
        y=options.y,
    )
    options = replace(options, by_turns=asked.name in study.launched)
    found: list[tuple[Claim, Effect | NotMeasured]] = []
    for model, part in trials.groupby("model.name", sort=False):
        usable, left_out = one_budget(part)
        if usable.empty:
            nothing = replace(base, network=str(model), left_out=left_out)
            found.append((nothing, NotMeasured("no completed trial")))
            continue
        own, lost = options, usable.iloc[:0]
        if asked.name == "deat_own_best":  # a cell in which a choosing seed diverged is no candidate
            wanted = same_budget(part)
            lost = wanted[wanted["outcome"] == "diverged"]
            own = replace(options, choosers=options.choosers or effects.choosing_seeds(wanted))
        for method, rows in methods_of(usable) if asked.by_method else [("", usable)]:
            effect = asked.measure(pd.concat([rows, lost]) if len(lost) else rows, own)
            found.append(
                (replace(base, network=str(model), of=method, left_out=_left_out(left_out, rows, effect)), effect)
            )
    measured = [(claim, effect) for claim, effect in found if isinstance(effect, Effect)]
    if not measured:
        reasons = dict.fromkeys(effect.reason for _, effect in found if isinstance(effect, NotMeasured))
        counts = found[0][0].left_out if len(found) == 1 else {}
        none = "no trials" if asked.name not in study.launched else "no trial of the launches that were to decide it"
        note = "; ".join(reasons) or none
        return [(replace(base, note=note, left_out=counts, config=asked.config), None, math.nan)]
    lines = [_line(claim, asked, effect) for claim, effect in found]
    if study.published:
        lines = [(_as_published(line) if e else line, e, s) for line, e, s in lines]
    return [*lines, *_over_networks(base, asked, measured, options)]


def _line(claim: Claim, asked: Question, effect: Effect | NotMeasured) -> tuple[Claim, Evidence | None, float]:
    if isinstance(effect, NotMeasured):
        return replace(claim, note=effect.reason, config=asked.config), None, math.nan
    return _measured(claim, asked, effect), effect.evidence, effect.seconds


def _as_published(line: Claim) -> Claim:
    notes, caveats = ("; ".join(filter(None, both)) for both in ((_MEANS, line.note), (line.caveat, STAND_IN)))
    return replace(line, note=notes, caveat=caveats)


def methods_of(usable: DataFrame) -> list[tuple[str, DataFrame]]:
    """PGD-AT and DEAT with their published constants; of a run without either, every method."""
    found = [(str(name), rows) for name, rows in published_settings(usable).groupby("method", sort=False)]
    return [(name, rows) for name, rows in found if name in ("PGD-AT", "DEAT")] or found


def _left_out(counts: Mapping[str, int], rows: DataFrame, effect: Effect | NotMeasured) -> dict[str, int]:
    """What `one_budget` left out, and the trials that are not of the effect."""
    rest = len(rows) - len(effect.trials) if isinstance(effect, Effect) else 0
    return {**counts, **({UNMATCHED: rest} if rest else {})}


def _measured(base: Claim, asked: Question, effect: Effect) -> Claim:
    evidence = effect.evidence
    low, high = evidence.interval(1 - CONFIDENCE)
    if asked.unit == "fraction":
        low, high = clipped(low, high, possible_difference(base.y))
    return replace(
        base,
        estimate=_shown(asked, evidence.estimate),
        low=_shown(asked, low),
        high=_shown(asked, high),
        n=evidence.n,
        replicate=effect.replicate,
        n_trials=len(effect.trials),
        method=effect.method,
        sequential=evidence.law == "sequence",
        note=effect.note,
        caveat=effect.caveat,
        reason="; ".join(filter(None, [effect.untested, _without_interval(evidence, effect.replicate)])),
    )


def _without_interval(evidence: Evidence, replicate: str) -> str:
    """Why there is no interval; empty: there is one."""
    if evidence.known:
        return ""
    if evidence.n == 1:
        return f"one {replicate} gives no interval"
    if evidence.freedom <= 0:
        return f"{evidence.n} {replicate}s are too few for an interval"
    return f"the {evidence.n} {replicate}s' effects are equal, which gives no interval"


def _over_networks(
    base: Claim, asked: Question, found: Sequence[tuple[Claim, Effect]], options: Options
) -> list[tuple[Claim, Evidence | None, float]]:
    """The lines in which networks are the replicates; none of a range, which has no mean, nor of a run stopped at."""
    lines: list[tuple[Claim, Evidence | None, float]] = []
    for method in dict.fromkeys(claim.of for claim, _ in found):
        of_method = [effect for claim, effect in found if claim.of == method]
        if len(of_method) < 2 or options.sequential or of_method[0].evidence.is_range:
            continue
        evidence = of_values(np.array([effect.evidence.estimate for effect in of_method]))
        how = f"mean of the networks' effects ({of_method[0].method.partition(';')[0]}); t over networks"
        together = replace(
            of_method[0],
            evidence=evidence,
            replicate="network",
            method=how,
            trials=pd.concat([effect.trials for effect in of_method]),
            note="",
            untested=next((effect.untested for effect in of_method if effect.untested), ""),
        )
        line = replace(base, network=f"{len(of_method)} networks", of=method)
        lines.append((_measured(line, asked, together), evidence, math.nan))
    return lines


def _judged(lines: Sequence[tuple[Claim, Evidence | None, float]]) -> list[Claim]:
    """One family's claims with p, verdict and what would decide them."""
    gaps = [_gap(claim) for claim, _, _ in lines]
    p_values = np.array(
        [
            evidence.level(gap) if evidence is not None and not claim.reason else math.nan
            for (claim, evidence, _), gap in zip(lines, gaps, strict=True)
        ]
    )
    adjusted = holm(p_values)
    tested, open_ones = int(np.isfinite(adjusted).sum()), int((adjusted >= 1 - CONFIDENCE).sum())
    judged = []
    for (claim, evidence, seconds), gap, p, p_holm in zip(lines, gaps, p_values, adjusted, strict=True):
        claim = replace(claim, p=float(p), p_holm=float(p_holm), verdict=_verdict(claim, evidence, float(p_holm)))
        if p < 1 - CONFIDENCE <= p_holm:
            claim = replace(claim, reason=_by_holm(tested, float(p), float(p_holm)))
        elif claim.verdict == "undecided" and claim.region == "within" and (claim.low > 0 or claim.high < 0):
            claim = replace(claim, reason=claim.reason or _ACROSS)
        if p_holm >= 1 - CONFIDENCE and evidence is not None and claim.replicate != "cell":
            claim = _foretold(claim, evidence, gap, (1 - CONFIDENCE) / open_ones, seconds)
        judged.append(claim)
    return judged


def _by_holm(tested: int, p: float, p_holm: float) -> str:
    return (
        f"{tested} lines are tested together: this one alone would be decided at 5 % (p {short(p, 2)}), "
        f"all together it is not (Holm's p {short(p_holm, 2)})"
    )


def _foretold(claim: Claim, evidence: Evidence, gap: float, alpha: float, seconds: float) -> Claim:
    """With the replicates that would decide; without, where their interval leaves out nothing."""
    further, (low, high) = evidence.further(gap, alpha), evidence.further_interval(gap, alpha)
    if low == 1 and high is None:
        return claim
    cost = seconds * further if further is not None and claim.replicate == "seed" else math.nan
    low = MOST_FURTHER if low is None else low
    return replace(claim, further=further, further_low=low, further_high=high, further_seconds=cost)


def _verdict(claim: Claim, evidence: Evidence | None, p_holm: float) -> Verdict:
    if evidence is None:
        return "not measured"
    if not p_holm < 1 - CONFIDENCE:
        return "undecided"
    asked = question(claim.name)
    return "supported" if asked.agrees(evidence.estimate, _raw(asked, claim.threshold)) else "contradicted"


def _gap(claim: Claim) -> float:
    asked = question(claim.name)
    return asked.gap(_raw(asked, claim.estimate), _raw(asked, claim.threshold))


def _shown(asked: Question, value: float) -> float:
    """A measured value in the claim's unit: of a logarithm its exponential."""
    return math.exp(value) if asked.unit == "ratio" else value


def _raw(asked: Question, value: float) -> float:
    return math.log(value) if asked.unit == "ratio" else value
