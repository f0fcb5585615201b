"""SENet-18 for small images: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018.

The network of the CIFAR codes, which [DEAT] trains: PreActResNet-18 with a gate on each residual. As there, batch
norm and ReLU follow the stem and none closes the network. Weights are drawn as torch does by default, as there.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from trainers.models.activations import Activation
from trainers.models.preact_resnet import PreActBlock
from trainers.models.stages import stages

WIDTHS = (64, 128, 256, 512)
REDUCTION = 16  # the paper's r, Section 3.2


class SqueezeExcitation(nn.Module):
    """Each channel times a gate in (0, 1) that reads the means of all channels."""

    def __init__(self, width: int, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.activation = activation()
        self.squeeze = nn.Linear(width, width // REDUCTION)
        self.excite = nn.Linear(width // REDUCTION, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        gates = torch.sigmoid(self.excite(self.activation(self.squeeze(features.mean((2, 3))))))
        return features * gates[:, :, None, None]


class SEPreActBlock(PreActBlock):
    """A pre-activation block whose residual is gated before it is added."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation = nn.ReLU) -> None:
        super().__init__(inputs, outputs, stride, activation)
        self.gate = SqueezeExcitation(outputs, activation)


class SENet18(nn.Module):
    """Four stages of two blocks, 64 to 512 channels, global average pooling: 11.26 million parameters.

    1.11 GFLOP a forward pass of one 32 x 32 image (a multiply-add is 2).
    """

    def __init__(self, channels: int, num_classes: int, *, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.activation = activation()
        self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.blocks = stages(partial(SEPreActBlock, activation=activation), WIDTHS[0], WIDTHS, depth=2)
        self.linear = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W), normalised, to logits (B, num_classes)."""
        features = self.blocks(self.activation(self.bn(self.stem(images))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits
