"""Optuna's samplers by name: which can search which space, and one for each draw.

A sampler is made anew for each draw and seeded by the draw's place, so that nothing of its own has to survive a crash.
What tpe, gp and random learn from is the study alone. What qmc, nsgaii and cmaes keep beside it is put there again
(`sweep.search.study`).
"""

from __future__ import annotations

import hashlib
import inspect
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from sweep.axes import Axis, Point
from sweep.config import SweepConfig
from sweep.search.parameters import distributions, hangs
from trainers.errors import UserError, suggestion
from trainers.visible import brief

SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": TPESampler,
    "gp": GPSampler,
    "cmaes": CmaEsSampler,
    "nsgaii": NSGAIISampler,
    "qmc": QMCSampler,
    "random": RandomSampler,
}

#: Those that draw an axis at random, and say so in Optuna's log alone, where it is not in every point of a study.
_OF_ONE_SPACE = (GPSampler, CmaEsSampler, NSGAIISampler)

#: Options that are not the user's, and why.
_OURS = {
    "seed": "each draw's is worked out of search.seed, so that a relaunch goes on where the last one was",
    "with_margin": "what it keeps of each draw is lost with the process; list fewer values, or take tpe",
}

#: What an option may be, as Optuna's signatures name it; any other is an object of Python's.
_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "None": (type(None),),
    "dict[str, Any]": (dict,),
}


def sampler_class(config: SweepConfig) -> type[BaseSampler]:
    """The sampler that the config names; auto: what Optuna itself takes for as many objectives."""
    name = config.search.sampler or "auto"
    if name != "auto":
        return SAMPLERS[name]
    return type(optuna.create_study(directions=["maximize"] * len(config.objectives)).sampler)


def check_sampler(config: SweepConfig, grid: Iterable[Point]) -> None:
    """The sampler can search the space for the objectives, with its options.

    Args:
        config: the sweep.
        grid: the strata.

    Raises:
        UserError: Optuna would fail, or draw axes at random instead.
    """
    kind, name = sampler_class(config), config.search.sampler or "auto"
    if kind is CmaEsSampler and len(config.objectives) > 1:
        raise UserError(
            f"search.sampler: cmaes has one objective, and metric lists {len(config.objectives)}; take tpe, gp or "
            "nsgaii"
        )
    every = [varied(config, stratum) for stratum in grid]
    for several in every:
        if kind is CmaEsSampler:
            _check_ranges(config.space, several)
        if issubclass(kind, _OF_ONE_SPACE) and (key := next((k for k in several if hangs(config.space, k)), None)):
            raise UserError(
                f"search.sampler: {name} would draw space.{key} at random, which hangs on a drawn axis (when); take "
                "tpe, qmc or random, or list the values that it hangs on as {grid: [...]}: each has a study of its own"
            )
    _check_options(kind, config, next(filter(None, every), {"any": FloatDistribution(0, 1)}))


def varied(config: SweepConfig, stratum: Point) -> dict[str, BaseDistribution]:
    """The drawn axes of a stratum that have more than one value, by key."""
    every = distributions(config.space, config.given, stratum)
    return {key: one for key, one in sorted(every.items()) if not one.single()}


def _check_ranges(space: Mapping[str, Axis], several: Mapping[str, BaseDistribution]) -> None:
    if key := next((key for key in several if not space[key].is_range), None):
        raise UserError(
            f"search.sampler: cmaes searches ranges alone, and would draw space.{key} at random; list its values as "
            "{grid: [...]}: each has a study of its own then; or take tpe"
        )
    if not several:
        raise UserError("search.sampler: cmaes searches ranges, and the space has none; take tpe")


def _check_options(kind: type[BaseSampler], config: SweepConfig, space: dict[str, BaseDistribution]) -> None:
    """Every option is one of the sampler's own, of its type, and with all of them it draws in such a space."""
    known = {key: one for key, one in inspect.signature(kind).parameters.items() if key not in _OURS}
    for key, value in config.search.sampler_options.items():
        where = f"search.sampler_options.{key}"
        if key in _OURS:
            raise UserError(f"{where}: {_OURS[key]}; leave it out")
        if key not in known:
            raise UserError(f"{where}: Optuna's {kind.__name__} has no such option; {suggestion(key, known)}")
        _check_value(where, str(known[key].annotation), value)
    if config.search.sampler_options:
        past = {"n_startup_trials": 1} if "n_startup_trials" in known else {}
        options = {**config.search.sampler_options, **past}
        search = config.search.model_copy(update={"sampler_options": options})
        _rehearse(kind, config.model_copy(update={"search": search}), space)


def _check_value(where: str, annotation: str, value: Any) -> None:
    kinds = [kind for kind in annotation.split(" | ") if kind in _KINDS]
    if not {*kinds} - {"None"}:
        raise UserError(f"{where}: takes an object of Python's, which a config cannot hold; leave it out")
    allowed = tuple(one for kind in kinds for one in _KINDS[kind])
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        words = " or ".join("null" if kind == "None" else kind for kind in kinds)
        raise UserError(f"{where}: must be {words}, got {brief(value)}")


def _rehearse(kind: type[BaseSampler], config: SweepConfig, space: dict[str, BaseDistribution]) -> None:
    """Three draws of a made-up study, that what the sampler refuses is known before anything runs."""
    study = optuna.create_study(directions=["maximize"] * len(config.objectives))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # cmaes with a popsize of 3 divides by 0, and goes on
            for index in range(3):
                study.sampler = made(kind, config, 0, index, space)
                study.tell(study.ask(space), [index / 3] * len(config.objectives))
    except Exception as error:
        text = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"search.sampler_options: Optuna's {kind.__name__} draws nothing with these: {text}") from None


def made(
    kind: type[BaseSampler],
    config: SweepConfig,
    stratum: int,
    index: int | tuple[int, int],
    space: dict[str, BaseDistribution],
) -> BaseSampler:
    """The sampler of one draw.

    Args:
        kind: as `sampler_class` gives it.
        config: the sweep.
        stratum: number of the study.
        index: number of the draw in it; with how often it was asked for already, where it was.
        space: the axes that it may draw, in an order that stays.
    """
    shared = issubclass(kind, QMCSampler)
    place = (config.search.seed,) if shared else (config.search.seed, stratum, index)
    seed = int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:4])
    options: dict[str, Any] = {"seed": seed, **config.search.sampler_options}
    with warnings.catch_warnings():  # that something is experimental, or will be gone in a later version
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return _Sequence(space, options) if shared else kind(**options)


class _Sequence(QMCSampler):
    """Optuna's sequence, its first point too, which Optuna itself draws at random: it knows no space before that."""

    def __init__(self, space: dict[str, BaseDistribution], options: Mapping[str, Any]) -> None:
        super().__init__(**options)
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, BaseDistribution]:
        return self._space


def generation_size(sampler: BaseSampler, config: SweepConfig, ranges: int) -> int | None:
    """Finished points that end a generation of the sampler's; None: it has no generations.

    cmaes: 4 + 3 ln d of d ranges, rounded down [Hansen, The CMA Evolution Strategy: A Tutorial, 2016, table 1].
    """
    if isinstance(sampler, NSGAIISampler):
        return sampler.population_size
    if isinstance(sampler, CmaEsSampler):
        return int(config.search.sampler_options.get("popsize") or 4 + math.floor(3 * math.log(ranges)))
    return None
