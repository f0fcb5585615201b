"""The commands `sweep data prepare` and `sweep data check`."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.group import examples
from sweep.reports.options import FOLDER
from sweep.streams import echo


@click.group(
    epilog=examples(
        "sweep data prepare ~/imagenet --size 256      # JPEGs of train/ and val/",
        "sweep data check ~/imagenet-256.shards        # every byte against its hash",
    )
)
def data() -> None:
    """Prepare a data set that does not fit in memory: write it as shards, which trials read as they need them.

    Trials then have data: {name: shards, root: ~/imagenet-256.shards}. docs/data.md says more.
    """


@data.command(
    epilog=examples(
        "sweep data prepare ~/imagenet --size 256      # -> ~/imagenet-256.shards",
        "sweep data prepare ~/imagenet --size 256      # goes on where it was stopped",
    )
)
@click.argument("folder", metavar="FOLDER", type=FOLDER)
@click.option("--output", type=FOLDER, help="Folder to write to [default: FOLDER-S.shards, beside it].")
@click.option(
    "--size",
    type=click.IntRange(1, 65_536),
    metavar="S",
    help="Resize the shorter side to S pixels and take the middle S x S [default: images have one size].",
)
@click.option(
    "--processes", type=click.IntRange(1, 4096), metavar="P", help="Processes that decode images [default: one a core]."
)
def prepare(folder: Path, output: Path | None, size: int | None, processes: int | None) -> None:
    """Decode the images of FOLDER once, into shards.

    FOLDER holds train/CLASS/... and test/CLASS/..., or val/CLASS/... as ImageNet and Tiny-ImageNet do. Images are read
    upright; --size resizes as torchvision's Resize(S) and CenterCrop(S) do, by Pillow's bilinear filter, which averages
    where it makes smaller. The same command goes on where it was stopped, and mends what is damaged.
    """
    from sweep.data.prepare import prepared

    for line in prepared(folder, output, size, processes, echo):
        echo(line)


@data.command(epilog=examples("sweep data check ~/imagenet-256.shards"))
@click.argument("folder", metavar="DIR", type=FOLDER)
def check(folder: Path) -> None:
    """Check every byte of the shards in DIR against its hash."""
    from sweep.data.prepare import checked

    for line in checked(folder):
        echo(line)
