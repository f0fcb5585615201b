"""Every combination of the four slots, on a trial of a few small steps: the family that the contracts are about."""

from __future__ import annotations

import itertools
from typing import Any

from trainers.config import TrialConfig

ATTACKS: dict[str, Any] = {
    "linf": {"norm": "linf", "radius": 0.15, "step_size": 0.1, "steps": 2},
    "l2": {"norm": "l2", "radius": 0.8, "step_size": 0.5, "steps": 2, "start": "normal", "batch_norm": "train"},
}
#: A smooth one in half of the combinations, so that there are no more of them.
ACTIVATIONS = {"linf": "relu", "l2": "silu"}
#: PGD's kin, what rises and what is carried; in fewer combinations, each with all of the other slots at once.
OTHER_ATTACKS: dict[str, Any] = {
    "fgsm_rs": {"radius": 0.15, "step_size": 0.19, "steps": 1, "batch_norm": "train"},
    "n_fgsm": {"radius": 0.1, "step_size": 0.1, "steps": 1, "start": "uniform", "start_scale": 2, "project": False},
    "fat": {"radius": 0.15, "step_size": 0.1, "steps": 2, "tau": 0, "tau_milestones": [1]},
    "rising": {"radius": 0.15, "step_size": 0.1, "steps": 2, "radius_warmup": 1.5, "step_size_warmup": 0.5},
    "free": {"radius": 0.15, "step_size": 0.15, "replays": 2},
    "free, rising in l2": {"norm": "l2", "radius": 0.8, "step_size": 0.8, "replays": 3, "radius_warmup": 1.5},
}
OBJECTIVES = ("natural", "pgd_at", "trades", "mart", "avmixup")
OPTIMIZERS: dict[str, Any] = {
    "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "deat": {"name": "deat", "lr": 0.1},
    "adamw": {"name": "adamw", "lr": 0.01},
}
REFUSED = {(attack, objective) for attack in OTHER_ATTACKS for objective in ("trades", "avmixup") if "free" in attack}
_EXTREMES = ((False, "none", "sgd"), (True, "awp", "adamw"), (True, "awp", "deat"))
COMBINATIONS = [
    *itertools.product(ATTACKS, OBJECTIVES, (False, True), ("none", "awp"), OPTIMIZERS),
    *(
        (attack, objective, *others)
        for attack, objective, others in itertools.product(OTHER_ATTACKS, OBJECTIVES[1:], _EXTREMES)
        if (attack, objective) not in REFUSED
    ),
]


def config(attack: str, objective: str, s2o: bool, perturbation: str, optimizer: str) -> TrialConfig:
    """Two epochs of two steps; AWP begins in the second. Labels are smoothed where S2O is, and they may be."""
    smoothing = 0.1 if s2o and objective in ("natural", "pgd_at", "trades") else 0
    return TrialConfig.model_validate(
        {
            "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 4, "test_per_class": 2},
            "model": {"name": "small_cnn", "activation": ACTIVATIONS.get(attack)},
            "batch_size": 20,
            "epochs": 2,
            "attack": (ATTACKS | OTHER_ATTACKS)[attack],
            "objective": {"name": objective, "label_smoothing": smoothing, "s2o": {"enabled": s2o}},
            "weights": {"name": perturbation, "warmup": 1},
            "optimizer": OPTIMIZERS[optimizer],
            "averaging": {"name": "ema", "decay": 0.5, "ema_warmup": s2o, "start": int(s2o)},
            "evaluation": {"splits": ["val"], "steps": 1},
        }
    ).resolved()
