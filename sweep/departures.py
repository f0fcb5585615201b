"""In what a config is not as it was registered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.axes import INERT_AXES
from sweep.config import SweepConfig
from sweep.config_file import dump
from sweep.yaml_text import parsed
from trainers.record.linked import registered

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
    keys = changed_keys(asked.config, parsed(dump(config)), until_decided=bool(asked.stopping.get("claim")))
    return [f"  not as registered: {', '.join(keys)}; `sweep audit {directory}` will say so"] if keys else []


def changed_keys(asked: Mapping[str, Any], now: Any, *, until_decided: bool) -> list[str]:
    """The keys of two configs that bear on numbers and differ."""
    # launches until a claim is decided run the cells and seeds that they need alone, each with a config of its own
    free = {*_FREE, *(("space", "seeds") if until_decided else ()), *(f"trial.{key}" for key in INERT_AXES)}
    one, other = dict(_leaves(asked)), dict(_leaves(now))
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return [key for key in keys if not any(key == name or key.startswith(f"{name}.") for name in free)]


def _leaves(values: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of nested mappings, with their values as JSON."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{before}.{key}" if before else str(key))
    else:
        yield before, json.dumps(values, sort_keys=True)
