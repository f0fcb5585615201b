"""One chunk of an evaluation as a process runs it: a record out, errors as values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sweep.config import ResourcesConfig
from sweep.evaluate.plan import Chunk, Evaluation
from sweep.run.directory import log_path
from sweep.run.hung import hung, limited
from sweep.run.signals import Interrupted
from sweep.run.trial import trial_values
from sweep.storage import checkpoints
from sweep.storage.cache import local, named
from trainers import cards
from trainers.blanked import blanked
from trainers.checkpoint import DamagedCheckpoint
from trainers.config import TrialConfig
from trainers.data.sets import Data
from trainers.engine import device_of
from trainers.errors import UserError
from trainers.files import checkpoint_path
from trainers.ladder import bits
from trainers.ladder.checks import count_check
from trainers.ladder.rungs import PACKAGE, LadderAttack
from trainers.ladder.trained import Counts, count, trained
from trainers.memory import is_out_of_memory, reason
from trainers.outcome import logged
from trainers.own import snapshot
from trainers.provenance import code_version, host, versions
from trainers.record import CheckRecord, EvaluationRecord


def chunk_values(directory: Path, evaluation: Evaluation, chunk: Chunk, resources: ResourcesConfig) -> dict[str, Any]:
    """The chunk as plain values: what a process that runs it is given."""
    return {
        "directory": named(directory),
        "config": trial_values(evaluation.config, resources),
        "threads": max(1, int(resources.cpu)),
        "share": resources.most_gpu,
        "attack": evaluation.attack.model_dump(mode="json"),
        "check": getattr(evaluation, "check", None),
        "margins": "margins" in evaluation.needs,
        "record": {**evaluation.named(), "first": chunk.first, "images": chunk.images},
    }


class Skipped(str):
    """Why no chunk of a trial can be evaluated, in one line: its checkpoint is damaged."""


class Ended(NamedTuple):
    """What became of a chunk, and of the process that ran it."""

    result: EvaluationRecord | CheckRecord | str
    """Its record; or in one line why there is none."""
    usable: bool
    """Whether the process can run another: its GPU still answers."""


def run_chunk(values: Mapping[str, Any]) -> Ended:
    """Evaluates one chunk; the traceback of what is not the user's mistake is then in the trial's log.

    Args:
        values: from `chunk_values`.
    """
    torch.set_num_threads(values["threads"])
    device = torch.device("cpu")
    result: EvaluationRecord | CheckRecord | str
    try:
        device = device_of(values["config"]["device"])
        cards.limit(device, values["share"])
        result = _record(values)
    except DamagedCheckpoint as error:
        result = Skipped(error)
    except UserError as error:
        result = blanked(str(error))
    except Interrupted:
        raise
    except BaseException as error:  # of a user's own code, SystemExit too
        if is_out_of_memory(error):
            result = f"out of memory: {reason(error)}"
        else:
            first = (str(error).splitlines() or [""])[0]
            log = log_path(local(values["directory"]), values["record"]["trial_id"])
            result = f"{type(error).__name__}: {blanked(first)}{logged(error, log)}"
    return Ended(result, cards.freed(device))


def run_limited(values: Mapping[str, Any]) -> Ended:
    """`run_chunk` in a process that ends if it takes longer.

    Args:
        values: from `chunk_values`; with `limit`, s, and `name`, by which `hung_chunk` asks what became of it.
    """
    with limited(local(values["directory"]), values["name"], values["limit"]):
        return run_chunk(values)


def hung_chunk(values: Mapping[str, Any]) -> str | None:
    """Why the process that `run_limited` ran in ended, if it was for hanging."""
    return hung(local(values["directory"]), values["record"]["trial_id"], values["name"])


def _record(values: Mapping[str, Any]) -> EvaluationRecord | CheckRecord:
    wanted = values["record"]
    directory = local(values["directory"])
    snapshot.look_in(directory / snapshot.FOLDER)
    checkpoints.fetch(directory, wanted["trial_id"])
    checkpoint = checkpoint_path(directory, wanted["trial_id"])
    config = TrialConfig.model_validate(values["config"])
    network = trained(config, checkpoint, wanted["weights"], averaged=wanted["averaged"], trial_id=wanted["trial_id"])
    attack = LadderAttack.model_validate(values["attack"])
    started = time.perf_counter()
    place = wanted["split"], wanted["first"], wanted["images"]
    if check := values["check"]:
        checked = count_check(network, check, attack, *place)
        return CheckRecord(**{**wanted, **asdict(checked), **_how(started, network.data, check)})
    counts = count(network, attack, *place)
    measured = {
        **{name: getattr(counts, name) for name in ("images", "clean_correct", "correct")},
        **_how(started, network.data, attack.name),
        "draws": "image",
        **_each_image(network.data, wanted["split"], counts, attack),
        "margins": bits.halves(counts.margins) if values["margins"] else None,
    }
    return EvaluationRecord(**{**wanted, **measured})


def _how(started: float, data: Data, name: str) -> dict[str, Any]:
    """How long it took since, where, and with what code."""
    device = data.test.labels.device
    return {
        "seconds": round(time.perf_counter() - started, 6),
        "host": host(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "code_version": code_version(),
        "versions": versions(("torch", *PACKAGE.get(name, ()))),
    }


def _each_image(data: Data, split: str, counts: Counts, attack: LadderAttack) -> dict[str, Any]:
    """What the record says of each image by itself, and which images those are."""
    return {
        "right": bits.packed(counts.right),
        "clean_right": None if attack.name == "clean" else bits.packed(counts.clean_right),
        "fingerprint": bits.places(getattr(data, split)).fingerprint,
        "classes": bits.classes(data, split),
    }
