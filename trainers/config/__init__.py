"""One trial, completely described: every hyperparameter with its default, unit and source.

What is left out is DEAT's, or with `preset` another paper's (`trainers.presets`). A `none` stands for what was
published for the rest of the config; `TrialConfig.resolved` fills it in. Learning rates, radii and step sizes accept
`1e-4` and `8/255` as text, because YAML reads those as strings.

Sources in brackets:
    [DEAT]    Sun, Sinha, Zhang, KDD 2023, Table 1 and the authors' code
    [Rice]    Rice, Wong, Kolter, ICML 2020
    [TRADES]  Zhang et al., ICML 2019, and the authors' code
    [MART]    Wang et al., ICLR 2020, and the authors' code
    [AVMixup] Lee, Lee, Yoon, CVPR 2020, and the authors' code
    [S2O]     Jin et al., CVPR 2022, and the authors' code (GitHub Alexkael/S2O)
    [AWP]     Wu, Xia, Wang, NeurIPS 2020, and the authors' code
    [Gowal]   Gowal et al., "Uncovering the Limits of Adversarial Training", 2020, Section 4.4
    [SWA]     Izmailov et al., UAI 2018
    [AdamW]   Loshchilov, Hutter, ICLR 2019
    [Pang]    Pang et al., "Bag of Tricks for Adversarial Training", ICLR 2021, and the authors' code
    [Qin]     Qin et al., "Adversarial Robustness through Local Linearization", NeurIPS 2019
    [RS]      Wong, Rice, Kolter, "Fast is better than free", ICLR 2020, and the authors' code: FGSM-RS
    [NFGSM]   de Jorge et al., "Make Some Noise", NeurIPS 2022, and the authors' code
    [Free]    Shafahi et al., "Adversarial Training for Free!", NeurIPS 2019, and the authors' code
    [FAT]     Zhang et al., "Attacks Which Do Not Kill Training", ICML 2020, and the authors' code
    [own]     chosen here, and measured in no paper

The rooms:
    data         which images
    model        which network
    method       how it is trained: optimizer, schedule, attack, objective, weights, averaging
    measurement  what is measured and kept, and how often
    trial        TrialConfig: all of them together, and what a `none` stands for
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.config.data import DataConfig
    from trainers.config.measurement import CheckpointConfig, DynamicsConfig, EvaluationConfig
    from trainers.config.method import (
        AttackConfig,
        AveragingConfig,
        ObjectiveConfig,
        OptimizerConfig,
        S2OConfig,
        ScheduleConfig,
        Start,
        WeightsConfig,
    )
    from trainers.config.model import NETWORKS, ModelConfig
    from trainers.config.trial import TrialConfig, check_length, leaves

_ROOMS = {
    "AttackConfig": "method",
    "AveragingConfig": "method",
    "CheckpointConfig": "measurement",
    "DataConfig": "data",
    "DynamicsConfig": "measurement",
    "EvaluationConfig": "measurement",
    "ModelConfig": "model",
    "NETWORKS": "model",
    "ObjectiveConfig": "method",
    "OptimizerConfig": "method",
    "S2OConfig": "method",
    "ScheduleConfig": "method",
    "Start": "method",
    "TrialConfig": "trial",
    "WeightsConfig": "method",
    "check_length": "trial",
    "leaves": "trial",
}

__all__ = [
    "NETWORKS",
    "AttackConfig",
    "AveragingConfig",
    "CheckpointConfig",
    "DataConfig",
    "DynamicsConfig",
    "EvaluationConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "S2OConfig",
    "ScheduleConfig",
    "Start",
    "TrialConfig",
    "WeightsConfig",
    "check_length",
    "leaves",
]


def __getattr__(name: str) -> Any:
    """Found when it is asked for, as the parts import each other."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"trainers.config.{_ROOMS[name]}"), name)
