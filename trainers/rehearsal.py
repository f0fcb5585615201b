"""A user's own code tried on the CPU before anything starts: what it is built of, and one training step.

All of this runs in a process of its own (`sweep.own_code`), as nobody knows what it does.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainers.config import DataConfig, TrialConfig
from trainers.data.batches import Split
from trainers.data.sets import Data, load
from trainers.data.sources import Shape, fingerprint, shapes
from trainers.dynamics import measurement
from trainers.engine import Engine
from trainers.errors import UserError
from trainers.method import batch_norm, objectives, optimizers, schedules
from trainers.models import fine_tuning
from trainers.own import snapshot
from trainers.own.reference import PARTS, is_reference
from trainers.own.stage import stage
from trainers.training import Training

#: Images of the step.
_FEW = 4


def marks(configs: Sequence[DataConfig]) -> list[str]:
    """The fingerprint of each data set."""
    fingerprints = []
    for config in configs:
        with stage(f"loading the data {config.name}"):
            fingerprints.append(fingerprint(config))
    return fingerprints


def rehearse(
    trials: Sequence[TrialConfig],
    known: Mapping[DataConfig, Shape],
    unseen: Container[str] = (),
    workers: int = 1,
) -> dict[DataConfig, Shape]:
    """Builds each trial's parts and takes one step with them, of few images of the data's shape.

    Args:
        trials: resolved.
        known: the shapes of their data; those of a user's own are loaded; of others that are not there only the import
            is tried.
        unseen: names of data that are not looked at, and so taken as not there.
        workers: processes that train one trial together.

    Returns:
        The shapes of the user's own data.

    Raises:
        UserError: what they give is not what it must be; and whatever they raise.
    """
    torch.set_num_threads(1)
    for trial in trials:
        _import(trial)
    with stage("loading the data"):
        own = shapes({trial.data for trial in trials if trial.data.is_own and trial.data.name not in unseen})
    for trial in trials:
        if (shape := ({**known, **own}).get(trial.data)) is not None:
            _rehearse(trial, shape, workers)
    return own


def _import(trial: TrialConfig) -> None:
    for key in PARTS:
        part = getattr(trial, key)
        if is_reference(part.name):
            with stage(f"importing {part.name}"):
                snapshot.load(part.name, part.code, f"{key}.name")


def _rehearse(trial: TrialConfig, shape: Shape, workers: int) -> None:
    data = _data(trial, shape)
    with stage(f"building the network {trial.model.name}"):
        model = fine_tuning.network(trial, data)
    if workers > 1:
        batch_norm.check_shared(model, trial.model.name)
    with stage(f"a pass of the network {trial.model.name}"), torch.no_grad():
        _check_logits(model.eval(), trial, data)
    with stage(f"the schedule {trial.schedule.name}"):
        for share in (0.0, 0.5, 1.0):
            schedules.lr_factor(trial.schedule, share * trial.epochs, trial.epochs)
    with stage(f"the optimizer {trial.optimizer.name}"):
        optimizers.build(trial.optimizer, model.parameters())
    with stage(f"the objective {trial.objective.name}"):
        _check_clean(trial, model.train(), data)
    with stage(f"one training step of {' and '.join(_own(trial))}"):
        Training.begin(_short(trial), data).epoch(0)
    parts = trial.workers if trial.batch_norm == "local" else 1
    last = min(shape.train_images, shape.train_images % trial.batch_size or trial.batch_size)
    if last // parts == 1:
        whose = "the last" if parts == 1 else f"one of {parts} workers of the last"
        with stage(f"a training step of 1 image, as {whose} of an epoch's {shape.train_images} by batch_size has"):
            one = data._replace(train=data.train.part(torch.arange(1)))
            Training.begin(_short(trial), one).epoch(0)
    if trial.dynamics.every is not None:
        with stage("what the dynamics measure"):
            measurement.refuse(trial)


def _own(trial: TrialConfig) -> Iterable[str]:
    return dict.fromkeys(name for key in PARTS if is_reference(name := getattr(trial, key).name))


def _data(trial: TrialConfig, shape: Shape) -> Data:
    """A few of a user's own images, else random ones, of the data's shape."""
    if trial.data.is_own:
        there = load(trial.data, "cpu")
        some = there.train.part(torch.arange(len(there.train.labels))[:_FEW])
        return there._replace(train=some, val=some, test=some)
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (_FEW, shape.channels, shape.height, shape.width), generator=draws)
    some = Split(images.to(torch.uint8), torch.arange(_FEW) % shape.classes)
    moments = (0.5,) * shape.channels, (0.25,) * shape.channels
    return Data(some, some, some, shape.classes, *moments, trial.data.name, trial.data.fingerprint or "")


def _short(trial: TrialConfig) -> TrialConfig:
    """The trial with all that it does in its first epoch, and few attack steps."""
    steps = min(trial.attack.steps, 2)
    return trial.model_copy(
        update={
            "device": "cpu",
            "engine": "eager",
            "deterministic": False,
            "precision": "bf16" if trial.precision == "bf16" else "fp32",
            "batch_size": _FEW,
            "attack": trial.attack.model_copy(update={"steps": steps}),
            "weights": trial.weights.model_copy(update={"warmup": 0}),
            "averaging": trial.averaging.model_copy(update={"start": 0}),
        }
    )


def _check_logits(model: nn.Module, trial: TrialConfig, data: Data) -> None:
    images = data.train.pixels(slice(None)).to(torch.float32).div_(255)
    logits = model(images)
    wanted = (len(images), data.num_classes)
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != wanted:
        raise UserError(
            f"model.name: {trial.model.name}: must give logits of shape {wanted} for images of shape "
            f"{tuple(images.shape)}, got {got}"
        )


def _check_clean(trial: TrialConfig, model: nn.Module, data: Data) -> None:
    """An objective that passes the clean images says so: batch norm's own passes of them hang on it."""
    if not trial.objective.is_own:
        return
    objective, made = objectives.build(trial.objective, data.num_classes), list[tuple[Tensor, Tensor]]()
    images, labels = data.train.pixels(slice(None)).to(torch.float32).div_(255), data.train.labels
    other = 1 - images
    plain = Engine(torch.device("cpu")).forward(model)

    def forward(pixels: Tensor) -> Tensor:
        made.append((pixels, logits := plain(pixels)))
        return logits

    name = trial.objective.name
    _check_loss(objective.inner(forward, images, labels)(other), f"objective.name: {name}: inner's function")
    made.clear()
    outer = objective.outer(forward, images, other, labels, torch.Generator())(ascending=True)
    _check_loss(outer.loss, f"objective.name: {name}: outer")
    passed = any(pixels is images for pixels, _ in made)
    if passed and not objective.passes_clean:
        raise UserError(
            f"objective.name: {name}: its outer passes the clean images through the network, which must be said: write "
            "passes_clean = True in the class"
        )
    _check_attacked(made, other, outer.logits, f"objective.name: {name}: its outer")


def _check_attacked(made: Iterable[tuple[Tensor, Tensor]], images: Tensor, trained: Tensor, whose: str) -> None:
    """Of adversarial images that are passed beside others the logits are those that train_robust is of."""
    parts = [[torch.split(one, len(images)) for one in both] for both in made]
    pairs = [pair for one in parts for pair in zip(*one, strict=False)]
    attacked = [logits for pixels, logits in pairs if torch.equal(pixels, images)]
    if attacked and not any(torch.equal(logits, trained) for logits in attacked):
        raise UserError(
            f"{whose} passes the adversarial images in front of others, and train_robust is of the last logits of its "
            "last pass; pass them by themselves, or last: torch.cat([images, adversarial])"
        )


def _check_loss(loss: Any, whose: str) -> None:
    if not isinstance(loss, Tensor) or loss.shape != () or loss.is_complex() or not loss.requires_grad:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        scalar = isinstance(loss, Tensor) and loss.shape == ()
        lacks = "" if not scalar else ", complex numbers" if loss.is_complex() else ", without a gradient"
        raise UserError(f"{whose} must give a loss of shape () that hangs on the network, got {got}{lacks}")
