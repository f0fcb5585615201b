"""The script of a sweep's job: bash, for people to read and to edit. The text is in `job.sh` and `ray_starts.sh`.

Why it is as it is, as seen on Slurm 22.05 (docs/slurm.md):

- The sweep is a child of the batch shell, which alone is told of the time limit (`--signal=B:`) and outlives the sweep
  long enough to have the job run again. `wait` of bash returns when a signal is trapped, so it waits anew.
- At scancel, a preemption and the limit itself Slurm sends SIGTERM to every process of the job, so that the shell hands
  that on to nobody. After a preemption Slurm runs the job again by itself; after scancel nobody wants it to.
- Ray's processes are steps of the job: of others, a head survives scancel. Since 22.05 `srun` takes no CPUs from the
  job's --cpus-per-task, and would bind Ray to one core. Ray itself counts the machine's cores, whatever the job has.
- The last job of an array has the array's own number for SLURM_JOB_ID, by which `scontrol` would mean all of them.
- A job that ends in the same place each time would be run again for ever, so it is only where an epoch was recorded.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from sweep.slurm.request import Request
from trainers.blanked import command_line
from trainers.errors import UserError
from trainers.fields import plural

#: Shared memory of a Ray, bytes: `sweep.run.cluster.OBJECT_STORE`, which takes Ray's seconds to import.
OBJECT_STORE = 100 * 2**20

#: Jobs of an array whose trials are counted one by one.
_NAMED = 16

#: Where no time limit was asked for; sbatch passes by what begins so.
_NO_TIME = "##SBATCH --time=4:00:00      # none was given: the partition's holds; with less a job may start sooner"

_RAY_ENDS = """\
kill -USR1 "${steps[@]}" 2> /dev/null       # which srun hands on; by SIGTERM it would kill at once, and leave folders
wait "${steps[@]}" 2> /dev/null
"""


def script(
    request: Request,
    launch: Sequence[str],
    directory: Path,
    left: int,
    command: Sequence[str],
    shares: Sequence[int] = (),
) -> str:
    """The text of a job's script.

    Args:
        request: what is asked of Slurm, checked.
        launch: the words of the launch, the first of them Python.
        directory: of the run.
        left: trials to run.
        command: what was typed, which the script tells.
        shares: how many of the trials each job of an array has.

    Raises:
        UserError: a path or another word has a character that cannot be seen.
    """
    out, ray = str(directory.absolute()), request.nodes > 1
    for word in (*launch, *command, out):
        if not word.isprintable():
            raise UserError(f"{word!a}: has a character that cannot be seen in a job's script; give it another name")
    what = f"{plural(left, 'trial')} left to run, as {_shape(request, shares)}"
    values = {
        "summary": f"The sweep {request.name} on Slurm: {what}.",
        "command": command_line(command),
        "options": "\n".join([*(f"#SBATCH {line}" for line in request.lines()), *([] if request.time else [_NO_TIME])]),
        "before": str(request.stop_before),
        "out": shlex.quote(out),
        "records": f"records.${{SLURM_ARRAY_TASK_ID}}of{request.array}.jsonl" if request.array else "records.jsonl",
        "launch": _launch(launch, out, request.array),
        "job": "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if request.array else "$SLURM_JOB_ID",
        "ray_starts": _filled(_text("ray_starts"), _ray_values(request, launch[0])) if ray else "",
        "ray_ends": _RAY_ENDS if ray else "",
    }
    return _filled(_text("job"), values)


def _text(name: str) -> str:
    return Path(__file__).with_name(f"{name}.sh").read_text(encoding="utf-8")


def _filled(text: str, values: dict[str, str]) -> str:
    """The text with each @name@ in it replaced, once: a value that looks like one stays."""
    return re.sub(f"@({'|'.join(values)})@", lambda name: values[name[1]], text)


def _ray_values(request: Request, python: str) -> dict[str, str]:
    # With Ray's extra `client` a head starts its server too, at one port for all; without, it refuses this option.
    client = " --ray-client-server-port=$((port + 1))" if importlib.util.find_spec("grpc") else ""
    values = {"cpus": str(request.cpus), "store": str(OBJECT_STORE), "client": client}
    return {"python": shlex.quote(python), **values}


def _shape(request: Request, shares: Sequence[int]) -> str:
    if request.array:
        return f"an array of {plural(request.array, 'job')}, with {_each(shares)} each"
    return f"one job of {plural(request.nodes, 'node')}"


def _each(shares: Sequence[int]) -> str:
    """How many trials the jobs have, in words; that none has any is known as well."""
    if len(shares) <= _NAMED:
        return f"{', '.join(map(str, shares))} of them"
    return f"{min(shares)} to {max(shares)} of them"


def _launch(launch: Sequence[str], out: str, array: int | None) -> str:
    """The words as a list of bash's, an option and its value to a line."""
    words, at = [_word(word, out) for word in launch], launch.index("launch")
    lines = [*words[:at], *(" ".join(words[i : i + 2]) for i in range(at, len(words), 2))]
    if array:
        lines.append(f'--shard "$SLURM_ARRAY_TASK_ID/{array}"')
    return "\n".join(["launch=(", *(f"    {line}" for line in lines), ")"])


def _word(word: str, out: str) -> str:
    """One of bash's, in which the run directory is `$out`."""
    if word == out:
        return '"$out"'
    return f'"$out"/{shlex.quote(word.removeprefix(f"{out}/"))}' if word.startswith(f"{out}/") else shlex.quote(word)
