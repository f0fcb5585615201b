"""Pictures, and shards of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import write_pictures
from prepared import CHUNK, asked

from trainers.data import preparing, shards


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training and 20 test pictures of 4 classes, of several sizes."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), 60, 20)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 10 pictures."""
    monkeypatch.setattr(shards, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def written(pictures: Path, pool: Executor, tmp_path: Path, small_chunks: None) -> Path:
    """Whole shards."""
    preparing.prepare(asked(pictures), tmp_path / "shards", pool)
    return tmp_path / "shards"
