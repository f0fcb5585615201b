"""The command `sweep evaluate`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.filters import trials_where, where_option
from sweep.reports.options import TRIAL, directory_argument, refuse_both
from sweep.reports.output import console
from sweep.streams import outlast

if TYPE_CHECKING:
    from trainers.ladder.rungs import Strength

#: The ladder of trainers.ladder.survivors, the weakest first, and the part of it that takes no time.
_ATTACKS = ("clean", "fgsm", "pgd", "cw", "apgd", "autoattack")
_QUICK = ("clean", "fgsm", "pgd")


@click.command(
    epilog=examples(
        "sweep evaluate runs/demo                         # clean, FGSM and PGD",
        "sweep evaluate runs/demo --best-each --attack autoattack",
        "sweep evaluate runs/demo 3f2a --attack pgd --steps 100 --radius 8/255",
        "sweep evaluate runs/demo --where \"method == 'DEAT'\" --attack pgd",
        "sweep evaluate runs/demo --best --checks         # can gradients be trusted?",
    )
)
@directory_argument
@click.argument("trial_ids", metavar="[TRIAL_ID]...", nargs=-1, type=TRIAL)
@where_option
@click.option("--best", is_flag=True, help="Attack all seeds of the configuration that was best on validation.")
@click.option("--best-each", is_flag=True, help="Attack all seeds of the best configuration of each model and method.")
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=click.Choice(_ATTACKS),
    help="Attack to run. May be given several times [default: clean, fgsm, pgd].",
)
@click.option(
    "--checks", is_flag=True, help="Check whether gradients can be trusted, or are masked. Needs no --attack."
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Number of images to attack, classes in proportion [default: all; 200 for --checks].",
)
@click.option(
    "--weights",
    type=click.Choice(("last", "best")),
    default="last",
    help="Weights of the last epoch, or of the best one by validation [default: last].",
)
@click.option("--averaged", is_flag=True, help="Attack the averaged weights (EMA or SWA), not the raw ones.")
@click.option(
    "--split",
    type=click.Choice(("test", "val")),
    default="test",
    help="Images to attack: the test images, or those held out for validation [default: test].",
)
@click.option(
    "--radius",
    "radii",
    metavar="R",
    multiple=True,
    help="Radius of the attack, in pixel units, such as 8/255. May be given several times [default: the trial's].",
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps of the attacks pgd and cw [default: 20].")
@click.option(
    "--step-size",
    metavar="S",
    help="Step size of pgd and cw, in pixel units, such as 2/255 [default: the trial's, scaled with the radius].",
)
@click.option(
    "--restarts",
    type=click.IntRange(min=1),
    help="How often pgd and cw start anew from a random point; an image must survive all of them [default: 1].",
)
@click.option("--margins", is_flag=True, help="Record each image's margin too; repeats evaluations that lack it.")
@click.option("--bits", is_flag=True, help="Repeat evaluations that older code recorded without each image's result.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Give resources.* or trial.data.root another value than the run had. May be given several times.",
)
@click.option("--address", help="Ray cluster to run on: auto or HOST:PORT [default: a Ray on this machine].")
@click.option("--serial", is_flag=True, help="Run in this process, without Ray.")
def evaluate(
    directory: Path,
    where: tuple[str, ...],
    attacks: tuple[Any, ...],
    checks: bool,
    radii: tuple[str, ...],
    overrides: tuple[str, ...],
    address: str | None,
    serial: bool,
    **options: Any,
) -> None:
    """Attack trained networks: clean, fgsm, pgd, cw, apgd, autoattack, from none to the strongest.

    TRIAL_ID names the trials whose networks are attacked; its first characters are enough. --where chooses among those,
    or among all completed trials, which are attacked where nothing is chosen. What is recorded already is not run
    again. For each image it is recorded whether it is still classified correctly: `sweep images` reads that.
    """
    refuse_both(serial, address)
    attacks = tuple(name for name in _ATTACKS if name in (attacks or (() if checks else _QUICK)))
    given = {name: options.pop(name) for name in ("steps", "step_size", "restarts")}
    readers = (*attacks, *(["checks"] if checks else []))
    strength = _strength(readers, {name: value for name, value in given.items() if value is not None})
    lengths = sorted({_strength(readers, {"radius": radius}).radius or 0.0 for radius in radii})
    flags: dict[Any, bool] = {"right": options.pop("bits"), "margins": options.pop("margins")}
    options["best"] = _chosen(options.pop("best"), options.pop("best_each"), options["trial_ids"], where)
    if where:
        options["trial_ids"] = _completed(directory, options["trial_ids"], where)
    from sweep.evaluate.plan import Asked
    from sweep.evaluate.run import evaluate as run
    from sweep.storage.lock import EVALUATION
    from sweep.storage.mirror import held

    needs = tuple(name for name, needed in flags.items() if needed)
    asked = Asked(attacks, strength=strength, radii=tuple(lengths), needs=needs, checks=checks, **options)
    outlast()
    click.get_current_context().with_resource(held(directory, EVALUATION))
    sys.exit(run(directory, asked, console(), overrides=overrides, address=address, serial=serial))


def _strength(attacks: tuple[Any, ...], given: Mapping[str, Any]) -> Strength:
    """What the options say of the attacks, numbers read as in a config.

    Raises:
        UserError: a number is none, or no attack reads it.
    """
    from trainers.errors import UserError
    from trainers.fields import parse_number
    from trainers.ladder.rungs import Strength, reads

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


def _completed(directory: Path, trial_ids: tuple[str, ...], where: tuple[str, ...]) -> tuple[str, ...]:
    """The completed trials, of those named or of all, for which each expression holds.

    Raises:
        UserError: there is none.
    """
    from analysis.frames.log import read_log
    from sweep.progress import Progress
    from sweep.storage.cache import shown
    from trainers.errors import UserError
    from trainers.record import only_trial

    log = read_log(directory)
    trials = Progress.of(log).trials
    named = {only_trial(shown(directory), trials, beginning) for beginning in trial_ids} or trials.keys()
    among = [trials[name] for name in trials_where(where, log) if name in named]
    found = tuple(trial.id for trial in among if trial.finished and trial.outcome == "completed")
    if not found:
        raise UserError("--where: chooses no completed trial; `sweep results DIR --where ...` lists what it chooses")
    return found


def _chosen(best: bool, best_each: bool, trial_ids: tuple[str, ...], where: tuple[str, ...]) -> str | None:
    """Which trials validation chooses: `sweep.evaluate.plan.Asked.best`."""
    from trainers.errors import UserError

    if best and best_each:
        raise UserError("--best: and --best-each are two choices of trials; leave one of the two out")
    if (best or best_each) and (trial_ids or where):
        option, other = "--best" if best else "--best-each", "TRIAL_ID" if trial_ids else "--where"
        raise UserError(f"{option}: chooses the trials, so that {other} says nothing; leave one of the two out")
    return "overall" if best else "each" if best_each else None
