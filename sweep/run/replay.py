"""A launch on the open response surface: trials are drawn from it in a moment, and none is trained.

It goes the way of a serial launch: the same plan, search, stopping rules and records. What comes of it is marked in the
launch's line and in the start of each trial, and what reads runs refuses it or says so (`analysis.frames.replayed`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.frames.replayed import surrogate_of
from sweep.axes import Point
from sweep.config import SweepConfig
from sweep.objectives import SECONDS
from sweep.plan.stopping import metric_of
from sweep.run.trial import Message
from sweep.search.admission import Admission, Shared, first_admitted
from sweep.search.inputs import fingerprints
from sweep.search.points import corners, places, strata
from sweep.search.trials import PlannedTrial, Search, planned
from sweep.storage.cache import shown
from trainers.errors import UserError
from trainers.provenance import host
from trainers.record import EpochRecord, OutcomeRecord, has_records
from trainers.record.linked import REGISTRATION_FILE

if TYPE_CHECKING:
    from analysis.surrogate.surface import Surface, Surrogate


def marked(surrogate: Surrogate) -> str:
    """What stands in place of a code version where no code trained."""
    return f"surrogate {surrogate.version}"


def refuse_mixing(directory: Path, surrogate: Surrogate | None) -> None:
    """A run's trials are all trained, or all replayed on the same surfaces.

    Args:
        directory: of the run.
        surrogate: on which it is to go on; None: its trials are to be trained.

    Raises:
        UserError: they are not.
    """
    before = surrogate_of(directory)
    if surrogate is None and before is not None:
        raise UserError(
            f"--out {shown(directory)}: holds a replay on response surface {before}; give another --out, or --surrogate"
        )
    if surrogate is not None and before not in (None, surrogate.version):
        raise UserError(
            f"--out {shown(directory)}: was replayed on response surface {before}, and here is {surrogate.version}; "
            "give another --out"
        )
    if surrogate is not None and before is None and has_records(directory):
        raise UserError(
            f"--out {shown(directory)}: holds trained trials, beside which none is replayed; give another --out"
        )
    if surrogate is not None and (directory / REGISTRATION_FILE).exists():
        raise UserError(f"--out {shown(directory)}: is registered, for trials that are trained; give another --out")


def refuse_outside(surrogate: Surrogate, config: SweepConfig, search: Search) -> list[str]:
    """Before anything runs: the data reach all points that may be asked for.

    Args:
        surrogate: the surfaces.
        config: of the sweep.
        search: of its plan.

    Returns:
        What the surfaces are, in lines, one each.

    Raises:
        UserError: they do not, or lack a metric that is asked for.
    """
    if any(one.name == SECONDS for one in config.objectives):
        raise UserError(f"metric: a replay takes no time, so that {SECONDS} say nothing; leave {SECONDS} out")
    trials = search.known()
    if config.search.name == "optuna":
        trials = [*trials, *planned(config, _outermost(config), fingerprints(config))]
    surfaces = dict.fromkeys(_placed(surrogate, trial)[0] for trial in trials)
    for surface in surfaces:
        _refuse_unmeasured(surface, config)
    return [_line(surface, config.objectives[0].name) for surface in surfaces]


def _outermost(config: SweepConfig) -> list[Point]:
    """The corners of the space that `where` admits; where it admits none, draws that it does."""
    space, base, admission = config.space, config.given, Admission.of_sweep(config)
    if admitted := list(filter(admission.admitted, corners(space, base))):
        return admitted
    drawn, n = Shared(places(space, config.search.seed, quasi_random=False)), config.search.n_trials or 0
    found = (first_admitted(drawn, space, base, stratum, admission, n) for stratum in strata(space, base))
    return [point for one in found for point in one.points]


def _placed(surrogate: Surrogate, trial: PlannedTrial) -> tuple[Surface, dict[str, Any]]:
    surface, point = surrogate.of_trial(trial.identity)
    surface.check(point)
    return surface, point


def _refuse_unmeasured(surface: Surface, config: SweepConfig) -> None:
    title, last = surface.fits["title"], surface.epochs
    for name in (one.name for one in config.objectives):
        if (name, last) not in surface.processes:
            raise UserError(f"surrogate: {name}: is not in the data of {title}; choose another metric")
    if config.stopping is not None and not config.races:
        compared = metric_of(config)
        if not any(metric == compared and epoch < last for metric, epoch in surface.processes):
            raise UserError(
                f"stopping: {config.stopping.name} compares {compared} before the last epoch, and the data of {title} "
                "have the last alone; leave stopping out"
            )


def _line(surface: Surface, metric: str) -> str:
    fits = surface.fits
    held = fits["held_out"][metric]
    return (
        f"surrogate: {fits['title']}: from {held['trials']} trials at {held['points']} points; of points held out, "
        f"{metric}: R2 {held['r2_points']:.2f}, and of its 95 % intervals {100 * held['coverage']:.0f} % held a trial"
    )


def messages(surrogate: Surrogate, trial: PlannedTrial) -> Iterator[Message]:
    """What a trial there sends: a start, its epochs, its outcome.

    Args:
        surrogate: the surfaces.
        trial: whose id seeds the draw, so that it is the same each time.
    """
    from trainers.method.schedules import lr_factor

    name, config = trial.id, trial.config
    about = {"trial_id": name, "host": host(), "device": "none", "code_version": marked(surrogate)}
    yield {"record": "start", **about}
    try:
        surface, point = _placed(surrogate, trial)
        curve = surface.drawn(point, int(name, 16))
    except UserError as error:
        yield {"record": "outcome", **asdict(OutcomeRecord(name, "failed", str(error), 0))}
        return
    for epoch in range(1, config.epochs + 1):
        lr = config.optimizer.lr * lr_factor(config.schedule, epoch - 1e-9, config.epochs)
        values: dict[str, Any] = {
            metric: value for (metric, at), value in curve.items() if at == epoch and _asked(trial, metric, at)
        }
        yield {"record": "epoch", **asdict(EpochRecord(name, epoch, lr, engine="surrogate", **values))}
    yield {"record": "outcome", **asdict(OutcomeRecord(name, "completed", "", config.epochs))}


def _asked(trial: PlannedTrial, metric: str, epoch: int) -> bool:
    """Whether the trial's config has the metric measured at an epoch."""
    evaluation = trial.config.evaluation
    due = epoch % evaluation.every == 0 or epoch == trial.config.epochs
    return due and metric.partition("_")[0] in evaluation.splits
