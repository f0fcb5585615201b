"""The paper's Tables 2, 3 and 4 worked out anew, and what goes beyond them: the shift, and each method at its best.

[DEAT] Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023 (arXiv 2306.02618).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pandas import DataFrame

from analysis.estimates.correlations import METHODS, Method, correlation
from analysis.estimates.differences import compared, paired_difference
from analysis.estimates.ranges import clipped, possible_difference
from analysis.estimates.shift import shift
from analysis.frames import published
from analysis.frames.cells import Mode, best_cells, measured, several
from analysis.paper import parts
from analysis.paper.parts import CONTROL, PUBLISHED_FROM, TREATMENT, Part
from analysis.plots.plan import PUBLISHED, Data

#: Methods as the columns of the tables call them.
COLUMNS = {CONTROL: "pgd_at", TREATMENT: "deat"}

#: Of the published study, the least learning rates of DEAT from which c is taken: all, Table 3's, Table 2's.
SHIFT_FROM = (0.0, PUBLISHED_FROM, 0.01)

_CONFIDENCE = 0.95


def table2(data: Data) -> DataFrame:
    """Robust test accuracy by learning rate [DEAT, Table 2].

    Returns:
        `KEYS`, optimizer.lr, then for pgd_at and deat: mean, _sd (over seeds), _n (trials), _printed (published
        study only; a fraction), metric and left_out, as in all that follow.
    """
    found = []
    for part in parts.parts(data):
        rows = measured(part.trials, data.metric)
        found.append(part.named(_with_printed(_by_rate(rows, data.metric), part)))
    return _of(data.metric, parts.joined(found))


def table3(data: Data) -> DataFrame:
    """Correlation of robust accuracy with the learning rate [DEAT, Table 3], and with its logarithm.

    Returns:
        `KEYS`, method, x (optimizer.lr or log10_lr), coefficient, estimate, low, high, p_value, n, lr_from (the
        least learning rate that counts), interval_method, printed, printed_p and difference (estimate minus
        printed; published study only), left_out.
    """
    rows = [
        part.named(DataFrame(list(_correlations(part, data.metric)))).assign(lr_from=least)
        for part, least in counted(data)
    ]
    if not rows:
        return DataFrame()
    printed = published.numbers("table3").rename(columns={"pgd_at": CONTROL, "deat": TREATMENT})
    values = printed.melt(["model.name", "coefficient"], [CONTROL, TREATMENT], "method", "printed")
    printed = printed.drop(columns=[CONTROL, TREATMENT]).rename(columns={"pgd_at_p": CONTROL, "deat_p": TREATMENT})
    p_values = printed.melt(["model.name", "coefficient"], [CONTROL, TREATMENT], "method", "printed_p")
    keys = ["model.name", "method", "coefficient"]
    known = values.merge(p_values, on=keys).assign(study=PUBLISHED, x="optimizer.lr")
    table = parts.joined(rows).merge(known, on=[*keys, "study", "x"], how="left")
    return _of(data.metric, table.assign(difference=table["estimate"] - table["printed"]))


def table4(data: Data) -> DataFrame:
    """Mean gain of DEAT over PGD-AT at equal learning rates [DEAT, Table 4].

    Returns:
        `KEYS`, estimate, low, high, p_value, test, p_wilcoxon, n_cells (learning rates), n_trials, lr_from,
        printed and printed_p (published study only), left_out; gains as fractions.
    """
    names = ["estimate", "low", "high", "p_value", "test", "p_wilcoxon", "n_cells", "n_trials"]
    rows = []
    for part, least in counted(data):
        found = paired_difference(part.trials, data.metric, confidence=_CONFIDENCE)
        if found.n_cells:
            rows.append(part.named(DataFrame([{name: getattr(found, name) for name in names} | {"lr_from": least}])))
    if not rows:
        return DataFrame()
    printed = published.numbers("table4").rename(columns={"gain": "printed", "p": "printed_p"})
    printed = printed.assign(study=PUBLISHED, printed=printed["printed"] / 100)
    return _of(data.metric, parts.joined(rows).merge(printed, on=["study", "model.name"], how="left"))


def shifts(data: Data, *, shown: bool = False) -> DataFrame:
    """The c of DEAT(lr) = PGD-AT(c lr), and the gain that is left there; see `analysis.estimates.shift`.

    Args:
        data: with the other study, if one stands beside it.
        shown: of each part only the row that Figure 4 shows, from the largest of the least learning rates.

    Returns:
        `KEYS`, lr_from (least learning rate of DEAT that counts; 0: all), the fields of
        `analysis.estimates.shift.Shift`, left_out.
    """
    found = [
        part.named(DataFrame([{"lr_from": least, **vars(shift(part.trials, data.metric, lr_from=least))}]))
        for part in parts.parts(data)
        for least in (SHIFT_FROM if part.study == PUBLISHED else SHIFT_FROM[:1])[-1 if shown else 0 :]
    ]
    return _of(data.metric, parts.joined(found))


def own_best(data: Data) -> DataFrame:
    """Each method at the learning rate that is best for it, and how they differ there.

    A run's own is chosen by the sweep's metric of validation. The published study has the test set alone, so that
    each of its values is the largest of some 25 and lies too high.

    Returns:
        `KEYS`, chosen_by, then for pgd_at and deat: _lr, _edge (of those tried), mean, _n; difference (DEAT minus
        PGD-AT), low, high, left_out; no p, the seeds that chose being those compared.
    """
    found = []
    for part, best in at_own_best(data):
        found.append(part.named(DataFrame([_at_best(part, best, data.metric, _chooser(part, data)[0])])))
    return _of(data.metric, parts.joined(found))


def at_own_best(data: Data) -> Iterator[tuple[Part, list[DataFrame]]]:
    """Each part with the trials of PGD-AT's best cell and of DEAT's, where both can be chosen."""
    for part in parts.parts(data):
        chooser, mode = _chooser(part, data)
        best = [_best(part.trials[part.trials["method"] == name], chooser, mode) for name in COLUMNS]
        if all(len(side) for side in best):
            yield part, best


def counted(data: Data) -> Iterator[tuple[Part, float]]:
    """Each part with the learning rates that Tables 3 and 4 count, and the least of them."""
    for part in parts.parts(data):
        rates = part.trials["optimizer.lr"]
        kept = part.trials[rates >= PUBLISHED_FROM] if part.study == PUBLISHED else part.trials
        yield part._replace(trials=kept), float(kept["optimizer.lr"].min())


def _correlations(part: Part, metric: str) -> Iterator[dict[str, Any]]:
    """Every coefficient in lr; in log10 lr Pearson's alone, the others being of ranks."""
    pairs: list[tuple[str, Method]] = [("optimizer.lr", name) for name in METHODS]
    trials = part.trials.assign(log10_lr=np.log10(part.trials["optimizer.lr"].astype(np.float64)))
    for method in COLUMNS:
        for x, coefficient in [*pairs, ("log10_lr", METHODS[0])]:
            found = vars(correlation(trials[trials["method"] == method], x, metric, coefficient))
            names = ("estimate", "low", "high", "p_value", "n", "interval_method")
            yield {"method": method, "x": x, "coefficient": coefficient, **{name: found[name] for name in names}}


def _by_rate(rows: DataFrame, metric: str) -> DataFrame:
    """Mean, sd and n of each method at each learning rate."""
    table = DataFrame({"optimizer.lr": np.sort(rows["optimizer.lr"].unique())})
    for method, name in COLUMNS.items():
        values = rows[rows["method"] == method].groupby("optimizer.lr")[metric]
        known = values.agg(mean="mean", sd="std", n="count").reindex(table["optimizer.lr"]).reset_index(drop=True)
        table[name], table[f"{name}_sd"] = known["mean"], known["sd"]
        table[f"{name}_n"] = known["n"].fillna(0).astype(np.int64)
    return table


def _with_printed(table: DataFrame, part: Part) -> DataFrame:
    """The published study's rows beside what its Table 2 prints; NaN at learning rates it does not."""
    printed = published.numbers("table2")
    printed = printed[(printed["model.name"] == part.model) & (part.study == PUBLISHED)].set_index("lr")
    rates = table["optimizer.lr"]
    return table.assign(**{f"{name}_printed": rates.map(printed[name]) / 100 for name in COLUMNS.values()})


def _chooser(part: Part, data: Data) -> tuple[str, Mode]:
    """What a learning rate is chosen by: validation, or the test set where nothing else is published."""
    if part.study == PUBLISHED:
        return data.metric, "max"
    return f"last_{data.chosen_by.metric}", data.chosen_by.mode


def _best(trials: DataFrame, metric: str, mode: Mode) -> DataFrame:
    """The trials of the best cell; none if nothing can be chosen."""
    cells = best_cells(trials, metric, mode=mode)
    return trials[trials["optimizer.lr"].isin(cells["optimizer.lr"]) & (trials["outcome"] == "completed")]


def _at_best(part: Part, best: list[DataFrame], metric: str, chooser: str) -> dict[str, Any]:
    values = [measured(side, metric).set_index("seed")[metric].astype(np.float64) for side in best]
    found = compared(values[1], values[0], _CONFIDENCE)
    found["low"], found["high"] = clipped(found["low"], found["high"], possible_difference(metric))
    row: dict[str, Any] = {"chosen_by": chooser}
    for name, side, value in zip(COLUMNS.values(), best, values, strict=True):
        tried = part.trials.loc[part.trials["method"] == side["method"].iloc[0], "optimizer.lr"]
        lr = float(side["optimizer.lr"].iloc[0])
        edge = several(tried) and lr in (tried.min(), tried.max())
        row |= {f"{name}_lr": lr, f"{name}_edge": edge, name: value.mean(), f"{name}_n": len(value)}
    return row | {name: found[name] for name in ("difference", "low", "high")}


def _of(metric: str, table: DataFrame) -> DataFrame:
    """The table with what it is about, and what is left out behind all other columns."""
    if table.empty:
        return table
    return table[[name for name in table if name != "left_out"]].assign(metric=metric, left_out=table["left_out"])
