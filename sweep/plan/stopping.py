"""The rules that end a sweep's trials early: as its records leave them, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from analysis.frames.log import Log
from sweep.config import SweepConfig
from sweep.search.points import drawn_axes
from sweep.search.trials import PlannedTrial
from sweep.stopping.decisions import Rule, Stopping, replayed
from sweep.stopping.pruners import Epochs, Pruners, options_of
from sweep.stopping.race import Evidence, Race, Wilcoxon
from sweep.stopping.race_config import RaceConfig
from trainers.fields import number_text, plural

#: Searches that draw within each combination of the grid axes.
_DRAWN = ("random", "quasi_random", "optuna")


def epochs_of(config: SweepConfig, trials: Sequence[PlannedTrial]) -> Epochs:
    """The epochs of a sweep's trials: a function of its config, so that rungs are the same for each of its launches.

    Args:
        config: the sweep.
        trials: all of them, or examples where they are not known beforehand.
    """
    longest, every = (
        [*(axis.extremes() if (axis := config.space.get(key)) else ()), value]
        for key, value in (("epochs", config.trial.epochs), ("evaluation.every", config.trial.evaluation.every))
    )
    longest = [trial.config.epochs for trial in trials] or longest
    return Epochs(int(max(longest)), int(max([trial.config.evaluation.every for trial in trials] or every)))


def metric_of(config: SweepConfig) -> str:
    """By which rules compare."""
    return (config.stopping.metric if config.stopping else None) or config.objectives[0].name


def strata_axes(config: SweepConfig) -> tuple[str, ...]:
    """The grid axes whose combinations are compared each by itself; of a search that draws nothing there are none."""
    drawn = drawn_axes(config.space)
    return tuple(key for key in config.space if key not in drawn) if config.search.name in _DRAWN else ()


def rules_of(config: SweepConfig, epochs: Epochs) -> list[Rule]:
    """The rules of a sweep, which have seen nothing."""
    if config.races:
        return [race_of(config)]
    if config.stopping is None:
        return []
    return [Pruners(config.stopping, metric_of(config), epochs, strata_axes(config))]


def race_of(config: SweepConfig) -> Race:
    """The race of a sweep's points over their seeds: no point is known yet."""
    metric, across = metric_of(config), _across(config)
    axes = () if across else strata_axes(config)
    wilcoxon = None if config.stopping is None else Wilcoxon(**config.stopping.options, metric=metric)
    rule = wilcoxon or Evidence(config.race or RaceConfig(), metric)
    strata = prod(len(axis.extremes()) for key, axis in config.space.items() if across and axis.grid)
    points = (config.search.n_trials or 0) * strata if config.search.name == "optuna" else 0
    mode = "min" if metric.endswith("loss") else "max"
    return Race(rule, config.seeds, mode, metric=metric, axes=axes, points=points)


def stopping_of(
    config: SweepConfig, epochs: Epochs, known: Sequence[PlannedTrial], records: Sequence[Mapping[str, Any]]
) -> Stopping | None:
    """The rules of a sweep, once they have seen its records; None: it has no rule.

    Args:
        config: the sweep.
        epochs: of its trials.
        known: its trials, as far as they are known.
        records: of the run.
    """
    if not (rules := rules_of(config, epochs)):
        return None
    ordered = records.in_order(metric_of(config)) if isinstance(records, Log) else records
    return replayed(rules, (trial.record(0) for trial in known), ordered)


def rule_lines(config: SweepConfig, epochs: Epochs) -> Iterator[str]:
    """What the rule will do, in words."""
    if config.races:
        yield _race_line(config)
    if (rule := config.stopping) is None or config.races:
        return
    options = options_of(rule, epochs)
    axes = strata_axes(config)
    among = "all trials" if rule.across or not axes else f"trials of the same {', '.join(axes)}"
    yield f"stopping: {rule.name} on {metric_of(config)}, among {among}: {_what(rule.name, options, epochs)}"
    if "epochs" in config.space:
        yield "  trials of different epochs are compared at the same epoch, wherever their schedules are there"


def _race_line(config: SweepConfig) -> str:
    """What a race will do, in words."""
    axes = strata_axes(config)
    among = "all points" if _across(config) or not axes else f"points of the same {', '.join(axes)}"
    on = f"on {metric_of(config)}, among {among}"
    if config.stopping is not None:
        least = config.stopping.options["p_threshold"]
        return (
            f"stopping: {config.stopping.name} {on}, one after another: a point gets no more seeds once p is below "
            f"{least:g} that it is as good as the best one that has all"
        )
    alpha = (config.race or RaceConfig()).alpha
    return (
        f"race: {on}, seed after seed: a point gets no more once it is clearly worse than another, which happens to "
        f"the best one with probability {alpha:g} at most"
    )


def _across(config: SweepConfig) -> bool:
    return (config.race or config.stopping or RaceConfig()).across


def _what(name: str, options: Mapping[str, Any], epochs: Epochs) -> str:
    """What is done at which epochs, in words."""
    if "reduction_factor" in options:
        rungs = rungs_of(options, epochs, options.get("min_early_stopping_rate", 0))
        if not rungs:
            return f"it has no rung before epoch {epochs.longest}, and ends nothing"
        later = f"; of other brackets from epoch {', '.join(map(str, rungs[1:]))} on" if rungs[1:] else ""
        at = f"at epoch {', '.join(map(str, rungs))} the best 1/{options['reduction_factor']} so far go on"
        return at + (later if name == "hyperband" else "")
    percent, apart = options.get("percentile", 50), options["interval_steps"]
    if not (ends := ends_of(options, epochs)):
        return f"it looks at no epoch before {epochs.longest}, and ends nothing"
    return (
        f"after {plural(options['n_startup_trials'], 'completed trial')}, from epoch {ends[0]} on every "
        f"{plural(max(apart, epochs.every), 'epoch')} what is not within the best {number_text(percent)} % of "
        "completed trials ends"
    )


def ends_of(options: Mapping[str, Any], epochs: Epochs) -> Sequence[int]:
    """The epochs at which a rule may end a trial.

    Args:
        options: of the rule, as `options_of` gives them.
        epochs: of the trials.
    """
    if "reduction_factor" in options:
        return rungs_of(options, epochs, options.get("min_early_stopping_rate", 0))
    begin = options["n_warmup_steps"]
    evaluated = range(-(-max(begin, 1) // epochs.every) * epochs.every, epochs.longest, epochs.every)
    first: dict[int, int] = {}
    for epoch in evaluated:  # it looks at the first one of each interval
        first.setdefault((epoch - begin) // options["interval_steps"], epoch)
    return list(first.values())


def rungs_of(options: Mapping[str, Any], epochs: Epochs, start: int) -> list[int]:
    """The epochs of the rungs at which a trial can end: those at which it is evaluated, before its last.

    Args:
        options: of the rule.
        epochs: of the trials.
        start: how many of the first rungs are left out.
    """
    first, factor = options["min_resource"], options["reduction_factor"]
    steps = (first * factor ** (start + rung) for rung in range(64))
    evaluated = (-(-step // epochs.every) * epochs.every for step in steps)
    return list(dict.fromkeys(epoch for epoch in evaluated if epoch < epochs.longest))
