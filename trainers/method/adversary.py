"""Who finds the images that a step trains on: PGD, anew for each batch, or a perturbation that is carried on.

    PGD       x' = pgd(inner loss, x)                                      K gradients before the update
    Carried   x' = x + delta; the update at x'; delta <- step along the update's own gradient by x'

[Free, Algorithm 1]: a step of `Carried` costs no pass more than natural training, each batch is trained on m times in a
row, and delta goes on from one batch to the next: it is one tensor for all batches, a short one reads its first rows,
and it goes on over epochs too, so that a checkpoint holds it (locuslab/fast_adversarial, CIFAR10/train_free.py, delta;
ashafahi/free_adv_train, free_model.py, pert). The first m - 1 updates on a batch make its delta stronger, the last one
that of the next batch. As in the authors' code x + delta is clipped to [0, 1] (free_model.py, final_input).

Of several workers each carries the rows of its part of a whole batch. A short batch is cut into other parts: there they
hand each other the rows.

Radius, step size and tau may change from step to step. They then lie in tensors, which a captured step reads anew.

Source: [Free] Shafahi et al., "Adversarial Training for Free!", NeurIPS 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainers.config import AttackConfig
from trainers.errors import UserError
from trainers.method.attacks import Gradient, one_step
from trainers.method.objectives import Forward, Inner
from trainers.method.step import Attack, Strength, adversarial
from trainers.workers import ALONE, Part, Workers


def at(attack: AttackConfig, progress: float) -> Strength:
    """Radius, step size and tau in a step that begins when so many epochs are done.

        radius min(1, progress / radius_warmup),    tau + number of tau_milestones <= progress

    So the first step of a warm-up has radius 0, as the learning rate's has rate 0 (`trainers.method.schedules`) and as
    N-FGSM's has on SVHN (pdejorge/N-FGSM, train.py). The code of Pang et al. takes (progress + 1) / warm-up at an
    epoch's every step, which is above 1 in the last epoch of it (P2333/Bag-of-Tricks-for-AT, eps_alpha_schedule).

    >>> at(AttackConfig(radius=0.2, step_size=0.1, radius_warmup=4), 1.0)
    Strength(radius=0.05, step_size=0.1, tau=None)
    """
    grown = sum(milestone <= progress for milestone in attack.tau_milestones)
    return Strength(
        attack.radius * _share(progress, attack.radius_warmup),
        attack.step_size * _share(progress, attack.step_size_warmup),
        None if attack.tau is None else attack.tau + grown,
    )


def _share(progress: float, warmup: float) -> float:
    return progress / warmup if progress < warmup else 1.0


class PGD:
    """PGD and what it has as special cases: FGSM-RS, N-FGSM, and with tau FAT.

    Args:
        config: of a resolved trial.
        device: of the images.
    """

    replays = 1
    """Updates on a batch."""

    def __init__(self, config: AttackConfig, device: torch.device) -> None:
        self._config = config
        whole = Strength.of(config)
        self._strength = Strength(
            torch.tensor(whole.radius, device=device) if config.radius_warmup else whole.radius,
            torch.tensor(whole.step_size, device=device) if config.step_size_warmup else whole.step_size,
            torch.tensor(whole.tau, device=device) if config.tau_milestones else whole.tau,
        )

    def set_progress(self, progress: float) -> None:
        """Makes radius, step size and tau those of a step that begins when so many epochs are done, in place."""
        places = [place for place in self._strength if isinstance(place, Tensor)]
        if places:
            for place, value in zip(self._strength, at(self._config, progress), strict=True):
                if isinstance(place, Tensor):
                    assert value is not None
                    place.fill_(value)

    def find(
        self,
        model: nn.Module,
        inner: Inner,
        images: Tensor,
        labels: Tensor,
        forward: Forward,
        generator: torch.Generator,
        gradient: Gradient,
        part: Part,
    ) -> Tensor:
        """The images to train on; arguments as `trainers.method.step.Attack` has them."""
        draws = part.draws(generator)
        return adversarial(
            model, inner, images, labels, self._config, forward, draws, gradient, strength=self._strength
        )

    def updated(self, images: Tensor, trained: Tensor, part: Part) -> None:
        """Nothing is learnt from the update."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing that a checkpoint has to hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""


class Carried(PGD):
    """A perturbation that is carried from update to update: free adversarial training.

    Args:
        config: of a resolved trial, with replays.
        like: (batch_size, C, H, W): shape, type, device and memory format of the largest batch.
        workers: that share it.
    """

    def __init__(self, config: AttackConfig, like: Tensor, workers: Workers = ALONE) -> None:
        super().__init__(config, like.device)
        assert config.replays is not None
        self.replays = config.replays
        self._whole = Part(workers, len(like))
        self._delta = torch.zeros_like(like[self._whole.images])

    def find(
        self,
        model: nn.Module,
        inner: Inner,
        images: Tensor,
        labels: Tensor,
        forward: Forward,
        generator: torch.Generator,
        gradient: Gradient,
        part: Part,
    ) -> Tensor:
        """The images with the perturbation as it is, (B, C, H, W) in [0, 1], whose gradient the update leaves."""
        delta = self._delta[: len(images)] if self._carries(part) else self._all()[part.images]
        return torch.add(images, delta).clamp_(0, 1).requires_grad_()

    @torch.no_grad()
    def updated(self, images: Tensor, trained: Tensor, part: Part) -> None:
        """One step from the images that were trained on, along the gradient that the update's backward pass left."""
        if trained.grad is None:
            raise UserError(
                "attack.replays: needs an outer loss that hangs on the adversarial images, without detach(); mend the "
                "objective, or leave attack.replays out"
            )
        radius, step_size, _ = self._strength
        climbed = one_step(images, trained, trained.grad, radius=radius, step_size=step_size, norm=self._config.norm)
        delta = climbed.sub_(images)
        if self._carries(part):
            self._delta[: len(images)].copy_(delta)
        else:
            delta = torch.cat([part.workers.gathered(delta), self._all()[part.whole :]])
            self._delta.copy_(delta[self._whole.images])

    def _carries(self, part: Part) -> bool:
        """Whether the rows that a worker carries are those of its part of a batch."""
        return part.workers.alone or part.whole == self._whole.whole

    def _all(self) -> Tensor:
        """The rows of all workers."""
        return self._whole.workers.gathered(self._delta)

    def state_dict(self) -> dict[str, Any]:
        """The perturbation, for a whole batch."""
        return {"delta": self._all()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._delta.copy_(state["delta"][self._whole.images])


def build(config: AttackConfig, like: Tensor, workers: Workers = ALONE) -> Attack:
    """What a resolved config names.

    Args:
        config: of a resolved trial.
        like: (batch_size, C, H, W), as the batches will be.
        workers: that share them.
    """
    return PGD(config, like.device) if config.replays is None else Carried(config, like, workers)
