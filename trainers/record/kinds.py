"""The kinds of record, and what each holds."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

OutcomeName = Literal[
    "completed", "pruned", "diverged", "out_of_memory", "failed", "preempted", "interrupted", "paused", "cancelled"
]

#: Outcomes after which a trial has its numbers; any other but cancelled and pruned is run again by the next launch.
FINISHED: frozenset[str] = frozenset({"completed", "diverged"})


def finished(outcome: Mapping[str, Any], epochs: Container[int]) -> bool:
    """Whether a trial has its numbers: an outcome of `FINISHED`, and the record of every epoch that it counts.

    A lost or deleted line makes it unfinished again: what was measured last is then not what the last epoch gave. The
    next launch sends the epoch again from the trial's checkpoint, or trains it again.

    Args:
        outcome: the trial's last outcome line; empty: none.
        epochs: numbers of the epochs whose records are there.
    """
    ended = outcome.get("outcome") in FINISHED
    return ended and all(epoch in epochs for epoch in range(1, outcome["epochs"] + 1))


def begins_anew(outcome: Mapping[str, Any]) -> bool:
    """Whether a trial has nothing any more after this outcome line, as by `sweep rerun`, or has nothing yet."""
    return outcome["outcome"] == "interrupted" and not outcome["epochs"]


#: The kinds of record, and the keys without which one of that kind is damaged: those that are read.
REQUIRED: dict[str, frozenset[str]] = {
    "launch": frozenset({"time", "size", "wanted"}),
    "trial": frozenset({"trial_id", "number", "config", "point", "seed"}),
    "start": frozenset({"trial_id", "code_version"}),
    "resume": frozenset({"trial_id", "epoch", "reason"}),
    "epoch": frozenset({"trial_id", "epoch", "lr", "seconds", "evaluation_seconds"}),
    "dynamics": frozenset({"trial_id", "epoch", "lr", "seconds", "curvatures", "variances"}),
    "outcome": frozenset({"trial_id", "outcome", "reason", "epochs"}),
    "evaluation": frozenset(
        {
            *("trial_id", "weights", "averaged", "attack", "parameters", "split", "asked"),
            *("first", "images", "clean_correct", "correct", "seconds"),
        }
    ),
    "check": frozenset(
        {
            *("trial_id", "weights", "averaged", "check", "parameters", "split", "asked"),
            *("first", "images", "clean_correct", "right_under", "against", "in_favour", "seconds"),
        }
    ),
    "note": frozenset({"trial_id"}),
}


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of one trial gave. Accuracies are fractions, times seconds; None: not measured.

    `train_robust` and `train_robust_loss` are running means over the epoch's batches, each seen before its update
    [DEAT, Fig. 5]: accuracy at the images that the update is made on (adversarial, clean for natural training,
    mixed for AVMixup), and the objective's own outer loss. All others are measured after the epoch, in eval mode,
    without augmentation; their losses are cross-entropies.
    """

    kind: ClassVar[str] = "epoch"
    trial_id: str
    epoch: int
    """Epochs trained, from 1."""
    lr: float
    """Learning rate at the epoch's last step."""
    train_clean: float | None = None
    train_robust: float | None = None
    val_clean: float | None = None
    val_robust: float | None = None
    test_clean: float | None = None
    test_robust: float | None = None
    train_clean_loss: float | None = None
    train_robust_loss: float | None = None
    val_clean_loss: float | None = None
    val_robust_loss: float | None = None
    test_clean_loss: float | None = None
    test_robust_loss: float | None = None
    averaged_val_clean: float | None = None
    """averaged_: of the averaged weights, where the trial averages them."""
    averaged_val_robust: float | None = None
    averaged_test_clean: float | None = None
    averaged_test_robust: float | None = None
    averaged_val_clean_loss: float | None = None
    averaged_val_robust_loss: float | None = None
    averaged_test_clean_loss: float | None = None
    averaged_test_robust_loss: float | None = None
    seconds: float = 0.0
    """Training time of the epoch, evaluation and preparing not included, s."""
    preparing_seconds: float = field(default=0.0, compare=False)
    """Of compiling and capturing training steps, which the first epochs of a trial do on a GPU, s. Not compared: a
    process that goes on with a trial does it anew."""
    evaluation_seconds: float = 0.0
    checkpoint_seconds: float = field(default=0.0, compare=False)
    """That training waited for the checkpoint, s: for the copy of its state, and at the last epoch for the file, which
    is else written beside the training. Not compared: the last file holds what it was before it was written."""
    samples_per_second: float = 0.0
    """Training images a second, of all workers together."""
    engine: str = ""
    """In which the epoch's last step ran: eager, graph or compile; empty where older code wrote the line."""
    engine_reason: str = ""
    """Why that is not the one that was asked for; empty: it is."""
    peak_memory_bytes: int = 0
    """GPU: most memory that torch held during the epoch, in use or not. CPU: the process's high-water mark. Of several
    workers the largest."""
    right: dict[str, dict[str, Any]] | None = field(default=None, hash=False)
    """At the last epoch of a trial, of val and test where they are evaluated: which images the raw weights classify
    right. By split: images, fingerprint and classes as of an EvaluationRecord, `clean` and `robust` as its `right`."""


#: All that an epoch took, s; records of older code lack some of its parts.
SPENT: tuple[str, ...] = ("seconds", "preparing_seconds", "evaluation_seconds", "checkpoint_seconds")


def spent(epoch: Mapping[str, Any]) -> float:
    """All that an epoch's line took, s."""
    return float(sum(epoch.get(part, 0.0) for part in SPENT))


Row: TypeAlias = tuple[float | None, ...]
"""Numbers in a fixed order; None: not finite."""


@dataclass(frozen=True)
class DynamicsRecord:
    """What was measured of the adversarial loss at the weights of one moment of one trial, as it was measured.

    The loss is the objective's own outer loss (nats), on training images without augmentation, attacked at these
    weights and then held fixed; loss, gradient, curvature and lines in eval mode. A direction is one of the q =
    eigenpairs + random ones, the eigenvectors first, largest eigenvalue first; s is the number of batch sizes.
    """

    kind: ClassVar[str] = "dynamics"
    trial_id: str
    epoch: int
    """Epochs trained; 0: before training."""
    lr: float
    """Learning rate of the last step; at 0, of the first."""
    batch_size: int
    momentum: float
    """Of SGD; 0 for DEAT."""
    k1: float | None
    k2: float | None
    """Of DEAT."""
    parameters: int
    """Trainable, d."""
    training_images: int
    """Of the trial, n."""
    images: int
    """Measured on, m of the n."""
    robust: float
    """Accuracy at the m images, a fraction."""
    loss: float | None
    gradient_squared: float | None
    """|g|^2 of the mean over the m images."""
    distance_squared: float | None
    """|w - w_0|^2, w_0 the weights before training."""
    eigenpairs: int
    """How many of the directions are eigenvectors; fewer than asked for where Lanczos did not converge."""
    trace: float | None
    trace_error: float | None
    """Of the Hessian, and its standard error over the probes."""
    curvatures: Row
    """v^T H v of each direction, (q,): the largest eigenvalues first."""
    slopes: Row
    """g^T v of each direction, (q,)."""
    batches: int
    """Mini-batches of each size, drawn without replacement from the m images, independently of one another."""
    batch_sizes: tuple[int, ...]
    """(s,), the trial's own first."""
    noise_traces: Row
    noise_trace_errors: Row
    """Trace of the covariance of the mini-batch gradient at each size, unbiased, and its standard error: (s,)."""
    variances: tuple[Row, ...]
    """Of the mini-batch gradient's projection, divisor batches - 1, by size and direction: (s, q)."""
    kurtoses: tuple[Row, ...]
    """Excess kurtosis of the same, G_2: (s, q)."""
    places: tuple[Row, ...]
    """t at which each line was looked at, (q, steps)."""
    rises: tuple[Row, ...]
    """loss(w + t v) - loss(w) there, (q, steps)."""
    seconds: float = 0.0
    """That the measurement took."""


@dataclass(frozen=True)
class ResumeRecord:
    """That a trial goes on from less than its newest checkpoint, which was damaged, say, or of other code; or from the
    end of a shorter trial."""

    kind: ClassVar[str] = "resume"
    trial_id: str
    epoch: int
    """Epochs that it goes on from; later ones are trained again. 0: it begins afresh."""
    reason: str
    """What was passed over and why, in one line; empty: nothing was."""
    from_trial: str | None = None
    """Id of the shorter trial whose epochs its first ones are: their numbers, and their seconds, were measured there.
    None: they are its own."""


@dataclass(frozen=True)
class OutcomeRecord:
    """How a trial ended: a value, not an exception."""

    trial_id: str
    outcome: OutcomeName
    reason: str
    """Empty for completed; else what happened, in one line."""
    epochs: int
    """Epochs whose records count; later ones of an earlier, lost run do not."""
    alone: bool = False
    """Whether it ran alone on its card, as far as its launch and the card tell; on a CPU, alone of its launch. Its
    start's `capacity_bytes` is what it then had."""
    memory_bytes: int | None = None
    """Most that its process took of the card, as the driver counts, CUDA's context included; None: not known, as where
    others were on the card, or on a CPU."""
    cuda_bytes: int | None = None
    """Of that CUDA's own: context, kernels, libraries; the rest is torch's allocator's."""
    state_kept: bool = False
    """Whether its file holds all that a longer trial needs to go on from its end (`trial.keep: state`)."""


@dataclass(frozen=True)
class PrunedRecord(OutcomeRecord):
    """That a stopping rule ended a trial before its last epoch; its checkpoint stays."""

    rung: int | None = None
    """At which it ended, 1 the first; None: the rule has none."""
    rank: int | None = None
    """Its place among the trials that it was compared with, 1 the best; None: it was compared with none."""
    of: int | None = None
    """How many those were, itself among them: at that rung so far, or, of a rule without rungs, at that epoch."""
    share: float = 0.0
    """Of its epochs that were trained, 0 to 1."""
    by: str = ""
    """Name of the rule."""


@dataclass(frozen=True)
class EvaluationRecord:
    """What one chunk of images of one evaluation of one trained network gave; its chunks add up."""

    trial_id: str
    weights: Literal["last", "best"]
    """Of the last epoch, or of the one with the best val_robust."""
    averaged: bool
    """Whether the averaged weights or the raw ones."""
    attack: str
    """A name of `trainers.ladder.survivors`."""
    parameters: dict[str, Any]
    """What the attack reads of norm, radius, steps, step_size (both pixel units), restarts, start."""
    split: Literal["test", "val"]
    asked: int
    """Images that the command wanted in all, the first so many of the split's fixed order."""
    first: int
    """Number of the chunk's first image in that order, from 0."""
    images: int
    """Images in the chunk."""
    clean_correct: int
    """Of them, right as they are."""
    correct: int
    """Of them, right whatever the attack did."""
    seconds: float
    """Of the attack; what it takes to load the network and the data is not in it."""
    host: str
    device: str
    code_version: str
    """Of the code that evaluated; the trial's start records have that of the code that trained."""
    versions: dict[str, str]
    """Of torch, and of the package of the attack where one is used."""
    draws: str | None = None
    """What seeds the attack's random draws beside the seed: `image`; None: the chunk, as in older code, so that what an
    image's bit was depended on where chunks were cut."""
    right: str | None = None
    """Which of the images are right whatever the attack did: a bit each, in the split's fixed order, the first one the
    highest of its byte, in base64; None: older code wrote the line."""
    clean_right: str | None = None
    """The same of the images as they are; None where that is the attack itself."""
    margins: str | None = None
    """z_y - max_{j != y} z_j of each image where the attack ended: fp16, little-endian, in base64; None: not asked."""
    fingerprint: str | None = None
    """Hash of all images of the split, and of their labels: where two are equal, a place in the order is one image."""
    classes: dict[str, Any] | None = None
    """Of all images of the split, in the fixed order: `labels`, one byte each in base64 (two, little-endian, where
    there are over 256 classes); `places`, where in the split each is, as `trainers.images` gives it, four bytes; and
    the classes' `names`. Of each fingerprint it stands in one of the records that a launch or an evaluation wrote."""


@dataclass(frozen=True)
class CheckRecord:
    """What one check of one trained network counted on one chunk of images; its chunks add up.

    Keys of an EvaluationRecord mean the same here.
    """

    trial_id: str
    weights: Literal["last", "best"]
    averaged: bool
    check: str
    """A name of `trainers.ladder.checks`."""
    parameters: dict[str, Any]
    """norm and radius (pixel units)."""
    split: Literal["test", "val"]
    asked: int
    first: int
    images: int
    clean_correct: int
    right_under: dict[str, int]
    """Of those, right under each of the check's attacks, by the attack's name in words."""
    against: int
    """Of the images right when clean, those that speak against honest gradients."""
    in_favour: int
    """Of them, those that only the attack breaks which should be the stronger one; 0 where there is one attack."""
    seconds: float
    host: str
    device: str
    code_version: str
    versions: dict[str, str]


@dataclass(frozen=True)
class NoteRecord:
    """What a user wrote of a trial: the newest note counts, and tags add up."""

    trial_id: str
    note: str | None = None
    """In place of the one before, empty for none; None: that stays."""
    tags: tuple[str, ...] = ()
    """That the trial has from now on."""
    untags: tuple[str, ...] = ()
    """That it has no more."""


#: Characters of a note at most: more is a file beside the run.
LONGEST_NOTE = 1000


#: The measured columns of an epoch, in order: accuracies (fractions) and losses (nats).
METRICS: tuple[str, ...] = tuple(
    field.name for field in fields(EpochRecord) if field.name.endswith(("clean", "robust", "clean_loss", "robust_loss"))
)


Record: TypeAlias = (
    EpochRecord | DynamicsRecord | ResumeRecord | OutcomeRecord | EvaluationRecord | CheckRecord | NoteRecord
)


def epoch_record(values: Mapping[str, Any]) -> EpochRecord:
    """The EpochRecord that a line or a checkpoint holds; unknown keys are dropped."""
    return EpochRecord(**{field.name: values[field.name] for field in fields(EpochRecord) if field.name in values})


def dynamics_record(values: Mapping[str, Any]) -> DynamicsRecord:
    """The DynamicsRecord that a line or a checkpoint holds; unknown keys are dropped."""
    known = {field.name: _tuples(values[field.name]) for field in fields(DynamicsRecord) if field.name in values}
    return DynamicsRecord(**known)


def _tuples(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
