"""The commands that answer: methods, ratio, claims, theory, figures. Heavy imports stand inside them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sweep.group import examples
from sweep.reports.options import (
    PATH,
    RUN,
    TEXT_FORMATS,
    Above,
    choosers_option,
    directory_argument,
    format_option,
    metric_option,
    optional_directory,
    output_option,
    refuse_starting,
)
from sweep.reports.output import chosen_format, console, metric_of, metric_of_run, write_text
from sweep.reports.page import names_of, page_options
from sweep.streams import echo, tell

if TYPE_CHECKING:
    import pandas as pd

    from analysis.claims.ledger import Claim
    from analysis.claims.study import Study
    from analysis.estimates.methods import MethodResult
    from analysis.estimates.slot_effects import SlotEffect
    from analysis.frames.log import Log

_METHODS_FORMATS = ("table", "csv", "json", "markdown")

#: Endings that mean a file, and so no folder of figures.
_FILES = (".csv", ".html", ".json", ".md", ".parquet", ".pdf", ".png", ".svg", ".tex", ".txt", ".xlsx")


@click.command(
    epilog=examples(
        "sweep methods runs/methods",
        "sweep methods runs/methods --baseline TRADES --by model.name",
        "sweep methods runs/methods --output methods.md",
    )
)
@directory_argument
@click.option("--baseline", metavar="NAME", help="Method that the others are compared with [default: PGD-AT].")
@click.option(
    "--by",
    metavar="KEY",
    multiple=True,
    help="Hyperparameter whose values count as methods of their own; effects of slots are then not shown. May be given "
    "several times.",
)
@choosers_option
@format_option(_METHODS_FORMATS)
@output_option
def methods(
    directory: Path,
    baseline: str | None,
    by: tuple[str, ...],
    choosers: tuple[int, ...],
    form: str | None,
    output: Path | None,
) -> None:
    """Compare the methods, each at its own best configuration, which validation chose."""
    from analysis.claims import registration
    from analysis.claims import study as claim_study
    from analysis.estimates.methods import told_apart
    from analysis.frames.log import read_log
    from analysis.tables import methods as tables
    from analysis.tables.settings import preset_of_each
    from sweep.run.screen import print_whole, say

    form, log = chosen_format(form, output, _METHODS_FORMATS), read_log(directory)
    study = claim_study.chosen_by(claim_study.study_of(log, registration.read(directory)), choosers)
    presets = preset_of_each(told_apart(study.trials, by), log)
    comparisons = _comparisons(study, log, baseline, by)
    if form == "table":
        screen = console(output)
        for one in comparisons:
            print_whole(screen, tables.methods_view(one.results, one.effects, one.claims, presets, one.attack))
        if len(comparisons) < 2 and any(record["record"] == "evaluation" for record in log):
            say(screen, _under_another_attack(directory, study.trials))
        return
    shown = comparisons if form == "markdown" else comparisons[:1]
    again = [tables.evaluated_frames(one.results, one.effects, one.attack, presets) for one in comparisons[1:]]
    evaluated = again[0] if again else tables.NOTHING
    parts = (
        tables.methods_text(one.results, one.effects, form, one.claims, presets, one.attack, evaluated) for one in shown
    )
    write_text("\n".join(parts), output, exact=form == "csv")


def _under_another_attack(directory: Path, trials: pd.DataFrame) -> str:
    """How methods come to be compared under an attack of `sweep evaluate`, in words."""
    from analysis.frames.recipes import judged_averaged
    from sweep.storage.cache import typed

    each = f"under another attack: sweep evaluate {typed(directory)} --best-each, with one --attack for all of them"
    own = "; then the trials whose averaged weights are compared, by their ids, with --averaged"
    return f"{each}{'' if judged_averaged(trials) is None else own}"


class _Comparison(NamedTuple):
    """Of the methods, under one attack."""

    results: Sequence[MethodResult]
    effects: Sequence[SlotEffect]
    claims: Sequence[Claim]
    attack: str
    """In words; empty: that of the trials themselves."""


def _comparisons(study: Study, log: Log, baseline: str | None, by: tuple[str, ...]) -> list[_Comparison]:
    """Under the trials' own attack and, where the best cells were evaluated under one, under that too."""
    from analysis.claims.ledger import ledger
    from analysis.estimates.evaluated import evaluated
    from analysis.estimates.methods import comparison
    from analysis.estimates.slot_effects import slot_effects
    from analysis.tables.evaluations import attack_text
    from analysis.tables.methods import as_judged, effects_as_judged, stopped_text

    chosen_by = metric_of(log)
    claims = ledger(study, **chosen_by)
    asked = {"choosers": study.chose, **chosen_by}
    results = as_judged(comparison(study.trials, baseline, by=by, **asked), claims)
    alone = by or len(results) < 3
    effects = [] if alone else effects_as_judged(slot_effects(study.trials, **asked), claims)
    comparisons = [_Comparison(results, effects, claims, "")]
    if (stronger := evaluated(study.trials, log, by=by, **asked)) is not None:
        again = [] if alone else slot_effects(stronger.trials, **asked)
        compared = comparison(stronger.trials, baseline, by=by, **asked)
        comparisons.append(_Comparison(compared, again, (), attack_text(stronger.attack) + stopped_text(claims)))
    return comparisons


def _study(command: Any) -> Any:
    """A run's DIR, or --published."""
    published = click.option(
        "--published", is_flag=True, help="Use the published numbers (Sun, Sinha, Zhang, KDD 2023), not a run."
    )
    return optional_directory(published(command))


@click.command(epilog=examples("sweep ratio runs/demo", "sweep ratio --published --output ratio.md"))
@_study
@metric_option
@format_option(TEXT_FORMATS)
@output_option
def ratio(directory: Path | None, published: bool, metric: str, form: str | None, output: Path | None) -> None:
    """Ask whether the ratio lr / batch size is all that counts: the verdicts, then other views of the trials."""
    from analysis.claims import study as claim_study
    from analysis.tables import ratio as ratio_tables
    from sweep.run.screen import print_whole

    _refuse_both_studies("ratio", directory, published, metric)
    form = chosen_format(form, output, TEXT_FORMATS)
    study = claim_study.published() if directory is None else claim_study.load_study(directory)
    answers = ratio_tables.ratio_answers(study, metric, **({} if directory is None else metric_of_run(directory)))
    if form == "table":
        print_whole(console(output), ratio_tables.ratio_models_view(answers))
    else:
        write_text(ratio_tables.ratio_text(answers, form), output)


@click.command(
    epilog=examples(
        "sweep claims runs/demo",
        "sweep claims runs/demo --margin 0.5 --json",
        "sweep claims --published",
    )
)
@_study
@click.option("--json", "as_json", is_flag=True, help="Print every field as JSON, accuracies as fractions.")
@click.option(
    "--margin",
    type=Above(),
    help="Largest difference of accuracy that still counts as none, in percentage points [default: as registered, or "
    "1].",
)
@click.option(
    "--time-margin",
    type=Above(),
    help="Most extra training time that still counts as none, in % [default: as registered, or 5].",
)
@choosers_option
@metric_option
def claims(
    directory: Path | None,
    published: bool,
    as_json: bool,
    margin: float | None,
    time_margin: float | None,
    choosers: tuple[int, ...],
    metric: str,
) -> None:
    """Judge the study's claims: for each the effect, its interval, and supported, contradicted or undecided."""
    from analysis.claims import study as claim_study
    from analysis.claims.ledger import ledger
    from analysis.claims.literature import findings
    from analysis.tables import claims as claim_tables
    from analysis.tables.literature import findings_text

    _refuse_both_studies("claims", directory, published, metric)
    loaded = claim_study.published() if directory is None else claim_study.load_study(directory)
    loaded = claim_study.chosen_by(loaded, choosers)
    chosen_by = {} if directory is None else metric_of_run(directory)
    lines = ledger(loaded, margin=_fraction(margin), time_margin=_fraction(time_margin), y=metric, **chosen_by)
    others = findings() if directory is None else ()
    if as_json:
        echo(claim_tables.claims_json([*lines, *others]), nl=False)
        return
    width = min(claim_tables.WIDTH, console().width)
    echo(claim_tables.claims_text(lines, width), nl=False)
    if others:
        echo(f"\n{findings_text(others, width)}", nl=False)


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _refuse_both_studies(command: str, directory: Path | None, published: bool, metric: str) -> None:
    from analysis.frames.published import refuse_other
    from trainers.errors import UserError

    if (directory is None) == (not published):
        raise UserError(f"{command}: give either a run's DIR or --published, and not both")
    if published:
        refuse_other(metric)


@click.command(
    epilog=examples(
        "sweep theory runs/demo                    # beside what was measured",
        "sweep theory configs/demo.yaml --set trial.optimizer.k2=0.5",
    )
)
@click.argument("study", metavar="RUN|CONFIG", type=RUN, callback=refuse_starting)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Give a key of the CONFIG another value.")
@format_option(TEXT_FORMATS)
@output_option
def theory(study: Path, overrides: tuple[str, ...], form: str | None, output: Path | None) -> None:
    """Show what theory predicts for a sweep's methods, beside what its run measured.

    RUN is the folder of a launch; it has measurements if its trials had trial.dynamics.every. CONFIG is a sweep's file,
    of which nothing need have run; of a hyperparameter that is drawn from a range, the two ends of the range are taken.
    """
    from analysis.estimates.theory_check import theory_check
    from analysis.tables.theory import theory_text, theory_view
    from sweep.run.screen import print_whole
    from trainers.errors import UserError

    if not study.exists():
        raise UserError(f"{study}: neither a run nor a config; give a launch's --out, or a YAML file")
    form = chosen_format(form, output, TEXT_FORMATS)
    check = theory_check(_run_records(study, overrides) if study.is_dir() else _corner_records(study, overrides))
    if form == "table":
        print_whole(console(output), theory_view(check))
    else:
        write_text(theory_text(check, form), output)


def _run_records(directory: Path, overrides: tuple[str, ...]) -> Sequence[Mapping[str, Any]]:
    from analysis.frames.log import read_records
    from sweep.storage.cache import shown
    from trainers.errors import UserError

    if overrides:
        raise UserError(
            f"--set {overrides[0]}: changes a config, and {shown(directory)} is a run; leave it out, or give a config"
        )
    records = read_records(directory)
    if not any(record["record"] == "trial" for record in records):
        raise UserError(
            f"{shown(directory)}: has no trial yet, of which theory could say anything; give the sweep's config"
        )
    return records


def _corner_records(path: Path, overrides: tuple[str, ...]) -> list[dict[str, Any]]:
    """The `trial` records of a config's corners, of one seed, with numbers for ids: no data are looked at."""
    from sweep.axes import nested
    from sweep.config_file import load
    from sweep.search.admission import Admission
    from sweep.search.points import corners
    from trainers.config import TrialConfig
    from trainers.errors import validated
    from trainers.identity import identity

    config = load(path, overrides)
    admission = Admission.of_sweep(config)
    points = [one for one in corners(config.space, config.given) if admission.may_admit(one, config.space)]
    trials = (validated(TrialConfig, nested(config.given, point), f"the point {point}: ") for point in points)
    return [
        {"record": "trial", "trial_id": str(n), "number": n, "config": identity(trial), "point": point, "seed": 0}
        for n, (point, trial) in enumerate(zip(points, trials, strict=True))
    ]


@click.command(
    epilog=examples(
        "sweep figures runs/demo                   # into runs/demo/figures",
        "sweep figures runs/demo --width column    # for a paper's column",
        "sweep figures runs/demo --check           # would they come out the same?",
        "sweep figures --published --output paper",
    )
)
@optional_directory
@click.option("--published", is_flag=True, help="Draw the published study too; without DIR, it alone.")
@click.option("--output", type=PATH, help="Folder to write to [default: DIR/figures].")
@click.option(
    "--check", is_flag=True, help="Write nothing; name the figures that would now come out different, and why."
)
@page_options
@metric_option
def figures(
    directory: Path | None,
    published: bool,
    output: Path | None,
    check: bool,
    width: float | None,
    font_size: float,
    names: Path | None,
    metric: str,
) -> None:
    """Draw figures and tables, the paper's among them, each with the numbers behind it."""
    from analysis import figures as drawing
    from analysis.frames.budgets import trials_left_out
    from analysis.manifest import SAME
    from analysis.plots.page import Page
    from analysis.plots.plan import BY_VAL_ROBUST, ChosenBy
    from sweep.search.optuna_importance import optuna_importance

    output = _figures_folder(directory, published, output, check)
    chosen_by = BY_VAL_ROBUST if directory is None else ChosenBy(**metric_of_run(directory))
    if check:
        answers = drawing.check(directory, output, chosen_by, evaluator=optuna_importance)
        for name, answer in answers.items():
            echo(f"{name}: {answer}")
        sys.exit(int(any(answer != SAME for answer in answers.values())))
    page = Page(width, font_size, names_of(names) if names else {})
    drawn = drawing.draw(
        directory, output, metric, chosen_by, published=published, evaluator=optuna_importance, page=page
    )
    kinds = Counter(path.suffix.removeprefix(".") for path in drawn.written)
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if kind != "json")
    tell(f"{output}: {counts}; manifest.json there lists them, with their captions and what they came from")
    if drawn.left_out:
        tell(f"not pooled with the others: {trials_left_out(drawn.left_out)}", err=True)
    if drawn.pruned:
        tell(drawn.pruned, err=True)
    for name in drawn.unused:
        tell(f"--names {names}: {name} stands in no figure or table; names must be whole ones", err=True)
    for line in _not_drawn(drawn.skipped):
        tell(line, err=True)


def _not_drawn(skipped: Mapping[str, str]) -> Iterator[str]:
    """What the data do not allow, and why, those of one reason together.

    Args:
        skipped: by the name of a figure or a table what it needs.
    """
    if skipped:
        yield f"not drawn ({len(skipped)} figures and tables), as the data lack what they need:"
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason.removeprefix("needs "), []).append(name)
    yield from (f"  {', '.join(each)}: {reason}" for reason, each in names.items())


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
