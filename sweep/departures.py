"""In what a config is not as it was registered."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.axes import INERT_AXES
from sweep.config import SweepConfig
from sweep.config_file import dump, of_values
from sweep.search.inputs import fingerprints_without
from sweep.search.trials import fixed_points, planned
from sweep.storage.cache import typed
from sweep.yaml_text import parsed
from trainers.errors import UserError
from trainers.record.linked import registered

if TYPE_CHECKING:
    from analysis.claims.registration import Registration

#: Keys that say which trials there are, and those that make up a trial too.
_OF_CELLS = ("space", "seeds")
_OF_TRIALS = (*_OF_CELLS, "trial", "where")

#: Keys of a config that change no number: of the launch, and of where things lie.
_FREE = ("resources", "max_concurrent", "fail_fast", "trackers", "notify", "code_folder", "code", "question")


def departures(config: SweepConfig, directory: Path) -> list[str]:
    """What a launch says before it begins: the keys of its config that are not as registered, if there are any.

    Raises:
        UserError: the registration cannot be read.
    """
    if registered(directory) is None:
        return []
    from analysis.claims.registration import read

    if (asked := read(directory)) is None:
        return []
    keys = changed_keys(asked, parsed(dump(config)))
    return [f"  not as registered: {', '.join(keys)}; `sweep audit {typed(directory)}` will say so"] if keys else []


def changed_keys(asked: Registration, now: Any) -> list[str]:
    """The keys of a config that bear on numbers and are not as registered.

    Args:
        asked: the registration.
        now: the config's values.
    """
    one, other = dict(_leaves(asked.config)), dict(_leaves(now))
    # launches until a claim is decided run the cells and seeds that they need alone, each with a config of its own
    free = {*_FREE, *(_OF_CELLS if asked.stopping.get("claim") else ()), *(f"trial.{key}" for key in INERT_AXES)}
    keys = _but([key for key in {**one, **other} if one.get(key) != other.get(key)], free)
    others = [key for key in keys if key in _but(keys, _OF_TRIALS) or key.partition(".")[2].startswith("data.")]
    if len(others) < len(keys) and asked.trials is not None and _trials(asked.config) == _trials(now) != set():
        return others  # they differ in what no trial reads, such as a schedule none of whose milestones is reached
    return keys


def _but(keys: Iterable[str], names: Iterable[str]) -> list[str]:
    return [key for key in keys if not any(key == name or key.startswith(f"{name}.") for name in names)]


def _trials(values: Any) -> set[str]:
    """The ids of a config's trials, whose data are not looked at: a mark that is made up stands for them. None, where
    it is no config."""
    if not isinstance(values, dict):
        return set()
    try:
        config = of_values(copy.deepcopy(values), Path("sweep.yaml"))
        known, _ = fingerprints_without(config, [], look=False)
        return {trial.id for trial in planned(config, fixed_points(config), known)}
    except UserError:
        return set()


def _leaves(values: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of nested mappings, with their values as JSON."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{before}.{key}" if before else str(key))
    else:
        yield before, json.dumps(values, sort_keys=True)
