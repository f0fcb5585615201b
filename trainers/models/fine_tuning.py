"""The weights from which a trial starts where it does not draw them: `model.fine_tune`.

They are those of a file of torch.save that holds a state dict, or that a trial of a run keeps: PATH or RUN:TRIAL_ID,
and behind it, of a trial's, `:best` for those with the best val_robust and `:averaged` for the average. Nothing but
tensors and plain values is read (weights_only).

Names are compared without what a wrapper put in front of all of them: `module.` (DataParallel), `_orig_mod.`
(torch.compile), `1.` (a normalisation in front of the network, as here; its own `0.mean` and `0.std` are not taken:
the trial normalises as its config says). The classifier's last layer is drawn, as without fine_tune, where it is of
another number of classes. Whatever else differs is refused.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from trainers import archive
from trainers.archive import Refused
from trainers.checkpoint import State, Which, kept_weights
from trainers.config import ModelConfig, TrialConfig
from trainers.data.sets import Data
from trainers.data.sources import Shape
from trainers.errors import UserError
from trainers.fields import plural
from trainers.files import checkpoint_path
from trainers.models import registry
from trainers.record import only_trial

Value = TypeVar("Value")

#: What wrappers put in front of every name of a state dict, and what a normalisation holds beside the network.
_WRAPPERS = ("module.", "_orig_mod.", "1.")
_MOMENTS = {"0.mean", "0.std"}

#: Names that are listed in a message; of more only how many.
_LISTED = 3


class Source(NamedTuple):
    """Where weights lie, and which of those in a trial's file are meant."""

    file: Path
    which: Which
    averaged: bool
    trial_id: str | None
    """Whose the file must be; None: it is named itself."""


class Start(NamedTuple):
    """How the weights of a file fit a network."""

    names: Mapping[str, str]
    """Of the tensors that are taken: the network's name, to the file's."""
    drawn: Mapping[str, tuple[torch.Size, torch.Size]]
    """Of those that are drawn anew: the network's name, to the shapes there and here."""
    wrappers: str
    """What stands in front of the names there and not here."""

    def line(self) -> str:
        """It in words."""
        parts = [f"{len(self.names)} tensors"]
        if self.drawn:
            there, here = next(iter(self.drawn.values()))
            parts.append(f"{' and '.join(self.drawn)} drawn anew: {there[0]} classes there, {here[0]} here")
        if self.wrappers:
            parts.append(f"names there begin with {self.wrappers}")
        return "; ".join(parts)


def source(text: str) -> Source:
    """The file that `model.fine_tune` means, a file of that very name first.

    Raises:
        UserError: there is none.
    """
    place, averaged, which = text, False, "last"
    if not Path(place).is_file():
        place, averaged = place.removesuffix(":averaged"), place.endswith(":averaged")
        which = next((name for name in ("last", "best") if place.endswith(f":{name}")), "last")
        place = place.removesuffix(f":{which}")
    named = Path(place).is_file()
    file = Path(place) if named else _of_run(text, place)
    return Source(file, "best" if which == "best" else "last", averaged, None if named else file.stem)


def _of_run(text: str, place: str) -> Path:
    """The checkpoint of RUN:TRIAL_ID."""
    run, colon, beginning = place.rpartition(":")
    folder = checkpoint_path(Path(run), "").parent
    if not colon or not folder.is_dir():
        raise UserError(
            f"model.fine_tune: {text}: no such file, and no RUN:TRIAL_ID of a run with checkpoints; give a file of "
            "torch.save, or a trial that `sweep results RUN` lists"
        )
    trials = [path.stem for path in folder.glob("*.pt") if "." not in path.stem]  # no part, and none of before
    try:
        return checkpoint_path(Path(run), only_trial(Path(run), trials, beginning))
    except UserError as error:
        raise UserError(f"model.fine_tune: {error}") from None


def weights(text: str) -> dict[str, Tensor]:
    """The state dict that `model.fine_tune` means, on the CPU.

    Raises:
        UserError: there is no such file, or no state dict in it.
    """
    there = source(text)
    try:
        content: Any = _content(there.file)
    except Refused as error:
        raise UserError(
            f"model.fine_tune: {there.file}: {error}; give a whole copy, or save a plain state dict: "
            "torch.save(network.state_dict(), FILE)"
        ) from None
    if isinstance(content, dict) and {"trial_id", "weights"} <= content.keys():
        return _kept(there)
    if there.averaged or there.which == "best":
        raise UserError(
            f"model.fine_tune: {text}: :best and :averaged are of a trial's file, and this is a state dict; "
            "leave them out"
        )
    return _state_dict(there.file, content)


def _content(file: Path) -> Any:
    """What `torch.load` makes of it, where its bytes are those that were written, as far as it tells."""
    if zipfile.is_zipfile(file):
        return archive.read(file, unhashed=True)
    return archive.loaded(io.BytesIO(file.read_bytes()))  # as torch wrote before 1.6


def _kept(there: Source) -> State:
    try:
        return kept_weights(there.file, there.which, averaged=there.averaged, trial_id=there.trial_id)
    except UserError as error:
        raise UserError(f"model.fine_tune: {error}") from None


def _state_dict(file: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and content and all(isinstance(each, Tensor) for each in content.values()):
        return dict(content)
    got, way_out = type(content).__name__, "torch.save(network.state_dict(), FILE)"
    if isinstance(content, Mapping):
        got = f"a mapping with the keys {_few(map(str, content))}"
        if within := [key for key, each in content.items() if isinstance(each, Mapping)]:
            way_out = f"torch.save(torch.load(FILE)[{within[0]!r}], NEW_FILE)"
    raise UserError(
        f"model.fine_tune: {file}: must hold a state dict, names to tensors and nothing else, got {got}; "
        f"save that alone: {way_out}"
    )


def fingerprint(text: str) -> str:
    """Hash of the weights' content, wherever they lie.

    Raises:
        UserError: as `weights`.
    """
    there = source(text)
    status = there.file.stat()
    return _fingerprint(text, there, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _fingerprint(text: str, there: Source, changed: int, size: int) -> str:
    """Of the file as it was at that time."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights(text).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def with_fingerprint(config: ModelConfig) -> ModelConfig:
    """The config with the fingerprint of the weights that are there; as it is where it names none.

    Raises:
        UserError: they are not there, or others than its fingerprint says.
    """
    if config.fine_tune is None:
        if config.weights_fingerprint is not None:
            raise UserError(
                "model.weights_fingerprint: is of weights that model.fine_tune names; give that too, or neither"
            )
        return config
    content = fingerprint(config.fine_tune)
    if config.weights_fingerprint not in (None, content):
        raise UserError(
            f"model.weights_fingerprint: the weights in {config.fine_tune} are {content}, not "
            f"{config.weights_fingerprint}; give those, or leave model.weights_fingerprint out"
        )
    return config.model_copy(update={"weights_fingerprint": content})


def network(config: TrialConfig, data: Data) -> nn.Module:
    """A trial's network on the CPU, as it is before the first step: drawn, or filled with the weights of fine_tune.

    Raises:
        UserError: as `registry.build`, `weights` and `start`.
    """
    model = registry.network(config, data)
    if config.model.fine_tune is None:
        return model
    given, own = weights(config.model.fine_tune), model.state_dict()
    fits = _start(config.model, given, {name: tensor.shape for name, tensor in own.items()}, data.num_classes)
    model.load_state_dict(own | {name: given[there] for name, there in fits.names.items()})
    return model


def start(config: ModelConfig, shape: Shape) -> Start:
    """How the weights fit the network for data of this shape.

    Raises:
        UserError: they are of another network.
    """
    assert config.fine_tune is not None
    return _start(config, weights(config.fine_tune), _shapes(config, shape), shape.classes)


@functools.lru_cache(maxsize=8)
def _shapes(config: ModelConfig, shape: Shape) -> dict[str, torch.Size]:
    """Of the network's tensors."""
    values = (0.5,) * shape.channels
    size = shape.height, shape.width
    model = registry.build(
        config, num_classes=shape.classes, channels=shape.channels, image_size=size, mean=values, std=values, seed=0
    )
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _start(config: ModelConfig, given: Mapping[str, Tensor], own: Mapping[str, torch.Size], classes: int) -> Start:
    there, wrappers = _bare({name: name for name in given})
    here, wrappers_here = _bare({name: name for name in own})
    where = f"model.fine_tune: {config.fine_tune}: must hold the weights of {config.name}"
    _check_names(where, here, there)
    shapes = {name: (given[there[name]].shape, own[full]) for name, full in here.items()}
    unlike = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    if unlike and not _is_head(unlike, classes):
        name, (got, wanted) = next(iter(unlike.items()))
        raise UserError(
            f"{where}, and {name} is {tuple(got)} there and {tuple(wanted)} here: the network is of other images or "
            "another width; give weights of this one"
        )
    names = {full: there[name] for name, full in here.items() if name not in unlike}
    front = wrappers.removesuffix(wrappers_here)
    return Start(names, {here[name]: pair for name, pair in unlike.items()}, front)


def _check_names(where: str, here: Mapping[str, str], there: Mapping[str, str]) -> None:
    missing = [name for name in here if name not in there]
    others = [name for name in there if name not in here]
    if not missing and not others:
        return
    lacks = f", and lacks {len(missing)} of its {plural(len(here), 'tensor')} ({_few(missing)})" if missing else ""
    holds = f", and holds {plural(len(others), 'tensor')} that it has not ({_few(others)})" if others else ""
    raise UserError(f"{where}{lacks}{holds}; set model.name to the network that was trained, or give other weights")


def _is_head(unlike: Mapping[str, tuple[torch.Size, torch.Size]], classes: int) -> bool:
    """Whether these tensors are one layer that gives the classes, and differ in nothing but how many."""
    layers = {name.rpartition(".")[0] for name in unlike}
    return len(layers) == 1 and all(
        len(here) > 0 and here[0] == classes and there[1:] == here[1:] for there, here in unlike.values()
    )


def _bare(names: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """The mapping without what wrappers put in front of all its names, and that."""
    taken = ""
    while True:
        left = {name: value for name, value in names.items() if name not in _MOMENTS}
        front = next((each for each in _WRAPPERS if left and all(name.startswith(each) for name in left)), None)
        if front is None:
            return dict(names), taken
        names, taken = {name.removeprefix(front): value for name, value in left.items()}, taken + front


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_LISTED]) + (", ..." if len(listed) > _LISTED else "")
