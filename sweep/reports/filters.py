"""Which rows of a table are shown, in which order, and which of their columns: --where, --sort, --columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sweep.reports.options import Command
from sweep.streams import complain

if TYPE_CHECKING:
    import pandas as pd

    from analysis.frames.log import Log
    from sweep.where import Constraint

where_option = click.option(
    "--where",
    metavar="EXPRESSION",
    multiple=True,
    help='Only rows for which this is true, such as "outcome == \'failed\'" or "optimizer.lr >= 0.1 and tag.odd". '
    "Accuracies are fractions. A row that lacks a value that is compared is left out. May be given several times: "
    "all must be true.",
)
_sort = click.option(
    "--sort",
    metavar="COLUMN",
    multiple=True,
    help="Sort by this column; -COLUMN: the largest first. May be given several times: then by the next one.",
)
_columns = click.option("--columns", metavar="COLUMN,...", help="Only these columns, in this order.")

#: More columns are not listed to who names none of them.
_MANY = 12

#: How a tag is asked for in an expression: `tag.odd` is true of trials that have it.
_TAG = "tag."


def row_options(command: Command) -> Command:
    """--where, --sort and --columns."""
    return where_option(_sort(_columns(command)))


@dataclass(frozen=True)
class Filter:
    """What a user asks for of a table's rows."""

    where: Sequence[str] = ()
    sort: Sequence[str] = ()
    columns: str | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.where or self.sort or self.columns is not None)

    def rows(self, frame: pd.DataFrame, records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        """The rows for which each expression holds, sorted.

        Args:
            frame: with a column trial_id.
            records: of the run, which know the trials' tags.

        Raises:
            UserError: an expression is none, or a column is not there.
        """
        import numpy as np

        for text in self.where:
            frame = frame.loc[np.array(_holding(text, frame, records), bool)]
        if not self.sort:
            return frame
        names = [name.removeprefix("-") for name in self.sort]
        for name in names:
            _refuse_unknown("--sort", name, frame)
        ascending = [not name.startswith("-") for name in self.sort]
        return frame.sort_values(names, ascending=ascending, kind="stable", key=_comparable)

    def chosen(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns that are asked for; all where none is.

        Raises:
            UserError: one is not there.
        """
        if self.columns is None:
            return frame
        names = [name.strip() for name in self.columns.split(",")]
        for name in names:
            _refuse_unknown("--columns", name, frame)
        return frame[list(dict.fromkeys(names))]


def _holding(text: str, frame: pd.DataFrame, records: Iterable[Mapping[str, Any]]) -> list[bool]:
    """Of each row whether the expression is true."""
    from analysis.frames.notes import notes_of

    one = _parsed(text)
    for hint in _of_percent(one):
        complain(hint)
    tags = {name: written.tags for name, written in notes_of(records).items()}
    values: dict[str, list[Any]] = {}
    for key in one.keys:
        if key.startswith(_TAG):
            values[key] = [key.removeprefix(_TAG) in tags.get(name, ()) for name in frame["trial_id"]]
        else:
            _refuse_unknown("--where", key, frame)
            values[key] = [_plain(value) for value in frame[key].tolist()]
    return [_holds(one, {key: each[row] for key, each in values.items()}) for row in range(len(frame))]


def _parsed(text: str) -> Constraint:
    from sweep.where import constraint
    from trainers.errors import UserError

    try:
        return constraint(text)
    except ValueError as error:
        raise UserError(f"--where {error}") from None


def _holds(one: Constraint, row: Mapping[str, Any]) -> bool:
    from sweep.where import Undefined
    from trainers.errors import UserError

    try:
        return one.holds(row.__getitem__)
    except Undefined as error:
        if None in row.values():
            return False
        shown = ", ".join(f"{key} = {value!r}" for key, value in row.items())
        raise UserError(f"--where {one.text!r}: {error}, where {shown}; compare alike with alike") from None


def _of_percent(one: Constraint) -> Iterator[str]:
    """Where an accuracy is compared with a number that none reaches, as if it were one of percent: what it is."""
    from analysis.frames.names import UNITS
    from trainers.fields import number_text

    for key, number in one.compared():
        if UNITS.get(key) == "fraction" and number > 1:
            yield (
                f"--where {one.text!r}: {key} is a fraction, from 0 to 1, and never over {number_text(number)}; "
                f"for {number_text(number)} % write {number_text(number / 100)}"
            )


def trials_where(where: Sequence[str], log: Log) -> list[str]:
    """The ids of the trials of a run for which each expression holds, as `sweep results` filters them.

    Raises:
        UserError: an expression is none, or a column is not there; or an accuracy is compared as a percentage: with
            `< 50` all trials would be cancelled, or trained anew.
    """
    from analysis.frames.trials import trials_of
    from analysis.tables.settings import with_settings
    from trainers.errors import UserError

    for hint in (hint for text in where for hint in _of_percent(_parsed(text))):
        raise UserError(hint)
    return list(Filter(where).rows(with_settings(trials_of(log), log), log)["trial_id"])


def _plain(value: Any) -> Any:
    """A cell as an expression knows it: a number, a text, true, false, or none where there is nothing."""
    if value is None or value != value:
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def _comparable(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of several kinds as text, in which what is lacking comes last."""
    return column.where(column.isna(), column.astype(str)) if column.dtype == object else column


def _refuse_unknown(option: str, name: str, frame: pd.DataFrame) -> None:
    import difflib

    from trainers.errors import UserError, suggestion
    from trainers.visible import brief

    if name in frame:
        return
    way_out = suggestion(name, frame.columns)
    if way_out.startswith("known: ") and len(frame.columns) > _MANY:
        near = difflib.get_close_matches(name, frame.columns, n=3, cutoff=0)
        way_out = f"nearest: {', '.join(near)}; all are in the first line of --format csv"
    raise UserError(f"{option}: must be a column of the table, got {brief(name)}; {way_out}")
