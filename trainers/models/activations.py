"""What may stand in place of the ReLUs of this project's convolutional networks, by its name in the config.

Smooth ones were proposed by Xie et al., "Smooth Adversarial Training", 2020; [Gowal] trains its WideResNets with SiLU,
which is Swish with beta 1. Weights are drawn as for ReLU whatever stands there, as in the codes that do so
(imrahulr/adversarial_robustness_pytorch, core/models/wideresnetwithswish.py).
"""

from __future__ import annotations

from torch import nn

#: A function of each feature alone: a module without weights.
Activation = type[nn.Module]

ACTIVATIONS: dict[str, Activation] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}
