"""equality: whether the engine's modes give the numbers of eager, over 20 steps from one state."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from card.setting import Setting
from card.trials import engine_used, engines, free, images, trial
from trainers.training import Training

_AWP = {"weights": {"name": "awp", "warmup": 0}}
#: What is trained, over the trial of `trials.trial`.
CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "deat": {"optimizer": {"name": "deat"}},
    "momentum": {"optimizer": {"momentum": 0.9}},
    "awp": _AWP,
    "trades": {"objective": {"name": "trades"}},
    "mart": {"objective": {"name": "mart"}},
    "s2o": {"objective": {"s2o": {"enabled": True}}},
    "ema": {"averaging": {"name": "ema"}},
    "trades, awp, s2o, deat": {
        **_AWP,
        "objective": {"name": "trades", "s2o": {"enabled": True}},
        "optimizer": {"name": "deat"},
    },
}
#: Cases whose compiled code is that of plain SGD.
COMPILED = ("sgd", "deat")


def equality(setting: Setting) -> None:
    """Each case in each mode against eager; eager against itself first, which says what the card repeats.

    20 steps, of which the last is of a short batch; the lr falls at every step, and so within the epoch. A captured
    step must give the same to the bit, if the card gives the same twice.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; else it may not repeat
    if setting.device.type == "cuda":
        torch.backends.cudnn.deterministic = True
    cases = [(engine, case) for engine in engines(setting) for case in _cases(setting, engine)]
    repeats = True  # whether eager gives the same twice
    for engine, case in cases:
        name = f"{case}, {engine} against eager"
        if setting.fits(name, 60 if engine == "compile" else 12):
            with setting.measuring(name):
                found = compared(setting, engine, CASES[case])
                repeats = found["bit_equal"] if engine == "eager" else repeats
                ok = found["bit_equal"] or not repeats if engine == "graph" else None
                setting.write(name, engine=engine, case=case, **found, ok=ok)
        free(setting)


def _cases(setting: Setting, engine: str) -> tuple[str, ...]:
    if engine == "eager":
        return ("sgd",)
    return COMPILED if engine == "compile" else setting.pick(tuple(CASES), ("sgd", "trades, awp, s2o, deat"))


def compared(setting: Setting, engine: str, values: dict[str, Any]) -> dict[str, Any]:
    """Largest differences of weights, buffers, averaged weights and the epoch's loss from those of eager."""
    size = trial(setting).batch_size
    data = images(setting, setting.pick(19, 2) * size + size // 2 + 1)
    falling = {"schedule": {"name": "linear"}, "epochs": 2, **values}
    runs = []
    for each in ("eager", engine):
        training = Training.begin(trial(setting, {**falling, "engine": each}), data)
        runs.append((training, training.epoch(0)))
    (one, first), (other, second) = runs
    found = {
        "weights": difference(one.model, other.model),
        "averaged": None if one.averaging is None else difference(one.averaging.model, other.averaging.model),
        "loss": abs(first.loss - second.loss),
        "accuracy": abs(first.accuracy - second.accuracy),
        "largest_weight": max(value.abs().max().item() for value in one.model.parameters()),
    }
    equal = not any(found[key] for key in ("weights", "averaged", "loss", "accuracy"))
    used, reason = engine_used(other)
    return {**found, "bit_equal": equal, "precision": one.config.precision, "engine_used": used, "reason": reason}


def difference(one: nn.Module, other: nn.Module) -> float:
    """The largest absolute difference of two networks' parameters and buffers."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(_largest(a, b) for a, b in pairs)


def _largest(one: Tensor, other: Tensor) -> float:
    return (one.double() - other.double()).abs().max().item() if one.numel() else 0.0
