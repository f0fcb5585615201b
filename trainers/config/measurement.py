"""What of a trial is measured and kept, and how often."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainers.config.method import (
    Start,
)
from trainers.fields import Frozen, Number, Whole


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
