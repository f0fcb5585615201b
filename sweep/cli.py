"""The command `sweep`. Heavy imports stand inside the commands, so that --help answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType

    from sweep.config import SweepConfig

EXIT_USER_ERROR = 2

_FORMATS = ("table", "csv", "json", "parquet")

_config = click.argument("config", type=click.Path(path_type=Path))
_out = click.option("--out", type=click.Path(path_type=Path), help="Run directory [default: runs/NAME].")
_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides a key of the config.")
_directory = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


class _Cli(click.Group):
    """Says a user's mistake in one line on stderr and exits with 2; anything else is a bug and shows itself."""

    def invoke(self, context: click.Context) -> Any:
        from trainers.errors import UserError

        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"sweep: {error}", err=True)
            context.exit(EXIT_USER_ERROR)
        except BrokenPipeError:  # `sweep results DIR | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(0)
        except OSError as error:  # a full disk, a folder that may not be read: not a bug either
            if error.errno is None:
                raise
            click.echo(f"sweep: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", err=True)
            context.exit(EXIT_USER_ERROR)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="robustsweep")
def main() -> None:
    """Sweeps of adversarial training: launch them, go on with them, read what they say."""


@main.command()
@_config
@_out
@_set
def plan(config: Path, out: Path | None, overrides: tuple[str, ...]) -> None:
    """Show what a launch would run, and train nothing."""
    from sweep import plan as planning
    from sweep.journal import refuse_other_sweep
    from trainers.provenance import code_version

    sweep = _load(config, overrides)
    directory = _directory_of(sweep, out)
    refuse_other_sweep(directory, sweep)
    wanted = planning.plan(sweep, planning.earlier_records(directory), code_version())
    click.echo("\n".join(wanted.lines()))
    click.echo(f"  run directory: {directory}")


@main.command()
@_config
@_out
@_set
@click.option("--address", help="Ray cluster: auto or HOST:PORT [default: a local Ray].")
@click.option("--serial", is_flag=True, help="In this process, without Ray.")
def launch(config: Path, out: Path | None, overrides: tuple[str, ...], address: str | None, serial: bool) -> None:
    """Run the trials that are not finished yet."""
    from sweep import runner
    from sweep.signals import EXIT_INTERRUPTED
    from trainers.errors import UserError

    if serial and address is not None:
        raise UserError("--serial: runs without Ray, so that --address says nothing; leave one of the two out")
    sweep = _load(config, overrides)
    directory = _directory_of(sweep, out)
    console = _console()
    code = runner.launch(sweep, directory, console, command=_command_line(), address=address, serial=serial)
    if code != EXIT_INTERRUPTED:
        _print_summary(directory, console)
    sys.exit(code)


@main.command()
@_directory
def status(directory: Path) -> None:
    """Show how far a run is, also while it runs."""
    from sweep.journal import is_live
    from sweep.progress import Progress
    from sweep.screen import table
    from trainers.record import read

    progress = Progress.of(read(directory))
    live = is_live(directory)
    console = _console()
    console.print("running" if live else "no launch is running", highlight=False)
    console.print(table(progress, live))


@main.command()
@_directory
@click.option("--epochs", is_flag=True, help="A row an epoch instead of a row a trial.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: by the ending of --output, else table]")
@click.option("--output", type=click.Path(path_type=Path), help="File to write [default: stdout].")
def results(directory: Path, epochs: bool, form: str | None, output: Path | None) -> None:
    """Show the trials' numbers, or write them as a file."""
    from analysis import frame, tables, views

    rows = frame.load_epochs(directory) if epochs else frame.load_trials(directory)
    ending = output.suffix.removeprefix(".") if output is not None else ""
    form = form or (ending if ending in _FORMATS else "table")
    if form != "table":
        _write_frame(rows, form, output)
        return
    console = _console(output)
    if epochs:
        console.print(views.epochs_table(rows))
        return
    console.print(tables.trials_table(rows))
    console.print(_summary(directory))


@main.command()
@_directory
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write to [default: DIR/figures].")
def figures(directory: Path, output: Path | None) -> None:
    """Draw the run's figures, each with the numbers behind it."""
    from analysis import figures as drawing

    drawn = drawing.draw(directory, output or directory / "figures")
    for path in drawn.written:
        click.echo(path)
    for name, reason in drawn.skipped.items():
        click.echo(f"not drawn: {name}: {reason}", err=True)


@main.command()
@_directory
@click.argument("trial_id")
def show(directory: Path, trial_id: str) -> None:
    """Show one trial: config, provenance, curve. A beginning of its id is enough."""
    from analysis import views

    _console().print(views.trial_view(directory, trial_id))


@main.command()
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""
    import json

    from sweep.config import SweepConfig

    click.echo(json.dumps(SweepConfig.model_json_schema(), indent=2))


def _load(path: Path, overrides: tuple[str, ...]) -> SweepConfig:
    from sweep.config import load

    return load(path, overrides)


def _directory_of(sweep: SweepConfig, out: Path | None) -> Path:
    from trainers.errors import UserError

    directory = out if out is not None else Path("runs") / sweep.name
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--out {directory}: must be a folder, and is a file; give another")
    return directory


def _console(output: Path | None = None) -> Console:
    """A console bound to today's stdout, or to a file; wide where nobody sets its width."""
    from rich.console import Console

    file = sys.stdout if output is None else _opened(output).open("w", encoding="utf-8")
    return Console(file=file, width=None if file.isatty() else 200)


def _command_line() -> str:
    import shlex

    return shlex.join(["sweep", *sys.argv[1:]])


def _summary(directory: Path) -> RenderableType:
    """What the trials say, the best cells chosen by the sweep's own metric."""
    from analysis import frame, tables
    from sweep.progress import Progress
    from trainers.record import read

    return tables.summary(frame.load_trials(directory), **Progress.of(read(directory)).chosen_by)


def _print_summary(directory: Path, console: Console) -> None:
    console.print(_summary(directory))
    console.print(f"results: sweep results {directory}\nfigures: sweep figures {directory}", highlight=False)


def _write_frame(rows: pd.DataFrame, form: str, output: Path | None) -> None:
    from trainers.errors import UserError

    if form == "parquet":
        if output is None:
            raise UserError("--output: parquet is binary and is not written to a terminal; give a file")
        rows.to_parquet(_opened(output), index=False)
        return
    text = rows.to_csv(index=False) if form == "csv" else rows.to_json(orient="records", indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        _opened(output).write_text(text, encoding="utf-8")


def _opened(output: Path) -> Path:
    """The path, if it can be written.

    Raises:
        UserError: it cannot.
    """
    from trainers.errors import UserError

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.open("ab").close()
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written: {error.strerror}; give a path that can") from None
    return output
