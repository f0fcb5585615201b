"""The claims ledger: what the study says of robust accuracy, each claim with its effect, interval and verdict.

A verdict is read from an interval, never from a failed test: a claim is supported if the interval lies wholly where
the claim says, contradicted if wholly elsewhere, else undecided. `p` is the smallest level at which the interval would
decide, Holm's adjustment over all lines of the ledger (`p_holm`) makes the verdicts hold at 5 % together.

It is the answer to each of its questions: whatever else speaks of one prints these lines, in the words of
`analysis.tables.claims`, and shows another view of the same trials as what it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.claims import effects
from analysis.claims.blocks import ROBUST, Effect, NotMeasured, Options
from analysis.claims.evidence import MOST_FURTHER, Evidence, of_values
from analysis.claims.questions import QUESTIONS, Question, Region, Unit, question
from analysis.claims.registration import Mark
from analysis.claims.study import Study
from analysis.estimates.crossed import BOTH
from analysis.estimates.intervals import holm
from analysis.estimates.ranges import clipped, possible_difference
from analysis.frames.budgets import one_budget, same_budget
from analysis.frames.cells import Mode
from analysis.frames.names import short

Verdict = Literal["supported", "contradicted", "undecided", "not measured"]

#: How much of robust accuracy (fraction) and how much more time (share) still pass for none.
MARGIN, TIME_MARGIN = 0.01, 0.05

CONFIDENCE = 0.95

#: Why a completed trial is left out of a claim: of another setting, without its counterpart, or its cell lacks a seed.
UNMATCHED = "not part of this claim, or without a counterpart"

_MEANS = "each cell is the mean of 3 runs, which are not published"

#: What the published lines of one network do not say.
STAND_IN = "the cells of one network stand in for seeds"

_ACROSS = "the effect is not 0, but may be smaller or larger than the margin"


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
    holds: str = ""
    """Whose error the interval, p and verdict hold: `seeds` (of these test images), `seeds and test images`, cells or
    networks; empty: not measured."""
    seeds_low: float = np.nan
    """Of the interval over seeds alone, on these test images, where `low` and `high` hold both errors."""
    seeds_high: float = np.nan
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
    registered: Mark = ""
    """Whether it was asked so before the first trial (`analysis.claims.registration`)."""


@dataclass(frozen=True)
class Line:
    """A line of the ledger before its verdict."""

    asked: Question
    claim: Claim
    effect: Effect | None = None
    """None: not measured."""

    @property
    def gap(self) -> float:
        """From the estimate to the edge of what the claim says, as it is measured; NaN where nothing was."""
        return self.asked.gap(*map(self.asked.measured, (self.claim.estimate, self.claim.threshold)))

    @property
    def p(self) -> float:
        """Smallest alpha at which the interval of 1 - alpha decides; NaN where none can."""
        return self.effect.evidence.level(self.gap) if self.effect and not self.claim.reason else math.nan


def ledger(
    study: Study,
    *,
    margin: float | None = None,
    time_margin: float | None = None,
    metric: str = "val_robust",
    mode: Mode = "max",
    y: str = ROBUST,
    only: str | None = None,
) -> tuple[Claim, ...]:
    """Every claim in every network, and over the networks where there are several, with verdicts that hold together.

    Where a launch stopped at its number of seeds (`sweep launch --decide`), all intervals are confidence sequences
    (`analysis.claims.evidence`), and the claim that it was to decide, named beforehand, is a family of its own.

    Args:
        study: a run's or the published one.
        margin: of accuracy, a fraction, below which a difference passes for none; None: as registered, or `MARGIN`.
        time_margin: of time, a share; None: as registered, or `TIME_MARGIN`.
        metric: of validation; what best cells are chosen by.
        mode: max for an accuracy, min for a loss.
        y: the accuracy that claims are about, such as last_test_clean.
        only: a claim; none: all.

    Returns:
        A line a claim and network, in the order of the questions: effect, interval, n, p and verdict.
    """
    chooser, mode = ("last_test_robust", "max") if study.published else (f"last_{metric}", mode)
    options = Options(chooser, mode, bool(study.launched), y, study.choosers, study.published)
    kept = study.registration
    margin = margin if margin is not None else kept.margin if kept else MARGIN
    time_margin = time_margin if time_margin is not None else kept.time_margin if kept else TIME_MARGIN
    lines = [
        line
        for asked in (QUESTIONS if only is None else (question(only),))
        for line in _lines(asked, study, options, asked.threshold(margin, time_margin))
    ]
    families = [line.claim.name if line.effect and line.claim.name in study.launched else "" for line in lines]
    judged: dict[int, Claim] = {}
    for family in dict.fromkeys(families):
        places = [place for place, name in enumerate(families) if name == family]
        judged |= dict(zip(places, _judged([lines[place] for place in places]), strict=True))
    claims = (judged[place] for place in range(len(lines)))
    return tuple(replace(claim, registered=_mark(claim, study, metric, mode)) for claim in claims)


def _mark(claim: Claim, study: Study, metric: str, mode: Mode) -> Mark:
    """How the line came to be asked."""
    if study.registration is None:
        return ""
    asked = study.registration.asks(
        claim.name,
        claim.region,
        claim.threshold,
        accuracy=claim.y,
        chosen_by=(metric, mode),
        choosers=study.choosers or () if question(claim.name).confirms else None,
    )
    if asked and not study.late:
        return "registered"
    return "" if claim.verdict == "not measured" else "found afterwards"  # nothing was found of it


def _lines(asked: Question, study: Study, options: Options, threshold: float) -> list[Line]:
    """The claim's lines without verdicts."""
    deciding, trials = asked.name in study.launched, study.trials
    if deciding and not asked.confirms:
        trials = trials[trials["trial_id"].isin(study.launched[asked.name])]
    options = replace(options, deciding=deciding)
    statement, region = asked.asked_in(options.y), asked.region
    claim = Claim(asked.name, statement, "", "", "not measured", asked.unit, region=region, y=options.y)
    base = Line(asked, replace(claim, threshold=threshold))
    lines: list[Line] = []
    for model, part in trials.groupby("model.name", sort=False):
        usable, counts = one_budget(part)
        for method, rows in asked.tasks(usable):
            here = replace(base, claim=replace(base.claim, network=str(model), of=method, left_out=counts))
            lines.append(_with(here, _effect(asked, rows, part, options), study.published, among=len(rows)))
    measured = [line for line in lines if line.effect]
    if not measured:
        none = "no trials" if not deciding else "no trial of the launches that were to decide it"
        note = "; ".join(dict.fromkeys(line.claim.note for line in lines)) or none
        left_out = lines[0].claim.left_out if len(lines) == 1 else {}
        return [replace(base, claim=replace(base.claim, note=note, left_out=left_out, config=asked.config))]
    return [*lines, *_over_networks(base, measured, options)]


def _effect(asked: Question, rows: DataFrame, part: DataFrame, options: Options) -> Effect | NotMeasured:
    """What is measured of the usable rows; where best cells are chosen, those in which a seed diverged are none."""
    if rows.empty:
        return NotMeasured("no completed trial")
    if not asked.confirms:
        return asked.measure(rows, options)
    wanted = same_budget(part)
    lost = wanted[wanted["outcome"] == "diverged"]
    options = replace(options, choosers=options.choosers or effects.choosing_seeds(wanted))
    return asked.measure(pd.concat([rows, lost]) if len(lost) else rows, options)


def _with(line: Line, effect: Effect | NotMeasured, published: bool = False, among: int = 0) -> Line:
    """The line with its effect, or why it has none.

    Args:
        line: whose network and method are known.
        effect: what was measured.
        published: whether of the published study.
        among: so many trials; those that are not of the effect are counted as left out.
    """
    claim, asked = line.claim, line.asked
    if isinstance(effect, NotMeasured):
        return replace(line, claim=replace(claim, note=effect.reason, config=asked.config))
    evidence, unused = effect.evidence, among - len(effect.trials)
    ends = _ends(line, evidence)
    both = effect.replicate == "seed" and evidence.holds == BOTH
    seeds = _ends(line, replace(evidence, images=math.nan)) if both else (np.nan, np.nan)
    notes, caveats = ([_MEANS], [STAND_IN]) if published else ([], [])
    claim = replace(
        claim,
        estimate=asked.shown(evidence.estimate),
        low=ends[0],
        high=ends[1],
        n=evidence.n,
        replicate=effect.replicate,
        n_trials=len(effect.trials),
        method=effect.method,
        sequential=evidence.law == "sequence",
        holds=evidence.holds if effect.replicate == "seed" else f"{effect.replicate}s",
        seeds_low=seeds[0],
        seeds_high=seeds[1],
        note="; ".join(filter(None, [*notes, effect.note])),
        caveat="; ".join(filter(None, [effect.caveat, *caveats])),
        reason="; ".join(filter(None, [effect.untested, _without_interval(evidence, effect.replicate)])),
        left_out=claim.left_out | ({UNMATCHED: unused} if unused > 0 else {}),
    )
    return replace(line, claim=claim, effect=effect)


def _ends(line: Line, evidence: Evidence) -> tuple[float, float]:
    """The ends of the interval, in the claim's unit."""
    low, high = evidence.interval(1 - CONFIDENCE)
    if line.asked.unit == "fraction":
        low, high = clipped(low, high, possible_difference(line.claim.y))
    return line.asked.shown(low), line.asked.shown(high)


def _without_interval(evidence: Evidence, replicate: str) -> str:
    """Why there is no interval; empty: there is one."""
    if evidence.known:
        return ""
    if evidence.n == 1:
        return f"one {replicate} gives no interval"
    if evidence.freedom <= 0:
        return f"{evidence.n} {replicate}s are too few for an interval"
    return f"the {evidence.n} {replicate}s' effects are equal, which gives no interval"


def _over_networks(base: Line, measured: Sequence[Line], options: Options) -> list[Line]:
    """The lines in which networks are the replicates; none of a range, which has no mean, nor of a run stopped at."""
    lines: list[Line] = []
    for method in dict.fromkeys(line.claim.of for line in measured):
        of_method = [line.effect for line in measured if line.claim.of == method and line.effect]
        first = of_method[0]
        if len(of_method) < 2 or options.sequential or first.evidence.is_range:
            continue
        together = replace(
            first,
            evidence=of_values(np.array([effect.evidence.estimate for effect in of_method])),
            replicate="network",
            method=f"mean of the networks' effects ({first.method.partition(';')[0]}); interval: t over networks",
            trials=pd.concat([effect.trials for effect in of_method]),
            note="",
            untested=next((effect.untested for effect in of_method if effect.untested), ""),
        )
        claim = replace(base.claim, network=f"{len(of_method)} networks", of=method)
        lines.append(_with(replace(base, claim=claim), together))
    return lines


def _judged(lines: Sequence[Line]) -> list[Claim]:
    """One family's claims with p, verdict and what would decide them."""
    p_values = np.array([line.p for line in lines])
    adjusted = holm(p_values)
    tested, open_ones = int(np.isfinite(adjusted).sum()), int((adjusted >= 1 - CONFIDENCE).sum())
    judged = []
    for line, p, p_holm in zip(lines, map(float, p_values), map(float, adjusted), strict=True):
        claim = replace(line.claim, p=p, p_holm=p_holm, verdict=_verdict(line, p_holm))
        if p < 1 - CONFIDENCE <= p_holm:
            claim = replace(claim, reason=_by_holm(tested, p, p_holm))
        elif claim.verdict == "undecided" and claim.region == "within" and (claim.low > 0 or claim.high < 0):
            claim = replace(claim, reason=claim.reason or _ACROSS)
        if p_holm >= 1 - CONFIDENCE and line.effect and claim.replicate != "cell":
            claim = _foretold(claim, line.effect, line.gap, (1 - CONFIDENCE) / open_ones)
        judged.append(claim)
    return judged


def _by_holm(tested: int, p: float, p_holm: float) -> str:
    return (
        f"{tested} lines are tested together, so each needs stronger evidence: by itself this one would be decided (p "
        f"{short(p, 2)}), with the others it is not (p (Holm) {short(p_holm, 2)})"
    )


def _foretold(claim: Claim, effect: Effect, gap: float, alpha: float) -> Claim:
    """With the replicates that would decide; without, where their interval leaves out nothing."""
    further, (low, high) = effect.evidence.further(gap, alpha), effect.evidence.further_interval(gap, alpha)
    if low == 1 and high is None:
        return claim
    cost = effect.seconds * further if further is not None and claim.replicate == "seed" else math.nan
    low = MOST_FURTHER if low is None else low
    return replace(claim, further=further, further_low=low, further_high=high, further_seconds=cost)


def _verdict(line: Line, p_holm: float) -> Verdict:
    if line.effect is None:
        return "not measured"
    if not p_holm < 1 - CONFIDENCE:
        return "undecided"
    agrees = line.asked.agrees(line.effect.evidence.estimate, line.asked.measured(line.claim.threshold))
    return "supported" if agrees else "contradicted"
