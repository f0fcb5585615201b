"""A small convolutional network for small images on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

from trainers.models.activations import Activation


class SmallCNN(nn.Module):
    """Three 3 x 3 convolutions with batch norm and an activation, then one linear layer on all positions.

    19,258 parameters on the 8 x 8 digits. There is no pooling: the linear layer sees where a stroke lies.
    """

    def __init__(
        self, channels: int, num_classes: int, height: int, width: int, activation: Activation = nn.ReLU
    ) -> None:
        super().__init__()
        self.activation = activation()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.linear = nn.Linear(32 * ((height + 1) // 2) * ((width + 1) // 2), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width), normalised, to logits (B, num_classes)."""
        features = self.activation(self.bn1(self.conv1(images)))
        features = self.activation(self.bn2(self.conv2(features)))
        features = self.activation(self.bn3(self.conv3(features)))
        logits: Tensor = self.linear(features.flatten(1))
        return logits
