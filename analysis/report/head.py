"""The beginning of the page: what is asked, of what, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pandas import DataFrame

from analysis.frames.cells import varying
from analysis.frames.log import Log
from analysis.frames.names import label, readable
from analysis.report.cost import moment, states
from analysis.report.markup import Html, element, joined
from trainers.fields import number_text, plural

#: Values of an axis that are named; of more the first and the last.
_NAMED = 8

#: Radii that papers write as so many 255ths.
_MOST_STEPS = 16


def head(title: str, question: str, trials: DataFrame, log: Log | None, metric: str) -> Html:
    """Title, question, and in one line each: the data, what was varied, what became of the trials."""
    parts = [
        element("p", "Sweep report", class_="kicker"),
        element("h1", title),
        element("p", question, class_="question") if question else None,
        element("dl", *_facts(trials, log, metric), class_="facts"),
    ]
    return element("header", *parts, id="top")


def _facts(trials: DataFrame, log: Log | None, metric: str) -> list[Html]:
    configs = [] if log is None else [one["config"] for one in log if one["record"] == "trial"]
    facts: list[tuple[str, object]] = [("trials", _outcomes(trials)), *setting(configs)]
    if axes := varying(trials):
        facts.append(("varied", joined(*(_axis(axis, trials) for axis in axes))))
    seeds = sorted(set(map(int, trials["seed"])))
    facts.append(("seeds", f"{len(seeds)} ({', '.join(map(str, seeds[:_NAMED]))}{', ...' * (len(seeds) > _NAMED)})"))
    facts.append(("measured", label(metric).removesuffix(" (%)")))
    if log is not None and (last := _latest(log)):
        facts.append(("records until", moment(last)))
    return [element("div", element("dt", name), element("dd", value)) for name, value in facts]


def _outcomes(trials: DataFrame) -> Html:
    badges = [element("span", f"{n} {name}", class_=f"outcome {name}") for name, n in states(trials).items()]
    return joined(f"{plural(len(trials), 'trial')} ", *badges)


def _axis(axis: str, trials: DataFrame) -> Html:
    values = trials[axis].dropna().unique()
    texts = [readable(one) for one in (sorted(values) if values.dtype != object else values)]
    shown = ", ".join(texts) if len(texts) <= _NAMED else f"{len(texts)} values from {texts[0]} to {texts[-1]}"
    return element("span", element("code", axis), f" {shown}", class_="axis")


def setting(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Data set, network and attack of trials, as far as all have one."""
    facts = []
    for name, read in (("data", _data), ("network", _network), ("attacks", _attacks)):
        known = dict.fromkeys(filter(None, map(read, configs)))
        if known:
            facts.append((name, "; ".join([*known][:_NAMED])))
    return facts


def _data(config: Mapping[str, Any]) -> str:
    return str(config.get("data", {}).get("name", ""))


def _network(config: Mapping[str, Any]) -> str:
    return str(config.get("model", {}).get("name", ""))


def _attacks(config: Mapping[str, Any]) -> str:
    """`training PGD, 5 steps, l_inf radius 0.15; evaluation PGD, 10 steps, radius 0.15`."""
    training, evaluation = config.get("attack", {}), config.get("evaluation", {})
    if "radius" not in training or "steps" not in training:
        return ""
    norm = {"linf": "ℓ∞", "l2": "ℓ2"}.get(str(training.get("norm", "linf")), str(training.get("norm")))
    trained = f"training {plural(training['steps'], 'step')} within {norm} radius {radius(training['radius'])}"
    if "radius" not in evaluation:
        return trained
    evaluated = f"evaluation {plural(evaluation['steps'], 'step')} within {radius(evaluation['radius'])}"
    return f"{trained}, {evaluated}"


def radius(value: float) -> str:
    """A radius in pixel units, as papers write it.

    >>> radius(8 / 255), radius(0.15), radius(0.031)
    ('8/255', '0.15', '0.031')
    """
    steps = 255 * float(value)
    whole = math.isclose(steps, round(steps), abs_tol=1e-9) and 0 < round(steps) <= _MOST_STEPS
    return f"{round(steps)}/255" if whole else number_text(value)


def _latest(log: Log) -> float:
    return max([log.epochs.latest(), *(float(one.get("time") or 0) for one in log)], default=0.0)
