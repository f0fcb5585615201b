"""Sweeps that end before what is to help them begins: a sampler that learns, a rule that ends trials early."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweep.config import SweepConfig
from sweep.plan.stopping import ends_of, strata_axes
from sweep.plan.warnings import Warned
from sweep.search.optuna_search import OptunaSearch
from sweep.search.trials import PlannedTrial, Search
from sweep.stopping.pruners import Epochs, options_of
from sweep.stopping.strata import stratum
from trainers.fields import plural

#: Options that say how many points a sampler's generation has, and Optuna's least.
_GENERATIONS = {"cmaes": ("popsize", 4), "nsgaii": ("population_size", 2)}


def too_short(config: SweepConfig, search: Search, known: Sequence[PlannedTrial], epochs: Epochs) -> Iterator[Warned]:
    """What a sweep asks for and is over before.

    Args:
        config: the sweep.
        search: its search.
        known: its trials, as far as they are known.
        epochs: of its trials.
    """
    if isinstance(search, OptunaSearch):
        yield from _never_learns(config, search)
    if config.stopping is not None and not config.races:
        yield from _never_ends(config, search, known, epochs)


def _never_learns(config: SweepConfig, search: OptunaSearch) -> Iterator[Warned]:
    """A sampler draws its first points at random, and the sweep has no more of them."""
    from sweep.search.samplers import generation_size, made, sampler_class, varied

    kind, given = sampler_class(config), config.search.sampler_options
    name = {"TPESampler": "tpe", "GPSampler": "gp", "CmaEsSampler": "cmaes", "NSGAIISampler": "nsgaii"}.get(
        kind.__name__
    )
    some, n = search.of_which_some_run(), config.search.n_trials or 0
    if name is None or not some:
        return
    if name in _GENERATIONS:
        sizes = (generation_size(made(kind, config, 0, 0, {}), config, len(varied(config, one))) for one, _ in some)
        first, option, least = min(size or 0 for size in sizes), *_GENERATIONS[name]
    else:
        option, least = "n_startup_trials", 1
        startup = int(given.get(option, inspect.signature(kind).parameters[option].default))
        first = startup - max(from_others for _, from_others in some)
    batch = (config.search.batch or (first if name in _GENERATIONS else 10)) if config.search.deterministic else 1
    learns = -(-max(first, 1) // batch) * batch
    if n > learns:
        return
    fewer = max(least, n // 2)
    keys = [f"search.sampler_options.{option}={fewer}"] * (first > fewer) + [f"search.batch={fewer}"] * (batch > fewer)
    more = f"search.n_trials={2 * learns}"
    text = f"{name} learns from point {learns + 1} on, and search.n_trials is {n}: all points are drawn at random"
    yield Warned(text, f"{' and '.join(keys)}, or {more}" if fewer < n else more)


def _never_ends(config: SweepConfig, search: Search, known: Sequence[PlannedTrial], epochs: Epochs) -> Iterator[Warned]:
    """A rule that looks at no epoch before the last, or waits for more trials than are compared."""
    assert config.stopping is not None
    name, options = config.stopping.name, options_of(config.stopping, epochs)
    if not ends_of(options, epochs):
        yield Warned(
            f"stopping: {name} ends no trial: it looks at none before its last epoch, {epochs.longest}",
            _earlier(options, epochs),
        )
        return
    trials = _compared(config, search, known)
    waits = {key: options[key] for key in ("n_startup_trials", "n_min_trials") if options.get(key, 0) >= trials}
    if not waits or trials == 1:
        if trials == 1:
            yield Warned(f"stopping: {name} ends no trial: it has none to compare one with", "stopping=null")
        return
    among = (
        "the sweep has" if config.stopping.across or not strata_axes(config) else "a combination of the grid axes has"
    )
    wait = " and ".join(f"{key} is {value}" for key, value in waits.items())
    yield Warned(
        f"stopping: {name} ends no trial: {wait}, and {among} {plural(trials, 'trial')}",
        " and ".join(f"stopping.{key}={max(1, trials // 2)}" for key in waits),
    )


def _earlier(options: Mapping[str, Any], epochs: Epochs) -> str:
    """The settings by which a rule looks at trials before their last epoch."""
    if epochs.longest == 1:
        return "stopping=null: a trial of 1 epoch has nothing to save"
    keys = [] if epochs.every < epochs.longest else ["trial.evaluation.every=1"]
    every = 1 if keys else epochs.every
    if "reduction_factor" not in options:
        late = options["n_warmup_steps"] > 0
        return " and ".join([*keys, *([f"stopping.n_warmup_steps={epochs.longest // 3}"] if late else [])])
    keys += [f"stopping.min_resource={every}"] * (options["min_resource"] > every)
    keys += ["stopping.min_early_stopping_rate=0"] * (options.get("min_early_stopping_rate", 0) > 0)
    return " and ".join(keys)


def _compared(config: SweepConfig, search: Search, known: Sequence[PlannedTrial]) -> int:
    """The most trials that a rule compares with each other."""
    assert config.stopping is not None
    axes = () if config.stopping.across else strata_axes(config)
    if isinstance(search, OptunaSearch):
        return max(search.limits()) * len(config.seeds) if axes else search.size()
    return max(Counter(stratum(trial.record(0), axes) for trial in known).values(), default=0)
