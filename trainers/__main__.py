"""`python -m trainers TRIALS --records FILE`: trains a list of trials, without ray or optuna, for so many minutes.

TRIALS is what `sweep plan CONFIG --trials-file TRIALS` wrote. Exit status: 0, its time is over, or all trials are
finished; 1, a trial failed; 2, bad input; 130, a signal has stopped it. The same command goes on.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trainers.errors import UserError
from trainers.fields import plural
from trainers.visible import in_line, visible


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        return _run(chosen.trials, chosen.records, chosen.minutes, chosen.root)
    except UserError as error:
        print(f"trainers: {in_line(str(error))}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainers",
        description="Train a list of trials, one after another in its order. Neither ray nor optuna is needed.",
        epilog="The same command goes on. `sweep merge DIR FILE` takes the records into a run.",
    )
    parser.add_argument("trials", type=Path, metavar="TRIALS", help="what `sweep plan CONFIG --trials-file` wrote")
    parser.add_argument(
        "--records",
        type=Path,
        required=True,
        metavar="FILE",
        help="takes the records; checkpoints lie in a folder beside it, and travel with it",
    )
    told = "that it may take; it ends at an epoch's end [default: no end]"
    parser.add_argument("--minutes", type=_minutes, default=math.inf, help=told)
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the images on this machine")
    return parser


def _minutes(text: str) -> float:
    with suppress(ValueError):
        if (minutes := float(text)) > 0:
            return minutes
    raise argparse.ArgumentTypeError(f"must be a number > 0, got {text}")


def _run(path: Path, records: Path, minutes: float, root: Path | None) -> int:
    from trainers.own import snapshot
    from trainers.trial_list import read_list

    trials = read_list(path)
    snapshot.look_in(path.parent / snapshot.FOLDER)
    from trainers.stint import EXIT_STOPPED, Stint  # torch, once the list is right

    def say(line: str) -> None:
        print(visible(line), flush=True)

    stint = Stint(trials if root is None else trials.with_root(root), records, 60 * minutes, say)
    ended = stint.run()
    say(f"{records}: {len(trials.trials) - stint.left()} of {plural(len(trials.trials), 'trial')} finished")
    if stint.signal:
        return EXIT_STOPPED
    return int(any(one.outcome in ("failed", "out_of_memory") for one in ended))


if __name__ == "__main__":
    sys.exit(main())
