"""PreActResNet-18 for small images: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016.

The stem is one 3 x 3 convolution without pooling, as for CIFAR there; batch norm and ReLU close the network,
as its appendix asks and as [Rice] has it; some published adversarial-training codes leave those last two out. Weights
are drawn as torch does by default, which is what those codes do.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from trainers.models.activations import Activation
from trainers.models.stages import stages

WIDTHS = (64, 128, 256, 512)


class PreActBlock(nn.Module):
    """x + gate(conv(relu(bn(conv(relu(bn(x))))))); where the shape changes, the first relu(bn(x)) is projected.

    The gate is the identity; `senet` has another.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.activation = activation()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.gate: nn.Module = nn.Identity()
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        active = self.activation(self.bn1(features))
        kept = features if self.shortcut is None else self.shortcut(active)
        residual: Tensor = self.gate(self.conv2(self.activation(self.bn2(self.conv1(active)))))
        return residual + kept


class PreActResNet18(nn.Module):
    """Four stages of two blocks, 64 to 512 channels, global average pooling: 11.17 million parameters."""

    def __init__(self, channels: int, num_classes: int, *, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.activation = activation()
        self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.blocks = stages(partial(PreActBlock, activation=activation), WIDTHS[0], WIDTHS, depth=2)
        self.bn = nn.BatchNorm2d(WIDTHS[-1])
        self.linear = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W), normalised, to logits (B, num_classes)."""
        features = self.activation(self.bn(self.blocks(self.stem(images))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits
