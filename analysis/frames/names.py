"""Columns and numbers as people read them, in pictures and tables alike."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trainers.fields import number_text
from trainers.own.reference import is_reference, parse
from trainers.record import METRICS

#: Characters of a value that a picture shows in full.
_ROOM = 8

_WORDS = {
    "optimizer.lr": "learning rate",
    "batch_size": "batch size",
    "lr_batch_ratio": "learning rate / batch size",
    "optimizer.k1": "noise enhancement $k_1$",
    "optimizer.k2": "decay $k_2$",
    "last": "last epoch",
    "best": "best epoch by validation",
    "val": "validation",
}


def _metric_units() -> dict[str, str]:
    units = {metric: "nat" if metric.endswith("loss") else "fraction" for metric in METRICS}
    return units | {f"{which}_{metric}": units[metric] for which in ("last", "best") for metric in METRICS}


#: Unit of every numeric column of both frames; `1`: a pure number. A column that is not here has none.
UNITS: dict[str, str] = {
    "optimizer.lr": "1",
    "batch_size": "images",
    "lr_batch_ratio": "1/image",
    "optimizer.momentum": "1",
    "optimizer.weight_decay": "1",
    "optimizer.k1": "1",
    "optimizer.k2": "1",
    "objective.beta": "1",
    "objective.s2o.weight": "1",
    "objective.s2o.rho": "1",
    "weights.gamma": "1",
    "objective.label_smoothing": "1",
    "attack.radius": "pixel units",
    "attack.step_size": "pixel units",
    "attack.steps": "steps",
    "attack.radius_warmup": "epochs",
    "attack.step_size_warmup": "epochs",
    "attack.start_scale": "radii",
    "attack.tau": "steps",
    "attack.replays": "updates",
    "optimizer.beta1": "1",
    "optimizer.beta2": "1",
    "optimizer.eps": "1",
    "planned_epochs": "epochs",
    "batch_norm_parts": "parts of a batch",
    "epochs": "epochs",
    "best_epoch": "epochs",
    "epoch": "epochs",
    "lr": "1",
    **_metric_units(),
    "seconds": "s",
    "evaluation_seconds": "s",
    "checkpoint_seconds": "s",
    "preparing_seconds": "s",
    "samples_per_second": "images/s",
    "peak_memory_bytes": "B",
    "memory_bytes": "B",
    "workers": "processes",
    "attempts": "starts",
}

#: Axes that are called otherwise than the config's key, whose name is another column's, by that key.
RENAMED = {"epochs": "planned_epochs", "workers": "batch_norm_parts"}

_OBJECTIVES = {"pgd_at": "PGD-AT", "trades": "TRADES", "mart": "MART", "avmixup": "AVmixup"}

_OTHERS = {"awp": "AWP", "sgd": "SGD", "deat": "DEAT", "adamw": "AdamW"}

_ATTACKS = {"pgd": "PGD", "fgsm_rs": "FGSM-RS", "n_fgsm": "N-FGSM", "free": "Free-AT", "fat": "FAT"}

_SPOKEN = {"preact_resnet18": "PreActResNet-18", "senet18": "SENet-18", "vgg19": "VGG-19", "cifar10": "CIFAR-10"}

#: The method that others are compared with, unless another is named.
BASELINE = "PGD-AT"

S2O = "objective.s2o.enabled"

#: Which of PGD's kin attacks; no key of a config, but read off several (`analysis.frames.identity.attack_kind`).
ATTACK = "attack.kind"

#: The key of each slot in a trial's config, in the order of `Slots`, and `ATTACK`.
KEYS: tuple[str, ...] = ("objective.name", S2O, "weights.name", "optimizer.name", ATTACK)

#: The parts of a config in which a key belongs to the slot's choice and means nothing to others.
PARTS = ("objective.", "weights.", "optimizer.")


def word(value: Any) -> str:
    """How a slot's value is written; one that has no name of its own stands for itself, a user's own by its NAME.

    >>> word("avmixup"), word("deat"), word("natural"), word("./method.py:Smoothed")
    ('AVmixup', 'DEAT', 'natural', 'Smoothed')
    """
    if is_reference(value):
        return parse(value).name
    return (_OBJECTIVES | _OTHERS | _ATTACKS).get(str(value), str(value))


def spoken(name: str) -> str:
    """A network or a data set as people write it.

    >>> spoken("vgg19"), spoken("cifar10"), spoken("small_cnn")
    ('VGG-19', 'CIFAR-10', 'small_cnn')
    """
    return _SPOKEN.get(name, name)


class Slots(NamedTuple):
    """What is chosen in each slot; the defaults are what a record that lacks the key was trained with."""

    objective: str = "pgd_at"
    s2o: bool = False
    weights: str = "none"
    optimizer: str = "sgd"
    attack: str = "pgd"

    @property
    def method(self) -> str:
        """The method's name, as the papers write it: `TRADES-AWP` [AWP, Table 2], `TRADES+S2O` [S2O, Table 1].

        The optimizer follows after a comma, SGD being understood; PGD-AT under DEAT alone is the paper's DEAT. PGD-AT
        with another attack has that one's name, and any other objective has it in brackets.

        >>> Slots().method, Slots(optimizer="deat").method, Slots("trades", True, "awp", "deat").method
        ('PGD-AT', 'DEAT', 'TRADES-AWP+S2O, DEAT')
        >>> Slots(attack="n_fgsm").method, Slots("trades", attack="fat").method
        ('N-FGSM', 'TRADES (FAT)')
        """
        if self == Slots(optimizer="deat"):
            return "DEAT"
        return self.family if self.optimizer == "sgd" else f"{self.family}, {word(self.optimizer)}"

    @property
    def family(self) -> str:
        """The method without its optimizer: `TRADES-AWP+S2O`."""
        if self.attack == "pgd":
            return word(self.objective) + self.modification
        attack = word(self.attack)
        return (attack if self.objective == "pgd_at" else f"{word(self.objective)} ({attack})") + self.modification

    @property
    def modification(self) -> str:
        """What is done to the objective: `-AWP+S2O`, nothing for the plain one."""
        return ("" if self.weights == "none" else f"-{word(self.weights)}") + ("+S2O" if self.s2o else "")


_CHOICES = {
    slots.method: slots
    for slots in itertools.starmap(
        Slots,
        itertools.product(
            ("natural", *_OBJECTIVES), (False, True), ("none", "awp"), ("sgd", "deat", "adamw"), _ATTACKS
        ),
    )
}


def label(column: str) -> str:
    """A column in words with its unit, as an axis shows it; a pure number has none, and a rate says none.

    >>> label("last_test_robust"), label("lr_batch_ratio")
    ('test robust accuracy, last epoch (%)', 'learning rate / batch size')
    """
    unit = UNITS.get(column, "1")
    said = _WORDS.get(column) or _metric(column)
    shown = {"fraction": "%", "1": "", "1/image": "", "epochs": ""}.get(unit, unit)
    return f"{said} ({shown})" if shown else said


def sentence(column: str) -> str:
    """A column in words, as a sentence begins with it, without its unit.

    >>> sentence("last_test_robust")
    'Test robust accuracy, last epoch'
    """
    return words(column)[0].upper() + words(column)[1:]


def words(column: str) -> str:
    """A column in words, without its unit."""
    return label(column).partition(" (")[0]


def scale(metric: str) -> float:
    """What a metric is multiplied by to be shown: 100 for a fraction, which becomes percent."""
    return 100.0 if UNITS.get(metric) == "fraction" else 1.0


def short(value: Any, digits: int | None = None) -> str:
    """A value as text, nothing for a missing one: a hyperparameter exactly, a measured number in so many digits.

    Exactly is the shortest text that reads back as the same value, so that two values never look alike.

    >>> short(0.1), short(128), short(0.999999), short(1 / 3), short("fixed"), short(float("nan"))
    ('0.1', '128', '0.999999', '0.3333333333333333', 'fixed', '')
    >>> short(0.000390625, 2), short(1024, 2)
    ('0.00039', '1024')
    """
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    if pd.isna(value):
        return ""
    exact = number_text(value)
    return exact if digits is None or exact.lstrip("-").isdigit() else f"{value:.{digits}g}"


def readable(value: Any) -> str:
    """A hyperparameter as people read it: exactly where that is short, else, as of a drawn one, in 4 digits.

    >>> readable(0.026358449231681756), readable(0.000125), readable(128), readable("small_cnn"), readable(float("nan"))
    ('0.02636', '0.000125', '128', 'small_cnn', '')
    """
    exact = short(value)
    return exact if len(exact) <= _ROOM else short(value, 4)


def point_text(values: Mapping[str, Any]) -> str:
    """Axes with their values, but for those that have none.

    >>> point_text({"optimizer.lr": 0.026358449231681756, "batch_size": 16, "optimizer.k1": float("nan")})
    'optimizer.lr 0.02636, batch_size 16'
    """
    return ", ".join(f"{axis} {text}" for axis, value in values.items() if (text := readable(value)))


def brief(values: Sequence[Any], digits: int = 3) -> list[str]:
    """Values as a picture or a column has room for: exactly if that is short, else in the digits that tell them apart.

    >>> brief([0.999999, 1.0]), brief([0.1234567891, 0.1234567892, 0.5]), brief([0.0003906250, "small_cnn"])
    (['0.999999', '1'], ['0.1234567891', '0.1234567892', '0.5'], ['0.000391', 'small_cnn'])
    """
    exact = [short(value) for value in values]
    for places in range(digits, 17):
        pairs = zip(exact, values, strict=True)
        texts = [text if len(text) <= _ROOM else short(value, places) for text, value in pairs]
        if len(set(texts)) == len(set(exact)):
            return texts
    return exact


def bounds(low: float, high: float, digits: int = 2, sign: str = "", factor: float = 1.0) -> str:
    """An interval in brackets, `[no interval]` where there is none.

    Args:
        low: NaN for none.
        high: likewise.
        digits: behind the point.
        sign: `+` shows that of a positive number too.
        factor: what both are multiplied by: 100 shows fractions in percent (`scale`).

    >>> bounds(0.1, 0.25), bounds(0.1, 0.25, 1, "+", 100), bounds(float("nan"), float("nan"))
    ('[0.10, 0.25]', '[+10.0, +25.0]', '[no interval]')
    """
    if np.isnan(low) or np.isnan(high):
        return "[no interval]"
    return f"[{factor * low:{sign}.{digits}f}, {factor * high:{sign}.{digits}f}]"


def interval_text(value: float, low: float, high: float, digits: int = 2, sign: str = "", factor: float = 1.0) -> str:
    """A number with its interval, as every table and picture shows it; nothing where there is no number.

    The arguments beside the value are those of `bounds`.

    >>> interval_text(0.452, 0.441, 0.463, factor=100), interval_text(1.2, float("nan"), float("nan"), sign="+")
    ('45.20 [44.10, 46.30]', '+1.20 [no interval]')
    """
    if np.isnan(value):
        return ""
    return f"{factor * value:{sign}.{digits}f} {bounds(low, high, digits, sign, factor)}"


def setting_text(one: Any) -> str:
    """Network, method and the setting that tells a design from others: `small_cnn, DEAT, k1 0`.

    Args:
        one: has model, method and setting, an axis to its value.
    """
    setting = [f"{key.rpartition('.')[2]} {readable(value)}" for key, value in one.setting.items()]
    return ", ".join([one.model, one.method, *setting])


def of_spread(text: str, drawn: pd.Series[bool], without: str) -> str:
    """What a caption says of bands or bars: what they are where any is drawn, and why the others are not.

    Args:
        text: what they are.
        drawn: whether each has one.
        without: which have none.

    >>> of_spread("band: least to most", pd.Series([True, False]), "none of one seed")
    'band: least to most (none of one seed)'
    >>> of_spread("band: least to most", pd.Series([False]), "no band: one seed")
    'no band: one seed'
    """
    if not drawn.any():
        return without
    return text if drawn.all() else f"{text} ({without})"


def _metric(column: str) -> str:
    """`last_test_robust` as `test robust accuracy, last epoch`; other columns with spaces."""
    which, _, rest = column.partition("_")
    when = f", {_WORDS[which]}" if which in ("last", "best") else ""
    name = rest if when else column
    parts = [_WORDS.get(part, part) for part in name.split("_")]
    accuracy = [] if UNITS.get(column) != "fraction" else ["accuracy"]
    return " ".join([*parts, *accuracy]) + when


def named(method: str) -> Slots:
    """The choice that a method's name means; words that are no known choice's are a user's own.

    >>> named("MART+S2O, DEAT")
    Slots(objective='mart', s2o=True, weights='none', optimizer='deat', attack='pgd')
    >>> named("Smoothed (FAT)-AWP, RMSprop")
    Slots(objective='Smoothed', s2o=False, weights='awp', optimizer='RMSprop', attack='fat')
    """
    return _CHOICES.get(method) or _own(method)


def _own(method: str) -> Slots:
    """`named` of a method that has a user's own objective or optimizer: the words, as `Slots.method` puts them."""
    family, _, optimizer = method.partition(", ")
    objective, s2o, _ = family.partition("+S2O")
    bare = objective.removesuffix("-AWP")
    words, _, bracket = bare.removesuffix(")").partition(" (")
    alone = words in _ATTACKS.values()  # an attack of PGD-AT's objective, under a user's own optimizer
    attack = _key(_ATTACKS, words if alone else bracket) or "pgd"
    known = "pgd_at" if alone else _key(_OBJECTIVES, words) or words
    chosen = _key(_OTHERS, optimizer) or optimizer or "sgd"
    return Slots(known, bool(s2o), "none" if bare == objective else "awp", chosen, attack)


def _key(words: Mapping[str, str], text: str) -> str | None:
    return next((name for name, word in words.items() if word == text), None)
