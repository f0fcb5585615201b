"""The trials of a plan as a file for `python -m trainers`, which runs them where there is neither Ray nor Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweep.config import SweepConfig
from sweep.config_file import dump
from sweep.run.directory import CONFIG_FILE, write_whole
from sweep.run.journal import chosen_by
from sweep.run.trial import trial_values
from sweep.storage.mark import MARK
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.own import snapshot
from trainers.record import has_records
from trainers.record.linked import NOTED
from trainers.trial_list import ListedTrial, TrialList, write_list

if TYPE_CHECKING:
    from sweep.plan.plan import Plan


def write_trials(plan: Plan, path: Path, registration: str | None) -> int:
    """Writes the trials that are left, seed by seed, and within a seed in the order of the points.

    So the points that the config gives first are measured first, and all of them with one seed before any with two.

    Args:
        plan: of a sweep whose trials are known beforehand; its data were read.
        path: of the file; a user's own code is kept in a folder beside it.
        registration: the SHA-256 of the run's, without which none of them begins; None: it has none.

    Returns:
        How many they are.

    Raises:
        UserError: they cannot be run one by one, in an order that is fixed now; or the file cannot be written.
    """
    _refuse(plan.config, path)
    if plan.unseen:
        raise UserError(
            f"--trials-file {path}: needs the data, whose fingerprint is part of a trial's id, and "
            f"{', '.join(plan.unseen)} was not looked at; put it there, or leave --no-data out"
        )
    wanted = plan.search.known()
    place = {seed: number for number, seed in enumerate(plan.config.seeds)}
    known = plan.progress.trials
    numbers = _numbers(plan)
    left = [one for one in wanted if one.id not in known or not (known[one.id].finished or known[one.id].left_out)]
    listed = tuple(
        ListedTrial(
            trial.record(numbers[trial.id]),
            TrialConfig.model_validate(trial_values(trial.config, plan.config.resources)),
        )
        for trial in sorted(left, key=lambda one: place[one.seed])
    )
    for source in plan.own.values():
        snapshot.keep(source, path.parent / snapshot.FOLDER)
    launch = {**chosen_by(plan.config), "size": plan.search.size(), "wanted": [trial.id for trial in wanted]}
    launch |= {} if registration is None else {NOTED: registration}
    write_list(path, TrialList(plan.config.name, launch, plan.config.resources.threads, listed))
    return len(listed)


def keep_config(config: SweepConfig, directory: Path) -> None:
    """Writes the run's sweep.yaml, as a launch would, which `python -m trainers` does not; one of a launch stays.

    Raises:
        UserError: it cannot be written.
    """
    path = directory / CONFIG_FILE
    if (directory / MARK).exists() or (path.exists() and has_records(directory)):
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {directory}: cannot be written: {error.strerror}; give a folder that can") from None
    write_whole(path, dump(config))


def _numbers(plan: Plan) -> dict[str, int]:
    """The number of each trial: as the records have it, or as a launch would give it."""
    known = {name: trial.number for name, trial in plan.progress.trials.items()}
    free = (number for number in range(len(known) + plan.search.size()) if number not in set(known.values()))
    return known | {one.id: next(free) for one in plan.search.known() if one.id not in known}


def _refuse(config: SweepConfig, path: Path) -> None:
    """What looks at other trials' results while they run, or needs several processes, is a launch's."""
    where = f"--trials-file {path}: lists trials that run one by one, without a launch, and"
    if config.search.name == "optuna":
        raise UserError(f"{where} search.name is optuna, which asks for them as results come; take grid, say")
    for key in ("stopping", "race"):
        if getattr(config, key) is not None:
            raise UserError(f"{where} {key} compares trials while they run; leave it out, or launch the sweep")
    if config.resources.workers > 1:
        raise UserError(
            f"{where} resources.workers is {config.resources.workers}; set resources.workers=1, or launch the sweep"
        )
