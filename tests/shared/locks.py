"""Processes that hold a run directory, and processes that all want one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainers.errors import UserError

#: Holds a directory again and again for an instant, and says so by a file whose name tells of it: argv is the
#: directory, the folder of such files, the share or nothing, the seed of its pauses.
COME_AND_GO = """
import random, sys, time
from pathlib import Path
from sweep.run.directory import RunLock, is_live
from sweep.share import Share
from trainers.errors import UserError
directory, inside, share, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
random.seed(seed)
print("ready", flush=True)
sys.stdin.readline()
held = 0
for turn in range(10):
    try:
        with RunLock(directory, share=Share.of(share) if share else None):
            mark = inside / f"{share.replace('/', 'of') or 'all'}-{seed}"
            mark.touch()
            time.sleep(random.random() / 100)
            others = {path.name.partition("-")[0] for path in inside.iterdir() if path != mark}
            assert is_live(directory), "a held directory is not live"
            bad = [one for one in others if not share or one == "all" or one == mark.name.partition("-")[0]
                   or one.partition("of")[2] != share.partition("/")[2]]
            assert not bad, f"{mark.name} beside {bad}"
            mark.unlink()
            held += 1
    except UserError as error:
        assert "is in use by another command" in str(error), error
    time.sleep(random.random() / 100)
print(held)
"""


def without_flock(file: object, operation: int) -> None:
    """In place of `fcntl.flock`: what Lustre answers that is mounted without it."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def elsewhere() -> str:
    """In place of `trainers.machine.machine`."""
    return "elsewhere"


@contextmanager
def holding(directory: Path, share: str = "", code: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the directory until the block ends."""
    body = f"""
import sys
from pathlib import Path
{code}
from sweep.run.directory import RunLock
from sweep.share import Share
with RunLock(Path(sys.argv[1]), share=Share.of({share!r}) if {share!r} else None):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", body, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def refusal(take: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        take()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def come_and_go(tmp_path: Path, code: str = "") -> list[int]:
    """How often each of several processes held a directory that they all want."""
    (tmp_path / "inside").mkdir()
    shares = ["", "", "1/2", "1/2", "2/2", "1/3"]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                code + COME_AND_GO,
                str(tmp_path / "run"),
                str(tmp_path / "inside"),
                share,
                str(seed),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, share in enumerate(shares)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        print(file=process.stdin, flush=True)
    answers = [process.communicate(timeout=120) for process in processes]
    if wrong := [err for _, err in answers if err]:
        pytest.fail("\n".join(wrong))  # an assertion of this file, which pytest does not rewrite, would not show them
    return [int(out) for out, _ in answers]
