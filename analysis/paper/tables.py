"""The paper's Tables 2, 3 and 4 worked out anew, and what goes beyond them: the shift, and each method at its best.

Every one is a frame with `KEYS` first, then what each says, and at its end metric and left_out.

[DEAT] Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023 (arXiv 2306.02618).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.estimates.correlations import METHODS, Method, correlation
from analysis.estimates.differences import paired_difference
from analysis.estimates.seed_table import SeedTable
from analysis.estimates.shift import shift
from analysis.frames import published
from analysis.frames.cells import Mode, measured, several
from analysis.frames.cells import own_best as each_at_its_best
from analysis.paper.parts import COLUMNS, CONTROL, PUBLISHED_FROM, TREATMENT, Part, joined, parts
from analysis.plots.plan import PUBLISHED, Data

#: What figures and tables of the paper need.
BOTH = "completed trials of PGD-AT and DEAT of one network and batch size"
CHOICE = "the sweep's metric of validation, to choose PGD-AT's learning rate without looking at the test set"

#: Of the published study, the least learning rates of DEAT from which c is taken: all, Table 3's, Table 2's.
SHIFT_FROM = (0.0, PUBLISHED_FROM, 0.01)

_CONFIDENCE = 0.95


def table2(data: Data) -> DataFrame:
    """Robust test accuracy by learning rate [DEAT, Table 2].

    Returns:
        optimizer.lr, then for pgd_at and deat: mean, _sd (over seeds), _n (trials), _printed (published study only;
        a fraction).
    """
    return _of(data, [part.named(_by_rate(part, data.metric)) for part in parts(data)])


def _by_rate(part: Part, metric: str) -> DataFrame:
    """Mean, sd and n of each method at each learning rate, beside what the paper prints there, else NaN."""
    rows = measured(part.trials, metric)
    rates = pd.Series(np.sort(rows["optimizer.lr"].unique()))
    table = DataFrame({"optimizer.lr": rates})
    for method, name in COLUMNS.items():
        values = rows[rows["method"] == method].groupby("optimizer.lr")[metric]
        known = values.agg(mean="mean", sd="std", n="count").reindex(rates).reset_index(drop=True)
        table[name], table[f"{name}_sd"] = known["mean"], known["sd"]
        table[f"{name}_n"] = known["n"].fillna(0).astype(np.int64)
    printed = published.numbers("table2")
    printed = printed[(printed["model.name"] == part.model) & (part.study == PUBLISHED)].set_index("lr")
    return table.assign(**{f"{name}_printed": rates.map(printed[name]) / 100 for name in COLUMNS.values()})


def table3(data: Data) -> DataFrame:
    """Correlation of robust accuracy with the learning rate [DEAT, Table 3], and with its logarithm.

    Returns:
        method, x (optimizer.lr or log10_lr), coefficient, estimate, low, high, p_value, n, lr_from (the least learning
        rate that counts), interval_method, printed, printed_p and difference (estimate minus printed; published study
        only).
    """
    rows = [
        part.named(DataFrame(list(_correlations(part, data.metric)))).assign(lr_from=least)
        for part, least in counted(data)
    ]
    if not rows:
        return DataFrame()
    table = published.numbers("table3").assign(study=PUBLISHED, x="optimizer.lr")
    keys = ["study", "model.name", "x", "coefficient"]
    known = pd.concat(
        table[keys].assign(method=method, printed=table[name], printed_p=table[f"{name}_p"])
        for method, name in COLUMNS.items()
    )
    merged = joined(rows).merge(known, on=[*keys, "method"], how="left")
    return _of(data, [merged.assign(difference=merged["estimate"] - merged["printed"])])


def _correlations(part: Part, metric: str) -> Iterator[dict[str, Any]]:
    """Every coefficient in lr; in log10 lr Pearson's alone, the others being of ranks."""
    pairs: list[tuple[str, Method]] = [("optimizer.lr", name) for name in METHODS]
    trials = part.trials.assign(log10_lr=np.log10(part.trials["optimizer.lr"].astype(np.float64)))
    for method in COLUMNS:
        for x, coefficient in [*pairs, ("log10_lr", METHODS[0])]:
            fit = vars(correlation(trials[trials["method"] == method], x, metric, coefficient))
            names = ("estimate", "low", "high", "p_value", "n", "interval_method")
            yield {"method": method, "x": x, "coefficient": coefficient, **{name: fit[name] for name in names}}


def table4(data: Data) -> DataFrame:
    """Mean gain of DEAT over PGD-AT at equal learning rates [DEAT, Table 4].

    Returns:
        estimate, low, high, p_value, test, p_wilcoxon, n_cells (learning rates), n_trials, lr_from, printed and
        printed_p (published study only); gains as fractions.
    """
    names = ["estimate", "low", "high", "p_value", "test", "p_wilcoxon", "n_cells", "n_trials"]
    rows = []
    for part, least in counted(data):
        gain = paired_difference(part.trials, data.metric, confidence=_CONFIDENCE)
        if gain.n_cells:
            rows.append(part.named(DataFrame([{name: getattr(gain, name) for name in names} | {"lr_from": least}])))
    if not rows:
        return DataFrame()
    printed = published.numbers("table4").rename(columns={"gain": "printed", "p": "printed_p"})
    printed = printed.assign(study=PUBLISHED, printed=printed["printed"] / 100)
    return _of(data, [joined(rows).merge(printed, on=["study", "model.name"], how="left")])


def shifts(data: Data, *, shown: bool = False) -> DataFrame:
    """The c of DEAT(lr) = PGD-AT(c lr), and the gain that is left there; see `analysis.estimates.shift`.

    Args:
        data: with the other study, if one stands beside it.
        shown: of each part only the row that Figure 4 shows, from the largest of the least learning rates.

    Returns:
        lr_from (least learning rate of DEAT that counts; 0: all), the fields of `analysis.estimates.shift.Shift`.
    """
    rows = [
        part.named(DataFrame([{"lr_from": least, **vars(shift(part.trials, data.metric, lr_from=least))}]))
        for part in parts(data)
        for least in (SHIFT_FROM if part.study == PUBLISHED else SHIFT_FROM[:1])[-1 if shown else 0 :]
    ]
    return _of(data, rows)


def own_best(data: Data) -> DataFrame:
    """Each method at the learning rate that is best for it, and how they differ there.

    A run's own is chosen by the sweep's metric of validation. The published study has the test set alone, so that
    each of its values is the largest of some 25 and lies too high.

    Returns:
        chosen_by, then for pgd_at and deat: _lr, _edge (of those tried), mean, _n; difference (DEAT minus PGD-AT),
        low, high; no p, the seeds that chose being those compared.
    """
    return _of(data, [part.named(_at_best(part, best, data)) for part, best in at_own_best(data)])


def at_own_best(data: Data) -> Iterator[tuple[Part, DataFrame]]:
    """Each part with the completed trials of PGD-AT's best cell and of DEAT's, where both can be chosen."""
    for part in parts(data):
        chooser, mode = _chooser(part, data)
        best = each_at_its_best(part.trials, chooser, mode=mode).trials
        best = best[best["outcome"] == "completed"]
        if set(COLUMNS) <= set(best["method"]):
            yield part, best


def _at_best(part: Part, best: DataFrame, data: Data) -> DataFrame:
    row: dict[str, Any] = {"chosen_by": _chooser(part, data)[0]}
    for method, name in COLUMNS.items():
        tried = part.trials.loc[part.trials["method"] == method, "optimizer.lr"]
        side = best[best["method"] == method]
        lr, values = float(side["optimizer.lr"].iloc[0]), measured(side, data.metric)[data.metric]
        edge = several(tried) and lr in (tried.min(), tried.max())
        row |= {f"{name}_lr": lr, f"{name}_edge": edge, name: values.mean(), f"{name}_n": len(values)}
    gain = SeedTable.of(best, data.metric, CONTROL).difference(TREATMENT, CONTROL, _CONFIDENCE)["own"]
    return DataFrame([row | dict(zip(("difference", "low", "high"), gain, strict=True))])


def _chooser(part: Part, data: Data) -> tuple[str, Mode]:
    """What a learning rate is chosen by: validation, or the test set where nothing else is published."""
    if part.study == PUBLISHED:
        return data.metric, "max"
    return f"last_{data.chosen_by.metric}", data.chosen_by.mode


def counted(data: Data) -> Iterator[tuple[Part, float]]:
    """Each part with the learning rates that Tables 3 and 4 count, and the least of them."""
    for part in parts(data):
        rates = part.trials["optimizer.lr"]
        kept = part.trials[rates >= PUBLISHED_FROM] if part.study == PUBLISHED else part.trials
        yield part._replace(trials=kept), float(kept["optimizer.lr"].min())


def _of(data: Data, rows: Sequence[DataFrame]) -> DataFrame:
    """One table, with what it is about, and what is left out behind all other columns."""
    table = joined(rows)
    if table.empty:
        return table
    return table[[name for name in table if name != "left_out"]].assign(metric=data.metric, left_out=table["left_out"])
