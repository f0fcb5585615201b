"""ResNet-18 for small images: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

Its blocks and widths are those of the paper's Table 1; the stem is one 3 x 3 convolution without pooling, as for
CIFAR in Section 4.2 there. Weights are drawn as torch does by default, as the codes that train it on CIFAR do.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from trainers.models.activations import Activation
from trainers.models.stages import stages

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))); where the shape changes, x is projected (option B of the paper)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.activation = activation()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        kept = features if self.shortcut is None else self.shortcut(features)
        residual = self.bn2(self.conv2(self.activation(self.bn1(self.conv1(features)))))
        active: Tensor = self.activation(residual + kept)
        return active


class ResNet18(nn.Module):
    """Four stages of two blocks, 64 to 512 channels, global average pooling: 11.17 million parameters.

    1.11 GFLOP a forward pass of one 32 x 32 image (a multiply-add is 2).
    """

    def __init__(self, channels: int, num_classes: int, *, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.activation = activation()
        self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.blocks = stages(partial(BasicBlock, activation=activation), WIDTHS[0], WIDTHS, depth=2)
        self.linear = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W), normalised, to logits (B, num_classes)."""
        features = self.blocks(self.activation(self.bn(self.stem(images))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits
