"""`sweep demo`: from nothing to a figure, with what the package brings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.group import examples
from sweep.reports.answers import figures
from sweep.reports.options import PATH
from sweep.streams import echo, outlast

if TYPE_CHECKING:
    from rich.console import Console

#: What is launched; configs/demo.yaml of the repository is a link to it.
CONFIG = Path(__file__).parent / "examples" / "demo.yaml"

#: Of its figures the one to look at first.
_FIRST = "accuracy_ratio.png"


@click.command(epilog=examples("sweep demo", "sweep demo --out /tmp/demo"))
@click.option("--out", type=PATH, default=Path("runs/demo"), help="Run directory [default: runs/demo].")
def demo(out: Path) -> None:
    """Train 36 small networks on images of digits, about a minute on two cores, and draw what they show.

    Nothing is downloaded. Run again, it trains what is missing, and draws anew.
    """
    from sweep.reports.output import console

    outlast()
    screen = console()
    if code := _launch(out, screen):
        sys.exit(code)
    click.get_current_context().invoke(figures, directory=out)
    echo(f"look at {out / 'figures' / _FIRST}")


def _launch(directory: Path, screen: Console) -> int:
    from analysis.frames.log import read_log
    from sweep.config_file import load
    from sweep.reports.output import summary
    from sweep.run.launch import Launch
    from sweep.run.screen import print_whole
    from trainers.blanked import command_line

    code = Launch(load(CONFIG), directory, screen, command=command_line(["sweep", *sys.argv[1:]])).run()
    if not code:
        print_whole(screen, summary(read_log(directory), directory))
    return code
