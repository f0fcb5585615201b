"""A real Slurm of two hosts on this machine, for tests: `slurm_hosts.sh` makes it, and says how.

    with slurm_hosts() as slurm:
        job = slurm.submit("job.sh")
        slurm.until(job, "RUNNING")

It skips the test with one line where there is no Slurm, no munge, no root or no right to make namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_UP = Path(__file__).with_suffix(".sh")

_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey", "unshare", "nsenter", "setpriv", "ip")

#: Seconds after which everything ends, whatever becomes of the tests.
LIFE = 900

#: States of a job that runs no more, and will not by itself.
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")

PATIENCE = 240.0  # s, on a machine that is busy with other things


class Slurm:
    """One that is up; commands run on its host `login`, which runs no jobs."""

    def __init__(self, login: int, folder: Path) -> None:
        """Of the process by which that host can be entered, and with its files in that folder."""
        self._login, self._folder = login, folder

    def run(self, *words: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """What a command of Slurm's, or any other, says on that host.

        Args:
            words: of the command.
            folder: where it runs; None: where the tests do.
        """
        enter = ["nsenter", "--target", str(self._login), "--net", "--uts", "--mount", "env"]
        here = [f"--chdir={folder or Path.cwd()}", f"SLURM_CONF={self._folder / 'slurm.conf'}"]
        return subprocess.run([*enter, *here, *words], capture_output=True, text=True, check=False)

    def __call__(self, *words: str | Path, folder: Path | None = None) -> str:
        """The same, of one that must do well."""
        done = self.run(*words, folder=folder)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *words: str | Path, folder: Path | None = None) -> str:
        """The id of a new job, of these words for sbatch."""
        return self("sbatch", "--parsable", *words, folder=folder)

    def shown(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job, or of a task of an array: JobState, Restarts, BatchHost, ..."""
        words = self("scontrol", "--oneliner", "show", "job", job).splitlines()[-1].split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def until(self, job: str, *states: str) -> None:
        """Returns once the job is in one of these states."""
        self.wait(job, lambda: self.shown(job)["JobState"] in states, " or ".join(states))

    def wait(self, job: str, true: Callable[[], object], what: str) -> None:
        """Returns once it is true; fails, with what the job printed, once that has ended, and after `PATIENCE`."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            shown = self.shown(job)
            ended = shown["JobState"] in ENDED and not true()
            if ended or time.monotonic() > deadline:
                printed = Path(shown["StdOut"])
                raise AssertionError(f"{what}: {shown}\n{printed.read_text() if printed.exists() else ''}")
            time.sleep(0.1)

    def at_once(self, job: str) -> None:
        """Has a job start that runs again: Slurm would wait two minutes.

        Within the same second it would fail, one time in eight: the end of its first run counts as that of the second.
        """
        self.until(job, "PENDING")
        time.sleep(1.1)
        self("scontrol", "update", f"JobId={job}", "StartTime=now")


@contextmanager
def slurm_hosts(hosts: int = 2) -> Iterator[Slurm]:
    """A Slurm for a block: hosts n1, n2, ... of two CPUs each, and partitions low, kind and high."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("a real Slurm needs Linux and root")
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    if missing := [name for name in _PROGRAMS if not shutil.which(name, path=path)]:
        pytest.skip(f"a real Slurm needs {', '.join(missing)}: apt-get install slurm-wlm munge util-linux iproute2")
    script = subprocess.Popen(
        ["bash", str(_UP), str(hosts), str(LIFE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # what ends the tests lets it end its hosts
        env={**os.environ, "PATH": path},
    )
    assert script.stdin is not None
    assert script.stdout is not None
    with script:
        said = script.stdout.readline()
        if not said.startswith("ready "):
            pytest.skip(f"no real Slurm here: {said.strip()} {script.stdout.read().strip()}")
        try:
            yield Slurm(int(said.split()[1]), Path(said.split()[2]))
        finally:
            script.stdin.close()
            script.wait(PATIENCE)
