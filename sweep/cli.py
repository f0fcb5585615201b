"""The command `sweep`. Heavy imports stand inside the commands, so that --help answers at once."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType

    from sweep.config import SweepConfig
    from trainers.ladder import Strength

EXIT_USER_ERROR = 2

_FORMATS = ("table", "csv", "json", "parquet")
_METHODS_FORMATS = ("table", "csv", "json", "markdown")

#: The ladder of trainers.ladder, the weakest first, and the part of it that takes no time.
_ATTACKS = ("clean", "fgsm", "pgd", "cw", "apgd", "autoattack")
_QUICK = ("clean", "fgsm", "pgd")

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

    _refuse_both(serial, address)
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
@click.argument("trial_ids", metavar="[TRIAL_ID]...", nargs=-1)
@click.option("--best", is_flag=True, help="The trials of the best cell by validation: its seeds.")
@click.option("--best-each", is_flag=True, help="The same of each model and method.")
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=click.Choice(_ATTACKS),
    help="May be repeated [default: clean, fgsm, pgd].",
)
@click.option("--images", type=click.IntRange(min=1), help="At most so many, classes in proportion [default: all].")
@click.option("--weights", type=click.Choice(("last", "best")), default="last", help="[default: last]")
@click.option("--averaged", is_flag=True, help="The averaged weights, not the raw ones.")
@click.option("--split", type=click.Choice(("test", "val")), default="test", help="[default: test]")
@click.option("--radius", metavar="R", help="Of the ball, pixel units, such as 8/255 [default: the trial's].")
@click.option("--steps", type=click.IntRange(min=1), help="Of pgd and cw [default: 20].")
@click.option(
    "--step-size", metavar="S", help="Of pgd and cw, pixel units [default: the trial's, scaled as the radius]."
)
@click.option("--restarts", type=click.IntRange(min=1), help="Of pgd and cw [default: 1].")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides the run's resources or trial.data.root."
)
@click.option("--address", help="Ray cluster: auto or HOST:PORT [default: a local Ray].")
@click.option("--serial", is_flag=True, help="In this process, without Ray.")
def evaluate(
    directory: Path,
    attacks: tuple[Any, ...],
    overrides: tuple[str, ...],
    address: str | None,
    serial: bool,
    **options: Any,
) -> None:
    """Attack trained networks with the ladder clean, fgsm, pgd, cw, apgd, autoattack.

    The networks are those of the trials named, a beginning of an id being enough, or of all completed ones. What is
    recorded already is not run again.
    """
    _refuse_both(serial, address)
    attacks = tuple(name for name in _ATTACKS if name in (attacks or _QUICK))
    given = {name: options.pop(name) for name in ("radius", "steps", "step_size", "restarts")}
    strength = _strength(attacks, {name: value for name, value in given.items() if value is not None})
    options["best"] = _chosen(options.pop("best"), options.pop("best_each"), options["trial_ids"])
    from sweep.evaluation import evaluate as run
    from sweep.evaluation_plan import Asked

    asked = Asked(attacks, strength=strength, **options)
    sys.exit(run(directory, asked, _console(), overrides=overrides, address=address, serial=serial))


@main.command()
@_directory
@click.option("--epochs", is_flag=True, help="A row an epoch instead of a row a trial.")
@click.option("--evaluations", is_flag=True, help="A row an evaluation of `sweep evaluate`, not a row a trial.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: by the ending of --output, else table]")
@click.option("--output", type=click.Path(path_type=Path), help="File to write [default: stdout].")
def results(directory: Path, epochs: bool, evaluations: bool, form: str | None, output: Path | None) -> None:
    """Show the trials' numbers, or write them as a file."""
    from analysis import frame, tables, views
    from analysis.evaluations import evaluations_table, load_evaluations
    from sweep.screen import print_whole
    from trainers.errors import UserError

    if epochs and evaluations:
        raise UserError("--epochs: and --evaluations are two tables; leave one of the two out")
    load = load_evaluations if evaluations else frame.load_epochs if epochs else frame.load_trials
    rows = load(directory)
    ending = output.suffix.removeprefix(".") if output is not None else ""
    form = form or (ending if ending in _FORMATS else "table")
    if form != "table":
        _write_frame(rows, form, output)
        return
    console = _console(output)
    if epochs:
        print_whole(console, views.epochs_table(rows))
        return
    if evaluations:
        print_whole(console, evaluations_table(rows))
        return
    print_whole(console, tables.trials_table(rows))
    print_whole(console, _summary(directory))


@main.command()
@_directory
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write to [default: DIR/figures].")
def figures(directory: Path, output: Path | None) -> None:
    """Draw the run's figures, each with the numbers behind it."""
    from analysis import figures as drawing
    from analysis.plotted import ChosenBy

    drawn = drawing.draw(directory, output or directory / "figures", chosen_by=ChosenBy(**_chosen_by(directory)))
    for path in drawn.written:
        click.echo(path)
    for name, reason in drawn.skipped.items():
        click.echo(f"not drawn: {name}: {reason}", err=True)


@main.command()
@_directory
@click.option("--baseline", metavar="NAME", help="Method that the others are compared with [default: PGD-AT].")
@click.option("--by", metavar="KEY", multiple=True, help="Axis that tells methods apart too; no slot effects then.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_METHODS_FORMATS),
    help="[default: by the ending of --output, else table]",
)
@click.option("--output", type=click.Path(path_type=Path), help="File to write [default: stdout].")
def methods(directory: Path, baseline: str | None, by: tuple[str, ...], form: str | None, output: Path | None) -> None:
    """Compare the methods, each at its own best learning rate by validation."""
    from analysis import frame, method_tables
    from analysis.methods import comparison, slot_effects
    from sweep.screen import print_whole

    trials, chosen_by = frame.load_trials(directory), _chosen_by(directory)
    results = comparison(trials, baseline, by=by, **chosen_by)
    effects = () if by else slot_effects(trials, **chosen_by)
    ending = "" if output is None else output.suffix.removeprefix(".").replace("md", "markdown")
    form = form or (ending if ending in _METHODS_FORMATS else "table")
    if form == "table":
        print_whole(_console(output), method_tables.methods_view(results, effects))
    else:
        _write_text(method_tables.methods_text(results, effects, form), output)


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


def _refuse_both(serial: bool, address: str | None) -> None:
    from trainers.errors import UserError

    if serial and address is not None:
        raise UserError("--serial: runs without Ray, so that --address says nothing; leave one of the two out")


def _strength(attacks: tuple[Any, ...], given: Mapping[str, Any]) -> Strength:
    """What the options say of the attacks, numbers read as in a config.

    Raises:
        UserError: a number is none, or no attack reads it.
    """
    from trainers.errors import UserError
    from trainers.fields import parse_number
    from trainers.ladder import Strength, reads

    values = dict(given)
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if not any(name in reads(attack) for attack in attacks):
            raise UserError(f"{option}: none of the attacks reads it, {', '.join(attacks)}; leave it out")
        if isinstance(value, str):
            try:
                values[name] = parse_number(value)
            except ValueError as error:
                raise UserError(f"{option}: {error}") from None
            if not 0 < values[name] < math.inf:
                raise UserError(f"{option}: must be a finite number > 0, got {value!r}")
    return Strength(**values)


def _chosen(best: bool, best_each: bool, trial_ids: tuple[str, ...]) -> str | None:
    """Which trials validation chooses: `sweep.evaluation_plan.Asked.best`."""
    from trainers.errors import UserError

    if best and best_each:
        raise UserError("--best: and --best-each are two choices of trials; leave one of the two out")
    if (best or best_each) and trial_ids:
        option = "--best" if best else "--best-each"
        raise UserError(f"{option}: chooses the trials, so that TRIAL_ID says nothing; leave one of the two out")
    return "overall" if best else "each" if best_each else None


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

    return tables.summary(frame.load_trials(directory), **_chosen_by(directory))


def _chosen_by(directory: Path) -> Mapping[str, Any]:
    """metric and mode of the run's last launch."""
    from sweep.progress import Progress
    from trainers.record import read

    return Progress.of(read(directory)).chosen_by


def _print_summary(directory: Path, console: Console) -> None:
    from sweep.screen import print_whole

    print_whole(console, _summary(directory))
    console.print(f"results: sweep results {directory}\nfigures: sweep figures {directory}", highlight=False)


def _write_frame(rows: pd.DataFrame, form: str, output: Path | None) -> None:
    from trainers.errors import UserError

    if form == "parquet":
        if output is None:
            raise UserError("--output: parquet is binary and is not written to a terminal; give a file")
        rows.to_parquet(_opened(output), index=False)
        return
    text = rows.to_csv(index=False) if form == "csv" else rows.to_json(orient="records", indent=2) + "\n"
    _write_text(text, output)


def _write_text(text: str, output: Path | None) -> None:
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
