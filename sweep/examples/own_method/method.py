"""A network and an objective of one's own; sweep.yaml trains both, and PGD-AT beside them."""

from torch import nn
from torch.nn import functional as F


class TinyNet(nn.Module):
    """Two convolutions and a linear layer. `width` is an option: model.width in sweep.yaml."""

    def __init__(self, num_classes, channels, image_size, width: int = 16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
        )
        self.scores = nn.Linear(2 * width * 4 * 4, num_classes)

    def forward(self, images):
        return self.scores(self.features(images).flatten(1))


class LogitPairing:
    """Cross-entropy at x', and weight times its logits' squared distance from those at x (Kannan et al., 2018)."""

    passes_clean = True  # outer passes the clean images through the network

    def __init__(self, num_classes, weight: float = 0.5):
        self.weight = weight

    def inner(self, forward, images, labels):
        return lambda candidates: F.cross_entropy(forward(candidates), labels, reduction="sum")

    def outer(self, forward, images, adversarial, labels):
        clean, attacked = forward(images), forward(adversarial)
        return F.cross_entropy(attacked, labels) + self.weight * F.mse_loss(attacked, clean)
