"""The command `sweep report`. Heavy imports stand inside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from sweep.group import examples
from sweep.reports.options import PATH, RUN, metric_option, port_option, to_be_read
from sweep.reports.output import metric_of_run, opened
from sweep.streams import echo


@click.command(
    epilog=examples(
        "sweep report runs/demo                            # into report.html there",
        "sweep report runs/demo --published                # the published study too",
        "sweep report --published --output published.html  # that study alone",
        "sweep report runs/demo --serve                    # follows it, until Ctrl-C",
    )
)
@click.argument("directory", metavar="[DIR]", type=RUN, required=False)
@click.option("--published", is_flag=True, help="The published study: beside the run, or without DIR alone.")
@click.option("--output", type=PATH, help="File to write [default: DIR/report.html].")
@click.option("--serve", "served", is_flag=True, help="Show the page on this machine while the sweep runs; no file.")
@port_option
@metric_option
def report(directory: Path | None, published: bool, output: Path | None, served: bool, port: int, metric: str) -> None:
    """Write one HTML page of a run, to look at and to send: answers, figures, every trial.

    The page holds all that it shows: it opens from the disk, without network.
    """
    if served:
        _serve(directory, published, output, metric, port)
        return
    from trainers.files import whole

    to_be_read(directory)
    output = _file(directory, published, output)
    written = page_of(directory, published, metric)()
    opened(output)
    with whole(output) as part:
        part.write_text(written, encoding="utf-8")
    echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser, or send it: it needs nothing else")


def _serve(directory: Path | None, published: bool, output: Path | None, metric: str, port: int) -> None:
    """Shows the page of a run until Ctrl-C; waits for a launch that has written nothing yet.

    Raises:
        UserError: there is no run to follow, or a file is to be written.
    """
    from sweep.reports.follow import await_records, stamp_of
    from sweep.reports.serve import serve
    from trainers.errors import UserError

    if directory is None:
        raise UserError("--serve: follows a run, and there is none; give its DIR")
    if output is not None:
        raise UserError("--serve: writes no file, so that --output says nothing; leave one of the two out")
    page = page_of(directory, published, metric, live=True)
    serve(page, lambda: stamp_of(directory), port, lambda: await_records(directory))


def page_of(directory: Path | None, published: bool, metric: str, *, live: bool = False) -> Callable[[], str]:
    """What makes the page anew each time it is called.

    Args:
        directory: of the run; None: the published study alone.
        published: show the published study, too.
        metric: what figures and claims are about.
        live: whether the page asks for a newer one while it is open.
    """
    from analysis.plots.plan import BY_VAL_ROBUST, ChosenBy
    from analysis.report.page import page
    from sweep.search.optuna_importance import optuna_importance

    def make() -> str:
        chosen_by = BY_VAL_ROBUST if directory is None else ChosenBy(**metric_of_run(directory))
        return page(
            directory,
            metric=metric,
            chosen_by=chosen_by,
            published=published,
            evaluator=optuna_importance,
            question="" if directory is None else _question(directory),
            live=live,
        )

    return make


def _question(directory: Path) -> str:
    """That of the run's config; empty where there is none, or its file cannot be read."""
    import yaml

    from sweep.run.directory import CONFIG_FILE
    from sweep.yaml_text import LONGEST, parsed
    from trainers.plain_file import bounded

    try:
        return str(parsed(bounded(directory / CONFIG_FILE, LONGEST).decode()).get("question") or "")
    except (OSError, yaml.YAMLError, ValueError, AttributeError):
        return ""


def _file(directory: Path | None, published: bool, output: Path | None) -> Path:
    """Where the page is written.

    Raises:
        UserError: nothing says of what it is, or where.
    """
    from trainers.errors import UserError

    if directory is None and not published:
        raise UserError("report: needs a run's DIR, or --published for the published study; give one or both")
    if output is None and directory is None:
        raise UserError("--output: needs a file where there is no DIR; give one")
    if output is not None and output.is_dir():
        raise UserError(f"--output {output}: must be a file, and is a folder; give {output / 'report.html'}")
    return output or Path(str(directory)) / "report.html"
