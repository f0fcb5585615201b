"""A trained network from its checkpoint, alone or with its data, and how many images it keeps right under an attack."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from trainers.checkpoint import State, Which, kept_weights, network_arguments
from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data.batches import Split
from trainers.data.sets import Data
from trainers.data.sets import load as load_data
from trainers.engine import Engine, device_of
from trainers.errors import UserError, validated
from trainers.files import checkpoint_path
from trainers.ladder import survivors
from trainers.ladder.rungs import LadderAttack
from trainers.models import registry
from trainers.own import snapshot
from trainers.record import only_trial, read
from trainers.seeds import stable_seed

SplitName = Literal["test", "val"]
#: What `images` gives; a network is not evaluated on what it was trained on.
AnySplit = Literal["train", "val", "test"]

#: Of the random draws, with the image: one for all trials, so that they are compared at the same starts.
SEED = 0


class Trained(NamedTuple):
    """A network in eval mode, its data on the same device, and how many images it takes at a time."""

    model: nn.Module
    data: Data
    batch_size: int


_last: dict[Hashable, Trained] = {}  # the one network that this process holds


class Counts(NamedTuple):
    """Which of some images are right: as they are, and whatever the attack does; and by how much it is."""

    clean_right: tuple[bool, ...]
    right: tuple[bool, ...]
    margins: tuple[float, ...]
    """z_y - max_{j != y} z_j where the attack ended (`survivors.Ends`)."""

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.right)

    @property
    def clean_correct(self) -> int:
        """How many are right as they are."""
        return sum(self.clean_right)

    @property
    def correct(self) -> int:
        """How many are right whatever the attack does."""
        return sum(self.right)


def load(
    run: str | os.PathLike[str], trial: str, *, weights: Which = "last", averaged: bool = False, device: str = "auto"
) -> nn.Module:
    """A trained network of a run, in eval mode: pixels in [0, 1], (B, C, H, W), to logits (B, classes).

    It normalises its input itself. The data need not be there.

    Args:
        run: the directory, as given to `sweep launch --out`.
        trial: its id, or a beginning of it.
        weights: of the last epoch, or of the one with the best val_robust; `trial.keep` says which were kept.
        averaged: the average in place of the raw weights.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The network, on the device, as it was trained but for its mode.

    Raises:
        UserError: no such run, trial, weights or device; several trials begin so; it is not completed, or the
            checkpoint is of other code.
    """
    _refuse_other("weights", weights, get_args(Which))
    directory = Path(run)
    name, config = _recorded(directory, trial)
    path = checkpoint_path(directory, name)
    state = kept_weights(path, weights, averaged=averaged, trial_id=name)
    own = validated(ModelConfig, config["model"], f"{directory}: trial {name}: model")
    model = _filled(registry.build(own, **network_arguments(path), seed=0), state, path, own.name)
    return Engine(_device(device)).prepare(model).eval()


def images(
    run: str | os.PathLike[str],
    trial: str,
    split: AnySplit = "test",
    *,
    root: str | os.PathLike[str] | None = None,
    device: str = "auto",
    places: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """The images that a trial of a run was trained or measured on: (N, C, H, W) in [0, 1], fp32, and their labels (N,).

    Args:
        run: as of `load`.
        trial: as of `load`.
        split: test, the validation images val, or those that were trained on, train, without augmentation.
        root: where the data lie; none: ./data, or for the digits inside the package.
        device: as of `load`.
        places: which of them, from 0; none: all, which of ImageNet's 50,000 take 30 GB.

    Returns:
        The images and their labels, on the device, in the data set's own order.

    Raises:
        UserError: as `load`; or no such split or place; or the data are not there, or are others than the trial's.
    """
    _refuse_other("split", split, get_args(AnySplit))
    directory = Path(run)
    name, config = _recorded(directory, trial)
    values = config["data"] | {"root": None if root is None else os.fspath(root)}
    own = validated(DataConfig, values, f"{directory}: trial {name}: data")
    part: Split = getattr(load_data(own, _device(device)), split)
    chosen = slice(None) if places is None else _places(places, len(part.labels))
    return part.pixels(chosen).to(torch.float32).div_(255), part.labels[chosen]


def _places(places: Sequence[int], images: int) -> Tensor:
    if wrong := [place for place in places if not 0 <= place < images]:
        raise UserError(f"places: must be from 0 to {images - 1}, got {wrong[0]}")
    return torch.tensor(places, dtype=torch.int64)


def _refuse_other(argument: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{argument}: must be one of {', '.join(choices)}, got {value!r}")


def _device(name: str) -> torch.device:
    return device_of(validated(TrialConfig, {"device": name}).device)


def _recorded(directory: Path, beginning: str) -> tuple[str, dict[str, Any]]:
    """The id and the config of the one completed trial whose id begins so."""
    snapshot.look_in(directory / snapshot.FOLDER)
    records = read(directory)
    trials = {record["trial_id"]: record for record in records if record["record"] == "trial"}
    name = only_trial(directory, trials, beginning)
    events = [one for one in records if one["record"] in ("start", "outcome") and one["trial_id"] == name]
    state = events[-1].get("outcome", "unfinished") if events else "never_started"
    if state != "completed":
        raise UserError(f"{directory}: trial {name} must be completed, and is {state}; choose another")
    return name, trials[name]["config"]


def _filled(model: nn.Module, weights: State, checkpoint: Path, name: str) -> nn.Module:
    try:
        model.load_state_dict(weights)
    except RuntimeError:  # torch's own names every tensor, over many lines
        raise UserError(
            f"{checkpoint}: must hold the weights of this code's {name}, and holds those of another network; evaluate "
            "it with the code that trained it, or train it again"
        ) from None
    return model


def trained(
    config: TrialConfig, checkpoint: Path, which: Which, *, averaged: bool = False, trial_id: str | None = None
) -> Trained:
    """The network of an ended trial. The last one stays in memory, as long as its checkpoint is not replaced.

    Args:
        config: of the trial, as it was trained; its data are read.
        checkpoint: the trial's file.
        which: weights of the last epoch, or of the one with the best val_robust.
        averaged: the average in place of the raw weights.
        trial_id: whose the checkpoint must be; None: anybody's.

    Raises:
        DamagedCheckpoint: the checkpoint is not what was written, or another trial's.
        UserError: the checkpoint, these weights in it, or the data are not there, or are others than the trial's.
    """
    version = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    key = config, checkpoint, version, which, averaged, trial_id
    if key not in _last:
        _last.clear()  # before the next is loaded, so that a GPU never holds two
        weights = kept_weights(checkpoint, which, averaged=averaged, trial_id=trial_id)
        _last[key] = _trained(config, checkpoint, weights)
    return _last[key]


def _trained(config: TrialConfig, checkpoint: Path, weights: State) -> Trained:
    engine = Engine(device_of(config.device))
    data = load_data(config.data, engine.device)
    model = _filled(registry.network(config, data), weights, checkpoint, config.model.name)
    return Trained(engine.prepare(model).eval(), data, config.evaluation.batch_size)


def order(labels: list[int]) -> list[int]:
    """The places of a split's images in the order in which they are evaluated: the same for every trial.

    The first N hold each class in proportion, and are part of the first N + 1. Each class is shuffled by a hash,
    not by a generator, whose numbers a later version may change.

    >>> [[0, 0, 1, 1][place] for place in order([0, 0, 1, 1])[:2]] in ([0, 1], [1, 0])
    True
    """
    sizes, seen = Counter(labels), Counter[int]()
    hashes = [stable_seed("evaluation", label, place) for place, label in enumerate(labels)]
    share = [0.0] * len(labels)
    for place in sorted(range(len(labels)), key=hashes.__getitem__):
        label = labels[place]
        share[place] = (seen[label] + 0.5) / sizes[label]
        seen[label] += 1
    return sorted(range(len(labels)), key=lambda place: (share[place], hashes[place]))


@functools.lru_cache(maxsize=2)
def _order(labels: tuple[int, ...]) -> list[int]:
    return order(list(labels))


def batches(network: Trained, split: SplitName, first: int, images: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, C, H, W) number `first` to `first + images - 1` of a split's `order`, and their labels (B,)."""
    part = getattr(network.data, split)
    places = _order(tuple(part.labels.tolist()))[first : first + images]
    for start in range(0, len(places), network.batch_size):
        chosen = torch.tensor(places[start : start + network.batch_size], device=part.labels.device)
        pixels = part.pixels(chosen).to(torch.float32).div_(255)
        yield pixels.contiguous(memory_format=torch.channels_last), part.labels[chosen]


def count(network: Trained, attack: LadderAttack, split: SplitName, first: int, images: int) -> Counts:
    """Attacks the images number `first` to `first + images - 1` of a split's `order`.

    Args:
        network: from `trained`.
        attack: of the ladder.
        split: of its data.
        first: from 0.
        images: how many.

    Raises:
        UserError: see `ladder.check`.
    """
    ends: dict[str, list[survivors.Ends]] = {"clean": [], attack.name: []}
    for pixels, labels in batches(network, split, first, images):
        for name in ends:
            one = attack if name == attack.name else LadderAttack(name="clean")
            ends[name].append(survivors.ends(network.model, pixels, labels, one, SEED))
    clean_right, right = (torch.cat([end.right for end in ends[name]]).tolist() for name in ("clean", attack.name))
    margins = torch.cat([end.margins for end in ends[attack.name]]).tolist()
    return Counts(tuple(clean_right), tuple(right), tuple(margins))
