"""Arguments and options that several of the commands have that read runs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from sweep.storage.mark import MARK, is_address

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS = ("table", "csv", "json", "parquet")
TEXT_FORMATS = ("table", "json", "markdown")

#: What figures and claims may be about: of the test images.
METRICS = ("last_test_robust", "last_test_clean", "best_test_robust", "best_test_clean")


class Finite(click.FloatRange):
    """A finite number of a range, which by itself lets NaN pass, and infinity, a margin of which supports any claim."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or click's own refusal."""
        if not math.isfinite(number := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Above(Finite):
    """A finite number over 0."""

    def __init__(self, most: float | None = None) -> None:
        """Up to `most`, too; None: up to any."""
        super().__init__(min=0, min_open=True, max=most)


def refuse_starting(context: click.Context, parameter: click.Parameter, directory: Path | None) -> Path | None:
    """Refuses what `to_be_read` does."""
    if not context.resilient_parsing:  # by a shell that completes, which waits for no store
        to_be_read(directory)
    return directory


def to_be_read(directory: Path | None) -> None:
    """Brings what is new of a run in a store, for a command that reads it once.

    Raises:
        UserError: a launch has just begun: it is a run, but there is nothing to read yet.
    """
    from sweep.storage.cache import shown
    from trainers.errors import UserError
    from trainers.record import has_records
    from trainers.record.linked import REGISTRATION_FILE

    bring_run(directory, new=False)
    if directory is None or not directory.is_dir() or has_records(directory):
        return
    from sweep.run.directory import is_starting  # which takes a second to load

    if is_starting(directory):
        raise UserError(
            f"{shown(directory)}: a launch is starting there and has no records yet; wait for its first trial"
        )
    if (directory / REGISTRATION_FILE).exists():
        raise UserError(f"{shown(directory)}: {registered_only(directory)}")


def registered_only(directory: Path) -> str:
    """What is said of a run of which there is nothing but its registration."""
    from sweep.storage.cache import typed

    return f"is registered, and no trial has begun: sweep launch CONFIG --out {typed(directory)}"


def bring_run(directory: Path | None, *, new: bool = True) -> None:
    """Brings here what is new of a run in a store, for who reads it; an ordinary directory is as it is.

    Args:
        directory: of the run; None: of none.
        new: whether there may be nothing yet.

    Raises:
        UserError: the store refuses or stays away, or has no such run.
    """
    if directory is None or not (directory / MARK).exists():
        return
    from sweep.storage.cache import bring, shown
    from sweep.storage.lock import is_held
    from trainers.errors import UserError
    from trainers.record import record_files

    bring(directory)
    if not new and not record_files(directory) and not is_held(directory):
        raise UserError(f"{shown(directory)}: not a run: it has no records; give the --out of a launch")


class _Path(click.Path):
    """A path that a file system can have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or click's own refusal."""
        from trainers.blanked import blanked
        from trainers.fields import path_text

        if isinstance(value, str) and is_address(value):
            self.fail(
                f"{blanked(value)!r}: must be a path of this machine here; docs/storage.md: what may be an address"
            )
        try:
            path_text(os.fspath(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


class _Run(_Path):
    """A run directory; of s3://BUCKET/RUN and its like the folder of this machine that stands for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The directory, or a refusal."""
        if not isinstance(value, str) or not is_address(value):
            return super().convert(value, param, ctx)
        from sweep.storage.cache import folder
        from sweep.storage.objects import Address

        address = Address.of(value)
        return super().convert(value, param, ctx) if address is None else folder(address)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The run directories that begin so."""
        from sweep.completion import runs

        return runs(incomplete)


class _Trial(click.types.StringParamType):
    """A beginning of a trial's id; a shell completes those of the run that is named before it."""

    name = "trial_id"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The ids that begin so."""
        from sweep.completion import trials

        return trials(ctx.params.get("directory"), incomplete)


PATH = _Path(path_type=Path)
TRIAL = _Trial()
RUN = _Run(path_type=Path)
FOLDER = _Path(path_type=Path, file_okay=False)
directory_argument = click.argument("directory", metavar="DIR", type=RUN, callback=refuse_starting)
optional_directory = click.argument("directory", metavar="[DIR]", type=RUN, required=False, callback=refuse_starting)
port_option = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of this machine (127.0.0.1) to serve at [default: a free one].",
)
output_option = click.option("--output", type=PATH, help="File to write [default: print it].")
metric_option = click.option(
    "--metric",
    type=click.Choice(METRICS),
    default=METRICS[0],
    help="Accuracy that is looked at: at the last epoch or at the best one by validation; of attacked (robust) or "
    f"unchanged (clean) test images [default: {METRICS[0]}].",
)
choosers_option = click.option(
    "--chosen-by-seed",
    "choosers",
    metavar="SEED",
    type=int,
    multiple=True,
    help="Seed that chooses each method's best configuration; only the other seeds are then compared there, and can "
    "decide. May be given several times [default: all seeds choose, and decide nothing].",
)


def format_option(formats: Sequence[str]) -> Callable[[Command], Command]:
    """--format, one of these."""
    default = "How it is written [default: by the ending of --output, else table]."
    return click.option("--format", "form", type=click.Choice(formats), help=default)


def refuse_both(serial: bool, address: str | None) -> None:
    """Refuses --serial beside --address.

    Raises:
        UserError: both are given.
    """
    from trainers.errors import UserError

    if serial and address is not None:
        raise UserError("--serial: runs without Ray, so that --address says nothing; leave one of the two out")
