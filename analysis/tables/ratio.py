"""Is the ratio what counts? The answers as text: rows, JSON, Markdown, and what the terminal shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from analysis.claims.ledger import Claim, ledger
from analysis.claims.questions import asked_by
from analysis.claims.study import Study
from analysis.estimates.nested_models import RatioComparison, ratio_comparisons
from analysis.estimates.partial_correlations import PartialCorrelation, partial_correlations
from analysis.estimates.smooth_surface import SmoothSurface, smooth_surfaces
from analysis.estimates.sobol_indices import Decomposition, decompositions
from analysis.frames.budgets import network_budgets, trials_left_out
from analysis.frames.cells import Mode
from analysis.frames.names import interval_text, label, scale, setting_text, short
from analysis.frames.pruned import PRUNED, pruned_text
from analysis.tables.claims import judged_lines
from analysis.tables.export import json_text, plain
from analysis.tables.sheet import cells, console_table, markdown_table
from trainers.fields import plural

Rows = list[dict[str, str]]

#: Up to so many networks and methods are named beside a reason.
_NAMED = 6

_VIEWS = (
    "Other views of the same trials follow. They describe these trials and test nothing over seeds: where one seems to "
    "say otherwise, the lines above are the answer. A cell is one configuration with all its seeds."
)

#: Title and caption of each table.
_TITLES = {
    "models": (
        "nested models",
        "AICc - least: how much worse a model describes the trials than the best one, which has 0, extra terms counted "
        "against it (maximum likelihood, the seeds random); held out: root mean square error in percentage points, by "
        "least squares, at cells that it was not fitted to; lack of fit: p-value of an F-test that it misses nothing "
        "of the cells' means; small: it misses something",
    ),
    "tests": (
        "larger models against smaller ones",
        "p of F: how often chance alone would make the larger model fit so much better, if its further terms meant "
        "nothing (F-test, exact for independent normal noise of one variance, the seeds as blocks); seeds alike: "
        "p-value that all seeds share one slope along equal ratio, and where it is small, p of F is too small; Holm: p "
        "of F, made larger because all tests of this table are made together; held out: error of the larger model "
        "minus that of the smaller, with its 95 % interval (jackknife over cells)",
    ),
    "partial": (
        "partial correlation",
        "plain: correlation of accuracy with log10(lr / batch size); partial: the same among trials of equal training "
        "accuracy, with its 95 % interval (bootstrap of seeds within cells); p (cells): of the partial correlation of "
        "the cells' means, by a t-test; Holm: that p, made larger because all of this table are tested together",
    ),
    "surface": (
        "smooth surface",
        "Gaussian process through the cells; bends over: the distance in octaves (doublings) over which it may change "
        "its course; noise: standard deviation in percentage points; `sweep figures` draws it",
    ),
    "variance": (
        "which hyperparameter explains the variance",
        "alone: share of the accuracy's variance that an axis (a hyperparameter that varies) explains by itself; with "
        "interactions: with all that it does together with others; Sobol's indices from a polynomial of degree 2, 95 % "
        "intervals by bootstrap over points, none where they are few; noise: the seeds' share of one trial's variance; "
        "held-out R2: share of the variance that it predicts at points that it was not fitted to",
    ),
}


@dataclass(frozen=True, eq=False)
class RatioAnswers:
    """Everything that is asked of the ratio, of one metric of one frame."""

    y: str
    n_trials: int
    """Of the frame."""
    left_out: dict[str, int]
    """Of `analysis.frames.budgets.network_budgets`."""
    claims: tuple[Claim, ...]
    """The ledger, of which `ratio` and `ratio_only` are the answers; what follows is other views of the trials."""
    comparisons: tuple[RatioComparison, ...]
    partial: tuple[PartialCorrelation, ...]
    surfaces: tuple[SmoothSurface, ...]
    decompositions: tuple[Decomposition, ...]


def ratio_answers(
    study: Study,
    y: str = "last_test_robust",
    *,
    metric: str = "val_robust",
    mode: Mode = "max",
    resamples: int = 1000,
) -> RatioAnswers:
    """Asks the ledger, and every module of the ratio.

    Args:
        study: a run's or the published one.
        y: a metric's column.
        metric: as in `analysis.claims.ledger`.
        mode: likewise.
        resamples: of each bootstrap.

    Raises:
        UserError: the frame has no column `y`.
    """
    trials = study.trials
    return RatioAnswers(
        y,
        len(trials),
        network_budgets(trials)[1],
        ledger(study, metric=metric, mode=mode, y=y),
        ratio_comparisons(trials, y),
        partial_correlations(trials, y, resamples=resamples),
        smooth_surfaces(trials, y),
        decompositions(trials, y, resamples=resamples),
    )


def ratio_models_view(answers: RatioAnswers) -> RenderableType:
    """All of it for the terminal: the ledger's verdicts first, then the other views, what could not be told last."""
    parts: list[RenderableType] = [Text(line) for line in statements(answers)]
    for name, rows in _with_rows(answers):
        title, caption = _TITLES[name]
        parts += [Text(""), console_table(*cells(rows), title=title, caption=caption)]
    return Group(*parts, *map(Text, ["", *lacking_lines(answers)]))


def ratio_text(answers: RatioAnswers, form: str) -> str:
    """All of it as `json`, NaN as null and values in their own unit, a surface without its grid; or as `markdown`.

    Args:
        answers: of `ratio_answers`.
        form: json or markdown.
    """
    if form == "json":
        record = plain(answers)
        for surface in record["surfaces"]:
            del surface["grid"], surface["cells"]
        return json_text(record)
    blocks = ["\n".join(f"- {line}" for line in statements(answers))]
    for name, rows in _with_rows(answers):
        title, caption = _TITLES[name]
        blocks.append(f"**{title}**\n\n{markdown_table(*cells(rows))}\n\n{caption}")
    return "\n\n".join([*blocks, "\n".join(f"- {line}" for line in lacking_lines(answers))]).rstrip() + "\n"


def statements(answers: RatioAnswers) -> list[str]:
    """What entered, the ledger's answers in its own words, and what all that follows is."""
    n = answers.n_trials - sum(answers.left_out.values())
    return [
        f"{label(answers.y)}: {n} of {plural(answers.n_trials, 'trial')}; {trials_left_out(answers.left_out)}",
        *filter(None, [pruned_text(answers.left_out.get(PRUNED, 0), answers.n_trials)]),
        *judged_lines(answers.claims, *asked_by("ratio")),
        *([_VIEWS] if any(_with_rows(answers)) else []),
    ]


def lacking_lines(answers: RatioAnswers) -> list[str]:
    """What could not be told, and why; one line a reason, whatever values stand in its brackets."""
    reasons: dict[str, dict[str, str]] = {}
    for reason, what in _lacking(answers):
        reasons.setdefault(re.sub(r" \(.*?\)|, got .*", "", reason), {}).setdefault(what, reason)
    lines = []
    for kind, texts in reasons.items():
        names, said = list(texts), set(texts.values())
        whose = "; ".join(names) if len(names) <= _NAMED else f"{len(names)}, such as {names[0]}"
        lines.append(f"{kind if len(said) > 1 else said.pop() or kind} ({whose})")
    return lines


def _lacking(answers: RatioAnswers) -> Iterator[tuple[str, str]]:
    """Each reason, and of what it is one."""
    for comparison in answers.comparisons:
        if comparison.reason:
            yield comparison.reason, setting_text(comparison)
    for fit in answers.partial:
        if fit.interval.startswith("none: "):
            yield f"partial correlation without an interval: {fit.interval.removeprefix('none: ')}", setting_text(fit)
    for surface in answers.surfaces:
        for text in filter(None, [surface.reason, *surface.notes]):
            yield f"smooth surface: {text}", setting_text(surface)
    for shares in answers.decompositions:
        for text in filter(None, [shares.reason, shares.note]):
            yield f"explained variance: {text}", f"{shares.model}, {shares.method}"


def tables(answers: RatioAnswers) -> dict[str, Rows]:
    """Header to text, one mapping a row; accuracies in percent. A table without rows is empty."""
    rows = {"models": _models, "tests": _tests, "partial": _partial, "surface": _surface, "variance": _variance}
    return {name: list(table(answers)) for name, table in rows.items()}


def _with_rows(answers: RatioAnswers) -> list[tuple[str, Rows]]:
    return [(name, rows) for name, rows in tables(answers).items() if rows]


def _fixed(value: float, digits: int = 2) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def _models(answers: RatioAnswers) -> Iterator[dict[str, str]]:
    for one in answers.comparisons:
        least = min((fit.aicc for fit in one.fits), default=np.nan)
        for fit in one.fits:
            yield {
                "of": setting_text(one),
                "model": f"{fit.name}, degree {one.degree}",
                "terms": str(fit.terms),
                "n": str(one.n_trials),
                "AICc - least": _fixed(fit.aicc - least, 1),
                "held out": _fixed(scale(answers.y) * fit.held_out),
                "lack of fit": short(fit.p_lack_of_fit, 2),
            }


def _tests(answers: RatioAnswers) -> Iterator[dict[str, str]]:
    for one in answers.comparisons:
        for test in one.tests:
            yield {
                "of": setting_text(one),
                "test": f"{test.larger} against {test.smaller}",
                "F": f"{test.f:.2f} ({test.df[0]}, {test.df[1]})" if np.isfinite(test.f) else "",
                "p of F": short(test.p, 2),
                "Holm": short(test.p_holm, 2),
                "seeds alike": short(one.p_alike, 2),
                "held out": interval_text(*test.held_out, sign="+", factor=scale(answers.y)),
            }


def _partial(answers: RatioAnswers) -> Iterator[dict[str, str]]:
    for one in answers.partial:
        if np.isfinite(one.estimate):
            yield {
                "of": setting_text(one),
                "given": one.given,
                "coefficient": one.coefficient,
                "plain": f"{one.plain:.2f}",
                "partial": interval_text(one.estimate, one.low, one.high),
                "p (cells)": short(one.p, 2),
                "Holm": short(one.p_holm, 2),
                "cells": str(one.n_cells),
                "n": str(one.n),
            }


def _surface(answers: RatioAnswers) -> Iterator[dict[str, str]]:
    for one in answers.surfaces:
        if not one.reason:
            yield {
                "of": setting_text(one),
                "bends over lr (octaves)": f"{one.lengths[0]:.1f}",
                "bends over batch (octaves)": f"{one.lengths[1]:.1f}",
                "noise of a trial": f"{scale(answers.y) * one.noise:.2f}",
                "cells": str(one.n_cells),
                "n": str(one.n_trials),
            }


def _variance(answers: RatioAnswers) -> Iterator[dict[str, str]]:
    for one in answers.decompositions:
        for share in one.shares:
            yield {
                "of": f"{one.model}, {one.method}",
                "axis": share.axis,
                "alone": interval_text(*share.first) or "none",
                "with interactions": interval_text(*share.total) or "none",
                "noise": short(one.noise_share, 2),
                "held-out R2": _fixed(one.held_out_r2),
                "points": str(one.n_points),
                "n": str(one.n_trials),
            }
