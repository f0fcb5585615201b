"""VGG-16 and VGG-19 with batch norm: Simonyan, Zisserman, "Very Deep Convolutional Networks ...", ICLR 2015.

The paper's configurations D and E, Table 1, as the CIFAR codes have them: batch norm after each convolution, and in
place of the three linear layers a global average pooling and one. The convolutions keep the paper's biases, which
batch norm makes idle, because published parameter counts have them. Weights are drawn as torch does by default, as
in those codes.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from trainers.models.activations import Activation

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions of each stage


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions, each closed by a 2 x 2 max-pooling: 14.73 and 20.04 million parameters.

    0.63 and 0.80 GFLOP a forward pass of one 32 x 32 image (a multiply-add is 2).
    """

    def __init__(self, channels: int, num_classes: int, *, depth: int, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for (inputs, outputs), convolutions in zip(pairwise((channels, *WIDTHS)), DEPTHS[depth], strict=True):
            for index in range(convolutions):
                convolution = nn.Conv2d(outputs if index else inputs, outputs, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(outputs), activation()]
            # rounding up keeps 1 x 1 as it is, so that images smaller than 32 x 32 pass through five poolings
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W), normalised, to logits (B, num_classes)."""
        logits: Tensor = self.linear(self.features(images).mean((2, 3)))
        return logits
