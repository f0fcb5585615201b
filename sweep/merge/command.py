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
@click.option("--no-checkpoints", is_flag=True, help="Records alone: no checkpoint, and so no weights, is copied.")
def merge(directory: Path, others: tuple[Path, ...], no_checkpoints: bool) -> None:
    """Take into DIR what was run of the same sweep elsewhere.

    OTHER is a run directory, or one file of records. A trial that both have is kept once: the finished one, or else the
    one that is further. Nothing of OTHER is changed. `sweep launch` then runs what is left.
    """
    from sweep.merge.run import merge_runs
    from trainers.blanked import command_line

    command = command_line(["sweep", *sys.argv[1:]])
    for line in merge_runs(directory, others, checkpoints=not no_checkpoints, command=command):
        echo(line)
