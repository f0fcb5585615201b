"""`sweep init`: an example to start one's own from, written where one is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from trainers.errors import UserError

#: What is written; examples/own_method of the repository is a link to it.
EXAMPLE = Path(__file__).parent / "examples" / "own_method"

CONFIG = "sweep.yaml"


def write(folder: Path) -> Sequence[Path]:
    """Copies the example's files into a folder, made if need be; gives their paths.

    Raises:
        UserError: one of them is there already.
    """
    files = sorted(file for file in EXAMPLE.iterdir() if file.is_file())
    paths = [folder / file.name for file in files]
    if existing := next((path for path in paths if path.exists()), None):
        raise UserError(
            f"{existing}: is there already, and is not written over; give another folder: sweep init --own NEW"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file, path in zip(files, paths, strict=True):
        path.write_bytes(file.read_bytes())
    return paths


def following(folder: Path) -> str:
    """The commands that come next, as they are typed where `sweep init` was."""
    config, run = shlex.quote(str(folder / CONFIG)), "runs/own_method"
    return f"sweep plan {config}\nsweep launch {config}\nsweep methods {run}"
