"""What the attack raises and the update lowers: slot 2 of the training step.

An objective is a pair: `inner`, the loss that the attack raises, summed over the batch; `outer`, the loss that
the update lowers, a mean over the batch it is given. With F(x) the logits, CE the cross-entropy, KL(x, x')
the divergence of the softmax at x' from that at x, x' what the attack found and y the label:

    natural   no attack              CE(x)
    pgd_at    CE(x')                 CE(x')                                          [PGD-AT, eq. 2.1]
    trades    KL(x, x')              CE(x) + beta KL(x, x')                          [TRADES, eq. 5]
    mart      CE(x')                 BCE(x') + beta (1 - p_y(x)) KL(x, x')           [MART, eq. 11]
    avmixup   CE(x')                 CE(a x + (1 - a) v, a l + (1 - a) m)            [AVMixup, eq. 4 to 6]

and S2O's term joins the first term of any: (1 - w) CE + w S2O [S2O, code].

Label smoothing a is in the CE that the update of natural, pgd_at and trades lowers: (1 - a) CE at the label plus a
times the mean of the CE at every class. Neither the attack's loss nor a divergence nor S2O's target knows of it. So do
wzekai99/DM-Improves-AT and imrahulr/adversarial_robustness_pytorch for TRADES (gowal21uncovering/utils/trades.py,
trades_loss; core/utils/utils.py, SmoothCrossEntropyLoss). P2333/Bag-of-Tricks-for-AT does so for PGD-AT, and gives its
s to the other classes alone (train_cifar.py, LabelSmoothingLoss): the same at a = s classes / (classes - 1).

A step with K attack steps costs, in forward passes of a batch (a backward pass to the input or the weights is
one each): pgd_at, avmixup 2K + 3; mart 2K + 6; trades 2K + 7, the divergence's reference at x being worked out
once and not at every step; natural 3. S2O adds 3 to pgd_at and avmixup, which have no pass at x of their own. Passes
for batch norm's sake (`trainers.method.batch_norm`) are one each beside those.

No loss touches the model's mode. Probabilities are never put into a logarithm: log-softmax takes the place of
the epsilons of the published codes, which changes their values in the last digits; MART's by more where the network
is confident, see `_mart`.

Sources: [PGD-AT] Madry et al., ICLR 2018; [TRADES] Zhang et al., ICML 2019; [MART] Wang et al., ICLR 2020;
[AVMixup] Lee, Lee, Yoon, CVPR 2020; [S2O] Jin et al., CVPR 2022; of each the authors' code too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.config import ObjectiveConfig, S2OConfig
from trainers.method.attacks import Draws, Loss, uniform_
from trainers.workers import ALONE, Workers

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [0, 1] to logits (B, classes)."""

Inner: TypeAlias = Callable[[Forward, Tensor, Tensor], Loss]
"""Forward, clean images and labels, (B,) or probabilities (B, classes), to the loss that the attack raises."""


class Inputs(NamedTuple):
    """What the update is made on: images (B, C, H, W), and targets: labels (B,) or probabilities (B, classes)."""

    images: Tensor
    targets: Tensor


class Logits(NamedTuple):
    """Logits (B, classes) at the update's images, and at the clean ones where the objective reads those."""

    trained: Tensor
    clean: Tensor | None


class Terms(NamedTuple):
    """The outer loss in two parts, each (): the fit, of which S2O takes a share, and what is added in full."""

    fit: Tensor
    divergence: Tensor | None = None


class Outer(NamedTuple):
    """The loss to descend, (), and the logits (B, classes) at the images that the update is made on."""

    loss: Tensor
    logits: Tensor


class Descended(Protocol):
    """The outer loss as a function of nothing but the weights."""

    def __call__(self, *, ascending: bool = False) -> Outer:
        """The loss that is descended; ascending: the one that AWP climbs, which may lack S2O's term."""


@dataclass(frozen=True)
class Objective:
    """An inner and an outer loss."""

    inner: Inner
    terms: Callable[[Logits, Tensor], Terms]
    """Logits and targets to the outer loss."""
    inputs: Callable[[Tensor, Tensor, Tensor, Draws], Inputs]
    """Clean images, adversarial images, labels and the draws of mixing to what the update is made on."""
    reads_clean: bool = False
    """Whether `terms` needs the logits at the clean images."""
    s2o: Callable[[Logits, Tensor], Tensor] | None = None
    """Logits, the clean ones too, and labels to S2O's term, ()."""
    s2o_weight: float = 0.0
    s2o_in_awp: bool = False
    """Whether the loss that AWP climbs has S2O's term too."""

    @property
    def passes_clean(self) -> bool:
        """Whether the update passes the clean images through the network."""
        return self.reads_clean or self.s2o is not None

    def outer(
        self, forward: Forward, images: Tensor, adversarial: Tensor, labels: Tensor, generator: Draws
    ) -> Descended:
        """The outer loss as a function of nothing but the weights: the objective's draws are made here.

        A network that draws itself, by dropout, draws at every call: AWP then climbs under another mask than the
        update descends, as it does in its authors' code.

        Args:
            forward: the model, in train mode.
            images, adversarial: (B, C, H, W) in [0, 1].
            labels: (B,).
            generator: of mixing.
        """
        inputs = self.inputs(images, adversarial, labels, generator)

        def outer(*, ascending: bool = False) -> Outer:
            term = self.s2o if self.s2o_in_awp or not ascending else None
            alone = inputs.images is images
            clean = forward(images) if (self.reads_clean or term is not None) and not alone else None
            trained = forward(inputs.images)
            logits = Logits(trained, trained if alone else clean)
            fit, divergence = self.terms(logits, inputs.targets)
            if term is not None:
                fit = (1 - self.s2o_weight) * fit + self.s2o_weight * term(logits, labels)
            return Outer(fit if divergence is None else fit + divergence, trained)

        return outer


def build(config: ObjectiveConfig, num_classes: int, workers: Workers = ALONE) -> Objective:
    """The objective that a resolved config describes: no `none` is left in it.

    Args:
        config: of a resolved trial.
        num_classes: of the data.
        workers: each of which has a part of the batch. Losses are means over the part; S2O's target is the batch's.
    """
    objective = _objective(config, num_classes)
    return _with_s2o(objective, config.s2o, workers) if config.s2o.enabled else objective


def _objective(config: ObjectiveConfig, num_classes: int) -> Objective:
    if config.is_own:
        from trainers.method import own_objective  # which is made of what is here

        return own_objective.build(config, num_classes)
    match config.name:
        case "natural":
            return Objective(cross_entropy, partial(_fit, smoothing=config.label_smoothing), _clean)
        case "pgd_at":
            return Objective(cross_entropy, partial(_fit, smoothing=config.label_smoothing), _adversarial)
        case "trades":
            terms = partial(_trades, beta=_known(config.beta), smoothing=config.label_smoothing)
            return Objective(divergence, terms, _adversarial, reads_clean=True)
        case "mart":
            return Objective(cross_entropy, partial(_mart, beta=_known(config.beta)), _adversarial, reads_clean=True)
        case "avmixup":
            return Objective(cross_entropy, _fit, partial(_mixed, config=config, num_classes=num_classes))


def _with_s2o(objective: Objective, config: S2OConfig, workers: Workers) -> Objective:
    term = partial(s2o, rho=_known(config.rho), workers=workers)
    return replace(objective, s2o=term, s2o_weight=_known(config.weight), s2o_in_awp=config.in_awp)


def _known(value: float | None) -> float:
    assert value is not None, "resolve the trial's config first"
    return value


def cross_entropy(forward: Forward, images: Tensor, labels: Tensor) -> Loss:
    """The cross-entropy: the inner loss of PGD-AT, MART and AVMixup."""
    return lambda candidates: F.cross_entropy(forward(candidates), labels, reduction="sum")


def divergence(forward: Forward, images: Tensor, labels: Tensor) -> Loss:
    """KL(p(images) || p(candidates)): TRADES' inner loss, whose gradient at the images themselves is 0."""
    with torch.no_grad():
        reference = F.log_softmax(forward(images), dim=1)
    return lambda candidates: _divergence(forward(candidates), reference).sum()


def _clean(images: Tensor, adversarial: Tensor, labels: Tensor, generator: Draws) -> Inputs:
    return Inputs(images, labels)


def _adversarial(images: Tensor, adversarial: Tensor, labels: Tensor, generator: Draws) -> Inputs:
    return Inputs(adversarial, labels)


def _mixed(
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    generator: Draws,
    *,
    config: ObjectiveConfig,
    num_classes: int,
) -> Inputs:
    """Between each image and its adversarial vertex, at a place uniform for each image: Beta(1, 1)."""
    vertex = torch.lerp(images, adversarial, config.vertex).clamp_(0, 1)
    share = uniform_(images.new_empty((len(images), 1, 1, 1)), 0, 1, generator)
    own = config.vertex_label + share.view(-1, 1) * (config.clean_label - config.vertex_label)
    others = ((1 - own) / (num_classes - 1)).expand(-1, num_classes)
    return Inputs(torch.lerp(vertex, images, share), others.scatter(1, labels[:, None], own))


def _fit(logits: Logits, targets: Tensor, *, smoothing: float = 0.0) -> Terms:
    return Terms(F.cross_entropy(logits.trained, targets, label_smoothing=smoothing))


def _trades(logits: Logits, targets: Tensor, *, beta: float, smoothing: float = 0.0) -> Terms:
    """CE at the clean images, and beta times the divergence, both as means over the batch that is there.

    So does the authors' code (trades.py, trades_loss) since commit 43974cc of March 2019; before, it divided the
    divergence by 128 whatever the batch, and copies of it still do.
    """
    assert logits.clean is not None
    reference, attacked = F.log_softmax(logits.clean, dim=1), logits.trained
    fit = F.cross_entropy(logits.clean, targets, label_smoothing=smoothing)
    return Terms(fit, beta * _divergence(attacked, reference).mean())


def _mart(logits: Logits, targets: Tensor, *, beta: float) -> Terms:
    """Boosted cross-entropy at the adversarial images, and beta times the divergence, by 1 - p_y(x).

    The authors write log(1.0001 - p) for the strongest wrong class's p. Here log(1 - p) is the log-sum-exp of the
    other classes, exact: as p nears 1 its gradient stays, where theirs vanishes. So the two gradients part as a network
    grows confident: by 0.004 % of their norm at standard normal logits, 2.5 % at five times and 8 % at ten times those
    (128 images, half of them right; tests/trainers/test_objectives.py).
    """
    assert logits.clean is not None
    reference = F.log_softmax(logits.clean, dim=1)
    unsure = -torch.expm1(reference.gather(1, targets[:, None]).squeeze(1))
    return Terms(
        boosted_cross_entropy(logits.trained, targets), beta * (_divergence(logits.trained, reference) * unsure).mean()
    )


def boosted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """CE - log(1 - p of the strongest wrong class), (): MART's BCE [MART, eq. 8].

    Args:
        logits: (B, classes), at least two classes.
        labels: (B,).
    """
    log_p = F.log_softmax(logits, dim=1)
    wrong = log_p.scatter(1, labels[:, None], -torch.inf).argmax(dim=1, keepdim=True)
    margin = log_p.scatter(1, wrong, -torch.inf).logsumexp(dim=1)
    return F.nll_loss(log_p, labels) - margin.mean()


def s2o(logits: Logits, labels: Tensor, *, rho: float, workers: Workers = ALONE) -> Tensor:
    """Half the divergences of the softmax at the clean and at the update's images from S2O's target, ().

    Args:
        logits: (B, classes) each.
        labels: (B,).
        rho: what the target gives to the other classes together.
        workers: over whose images together the target is worked out.
    """
    pair = (logits.clean, logits.trained)
    terms = [_to_target(z, labels, rho, workers) for z in pair if z is not None]
    return torch.stack(terms).mean()


def _to_target(logits: Tensor, labels: Tensor, rho: float, workers: Workers) -> Tensor:
    target = s2o_target(logits.detach(), rho, workers)[labels]
    return F.kl_div(F.log_softmax(logits, dim=1), target, reduction="batchmean")


def s2o_target(logits: Tensor, rho: float, workers: Workers = ALONE) -> Tensor:
    """The class's target by its row: 1 - rho for itself, rho spread over the less correlated others [S2O, code].

        G = Z^T Z;  M = -|G| less each row's least;  off the diagonal scaled to sum to rho

    A row whose others are all its least (so it is with two classes) spreads rho evenly; the authors' code
    divides by 0 there.

    Args:
        logits: Z, (B, classes).
        rho: in [0, 1).
        workers: each of which has some of Z's rows.

    Returns:
        (classes, classes), rows summing to 1.
    """
    products = logits.T @ logits
    workers.sum_([products])
    correlated = -products.abs()
    others = (correlated - correlated.amin(dim=1, keepdim=True)).fill_diagonal_(0)
    total = others.sum(dim=1, keepdim=True)
    even = rho / (len(others) - 1)
    return torch.where(total > 0, rho * others / total, even).fill_diagonal_(1 - rho)


def _divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL of the softmax of `logits` from the log-probabilities `reference`, both (B, classes): (B,)."""
    return F.kl_div(F.log_softmax(logits, dim=1), reference, reduction="none", log_target=True).sum(dim=1)
