"""How a Ray is started, and what is said where none is: the errors are those that Ray raises."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray._private.services import ConsolePopen
from rich.console import Console

import analysis
import sweep
import trainers
from analysis.frames.trials import load_trials
from sweep.run import cluster
from sweep.run.cluster import ENVIRONMENT, connected
from sweep.run.signals import Interrupted, Interrupts
from trainers.errors import UserError

#: What Ray 2.60 raised at its start: on a busy machine, of a socket, of a full disk, without file descriptors.
RAISED = [
    Exception("The current node timed out during startup. This could happen because some of the raylet failed to "),
    OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /tmp/long"),
    OSError(28, "No space left on device", "/tmp/ray-1/r"),
    RuntimeError("Timed out waiting for file /tmp/ray/session_1/gcs_server_port_1"),
    ray.exceptions.RaySystemError("System error: Broken pipe"),
    ValueError("The configured object store size (20 GB) exceeds /dev/shm size (1 GB).\nThis will harm performance."),
]


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Lets `ray.init` do what it is told, call by call; gives how it was called."""

    def script(*does: Callable[[], None]) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def init(**options: Any) -> None:
            calls.append({**options, "cwd": os.getcwd(), "path": os.environ.get("PYTHONPATH")})
            does[len(calls) - 1]()

        monkeypatch.setattr(ray, "init", init)
        monkeypatch.setattr(ray, "shutdown", lambda **options: None)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        return calls

    return script


def raising(error: BaseException) -> Callable[[], None]:
    def does() -> None:
        raise error

    return does


def nothing() -> None:
    """A Ray that is up at once."""


def refused(address: str | None, logs: Path) -> tuple[str, str]:
    """The error's text, and what was printed before."""
    text = io.StringIO()
    with pytest.raises(UserError) as caught, connected(address, Console(file=text, width=200), logs):
        raise AssertionError("there is no Ray")
    assert "\n" not in str(caught.value)
    return str(caught.value), text.getvalue()


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_ray_that_does_not_start_is_one_line_with_the_way_out_and_the_rest_in_a_log(
    error: Exception, without_ray: Any, tmp_path: Path
) -> None:
    without_ray(raising(error), raising(error))
    answer, said = refused(None, tmp_path / "logs")
    log = tmp_path / "logs" / "ray.log"
    assert answer == (
        f"Ray: does not start on this machine, tried twice: {' '.join(str(error).split())} (all of it: {log}); "
        "mend that, or leave it out: --serial runs without Ray"
    )
    assert said == "starting a local Ray, some seconds\nRay did not come up; trying once more\n"
    assert log.read_text().count("Traceback") == 2


def test_a_ray_that_comes_up_at_the_second_try_is_used(without_ray: Any, tmp_path: Path) -> None:
    calls, text = without_ray(raising(RAISED[0]), nothing), io.StringIO()
    with connected(None, Console(file=text), tmp_path):
        assert len(calls) == 2
    assert "trying once more" in text.getvalue()


def test_a_log_that_cannot_be_written_is_not_named(without_ray: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    without_ray(*[raising(RAISED[0])] * 2)
    answer = refused(None, tmp_path / "file" / "logs")[0]
    assert "all of it" not in answer
    assert answer.endswith("; mend that, or leave it out: --serial runs without Ray")


def test_an_error_of_many_lines_is_cut(without_ray: Any, tmp_path: Path) -> None:
    without_ray(*[raising(Exception("word\n" * 1000))] * 2)
    assert len(refused(None, tmp_path)[0]) < 700


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
        RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.12.1\nThis process"
        ),
        Exception("something bare"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_cluster_that_lets_nobody_in_is_one_line_with_all_that_it_said(
    error: Exception, without_ray: Any, tmp_path: Path
) -> None:
    calls = without_ray(raising(error))
    answer, said = refused("auto", tmp_path)
    assert answer.startswith(f"--address auto: no Ray cluster lets us in: {' '.join(str(error).split())} (all of it: ")
    assert answer.endswith("or leave --address out for a local one; --serial runs without Ray")
    assert (len(calls), said) == (1, "connecting to the Ray cluster at auto\n")


@pytest.mark.parametrize("given", [None, "7"])
def test_a_cluster_is_looked_for_once_unless_told_otherwise_and_ray_s_own_messages_are_not_shown(
    given: str | None,
    without_ray: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name, asked = "RAY_gcs_server_port_wait_time_s", []
    monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(name, given)

    def looks() -> None:
        asked.append(os.environ[name])
        os.write(2, b"rpc_client.h:153: Failed to connect to GCS\n")  # as its C++ does
        raise ConnectionError("Failed to connect to Ray cluster")

    without_ray(looks)
    refused("auto", tmp_path)
    print("after it", file=sys.stderr)
    assert (asked, os.environ.get(name)) == ([given or "1"], given)
    assert capfd.readouterr().err == "after it\n"


def test_an_address_where_nobody_listens_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            UserError, match=rf"^--address {address}: nothing answers: .*; start a cluster with .*, or start none$"
        ):
            cluster._check_address(address, "start none")


@pytest.mark.parametrize("address", ["auto", "local"])
def test_an_address_that_ray_has_to_find_is_left_to_ray(address: str) -> None:
    assert cluster._check_address(address, "start none") is None


# The folder of a local Ray


def folders(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(cluster, "_FOLDERS", names)


def test_a_local_ray_has_a_folder_of_its_own_that_goes_with_it(without_ray: Any, tmp_path: Path) -> None:
    calls = without_ray(nothing)
    with connected(None, Console(file=io.StringIO()), tmp_path):
        folder = Path(calls[0]["_temp_dir"]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_temporary_folder_whose_path_is_too_long_for_a_socket_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    folders(monkeypatch, "TMPDIR", "/tmp")
    with cluster._short_folder() as folder:
        assert folder.parent == Path("/tmp")


def test_the_longest_folder_that_is_taken_has_room_for_ray_s_longest_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = "/" + "x" * (cluster._LONGEST - cluster._SOCKET - 1)
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda path: type("", (), {"free": 1 << 40}))
    monkeypatch.setattr(cluster.tempfile, "mkdtemp", lambda prefix, dir: f"{dir}/{prefix}01234567")
    folders(monkeypatch, longest)
    socket_name = f"{cluster._made()}/r/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"
    assert len(socket_name) == 103
    folders(monkeypatch, longest + "x")
    with pytest.raises(UserError, match=r"too long a path for a socket\); set TMPDIR to another folder with a short"):
        cluster._made()


def test_a_folder_that_is_full_or_cannot_be_written_is_passed_over_and_named_if_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders(monkeypatch, "/nowhere", "/proc")
    with pytest.raises(UserError) as caught:
        cluster._made()
    assert str(caught.value) == (
        "Ray: finds no place for its sockets: /nowhere (No such file or directory), /proc (less than 105 MB free); "
        "set TMPDIR to another folder with a short path; --serial runs without Ray"
    )


def test_ray_does_not_take_the_signals_of_who_starts_it(without_ray: Any, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    without_ray(lambda: signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number)))
    with Interrupts(), pytest.raises(Interrupted), connected(None, Console(file=io.StringIO()), tmp_path):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_is_lost_in_a_callback_while_ray_starts_is_not_forgotten() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            interrupts.catch()


def test_ctrl_c_while_ray_starts_leaves_neither_a_folder_nor_a_process(without_ray: Any, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted() -> None:
        started.append(ConsolePopen(["sleep", "100"]))
        signal.raise_signal(signal.SIGINT)

    calls = without_ray(interrupted)
    with Interrupts(), pytest.raises(Interrupted), connected(None, Console(file=io.StringIO()), tmp_path):
        raise AssertionError("Ray is not up")
    assert len(calls) == 1
    assert not Path(calls[0]["_temp_dir"]).parent.exists()
    assert not Path(f"/proc/{started[0].pid}").exists()


# What the workers see


def test_ray_is_started_in_the_folder_of_this_package_and_relative_paths_stay_what_they_were(
    without_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray puts the folder in which it is started first on the path of its workers."""
    begun: list[bytes] = []

    def begins() -> None:
        process = ConsolePopen(["pwd"], stdout=subprocess.PIPE)
        begun.append(process.communicate()[0].strip())

    calls = without_ray(begins)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"lib{os.pathsep}/opt")
    ours = str(Path(sweep.__file__).parents[1])
    with connected(None, Console(file=io.StringIO()), tmp_path):
        assert Path.cwd() == tmp_path
        path = calls[0]["job_config"]._py_driver_sys_path
        path.extend(["/script", str(tmp_path)])
    assert (path, begun) == (["/script", ours], [os.fsencode(ours)])
    assert calls[0]["path"] == f"{tmp_path / 'lib'}{os.pathsep}/opt"


# One that comes up beside other work


def test_a_ray_that_comes_up_beside_a_plan_is_waited_for_and_ends_with_its_block(
    without_ray: Any, tmp_path: Path
) -> None:
    planned = threading.Event()

    class Heard(io.StringIO):
        def write(self, text: str) -> int:
            planned.set()
            return super().write(text)

    text, calls = Heard(), without_ray(lambda: planned.wait(60))
    with cluster.ahead(Console(file=text), tmp_path):
        assert text.getvalue() == ""
        for _ in range(2):  # a launch and, as `--decide` has it, the next
            with cluster.ahead(Console(file=text), tmp_path), connected(None, Console(file=text), tmp_path):
                assert planned.is_set()
        folder = Path(calls[0]["_temp_dir"]).parent
        assert folder.exists()
    assert not folder.exists()
    assert (len(calls), text.getvalue()) == (1, "starting a local Ray, some seconds\n")


def test_a_ray_that_does_not_come_up_beside_a_plan_is_told_once_it_is_needed_and_started_anew_by_the_next(
    without_ray: Any, tmp_path: Path
) -> None:
    calls, text = without_ray(*[raising(RAISED[0])] * 2, nothing), io.StringIO()
    with cluster.ahead(Console(file=text), tmp_path):
        assert refused(None, tmp_path)[0].startswith("Ray: does not start on this machine, tried twice: The current")
        with connected(None, Console(file=text), tmp_path):
            assert len(calls) == 3


def test_a_ray_that_does_not_come_up_is_not_tried_again_once_the_plan_is_refused(
    without_ray: Any, tmp_path: Path
) -> None:
    over, text = threading.Event(), io.StringIO()

    def fails() -> None:
        over.wait(60)
        raise RAISED[0]

    class Refused(UserError):
        def __init__(self) -> None:
            super().__init__("no data")
            threading.Timer(0.5, over.set).start()  # when the block is left already

    calls = without_ray(fails, nothing)
    with pytest.raises(Refused), cluster.ahead(Console(file=text), tmp_path):
        raise Refused
    assert (len(calls), text.getvalue()) == (1, "")
    assert not Path(calls[0]["_temp_dir"]).parent.exists()


def test_a_plan_that_is_refused_takes_a_ray_that_came_up_beside_it_with_it(without_ray: Any, tmp_path: Path) -> None:
    calls = without_ray(nothing)
    with pytest.raises(UserError, match="no data"), cluster.ahead(Console(file=io.StringIO()), tmp_path):
        raise UserError("no data")
    assert [Path(call["_temp_dir"]).parent.exists() for call in calls] == [False]


def test_workers_import_these_very_packages_and_have_a_token_that_is_in_no_file(local_ray: None) -> None:
    def seen() -> tuple[list[str], str, str | None]:
        from importlib import import_module

        files = [import_module(name).__file__ for name in ("trainers", "analysis", "sweep")]
        return [str(file) for file in files], os.getcwd(), os.environ.get("RAY_AUTH_TOKEN")

    files, cwd, token = ray.get(ray.remote(num_cpus=0)(seen).remote())
    assert files == [module.__file__ for module in (trainers, analysis, sweep)]
    assert cwd == str(Path(sweep.__file__).parents[1])
    assert token == os.environ["RAY_AUTH_TOKEN"]


def test_a_trial_is_as_nice_as_its_launch_and_no_nicer(local_ray: None) -> None:
    of_a_worker = ray.remote(num_cpus=0)(lambda: os.nice(0)).remote()
    assert ray.get(of_a_worker) == os.nice(0)


def test_a_local_ray_has_no_process_that_nobody_asks_for(local_ray: None) -> None:
    words = [word for process in psutil.Process().children() for word in process.cmdline()]
    assert any(word.endswith("raylet") for word in words)
    assert [word for word in words if word.endswith(("dashboard.py", "monitor.py"))] == []


def test_a_ray_that_is_up_is_used_and_stays_up(local_ray: None, tmp_path: Path) -> None:
    text = io.StringIO()
    with connected(None, Console(file=text), tmp_path):
        pass
    assert ray.is_initialized()
    assert text.getvalue() == ""
    assert set(ENVIRONMENT) <= set(os.environ)


# Real launches on machines that are not as Ray wants them


def command(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, as its own script starts it: the working folder is not on the path."""
    code = "from sweep.cli import main; main()"
    path = str(Path(sweep.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_neither_a_long_tmpdir_nor_a_home_that_cannot_be_written_nor_modules_named_as_ours_stop_a_launch(
    hiding: Path, sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    config = str(sweep_file())
    for serial in ((), ("--serial",)):
        out = str(tmp_path / f"run{len(serial)}")
        environment = {"TMPDIR": str(deep), "HOME": "/proc/nobody"}
        launched = command("launch", config, "--out", out, *serial, cwd=hiding, **environment)
        assert launched.returncode == 0, launched.stderr
        assert (load_trials(Path(out)).outcome == "completed").all()
        evaluated = command("evaluate", out, "--best", "--attack", "fgsm", *serial, cwd=hiding, **environment)
        assert evaluated.returncode == 0, evaluated.stderr
        assert "Traceback" not in launched.stdout + evaluated.stdout


@pytest.mark.slow
def test_a_machine_on_which_ray_cannot_start_is_one_line_and_exit_2(
    sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    config = str(sweep_file())
    start = f"ulimit -n 40; exec {sys.executable} -c 'from sweep.cli import main; main()' launch {config} --out run"
    answer = subprocess.run(
        ["sh", "-c", start],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(sweep.__file__).parents[1]), "RAY_gcs_server_port_wait_time_s": "5"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.startswith("sweep: Ray: does not start on this machine, tried twice: Timed out waiting for")
    assert answer.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["logs"]
