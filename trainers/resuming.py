"""From where a trial goes on: its newest checkpoint that is whole and its own, or none.

A file may be damaged, which its hash tells, or be whole and still be none to go on from: another trial's, of other
code, or put together by hand. `check` is the one place where that is decided, before anything of the trial is changed.
Numbers that are not finite are no reason: the trial itself wrote them, and diverges as it would have.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers import checkpoint, longer
from trainers.archive import Refused
from trainers.checkpoint import State
from trainers.config import TrialConfig
from trainers.dynamics import measurement
from trainers.engine import engine_of
from trainers.errors import UserError
from trainers.files import patiently, previous_path, why
from trainers.identity import trial_id
from trainers.memory import is_out_of_memory
from trainers.method import adversary, objectives, optimizers
from trainers.method.own_objective import with_state
from trainers.models import registry
from trainers.provenance import code_version
from trainers.record import dynamics_record, epoch_record, line
from trainers.record.form import record_on
from trainers.training import Training

#: Keys of every file, of one that trains, and of what it then holds.
_ALWAYS = {"hash", "code_version", "trial_id", "network", "history", "dynamics", "weights"}
_RUNNING = {"epoch", "model", "optimizer", "averaging", "attack"}


def newest(path: Path, check: Callable[[State], None]) -> tuple[State | None, str]:
    """What a trial goes on from, and why it is not what its newest file holds.

    The file before takes the place of a newest one that is passed over, so that it is not the one that the next write
    replaces. What cannot be read now, and perhaps later, lets no trial begin afresh.

    Args:
        path: of its newest file.
        check: raises Refused where a state is not one to go on from.

    Returns:
        The state, None where the trial begins afresh; and in words what was passed over, empty where nothing was.

    Raises:
        UserError: a file is there and cannot be read, and the other one is no way out.
    """
    _wait_for(path.absolute().parent.parent)
    passed: dict[str, list[str]] = {}
    unread = None
    for file in (path, previous_path(path)):
        try:
            check(state := checkpoint.load(file))
            if file != path:
                _replace(file, path)
            return state, _in_words(passed)
        except FileNotFoundError:
            if file == path and previous_path(path).exists():
                passed.setdefault("is not there", []).append(file.name)
        except Refused as refused:
            passed.setdefault(str(refused), []).append(file.name)
        except OSError as error:
            passed.setdefault(f"cannot be read: {error.strerror}", []).append(file.name)
            unread = unread or f"{file}: cannot be read: {error.strerror}"
    if unread:
        raise UserError(f"{unread}; mend that, or remove it: the trial then goes on from what is left")
    return None, _in_words(passed)


def _wait_for(folder: Path) -> None:
    """Storage that is away is not taken for a trial that has no checkpoint.

    Args:
        folder: of the run, which is there where the storage is: that of checkpoints may be yet to come.
    """
    try:
        patiently(folder, folder.stat, verb="found")
    except OSError as error:
        raise UserError(f"{folder}: {why(error, folder, 'found')}; mend that: the same command goes on") from None


def _replace(file: Path, path: Path) -> None:
    """Moves a file to a place; a folder there, whose place no file takes, is moved aside."""
    try:
        os.replace(file, path)
    except IsADirectoryError:
        os.rename(path, path.with_name(f"{path.name}.folder"))
        os.replace(file, path)


def longest(files: Iterable[Path], config: TrialConfig, training: Training) -> tuple[State | None, str | None, str]:
    """What a trial goes on from that has no checkpoint of its own: the end of a shorter one with which it begins.

    Args:
        files: of shorter trials, the longest first.
        config: of the trial, resolved.
        training: of the trial, at its first step; not changed.

    Returns:
        The state, as the trial's own checkpoint would hold it, and the shorter trial's id; None: there is none to go on
        from. And in words what was passed over.
    """
    passed: dict[str, list[str]] = {}
    for file in files:
        try:
            state = checkpoint.load(file)
            return _continued(state, config, training), state["trial_id"], _in_words(passed)
        except FileNotFoundError:
            passed.setdefault("is not there", []).append(file.name)
        except Refused as refused:
            passed.setdefault(str(refused), []).append(file.name)
        except OSError as error:
            passed.setdefault(f"cannot be read: {error.strerror}", []).append(file.name)
    return None, None, _in_words(passed)


def _continued(shorter: State, config: TrialConfig, training: Training) -> State:
    """A shorter trial's end as a checkpoint of this trial, looked at as such a one."""
    try:
        _require(isinstance(shorter.get("code_version"), str), "is no checkpoint of a trial")
        _require("running" in shorter, "holds no state to go on from: it was not trained with keep: state")
        epochs = len(shorter["history"])
        _require(epochs < config.epochs, f"holds {epochs} epochs of a trial of {config.epochs}")
        short = longer.beginning(config, epochs)
        _require(not (why := longer.why_not(config, epochs)), why)
        _require(shorter["trial_id"] == trial_id(short), f"is of another trial, {shorter['trial_id']}")
        _require(not config.deterministic or _engine(short, training) == _engine(config, training), _OTHER_ENGINE)
        state = longer.continued(shorter, config)
    except (AttributeError, KeyError, TypeError) as error:
        raise Refused(f"is not what a trial writes ({type(error).__name__})") from None
    check(state, config, state["trial_id"], training)
    return state


#: With `engine: auto` a long training is worth compiling that a short one is not, and rounds otherwise.
_OTHER_ENGINE = "was trained with another engine, whose bits are others; set trial.engine"


def _engine(config: TrialConfig, training: Training) -> str:
    return engine_of(config, len(training.data.train.labels))[0].mode


def _in_words(passed: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{' and '.join(files)} {why}" for why, files in passed.items())


def check(state: State, config: TrialConfig, trial_id: str, training: Training) -> None:
    """The state is one that this trial wrote with this code, whole and not finished by another's hand.

    Args:
        state: what a file holds.
        config: of the trial.
        trial_id: its id.
        training: of the trial, at its first step; not changed.

    Raises:
        Refused: it is not; says why.
    """
    try:
        _check(state, config, trial_id, training)
    except Refused:
        raise
    except Exception as error:  # of a value that is of another kind than whoever wrote it could have written
        if is_out_of_memory(error):
            raise
        raise Refused(f"is not what a trial writes ({type(error).__name__})") from None


def _check(state: State, config: TrialConfig, trial_id: str, training: Training) -> None:
    _require(isinstance(state.get("code_version"), str), "is no checkpoint of a trial")
    _require(state["code_version"] == code_version(), f"is of other code ({state['code_version']})")
    _require(state["trial_id"] == trial_id, f"is of another trial, {state['trial_id']}")
    _require(state["network"] == registry.arguments(training.data), "is of other images")
    epochs = _check_records(state, config, trial_id)
    running = {"running"} if epochs < config.epochs else set()
    parts = state.keys() if running else state.keys() - {"running"}  # which is of an ended one for a longer trial
    _require(parts == _ALWAYS | running, f"must hold {', '.join(sorted(_ALWAYS | running))}")
    _check_weights(state, config, training, epochs)
    if running:
        _check_running(state["running"], config, training, epochs)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refused(otherwise)


def _check_records(state: State, config: TrialConfig, trial_id: str) -> int:
    """Its epochs and what was measured of them are all there, each once; gives how many epochs."""
    history, dynamics = state["history"], state["dynamics"]
    epochs = len(history)
    expected = list(range(1, epochs + 1))
    _require(0 < epochs <= config.epochs, f"holds {epochs} epochs of a trial of {config.epochs}")
    _require([one["epoch"] for one in history] == expected, "holds epochs that are not 1, 2, 3 and so on")
    due = [epoch for epoch in range(epochs + 1) if measurement.is_due(config, epoch)]
    _require([one["epoch"] for one in dynamics] == due, "holds the dynamics of other epochs than its own")
    _require(all(one["trial_id"] == trial_id for one in (*history, *dynamics)), "holds records of another trial")
    lines = [line("epoch", epoch_record(values)) for values in history]
    for text in (*lines, *(line("dynamics", dynamics_record(values)) for values in dynamics)):
        record_on(text.encode())  # raises where records.jsonl would not be believed
    return epochs


def _check_weights(state: State, config: TrialConfig, training: Training, epochs: int) -> None:
    """The weights that are kept are of the epochs that they must be of, and this network's."""
    weights, scores = state["weights"], [one.get("val_robust") for one in state["history"]]
    scored = [score for score in scores if score is not None]
    best = scores.index(max(scored)) + 1 if scored else None
    _require(weights.keys() <= {"last", "best"}, "keeps weights under other names")
    for which, kept in weights.items():
        _require(kept["epoch"] == (best if which == "best" else config.epochs), f"has {which} weights of another epoch")
        _require({"epoch", "raw"} <= kept.keys() <= {"epoch", "raw", "averaged"}, f"has other {which} weights")
        averaged = {"averaged"} if training.averaging is not None else set()
        _require(kept.keys() - {"epoch", "raw"} <= averaged, f"has an average of {which} weights")
        for kind in kept.keys() - {"epoch"}:
            _check_network(kept[kind], training.model, f"{which} weights")
    if epochs < config.epochs:
        _require("last" not in weights, "keeps last weights before its end")
        lacks = config.keeps("best") and scored and "best" not in weights
        _require(not lacks, f"lacks the best weights so far, which keep: {config.keep} needs")


def _check_running(running: State, config: TrialConfig, training: Training, epochs: int) -> None:
    """The state of the training is of the last epoch, and fits the trial's own parts."""
    _require(running.keys() - {"objective"} == _RUNNING, f"must hold {', '.join(sorted(_RUNNING))} while it trains")
    _require(running["epoch"] == epochs, f"holds {epochs} epochs and the state of epoch {running['epoch']}")
    _check_network(running["model"], training.model, "weights")
    _check_optimizer(running["optimizer"], config, training)
    like = torch.empty(config.batch_size, *training.data.train.shape, device="meta")
    _check_tensors(running["attack"], adversary.build(config.attack, like).state_dict(), "perturbation")
    if "objective" in running:  # which a file of before has not
        _try_objective(running["objective"], config, training)
    averaging = running["averaging"]
    if training.averaging is None or averaging is None:
        _require(training.averaging is averaging, "holds an average where the trial has none, or none where it has one")
        return
    _require(averaging.keys() == {"count", "model"} and _is_count(averaging["count"]), "holds another average")
    _check_network(averaging["model"], training.model, "averaged weights")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _check_network(state: State, model: nn.Module, what: str) -> None:
    _check_tensors(state, model.state_dict(), what)


def _check_tensors(state: State, own: Mapping[str, Any], what: str) -> None:
    """The same names, and under each a tensor of the same shape and type, or what is no tensor in both."""
    _require(isinstance(state, dict) and state.keys() == own.keys(), f"holds {what} of other names")
    for name, tensor in own.items():
        _require(_is_like(state[name], tensor), f"holds {what} of another shape or type: {name}")


def _is_like(given: Any, own: Any) -> bool:
    if not isinstance(own, Tensor):
        return type(given) is type(own)
    return _is_plain(given) and (given.shape, given.dtype) == (own.shape, own.dtype)


def _is_plain(tensor: Any) -> bool:
    """A tensor with numbers in it."""
    return isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _check_optimizer(state: State, config: TrialConfig, training: Training) -> None:
    """Its groups are the trial's own, and its tensors those of its kind; of a user's own, that it takes them."""
    own = training.optimizer.state_dict()
    _require(state.keys() == own.keys(), "holds an optimizer of another kind")
    if config.optimizer.is_own:
        _try(state, config, training)
        return
    pairs = list(zip(state["param_groups"], own["param_groups"], strict=True))
    alike = all(one[key] == other[key] for one, other in pairs for key in one.keys() & other.keys() - {*optimizers.HOW})
    _require(alike, "holds an optimizer of other settings")
    _require(all(math.isfinite(float(one["lr"])) for one, _ in pairs), "holds an optimizer of other settings")
    held, parameters = state["state"], list(training.model.parameters())
    names = optimizers.STATE[config.optimizer.name]
    must = config.optimizer.name != "sgd" or config.optimizer.momentum > 0
    _require(any(held.values()) or not must, "holds an optimizer without its state")
    for number, kept in held.items():
        _require(kept.keys() in (set(), set(names)), "holds an optimizer of another kind")
        for name, value in kept.items():
            shape = () if name == "step" else parameters[number].shape
            fits = _is_plain(value) and value.shape == shape and value.is_floating_point()
            _require(fits, f"holds an optimizer's {name} of another shape or type")


def _try_objective(state: State, config: TrialConfig, training: Training) -> None:
    """A user's own objective keeps a state, and takes this one."""
    own = with_state(objectives.build(config.objective, training.data.num_classes))
    _require(own is not None, "holds a state of an objective that keeps none")
    own.load_state_dict(copy.deepcopy(state))


def _try(state: State, config: TrialConfig, training: Training) -> None:
    """A user's own optimizer takes its state."""
    copies = [nn.Parameter(parameter.detach().clone()) for parameter in training.model.parameters()]
    optimizers.restore(optimizers.build(config.optimizer, copies), state)
