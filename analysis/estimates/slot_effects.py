"""What each choice in a slot does, against the plain one: objective, S2O, weights, optimizer, attack."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pandas import DataFrame

from analysis.estimates.crossed import BOTH, SEEDS, methods_variance
from analysis.estimates.differences import optimizer_contrast
from analysis.estimates.intervals import holm, t_test
from analysis.estimates.methods import ROBUST, Verdict, tasks, verdict
from analysis.estimates.ranges import clipped, possible_difference
from analysis.frames.cells import Mode, measured, varying
from analysis.frames.names import ATTACK, KEYS, S2O, Slots, word
from analysis.frames.recipes import recipe_names


@dataclass(frozen=True)
class SlotEffect:
    """What one choice in a slot does, averaged over the pairs of methods that differ in it alone."""

    model: str
    conditions: dict[str, Any]
    label: str
    """The two sides in words: `DEAT - SGD`."""
    estimate: float
    """Mean over pairs, in the metric's own unit (a fraction for an accuracy)."""
    low: float
    high: float
    p: float
    """Two-sided, of no effect."""
    p_holm: float
    """Holm's, over all effects asked for at once."""
    pairs: int
    seeds: int
    """Seeds that the interval and p are over; 0: the pairs do not all have the same ones, and there is neither."""
    verdict: Verdict
    """`undecided` without a p: the same seeds chose the cells (`SELF_CHOSEN`)."""
    holds: str = SEEDS
    """Whose error the interval and p hold: seeds, or `seeds and test images`."""


def slot_effects(
    frame: DataFrame,
    y: str = ROBUST,
    *,
    choosers: Collection[int] = (),
    metric: str = "val_robust",
    mode: Mode = "max",
    confidence: float = 0.95,
) -> tuple[SlotEffect, ...]:
    """The effect of each choice against its slot's plain one (PGD-AT, no S2O, no AWP, SGD), each method at its best.

    Trials of recipes that add to the plain methods have no part in it. A pair is two methods that differ in this slot
    alone; none are two that were never trained alike in another axis
    but lr and batch size, such as presets, each of which has a weight decay of its own.

    The differences of the pairs are averaged within each seed, and the interval and p are of the t-test over seeds:
    it assumes that the seeds are independent replicates, the averages near normal, and the choices in the other slots
    fixed, so that the effect is the one over these pairs. It is not over pairs, because they share the seeds: a seed
    that suits a choice, such as TRADES, suits it in every pair, so that more pairs of the same seeds do not make it
    rarer. Where the pairs' methods do not all have the same seeds, there is no interval. Where there is a bit an image,
    the interval and p are for other test images too, as in `analysis.estimates.methods.comparison`.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        y: a metric's column.
        choosers: as in `analysis.estimates.methods.comparison`.
        metric: as in `analysis.estimates.methods.comparison`.
        mode: as in `analysis.estimates.methods.comparison`.
        confidence: as in `analysis.estimates.methods.comparison`.

    Returns:
        by model; in it by slot, in the order of `analysis.frames.names.KEYS`. Effects without a pair are left out.
    """
    effects: list[SlotEffect] = []
    frame = frame[recipe_names(frame) == frame["method"]]
    for task in tasks(frame, f"last_{metric}", mode, choosers):
        chosen = task.best.compared
        values = measured(chosen, y).pivot_table(index="method", columns="seed", values=y, sort=False)
        slots = [key for key in KEYS if key in chosen.columns]
        choices = chosen.drop_duplicates("method").set_index("method").loc[values.index, slots]
        for key, value, plain in _contrasts(choices):
            label = optimizer_contrast(chosen) if value == "deat" else _contrast_label(key, value, plain)
            if pairs := [pair for pair in _pairs(choices, key, value, plain) if _alike(task.trials, *pair, key)]:
                images = methods_variance(measured(chosen, y), _weights(pairs), y)
                effect = SlotEffect(**task.identity, label=label, **_effect(values, pairs, confidence, y, images))
                chose = np.isfinite(effect.p) and any(name in task.free for pair in pairs for name in pair)
                effects.append(replace(effect, p=np.nan, verdict="undecided") if chose else effect)
    adjusted = holm(np.array([effect.p for effect in effects]))
    return tuple(
        replace(effect, p_holm=float(p), verdict=verdict(effect.estimate, p, confidence))
        if effect.verdict != "undecided"
        else effect
        for effect, p in zip(effects, adjusted, strict=True)
    )


def effects_frame(effects: Sequence[SlotEffect]) -> DataFrame:
    """One row an effect: what `SlotEffect` holds, accuracies as fractions.

    Returns:
        model.name, the conditions, effect, pairs, seeds, difference, low, high, p_effects, p_effects_holm, verdict,
        holds.
    """
    renamed = {"label": "effect", "estimate": "difference", "p": "p_effects", "p_holm": "p_effects_holm"}
    order = ("label", "pairs", "seeds", "estimate", "low", "high", "p", "p_holm", "verdict", "holds")
    return DataFrame(
        [
            {"model.name": effect.model, **effect.conditions}
            | {renamed.get(name, name): getattr(effect, name) for name in order}
            for effect in effects
        ]
    )


def _contrasts(choices: DataFrame) -> Iterator[tuple[str, Any, Any]]:
    """(slot, value, plain value), where both were trained."""
    for key in choices.columns:
        plain, values = Slots()[KEYS.index(key)], list(choices[key].unique())
        yield from ((key, value, plain) for value in values if value != plain and plain in values)


def _pairs(choices: DataFrame, key: str, value: Any, plain: Any) -> list[tuple[str, str]]:
    """The methods with this value, each with the one that differs from it in this slot alone, if there is one.

    Args:
        choices: (methods, slots).
        key: a slot.
        value: what is chosen in it.
        plain: what it is compared with.
    """
    methods = {tuple(choice): str(name) for name, choice in zip(choices.index, choices.to_numpy(), strict=True)}
    at = list(choices.columns).index(key)
    partners = {choice: (*choice[:at], plain, *choice[at + 1 :]) for choice in methods if choice[at] == value}
    return [(methods[choice], methods[other]) for choice, other in partners.items() if other in methods]


def _alike(trials: DataFrame, one: str, other: str, slot: str) -> bool:
    """Whether two methods have a value in common on each axis but the slots', lr and batch size, if both have it.

    Args:
        trials: of both.
        one, other: their names.
        slot: in which they differ; with another attack go its steps, its start and batch norm's mode meanwhile.
    """
    for axis in set(varying(trials)).difference(KEYS, ("optimizer.lr", "batch_size")):
        if slot == ATTACK and axis.startswith("attack.") and axis not in ("attack.norm", "attack.radius"):
            continue
        tried = [set(trials.loc[trials["method"] == name, axis].dropna()) for name in (one, other)]
        if all(tried) and tried[0].isdisjoint(tried[1]):
            return False
    return True


def _weights(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """How much each method counts in the mean over pairs of treated minus control."""
    weights: dict[str, float] = {}
    for pair in pairs:
        for name, sign in zip(pair, (1, -1), strict=True):
            weights[name] = weights.get(name, 0.0) + sign / len(pairs)
    return weights


def _effect(
    values: DataFrame, pairs: Sequence[tuple[str, str]], confidence: float, y: str, images: float
) -> dict[str, Any]:
    """What a `SlotEffect` holds of these pairs but its label, before Holm.

    Args:
        values: (methods, seeds), NaN where not measured.
        pairs: treated and control methods.
        confidence: of the interval, in (0, 1).
        y: the column that they are of.
        images: variance that the test images add; NaN: bits are missing.
    """
    treated, control = (values.loc[list(side)].to_numpy(dtype=np.float64) for side in zip(*pairs, strict=True))
    there = np.isfinite(np.vstack([treated, control]))
    test = {"estimate": float(np.mean(np.nanmean(treated, axis=1) - np.nanmean(control, axis=1)))}
    test |= dict.fromkeys(("low", "high", "p", "p_holm"), np.nan)
    same = bool((there == there[0]).all())
    if same:
        gains = (treated - control)[:, there[0]].mean(axis=0)
        test |= dict(zip(("estimate", "low", "high", "p"), t_test(gains, confidence, images), strict=True))
    test["low"], test["high"] = clipped(test["low"], test["high"], possible_difference(y))
    holds = SEEDS if np.isnan(images) else BOTH
    return {**test, "pairs": len(pairs), "seeds": int(there[0].sum()) if same else 0, "verdict": "n/a", "holds": holds}


def _contrast_label(key: str, value: Any, plain: Any) -> str:
    if key in (S2O, "weights.name"):
        name = "S2O" if key == S2O else word(value)
        return f"with {name} - without"
    return f"{word(value)} - {word(plain)}"
