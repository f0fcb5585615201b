"""The command `register`: what a study asks and how it will be judged, written down before its first trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.options import METRICS, PATH, Above
from sweep.streams import tell

if TYPE_CHECKING:
    from analysis.claims.registration import Registration
    from sweep.config import SweepConfig


@click.command(
    epilog=examples(
        "sweep register configs/ratio_digits.yaml",
        "sweep register configs/ratio_digits.yaml --claim ratio --margin 0.5",
        "sweep register configs/ratio_digits.yaml --decide ratio --budget-hours 2",
    )
)
@click.argument("config", type=PATH)
@click.option("--out", type=PATH, help="Folder of the run [default: runs/NAME].")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Give a key of the CONFIG another value.")
@click.option(
    "--claim",
    "claims",
    metavar="NAME",
    multiple=True,
    help="Claim that is asked; its name is one that `sweep claims` prints. May be given several times [default: all "
    "that the config can measure].",
)
@click.option("--margin", type=Above(), default=1.0, help="See `sweep claims`, in percentage points [default: 1].")
@click.option("--time-margin", type=Above(), default=5.0, help="See `sweep claims`, in % [default: 5].")
@click.option(
    "--metric", type=click.Choice(METRICS), default=METRICS[0], help=f"See `sweep claims` [default: {METRICS[0]}]."
)
@click.option("--chosen-by-seed", "choosers", metavar="SEED", type=int, multiple=True, help="See `sweep claims`.")
@click.option("--decide", metavar="CLAIM", help="Seeds will be added until this claim is decided: `sweep launch`.")
@click.option("--budget-hours", type=Above(), help="With --decide: the hours of trials that it may take.")
def register(
    config: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    claims: tuple[str, ...],
    margin: float,
    time_margin: float,
    metric: str,
    choosers: tuple[int, ...],
    decide: str | None,
    budget_hours: float | None,
) -> None:
    """Write down what a sweep asks and how it is judged, before its first trial, and print the hash of that.

    Deposit the hash where nobody can change it; `sweep claims` and `sweep audit` then tell what was asked beforehand.
    """
    from sweep.config_file import load
    from trainers.errors import UserError

    if (decide is None) != (budget_hours is None):
        raise UserError("--decide: needs --budget-hours, and that --decide; give both or none")
    sweep = load(config, overrides)
    directory = out if out is not None else Path("runs") / sweep.name
    until = {} if decide is None else {"claim": decide, "budget_hours": budget_hours}
    values = {"margin": margin / 100, "time_margin": time_margin / 100, "accuracy": metric}
    registration = written(sweep, directory, claims, tuple(dict.fromkeys(choosers)), until, values)
    for line in _lines(registration, directory):
        tell(line)


def written(
    config: SweepConfig,
    directory: Path,
    claims: Sequence[str],
    choosers: tuple[int, ...],
    until: dict[str, Any],
    values: dict[str, Any],
) -> Registration:
    """Registers a sweep.

    Args:
        config: the sweep; its data are read.
        directory: of the run; made, if it is not there.
        claims: names of those that are asked; none: all that the config can measure.
        choosers: seeds that choose best cells; none: all.
        until: claim and budget_hours of launches that decide one; empty: every trial is run.
        values: margin, time_margin and accuracy, as `analysis.claims.registration.Registration` has them.

    Raises:
        UserError: a trial has started, the run is registered already, or the config cannot measure a claim.
    """
    from analysis.claims.registration import HASH_FILE, hash_of, text_of
    from sweep.plan.plan import earlier_records
    from sweep.run.directory import RunLock, refuse_other_sweep, write_whole
    from trainers.record.linked import REGISTRATION_FILE

    refuse_other_sweep(directory, config)
    with RunLock(directory, "sweep register, process"):
        _refuse_late(directory, earlier_records(directory))
        registration = _registration(config, claims, choosers, until, values)
        text = text_of(registration)
        write_whole(directory / HASH_FILE, f"{registration.sha256}  {REGISTRATION_FILE}\n")
        write_whole(directory / REGISTRATION_FILE, text)
    assert registration.sha256 == hash_of(text.encode())
    return registration


def _refuse_late(directory: Path, records: Sequence[Any]) -> None:
    """Raises `UserError` where a trial has started, or a registration is there."""
    from trainers.errors import UserError
    from trainers.record.linked import REGISTRATION_FILE, registered

    if (begun := next((one["trial_id"] for one in records if one["record"] == "start"), None)) is not None:
        raise UserError(
            f"{directory}: trial {begun} has started, and a registration comes before the first one; register another "
            "run: give another --out"
        )
    if (known := registered(directory)) is not None:
        raise UserError(
            f"{directory}: is registered already, SHA-256 {known}; to register it anew, while no trial has started, "
            f"delete {REGISTRATION_FILE}"
        )


def _registration(
    config: SweepConfig,
    claims: Sequence[str],
    choosers: tuple[int, ...],
    until: dict[str, Any],
    values: dict[str, Any],
) -> Registration:
    from dataclasses import replace
    from datetime import UTC, datetime

    from analysis.claims.ledger import CONFIDENCE
    from analysis.claims.registration import BY_CONFIG, TO_THE_END, UNTIL_DECIDED, Registration, hash_of, text_of
    from sweep.config_file import dump
    from sweep.decide import Design
    from sweep.plan.plan import plan
    from sweep.search.trials import FixedSearch
    from sweep.yaml_text import parsed
    from trainers.errors import UserError
    from trainers.provenance import code_version, commit

    if unknown := sorted(set(choosers) - set(config.seeds)):
        there = ", ".join(map(str, config.seeds))
        raise UserError(f"--chosen-by-seed {unknown[0]}: no trial has it; must be one of {there}")
    if until:
        choosers = Design(config, until["claim"]).choosing or choosers
    search = plan(config, [], code_version()).search
    listed = None if until or not isinstance(search, FixedSearch) else tuple(trial.id for trial in search.known())
    at, dirty = commit()
    primary = config.objectives[0]
    rule = UNTIL_DECIDED if until else BY_CONFIG if config.stopping or config.race else TO_THE_END
    registration = Registration(
        name=config.name,
        question=config.question,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        claims=_asked(config, claims, until, values),
        alpha=round(1 - CONFIDENCE, 9),
        metric=primary.name,
        mode=primary.mode,
        choosers=choosers,
        stopping={"rule": rule, **until},
        seeds=config.seeds,
        trials=listed,
        code_version=code_version(),
        commit=at,
        dirty=dirty,
        config=parsed(dump(config)),
        **values,
    )
    return replace(registration, sha256=hash_of(text_of(registration).encode()))


def _asked(
    config: SweepConfig, claims: Sequence[str], until: dict[str, Any], values: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The claims with what will judge them.

    Raises:
        UserError: there is no such claim, or the config cannot measure it.
    """
    from analysis.claims.questions import NAMES, question
    from sweep.decide import not_measured, rehearsed
    from trainers.errors import UserError

    known = config.search.name != "optuna"
    cells = rehearsed(config) if known else None
    reasons = {} if cells is None else {name: not_measured(question(name), cells) for name in NAMES}
    if not claims and not known:
        raise UserError("--claim: needed where search.name is optuna, whose trials are not known beforehand; name one")
    wanted = list(claims) or [name for name in NAMES if reasons[name] is None]
    wanted += [until["claim"]] if until and until["claim"] not in wanted else []
    for name in wanted:
        asked = question(name)
        if (reason := reasons.get(name)) is not None:
            raise UserError(f"--claim {name}: {reason}; take a config such as {asked.config}")
    return {
        asked.name: {
            "statement": asked.asked_in(values["accuracy"]),
            "region": asked.region,
            "threshold": asked.threshold(values["margin"], values["time_margin"]),
        }
        for asked in map(question, dict.fromkeys(wanted))
    }


def _lines(registration: Registration, directory: Path) -> list[str]:
    """What is said of it."""
    from trainers.fields import plural
    from trainers.record.linked import REGISTRATION_FILE

    margin = plural(float(f"{100 * registration.margin:g}"), "percentage point")
    margins = f"margin {margin}, of time {100 * registration.time_margin:g} %"
    rule = registration.stopping
    until = f": {rule['claim']}, {rule['budget_hours']:g} h of trials at most" if "claim" in rule else ""
    trials = "not known beforehand" if registration.trials is None else str(len(registration.trials))
    at = f", commit {registration.commit}" if registration.commit else ""
    return [
        f"registered: {directory / REGISTRATION_FILE}",
        f"  claims: {', '.join(registration.claims) or 'none of the ledger'}; {margins}, alpha {registration.alpha:g}",
        f"  {plural(len(registration.seeds), 'seed')}; trials: {trials}; {rule['rule']}{until}",
        f"  code {registration.code_version}{at}"
        + ("; it has changes that are in no commit" if registration.dirty else ""),
        f"SHA-256 {registration.sha256}",
        "deposit this hash before the first trial, where nobody can change it: a pushed commit or tag, or OSF",
    ]
