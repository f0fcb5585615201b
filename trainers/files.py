"""Where a checkpoint lies; and files that are always whole: who reads sees the old one until the new one is there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def checkpoint_path(directory: Path, trial_id: str) -> Path:
    """Where a trial of a run keeps its checkpoint."""
    return directory / "checkpoints" / f"{trial_id}.pt"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new path in the same folder to write to; at the end of the block it takes the place of `path` in one move.

    What is written is on the disk before it is moved, so that a crash leaves the old file or the new one. A block that
    raises leaves the old file, and nothing beside it; an OSError then names `path`, which a full disk's does not.

    Args:
        path: of the file; its folder exists.
    """
    part = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def remove_parts(folder: Path) -> None:
    """Removes what processes left that were killed while they wrote; nobody may be writing there now."""
    for part in folder.glob(".*-????????.part*"):
        part.unlink(missing_ok=True)
