"""Which trials are compared with each other: those at one combination of the grid axes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.axes import value_at


def stratum(trial: Mapping[str, Any], axes: Sequence[str]) -> str:
    """The combination of grid axes that a trial's record lies at, as JSON; of no axes always the same.

    Args:
        trial: its line in the records.
        axes: the grid axes that make strata; one that the trial has no value of is left out.
    """
    values = {key: trial["point"][key] if key in trial["point"] else _read(trial, key) for key in axes}
    return json.dumps({key: value for key, value in values.items() if value is not None})


def _read(trial: Mapping[str, Any], key: str) -> Any:
    try:
        return value_at(trial["config"], key)
    except KeyError:
        return None
