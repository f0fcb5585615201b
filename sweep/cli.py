"""The command `sweep`. Heavy imports stand inside the commands, so that --help answers at once."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.completion import completion
from sweep.control import cancel, pause, resume, set_
from sweep.data.command import data
from sweep.evaluate.command import evaluate
from sweep.group import Cli, examples
from sweep.init import init
from sweep.merge.command import merge
from sweep.note import note
from sweep.reports.answers import claims, figures, methods, ratio, theory
from sweep.reports.importance import importance
from sweep.reports.options import PATH, RUN, TRIAL, Above, bring_run, directory_argument, refuse_both
from sweep.reports.output import console, summary
from sweep.reports.proxy import proxy
from sweep.reports.rows import images, results
from sweep.reports.trial import compare, show
from sweep.rerun import rerun
from sweep.slurm.command import slurm
from sweep.storage.mark import MARK
from sweep.streams import echo, leave, outlast

if TYPE_CHECKING:
    from rich.console import Console

    from sweep.config import SweepConfig
    from sweep.plan.room import Room

_config = click.argument("config", type=PATH)
_out = click.option("--out", type=RUN, help="Run directory, or s3://BUCKET/RUN [default: runs/NAME].")
_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides a key of the config.")


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
    """Sweeps of adversarial training: launch them, go on with them, read what they say."""


@main.command(
    epilog=examples(
        "sweep plan configs/demo.yaml",
        'sweep plan configs/demo.yaml --set trial.epochs=8 --set "seeds=[0, 1, 2]"',
        "sweep plan configs/ratio.yaml --no-data --rate 100   # TFLOP/s",
    )
)
@_config
@_out
@_set
@click.option("--no-data", is_flag=True, help="Look at no data; by itself where they are absent.")
@click.option(
    "--rate",
    metavar="TFLOPS",
    type=Above(most=1e6),
    help="What a trial computes a second, TFLOP/s, for the cost of what was never run [default: timed here; for a GPU "
    "that is not here, a third of an A100's peak].",
)
@click.option("--measure", is_flag=True, help="Make two steps here of each kind of trial, in place of a rate.")
@click.option("--address", help="Ray cluster whose nodes are asked for: auto or HOST:PORT [default: this machine].")
def plan(
    config: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    no_data: bool,
    rate: float | None,
    measure: bool,
    address: str | None,
) -> None:
    """Show what a launch would run, and train nothing."""
    from sweep.plan import plan as planning
    from sweep.plan.ahead import outlook
    from sweep.plan.cost import cost_of
    from sweep.plan.room import this_machine
    from sweep.plan.shapes import table
    from sweep.run.directory import refuse_other_sweep
    from sweep.run.launch import capacity_here, refusal_here
    from sweep.run.screen import print_whole, say
    from sweep.storage.cache import shown
    from trainers.provenance import code_version

    sweep = _load(config, overrides)
    directory = _directory_of(sweep, out)
    bring_run(directory)
    refuse_other_sweep(directory, sweep)
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
    if ahead is not None and (shapes := table(ahead.shapes, sweep.resources)) is not None:
        print_whole(screen, shapes)
    leave()


@main.command(
    epilog=examples(
        "sweep launch configs/demo.yaml                # into runs/demo, or goes on",
        "sweep launch configs/demo.yaml --out s3://bucket/demo",
        "sweep launch configs/ratio.yaml --address auto --min-nodes 4",
        "sweep launch configs/ratio.yaml --shard 1/4   # and 2/4, 3/4, 4/4 elsewhere",
        "sweep launch configs/demo.yaml --serial --debug",
    )
)
@_config
@_out
@_set
@click.option("--address", help="Ray cluster: auto or HOST:PORT [default: a local Ray].")
@click.option("--serial", is_flag=True, help="One trial after another, in one process, without Ray.")
@click.option("--debug", is_flag=True, help="With --serial: in this very process, so that breakpoint() works.")
@click.option("--shard", metavar="i/N", help="Only share i of N of the trials, by their ids, beside the other shares.")
@click.option("--again", is_flag=True, help="Also trials that were cancelled, or ran out of memory alone.")
@click.option("--resume-pruned", is_flag=True, help="Also trials that a stopping rule ended, to their end.")
@click.option(
    "--min-nodes", metavar="N", type=click.IntRange(1), help="Of the cluster, with room, before trials start."
)
@click.option("--decide", metavar="CLAIM", help="Only what CLAIM of `sweep claims` needs, until it is decided.")
@click.option(
    "--budget-hours", type=Above(), help="Of trials, one after another: only those begin that end within them."
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
) -> None:
    """Run the trials that are not finished yet."""
    from sweep.run import launch as runner
    from sweep.run.budget import NothingFits
    from sweep.run.contradictions import refuse_contradictions
    from sweep.run.signals import EXIT_INTERRUPTED, EXIT_RAY_GONE, EXIT_STORAGE_GONE
    from sweep.share import Share
    from sweep.storage.mirror import held
    from trainers.record import has_records

    refuse_both(serial, address)
    of_all = {"--shard": shard, "--min-nodes": min_nodes, "--again": again, "--resume-pruned": resume_pruned}
    refuse_contradictions(of_all, serial=serial, debug=debug, address=address, decide=decide, hours=budget_hours)
    share = None if shard is None else Share.of(shard)
    sweep = _load(config, overrides)
    directory = _directory_of(sweep, out)
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
    try:
        code = runner.launch(sweep, directory, screen, command=_command_line(), **how)
    except NothingFits:
        sys.exit(runner.EXIT_SOME_FAILED)
    ended = code not in (EXIT_INTERRUPTED, EXIT_RAY_GONE, EXIT_STORAGE_GONE)
    if ended and (share is None or has_records(directory)):  # a share may have no trial
        _print_summary(directory, screen)
    sys.exit(code)


@main.command(epilog=examples("sweep status runs/demo"))
@click.argument("directory", metavar="DIR", type=RUN)
def status(directory: Path) -> None:
    """Show how far a run is, also while it runs."""
    from analysis.frames.log import read_records
    from sweep.progress import Progress, left_out_lines
    from sweep.run.directory import is_live, is_starting, live_shares
    from sweep.run.requests import asked_line
    from sweep.run.screen import say, table
    from sweep.storage.asked import brought
    from trainers.fields import plural

    bring_run(directory, new=False)
    brought(directory)
    if is_starting(directory):
        echo("a launch is starting: its trials are being planned, or Ray starts; none has begun yet")
        return
    progress = Progress.of(read_records(directory))
    shares = live_shares(directory)
    live = shares or is_live(directory)
    screen = console()
    running = f"running: {plural(len(shares), 'share')}" if shares else "running" if live else "no launch is running"
    screen.print(running, highlight=False)
    screen.print(table(progress, live))
    for line in [asked_line(directory), *left_out_lines(progress.left_out())]:
        if line:
            say(screen, line)


@main.command(
    epilog=examples(
        "sweep export runs/demo 3f2a --torch               # 3f2a....pt, and a script",
        "sweep export runs/demo 3f2a --robustbench --weights best --out model",
    )
)
@directory_argument
@click.argument("trial_id", type=TRIAL)
@click.option("--torch", "plain", is_flag=True, help="A state dict, and a short script that loads it.")
@click.option("--robustbench", is_flag=True, help="A folder: the same, a model card, the JSON of RobustBench's form.")
@click.option("--weights", type=click.Choice(("last", "best")), default="last", help="[default: last]")
@click.option("--averaged", is_flag=True, help="The averaged weights, not the raw ones.")
@click.option("--out", type=PATH, help="File, or folder, to write [default: named by the trial].")
def export(
    directory: Path, trial_id: str, plain: bool, robustbench: bool, weights: Any, averaged: bool, out: Path | None
) -> None:
    """Write a trained network for other programs. A beginning of its trial's id is enough."""
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
    from sweep.progress import Progress
    from sweep.run.directory import live_shares
    from sweep.run.screen import counts_line, print_whole, say
    from sweep.storage.cache import shown
    from trainers.fields import plural

    run = shown(directory)
    if others := live_shares(directory):  # whose trials are none that were left unfinished
        counts = counts_line(Progress.of(read_records(directory)), others)
        say(screen, f"{counts}; running: {plural(len(others), 'other share')}; how far they are: sweep status {run}")
        say(screen, f"results, also while they run: sweep results {run}")
        return
    print_whole(screen, summary(read_log(directory)))
    screen.print(f"results: sweep results {run}\nfigures: sweep figures {run}", highlight=False)


_READING = (results, images, methods, ratio, claims, theory, figures, show, compare)
_STEERING = (set_, pause, resume, cancel, note, rerun)
for _command in (init, evaluate, *_READING, merge, *_STEERING, slurm, data, proxy, importance, completion):
    main.add_command(_command)
