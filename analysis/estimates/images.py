"""What the images say one by one: accuracy by class, the worst class, where two attacks agree, curves over radii."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.evaluations import ATTACKS, wilson
from analysis.frames.images import EVALUATION, Bits, Classes

#: What tells two networks apart of which the same images are known.
NETWORK = ("trial_id", "weights", "averaged", "split", "fingerprint")


class Worst(NamedTuple):
    """The lowest accuracy of any class, under one attack on one network."""

    class_name: str
    """The class with the fewest right."""
    accuracy: float
    low: float
    high: float
    """An interval of the lowest of the true accuracies, whichever class has it."""
    candidates: tuple[str, ...]
    """Classes of which the data do not say that another one is worse, the observed worst first."""


def by_class(right: Bits, classes: Classes, level: float = 0.95) -> DataFrame:
    """Accuracy of each class with Wilson's interval, of each class by itself.

    Args:
        right: (images,) bool, the first images of the split's order.
        classes: of all images of the split.
        level: of each interval.

    Returns:
        class_number, class_name, images, correct, accuracy, low, high; a row a class that has an image.
    """
    labels = classes.labels[: len(right)]
    images = np.bincount(labels, minlength=len(classes.names))
    correct = np.bincount(labels[right], minlength=len(classes.names))
    there = np.flatnonzero(images)
    n, k = images[there], correct[there]
    low, high = wilson(k, n, level)
    names = [classes.names[number] for number in there]
    return DataFrame({"class_number": there, "class_name": names, "images": n, "correct": k, "accuracy": k / n}).assign(
        low=low, high=high
    )


def worst_class(right: Bits, classes: Classes, level: float = 0.95) -> Worst:
    """The worst class with an interval that holds though the class was chosen for being the worst.

    That interval is from the lowest lower to the lowest upper end of Wilson's intervals of all K classes, each at level
    1 - (1 - level) / K [Bonferroni]: all of them hold together with the level's probability, and the lowest true
    accuracy then lies between these ends. A class by itself would seem worse than it is, as the unluckiest is shown.

    Args:
        right: (images,) bool, the first images of the split's order.
        classes: of all images of the split.
        level: of the interval.
    """
    rows = by_class(right, classes, 1 - (1 - level) / max(1, len(set(classes.labels[: len(right)].tolist()))))
    rows = rows.sort_values(["accuracy", "class_number"], kind="stable")
    high = float(rows["high"].min())
    candidates = rows["class_name"][rows["low"] <= high]
    first = rows.iloc[0]
    return Worst(first["class_name"], float(first["accuracy"]), float(rows["low"].min()), high, tuple(candidates))


class Agreement(NamedTuple):
    """On which images two attacks on one network say the same."""

    images: int
    both_right: int
    only_first_breaks: int
    only_second_breaks: int
    both_wrong: int
    """Wrong under both; images that are wrong as they are among them."""

    @property
    def share(self) -> float:
        """Of the images, those on which they agree."""
        return (self.both_right + self.both_wrong) / self.images


def agreement(first: Bits, second: Bits) -> Agreement:
    """The two by two table of two attacks' answers, on the images that both were run on.

    Args:
        first, second: (images,) bool, which images stay right; of one network and the same images.
    """
    n = min(len(first), len(second))
    a, b = first[:n], second[:n]
    return Agreement(n, *(int(cell.sum()) for cell in (a & b, ~a & b, a & ~b, ~a & ~b)))


def by_class_rows(frame: DataFrame, classes: Mapping[str, Classes], level: float = 0.95) -> DataFrame:
    """`by_class` of every evaluation whose images' classes are recorded: its columns, then those of the class.

    Args:
        frame: of `analysis.frames.images.images_of`.
        classes: of `analysis.frames.images.classes_of`.
        level: of each interval.
    """
    rows = [
        {**known, **each}
        for known, right, own in _known(frame, classes)
        for each in by_class(right, own, level).to_dict("records")
    ]
    columns = ["class_number", "class_name", "images", "correct", "accuracy", "low", "high"]
    return DataFrame(rows, columns=[*dict.fromkeys([*_plain(frame), *columns])])


def worst_rows(frame: DataFrame, classes: Mapping[str, Classes], level: float = 0.95) -> DataFrame:
    """`worst_class` of every evaluation, with its robust_accuracy; NaN where the classes are not recorded."""
    rows = []
    for row in frame.to_dict("records"):
        known = {name: row[name] for name in _plain(frame)} | {"robust_accuracy": float(row["right"].mean())}
        if row["fingerprint"] in classes:
            worst = worst_class(row["right"], classes[row["fingerprint"]], level)
            known |= {"worst_class": worst.class_name, "worst_accuracy": worst.accuracy}
            known |= {"low": worst.low, "high": worst.high, "candidates": list(worst.candidates)}
        rows.append(known)
    columns = ["robust_accuracy", "worst_class", "worst_accuracy", "low", "high", "candidates"]
    return DataFrame(rows, columns=[*_plain(frame), *columns])


def agreement_rows(frame: DataFrame, classes: Mapping[str, Classes], level: float = 0.95) -> DataFrame:
    """`agreement` of every two evaluations of one network at one radius by PGD and by AutoAttack.

    Args:
        frame: of `analysis.frames.images.images_of`.
        classes: of `analysis.frames.images.classes_of`.
        level: of each interval.

    Returns:
        the columns of PGD's evaluation; those of `Agreement`, PGD the first; agree, the share, with Wilson's low and
        high; and places, where in the split (as `trainers.images` gives it) the images are that AutoAttack breaks
        alone, or none where no record says that.
    """
    keys = [*NETWORK, "norm", "radius"]
    others = {_key(row, keys): row for row in frame[frame["attack"] == "autoattack"].to_dict("records")}
    rows = []
    for row in frame[(frame["attack"] == "pgd") & (frame["source"] == EVALUATION)].to_dict("records"):
        if (other := others.get(_key(row, keys))) is not None:
            table = agreement(row["right"], other["right"])
            n = table.images
            alone = np.flatnonzero(row["right"][:n] & ~other["right"][:n])
            own = classes.get(row["fingerprint"])
            low, high = wilson([table.both_right + table.both_wrong], [n], level)
            rows.append(
                {name: row[name] for name in _plain(frame)}
                | table._asdict()
                | {"agree": table.share, "low": float(low[0]), "high": float(high[0])}
                | {"places": None if own is None else own.places[alone].tolist()}
            )
    names = [*dict.fromkeys([*_plain(frame), *Agreement._fields, "agree", "low", "high", "places"])]
    return DataFrame(rows, columns=names)


def curve_rows(frame: DataFrame) -> DataFrame:
    """Robust accuracy against the radius, which never rises: of each network and attack that saw two radii or more.

    An image counts as broken at a radius where it is wrong as it is, or where any recorded attack of the same or a
    later rung of the ladder (`analysis.frames.evaluations.ATTACKS`), whatever its steps, has broken it in the same norm
    at that radius or a smaller one, also at the end of training: what lies in the smaller ball lies in the larger one.
    All points of a curve are of the same images, the first that the attack saw at each of its radii.

    Args:
        frame: of `analysis.frames.images.images_of`.

    Returns:
        the columns of `NETWORK`, attack, norm, radius (0: no attack, the clean accuracy), images, correct, accuracy,
        own_accuracy (of the attack at that radius alone, on these images).
    """
    rows: list[dict[str, Any]] = []
    attacked = frame[frame["radius"].notna()]
    for _, network in attacked.groupby([*NETWORK, "norm"], sort=False):
        entries: list[Any] = network.to_dict("records")
        for attack in dict.fromkeys(row["attack"] for row in entries if row["source"] == EVALUATION):
            rows += _curve(attack, entries)
    names = [*NETWORK, "attack", "norm", "radius", "images", "correct", "accuracy", "own_accuracy"]
    return DataFrame(rows, columns=names)


def with_curve(evaluations: DataFrame, frame: DataFrame) -> DataFrame:
    """Evaluations with a column `unbroken` at the end: `curve_rows`' accuracy at the radius, of the same images.

    NaN: the attack saw this network at one radius alone, or other images at another one.

    Args:
        evaluations: of `analysis.frames.evaluations.evaluations_of`.
        frame: of `analysis.frames.images.images_of`, of the same records.
    """
    keys = ["trial_id", "weights", "averaged", "split", "attack", "norm", "radius", "images"]
    known = {_key(row, keys): row["accuracy"] for row in curve_rows(frame).to_dict("records")}
    values = [known.get(_key(row, keys), np.nan) for row in evaluations.to_dict("records")]
    return evaluations.assign(unbroken=np.array(values, dtype=np.float64))


def _curve(attack: str, entries: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    own = [row for row in entries if row["attack"] == attack and row["source"] == EVALUATION]
    radii = sorted({row["radius"] for row in own})
    if len(radii) < 2:
        return
    n = min(row["images"] for row in own)
    counts = [row for row in entries if _rung(row["attack"]) >= _rung(attack)]
    known = {name: own[0][name] for name in (*NETWORK, "attack", "norm")} | {"images": n}
    left: NDArray[np.bool_] = own[0]["clean_right"][:n].copy()
    clean = {"correct": int(left.sum()), "accuracy": float(left.mean())}
    yield {**known, "radius": 0.0, **clean, "own_accuracy": clean["accuracy"]}
    for radius in radii:
        for row in (row for row in counts if row["radius"] <= radius):
            left[: len(row["right"])] &= row["right"][:n]
        alone = min(float(row["right"][:n].mean()) for row in own if row["radius"] == radius)
        yield {**known, "radius": radius, "correct": int(left.sum()), "accuracy": float(left.mean())} | {
            "own_accuracy": alone
        }


def _rung(attack: str) -> int:
    return list(ATTACKS).index(attack) if attack in ATTACKS else -1


def _known(frame: DataFrame, classes: Mapping[str, Classes]) -> Iterator[tuple[dict[str, Any], Bits, Classes]]:
    for row in frame.to_dict("records"):
        if row["fingerprint"] in classes:
            yield {name: row[name] for name in _plain(frame)}, row["right"], classes[row["fingerprint"]]


def _plain(frame: DataFrame) -> list[str]:
    """The columns that hold no arrays."""
    return [str(name) for name in frame.columns if name not in ("right", "clean_right", "margins")]


def _key(row: Mapping[Any, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)
