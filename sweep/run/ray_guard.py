"""A small process that outlives a launch which is killed, ends what that leaves of its local Ray, and then itself.

Ray's own processes end with the launch, but its agents look for them a minute longer, and its folder stays. This file
is run as it stands, without this package: `python ray_guard.py FOLDER`, with a pipe that ends when the launch does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Held while the launch of a folder lives; a folder in which nobody holds it is left over.
LOCK = "in-use"

#: How long what was told to end is looked for, s, and how often.
_LOOKS, _PAUSE = 20, 0.5


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """A block after which, and also after a `kill -9` in it, the folder and the processes that write to it are gone.

    Args:
        folder: of a local Ray that is started in this block; what trials start writes to it too, if nowhere else.
    """
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what kills our group or session does not reach it
        cwd="/",
    )
    try:
        with _locked(folder):
            yield
    finally:
        guard.kill()
        guard.communicate()
        end_writers(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / f"{LOCK}.new").open("w") as file:
        with suppress(OSError):  # without flock, as on Lustre: nobody takes it for left over
            fcntl.flock(file, fcntl.LOCK_EX)
        (folder / f"{LOCK}.new").rename(folder / LOCK)  # only now, so that nobody ever sees it free
        yield


def remove_left_over(base: Path, names: str) -> None:
    """Removes folders of ours whose launches were killed together with their guards.

    Args:
        base: where such folders are made.
        names: a pattern of theirs.
    """
    for folder in base.glob(names):
        with suppress(OSError):  # another's, or one that is just being removed
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            with (folder / LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def end_writers(folder: Path) -> bool:
    """Kills other processes that have a file of the folder open for writing; whether there were any.

    By their environment they could not be known: who sets the title of its process, as Ray does, overwrites it. Where
    the system does not tell, there are none.
    """
    writers = [int(process.name) for process in Path("/proc").glob("[0-9]*") if _writes(process, f"{folder}/")]
    for writer in {*writers} - {os.getpid()}:
        with suppress(OSError):
            os.kill(writer, signal.SIGKILL)
    return bool(writers)


def _writes(process: Path, beginning: str) -> bool:
    with suppress(OSError):  # another's, or one that has just ended
        for file in (process / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(file).startswith(beginning) and file.lstat().st_mode & stat.S_IWUSR:
                    return True
    return False


def main() -> None:
    """Waits for the end of the pipe, which the launch never writes to."""
    folder = Path(sys.argv[1])
    sys.stdin.buffer.read()
    for _ in range(_LOOKS):  # what is being started while others are killed, or takes its time to end
        if not end_writers(folder):
            break
        time.sleep(_PAUSE)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
