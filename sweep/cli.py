"""The command `sweep`. Heavy imports stand inside the commands, so that --help answers at once."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.completion import completion
from sweep.control import cancel, pause, resume, set_
from sweep.data.command import data
from sweep.demo import demo
from sweep.evaluate.command import evaluate
from sweep.group import Cli, examples
from sweep.init import init
from sweep.merge.command import merge
from sweep.note import note
from sweep.register import register
from sweep.reports.answers import claims, figures, methods, ratio, theory
from sweep.reports.audit import audit
from sweep.reports.dashboard import dashboard
from sweep.reports.importance import importance
from sweep.reports.options import PATH, RUN, TRIAL, Above, bring_run, directory_argument, refuse_both
from sweep.reports.output import console, summary
from sweep.reports.proxy import proxy
from sweep.reports.report import report
from sweep.reports.rows import images, results
from sweep.reports.status import status
from sweep.reports.trial import compare, show
from sweep.rerun import rerun
from sweep.slurm.command import slurm
from sweep.storage.mark import MARK
from sweep.streams import echo, leave, outlast
from sweep.trackers.command import sync

if TYPE_CHECKING:
    from rich.console import Console

    from sweep.config import SweepConfig
    from sweep.plan.room import Room

_config = click.argument("config", type=PATH)
_out = click.option("--out", type=RUN, help="Folder of the run, or s3://BUCKET/RUN [default: runs/NAME].")
_set = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Give a key of the config another value, such as trial.epochs=3. May be given several times.",
)


@click.group(
    cls=Cli,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "sweep init ratio                # writes sweep.yaml; or methods, tune, own",
        "sweep plan sweep.yaml           # what it will cost",
        "sweep launch sweep.yaml         # runs it, or goes on with it",
        "sweep results runs/ratio",
    ),
)
@click.version_option(package_name="robustsweep")
def main() -> None:
    """Run hyperparameter sweeps of adversarial training, and read what they show."""


@main.command(
    epilog=examples(
        "sweep plan configs/demo.yaml",
        'sweep plan configs/demo.yaml --set trial.epochs=8 --set "seeds=[0, 1, 2]"',
        "sweep plan configs/ratio.yaml --no-data --rate 100   # TFLOP/s",
        "sweep plan configs/demo.yaml --trials-file demo.jsonl",
    )
)
@_config
@_out
@_set
@click.option(
    "--no-data", is_flag=True, help="Do not read the data. Where they are absent, a plan does without by itself."
)
@click.option(
    "--rate",
    metavar="TFLOPS",
    type=Above(most=1e6),
    help="Speed of one trial, in TFLOP/s, by which the cost of what never ran is estimated [default: timed here; for a "
    "GPU that is not here, a third of an A100's peak].",
)
@click.option(
    "--measure", is_flag=True, help="Train two steps of each kind of trial here, and estimate the cost from them."
)
@click.option("--address", help="Ray cluster to plan for: auto or HOST:PORT [default: this machine].")
@click.option(
    "--trials-file",
    metavar="FILE",
    type=PATH,
    help="Write what is left, seed by seed, for `python -m trainers FILE`, which needs neither ray nor optuna.",
)
def plan(
    config: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    no_data: bool,
    rate: float | None,
    measure: bool,
    address: str | None,
    trials_file: Path | None,
) -> None:
    """Show what a launch would run and what it would cost. Nothing is trained."""
    from sweep.plan import plan as planning
    from sweep.plan.ahead import outlook
    from sweep.plan.cost import cost_of
    from sweep.plan.forecast import keep
    from sweep.plan.room import this_machine
    from sweep.plan.shapes import table
    from sweep.run.capacity import capacity_here, refusal_here
    from sweep.run.directory import refuse_other_sweep
    from sweep.run.replay import refuse_mixing
    from sweep.run.screen import print_whole, say
    from sweep.storage.cache import shown
    from trainers.provenance import code_version

    sweep = _load(config, overrides)
    directory = _directory_of(sweep, out)
    bring_run(directory)
    refuse_other_sweep(directory, sweep)
    refuse_mixing(directory, None)
    records = planning.earlier_records(directory)
    capacity = capacity_here(sweep.resources) if address is None else math.inf
    wanted = planning.plan(sweep, records, code_version(), "unseen" if no_data else "if there", capacity)
    flops = None if rate is None else rate * 1e12
    screen = console()
    where = this_machine() if address is None else _cluster(address, screen)
    cost, why = cost_of(wanted.to_run, wanted.shapes, sweep.resources, flops, wanted.own)
    ahead = None if cost is None else outlook(wanted, cost, where, directory, measure, lambda line: say(screen, line))
    refused = refusal_here(sweep) if address is None else ""
    lines = wanted.lines(ahead, room=where, refused=refused)
    say(screen, "\n".join([*lines, *why, f"  run directory: {shown(directory)}"]))
    if ahead is not None:
        keep(directory, wanted, ahead.seconds)
    if ahead is not None and (shapes := table(ahead.shapes, sweep.resources)) is not None:
        print_whole(screen, shapes)
    if trials_file is not None:
        from sweep.trials_file import keep_config, write_trials
        from trainers.fields import plural
        from trainers.record.linked import registered

        count = write_trials(wanted, trials_file, registered(directory))
        keep_config(sweep, directory)
        command = f"python -m trainers {shlex.quote(str(trials_file))} --records FILE"
        say(screen, f"  {trials_file}: {plural(count, 'trial')}; {command}")
    leave()


@main.command(
    epilog=examples(
        "sweep launch configs/demo.yaml                # into runs/demo, or goes on",
        "sweep launch configs/demo.yaml --out s3://bucket/demo",
        "sweep launch configs/ratio.yaml --address auto --min-nodes 4",
        "sweep launch configs/ratio.yaml --shard 1/4   # and 2/4, 3/4, 4/4 elsewhere",
        "sweep launch configs/demo.yaml --serial --debug",
        "sweep launch configs/stopping_digits.yaml --surrogate   # trains nothing",
    )
)
@_config
@_out
@_set
@click.option("--address", help="Ray cluster to run on: auto or HOST:PORT [default: a Ray on this machine].")
@click.option("--serial", is_flag=True, help="Run one trial after another, without Ray.")
@click.option("--debug", is_flag=True, help="With --serial: train in this process itself, so that breakpoint() works.")
@click.option(
    "--shard", metavar="i/N", help="Run share i of N of the trials, such as 1/4; other launches run the others."
)
@click.option("--again", is_flag=True, help="Run cancelled trials too, and those that ran out of memory though alone.")
@click.option(
    "--resume-pruned", is_flag=True, help="Train pruned trials, which a stopping rule ended early, to their end."
)
@click.option(
    "--min-nodes",
    metavar="N",
    type=click.IntRange(1),
    help="Start trials once N nodes of the cluster have room for one.",
)
@click.option(
    "--decide",
    metavar="CLAIM",
    help="Add seed after seed until this claim is supported or contradicted, or --budget-hours are used up. Its name "
    "is one that `sweep claims` prints, such as ratio.",
)
@click.option(
    "--budget-hours",
    type=Above(),
    help="Hours that all trials together may take, counted as if they ran one after another. A trial that would not "
    "end within them is not begun.",
)
@click.option(
    "--surrogate",
    is_flag=True,
    help="Train nothing: draw every trial from the open response surface, in seconds, to try a search or a stopping "
    "rule. What comes of it is marked, and is no evidence [--out: runs/NAME-surrogate].",
)
def launch(
    config: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    address: str | None,
    serial: bool,
    debug: bool,
    shard: str | None,
    again: bool,
    resume_pruned: bool,
    min_nodes: int | None,
    decide: str | None,
    budget_hours: float | None,
    surrogate: bool,
) -> None:
    """Run the trials that are not finished yet."""
    from sweep.run.budget import NothingFits
    from sweep.run.contradictions import refuse_contradictions
    from sweep.run.launch import Launch
    from sweep.run.signals import EXIT_INTERRUPTED, EXIT_RAY_GONE, EXIT_SOME_FAILED, EXIT_STORAGE_GONE
    from sweep.share import Share
    from sweep.storage.mirror import held
    from trainers.record import has_records

    refuse_both(serial, address)
    of_all = {"--shard": shard, "--min-nodes": min_nodes, "--again": again, "--resume-pruned": resume_pruned}
    of_all |= {"--surrogate": surrogate}
    refuse_contradictions(of_all, serial=serial, debug=debug, address=address, decide=decide, hours=budget_hours)
    share = None if shard is None else Share.of(shard)
    sweep = _load(config, overrides)
    directory = _directory_of(sweep, out or Path("runs", f"{sweep.name}-surrogate") if surrogate else out)
    if share is not None and (directory / MARK).exists():
        raise click.UsageError("--shard: shares need a folder that all see; give an --out of that kind, or one launch")
    outlast()
    screen = console()
    click.get_current_context().with_resource(held(directory, "sweep launch"))
    if decide is not None and budget_hours is not None:
        from sweep.decide import decide as until_decided

        code = until_decided(
            sweep,
            directory,
            screen,
            claim=decide,
            hours=budget_hours,
            command=_command_line(),
            address=address,
            serial=serial,
            debug=debug,
        )
        sys.exit(code)
    how: dict[str, Any] = {"address": address, "serial": serial, "debug": debug, "again": again}
    how |= {"share": share, "min_nodes": min_nodes, "resume_pruned": resume_pruned, "budget_hours": budget_hours}
    if surrogate:
        from analysis.surrogate.surface import Surrogate

        how |= {"serial": True, "surrogate": Surrogate.load()}
    try:
        code = Launch(sweep, directory, screen, command=_command_line(), **how).run()
    except NothingFits:
        sys.exit(EXIT_SOME_FAILED)
    ended = code not in (EXIT_INTERRUPTED, EXIT_RAY_GONE, EXIT_STORAGE_GONE)
    if ended and (share is None or has_records(directory)):  # a share may have no trial
        _print_summary(directory, screen)
    sys.exit(code)


@main.command(
    epilog=examples(
        "sweep export runs/demo 3f2a --torch               # 3f2a....pt, and a script",
        "sweep export runs/demo 3f2a --robustbench --weights best --out model",
    )
)
@directory_argument
@click.argument("trial_id", type=TRIAL)
@click.option("--torch", "plain", is_flag=True, help="Write a state dict, and a short script that loads it.")
@click.option("--robustbench", is_flag=True, help="Write a folder: the same, a model card, and RobustBench's JSON.")
@click.option(
    "--weights",
    type=click.Choice(("last", "best")),
    default="last",
    help="Weights of the last epoch, or of the best one by validation [default: last].",
)
@click.option("--averaged", is_flag=True, help="Write the averaged weights (EMA or SWA), not the raw ones.")
@click.option("--out", type=PATH, help="File or folder to write [default: named after the trial].")
def export(
    directory: Path, trial_id: str, plain: bool, robustbench: bool, weights: Any, averaged: bool, out: Path | None
) -> None:
    """Write a trained network for other programs. The first characters of its trial's id are enough."""
    from sweep.export.weights import chosen, write_weights
    from trainers.errors import UserError

    if plain == robustbench:
        raise UserError(
            "export: needs --torch, a state dict, or --robustbench, all that RobustBench asks; give one of the two"
        )
    network = chosen(directory, trial_id, weights, averaged)
    if plain:
        written = write_weights(network, out or Path(f"{network.name}.pt"))
    else:
        from sweep.export.robustbench import write_robustbench

        written = write_robustbench(network, out or Path(f"{network.name}-robustbench"))
    for path in written:
        echo(path)


@main.command(epilog=examples("sweep schema > sweep.schema.json     # for an editor that completes YAML"))
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""
    import json

    from sweep.config import SweepConfig

    echo(json.dumps(SweepConfig.model_json_schema(), indent=2))


def _load(path: Path, overrides: tuple[str, ...]) -> SweepConfig:
    from sweep.config_file import load

    return load(path, overrides)


def _directory_of(sweep: SweepConfig, out: Path | None) -> Path:
    from trainers.errors import UserError

    directory = out if out is not None else Path("runs") / sweep.name
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--out {directory}: must be a folder, and is a file; give another")
    return directory


def _cluster(address: str, screen: Console) -> Room:
    from sweep.run.nodes import room

    return room(address, screen)


def _command_line() -> str:
    from trainers.blanked import command_line

    return command_line(["sweep", *sys.argv[1:]])


def _print_summary(directory: Path, screen: Console) -> None:
    from analysis.frames.log import read_log, read_records
    from analysis.frames.replayed import replay_line, surrogate_of
    from analysis.frames.trials import trials_of
    from sweep.progress import Progress
    from sweep.run.directory import live_shares
    from sweep.run.screen import counts_line, print_whole, say
    from sweep.storage.cache import typed
    from trainers.fields import plural

    run = typed(directory)
    if (version := surrogate_of(directory)) is not None:
        say(screen, f"{replay_line(version)}\nresults: sweep results {run}")
        return
    if others := live_shares(directory):  # whose trials are none that were left unfinished
        counts = counts_line(Progress.of(read_records(directory)), others)
        say(screen, f"{counts}; running: {plural(len(others), 'other share')}; how far they are: sweep status {run}")
        say(screen, f"results, also while they run: sweep results {run}")
        return
    log = read_log(directory)
    print_whole(screen, summary(log, directory))
    screen.print(f"results: sweep results {run}", highlight=False)
    if (trials_of(log)["outcome"] == "completed").any():  # without one there is nothing to draw
        screen.print(f"figures: sweep figures {run}", highlight=False)
        screen.print(f"page: sweep report {run}", highlight=False)


_READING = (results, images, methods, ratio, claims, theory, figures, show, compare)
_STEERING = (set_, pause, resume, cancel, note, rerun)
_MORE = (init, register, audit, merge, slurm, data, proxy, importance, completion, report, sync, demo)
for _command in (evaluate, status, dashboard, *_READING, *_STEERING, *_MORE):
    main.add_command(_command)
