"""What the images say one by one as text: worst classes, accuracy by class, where two attacks agree; and as a file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from rich.table import Table

from analysis.estimates.images import agreement_rows, by_class_rows, worst_rows
from analysis.frames.cells import several
from analysis.frames.images import EVALUATION, TRAINING, Classes
from analysis.frames.names import interval_text, short
from analysis.tables.evaluations import attack_name
from analysis.tables.sheet import console_table
from trainers.errors import UserError
from trainers.fields import plural

#: Columns of a file that hold something of each image, with how a number of it is kept.
PACKED = ("right", "clean_right", "margins", "labels", "places")


def rows_of(view: str, frame: DataFrame, classes: Mapping[str, Classes], *, text: bool) -> DataFrame:
    """What a file of a view holds.

    Args:
        view: worst, by_class, agreement or bits.
        frame: of `analysis.frames.images.images_of`.
        classes: of `analysis.frames.images.classes_of`.
        text: whether the file holds text alone.
    """
    if view == "bits":
        return packed_rows(frame, classes, text=text)
    if view == "agreement":
        return agreement_rows(frame, classes)
    return (by_class_rows if view == "by_class" else worst_rows)(frame, classes)


def tables_of(view: str, frame: DataFrame, classes: Mapping[str, Classes]) -> list[Table]:
    """What a terminal shows of a view, as far as there is something; the arguments are those of `rows_of`.

    Raises:
        UserError: bits have no table.
    """
    if view == "bits":
        raise UserError("--bits: each image's result is for files; give an --output, or --format csv or json")
    seen = _shown(frame)
    made = []
    if view == "worst" and len(seen):
        made.append(worst_table(worst_rows(seen, classes)))
    if view == "by_class" and len(rows := by_class_rows(seen, classes)):
        made.append(class_table(rows))
    if view != "by_class" and len(pairs := agreement_rows(frame, classes)):
        made.append(agreement_table(pairs))
    return made


def _shown(frame: DataFrame) -> DataFrame:
    """Of a trial that was evaluated its evaluations, else what the end of its training says of the test images."""
    evaluated = frame[frame["source"] == EVALUATION]
    trained = frame[(frame["source"] == TRAINING) & ~frame["trial_id"].isin(evaluated["trial_id"])]
    tested = trained[trained["split"] == "test"]
    return frame.loc[sorted([*evaluated.index, *(tested if len(tested) else trained).index])]


def worst_table(rows: DataFrame) -> Table:
    """One line an evaluation: its accuracy, and that of its worst class with an interval.

    Args:
        rows: of `analysis.estimates.images.worst_rows`.
    """
    own = rows.assign(
        n=rows["images"],
        right=[f"{100 * value:.2f}" for value in rows["robust_accuracy"]],
        worst=[_worst(row) for row in rows.to_dict("records")],
        accuracy=_intervals(rows, "worst_accuracy"),
    )
    caption = (
        "right: share of the n images still classified correctly; accuracy: the same of the worst class, both in %; + "
        "k: k more classes may be the worst; the 95 % interval is of the lowest accuracy of any class, and allows for "
        "this choice (Wilson over test images alone, Bonferroni over classes)"
    )
    return _table(own, ["n", "right", "worst", "accuracy"], caption)


def class_table(rows: DataFrame) -> Table:
    """One line an evaluation and class.

    Args:
        rows: of `analysis.estimates.images.by_class_rows`.
    """
    own = rows.assign(right=_intervals(rows, "accuracy"), n=rows["images"], **{"class": rows["class_name"]})
    caption = (
        "right: share of the class's n images still classified correctly, in %, with 95 % Wilson intervals over test "
        "images alone, of each class by itself"
    )
    return _table(own, ["class", "n", "right"], caption)


def agreement_table(rows: DataFrame) -> Table:
    """One line a pair of evaluations: the two by two table of which images stay right.

    Args:
        rows: of `analysis.estimates.images.agreement_rows`.
    """
    heads = {"both_right": "right", "only_first_breaks": "PGD", "only_second_breaks": "AA", "both_wrong": "wrong"}
    own = rows.rename(columns=heads).assign(agree=_intervals(rows, "agree"))
    caption = (
        "numbers of images; right, wrong: under both PGD and AutoAttack (AA); PGD, AA: broken by that one alone; "
        "agree: the share that is right or wrong under both, in %, with 95 % Wilson intervals over test images alone"
    )
    return _table(own, [*heads.values(), "agree"], caption)


def notes(view: str, run: str, evaluations: DataFrame, frame: DataFrame, classes: Mapping[str, Classes]) -> list[str]:
    """What cannot be said, in words, and what to do about it.

    Args:
        view: as in `rows_of`.
        run: as a word of a command.
        evaluations: all, of `analysis.frames.evaluations.evaluations_of`.
        frame: those of which each image is known, of `analysis.frames.images.images_of`.
        classes: of `analysis.frames.images.classes_of`.
    """
    command, lines = f"sweep evaluate {run}", []
    if frame.empty and evaluations.empty:
        lines.append(f"no image's result is recorded yet; {command} records them")
    elif view == "agreement" and agreement_rows(frame, classes).empty:
        what = "no network was attacked by both PGD and AutoAttack at one radius"
        lines.append(f"{what}; {command} --attack pgd --attack autoattack does that")
    trained = frame["trial_id"][frame["source"] == TRAINING]
    if view in ("worst", "by_class") and trained.isin(frame["trial_id"][frame["source"] == EVALUATION]).any():
        lines.append("of trials that were evaluated, what training measured is left out; --format csv has it")
    if lacking := len(evaluations) - int((frame["source"] == EVALUATION).sum()):
        what = f"older code recorded {plural(lacking, 'evaluation')} without each image's result"
        lines.append(f"{what}; {command} with the same options and --bits runs what lacks it again")
    if unknown := int((~frame["fingerprint"].isin(classes.keys())).sum()):
        what = f"of {plural(unknown, 'evaluation')} the images' classes are not recorded"
        lines.append(f"{what}; any new evaluation by {command} of the same split records them")
    return lines


def packed_rows(frame: DataFrame, classes: Mapping[str, Classes], *, text: bool) -> DataFrame:
    """A row an evaluation, what is known of each image as bytes.

    `right` and `clean_right` have a bit an image, the first the highest of its byte; margins are fp16, labels two
    bytes, places four, all little-endian.

    Args:
        frame: of `analysis.frames.images.images_of`.
        classes: of `analysis.frames.images.classes_of`.
        text: in base64, for files that hold text alone.
    """
    columns: dict[str, list[Any]] = {name: [] for name in PACKED}
    for row in frame.to_dict("records"):
        known = classes.get(row["fingerprint"])
        of_classes = {name: None if known is None else getattr(known, name) for name in ("labels", "places")}
        for name, value in ({name: row[name] for name in PACKED[:3]} | of_classes).items():
            content = None if value is None else _content(name, value[: row["images"]])
            columns[name].append(base64.b64encode(content).decode() if text and content is not None else content)
    return frame.drop(columns=[name for name in PACKED if name in frame]).assign(**columns)


def _content(name: str, values: NDArray[Any]) -> bytes:
    if name in ("right", "clean_right"):
        return np.packbits(values).tobytes()
    return values.astype({"margins": "<f2", "labels": "<u2", "places": "<u4"}[name]).tobytes()


def _table(rows: DataFrame, columns: Sequence[str], caption: str) -> Table:
    entries = rows.to_dict("records")
    varied = [name for name in ("split", "weights", "averaged", "radius") if several(rows[name])]
    once = {name: rows[name].dropna().unique() for name in ("split", "radius") if name not in varied}
    common = [f"{name} {short(values[0])}" for name, values in once.items() if len(values)]
    cells = [[row["trial_id"], _attack(row), *(short(row[name]) for name in (*varied, *columns))] for row in entries]
    header = ["trial id", "attack", *varied, *columns]
    return console_table(
        header,
        cells,
        caption=f"{', '.join(common)}{'; ' if common else ''}{caption}",
        right=set(header) - {"trial id", "attack", "worst", "class", *varied},
        wraps=set(header) - {"accuracy", "right", "agree"},
        folds=True,
        spare=[name for name in reversed(columns) if name not in ("class", "right", "accuracy", "agree")],
    )


def _attack(row: Mapping[Any, Any]) -> str:
    return f"{attack_name(row)}{' (training)' if row['source'] == TRAINING else ''}"


def _worst(row: Mapping[Any, Any]) -> str:
    if not isinstance(row["worst_class"], str):
        return ""
    others = len(row["candidates"]) - 1
    return f"{row['worst_class']}{f' + {others}' if others else ''}"


def _intervals(rows: DataFrame, name: str) -> list[str]:
    entries = zip(rows[name], rows["low"], rows["high"], strict=True)
    return [interval_text(value, low, high, digits=1, factor=100) for value, low, high in entries]
