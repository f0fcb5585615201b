"""The command `dashboard`: optuna-dashboard on studies made of a run's records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.options import RUN, port_option

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@click.command(
    epilog=examples(
        "sweep dashboard runs/demo              # prints an address; Ctrl-C ends it",
        "sweep dashboard runs/demo --port 8080  # always on this port",
    )
)
@click.argument("directory", metavar="DIR", type=RUN)
@port_option
def dashboard(directory: Path, port: int) -> None:
    """Open Optuna's dashboard on a run: history, importance, slices, every trial.

    It needs pip install "robustsweep[dashboard]". What is changed in it is not kept: the run stays as it is.
    """
    from analysis.frames.replayed import refuse_replay
    from sweep.reports.follow import Followed, await_records, stamp_of
    from sweep.reports.serve import served

    def app_of(followed: Followed[WSGIApplication]) -> WSGIApplication:
        return lambda environ, start_response: followed.version.made(environ, start_response)

    refuse_replay(directory)  # not first when a browser asks
    served(
        app_of,
        dashboard_of(directory),
        lambda: stamp_of(directory),
        port,
        landing="/dashboard",
        ready=lambda: await_records(directory),
    )


def dashboard_of(directory: Path) -> Callable[[], WSGIApplication]:
    """What makes the dashboard of a run, as its records are when it is called.

    Raises:
        UserError: optuna-dashboard is not installed.
    """
    from trainers.errors import UserError

    try:
        import optuna_dashboard
    except ImportError:
        raise UserError(
            'dashboard: needs optuna-dashboard, which is not installed; pip install "robustsweep[dashboard]"'
        ) from None
    import optuna

    from analysis.frames.log import read_log
    from sweep.reports.optuna_storage import storage_of
    from sweep.run.directory import is_live, sweep_name

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def make() -> Any:
        name = sweep_name(directory) or directory.absolute().name
        return optuna_dashboard.wsgi(storage_of(read_log(directory), name, is_live(directory)))

    return make
