"""What the tests of more than one package start from."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

# Before torch, numpy or a child process is there: on a busy machine the threads of small products wait for each other
# longer than they compute, and two test processes share the cores anyway.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

# What a script starts in the background ignores Ctrl-C, and what nohup starts SIGHUP: both hand that on to the commands
# that tests end.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# What plans forecast is no matter of the user's who tests.
os.environ.setdefault("ROBUSTSWEEP_CACHE", str(Path(tempfile.gettempdir()) / f"robustsweep-tests-{os.getuid()}"))

# What commands print into a pipe would be as narrow as whatever runs the tests says.
os.environ.pop("COLUMNS", None)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, which reads the markers in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share the one local Ray go to the same process of pytest-xdist; so do those of a file, whose trained
    network they share. Tests marked gpu are skipped where there is none."""
    no_gpu = pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="torch sees no GPU here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(no_gpu)
        ray = "local_ray" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if ray else item.nodeid.partition("::")[0]))


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes text as a config file."""

    def write(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def full_disk() -> Callable[..., AbstractContextManager[None]]:
    """A block in which no file grows over so many bytes: a longer one fails in the middle, however it is written."""

    @contextmanager
    def full(after: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full
