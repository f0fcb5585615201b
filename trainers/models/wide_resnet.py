"""Wide residual networks: Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016.

Pre-activation blocks in three stages, Table 1 there, without dropout, as adversarial training has them. Weights are
drawn as in the authors' code and [TRADES]: convolutions from N(0, 2 / (k^2 outputs)), the last bias 0.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from trainers.models.activations import Activation
from trainers.models.preact_resnet import PreActBlock
from trainers.models.stages import stages

STEM_WIDTH = 16


class WideResNet(nn.Module):
    """WRN-depth-width: (depth - 4) / 6 blocks a stage, of 16, 32 and 64 times `width` channels.

    WRN-28-10 has 36.48 million parameters, WRN-34-10 46.16 million; a forward pass of one 32 x 32 image takes
    10.5 and 13.3 GFLOP (a multiply-add is 2).
    """

    def __init__(
        self, channels: int, num_classes: int, *, depth: int, width: int, activation: Activation = nn.ReLU
    ) -> None:
        super().__init__()
        self.activation = activation()
        widths = [width * factor for factor in (16, 32, 64)]
        self.stem = nn.Conv2d(channels, STEM_WIDTH, 3, padding=1, bias=False)
        self.blocks = stages(partial(PreActBlock, activation=activation), STEM_WIDTH, widths, depth=(depth - 4) // 6)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.linear = nn.Linear(widths[-1], num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W), normalised, to logits (B, num_classes)."""
        features = self.activation(self.bn(self.blocks(self.stem(images))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits
