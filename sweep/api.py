"""A sweep from Python, in a script or a notebook: what `sweep plan` and `sweep launch` do, with values for text."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from analysis.frames.log import read_records
from sweep.config import SweepConfig
from sweep.config_file import dump, load, of_values
from sweep.plan import plan as planning
from sweep.progress import Progress
from sweep.reports.options import bring_run
from sweep.reports.output import console
from sweep.run.budget import NothingFits
from sweep.run.directory import refuse_other_sweep
from sweep.run.launch import Launch
from sweep.run.signals import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from sweep.storage.cache import folder
from sweep.storage.mirror import held
from sweep.storage.objects import Address
from sweep.yaml_text import parsed, written
from trainers.blanked import blanked
from trainers.errors import UserError
from trainers.provenance import code_version
from trainers.record import record_files

Source: TypeAlias = SweepConfig | Mapping[str, Any] | str | os.PathLike[str]
"""What describes a sweep: a config, the same as plain values, or the path of a YAML file."""

#: In whose place a file's path stands in errors, where there is no file.
_NO_FILE = Path("config")


@dataclass(frozen=True)
class Outcome:
    """What a launch has come to."""

    directory: Path
    """Of the run, as `analysis.load_trials` and its like take it."""
    exit_code: int
    """Of the command: 0 done, 1 some trials failed or were left, 2 the run's store has gone, 3 Ray has."""
    counts: Mapping[str, int]
    """Trials by outcome, all that the sweep wants: {'completed': 12, 'failed': 1}."""

    @property
    def finished(self) -> bool:
        """Whether the same launch would find nothing left to run."""
        return self.exit_code == EXIT_DONE


def load_config(source: Source, overrides: Mapping[str, Any] | None = None) -> SweepConfig:
    """A sweep's config, checked, with every default filled in.

    Args:
        source: a config, a mapping as the YAML file has it, or that file's path.
        overrides: dotted key -> value, as `sweep launch --set` has them: {"trial.epochs": 3}. Setting `trial.KEY` where
            KEY is varied replaces the varied values by this one.

    Returns:
        The config: frozen, its fields those of the file.

    Raises:
        UserError: names the key, what it must hold and what it got.
    """
    sets = [f"{key}={written(json.loads(_text(value, key)))}" for key, value in (overrides or {}).items()]
    if isinstance(source, SweepConfig):
        return of_values(parsed(dump(source)), _NO_FILE, sets)
    if isinstance(source, Mapping):
        return of_values(json.loads(_text(source, "config")), _NO_FILE, sets)
    return load(Path(source), sets)


def _text(value: Any, where: str) -> str:
    """A value as JSON.

    Raises:
        UserError: it is none of JSON's, such as an array.
    """
    try:
        return json.dumps(dict(value) if isinstance(value, Mapping) else value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: must be made of text, numbers, lists and mappings: {error}; convert it, as .tolist() does"
        ) from None


def plan_of(
    source: Source, directory: str | os.PathLike[str] | None = None, overrides: Mapping[str, Any] | None = None
) -> planning.Plan:
    """What a launch would run, without running it.

    Args:
        source: as for `load_config`.
        directory: of the run, whose finished trials are not wanted again; None: runs/NAME.
        overrides: as for `load_config`.

    Returns:
        The plan: `left`, how many trials are to run; `finished`, how many are done; `lines()`, all of it in words, as
        `sweep plan` prints it, which also estimates what it will cost.

    Raises:
        UserError: the config, the directory or the data are not as they must be.
    """
    config = load_config(source, overrides)
    place = _directory(config, directory)
    bring_run(place)
    refuse_other_sweep(place, config)
    return planning.plan(config, planning.earlier_records(place), code_version(), "if there")


def launch(
    source: Source,
    directory: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    address: str | None = None,
    serial: bool = False,
    again: bool = False,
    resume_pruned: bool = False,
    budget_hours: float | None = None,
) -> Outcome:
    """Runs the trials of a sweep that are not finished yet, and prints how far it is.

    Called again, it goes on from where it was stopped, as the command does; either takes up what the other began. To be
    called in the main thread, which takes the signals.

    Args:
        source: as for `load_config`.
        directory: of the run, or s3://BUCKET/RUN; None: runs/NAME.
        overrides: as for `load_config`.
        address: of a Ray cluster, auto or HOST:PORT; None: a local Ray.
        serial: one trial after another, in one process, without Ray.
        again: also trials that were cancelled, or ran out of memory alone.
        resume_pruned: also trials that a stopping rule ended.
        budget_hours: of trials, one after another, h: only those begin that end within them; None: all.

    Returns:
        What it has come to. A trial that failed or diverged is an outcome in `counts`, and raises nothing.

    Raises:
        UserError: the config, the directory, the data or this machine are not as they must be; no trial has run.
        KeyboardInterrupt: by Ctrl-C, a notebook's stop or SIGTERM, once all that was done is written down.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("launch: must be called in the main thread, which takes the signals; or run `sweep launch`")
    if serial and address is not None:
        raise UserError("serial: runs without Ray, so that address says nothing; leave one of the two out")
    if budget_hours is not None and not 0 < budget_hours < math.inf:
        raise UserError(f"budget_hours: must be a finite number > 0, got {budget_hours}; None has no bound")
    config = load_config(source, overrides)
    place = _directory(config, directory)
    how: dict[str, Any] = {"address": address, "serial": serial, "again": again, "resume_pruned": resume_pruned}
    with held(place, "sweep launch"):
        try:
            command = _command(source, overrides)
            code = Launch(config, place, console(), command=command, budget_hours=budget_hours, **how).run()
        except NothingFits:
            code = EXIT_SOME_FAILED
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt("the sweep was stopped; the same launch goes on")
    progress = Progress.of(read_records(place)) if record_files(place) else Progress()
    return Outcome(place, code, progress.counts(live=False))


def _directory(config: SweepConfig, directory: str | os.PathLike[str] | None) -> Path:
    """Of the run: of one in a store the folder of this machine that stands for it."""
    if directory is None:
        return Path("runs") / config.name
    address = Address.of(os.fspath(directory))
    return Path(directory) if address is None else folder(address)


def _command(source: Source, overrides: Mapping[str, Any] | None) -> str:
    """What was called, for the records, without secrets; the config itself is in the run's sweep.yaml."""
    called = "config" if isinstance(source, SweepConfig | Mapping) else repr(os.fspath(source))
    sets = f", overrides={dict(overrides)!r}" if overrides else ""
    return blanked(f"sweep.launch({called}{sets})")
