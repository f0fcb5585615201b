"""The command `sweep init`: an example to start one's own from, written where one is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from sweep.group import examples
from sweep.reports.options import FOLDER
from sweep.streams import echo

#: What is written, a folder a kind; examples/own_method of the repository is a link to one.
EXAMPLES = Path(__file__).parent / "examples"

CONFIG = "sweep.yaml"


class Kind(NamedTuple):
    """A kind of sweep of which there is an example."""

    folder: str
    asks: str
    """What its sweep asks."""
    reads: tuple[str, ...]
    """The commands that read the answer."""


KINDS = {
    "ratio": Kind("ratio", "is the ratio of learning rate and batch size what counts?", ("ratio",)),
    "methods": Kind("methods", "which method is better, each at its own best learning rate?", ("methods",)),
    "tune": Kind("tune", "which hyperparameters suit one method, and which matter?", ("results", "importance")),
    "own": Kind("own_method", "is a network or an objective of your own better?", ("methods",)),
}


_HELP = "\n".join(
    [
        "Write a commented config to start from.\n",
        "\b\nKIND is what the sweep asks:",
        *(f"  {name:9} {one.asks}" for name, one in KINDS.items()),
        "\nIt comes into FOLDER, or here. Each runs as it is, on the digits that come with scikit-learn; comments "
        "say what to change for CIFAR-10. A file that is there is not written over.",
    ]
)


@click.command(
    help=_HELP,
    epilog=examples(
        "sweep init ratio                # sweep.yaml, here",
        "sweep init methods my_study     # in a folder that is made",
        "sweep init own my_method        # method.py too: a network and an objective",
    ),
)
@click.argument("kind", metavar="KIND", type=click.Choice(tuple(KINDS)), required=False)
@click.argument("folder", metavar="[FOLDER]", type=FOLDER, default=".")
def init(kind: str | None, folder: Path) -> None:
    """Writes an example: `_HELP` says it to users."""
    from trainers.errors import UserError

    if kind is None:
        kinds = ", ".join(f"{name} ({one.asks})" for name, one in KINDS.items())
        raise UserError(f"init: needs a KIND, what the sweep asks: {kinds}; such as: sweep init methods")
    for path in write(kind, folder):
        echo(f"wrote {path}")
    answer = " and ".join(f"sweep {command}" for command in KINDS[kind].reads)
    echo(f"asks: {KINDS[kind].asks} Answered by: {answer}\nnext:\n{following(kind, folder)}")


def write(kind: str, folder: Path) -> Sequence[Path]:
    """Copies an example's files into a folder, made if need be; gives their paths.

    Raises:
        UserError: one of them is there already.
    """
    from trainers.errors import UserError

    files = sorted(file for file in (EXAMPLES / KINDS[kind].folder).iterdir() if file.is_file())
    paths = [folder / file.name for file in files]
    if existing := next((path for path in paths if path.exists()), None):
        raise UserError(
            f"{existing}: is there already, and is not written over; give another folder: sweep init {kind} NEW"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file, path in zip(files, paths, strict=True):
        path.write_bytes(file.read_bytes())
    return paths


def following(kind: str, folder: Path) -> str:
    """The commands that come next, as they are typed where `sweep init` was."""
    config, one = shlex.quote(str(folder / CONFIG)), KINDS[kind]
    reads = (f"sweep {command} runs/{one.folder}" for command in one.reads)
    return "\n".join([f"sweep plan {config}", f"sweep launch {config}", *reads])
