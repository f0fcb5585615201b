"""What is being done with a user's own code: for a message about what ended it, also where no exception tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_doing = "starting"
_file: Path | None = None


def doing() -> str:
    """What was begun last, in words."""
    return _doing


def write_to(file: Path) -> None:
    """From now on each stage is written down there too."""
    global _file
    _file = file


@contextmanager
def stage(words: str) -> Iterator[None]:
    """A block of a stage."""
    global _doing
    _doing = words
    if _file is not None:
        _file.write_text(words, errors="backslashreplace")  # of a file whose name is no UTF-8
    yield
