"""The command `sweep merge`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sweep.group import examples
from sweep.reports.options import PATH
from sweep.streams import echo


@click.command(
    epilog=examples(
        "sweep merge runs/all runs/here /mnt/there/runs/demo",
        "sweep merge runs/all there.jsonl --no-checkpoints",
    )
)
@click.argument("directory", metavar="DIR", type=PATH)
@click.argument("others", metavar="OTHER...", nargs=-1, required=True, type=PATH)
@click.option("--no-checkpoints", is_flag=True, help="Copy the records only: no checkpoints, and so no weights.")
def merge(directory: Path, others: tuple[Path, ...], no_checkpoints: bool) -> None:
    """Add to DIR what was run of the same sweep elsewhere.

    OTHER is the folder of a run, or one file of records; it is not changed. Of a trial that both have, the finished one
    is kept, or else the one that got further. `sweep launch` then runs what is left.
    """
    from sweep.merge.run import merge_runs
    from trainers.blanked import command_line

    command = command_line(["sweep", *sys.argv[1:]])
    for line in merge_runs(directory, others, checkpoints=not no_checkpoints, command=command):
        echo(line)
