"""One trial: its parts together, and what a `none` among them stands for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ModelWrapValidatorHandler, model_validator

from trainers.config.data import DataConfig
from trainers.config.measurement import CheckpointConfig, DynamicsConfig, EvaluationConfig
from trainers.config.method import (
    AttackConfig,
    AveragingConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ScheduleConfig,
    Start,
    WeightsConfig,
)
from trainers.config.model import ModelConfig
from trainers.fields import Frozen, Truth, Whole
from trainers.presets import PresetName, beneath

Part = TypeVar("Part", bound=Frozen)


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
        "published, adversarial for avmixup and with attack.replays, else both. [of each code, "
        "trainers/method/batch_norm.py]",
    )
    clean_passes: Whole | None = Field(
        None,
        ge=1,
        description="batch_norm_data clean, both: how often a step passes the clean images through the network in "
        "train mode. none: as published, 2 for pgd_at and trades, but 1 for mart, pgd_at with AWP, and with S2O. "
        "[DEAT; TRADES; MART; AWP; S2O; Rice: 1]",
    )
    batch_norm: Literal["sync", "local"] = Field(
        "sync",
        description="How batch norm normalises where a trial has several workers (resources.workers), each with a part "
        "of every batch. sync: over the whole batch, so that their number changes nothing but rounding, and is no part "
        "of the trial's id. local: each over its own part, as torch's DistributedDataParallel does. [own]",
    )
    workers: Whole = Field(
        1,
        ge=1,
        description="batch_norm local: parts of a batch. Filled in by the sweep from resources.workers, and part of "
        "the trial's id.",
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
    keep: Literal["none", "last", "best", "both", "state"] = Field(
        "last",
        description="What is kept when the trial has ended. Weights, for `sweep evaluate`: of the last epoch, of the "
        "one with the best val_robust, or both. state: the last weights, the best ones where val is evaluated, and all "
        "that a longer trial needs to go on from this one's end (docs/longer.md). Not part of the trial's id.",
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
        if self.attack.replays is not None and self.objective.name in ("trades", "avmixup"):
            raise ValueError(
                f"attack.replays: goes with pgd_at and mart, not with {self.objective.name}: the perturbation climbs "
                "the update's loss from 0, where a divergence is flat, at images that are not mixed; leave it out"
            )
        scaled = self.attack.start_scale != 1 and self.attack.replays is None
        if scaled and self.resolved().attack.start in ("normal", "clean"):
            raise ValueError(
                f"attack.start_scale: is of a uniform start, and {self.objective.name} starts beside the image; "
                "set attack.start: uniform"
            )
        start = None if self.averaging.name == "none" else self.resolved().averaging.start
        if start is not None and start >= self.epochs:
            raise ValueError(
                f"averaging.start: must be below epochs, {self.epochs}, or nothing is averaged; got {start}; lower it"
            )
        if reader := self._label_reader():
            raise ValueError(
                f"data.cutmix: gives an image two classes, and {reader} is published for one alone; set data.cutmix: "
                "0, or take pgd_at, trades or natural without it"
            )
        if "val" in self.evaluation.splits and self.data.validation_fraction == 0:
            raise ValueError(
                "evaluation.splits: names val, but data.validation_fraction is 0; hold images out, "
                "or set evaluation.splits: [train, test]"
            )
        return self

    def _label_reader(self) -> str:
        """What of the objective needs one class an image where CutMix gives it two; empty: nothing."""
        if self.data.cutmix == 0:
            return ""
        if self.objective.s2o.enabled or self.attack.tau is not None:
            return "S2O" if self.objective.s2o.enabled else "FAT (attack.tau)"
        return {"mart": "MART", "avmixup": "AVmixup"}.get(self.objective.name, "")

    def check_lengths(self, pixels: int | None = None) -> None:
        """Radii and steps are such as images of so many pixels have; see `check_length`."""
        for part, name in itertools.product(("attack", "evaluation"), ("radius", "step_size")):
            check_length(f"{part}.{name}", getattr(getattr(self, part), name) or 0.0, self.attack.norm, pixels)

    def keeps(self, which: Literal["last", "best"]) -> bool:
        """Whether these weights are kept when the trial has ended."""
        if self.keep == "state":
            return which == "last" or "val" in self.evaluation.splits
        return self.keep in (which, "both")

    def evaluates(self, epoch: int) -> bool:
        """Whether the network is evaluated once so many epochs are trained: every so many, and after the last one."""
        return epoch % self.evaluation.every == 0 or epoch == self.epochs

    def evaluation_attack(self) -> AttackConfig:
        """The attack of a resolved config's evaluation: PGD in the training's norm, with its own strength and start."""
        settings = self.evaluation
        assert settings.step_size is not None, "resolve the trial's config first"
        assert settings.radius is not None, "resolve the trial's config first"
        return AttackConfig(
            norm=self.attack.norm,
            steps=settings.steps,
            step_size=settings.step_size,
            radius=settings.radius,
            start=settings.start,
        )

    def resolved(self) -> TrialConfig:
        """The same trial with every `none` that stands for another value replaced by that value."""
        name = self.objective.name
        divergence = name in ("trades", "mart")
        attack = self._attack(name)
        gamma, warmup = (0.005, 10) if name == "trades" else (0.01, 0)
        weights = _filled(self.weights, gamma=gamma, warmup=warmup)
        perturbed = weights.name == "awp" and (weights.warmup or 0) < self.epochs
        twice = name == "trades" or (name == "pgd_at" and not perturbed)
        filled = {
            "model": _filled(self.model, activation="relu") if self.model.has_activations else self.model,
            "data": _filled(self.data, augment=self.data.name != "digits"),
            "optimizer": _filled(self.optimizer, decoupled_weight_decay=self.optimizer.name != "sgd"),
            "attack": attack,
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
            batch_norm_data="adversarial" if name == "avmixup" or attack.replays else "both",
            clean_passes=2 if twice and not self.objective.s2o.enabled else 1,
        )
        return own.model_copy(update=filled)

    def _attack(self, objective: str) -> AttackConfig:
        """The attack: none for natural training; with replays one step an update, the first from the image."""
        if objective == "natural":
            return self.attack.model_copy(update={"steps": 0, "start": self._start(self.attack.start), "replays": None})
        if self.attack.replays is not None:
            return self.attack.model_copy(update={"steps": 1, "start": "clean"})
        published: Start | None = "normal" if objective in ("trades", "mart") else None
        return self.attack.model_copy(update={"start": self._start(self.attack.start, published)})

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
    missing = {key: value for key, value in published.items() if getattr(part, key) is None}
    return part.model_copy(update=missing) if missing else part


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
