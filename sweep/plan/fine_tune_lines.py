"""From which weights the trials of a sweep start, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from trainers.config import DataConfig, TrialConfig
from trainers.data.sources import Shape


def fine_tune_lines(trials: Iterable[TrialConfig], shapes: Mapping[DataConfig, Shape]) -> Iterator[str]:
    """Of each file of weights what a network takes of it; where nothing is known of the data, that it is one.

    Args:
        trials: resolved, with their fingerprints.
        shapes: of their data, as far as known.
    """
    kinds = {(one.model, shapes.get(one.data)) for one in trials if one.model.fine_tune is not None}
    lines = []
    for model, shape in kinds:
        if model.is_own:
            taken = "held against the network where that was tried"
        elif shape is None:
            taken = "not held against the network, its data being unknown"
        else:
            from trainers.models.fine_tuning import start  # and with it torch, for which no other plan waits

            taken = start(model, shape).line()
        lines.append(f"{model.name} starts from {model.fine_tune} ({model.weights_fingerprint}): {taken}")
    yield from sorted(set(lines))
