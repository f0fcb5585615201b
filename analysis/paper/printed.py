"""What the paper prints in its Tables 3 and 4, and the list of points that would give it.

[DEAT] Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023 (arXiv 2306.02618).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame
from scipy import stats

from analysis.estimates.correlations import METHODS
from analysis.estimates.intervals import t_test
from analysis.frames import published
from analysis.frames.names import short, spoken
from analysis.paper.parts import COLUMNS, PUBLISHED_FROM, joined


class Supposed(NamedTuple):
    """A list of points that would give what is printed: the drawn ones from `PUBLISHED_FROM`, changed."""

    without: tuple[float, ...]
    """Learning rates that are drawn and left out."""
    lr: float
    """A learning rate that is not drawn, and is added with these accuracies (%)."""
    pgd_at: float
    deat: float


#: Printed and drawn accuracies (points) that differ by more are different numbers.
_SAME_POINT = 0.011

#: Found by search over single points left out and added; inferred, printed nowhere. The p that are printed beside
#: Pearson's r give n = 27 and 24, one more than is drawn for PreActResNet-18 and as many as for VGG-19.
SUPPOSED = {
    "preact_resnet18": Supposed((), 0.45, 51.19, 52.79),
    "vgg19": Supposed((PUBLISHED_FROM,), 0.40, 48.65, 49.29),
}


def otherwise_printed(rows: DataFrame, name: str) -> pd.Series[bool]:
    """In which rows of `analysis.paper.tables.table2` the paper prints another number than it draws."""
    return 100 * (rows[name] - rows[f"{name}_printed"]).abs() > _SAME_POINT


def supposed_points(model: str) -> DataFrame:
    """The published points of a network from `PUBLISHED_FROM`, changed as `SUPPOSED` says, in percent.

    Returns:
        lr, pgd_at, deat.
    """
    name = {value: key for key, value in published.NETWORKS.items()}[model]
    table = published.numbers("figure4")[["lr", f"{name}_PGD", f"{name}_DEAT"]].dropna()
    table.columns = ["lr", *COLUMNS.values()]
    change = SUPPOSED[model]
    table = table[(table["lr"] >= PUBLISHED_FROM) & ~table["lr"].isin(change.without)]
    return joined([table, DataFrame([{"lr": change.lr, "pgd_at": change.pgd_at, "deat": change.deat}])])


def implied_n(r: float, p_value: float) -> int:
    """The n at which a Pearson correlation r has this two-sided p, nearest in log p.

    >>> implied_n(0.711, 1.4e-4), implied_n(0.889, 5.5e-10), implied_n(0.916, 3.3e-10)
    (23, 27, 24)
    """
    n = np.arange(4, 200)
    p_values = 2 * stats.t.sf(r * np.sqrt((n - 2) / (1 - r * r)), n - 2)
    with np.errstate(divide="ignore"):
        return int(n[np.argmin(np.abs(np.log(p_values / p_value)))])


def why_different(part: DataFrame) -> str:
    """By how much the computed correlations differ from the printed, and what list of points would give those.

    Args:
        part: rows of `analysis.paper.tables.table3` of one published network.
    """
    model, known = part["model.name"].iloc[0], part.dropna(subset=["printed"])
    rows = known.to_dict("records")
    n = {implied_n(row["printed"], row["printed_p"]) for row in rows if np.isfinite(row["printed_p"])}
    text = (
        f"{spoken(model)}: off by at most {_up(known['difference'].abs().max())}; the printed p belong to "
        f"n = {' and '.join(map(str, sorted(n)))}, drawn are {part['n'].max()}"
    )
    if model not in SUPPOSED:
        return text
    points = supposed_points(model)
    tests = dict(zip(METHODS, (stats.pearsonr, stats.spearmanr, stats.kendalltau), strict=True))
    off = [
        abs(float(tests[row["coefficient"]](points["lr"], points[COLUMNS[row["method"]]]).statistic) - row["printed"])
        for row in rows
    ]
    return f"{text}. {_supposed(model)} every entry comes within {_up(max(off))} (inferred, printed nowhere)"


def why_gain(part: DataFrame) -> str:
    """The same of the mean gain.

    Args:
        part: a row of `analysis.paper.tables.table4`.
    """
    row = part.iloc[0]
    model = row["model.name"]
    text = f"{spoken(model)}: off by {abs(100 * (row['estimate'] - row['printed'])):.3f}"
    if model not in SUPPOSED:
        return text
    points = supposed_points(model)
    mean, _, _, p_value = t_test((points["deat"] - points["pgd_at"]).to_numpy(dtype=np.float64), 0.95)
    return f"{text}. {_supposed(model)} the gain is {mean:.3f} and p {p_value:.2e} (inferred)"


def _supposed(model: str) -> str:
    change = SUPPOSED[model]
    added = f"a point at lr {change.lr:.2f} that is not drawn ({change.pgd_at:.2f} and {change.deat:.2f} %)"
    without = f" and without lr {short(change.without[0])}" if change.without else ""
    return f"With {added}{without},"


def _up(value: float) -> str:
    """A bound, rounded up to four digits behind the point."""
    return f"{np.ceil(1e4 * value) / 1e4:.4f}"
