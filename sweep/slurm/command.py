"""The command `sweep slurm`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.options import PATH
from sweep.streams import complain, echo

if TYPE_CHECKING:
    from sweep.config import SweepConfig
    from sweep.plan.plan import Plan
    from sweep.slurm.request import Request

#: Of a submitted script, in its run directory.
SCRIPT = "job.sh"


@click.command(
    epilog=examples(
        "sweep slurm configs/ratio.yaml --time 1-00:00:00      # prints the script",
        "sweep slurm configs/ratio.yaml --nodes 4 --partition gpu --submit",
        "sweep slurm configs/ratio.yaml --array 8 --sbatch=--mem=32G --submit",
    )
)
@click.argument("config", type=PATH)
@click.option(
    "--nodes", type=click.IntRange(1, 10_000), default=1, help="Nodes of the job, with Ray on all of them [default: 1]."
)
@click.option(
    "--array", type=click.IntRange(1, 10_000), help="Number of independent jobs, each with its share of the trials."
)
@click.option("--time", help="Time limit of a job, as sbatch takes it: minutes, H:MM:SS, D-HH:MM:SS.")
@click.option("--partition", help="Partition to run in [default: the cluster's].")
@click.option("--account", help="Account that pays for the job.")
@click.option(
    "--cpus-per-task", "cpus", type=click.IntRange(min=1), help="CPU cores a node [default: what trials take]."
)
@click.option("--gpus-per-task", "gpus", type=click.IntRange(min=0), help="GPUs a node [default: what trials take].")
@click.option("--gres", help="GPUs in place of --gpus-per-task, where Slurm wants it so: gpu:2, gpu:a100:2.")
@click.option(
    "--stop-before",
    type=click.IntRange(20, 3600),
    default=60,
    help="How many seconds before its time limit a job stops, to be run again [default: 60].",
)
@click.option(
    "--sbatch",
    "more",
    multiple=True,
    metavar="OPTION",
    help="A further option for sbatch, such as --sbatch=--mem=32G. May be given several times.",
)
@click.option("--out", type=PATH, help="Folder of the run, on storage that all nodes share [default: runs/NAME].")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Give a key of the config another value, such as trial.epochs=3. May be given several times.",
)
@click.option("--follow-code", is_flag=True, help="Run code and config as they are when the job starts, not as now.")
@click.option("--submit", is_flag=True, help=f"Write the script to DIR/{SCRIPT} and submit it [default: print it].")
def slurm(
    config: Path, out: Path | None, overrides: tuple[str, ...], follow_code: bool, submit: bool, **asked: Any
) -> None:
    """Write a script that runs a sweep under Slurm, to read and edit; or submit it.

    It is one job, of one node or several, or an array of jobs that share the trials out. After its time limit or a
    preemption a job goes on where it was.
    """
    from sweep.config_file import load
    from sweep.plan.plan import earlier_records, plan
    from sweep.run.directory import refuse_other_sweep, write_whole
    from sweep.slurm.request import agreement
    from sweep.slurm.script import script
    from sweep.submitted import following
    from sweep.submitted import submit as keep
    from trainers.errors import UserError
    from trainers.fields import plural
    from trainers.provenance import code_version

    sweep = load(config, overrides)
    request = _request(sweep, **asked)
    directory = out if out is not None else Path("runs") / sweep.name
    refuse_other_sweep(directory, sweep)
    for note in agreement(request, sweep):
        complain(note)
    planned = plan(sweep, earlier_records(directory), code_version())
    if not planned.left:
        raise UserError(
            f"{directory}: no trial is left to run, of {planned.size} (sweep status {shlex.quote(str(directory))}); "
            "ask for more of them, such as more seeds, or give another --out"
        )
    shares = _shares(planned, request.array or 0)
    if shares.count(0):
        complain(f"--array {request.array}: {plural(shares.count(0), 'job')} of it will have no trial; ask for fewer")
    launch = following(config, overrides, directory) if follow_code else keep(sweep, directory)
    text = script(request, launch, directory, planned.left, ["sweep", *sys.argv[1:]], shares)
    if not submit:
        echo(text, nl=False)
        return
    write_whole(directory / SCRIPT, text)
    echo(_submitted(directory / SCRIPT))
    echo(f"is it running: squeue --me; how far: sweep status {shlex.quote(str(directory))}")


def _request(sweep: SweepConfig, **asked: Any) -> Request:
    """What is asked for, whole and checked."""
    from sweep.slurm.request import Request, amounts, check_words, gpus_of
    from trainers.errors import UserError

    if asked["array"] and asked["nodes"] > 1:
        raise UserError("--nodes: is of one job, and the jobs of an --array have a node each; leave one of the two out")
    if asked["array"] and sweep.search.name == "optuna":
        raise UserError(
            "--array: search.name is optuna, whose next point depends on all results, so that one launch runs all "
            "trials; leave --array out, or give --nodes"
        )
    if asked["array"] and (sweep.stopping is not None or sweep.race is not None):
        rule = "race" if sweep.stopping is None else f"stopping is {sweep.stopping.name}, which"
        raise UserError(
            f"--array: {rule} compares all trials, so that one launch runs them; leave --array out, or give --nodes"
        )
    if asked["gres"] is not None and asked["gpus"] is not None:
        raise UserError("--gres: says the GPUs too, so that --gpus-per-task says nothing; leave one of the two out")
    request = Request(
        sweep.name, **{name: value for name, value in asked.items() if name not in ("cpus", "gpus")}, cpus=0
    )
    check_words(request)
    gpus = gpus_of(request.gres) if request.gres else asked["gpus"]
    cpus, gpus = amounts(sweep, request.nodes, asked["cpus"], gpus)
    return replace(request, cpus=cpus, gpus=gpus)


def _shares(planned: Plan, count: int) -> list[int]:
    """How many of the trials that are left each of so many shares has."""
    from sweep.share import Share

    trials = planned.progress.trials
    over = {name for name, trial in trials.items() if trial.finished or trial.left_out}
    every = (trial.id for trial in planned.search.known()) if count else ()
    left = Counter(Share.that_has(name, count) for name in every if name not in over)
    return [left[Share(index, count)] for index in range(1, count + 1)]


def _submitted(script: Path) -> str:
    """What sbatch answers.

    Raises:
        UserError: there is none, or it refuses the script.
    """
    from trainers.errors import UserError

    at = shlex.quote(str(script))
    try:
        done = subprocess.run(["sbatch", str(script)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("--submit: there is no sbatch here; on a node that has one: sbatch " + at) from None
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"])[-1]
        raise UserError(f"--submit: {why}; mend that, here or in the script, and: sbatch {at}")
    return (done.stdout + done.stderr).strip()
