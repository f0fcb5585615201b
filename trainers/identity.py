"""A trial's name is its content: what of a config can change the numbers, and the hash of that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.own.reference import PARTS, is_reference, parse

#: What each choice in a part of the config reads there besides the keys that every choice reads.
_OWN: dict[str, dict[str, tuple[str, ...]]] = {
    "optimizer": {"sgd": ("momentum", "nesterov"), "deat": ("k1", "k2"), "adamw": ("beta1", "beta2", "eps")},
    "objective": {
        "natural": ("label_smoothing",),
        "pgd_at": ("label_smoothing",),
        "trades": ("beta", "label_smoothing"),
        "mart": ("beta",),
        "avmixup": ("vertex", "clean_label", "vertex_label"),
    },
    "weights": {"none": (), "awp": ("gamma", "warmup")},
    "averaging": {"none": (), "ema": ("decay", "start", "ema_warmup"), "swa": ("start",)},
}

#: Keys that are left out at these values, the defaults, so that a trial's name is the one from before they were there.
_LEFT_OUT: dict[str, dict[str, Any]] = {
    "objective": {"label_smoothing": 0},
    "attack": {
        "start_scale": 1,
        "project": True,
        "radius_warmup": 0,
        "step_size_warmup": 0,
        "tau": None,
        "tau_milestones": [],
        "replays": None,
    },
}

#: What an attack with replays does not read; batch norm's mode is that of the measured dynamics' attack alone.
_OF_PASSES = ("steps", "start", "start_scale", "batch_norm")


def identity(config: TrialConfig) -> dict[str, Any]:
    """All that can change the trial's numbers and nothing that cannot, as plain values.

    Left out: device, engine, which weights are kept, when checkpoints are written, where the data, the weights to start
    from and a user's own files lie, whose contents are there, the preset's name, whose values are, the order in which
    splits are measured, and keys that the chosen optimizer, objective, schedule or number of attack steps does not
    read. PGD-AT without attack steps is natural training under another name, and so the same trial.
    """
    values = config.resolved().model_dump(mode="json")
    values["evaluation"]["splits"].sort()
    if values["objective"]["name"] == "pgd_at" and values["attack"]["steps"] == 0:
        values["objective"]["name"] = "natural"
    if values["objective"]["name"] == "natural":
        values["attack"] = {"norm": values["attack"]["norm"]}
    elif values["attack"]["steps"] == 0:
        values["attack"] = {key: values["attack"][key] for key in ("norm", "steps")}
    if values["attack"].get("steps", 0) == 0:
        del values["batch_norm_data"]
    if values.get("batch_norm_data", "adversarial") == "adversarial":
        del values["clean_passes"]
    if values["weights"]["warmup"] >= config.epochs:
        values["weights"]["name"] = "none"
    if config.optimizer.weight_decay == 0 and not config.optimizer.is_own:
        values["optimizer"].pop("decoupled_weight_decay", None)
    for part, choices in _OWN.items():
        values[part] = _read(values[part], choices)
    values["attack"] = _read_by_attack(values["attack"], config)
    for part, defaults in _LEFT_OUT.items():
        if is_reference(values[part].get("name")):
            continue  # its keys are the user's own
        values[part] = {key: value for key, value in values[part].items() if (key, value) not in defaults.items()}
    if values["attack"].get("steps") == 0 and not config.objective.is_own:
        values["objective"].pop("vertex", None)
    if not values["objective"]["s2o"]["enabled"]:
        values["objective"]["s2o"] = {"enabled": False}
    elif values["weights"]["name"] == "none":
        del values["objective"]["s2o"]["in_awp"]
    _leave_out_unread_data(values["data"], config)
    if not values["model"]["normalize"]:
        del values["model"]["moments"]
    if not config.model.is_own and values["model"]["activation"] in (None, "relu"):
        del values["model"]["activation"]
    if values["model"]["weights_fingerprint"] is None:
        del values["model"]["weights_fingerprint"]
    if config.evaluation.precision == "fp32":
        del values["evaluation"]["precision"]
    if not config.deterministic:
        del values["deterministic"]
    if config.batch_norm == "sync" or config.workers == 1:
        del values["batch_norm"], values["workers"]
    if config.dynamics.every is None:
        del values["dynamics"]
    for key in ("device", "engine", "keep", "checkpoint", "preset"):
        del values[key]
    for key in ("root", "download", "extra", "in_memory_gib", "decode"):
        del values["data"][key]
    del values["model"]["fine_tune"]
    values["schedule"] = _read_by_schedule(config)
    for part in PARTS:
        if is_reference(name := values[part]["name"]):
            values[part]["name"] = parse(name).canonical
    return values


def _leave_out_unread_data(data: dict[str, Any], config: TrialConfig) -> None:
    resizes = bool(data["augment"]) and data["crop"] == "random_resized"
    if resizes or not data["augment"]:
        del data["padding"]
    if not resizes:
        del data["crop"], data["crop_scale"]
    if data["crop_size"] is None:
        del data["crop_size"]
    if config.data.policy == "none":
        del data["policy"]
    if config.data.cutmix == 0:
        del data["cutmix"], data["cutmix_window"]
    if not config.data.reads_extra:
        del data["extra_fraction"], data["extra_fingerprint"]


def _read(part: dict[str, Any], choices: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """The part without the keys that only other choices read."""
    if is_reference(part["name"]):
        return part  # whose other keys are its options
    others = {key for keys in choices.values() for key in keys} - set(choices[part["name"]])
    return {key: value for key, value in part.items() if key not in others}


def _read_by_attack(attack: dict[str, Any], config: TrialConfig) -> dict[str, Any]:
    """The attack without what it does not read: with replays, of its passes; of tau, where no image stops, and epochs
    that are not reached."""
    unread: tuple[str, ...] = ()
    if attack.get("replays") is not None:
        unread = _OF_PASSES if config.dynamics.every is None else _OF_PASSES[:-1]
    if attack.get("tau") is not None and attack["tau"] >= attack["steps"]:
        unread = ("tau", "tau_milestones")
    if attack.get("tau_milestones"):
        attack["tau_milestones"] = [epoch for epoch in attack["tau_milestones"] if epoch < config.epochs]
    return {key: value for key, value in attack.items() if key not in unread}


def _read_by_schedule(config: TrialConfig) -> dict[str, Any]:
    schedule = config.schedule
    if schedule.is_own:
        own = schedule.model_dump(mode="json")
        return {key: value for key, value in own.items() if key != "warmup_epochs" or value}
    reached = [epoch for epoch in schedule.milestones if epoch < config.epochs]
    if schedule.name == "one_cycle":
        return {"name": "one_cycle", "warmup": schedule.warmup}
    rise = {"warmup_epochs": schedule.warmup_epochs} if schedule.warmup_epochs else {}
    if schedule.name == "piecewise" and reached and schedule.factor != 1:
        return {"name": "piecewise", "milestones": reached, "factor": schedule.factor, **rise}
    return {"name": "constant" if schedule.name == "piecewise" else schedule.name, **rise}


def trial_id(config: TrialConfig) -> str:
    """The trial's name: 12 hex digits of the SHA-256 of its `identity` as canonical JSON.

    Raises:
        UserError: the data, or the weights to start from, have no fingerprint yet, so that their content is not in
            the hash.
    """
    if config.data.fingerprint is None:
        raise UserError("data.fingerprint: needed for the trial's id; trainers.data.sources.fingerprint gives it")
    if config.model.fine_tune is not None and config.model.weights_fingerprint is None:
        raise UserError(
            "model.weights_fingerprint: needed for the trial's id; trainers.models.fine_tuning.fingerprint gives it"
        )
    if config.data.reads_extra and config.data.extra_fingerprint is None:
        raise UserError("data.extra_fingerprint: needed for the trial's id; trainers.data.extra.fingerprint gives it")
    return hashed(identity(config))


def hashed(identity: Mapping[str, Any]) -> str:
    """The trial's name, of an `identity` that is at hand already."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
