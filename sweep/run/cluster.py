"""A Ray to run on: a cluster that is up, or a local one started for a block, and in one line why there is none."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray._private.node import Node
from ray._private.services import ConsolePopen
from ray.job_config import JobConfig
from rich.console import Console

from sweep.plan.room import cores
from sweep.run.ray_guard import guarded, remove_left_over
from sweep.run.screen import say
from sweep.run.signals import signals_kept
from trainers.blanked import blanked
from trainers.errors import UserError

#: What Ray reads from the environment: no boxes, loggers, state files or signal handler of its own, no phoning home, no
#: questions to the cluster every 10 s, in which Tune would wait for one that has gone;
#: and, on a local Ray, trials as important as their launch, for at Ray's niceness of 15 they starve beside others.
ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_STATE_REFRESH_PERIOD": "1000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}

#: Read by Ray while it looks for a cluster: how often it asks. Where somebody listens who is no Ray, or whose Ray has
#: gone, once takes 40 s, and its own 20 times a quarter of an hour.
_LOOKING = "RAY_gcs_server_port_wait_time_s"

#: Shared memory of a local Ray, bytes. Trials and their messages are some kB; Ray itself would take 30 % of the memory,
#: and refuse to start where /dev/shm has less. It takes no less than 75 MiB.
OBJECT_STORE = 100 * 2**20

#: What of a local Ray nobody asks for, by what starts it.
_NOT_STARTED = ("start_api_server", "start_monitor", "start_log_monitor")

#: Bytes of the longest path that Ray makes a socket of in its folder: `r/session_TIME_PID/sockets/plasma_store`.
_SOCKET = len("/ray-01234567/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")

#: Bytes of the longest path of a socket: 107 on Linux, 103 on macOS.
_LONGEST = 103

#: Where a local Ray may put its sockets and logs, the first that will do; the first two are variables.
_FOLDERS = ("RAY_TMPDIR", "TMPDIR", "/tmp", "/var/tmp", "/dev/shm")

#: Characters of an error of Ray's that are shown; the whole is in the log.
_SHOWN = 300

_STARTING = "starting a local Ray, some seconds"

#: The folder that holds this package.
_OURS = Path(__file__).parents[2]

WITHOUT = "--serial runs without Ray"

#: What can be done where a cluster does not answer.
INSTEAD = f"leave --address out for a local one; {WITHOUT}"

#: How long Ray may take to end, s; one that answers takes 1 to 2, one whose gcs_server has gone 7.
ENDING = 15.0


@contextmanager
def connected(address: str | None, console: Console, logs: Path | None, instead: str = INSTEAD) -> Iterator[None]:
    """A Ray for this block: the cluster at `address`, or a local one; one that is up or comes up is used, and stays.

    Args:
        address: `auto` or HOST:PORT; None: a local Ray.
        console: is told that a Ray is being started or looked for, which takes some seconds.
        logs: folder, made if need be, in which `ray.log` says in full why no Ray came up; None: nowhere.
        instead: what can be done without that cluster, in words.

    Raises:
        UserError: nothing answers at the address, or no Ray starts here.
    """
    os.environ.update(ENVIRONMENT)
    if (coming := _Ahead.coming) is not None:
        coming.await_it(console)
    if coming is not None or ray.is_initialized():
        yield
        return
    with _cluster(address, console, logs, instead) if address is not None else local(console, logs):
        yield


@contextmanager
def local(console: Console, logs: Path | None, cpus: int | None = None) -> Iterator[None]:
    """A Ray on this machine for this block, with a folder and a token of its own: nothing is written to HOME.

    Args:
        console: see `connected`.
        logs: see `connected`.
        cpus: how many it takes for its own; None: all that are ours.

    Raises:
        UserError: it does not start, and not at a second try.
    """
    say(console, _STARTING)
    with _local(console, logs, cpus):
        yield


@contextmanager
def _local(
    console: Console, logs: Path | None, cpus: int | None = None, over: threading.Event | None = None
) -> Iterator[None]:
    # One a process: Ray keeps the token that it read first.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.update(ENVIRONMENT)
    with _short_folder() as folder, guarded(folder):
        try:
            _start(folder, console, logs, cpus, over)
            yield
        finally:
            _shut_down()


@contextmanager
def ahead(console: Console, logs: Path | None) -> Iterator[None]:
    """A block beside whose first part a local Ray comes up, for `connected` in it; where one is up, that is used.

    To start one takes two seconds and hardly any work of this process, in which it may plan.

    Args:
        console: see `connected`.
        logs: see `connected`.
    """
    if _Ahead.coming is not None or ray.is_initialized():
        yield
        return
    coming = _Ahead(console, logs)
    try:
        coming.begin()
        yield
    finally:
        coming.end()


class _Ahead:
    """A local Ray in a thread of its own, which lives as long: Ray's processes end with who started them."""

    coming: ClassVar[_Ahead | None] = None
    """The one that is up, or coming up."""

    def __init__(self, console: Console, logs: Path | None) -> None:
        self._up, self._over = Future[None](), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(console, logs), name="ray-ahead", daemon=True)

    def begin(self) -> None:
        """Has it come up, and does not wait for it."""
        _Ahead.coming = self
        self._thread.start()

    def _run(self, console: Console, logs: Path | None) -> None:
        try:
            with _local(console, logs, over=self._over):
                self._up.set_result(None)
                self._over.wait()
        except BaseException as error:  # for who waits
            if not self._up.done():
                self._up.set_exception(error)

    def await_it(self, console: Console) -> None:
        """Waits until it is up; says so where it is not.

        Raises:
            UserError: it does not come up; who asks next finds none that is coming.
        """
        if not self._up.done():
            say(console, _STARTING)
        try:
            self._up.result()
        except UserError:
            _Ahead.coming = None
            raise

    def end(self) -> None:
        """Tells the thread to end it, and waits; `ray_guard` ends what is then still there, once this process ends."""
        _Ahead.coming = None
        self._over.set()
        if self._thread.ident is not None:
            with silenced():
                self._thread.join(ENDING)


def _shut_down() -> None:
    """Lets go of Ray, and ends a local one; it does not wait for one that has gone and answers no more."""
    ending = threading.Thread(target=ray.shutdown, kwargs={"wait_for_processes": True}, name="ray-end", daemon=True)
    with silenced() if _is_main() else nullcontext():
        ending.start()
        ending.join(ENDING)


@contextmanager
def silenced() -> Iterator[None]:
    """A block in which what Ray's threads print of a Ray that has gone, up to 20 lines of its log, is not shown."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _start(
    folder: Path, console: Console, logs: Path | None, cpus: int | None, over: threading.Event | None = None
) -> None:
    """Starts Ray; on a busy machine it may time out, so a second time if need be, unless it is `over`."""
    for again in (True, False):
        begun: list[subprocess.Popen[Any]] = []
        try:
            with signals_kept() if _is_main() else nullcontext(), _begun_apart(begun), _few_processes():
                ray.init(
                    address="local",
                    job_config=_ours_first(),
                    num_cpus=cpus or cores(),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=OBJECT_STORE,
                    _temp_dir=str(folder / "r"),  # Ray opens it to everybody, so one inside ours
                )
            return
        except BaseException as error:
            ray.shutdown()
            for process in begun:  # of a half-started Ray, which Ray itself forgets
                process.kill()
                process.wait()
            if over is not None and over.is_set():
                raise
            if not isinstance(error, Exception):
                raise
            log = _written_down(error, logs, folder)
            if not again:
                raise UserError(
                    f"Ray: does not start on this machine, tried twice: {_in_one_line(error)}{log}; "
                    f"mend that, or leave it out: {WITHOUT}"
                ) from None
            say(console, "Ray did not come up; trying once more")


@contextmanager
def _cluster(address: str, console: Console, logs: Path | None, instead: str) -> Iterator[None]:
    """Lets go of the cluster at the end of the block."""
    _check_address(address, instead)
    shown = blanked(address)
    say(console, f"connecting to the Ray cluster at {shown}")
    try:
        with signals_kept(), _looking():
            client = "ray://" in f"{address} {os.environ.get('RAY_ADDRESS', '')}"  # which sends the server no such job
            job: dict[str, Any] = {} if client else {"job_config": _ours_first()}
            ray.init(address=address, **job, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many classes, some of them bare
        ray.shutdown()
        log = _written_down(error, logs)
        raise UserError(
            f"--address {shown}: no Ray cluster lets us in: {_in_one_line(error)}{log}; a cluster that asks for a "
            f"token needs RAY_AUTH_MODE=token here; start one with `ray start --head`, or {instead}"
        ) from None
    try:
        yield
    finally:
        _shut_down()


@contextmanager
def _looking() -> Iterator[None]:
    """A block that looks for a cluster, once, and prints nothing of it: Ray's C++ writes to the file of stderr."""
    given = os.environ.get(_LOOKING)
    os.environ[_LOOKING] = given or "1"
    with open(os.devnull, "w") as nowhere:
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            if given is None:
                del os.environ[_LOOKING]


def _check_address(address: str, instead: str) -> None:
    """Somebody listens at HOST:PORT; Ray itself would ask for minutes, and print each time that it did in vain."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"--address {blanked(address)}: nothing answers: {error}; start a cluster with `ray start --head`, "
            f"or {instead}"
        ) from None


class _OursFirst(list[str]):
    """What Ray puts first on its workers' path, as its `connect` extends it: the folder that holds this package, in
    place of the working folder of who starts it, where a folder `analysis` of the user's would hide ours."""

    def extend(self, folders: Iterable[str]) -> None:
        """Takes in the folder of the program that runs, if it is on its path, and at last the working folder."""
        *others, working = folders
        super().extend([*others, str(_OURS) if working == os.path.abspath(os.curdir) else working])


def _ours_first() -> JobConfig:
    """For a Ray whose workers find this package. They start in its folder, and PYTHONPATH means the same there."""
    if path := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    job = JobConfig()
    job._py_driver_sys_path = _OursFirst()
    return job


@contextmanager
def _begun_apart(begun: list[subprocess.Popen[Any]]) -> Iterator[None]:
    """A block in which Ray's processes begin in our folder and have a process group of their own each: what signals
    ours, as `timeout` and `kill` do, stops the launch alone, which then has its trials write before it ends its Ray.

    Args:
        begun: gets those processes.
    """

    def begin(process: ConsolePopen, *words: Any, **given: Any) -> None:
        if sys.platform == "linux":  # elsewhere it is by our group that Ray ends its processes where we are killed
            given["process_group"] = 0
        known(process, *words, **{**given, "cwd": given.get("cwd") or _OURS})
        begun.append(process)

    known = ConsolePopen.__init__
    with _replaced(ConsolePopen, "__init__", begin):
        yield


def _is_main() -> bool:
    """Whether this is the main thread: in others Ray takes no signal, and what is printed is the main one's."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _few_processes() -> Iterator[None]:
    """A block in which Ray starts no dashboard, no monitor that would ask for machines and none that reads logs: here
    nobody asks for these, they take seconds of CPU, 200 MB, and outlive a launch that is killed. Ray has no setting for
    that: without its dashboard it starts that process all the same."""
    with ExitStack() as kept:
        for name in _NOT_STARTED:
            if hasattr(Node, name):  # another version of Ray may have others
                kept.enter_context(_replaced(Node, name, _nothing))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _nothing(node: Node, **given: Any) -> None:
    """In place of a process that is not started."""


@contextmanager
def _short_folder() -> Iterator[Path]:
    """A new folder, nobody else's, for Ray's sockets and logs, in which a socket's path is not too long.

    Raises:
        UserError: there is no place for one.
    """
    folder = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made() -> Path:
    refused = []
    for name in _FOLDERS:
        if not (base := name if name.startswith("/") else os.environ.get(name)):
            continue
        try:
            if len(os.fsencode(os.path.abspath(base))) + _SOCKET > _LONGEST:
                raise OSError(None, "too long a path for a socket")
            if shutil.disk_usage(base).free < OBJECT_STORE:  # where Ray keeps objects if /dev/shm has no room
                raise OSError(None, f"less than {OBJECT_STORE / 1e6:.0f} MB free")
            remove_left_over(Path(os.path.abspath(base)), "ray-????????")
            return Path(tempfile.mkdtemp(prefix="ray-", dir=os.path.abspath(base)))
        except OSError as error:
            refused.append(f"{base} ({error.strerror})")
    raise UserError(
        f"Ray: finds no place for its sockets: {', '.join(refused)}; "
        f"set TMPDIR to another folder with a short path; {WITHOUT}"
    )


def _written_down(error: Exception, logs: Path | None, folder: Path | None = None) -> str:
    """Appends the traceback, and the ends of Ray's own logs, to `ray.log`; says where that is, if it could."""
    if logs is None:
        return ""
    parts = ["".join(traceback.format_exception(error))]
    for file in sorted(folder.glob("r/session_latest/logs/*")) if folder else ():
        if file.suffix in (".err", ".out") and file.stat().st_size:
            parts.append(f"{file.name}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-20:]) + "\n")
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "ray.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(blanked("\n".join(parts)))
    except OSError:  # a full disk, perhaps the very reason
        return ""
    return f" (all of it: {logs / 'ray.log'})"


def _in_one_line(error: Exception) -> str:
    text = blanked(" ".join(str(error).split()))
    return textwrap.shorten(text, _SHOWN, placeholder=" ...") or type(error).__name__
