"""How a trial is trained: the four slots of a step, the learning rate over the epochs, averaged weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainers.fields import Frozen, Number, Truth, Whole
from trainers.own.reference import OwnName, OwnPart

#: Where PGD begins; see `trainers.method.attacks.pgd`.
Start = Literal["uniform", "uniform_radius", "normal", "clean"]


_WORDS = {"deat": "DEAT", "adamw": "AdamW"}


class OptimizerConfig(OwnPart):
    """The update rule: slot 4 of the training step."""

    PART: ClassVar[str] = "optimizer"

    name: Annotated[Literal["sgd", "deat", "adamw"], OwnName("torch.optim:RMSprop")] = Field(
        "sgd",
        description="sgd is PGD-AT's; deat is [DEAT, Algorithm 2]; adamw is torch's AdamW, [AdamW]; or a torch "
        "Optimizer of your own, or torch's: PACKAGE.MODULE:NAME or ./FILE.py:NAME (docs/own_code.md).",
    )
    lr: Number = Field(0.1, gt=0, description="Learning rate at the start. [DEAT: one point of Fig. 4]")
    momentum: Number = Field(0.0, ge=0, lt=1, description="sgd only. [DEAT: Algorithm 1 has none]")
    nesterov: Truth = Field(False, description="sgd only: Nesterov's form of momentum.")
    weight_decay: Number = Field(5e-4, ge=0, description="L2 coefficient, 1. [DEAT]")
    decoupled_weight_decay: Truth | None = Field(
        None,
        description="true: theta *= 1 - lr * weight_decay; false: weight_decay * theta joins the gradient. "
        "none: as published, true for deat and adamw, false for sgd; adamw has no other. [DEAT, code; AdamW]",
    )
    k1: Number = Field(1.0, ge=0, description="deat only: noise enhancement. [DEAT]")
    k2: Number = Field(0.8, ge=0, lt=1, description="deat only: decay of each gradient average. [DEAT; code 0.81]")
    beta1: Number = Field(0.9, ge=0, lt=1, description="adamw only: decay of the gradient's average. [AdamW; torch]")
    beta2: Number = Field(0.999, ge=0, lt=1, description="adamw only: decay of its square's average. [AdamW; torch]")
    eps: Number = Field(1e-8, gt=0, description="adamw only: added to the root of that average. [AdamW; torch]")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in _WORDS and (self.momentum or self.nesterov):
            raise ValueError(
                f"momentum: {_WORDS[self.name]} has none; give it to sgd alone, in space: "
                "optimizer.momentum: {grid: [0.9], when: {optimizer.name: sgd}}"
            )
        if self.name == "adamw" and self.decoupled_weight_decay is False:
            raise ValueError("decoupled_weight_decay: must be true for adamw, which is Adam with that; leave it out")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: needs momentum > 0, got 0.0")
        return self


class ScheduleConfig(OwnPart):
    """The learning rate over the epochs, as a factor on optimizer.lr."""

    PART: ClassVar[str] = "schedule"

    name: Annotated[Literal["piecewise", "cosine", "linear", "one_cycle", "constant"], OwnName()] = Field(
        "piecewise",
        description="piecewise: x factor at each milestone. cosine: half a cosine to 0. linear: a line to 0. "
        "one_cycle: linear up to lr over warmup, then linear down to 0. constant: lr. Or a function of your "
        "own: PACKAGE.MODULE:NAME or ./FILE.py:NAME (docs/own_code.md). [DEAT: piecewise]",
    )
    milestones: tuple[Annotated[Whole, Field(gt=0)], ...] = Field(
        (100, 105), description="piecewise: epochs after which lr is multiplied by factor. [DEAT]"
    )
    factor: Number = Field(0.1, gt=0, description="piecewise: the factor. [DEAT]")
    warmup: Number = Field(0.4, gt=0, lt=1, description="one_cycle: share of the training spent rising.")
    warmup_epochs: Number = Field(
        0, ge=0, description="All others: epochs over which a linear rise from 0 multiplies the curve. [DEAT: none]"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: must rise, got {list(self.milestones)}")
        return self


class AttackConfig(Frozen):
    """The training attack, PGD and its kin: slot 1 of the training step. Pixels live in [0, 1].

    FGSM-RS is PGD of one step from a uniform start; N-FGSM the same from outside the ball, without `project`; Free-AT
    is `replays`; FAT is `tau`. Each has a preset with its paper's values.
    """

    norm: Literal["linf", "l2"] = Field("linf", description="The ball's norm. [DEAT]")
    radius: Number = Field(8 / 255, ge=0, description="The ball's radius, in pixel units. [DEAT]")
    step_size: Number = Field(2 / 255, gt=0, description="One step's length, in pixel units. [DEAT]")
    steps: Whole = Field(10, ge=0, description="PGD steps; 0 trains on clean images. [DEAT]")
    start: Start | None = Field(
        None,
        description="Where PGD begins. uniform: in the ball, by volume; uniform_radius: in a uniform direction, at a "
        "distance uniform in [0, radius], which in linf is uniform; normal: the image plus 0.001 times standard normal "
        "noise; clean: the image. none: as published, normal for trades and mart, else uniform_radius. [DEAT, code; "
        "l2: Rice, code]",
    )
    batch_norm: Literal["eval", "train", "batch"] = Field(
        "eval",
        description="Batch norm while attacking; the update is always in train mode. eval: by its running statistics. "
        "train: by the batch, and the running statistics take in every step of the attack. batch: by the batch, "
        "running statistics untouched. [DEAT: eval, which in the code is the flag --BNeval, its default being train; "
        "TRADES, MART, S2O: eval; Rice, AWP: train; AVMixup: batch]",
    )
    start_scale: Number = Field(
        1.0,
        gt=0,
        description="Uniform starts: the radius of the ball that they lie in, in radii. [DEAT: 1; NFGSM: k = 2]",
    )
    project: Truth = Field(
        True, description="Whether each step ends in the ball; false: in [0, 1] alone. [DEAT: true; NFGSM: false]"
    )
    radius_warmup: Number = Field(
        0,
        ge=0,
        description="Epochs over which the radius rises linearly from 0, step by step. [DEAT: none; Qin: 15; NFGSM on "
        "svhn: 5]",
    )
    step_size_warmup: Number = Field(
        0, ge=0, description="Epochs over which the step size rises so. [DEAT: none; NFGSM on svhn: 5]"
    )
    tau: Whole | None = Field(
        None,
        ge=0,
        description="Steps that an image still takes after it is first taken for another class, where it then stops. "
        "none: all. [DEAT: none; FAT: 0 at first]",
    )
    tau_milestones: tuple[Annotated[Whole, Field(gt=0)], ...] = Field(
        (), description="tau: epochs after which it grows by 1. [FAT, code: 50, 90]"
    )
    replays: Whole | None = Field(
        None,
        gt=0,
        description="Free adversarial training: updates on each batch before the next, m. The perturbation is carried "
        "from update to update, and climbs by one step along the update's own gradient, with no pass of its own; steps "
        "and start are not read, nor is batch_norm but by the dynamics. none: PGD. [Free: 8]",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.tau_milestones) != sorted(set(self.tau_milestones)):
            raise ValueError(f"tau_milestones: must rise, got {list(self.tau_milestones)}")
        if self.tau_milestones and self.tau is None:
            raise ValueError(
                f"tau_milestones: tau grows then, and is none; got {list(self.tau_milestones)}; set tau: 0"
            )
        if self.start_scale != 1 and self.start in ("normal", "clean"):
            raise ValueError(f"start_scale: is of a uniform start, and start is {self.start}; leave one of them out")
        if self.replays is not None and self.tau is not None:
            raise ValueError("tau: an attack with replays has no steps of its own to stop; leave one of them out")
        if self.replays is not None and not self.project:
            raise ValueError("project: must be true with replays, or the perturbation grows without end; leave it out")
        return self


class S2OConfig(Frozen):
    """Second-order statistics of weights: a term that any objective takes."""

    enabled: Truth = Field(False, description="Whether the term is part of the objective.")
    weight: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="Share w: (1 - w) * the objective's first term + w * the S2O term. none: as published, 0.3 for "
        "trades and mart, else 0.1. [S2O, code]",
    )
    rho: Number | None = Field(
        None,
        ge=0,
        lt=1,
        description="What the target gives to the other classes together. none: as published, 0.98 for cifar100, else "
        "0.8. [S2O, code]",
    )
    in_awp: Truth = Field(
        False,
        description="weights.name awp: whether the loss that it climbs has the term too. "
        "[S2O, code: CIFAR10_AWP_S2O/utils_awp.py, TradesAWP.calc_awp: no]",
    )


class ObjectiveConfig(OwnPart):
    """What the attack raises and the update lowers: slot 2 of the training step."""

    PART: ClassVar[str] = "objective"

    name: Annotated[Literal["natural", "pgd_at", "trades", "mart", "avmixup"], OwnName()] = Field(
        "pgd_at",
        description="natural trains on clean images. Or your own: PACKAGE.MODULE:NAME or ./FILE.py:NAME "
        "(docs/own_code.md). [DEAT: pgd_at]",
    )
    beta: Number | None = Field(
        None, ge=0, description="trades, mart: weight of the divergence. none: 6 and 5. [TRADES; MART: ResNet-18]"
    )
    label_smoothing: Number = Field(
        0,
        ge=0,
        lt=1,
        description="natural, pgd_at, trades: a; the cross-entropy that the update lowers is at 1 - a times the label "
        "plus a / classes for each class, as torch's; the attack's is at the label. [DEAT: 0; Gowal: 0.1 with trades, "
        "by imrahulr/adversarial_robustness_pytorch and wzekai99/DM-Improves-AT; Pang, pgd_at: (classes - 1) / classes "
        "times a]",
    )
    vertex: Number = Field(2.0, ge=1, description="avmixup: the vertex is image + vertex * perturbation. [AVMixup]")
    clean_label: Number = Field(1.0, ge=0, le=1, description="avmixup: lambda1, the image's label weight. [AVMixup]")
    vertex_label: Number = Field(0.1, ge=0, le=1, description="avmixup: lambda2, the vertex's label weight. [AVMixup]")
    s2o: S2OConfig = Field(default_factory=lambda: S2OConfig())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        others = {
            "mart": "its boosted cross-entropy is of one class",
            "avmixup": "clean_label and vertex_label are its",
        }
        if self.label_smoothing and self.name in others:
            raise ValueError(
                f"label_smoothing: has no meaning for {self.name}: {others[self.name]}; set 0, or in space: "
                "objective.label_smoothing: {grid: [0.1], when: {objective.name: [pgd_at, trades]}}"
            )
        return self


class WeightsConfig(Frozen):
    """Around which weights the loss is descended: slot 3 of the training step."""

    name: Literal["none", "awp"] = Field("none", description="awp: adversarial weight perturbation. [AWP]")
    gamma: Number | None = Field(
        None, gt=0, description="awp: |perturbation| / |weights|, by tensor. none: 0.005 for trades, else 0.01. [AWP]"
    )
    warmup: Whole | None = Field(
        None, ge=0, description="awp: epochs before it begins. none: 10 for trades, else 0. [AWP, code]"
    )


class AveragingConfig(Frozen):
    """Averaged weights, evaluated beside the raw ones; training itself is the same with and without."""

    name: Literal["none", "ema", "swa"] = Field(
        "none", description="ema: a decaying average, taken every step. swa: an equal one, taken every epoch."
    )
    decay: Number = Field(0.995, gt=0, lt=1, description="ema: weight of the average so far. [Gowal]")
    ema_warmup: Truth = Field(
        False,
        description="ema: at its step t = 0, 1, ... the average so far weighs min(decay, (1 + t) / (10 + t)), and "
        "batch norm's statistics are the raw weights'. [Gowal, code: true]",
    )
    start: Whole | None = Field(
        None, ge=0, description="Epochs before it begins. none: 0 for ema; for swa three quarters of them. [SWA]"
    )
