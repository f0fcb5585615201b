"""One trial, completely described: every hyperparameter with its default, unit and source.

Sources in brackets: [DEAT] Sun, Sinha, Zhang, KDD 2023, Table 1 and the authors' code; [Rice] Rice, Wong,
Kolter, ICML 2020. Learning rates, radii and step sizes accept `1e-4` and `8/255` as text, because YAML reads
those as strings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from trainers.errors import UserError


def parse_number(value: Any) -> Any:
    """A number from YAML's text: `8/255` and `1e-4` are strings there; everything else passes unchanged.

    >>> parse_number("8/255") == 8 / 255, parse_number("1e-4")
    (True, 0.0001)
    """
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {value!r}")
    if not isinstance(value, str):
        return value
    numerator, slash, denominator = value.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"must be a number such as 0.1, 1e-4 or 8/255, got {value!r}") from None


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"must be a whole number, got {value!r}")
    return value


Number = Annotated[
    float,
    BeforeValidator(parse_number),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[-+0-9.eE/ ]+$"}]}),
]
Whole = Annotated[int, BeforeValidator(_whole)]


class Frozen(BaseModel):
    """A part of a config: cannot be changed, knows its keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Frozen):
    """Which images, and how they are split and augmented."""

    name: Literal["digits", "cifar10", "cifar100", "svhn", "image_folder"] = Field(
        "cifar10", description="The data set. digits is scikit-learn's (8 x 8, inside the package). [DEAT: CIFAR-10]"
    )
    root: str | None = Field(
        None,
        description="Folder of the data; none: ./data. image_folder needs it: it holds train/ and test/, "
        "each with one folder a class. Not part of the trial's id: the fingerprint is.",
    )
    download: bool = Field(False, description="Fetch the official archive into root if it is not there.")
    validation_fraction: Number = Field(
        0.02, ge=0, lt=1, description="Share of the training set held out, by class. [Rice: 1,000 of 50,000]"
    )
    augment: bool | None = Field(
        None,
        description="4-pixel reflect pad, random crop, horizontal flip. none: on, but off for digits, "
        "which a flip would change into other signs. [DEAT]",
    )
    train_per_class: Whole | None = Field(
        None, gt=0, description="Take only the first so many training images of each class, validation included."
    )
    test_per_class: Whole | None = Field(None, gt=0, description="Take only the first so many test images of a class.")
    image_size: Whole | None = Field(
        None, gt=0, description="image_folder: resize to this height and width, pixels. none: images have one size."
    )
    fingerprint: str | None = Field(
        None, description="Hash of the data's content. Filled in by the sweep; if set, other data are refused."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name == "image_folder" and self.root is None:
            raise ValueError("root: needed for image_folder: the folder that holds train/ and test/")
        if self.name != "image_folder" and self.image_size is not None:
            raise ValueError(f"image_size: only image_folder is resized, and name is {self.name!r}; leave it out")
        return self


class ModelConfig(Frozen):
    """Which network, and whether it normalises its input."""

    name: Literal["small_cnn", "preact_resnet18"] = Field("preact_resnet18", description="The network. [DEAT]")
    normalize: bool = Field(
        True,
        description="Subtract the data set's channel mean and divide by its standard deviation inside the model, "
        "so that attacks act on pixels in [0, 1]. [DEAT]",
    )


class OptimizerConfig(Frozen):
    """The update rule: slot 4 of the training step."""

    name: Literal["sgd", "deat"] = Field("sgd", description="sgd is PGD-AT's; deat is [DEAT, Algorithm 2].")
    lr: Number = Field(0.1, gt=0, description="Learning rate at the start. [DEAT: one point of Fig. 4]")
    momentum: Number = Field(0.0, ge=0, lt=1, description="sgd only. [DEAT: Algorithm 1 has none]")
    nesterov: bool = Field(False, description="sgd only: Nesterov's form of momentum.")
    weight_decay: Number = Field(5e-4, ge=0, description="L2 coefficient, 1. [DEAT]")
    decoupled_weight_decay: bool | None = Field(
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

    name: Literal["piecewise", "cosine", "one_cycle", "constant"] = Field(
        "piecewise",
        description="piecewise: x factor at each milestone. cosine: half a cosine to 0. one_cycle: linear up to lr "
        "over warmup, then linear down to 0. constant: lr. [DEAT: piecewise]",
    )
    milestones: tuple[Annotated[Whole, Field(gt=0)], ...] = Field(
        (100, 105), description="piecewise: epochs after which lr is multiplied by factor. [DEAT]"
    )
    factor: Number = Field(0.1, gt=0, description="piecewise: the factor. [DEAT]")
    warmup: Number = Field(0.4, gt=0, lt=1, description="one_cycle: share of the training spent rising.")

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
    random_start: bool = Field(True, description="Start at a random point of the ball. [DEAT: uniform]")
    batch_norm: Literal["eval", "train"] = Field(
        "eval", description="Batch-norm mode while attacking; the update is always in train mode. [DEAT, code: eval]"
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
    step_size: Number | None = Field(None, gt=0, description="none: attack.step_size.")
    radius: Number | None = Field(None, ge=0, description="none: attack.radius.")
    batch_size: Whole = Field(500, gt=0, description="Images a forward pass; 1.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.splits)) != len(self.splits):
            raise ValueError(f"splits: each once, got {list(self.splits)}")
        return self


class TrialConfig(Frozen):
    """One training run. Two trials with the same `trial_id` give the same numbers."""

    data: DataConfig = Field(default_factory=lambda: DataConfig())
    model: ModelConfig = Field(default_factory=lambda: ModelConfig())
    batch_size: Whole = Field(128, gt=0, description="Images a step; the last, short batch is kept. [DEAT]")
    epochs: Whole = Field(110, gt=0, description="Passes over the training images. [DEAT]")
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig())
    schedule: ScheduleConfig = Field(default_factory=lambda: ScheduleConfig())
    attack: AttackConfig = Field(default_factory=lambda: AttackConfig())
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig())
    seed: Whole = Field(0, ge=0, lt=2**63, description="Of initialisation, order, augmentation and random starts.")
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description="Of the forward and backward passes in training; evaluation is fp32. [DEAT: fp32]"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto: the GPU if there is one. Not part of the trial's id.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "val" in self.evaluation.splits and self.data.validation_fraction == 0:
            raise ValueError(
                "evaluation.splits: names val, but data.validation_fraction is 0; hold images out, "
                "or set evaluation.splits: [train, test]"
            )
        return self

    def resolved(self) -> TrialConfig:
        """The same trial with every `none` that stands for another value replaced by that value."""
        data, optimizer, evaluation = self.data, self.optimizer, self.evaluation
        filled = {
            "data": data.model_copy(
                update={"augment": data.name != "digits" if data.augment is None else data.augment}
            ),
            "optimizer": optimizer.model_copy(
                update={
                    "decoupled_weight_decay": optimizer.name == "deat"
                    if optimizer.decoupled_weight_decay is None
                    else optimizer.decoupled_weight_decay
                }
            ),
            "evaluation": evaluation.model_copy(
                update={
                    "step_size": self.attack.step_size if evaluation.step_size is None else evaluation.step_size,
                    "radius": self.attack.radius if evaluation.radius is None else evaluation.radius,
                }
            ),
        }
        return self.model_copy(update=filled)


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


def identity(config: TrialConfig) -> dict[str, Any]:
    """All that can change the trial's numbers and nothing that cannot, as plain values.

    Left out: device, where the data lie, the order in which splits are measured, and keys that the chosen
    optimizer, schedule or number of attack steps does not read.
    """
    values = config.resolved().model_dump(mode="json")
    values["evaluation"]["splits"].sort()
    if config.attack.steps == 0:
        values["attack"] = {key: values["attack"][key] for key in ("norm", "random_start", "steps")}
    if config.optimizer.weight_decay == 0:
        del values["optimizer"]["decoupled_weight_decay"]
    del values["device"], values["data"]["root"], values["data"]["download"]
    inert = {"sgd": ("k1", "k2"), "deat": ("momentum", "nesterov")}[config.optimizer.name]
    for key in inert:
        del values["optimizer"][key]
    values["schedule"] = _read_by_schedule(config)
    return values


def _read_by_schedule(config: TrialConfig) -> dict[str, Any]:
    schedule = config.schedule
    reached = [epoch for epoch in schedule.milestones if epoch < config.epochs]
    if schedule.name == "piecewise" and reached:
        return {"name": "piecewise", "milestones": reached, "factor": schedule.factor}
    if schedule.name == "one_cycle":
        return {"name": "one_cycle", "warmup": schedule.warmup}
    return {"name": "cosine" if schedule.name == "cosine" else "constant"}


def trial_id(config: TrialConfig) -> str:
    """The trial's name: 12 hex digits of the SHA-256 of its `identity` as canonical JSON.

    Raises:
        UserError: the data have no fingerprint yet, so that their content is not in the hash.
    """
    if config.data.fingerprint is None:
        raise UserError("data.fingerprint: needed for the trial's id; trainers.data.fingerprint gives it")
    text = json.dumps(identity(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
