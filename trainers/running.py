"""A trial while it trains, and what its checkpoint holds of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from torch import nn

from trainers import checkpoint
from trainers.checkpoint import State
from trainers.config import TrialConfig
from trainers.data.sets import Data
from trainers.engine import Engine
from trainers.method import optimizers
from trainers.method.averaging import Averaging
from trainers.method.own_objective import with_state
from trainers.models import registry
from trainers.record import DynamicsRecord, EpochRecord, dynamics_record, epoch_record
from trainers.training import Training


@dataclass
class Running:
    """What changes while a trial runs; with the config it is all that a checkpoint has to hold."""

    config: TrialConfig
    id: str
    training: Training
    history: list[EpochRecord]
    best: State | None
    """The weights of the best epoch so far by val_robust, where they are to be kept."""
    dynamics: list[DynamicsRecord]
    best_due: State | None = None
    """The same of the epochs that a longer trial evaluates too: the last one may be evaluated only for being that."""
    carried: State = field(default_factory=dict)
    """What its attack carries on from the last epoch, once there is one; all workers have to be asked for it."""
    state_kept: bool = False
    """Whether its file holds what a longer trial needs."""

    @property
    def data(self) -> Data:
        """Its images."""
        return self.training.data

    @property
    def model(self) -> nn.Module:
        """Its network."""
        return self.training.model

    @property
    def averaging(self) -> Averaging | None:
        """Its averaged weights."""
        return self.training.averaging

    @property
    def engine(self) -> Engine:
        """In use."""
        return self.training.engine


def keep_best(trial: Running) -> None:
    """Copies the weights if they are to be kept and the newest epoch is the best so far; the earliest of equals."""
    scores = [record.val_robust for record in trial.history if record.val_robust is not None]
    newest = trial.history[-1].val_robust
    if trial.config.keeps("best") and newest is not None and newest > max(scores[:-1], default=-math.inf):
        trial.best = _weights(trial)
        if len(trial.history) % trial.config.evaluation.every == 0:
            trial.best_due = trial.best


def _weights(trial: Running) -> State:
    """The weights as they are, copied."""
    models = {"raw": trial.model, "averaged": None if trial.averaging is None else trial.averaging.model}
    states = {kind: model.state_dict() for kind, model in models.items() if model is not None}
    return {"epoch": len(trial.history), **checkpoint.copied(states)}


def checkpoint_state(trial: Running) -> State:
    """What the checkpoint holds, copied: all that the rest of the training needs, or the weights that are kept."""
    state: State = {
        "trial_id": trial.id,
        "network": registry.arguments(trial.data),
        "history": [asdict(record) for record in trial.history],
        "dynamics": [asdict(record) for record in trial.dynamics],
    }
    config, best = trial.config, trial.best
    if len(trial.history) < config.epochs:
        running = checkpoint.copied(running_state(trial))
        return state | {"running": running, "weights": {} if best is None else {"best": best}}
    kept = {"last": _weights(trial)} if config.keeps("last") else {}
    if config.keeps("best") and best is not None:
        kept["best"] = best
    trial.state_kept = config.keep == "state"
    return state | {"weights": kept} | ({"running": _for_a_longer(trial, kept)} if trial.state_kept else {})


def running_state(trial: Running) -> State:
    """All that changes while it trains."""
    own = with_state(trial.training.objective)
    return {
        **({} if own is None else {"objective": own.state_dict()}),
        "epoch": len(trial.history),
        "model": trial.model.state_dict(),
        "optimizer": trial.training.optimizer.state_dict(),
        "averaging": None if trial.averaging is None else trial.averaging.state_dict(),
        "attack": trial.carried,
    }


def _for_a_longer(trial: Running, kept: State) -> State:
    """What a longer trial goes on from, and the best weights as that one would have them; a file holds them once."""
    last, running = kept["last"], running_state(trial)
    copies = checkpoint.copied({key: each for key, each in running.items() if key not in ("epoch", "model")})
    if "averaged" in last:
        copies["averaging"]["model"] = last["averaged"]
    return {**copies, "epoch": running["epoch"], "model": last["raw"], "best": trial.best_due}


def restore(trial: Running, state: State) -> None:
    """Takes in a state that `resuming.check` has let through."""
    trial.history = [epoch_record(values) for values in state["history"]]
    trial.dynamics = [dynamics_record(values) for values in state["dynamics"]]
    if len(trial.history) == trial.config.epochs:
        trial.state_kept = "running" in state
        return
    trial.best = trial.best_due = state["weights"].get("best") if trial.config.keeps("best") else None
    restore_running(trial, state["running"])


def restore_running(trial: Running, running: State) -> None:
    """Takes in all that changes while it trains."""
    trial.model.load_state_dict(running["model"])
    optimizers.restore(trial.training.optimizer, running["optimizer"])
    if running["attack"]:
        trial.carried = running["attack"]
        trial.training.attack.load_state_dict(trial.carried)
    if trial.averaging is not None:
        trial.averaging.load_state_dict(running["averaging"])
    if "objective" in running:
        with_state(trial.training.objective).load_state_dict(running["objective"])
