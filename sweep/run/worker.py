"""What a worker of a trial does that is not its first: it trains along, and writes and reports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.run.directory import log_path
from sweep.run.workers import PATIENCE, Reply, here, on_network
from sweep.storage import checkpoints
from trainers.config import TrialConfig


def take_part(
    name: str,
    values: Mapping[str, Any],
    directory: Path,
    threads: int,
    *,
    rank: int,
    size: int,
    host: str,
    port: int,
    address: str,
    share: float = 1,
    alone: bool = False,
    card: int | None = None,
) -> tuple[Reply, bool]:
    """Takes part in one trial, to its end.

    Args:
        name, values, directory, threads, share, alone: as of `sweep.run.trial.run_trial`.
        rank: of this worker.
        size: how many there are.
        host, port: where they meet.
        address: this machine's, as the others reach it.
        card: the number of the GPU, after the first worker's, that it takes where it takes one; None: what CUDA sees
            first, as where Ray has chosen.

    Returns:
        What the first worker is told, and whether this process can take part in another trial.
    """
    import torch

    from trainers import cards, workers
    from trainers.crew import WorkerLost
    from trainers.engine import device_of
    from trainers.loop import join
    from trainers.outcome import outcome_of
    from trainers.own import snapshot

    snapshot.look_in(directory / snapshot.FOLDER)
    torch.set_num_threads(threads)
    outcome, device, meter = None, torch.device("cpu"), cards.Meter(torch.device("cpu"), False)
    try:
        config = _on_card(TrialConfig.model_validate(values), card)
        device = device_of(config.device)
        cards.freed(device)
        cards.limit(device, share)
        meter = cards.Meter(device, alone)
        store = workers.found(host, port, size)
        store.set(here(rank), "")
        with on_network(address), workers.joined(store, rank, size, device, PATIENCE) as ours:
            join(config, ours)
        meter.look()
    except WorkerLost:
        pass  # another's matter
    except BaseException as error:
        outcome = outcome_of(name, error, log_path(directory, name))
        checkpoints.bring_log(directory, log_path(directory, name))
        outcome = replace(outcome, reason=f"worker {rank} of {size}: {outcome.reason}")
    usable = cards.freed(device)
    return Reply(outcome, meter.taken()), usable


def _on_card(config: TrialConfig, card: int | None) -> TrialConfig:
    import torch

    if card is None or config.device == "cpu" or not torch.cuda.is_available():
        return config
    first = torch.device("cuda" if config.device == "auto" else config.device).index or 0
    return config.model_copy(update={"device": f"cuda:{first + card}"})
