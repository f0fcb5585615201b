"""What a sweep asks of Slurm, and whether its trials' `resources` agree with that.

Slurm's words: a job has nodes; a task is what runs on one of them, here one Ray with its trials; an array is several
jobs of one script. [Slurm 22.05, sbatch(1)]
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sweep.config import ResourcesConfig, SweepConfig
from sweep.plan.room import per_card
from trainers.errors import UserError
from trainers.fields import plural

#: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds.
_TIME = re.compile(
    r"(?:(?P<days>\d{1,5})-)?(?P<first>\d{1,7})(?::(?P<second>\d{1,2}))?(?::(?P<third>\d{1,2}))?", re.ASCII
)

#: What a line #SBATCH takes as it stands, one word without quotes, comments or escapes.
_WORD = re.compile(r"[\w.,:=+&|/@%*()\[\]~^-]+", re.ASCII)

#: GPUs as --gres has them: of a type, such as a100, 3g.20gb or tesla-v100, or any; how many, or one. [sbatch(1)]
_GPUS = re.compile(r"gpu(:\w[\w.-]*)?(:\d{1,4})?", re.ASCII)

#: How much sooner than asked for Slurm may send the signal, s. [sbatch(1), --signal]
SOONER = 60

#: Options of sbatch that a script has by itself, each with the option of `sweep slurm` that sets it, if any does.
_OURS = {
    **dict.fromkeys(("--nodes", "-N"), "--nodes"),
    **dict.fromkeys(("--array", "-a"), "--array"),
    **dict.fromkeys(("--time", "-t"), "--time"),
    **dict.fromkeys(("--partition", "-p"), "--partition"),
    **dict.fromkeys(("--account", "-A"), "--account"),
    **dict.fromkeys(("--cpus-per-task", "-c"), "--cpus-per-task"),
    **dict.fromkeys(("--gpus-per-task", "--gpus-per-node", "--gpus", "-G"), "--gpus-per-task"),
    "--gres": "--gres",
    "--signal": "--stop-before",
    **dict.fromkeys(("--ntasks", "-n", "--ntasks-per-node", "--wrap", "--requeue", "--no-requeue", "--open-mode"), ""),
}


@dataclass(frozen=True)
class Request:
    """What is asked of Slurm for a job, or for each job of an array."""

    name: str
    """Of the sweep and the job, of letters, digits, `.`, `_` and `-`."""
    cpus: int
    """Of a task."""
    gpus: int = 0
    """Of a task."""
    nodes: int = 1
    array: int | None = None
    """Jobs that share the trials out; None: one job has them all."""
    gres: str | None = None
    """The GPUs as --gres says it, in place of --gpus-per-task."""
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    stop_before: int = 60
    """How long before its time limit a job is told to stop, s."""
    more: tuple[str, ...] = ()
    """Further options of sbatch, as they are typed."""

    def lines(self) -> list[str]:
        """Options of sbatch that say this."""
        gpus = f"--gres={self.gres}" if self.gres else f"--gpus-per-task={self.gpus}" if self.gpus else None
        given = {"partition": self.partition, "account": self.account, "time": self.time}
        return [
            f"--job-name={self.name}",
            *([f"--array=1-{self.array}"] if self.array else []),
            f"--nodes={self.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={self.cpus}",
            *([gpus] if gpus else []),
            *(f"--{option}={value}" for option, value in given.items() if value),
            f"--output={self.name}-{'%A_%a' if self.array else '%j'}.out",
            *self.more,
        ]


def check_words(request: Request) -> None:
    """Every text of the request can stand in a script as it is, and the time limit leaves time to run.

    Raises:
        UserError: names the option.
    """
    texts = {name: getattr(request, name) for name in ("time", "partition", "account", "gres")}
    for option, text in [*texts.items(), *(("sbatch", text) for text in request.more)]:
        if text is not None and not _WORD.fullmatch(text):
            raise UserError(
                f"--{option} {text!a}: must be one word as sbatch takes it, of letters, digits and signs without "
                "spaces, quotes or #; write what needs others into the script"
            )
    for text in request.more:
        option = text.partition("=")[0] if text.startswith("--") else text[:2]
        if not text.startswith("-"):
            raise UserError(f"--sbatch {text}: must be an option of sbatch, such as --sbatch=--mem=32G")
        if option in _OURS:
            what = f"give {_OURS[option]}" if _OURS[option] else "edit the script where it needs another"
            raise UserError(f"--sbatch {text}: the script has {option.replace('--no-', '--')} by itself; {what}")
    if request.gres is not None and not _GPUS.fullmatch(request.gres):
        raise UserError(
            f"--gres {request.gres}: must be GPUs, such as gpu:2 or gpu:a100:2; other kinds are added in the script"
        )
    _check_time(request)


def _check_time(request: Request) -> None:
    if request.time is None or request.time.lower() in ("unlimited", "infinite"):
        return
    if (seconds := _seconds(request.time)) is None:
        raise UserError(
            f"--time {request.time}: must be minutes, hours:minutes:seconds, days-hours or another form of sbatch's, "
            "such as 90 or 1-12:00:00"
        )
    if seconds <= request.stop_before + SOONER:
        raise UserError(
            f"--time {request.time}: is {seconds} s, and the job stops {request.stop_before} s before its end, or "
            f"{SOONER} s sooner, as Slurm will; give more time, or a lower --stop-before"
        )


def _seconds(text: str) -> int | None:
    """Of a time limit as sbatch reads it: `90` is minutes, `1-12` a day and 12 hours."""
    if (parts := _TIME.fullmatch(text)) is None:
        return None
    days, *rest = (None if part is None else int(part) for part in parts.groups())
    first, second, third = (part or 0 for part in rest)
    if days is None and rest[2] is None:
        return first * 60 + second
    return (days or 0) * 86400 + first * 3600 + second * 60 + third


def gpus_of(gres: str) -> int:
    """How many GPUs a node is asked for by --gres: gpu, gpu:2, gpu:a100, gpu:a100:2.

    >>> [gpus_of(text) for text in ("gpu", "gpu:2", "gpu:a100", "gpu:a100:2")]
    [1, 2, 1, 2]
    """
    last = gres.rpartition(":")[2]
    return int(last) if last.isdecimal() else 1


def amounts(config: SweepConfig, nodes: int, cpus: int | None, gpus: int | None) -> tuple[int, int]:
    """CPUs and GPUs of a task: as given, else what the trials take that run side by side on a node.

    Those are `max_concurrent` over the nodes; without it, as many as the GPUs hold, or one. The workers of a trial may
    be on several nodes of a job, whose Ray is one.
    """
    resources = config.resources
    each = per_card(resources.most_gpu) if resources.gpu else 0
    if config.max_concurrent:
        processes = _each(config.max_concurrent, config, nodes)
    else:
        one = _each(1, config, nodes)
        processes = (gpus or one) * each or one
    if gpus is None:
        gpus = 1 if resources.by_memory else math.ceil(processes / each) if each else 0
    return math.ceil(processes * resources.cpu) if cpus is None else cpus, gpus


def _each(trials: int, config: SweepConfig, nodes: int) -> int:
    """How many processes each node runs of so many trials at once."""
    return math.ceil(math.ceil(trials * config.resources.workers / nodes) / config.resources.trials_per_process)


def agreement(request: Request, config: SweepConfig) -> list[str]:
    """Holds what is asked of Slurm against what a trial takes.

    Returns:
        A line for each thing that is asked for and that no trial can use.

    Raises:
        UserError: a trial takes what the job does not have, or the job has GPUs that no trial takes.
    """
    resources = config.resources
    asked = f"--gres {request.gres}" if request.gres else f"--gpus-per-task {request.gpus}"
    if resources.gpu and not request.gpus:
        raise UserError(
            f"{asked}: a trial takes {resources.gpu} GPU (resources.gpu); ask for some, or --set resources.gpu=0"
        )
    if request.gpus and not resources.gpu:
        raise UserError(
            f"{asked}: trials take no GPU (resources.gpu is 0), and the job's would idle; --set resources.gpu=1, or "
            "ask for none"
        )
    if request.cpus < resources.cpu:
        raise UserError(
            f"--cpus-per-task {request.cpus}: a trial takes {resources.cpu:g} CPU (resources.cpu); ask for more, or "
            f"--set resources.cpu={request.cpus}"
        )
    _check_workers(request, resources, asked)
    return _idle(request, config, asked)


def _check_workers(request: Request, resources: ResourcesConfig, asked: str) -> None:
    """The nodes of a job have room for all workers of a trial together."""
    bounds = {f"--cpus-per-task {request.cpus}": math.floor(request.cpus / resources.cpu + 1e-9)}
    if resources.gpu:
        bounds[asked] = request.gpus * per_card(resources.most_gpu)
    option, each = min(bounds.items(), key=lambda bound: bound[1])
    if (places := each * request.nodes) < resources.workers:
        raise UserError(
            f"{option}: a trial asks for {resources.needed}, and a job of {plural(request.nodes, 'node')} holds "
            f"{places} of them; ask for more, or --set resources.workers={places}"
        )


def _idle(request: Request, config: SweepConfig, asked: str) -> list[str]:
    resources = config.resources
    bounds = {f"resources.cpu is {resources.cpu:g}": request.cpus / resources.cpu}
    by_card = resources.gpu and not resources.by_memory
    if by_card:
        share = resources.gpu if resources.gpu == "auto" else f"{resources.gpu:g}"
        bounds[f"resources.gpu is {share}"] = request.gpus * per_card(resources.most_gpu)
    if config.max_concurrent:
        bounds[f"max_concurrent is {config.max_concurrent}"] = _each(config.max_concurrent, config, request.nodes)
    fit = math.floor(min(bounds.values()) + 1e-9) * request.nodes // resources.workers
    bounds[f"resources.workers is {resources.workers}"] = math.ceil(fit * resources.workers / request.nodes)
    why, most = min(bounds.items(), key=lambda bound: math.floor(bound[1] + 1e-9))
    processes = math.floor(most + 1e-9)
    used = {f"--cpus-per-task {request.cpus}": (request.cpus, processes * resources.cpu, "CPU")}
    if by_card:
        used[asked] = (request.gpus, processes / per_card(resources.most_gpu), "GPU")
    return [
        f"{option}: trials use {math.ceil(taken - 1e-9)} of them at a time, for {why}"
        for option, (amount, taken, kind) in used.items()
        if math.ceil(taken - 1e-9) < amount
    ]
