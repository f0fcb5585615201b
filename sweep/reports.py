"""The commands that read: results, methods, ratio, claims, theory, figures, show. Heavy imports stand inside them."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType

    from analysis.claims.ledger import Claim
    from analysis.estimates.methods import MethodResult
    from analysis.estimates.slot_effects import SlotEffect
    from analysis.frames.log import Log

Command = TypeVar("Command", bound=Callable[..., Any])

_FORMATS = ("table", "csv", "json", "parquet")
_METHODS_FORMATS = ("table", "csv", "json", "markdown")
_TEXT_FORMATS = ("table", "json", "markdown")
#: The ending of --output that means a format, where it is not the format's name.
_ENDINGS = {"table": "txt", "markdown": "md"}

#: Endings that mean a file, and so no folder of figures.
_FILES = (".csv", ".html", ".json", ".md", ".parquet", ".pdf", ".png", ".svg", ".tex", ".txt", ".xlsx")


class Above(click.FloatRange):
    """A number over 0; NaN, which a range lets pass, is none."""

    def __init__(self, most: float | None = None) -> None:
        """Up to `most`, too; None: up to any."""
        super().__init__(min=0, min_open=True, max=most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or click's own refusal."""
        if math.isnan(number := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


#: What figures and claims may be about: of the test images.
_METRICS = ("last_test_robust", "last_test_clean", "best_test_robust", "best_test_clean")

_metric = click.option("--metric", type=click.Choice(_METRICS), default=_METRICS[0], help=f"[default: {_METRICS[0]}]")
_choosers = click.option(
    "--chosen-by-seed",
    "choosers",
    metavar="SEED",
    type=int,
    multiple=True,
    help="Seed that chooses each method's best cell; the others, compared there, can decide [default: all choose].",
)


def _refuse_starting(context: click.Context, parameter: click.Parameter, directory: Path | None) -> Path | None:
    """Refuses a run that a launch has just begun: it is a run, but there is nothing to read yet."""
    from trainers.errors import UserError
    from trainers.record import has_records

    if directory is None or not directory.is_dir() or has_records(directory):
        return directory
    from sweep.run.directory import is_starting  # which takes a second to load

    if is_starting(directory):
        raise UserError(f"{directory}: a launch is starting there and has no records yet; wait for its first trial")
    return directory


_path = click.Path(path_type=Path)
directory_argument = click.argument("directory", metavar="DIR", type=_path, callback=_refuse_starting)
_perhaps = click.argument("directory", metavar="[DIR]", type=_path, required=False, callback=_refuse_starting)
_output = click.option("--output", type=click.Path(path_type=Path), help="File to write [default: stdout].")


def _format_option(formats: Sequence[str]) -> Callable[[Command], Command]:
    default = "[default: by the ending of --output, else table]"
    return click.option("--format", "form", type=click.Choice(formats), help=default)


def _study(command: Any) -> Any:
    """A run's DIR, or --published."""
    return _perhaps(click.option("--published", is_flag=True, help="Of the published study, not of a run.")(command))


@click.command()
@directory_argument
@click.option("--epochs", is_flag=True, help="A row an epoch instead of a row a trial.")
@click.option("--evaluations", is_flag=True, help="A row an evaluation of `sweep evaluate`, not a row a trial.")
@click.option("--checks", is_flag=True, help="A row a check of `sweep evaluate --checks`, not a row a trial.")
@_format_option(_FORMATS)
@_output
def results(
    directory: Path, epochs: bool, evaluations: bool, checks: bool, form: str | None, output: Path | None
) -> None:
    """Show the trials' numbers, or write them as a file."""
    from analysis.frames import arithmetic, trials
    from analysis.frames.log import read_log
    from analysis.frames.overfitting import overfitting_line, with_overfitting
    from analysis.tables.settings import with_settings
    from trainers.errors import UserError

    chosen = {"--epochs": epochs, "--evaluations": evaluations, "--checks": checks}
    if len(asked := [option for option, wanted in chosen.items() if wanted]) > 1:
        raise UserError(f"{asked[0]}: and {asked[1]} are two tables; leave one of the two out")
    form, log = _format(form, output, _FORMATS), read_log(directory)
    if checks:
        _print_checks(directory, log, form, output)
        return
    frame = _evaluations(log) if evaluations else trials.epochs_of(log) if epochs else trials.trials_of(log)
    rows = with_settings(frame, log)
    if not (evaluations or epochs):
        rows = with_overfitting(rows, log)
    if form != "table":
        _write_frame(rows, form, output)
        return
    from analysis.tables import trials as tables  # and with it the estimates, for which a file need not wait
    from analysis.tables.evaluations import evaluations_table
    from sweep.run.screen import print_whole, say

    screen = console(output)
    if epochs:
        print_whole(screen, tables.epochs_table(rows))
        return
    if evaluations:
        if rows.empty:
            say(screen, f"no evaluations yet; sweep evaluate {directory} makes them")
        else:
            print_whole(screen, evaluations_table(rows))
        return
    print_whole(screen, tables.trials_table(rows))
    for line in filter(None, (arithmetic.warning(rows), overfitting_line(rows))):
        say(screen, line)
    print_whole(screen, summary(log))


def _evaluations(log: Log) -> pd.DataFrame:
    from analysis.estimates.images import with_curve
    from analysis.frames.evaluations import evaluations_of
    from analysis.frames.images import images_of

    return with_curve(evaluations_of(log), images_of(log))


def _print_checks(directory: Path, log: Log, form: str, output: Path | None) -> None:
    """The checks of trained networks, each with its verdict."""
    from analysis.frames.checks import checks_of
    from analysis.tables.settings import with_settings
    from sweep.run.screen import print_whole, say

    frame = checks_of(log)
    if form != "table":
        from analysis.estimates.masking import judged

        _write_frame(judged(with_settings(frame, log)), form, output)
    elif frame.empty:
        say(console(output), f"no checks yet; sweep evaluate {directory} --checks makes them")
    else:
        from analysis.tables.checks import checks_view

        print_whole(console(output), checks_view(frame))


@click.command()
@_perhaps
@click.option("--published", is_flag=True, help="The published study: beside the run, or without DIR alone.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write to [default: DIR/figures].")
@click.option("--check", is_flag=True, help="Write nothing; say which would not come out the same again.")
@_metric
def figures(directory: Path | None, published: bool, output: Path | None, check: bool, metric: str) -> None:
    """Draw figures and tables, the paper's among them, each with the numbers behind it."""
    from analysis import figures as drawing
    from analysis.frames.cells import trials_left_out
    from analysis.manifest import SAME
    from analysis.plots.plan import BY_VAL_ROBUST, ChosenBy

    output = _figures_folder(directory, published, output, check)
    chosen_by = BY_VAL_ROBUST if directory is None else ChosenBy(**chosen_by_of(directory))
    if check:
        answers = drawing.check(directory, output, chosen_by)
        for name, answer in answers.items():
            click.echo(f"{name}: {answer}")
        sys.exit(int(any(answer != SAME for answer in answers.values())))
    drawn = drawing.draw(directory, output, metric, chosen_by, published=published)
    kinds = Counter(path.suffix.removeprefix(".") for path in drawn.written)
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if kind != "json")
    click.echo(f"{output}: {counts}; manifest.json there lists them, and says what they came from")
    for name, reason in drawn.skipped.items():
        click.echo(f"not drawn: {name}: {reason}", err=True)
    if drawn.left_out:
        click.echo(f"not pooled with the others: {trials_left_out(drawn.left_out)}", err=True)


@click.command()
@directory_argument
@click.option("--baseline", metavar="NAME", help="Method that the others are compared with [default: PGD-AT].")
@click.option("--by", metavar="KEY", multiple=True, help="Axis that tells methods apart too; no slot effects then.")
@_choosers
@_format_option(_METHODS_FORMATS)
@_output
def methods(
    directory: Path,
    baseline: str | None,
    by: tuple[str, ...],
    choosers: tuple[int, ...],
    form: str | None,
    output: Path | None,
) -> None:
    """Compare the methods, each at its own best learning rate by validation."""
    from analysis.claims import study as claim_study
    from analysis.claims.ledger import ledger
    from analysis.estimates.evaluated import evaluated
    from analysis.estimates.methods import comparison, told_apart
    from analysis.estimates.slot_effects import slot_effects
    from analysis.frames.log import read_log
    from analysis.tables import methods as method_tables
    from analysis.tables.evaluations import attack_text
    from analysis.tables.settings import preset_of_each
    from sweep.run.screen import print_whole, say

    form, log = _format(form, output, _METHODS_FORMATS), read_log(directory)
    study, chosen_by = claim_study.chosen_by(claim_study.study_of(log), choosers), _chosen_by(log)
    claims = ledger(study, **chosen_by)
    asked = {"choosers": study.chose, **chosen_by}
    results = method_tables.as_judged(comparison(study.trials, baseline, by=by, **asked), claims)
    alone = by or len(results) < 3
    effects = [] if alone else method_tables.effects_as_judged(slot_effects(study.trials, **asked), claims)
    presets = preset_of_each(told_apart(study.trials, by), log)
    texts: list[tuple[Sequence[MethodResult], Sequence[SlotEffect], Sequence[Claim], str]]
    texts = [(results, effects, claims, "")]
    if (stronger := evaluated(study.trials, log, by=by, **asked)) is not None:
        again = [] if alone else slot_effects(stronger.trials, **asked)
        compared = comparison(stronger.trials, baseline, by=by, **asked)
        texts.append((compared, again, (), attack_text(stronger.attack) + method_tables.stopped_text(claims)))
    if form == "table":
        screen = console(output)
        for rows, slots, judged, under in texts:
            print_whole(screen, method_tables.methods_view(rows, slots, judged, presets, under))
        if len(texts) < 2 and any(record["record"] == "evaluation" for record in log):
            say(screen, _under_another_attack(directory, study.trials))
        return
    texts = texts if form == "markdown" else texts[:1]
    parts = (
        method_tables.methods_text(rows, slots, form, judged, presets, under) for rows, slots, judged, under in texts
    )
    _write_text("\n".join(parts), output)


def _under_another_attack(directory: Path, trials: pd.DataFrame) -> str:
    """How methods come to be compared under an attack of `sweep evaluate`, in words."""
    from analysis.frames.recipes import judged_averaged

    each = f"under another attack: sweep evaluate {directory} --best-each, with one --attack for all of them"
    own = "; then the trials whose averaged weights are compared, by their ids, with --averaged"
    return f"{each}{'' if judged_averaged(trials) is None else own}"


@click.command()
@_study
@_metric
@_format_option(_TEXT_FORMATS)
@_output
def ratio(directory: Path | None, published: bool, metric: str, form: str | None, output: Path | None) -> None:
    """Say whether lr / batch size is all that counts: the claims, then models, surfaces, shares of the variance."""
    from analysis.claims import study as claim_study
    from analysis.tables import ratio as ratio_tables
    from sweep.run.screen import print_whole

    _refuse_both_studies("ratio", directory, published, metric)
    form = _format(form, output, _TEXT_FORMATS)
    study = claim_study.published() if directory is None else claim_study.load_study(directory)
    answers = ratio_tables.ratio_answers(study, metric, **({} if directory is None else chosen_by_of(directory)))
    if form == "table":
        print_whole(console(output), ratio_tables.ratio_models_view(answers))
    else:
        _write_text(ratio_tables.ratio_text(answers, form), output)


@click.command()
@_study
@click.option("--json", "as_json", is_flag=True, help="Every field, accuracies as fractions.")
@click.option("--margin", type=Above(), default=1.0, help="Points that pass for none.")
@click.option("--time-margin", type=Above(), default=5.0, help="% of extra time.")
@_choosers
@_metric
def claims(
    directory: Path | None,
    published: bool,
    as_json: bool,
    margin: float,
    time_margin: float,
    choosers: tuple[int, ...],
    metric: str,
) -> None:
    """Say which of the study's claims hold: effect, interval and verdict of each."""
    from analysis.claims import study as claim_study
    from analysis.claims.ledger import ledger
    from analysis.tables import claims as claim_tables

    _refuse_both_studies("claims", directory, published, metric)
    loaded = claim_study.published() if directory is None else claim_study.load_study(directory)
    loaded = claim_study.chosen_by(loaded, choosers)
    chosen_by = {} if directory is None else chosen_by_of(directory)
    lines = ledger(loaded, margin=margin / 100, time_margin=time_margin / 100, y=metric, **chosen_by)
    width = min(claim_tables.WIDTH, console().width)
    click.echo(claim_tables.claims_json(lines) if as_json else claim_tables.claims_text(lines, width), nl=False)


@click.command()
@click.argument("study", metavar="RUN|CONFIG", type=_path, callback=_refuse_starting)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides a key of the CONFIG.")
@_format_option(_TEXT_FORMATS)
@_output
def theory(study: Path, overrides: tuple[str, ...], form: str | None, output: Path | None) -> None:
    """Say what theory predicts for a sweep's methods, beside what its run measured.

    RUN is the directory of a launch; what was measured is there where its trials had dynamics.every. CONFIG is a
    sweep's file, of which nothing need have run; of an axis that is drawn, each choice and the ends of its range count.
    """
    from analysis.estimates.theory_check import theory_check
    from analysis.tables.theory import theory_text, theory_view
    from sweep.run.screen import print_whole
    from trainers.errors import UserError

    if not study.exists():
        raise UserError(f"{study}: neither a run nor a config; give a launch's --out, or a YAML file")
    form = _format(form, output, _TEXT_FORMATS)
    check = theory_check(_run_records(study, overrides) if study.is_dir() else _corner_records(study, overrides))
    if form == "table":
        print_whole(console(output), theory_view(check))
    else:
        _write_text(theory_text(check, form), output)


@click.command()
@directory_argument
@click.argument("trial_id")
def show(directory: Path, trial_id: str) -> None:
    """Show one trial: config, provenance, curve. A beginning of its id is enough."""
    from analysis.tables import trials as views
    from sweep.run.screen import print_whole

    print_whole(console(), views.trial_view(directory, trial_id))


@click.command()
@directory_argument
@click.argument("trial_ids", metavar="[TRIAL_ID]...", nargs=-1)
@click.option("--by-class", is_flag=True, help="A row an evaluation and class.")
@click.option("--agreement", is_flag=True, help="A row a pair of PGD and AutoAttack on one network.")
@click.option("--bits", is_flag=True, help="A row an evaluation with each image's result, for a file.")
@_format_option(_FORMATS)
@_output
def images(directory: Path, trial_ids: tuple[str, ...], form: str | None, output: Path | None, **views: bool) -> None:
    """Show what the images say one by one: worst classes, and where PGD and AutoAttack agree.

    Of every evaluation of `sweep evaluate`, and of the end of training, each image's result is recorded. TRIAL_ID is a
    beginning of a trial's id; none: all.
    """
    from analysis.frames.evaluations import evaluations_of
    from analysis.frames.images import classes_of, images_of
    from analysis.frames.log import read_log
    from analysis.tables import images as tables
    from analysis.tables.settings import with_settings
    from sweep.run.screen import print_whole, say

    view, log = _view(views), read_log(directory)
    form = _format(form, output, _FORMATS)
    frame, evaluations, classes = images_of(log), evaluations_of(log), classes_of(log)
    if trial_ids:
        frame, evaluations = (_of_trials(directory, rows, trial_ids) for rows in (frame, evaluations))
    if form != "table":
        rows = tables.rows_of(view, frame, classes, text=form != "parquet")
        _write_frame(with_settings(rows, log), form, output)
        return
    screen = console(output)
    for table in tables.tables_of(view, frame, classes):
        print_whole(screen, table)
    for line in tables.notes(view, directory, evaluations, frame, classes):
        say(screen, line)


def _view(views: Mapping[str, bool]) -> str:
    """The one table that is asked for; without any, `worst`."""
    from trainers.errors import UserError

    asked = [name for name, wanted in views.items() if wanted]
    if len(asked) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in asked[:2])
        raise UserError(f"{first}: and {second} are two tables; leave one of the two out")
    return asked[0] if asked else "worst"


def _of_trials(directory: Path, rows: pd.DataFrame, beginnings: Sequence[str]) -> pd.DataFrame:
    from trainers.record import only_trial

    names = rows["trial_id"].tolist()
    return rows[rows["trial_id"].isin({only_trial(directory, names, beginning) for beginning in beginnings})]


#: In the order in which --help lists them.
COMMANDS = (results, images, methods, ratio, claims, theory, figures, show)


def _run_records(directory: Path, overrides: tuple[str, ...]) -> Sequence[Mapping[str, Any]]:
    from analysis.frames.log import read_records
    from trainers.errors import UserError

    if overrides:
        raise UserError(
            f"--set {overrides[0]}: changes a config, and {directory} is a run; leave it out, or give a config"
        )
    records = read_records(directory)
    if not any(record["record"] == "trial" for record in records):
        raise UserError(f"{directory}: has no trial yet, of which theory could say anything; give the sweep's config")
    return records


def _corner_records(path: Path, overrides: tuple[str, ...]) -> list[dict[str, Any]]:
    """The `trial` records of a config's corners, of one seed, with numbers for ids: no data are looked at."""
    from sweep.axes import nested
    from sweep.config_file import load
    from sweep.search.points import corners
    from trainers.config import TrialConfig
    from trainers.errors import validated
    from trainers.identity import identity

    config = load(path, overrides)
    points = corners(config.space, config.given)
    trials = (validated(TrialConfig, nested(config.given, point), f"the point {point}: ") for point in points)
    return [
        {"record": "trial", "trial_id": str(n), "number": n, "config": identity(trial), "point": point, "seed": 0}
        for n, (point, trial) in enumerate(zip(points, trials, strict=True))
    ]


def _refuse_both_studies(command: str, directory: Path | None, published: bool, metric: str) -> None:
    from analysis.frames.published import refuse_other
    from trainers.errors import UserError

    if (directory is None) == (not published):
        raise UserError(f"{command}: give either a run's DIR or --published, and not both")
    if published:
        refuse_other(metric)


def _figures_folder(directory: Path | None, published: bool, output: Path | None, check: bool) -> Path:
    """Where the figures are, or are to be.

    Raises:
        UserError: nothing says of what they are, or where.
    """
    from trainers.errors import UserError

    if directory is None and not (published or check):
        raise UserError("figures: needs a run's DIR, or --published for the published study; give one or both")
    if output is None and directory is None:
        raise UserError("--output: needs a folder where there is no DIR; give one")
    if output is not None and output.suffix.lower() in _FILES and not output.is_dir():
        raise UserError(f"--output {output}: must be a folder, for many files; got the name of a {output.suffix} file")
    return output or Path(str(directory)) / "figures"


def console(output: Path | None = None) -> Console:
    """A console bound to today's stdout, or to a file; wide where nobody sets its width."""
    from rich.console import Console

    file = sys.stdout if output is None else opened(output).open("w", encoding="utf-8")
    return Console(file=file, width=None if file.isatty() else 200)


def summary(log: Log) -> RenderableType:
    """What the trials say, the best cells chosen by the sweep's own metric."""
    from analysis.claims.study import study_of
    from analysis.tables import trials as tables

    return tables.summary(study_of(log), **_chosen_by(log))


def chosen_by_of(directory: Path) -> Mapping[str, Any]:
    """metric and mode of the run's last launch."""
    from analysis.frames.log import read_log

    return _chosen_by(read_log(directory))


def _chosen_by(log: Log) -> Mapping[str, Any]:
    from sweep.progress import Progress

    return Progress.of(record for record in log if record["record"] == "launch").chosen_by


def _write_frame(rows: pd.DataFrame, form: str, output: Path | None) -> None:
    from analysis.tables.export import csv_text, json_text, write_parquet
    from trainers.errors import UserError

    if form == "parquet":
        if output is None:
            raise UserError("--output: parquet is binary and is not written to a terminal; give a file")
        write_parquet(rows, opened(output))
        return
    _write_text(csv_text(rows) if form == "csv" else json_text(rows), output)


def _format(form: str | None, output: Path | None, formats: Sequence[str]) -> str:
    """The format that is asked for: by name, else by the ending of the file, else the table.

    Raises:
        UserError: the ending means none of the formats, or another one than the name.
    """
    from trainers.errors import UserError

    ending = "" if output is None else output.suffix.removeprefix(".").lower()
    meant = {_ENDINGS.get(name, name): name for name in formats}
    if form is None and ending and ending not in meant:
        known = ", ".join(f".{name}" for name in meant)
        raise UserError(f"--output {output}: must end in one of {known}, got .{ending}; or name the --format")
    if form is not None and meant.get(ending, form) != form:
        raise UserError(f"--output {output}: ends in .{ending} and --format is {form}; leave one of the two out")
    return form or meant.get(ending, "table")


def _write_text(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
    else:
        opened(output).write_text(text, encoding="utf-8")


def opened(output: Path) -> Path:
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
