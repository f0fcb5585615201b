"""The one training step: attack, loss at the adversarial images, update."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.attacks import pgd
from trainers.config import AttackConfig
from trainers.engine import Engine, attacking


@dataclass
class Tally:
    """Sums over images, kept on the device so that nothing waits for it before the epoch's end."""

    loss: Tensor
    correct: Tensor
    images: int = 0

    @classmethod
    def empty(cls, device: torch.device) -> Tally:
        """No images yet."""
        return cls(torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device))

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, loss_sum: Tensor) -> None:
        """Counts a batch: logits (B, classes), labels (B,), its summed loss."""
        self.loss += loss_sum
        self.correct += (logits.argmax(dim=1) == labels).sum()
        self.images += len(labels)

    def means(self) -> tuple[float, float]:
        """Accuracy (fraction) and mean loss (nats); waits for the device."""
        return self.correct.item() / self.images, self.loss.item() / self.images


def adversarial(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: AttackConfig,
    engine: Engine,
    generator: torch.Generator,
) -> Tensor:
    """Images (B, C, H, W) that PGD found in the ball around `images` by raising the cross-entropy."""

    def loss(candidates: Tensor) -> Tensor:
        with engine.autocast():
            return F.cross_entropy(model(candidates), labels, reduction="sum")

    with attacking(model, attack.batch_norm):
        return pgd(
            loss,
            images,
            radius=attack.radius,
            step_size=attack.step_size,
            steps=attack.steps,
            norm=attack.norm,
            start=attack.start or "uniform",
            generator=generator,
        )


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    attack: AttackConfig,
    engine: Engine,
    generator: torch.Generator,
    tally: Tally,
) -> None:
    """One update of adversarial training [Madry et al. 2018, eq. 2.1], counted into `tally`.

    Args:
        model: in train mode; left so.
        optimizer: over the model's parameters.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        attack: the inner maximisation; steps = 0 is natural training.
        engine: device and precision.
        generator: of the random start.
        tally: gets the loss and the correct answers at the adversarial images, before the update.
    """
    x_adv = adversarial(model, images, labels, attack, engine, generator)
    with engine.autocast():
        logits = model(x_adv)
        loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    tally.add(logits, labels, loss.detach() * len(labels))
