"""The paper's comparison of PGD-AT with DEAT in a run's own trials, in the published ones, or in both.

[DEAT] Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023 (arXiv 2306.02618).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from pandas import DataFrame

from analysis.frames import published
from analysis.frames.budgets import one_budget
from analysis.frames.cells import codes, several
from analysis.frames.identity import BASE_AXES
from analysis.frames.names import spoken
from analysis.frames.trials import axes
from analysis.plots.plan import PUBLISHED, Data
from analysis.plots.setting import ATTACK, PUBLISHED_ATTACK

#: What the paper compares; any other method has no place in its figures.
CONTROL, TREATMENT = "PGD-AT", "DEAT"

#: Methods as the columns of the tables call them.
COLUMNS = {CONTROL: "pgd_at", TREATMENT: "deat"}

#: What tells the parts of a figure or table of the paper apart.
KEYS: tuple[str, ...] = ("study", "data_set", "model.name", "batch_size")

#: Of the published study, the least learning rate that Tables 3 and 4 count: SENet's entries come out with no other.
PUBLISHED_FROM = 0.006


class Part(NamedTuple):
    """The trials of one study, network and batch size, all of one setting."""

    study: str
    data_set: str
    model: str
    batch_size: Any
    trials: DataFrame
    """Completed or diverged, of PGD-AT and DEAT."""
    left_out: dict[str, int]
    """Trials of the network's PGD-AT and DEAT that are not in it, by why."""

    def named(self, rows: DataFrame) -> DataFrame:
        """The rows with what tells the part from others before them, and what was left out behind."""
        first = {"study": self.study, "data_set": self.data_set, "model.name": self.model}
        own = rows.drop(columns=[key for key in KEYS if key in rows])
        left_out = ", ".join(f"{n} {why}" for why, n in self.left_out.items())
        own = own.assign(**first, batch_size=self.batch_size, left_out=left_out)
        return own[[*KEYS, *(column for column in own if column not in KEYS)]]


def published_data(metric: str = "last_test_robust") -> Data:
    """The published study as what figures are drawn from."""
    trials = published.load_trials().assign(**{"data_set": "cifar10", ATTACK: PUBLISHED_ATTACK})
    published.refuse_other(metric)
    return Data(trials, published.load_epochs(), metric, study=PUBLISHED)


def studies(data: Data) -> list[Data]:
    """The data, and what is shown beside them."""
    return [data] if data.beside is None else [data, data.beside]


def parts(data: Data, methods: Sequence[str] = (CONTROL, TREATMENT)) -> list[Part]:
    """Every network and batch size that was trained with all of the methods, in one setting each.

    Args:
        data: with the other study, if one stands beside it.
        methods: that a part must have a completed trial of.
    """
    return [
        Part(study.study, _data_set(rows), str(model), batch, rows, left_out)
        for study in studies(data)
        for model, (kept, left_out) in _networks(study, methods)
        for batch, rows in kept.groupby("batch_size", sort=True)
        if set(methods) <= set(rows.loc[rows["outcome"] == "completed", "method"])
    ]


def one_setting(trials: DataFrame) -> tuple[DataFrame, dict[str, int]]:
    """The trials that differ in learning rate, batch size, optimizer and seed alone; the rest counted by why.

    Budgets are never pooled: of the completed trials those of `analysis.frames.budgets.one_budget` stay, with the
    diverged ones of the same setting. Of every further axis (weight_decay; then, within each method, optimizer.k1 and
    what else belongs to it) the combination with most completed trials is kept, the earliest planned of equals.

    Args:
        trials: of one network, as `analysis.frames.trials.load_trials` gives them.

    Returns:
        the completed and diverged trials of that setting, and how many others there are, by why: that of
        `one_budget`, or `another` and the axes in which they differ.
    """
    diverged = trials["outcome"] == "diverged"
    whole, counts = one_budget(trials[~diverged])
    left_out, ended = Counter(counts), trials.index.isin(whole.index) | diverged
    others = [axis for axis in axes(trials) if axis not in BASE_AXES]
    shared = [axis for axis in others if trials.groupby("method")[axis].count().gt(0).all()]
    kept = _commonest(trials[ended], shared, left_out)
    own = [axis for axis in others if axis not in shared]
    sides = [_commonest(side, own, left_out) for _, side in kept.groupby("method", sort=False)]
    return (pd.concat(sides).sort_index() if sides else kept), dict(left_out)


def joined(frames: Sequence[DataFrame]) -> DataFrame:
    """One below the other; an empty frame for none."""
    return pd.concat(frames, ignore_index=True) if frames else DataFrame()


def _networks(study: Data, methods: Sequence[str]) -> Iterator[tuple[Any, tuple[DataFrame, dict[str, int]]]]:
    rows = study.trials[study.trials["method"].isin(methods)]
    for model, trials in rows.groupby("model.name", sort=False):
        yield model, one_setting(trials)


def _commonest(rows: DataFrame, columns: list[str], left_out: Counter[str]) -> DataFrame:
    """The rows of the combination with most completed ones; the others are counted."""
    differing = [column for column in columns if several(rows[column])]
    if not differing:
        return rows
    groups = codes(rows, differing)
    completed = (rows["outcome"] == "completed").to_numpy(dtype=bool)
    counts = Counter(groups[completed].tolist()) or Counter(groups.tolist())
    kept: DataFrame = rows[groups == max(counts, key=lambda group: (counts[group], -group))]
    left_out[f"another {', '.join(differing)}"] += len(rows) - len(kept)
    return kept


def _data_set(rows: DataFrame) -> str:
    names: list[Any] = list(rows["data_set"].unique()) if "data_set" in rows else []
    return ", ".join(spoken(str(name)) for name in names) or "unnamed data"
