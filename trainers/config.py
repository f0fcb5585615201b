"""One trial, completely described: every hyperparameter with its default, unit and source.

What is left out is DEAT's, or with `preset` another paper's (`trainers.presets`). A `none` stands for what was
published for the rest of the config; `TrialConfig.resolved` fills it in. Learning rates, radii and step sizes accept
`1e-4` and `8/255` as text, because YAML reads those as strings.

Sources in brackets:
    [DEAT]    Sun, Sinha, Zhang, KDD 2023, Table 1 and the authors' code
    [Rice]    Rice, Wong, Kolter, ICML 2020
    [TRADES]  Zhang et al., ICML 2019, and the authors' code
    [MART]    Wang et al., ICLR 2020, and the authors' code
    [AVMixup] Lee, Lee, Yoon, CVPR 2020, and the authors' code
    [S2O]     Jin et al., CVPR 2022, and the authors' code (GitHub Alexkael/S2O)
    [AWP]     Wu, Xia, Wang, NeurIPS 2020, and the authors' code
    [Gowal]   Gowal et al., "Uncovering the Limits of Adversarial Training", 2020, Section 4.4
    [SWA]     Izmailov et al., UAI 2018
    [own]     chosen here, and measured in no paper
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ModelWrapValidatorHandler, model_validator

from trainers.errors import suggestion
from trainers.fields import Frozen, Number, Truth, Whole
from trainers.presets import PresetName, beneath

#: The networks of trainers.models; `torchvision:NAME` is any classifier of torchvision's.
NETWORKS = (
    "small_cnn",
    "preact_resnet18",
    "resnet18",
    "senet18",
    "vgg16",
    "vgg19",
    "wide_resnet28_10",
    "wide_resnet34_10",
    "vit_small",
)


def _network(name: str) -> str:
    if name not in NETWORKS and not name.removeprefix("torchvision:").isidentifier():
        raise ValueError(f"must be {', '.join(NETWORKS)} or torchvision:NAME, got {name!r}")
    if name not in NETWORKS and not name.startswith("torchvision:"):
        raise ValueError(f"unknown network {name!r} (torchvision's are torchvision:NAME); {suggestion(name, NETWORKS)}")
    return name


def check_length(key: str, length: float, norm: str, pixels: int | None = None) -> None:
    """A radius or step is not longer than all images of pixels in [0, 1] are apart: 1 in l_inf, sqrt(pixels) in l_2.

    Args:
        key: where it was given.
        length: in pixel units.
        norm: linf or l2.
        pixels: of an image, C * H * W; none: not known yet, and no l_2 length is refused.

    Raises:
        ValueError: it is longer.
    """
    most = 1.0 if norm == "linf" else math.sqrt(pixels or math.inf)
    if length > most:
        way_out = f"did you mean {length:g}/255?" if length <= 255 * most else "lower it"
        raise ValueError(f"{key}: must be <= {most:.4g} in {norm}, pixels being in [0, 1], got {length:g}; {way_out}")


Network = Annotated[str, AfterValidator(_network)]
#: Where PGD begins; see `trainers.method.attacks.pgd`.
Start = Literal["uniform", "uniform_radius", "normal", "clean"]
Part = TypeVar("Part", bound=Frozen)


class DataConfig(Frozen):
    """Which images, and how they are split and augmented."""

    name: Literal["digits", "cifar10", "cifar100", "svhn", "image_folder", "tiny_imagenet"] = Field(
        "cifar10", description="The data set. digits is scikit-learn's (8 x 8, inside the package). [DEAT: CIFAR-10]"
    )
    root: str | None = Field(
        None,
        description="Folder of the data; none: ./data. image_folder needs it: it holds train/ and test/, "
        "each with one folder a class; tiny_imagenet too: it holds train/ and val/ as unpacked. Not part of the "
        "trial's id: the fingerprint is.",
    )
    download: Truth = Field(False, description="Fetch the official archive into root if it is not there.")
    validation_fraction: Number = Field(
        0.02, ge=0, lt=1, description="Share of the training set held out, by class. [Rice: 1,000 of 50,000]"
    )
    augment: Truth | None = Field(
        None,
        description="4-pixel pad, random crop, horizontal flip. none: on, but off for digits, "
        "which a flip would change into other signs. [DEAT]",
    )
    padding: Literal["reflect", "zero"] = Field(
        "reflect",
        description="augment: what the pad holds. [DEAT, Rice, AWP: reflect; TRADES, MART, S2O, AVMixup: zero]",
    )
    train_per_class: Whole | None = Field(
        None, gt=0, description="Take only the first so many training images of each class, validation included."
    )
    test_per_class: Whole | None = Field(None, gt=0, description="Take only the first so many test images of a class.")
    image_size: Whole | None = Field(
        None,
        gt=0,
        description="image_folder, tiny_imagenet: resize to this height and width, pixels. none: images have one size.",
    )
    fingerprint: str | None = Field(
        None, description="Hash of the data's content. Filled in by the sweep; if set, other data are refused."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        files = {"image_folder": "train/ and test/", "tiny_imagenet": "train/ and val/"}
        if self.name in files and self.root is None:
            raise ValueError(f"root: needed for {self.name}: the folder that holds {files[self.name]}")
        if self.name not in files and self.image_size is not None:
            raise ValueError(
                f"image_size: only {' and '.join(files)} are resized, and name is {self.name!r}; leave it out"
            )
        return self


class ModelConfig(Frozen):
    """Which network, and whether it normalises its input."""

    name: Network = Field(
        "preact_resnet18",
        description=f"The network: {', '.join(NETWORKS)}, or torchvision:NAME, its stem adapted to small images. "
        "[DEAT]",
    )
    normalize: Truth = Field(
        True,
        description="Subtract the data set's channel mean and divide by its standard deviation inside the model, "
        "so that attacks act on pixels in [0, 1]. [DEAT, Rice, AWP: true; TRADES, MART, S2O: false]",
    )
    moments: Literal["data", "half"] = Field(
        "data",
        description="normalize: by which mean and standard deviation. data: the data set's own; half: 0.5 and 0.5. "
        "[DEAT: data; Rice and AWP on SVHN: half]",
    )


class OptimizerConfig(Frozen):
    """The update rule: slot 4 of the training step."""

    name: Literal["sgd", "deat"] = Field("sgd", description="sgd is PGD-AT's; deat is [DEAT, Algorithm 2].")
    lr: Number = Field(0.1, gt=0, description="Learning rate at the start. [DEAT: one point of Fig. 4]")
    momentum: Number = Field(0.0, ge=0, lt=1, description="sgd only. [DEAT: Algorithm 1 has none]")
    nesterov: Truth = Field(False, description="sgd only: Nesterov's form of momentum.")
    weight_decay: Number = Field(5e-4, ge=0, description="L2 coefficient, 1. [DEAT]")
    decoupled_weight_decay: Truth | None = Field(
        None,
        description="true: theta *= 1 - lr * weight_decay; false: weight_decay * theta joins the gradient. "
        "none: as published, true for deat and false for sgd. [DEAT, code]",
    )
    k1: Number = Field(1.0, ge=0, description="deat only: noise enhancement. [DEAT]")
    k2: Number = Field(0.8, ge=0, lt=1, description="deat only: decay of each gradient average. [DEAT; code 0.81]")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name == "deat" and (self.momentum or self.nesterov):
            raise ValueError(
                "momentum: DEAT has none; give it to sgd alone, in space: "
                "optimizer.momentum: {grid: [0.9], when: {optimizer.name: sgd}}"
            )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: needs momentum > 0, got 0.0")
        return self


class ScheduleConfig(Frozen):
    """The learning rate over the epochs, as a factor on optimizer.lr."""

    name: Literal["piecewise", "cosine", "linear", "one_cycle", "constant"] = Field(
        "piecewise",
        description="piecewise: x factor at each milestone. cosine: half a cosine to 0. linear: a line to 0. "
        "one_cycle: linear up to lr over warmup, then linear down to 0. constant: lr. [DEAT: piecewise]",
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
    """The training attack, PGD: slot 1 of the training step. Pixels live in [0, 1]."""

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


class ObjectiveConfig(Frozen):
    """What the attack raises and the update lowers: slot 2 of the training step."""

    name: Literal["natural", "pgd_at", "trades", "mart", "avmixup"] = Field(
        "pgd_at", description="natural trains on clean images. [DEAT: pgd_at]"
    )
    beta: Number | None = Field(
        None, ge=0, description="trades, mart: weight of the divergence. none: 6 and 5. [TRADES; MART: ResNet-18]"
    )
    vertex: Number = Field(2.0, ge=1, description="avmixup: the vertex is image + vertex * perturbation. [AVMixup]")
    clean_label: Number = Field(1.0, ge=0, le=1, description="avmixup: lambda1, the image's label weight. [AVMixup]")
    vertex_label: Number = Field(0.1, ge=0, le=1, description="avmixup: lambda2, the vertex's label weight. [AVMixup]")
    s2o: S2OConfig = Field(default_factory=lambda: S2OConfig())


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


class EvaluationConfig(Frozen):
    """What is measured, on which images and how often. What is none is taken from the training attack."""

    every: Whole = Field(1, gt=0, description="Every so many epochs, and always after the last one.")
    splits: tuple[Literal["train", "val", "test"], ...] = Field(
        ("train", "val", "test"),
        description="Where. On train only the clean accuracy is measured; the robust one is that of the training "
        "batches, seen before their update.",
    )
    steps: Whole = Field(10, gt=0, description="PGD steps. [DEAT: PGD-10]")
    start: Start | None = Field(
        None, description="Where PGD begins, as attack.start. none: uniform_radius, which in linf is uniform. [DEAT]"
    )
    restarts: Whole = Field(1, gt=0, description="Random starts; an image counts as robust if none breaks it. [DEAT]")
    step_size: Number | None = Field(None, gt=0, description="none: attack.step_size.")
    radius: Number | None = Field(None, ge=0, description="none: attack.radius.")
    batch_size: Whole = Field(500, gt=0, description="Images a forward pass; 1.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of the attack's passes while training is evaluated; what counts an image right is a pass in fp32. "
        "bf16: for a GPU, and a slightly other attack. [own: fp32]",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.splits)) != len(self.splits):
            raise ValueError(f"splits: each once, got {list(self.splits)}")
        if self.start == "clean" and self.restarts > 1:
            raise ValueError(f"restarts: from the clean image all are the same; got {self.restarts}; set 1")
        return self


class DynamicsConfig(Frozen):
    """What is measured of the loss and its gradient's noise along the way; training is the same with and without."""

    every: Whole | None = Field(
        None, gt=0, description="Before training, every so many epochs, and after the last one. none: never. [own]"
    )
    images: Whole = Field(
        500, gt=2, description="Training images measured on, at most; the same for every epoch and seed. [own]"
    )
    eigenpairs: Whole = Field(5, gt=0, description="Largest eigenvalues of the Hessian, and their directions. [own]")
    directions: Whole = Field(2, gt=0, description="Random directions measured beside those. [own]")
    probes: Whole = Field(20, gt=1, description="Random vectors for the Hessian's trace. [own]")
    batches: Whole = Field(100, ge=4, multiple_of=2, description="Mini-batches for the gradient's noise. [own]")
    batch_sizes: tuple[Whole, ...] = Field(
        (), description="Further mini-batch sizes at which the noise is measured, images, beside batch_size. [own]"
    )
    batch_norm: Literal["eval", "train"] = Field(
        "train", description="Batch-norm mode of those mini-batches. train: as the update's; the Hessian's is eval."
    )
    line: tuple[Annotated[Number, Field(gt=0)], ...] = Field(
        (0.5, 1.0, 2.0, 4.0),
        min_length=1,
        description="How far along each direction the loss is looked at, either way, in units of the noise's "
        "stationary standard deviation there at small lr. [own]",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(size < 2 for size in self.batch_sizes):
            raise ValueError(f"batch_sizes: each at least 2, for batch norm; got {list(self.batch_sizes)}")
        return self


class CheckpointConfig(Frozen):
    """How often a trial that trains writes its checkpoint, beside the training. Not part of its id.

    Either count makes a file due at an epoch's end. The first epoch that a process trains is always written, so that a
    disk that is full is known early, and so are the last one and, when the trial is stopped, the newest.
    """

    every_epochs: Whole | None = Field(
        None, gt=0, description="Every so many epochs. null: their number makes no file due. [own]"
    )
    every_minutes: Number | None = Field(
        1.0,
        ge=0,
        description="Once so many minutes have passed since the file before, at the end of the epoch that trains then. "
        "A machine that dies costs as much, and at most an epoch more; a signal, the epoch in which it comes. null: "
        "time makes no file due. [own]",
    )


class TrialConfig(Frozen):
    """One training run. Two trials with the same `trial_id` give the same numbers on one kind of processor.

    `model_fields_set`, and so `model_dump(exclude_unset=True)`, holds what was set, not what its preset filled in.
    """

    preset: PresetName | None = Field(
        None,
        description="All that a paper's code sets, in place of the defaults here; what is set beside it wins. Its "
        "values, with their sources, are in trainers/presets.py. Not part of the trial's id: they are.",
    )
    data: DataConfig = Field(default_factory=lambda: DataConfig())
    model: ModelConfig = Field(default_factory=lambda: ModelConfig())
    batch_size: Whole = Field(128, gt=0, description="Images a step; the last, short batch is kept. [DEAT]")
    epochs: Whole = Field(110, gt=0, description="Passes over the training images. [DEAT]")
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig())
    schedule: ScheduleConfig = Field(default_factory=lambda: ScheduleConfig())
    attack: AttackConfig = Field(default_factory=lambda: AttackConfig())
    objective: ObjectiveConfig = Field(default_factory=lambda: ObjectiveConfig())
    weights: WeightsConfig = Field(default_factory=lambda: WeightsConfig())
    averaging: AveragingConfig = Field(default_factory=lambda: AveragingConfig())
    batch_norm_data: Literal["adversarial", "clean", "both"] | None = Field(
        None,
        description="Images from which batch norm's running statistics are estimated, which evaluations and attacks in "
        "eval mode normalise by; the update is the same. adversarial: for avmixup the mixed ones. none: as "
        "published, adversarial for avmixup, else both. [of each code, trainers/method/batch_norm.py]",
    )
    clean_passes: Whole | None = Field(
        None,
        ge=1,
        description="batch_norm_data clean, both: how often a step passes the clean images through the network in "
        "train mode. none: as published, 2 for pgd_at and trades, but 1 for mart, pgd_at with AWP, and with S2O. "
        "[DEAT; TRADES; MART; AWP; S2O; Rice: 1]",
    )
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig())
    dynamics: DynamicsConfig = Field(default_factory=lambda: DynamicsConfig())
    seed: Whole = Field(0, ge=0, lt=2**63, description="Of initialisation, order, augmentation and random starts.")
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32",
        description="Of the forward and backward passes in training; evaluation.precision is that of evaluations. "
        "[DEAT: fp32]",
    )
    deterministic: Truth = Field(
        False,
        description="Whether a GPU takes only kernels that give the same bits each time, so that a trial that goes on "
        "from a checkpoint gives those of one never stopped; slower there, and always so on a CPU. [own]",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto: the GPU if there is one. Not part of the trial's id.",
    )
    engine: Literal["auto", "eager", "graph", "compile"] = Field(
        "auto",
        description="How a step runs. eager: operation by operation. graph: captured once on a GPU, and replayed. "
        "compile: the network's passes compiled by torch.compile, and on a GPU captured too; on a CPU it pays after "
        "thousands of steps of a batch size (benchmarks/README.md). auto: on a GPU compile where a trial sees a "
        "million training images in all, else graph; eager on a CPU. Where one is not possible the trial says why, "
        "and takes the next. Not part of the trial's id.",
    )
    keep: Literal["none", "last", "best", "both"] = Field(
        "last",
        description="Weights kept when the trial has ended, for `sweep evaluate`: of the last epoch, of the one with "
        "the best val_robust, or both. Not part of the trial's id.",
    )
    checkpoint: CheckpointConfig = Field(default_factory=lambda: CheckpointConfig())

    @model_validator(mode="wrap")
    @classmethod
    def _on_its_preset(cls, values: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, Mapping) or not isinstance(values.get("preset"), str):
            return build(values)
        trial = build(beneath(values))
        _forget_unset(trial, values)
        return trial

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.keep in ("best", "both") and "val" not in self.evaluation.splits:
            raise ValueError(
                f"keep: {self.keep} is chosen by val_robust, and evaluation.splits has no val; add it, "
                "or set keep: last"
            )
        self.check_lengths()
        start = self.resolved().averaging.start
        if self.averaging.name != "none" and start is not None and start >= self.epochs:
            raise ValueError(
                f"averaging.start: must be below epochs, {self.epochs}, or nothing is averaged; got {start}; lower it"
            )
        if "val" in self.evaluation.splits and self.data.validation_fraction == 0:
            raise ValueError(
                "evaluation.splits: names val, but data.validation_fraction is 0; hold images out, "
                "or set evaluation.splits: [train, test]"
            )
        return self

    def check_lengths(self, pixels: int | None = None) -> None:
        """Radii and steps are such as images of so many pixels have; see `check_length`."""
        for part, name in itertools.product(("attack", "evaluation"), ("radius", "step_size")):
            check_length(f"{part}.{name}", getattr(getattr(self, part), name) or 0.0, self.attack.norm, pixels)

    def resolved(self) -> TrialConfig:
        """The same trial with every `none` that stands for another value replaced by that value."""
        name = self.objective.name
        divergence = name in ("trades", "mart")
        steps = 0 if name == "natural" else self.attack.steps
        gamma, warmup = (0.005, 10) if name == "trades" else (0.01, 0)
        weights = _filled(self.weights, gamma=gamma, warmup=warmup)
        perturbed = weights.name == "awp" and (weights.warmup or 0) < self.epochs
        twice = name == "trades" or (name == "pgd_at" and not perturbed)
        filled = {
            "data": _filled(self.data, augment=self.data.name != "digits"),
            "optimizer": _filled(self.optimizer, decoupled_weight_decay=self.optimizer.name == "deat"),
            "attack": self.attack.model_copy(
                update={"steps": steps, "start": self._start(self.attack.start, "normal" if divergence else None)}
            ),
            "objective": _filled(self.objective, beta={"trades": 6.0, "mart": 5.0}.get(name)).model_copy(
                update={
                    "s2o": _filled(
                        self.objective.s2o,
                        weight=0.3 if divergence else 0.1,
                        rho=0.98 if self.data.name == "cifar100" else 0.8,
                    )
                }
            ),
            "weights": weights,
            "averaging": _filled(
                self.averaging, start=math.ceil(0.75 * self.epochs) if self.averaging.name == "swa" else 0
            ),
            "evaluation": _filled(
                self.evaluation, step_size=self.attack.step_size, radius=self.attack.radius
            ).model_copy(update={"start": self._start(self.evaluation.start)}),
        }
        own = _filled(
            self,
            batch_norm_data="adversarial" if name == "avmixup" else "both",
            clean_passes=2 if twice and not self.objective.s2o.enabled else 1,
        )
        return own.model_copy(update=filled)

    def _start(self, given: Start | None, published: Start | None = None) -> Start:
        """Where PGD begins; in the l_inf ball the two uniform starts are one."""
        start = given or published or "uniform_radius"
        return "uniform" if start == "uniform_radius" and self.attack.norm == "linf" else start


def _forget_unset(part: BaseModel, given: Mapping[str, Any]) -> None:
    """Leaves of what a part knows as set only what these values set."""
    part.model_fields_set.intersection_update(given)
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(inner := getattr(part, key), BaseModel):
            _forget_unset(inner, value)


def _filled(part: Part, **published: Any) -> Part:
    """The part with each of these keys that is none set to the published value."""
    return part.model_copy(update={key: value for key, value in published.items() if getattr(part, key) is None})


def leaves(values: Mapping[Any, Any], within: str = "") -> Iterator[str]:
    """The dotted keys of the values in nested mappings, in their order.

    >>> list(leaves({"a": {"b": 1}, "c": 2}))
    ['a.b', 'c']
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{within}{key}.")
        else:
            yield f"{within}{key}"
