"""Weights & Biases: a run for each trial, in the group of the sweep; online, or as files for `wandb sync`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweep.trackers.updates import Update, metrics
from sweep.watchers import TrackerConfig

#: Of which outcomes a run counts as crashed.
_FAILED = ("failed", "out_of_memory")


class Wandb:
    """Runs of one project; those of trials that train are open."""

    def __init__(self, config: TrackerConfig, folder: Path, project: str) -> None:
        """Opens none yet."""
        self._config, self._folder, self._project = config, folder, project
        self._open: dict[str, Any] = {}

    def send(self, update: Update) -> str:
        """Logs what is new in the trial's run, and ends that with the trial; gives its id.

        A step that a run has already is dropped by Weights & Biases.
        """
        run = self._open.get(update.own)
        if run is None:
            run = self._open[update.own] = self._opened(update)
        run.config.update({**update.params, **update.tags}, allow_val_change=True)
        for epoch in update.epochs:
            run.log({**metrics(epoch), "_timestamp": epoch.get("time", 0.0)}, step=epoch["epoch"])
        if update.outcome:
            run.summary["outcome"] = update.outcome
            del self._open[update.own]
            run.finish(exit_code=int(update.outcome in _FAILED))
        return str(run.id)

    def _opened(self, update: Update) -> Any:
        import wandb

        settings = wandb.Settings(
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_save_requirements=False,
            silent=True,
        )
        return wandb.init(
            entity=self._config.entity,
            project=self._project,
            group=update.sweep,
            name=update.trial,
            id=update.run or update.own,
            resume="allow",
            reinit="create_new",
            mode=self._config.mode,
            dir=str(self._folder.parent),
            settings=settings,
        )

    def close(self) -> None:
        """Ends the runs that are open; whoever goes on with one opens it again by its id."""
        for run in self._open.values():
            run.finish()


def opened(config: TrackerConfig, folder: Path, name: str) -> Wandb:
    """The tracker of a config.

    Args:
        config: of it.
        folder: of its own, in the run's directory.
        name: of the project.
    """
    import wandb  # noqa: F401  # lest it is missed once the sweep runs

    return Wandb(config, folder, name)
