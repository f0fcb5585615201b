"""One server of S3 for all tests of runs in a store."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_store import S3

from sweep.storage import objects


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """moto's server, with no bucket that a test knows."""
    if not all(importlib.util.find_spec(name) for name in ("moto", "flask", "flask_cors")):
        pytest.skip("moto's server of S3 is not installed: pip install 'moto[s3]' flask flask-cors")
    server = S3(tmp_path_factory.mktemp("s3") / "log")
    yield server
    server.close()


@pytest.fixture
def bucket(s3: S3, tmp_path: Path) -> str:
    """A bucket of the test's own."""
    return s3.make(f"bucket-{abs(hash(tmp_path)):x}")


@pytest.fixture
def machine(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes this process one on a machine of that name, with folders of its own."""

    def be(name: str) -> None:
        for variable, value in s3.environment(tmp_path / name).items():
            monkeypatch.setenv(variable, value)
        objects.store_at.cache_clear()

    yield be
    objects.store_at.cache_clear()
