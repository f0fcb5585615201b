"""What epochs took here, of trials that cost the same: in work, kind of device, and engine."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from sweep.config import SweepConfig
from sweep.plan.shapes import Shape
from sweep.progress import Progress, TrialProgress
from sweep.search.trials import PlannedTrial

#: Parts of a trial's identity that change nothing, or too little to tell, of what an epoch of one batch size takes.
_FREE = ("seed", "epochs", "batch_size", "optimizer", "schedule")
#: Of these parts, the keys alone that change it; of all others every key does.
_PRICED = {
    "attack": ("steps", "replays"),
    "objective": ("name",),
    "weights": ("name", "warmup"),
    "averaging": ("name",),
    "evaluation": ("every", "splits", "precision", "steps", "restarts", "batch_size"),
}


def kind_of(identity: Mapping[str, Any]) -> str:
    """What the cost of a trial's epoch hangs on beside its batch size: network, data, attack steps, precision, ..."""
    priced = {part: {key: identity.get(part, {}).get(key) for key in keys} for part, keys in _PRICED.items()}
    s2o = identity.get("objective", {}).get("s2o", {}).get("enabled")
    marks = ("fingerprint", "extra_fingerprint", "weights_fingerprint")
    plain = {
        part: {key: value for key, value in identity.get(part, {}).items() if key not in marks}
        for part in ("data", "model")
    }
    others = {key: value for key, value in identity.items() if key not in _FREE}
    return json.dumps({**others, **priced, **plain, "s2o": s2o}, sort_keys=True)


def shape_of(trial: PlannedTrial) -> Shape:
    """The kind of a trial, and its batch size."""
    return kind_of(trial.identity), trial.config.batch_size


class Measured:
    """The mean seconds, and the most memory, of the epochs that were measured in a run."""

    def __init__(self, progress: Progress, config: SweepConfig) -> None:
        """Takes those of the run's trials that ran where, and as, trials of this sweep would."""
        seconds: dict[Any, list[float]] = defaultdict(list)
        self._memory: dict[Any, float] = defaultdict(float)
        for trial in progress.trials.values():
            if trial.trained and ran_alike(trial, config):
                kind = kind_of(trial.config)
                shape = kind, trial.config.get("batch_size")
                for key in (None, kind, shape):
                    seconds[key].append(trial.seconds / trial.trained)
                self._memory[shape] = max(self._memory[shape], trial.last.get("peak_memory_bytes") or 0.0)
        self._seconds = {key: fmean(values) for key, values in seconds.items()}

    def epoch(self, shape: Shape) -> float | None:
        """Of the kind, at its batch size or else at any; None where no epoch of the kind was measured."""
        kind, _ = shape
        return self._seconds.get(shape, self._seconds.get(kind))

    def has(self, shape: Shape) -> bool:
        """Whether epochs of this very batch size were measured."""
        return shape in self._seconds

    def memory(self, shape: Shape) -> float | None:
        """The most bytes that a trial of the shape held; None where that is not known."""
        return self._memory.get(shape) or None

    def any(self) -> float | None:
        """Of all kinds; None where no epoch was measured."""
        return self._seconds.get(None)


def ran_alike(trial: TrialProgress, config: SweepConfig) -> bool:
    """Whether a trial ran on as many workers as the sweep's, on its kind of device and in its engine, as far as its
    records tell."""
    if (trial.start.get("workers") or 1) != config.resources.workers:
        return False
    if trial.device is not None and (trial.device == "cpu") == bool(config.resources.gpu):
        return False
    usual = ("graph", "compile") if config.resources.gpu else ("eager",)
    asked = usual if config.trial.engine == "auto" else (config.trial.engine,)
    engine = trial.last.get("engine") or asked[0]
    return engine in asked or bool(trial.last.get("engine_reason") and asked != ("eager",))
