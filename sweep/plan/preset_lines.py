"""What of a sweep differs from the presets that it names, in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweep.axes import Axis, holds, value_at
from sweep.search.trials import PlannedTrial
from trainers.fields import number_text, plural
from trainers.presets import PRESETS, PresetName, Values

#: Values of a key that are listed; of more only how many.
_LISTED = 3


def preset_lines(trials: Iterable[PlannedTrial], space: Mapping[str, Axis]) -> list[str]:
    """For each preset what of its trials is otherwise than published, with the published value in brackets.

    Then what of its code no key says.

    Args:
        trials: all, or of a space that is drawn from, examples.
        space: of the sweep.
    """
    by_preset: dict[PresetName, list[dict[str, Any]]] = {}
    for trial in trials:
        if trial.config.preset is not None:
            by_preset.setdefault(trial.config.preset, []).append(trial.config.model_dump(mode="json"))
    return [line for name, trials in by_preset.items() for line in _of_preset(name, trials, space)]


def _of_preset(name: PresetName, trials: Sequence[Mapping[str, Any]], space: Mapping[str, Axis]) -> Iterator[str]:
    preset = PRESETS[name]
    values = {**preset.values, **preset.on.get(trials[0]["data"]["name"], {})}
    changed = ", ".join(_changes(values, trials, space))
    yield f"preset {name} ({preset.paper}){f', but for {changed}' if changed else ''}"
    if preset.lacks:
        yield f"no key says of the code of {name}: {'; '.join(preset.lacks)}"


def _changes(values: Values, trials: Sequence[Mapping[str, Any]], space: Mapping[str, Axis]) -> Iterator[str]:
    for key, (value, _) in values.items():
        axis = space.get(key)
        if axis is not None and axis.is_range and not axis.when:
            yield f"{key} {' to '.join(map(_text, axis.extremes()))} ({_text(value)})"
            continue
        used = list(dict.fromkeys(_text(value_at(trial, key)) for trial in trials if holds(trial, key)))
        if used not in ([], [_text(value)]):
            shown = ", ".join(used) if len(used) <= _LISTED else plural(len(used), "value")
            yield f"{key} {shown} ({_text(value)})"


def _text(value: Any) -> str:
    """As a config has it."""
    return number_text(value) if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
