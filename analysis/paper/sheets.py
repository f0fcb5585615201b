"""The paper's tables as Markdown and as LaTeX (booktabs): a frame of `analysis.paper.tables` -> text, in percent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.frames.cells import several
from analysis.frames.names import bounds, label, short
from analysis.paper import tables
from analysis.paper.figures import BOTH, CHOICE
from analysis.paper.parts import CONTROL, KEYS, PUBLISHED_FROM, TREATMENT, spoken
from analysis.paper.printed import otherwise_printed, why_different, why_gain
from analysis.paper.tables import COLUMNS
from analysis.plots.plan import PUBLISHED, Table
from analysis.tables.sheet import Cell, Sheet, filled, written

_COEFFICIENTS = {"pearson": "Pearson r", "spearman": "Spearman", "kendall": "Kendall tau"}

_NOT_REPLICATES = (
    "the learning rates of one network are not independent replicates: the p treat them so, as the paper does, and so "
    "does every interval over learning rates"
)

_NO_ANSWER = "as the paper has it: a description, not a test over seeds; the answers are those of `sweep claims`"

_MEANS_OF_THREE = (
    "published: points read off Figure 4, each the mean of 3 runs whose spread is not published; no interval here "
    "knows the seeds' noise"
)

_OF_CORRELATIONS = (
    "brackets: 95 % bootstrap intervals, over seeds within learning rates where there are several, else over learning "
    "rates; n: trials; p: of no association"
)


def _at_best(row: Any, name: str) -> tuple[str, str]:
    count = f" (n = {row[f'{name}_n']})" if row[f"{name}_n"] > 1 else ""
    return f"{short(row[f'{name}_lr'])}{'*' * bool(row[f'{name}_edge'])}", f"{100 * row[name]:.2f}{count}"


def _mixed(rows: DataFrame) -> bool:
    return several(rows["study"]) or several(rows["data_set"])


def _where(row: Any) -> str:
    return f"{row['study']}, {row['data_set']}"


def _caption(text: str, rows: DataFrame) -> str:
    """With the study, the data set and the batch size that all rows share."""
    first = rows.iloc[0]
    shared = [] if _mixed(rows) else [_where(first)]
    shared += [] if several(rows["batch_size"]) else [f"batch {first['batch_size']}"]
    return f"{text} ({', '.join(shared)})" if shared else text


def _interval(row: Any, prefix: str = "") -> str:
    return bounds(100 * row[f"{prefix}low"], 100 * row[f"{prefix}high"])


def _part(part: DataFrame, rows: DataFrame) -> str:
    """`VGG-19, batch 128 (published, CIFAR-10)`, without what all rows share: that stands in the caption."""
    first = part.iloc[0]
    batch = f", batch {first['batch_size']}" if several(rows["batch_size"]) else ""
    where = f" ({_where(first)})" if _mixed(rows) else ""
    return f"{spoken(first['model.name'])}{batch}{where}"


def _parts(rows: DataFrame) -> Iterator[DataFrame]:
    for _, part in rows.groupby(list(KEYS), sort=False):
        yield part


def _left_out(rows: DataFrame) -> list[str]:
    counted = [part for part in _parts(rows) if part["left_out"].iloc[0]]
    return [f"{_part(part, rows)}: left out: {part['left_out'].iloc[0]}" for part in counted]


def _points(fraction: float, sign: str = "+") -> str:
    return "" if pd.isna(fraction) else f"{100 * fraction:{sign}.2f}"


def own_best(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.own_best`: a row a network."""
    body = [
        [
            Cell(_part(part, rows)),
            *(Cell(text) for name in COLUMNS.values() for text in _at_best(row, name)),
            Cell(f"{_points(row['difference'])} {_interval(row)}"),
            Cell(label(str(row["chosen_by"])).removesuffix(" (%)")),
        ]
        for part in _parts(rows)
        for row in part.to_dict("records")
    ]
    notes = [
        "* at the edge of the learning rates tried: a better one may lie beyond",
        "brackets: 95 % over the seeds that chose the learning rates too, so that they decide nothing: `sweep claims`",
    ]
    if (rows["study"] == PUBLISHED).any():
        notes += [
            "published: chosen by the test set itself, the paper having no validation images: the largest of some 25 "
            "values, too high for both methods, and their difference without an interval",
            _MEANS_OF_THREE,
        ]
    value = f"{rows['metric'].iloc[0].rpartition('_')[2]} (%)"
    header = ["network", "lr", value, "lr", value, f"{TREATMENT} - {CONTROL}", "chosen by"]
    groups = [("", 1), *((method, 2) for method in COLUMNS), ("", 2)]
    return Sheet(
        _caption("Each method at its own best learning rate", rows), groups, header, body, [*notes, *_left_out(rows)]
    )


def shifts(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.shifts`: a row a network and least learning rate."""
    body = [
        [
            Cell(_part(part, rows)),
            Cell("all" if not row["lr_from"] else f"from {short(row['lr_from'])}"),
            Cell(f"{row['c']:.2f} {bounds(row['low'], row['high'])}" if np.isfinite(row["c"]) else "n/a"),
            Cell(f"{row['n']} of {row['n_rates']}"),
            Cell(_points(row["gain"])),
            Cell(f"{_points(row['residual'])} {_interval(row, 'residual_')}" if np.isfinite(row["c"]) else ""),
            Cell(_points(row["rmse"], "")),
            Cell(_points(row["constant_rmse"], "")),
            Cell(row["interval_method"]),
        ]
        for part in _parts(rows)
        for row in part.to_dict("records")
    ]
    notes = [
        f"{TREATMENT}(lr) = {CONTROL}(c lr): c by least squares over {TREATMENT}'s learning rates for which c lr lies "
        f"within {CONTROL}'s; nothing is extrapolated, {CONTROL}'s means are joined by a monotone cubic in log lr",
        "gain: at the same learning rate; left: at c times it; both are means over the learning rates that count",
        "where c rises with the least learning rate, the curves part at large ones alone: no single c describes them",
        "what is left at c is small by construction, c being chosen so: a shift is seen only where its rmse is clearly "
        "below that of a gain that is the same at every learning rate",
    ]
    notes += [_MEANS_OF_THREE] if (rows["study"] == PUBLISHED).any() else []
    header = [
        "network",
        "DEAT's lr",
        "c",
        "counted",
        "gain",
        "left at c",
        "rmse",
        "rmse of a constant gain",
        "interval",
    ]
    caption = f"Horizontal shift c at which {TREATMENT} meets {CONTROL}, in points but for c"
    return Sheet(_caption(caption, rows), [], header, body, [*notes, *_left_out(rows)])


def _mean(row: Any, name: str) -> str:
    """`45.20`, of several seeds `45.20 ± 0.31 (3)`, nothing for NaN."""
    if pd.isna(row[name]):
        return ""
    spread = f" ± {100 * row[f'{name}_sd']:.2f} ({row[f'{name}_n']})" if row[f"{name}_n"] > 1 else ""
    return f"{100 * row[name]:.2f}{spread}"


def _accuracies(part: DataFrame, rate: float) -> list[Cell]:
    """Both methods at one learning rate."""
    if rate not in part.index:
        return [Cell("")] * len(COLUMNS)
    row = part.loc[rate]
    shown = [round(100 * row[name], 2) for name in COLUMNS.values()]
    better = np.nanmax(shown) if np.isfinite(shown).all() and shown[0] != shown[1] else np.inf
    marks = ["†" if otherwise_printed(part, name).loc[rate] else "" for name in COLUMNS.values()]
    return [
        Cell(_mean(row, name) + mark, bool(value == better))
        for name, mark, value in zip(COLUMNS.values(), marks, shown, strict=True)
    ]


def _accuracy(rows: DataFrame) -> str:
    """`robust test accuracy`; of another moment than the last epoch, with that."""
    which, *_, kind = str(rows["metric"].iloc[0]).split("_")
    return f"{kind} test accuracy" + (" at the best epoch by validation" if which == "best" else "")


def _otherwise(rows: DataFrame) -> Iterator[str]:
    for method, name in COLUMNS.items():
        for row in rows[otherwise_printed(rows, name)].to_dict("records"):
            value = 100 * row[f"{name}_printed"]
            place = f"{spoken(row['model.name'])}, {method}, lr {short(row['optimizer.lr'])}"
            yield f"† {place}: drawn in Figure 4; the paper's Table 2 prints {value:.2f}"


def table2(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.table2`: a row a learning rate, the better method in bold."""
    parts = [(_part(part, rows), part.set_index("optimizer.lr")) for part in _parts(rows)]
    rates = sorted(rows["optimizer.lr"].unique())
    body = [[Cell(short(rate)), *(cell for _, part in parts for cell in _accuracies(part, rate))] for rate in rates]
    notes = []
    if (rows["study"] == PUBLISHED).any():
        notes += [_MEANS_OF_THREE, *_otherwise(rows)]
    if (rows["study"] != PUBLISHED).any():
        notes.append("own: mean ± standard deviation over seeds (number of trials)")
    groups = [("", 1), *((name, 2) for name, _ in parts)]
    said = _accuracy(rows)
    caption = f"{said[0].upper()}{said[1:]} (%) by learning rate, the better of the two in bold"
    return Sheet(_caption(caption, rows), groups, ["lr", *[*COLUMNS] * len(parts)], body, [*notes, *_left_out(rows)])


def _p(value: float, digits: int = 2) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}g}"


def _correlation(row: Any) -> list[Cell]:
    printed = [f"{row['printed']:.3f}", f"{row['difference']:+.3f}"] if pd.notna(row["printed"]) else ["", ""]
    interval = "[n/a]" if np.isnan(row["low"]) else f"[{row['low']:.3f}, {row['high']:.3f}]"
    return [Cell(text) for text in (f"{row['estimate']:.3f} {interval}", _p(row["p_value"]), *printed)]


def table3(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.table3`: a row a network and coefficient."""
    body = []
    for part in _parts(rows):
        for (x, coefficient), pair in part.groupby(["x", "coefficient"], sort=False):
            sides = pair.set_index("method")
            name = _COEFFICIENTS[str(coefficient)] + (" with log10 lr" if x == "log10_lr" else "")
            cells = [cell for method in COLUMNS for cell in _correlation(sides.loc[method])]
            body.append([Cell(_part(part, rows)), Cell(name), Cell(str(pair["n"].max())), *cells])
    notes = [_NO_ANSWER, _OF_CORRELATIONS, _NOT_REPLICATES]
    if (rows["study"] == PUBLISHED).any():
        notes += [_MEANS_OF_THREE, f"published: learning rates from {PUBLISHED_FROM}, inferred to be the paper's own"]
        notes += [why_different(part) for part in _parts(rows[rows["study"] == PUBLISHED])]
    columns = ["computed", "p", "printed", "computed - printed"]
    groups = [("", 3), *((method, len(columns)) for method in COLUMNS)]
    header = ["network", "coefficient", "n", *columns * 2]
    caption = f"Correlation of {_accuracy(rows)} with the learning rate"
    return filled(Sheet(_caption(caption, rows), groups, header, body, [*notes, *_left_out(rows)]))


def table4(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.table4`: a row a network."""
    body = [
        [
            Cell(_part(part, rows)),
            Cell(f"{_points(row['estimate'])} {_interval(row)}"),
            Cell(_p(row["p_value"])),
            Cell(_p(row["p_wilcoxon"])),
            Cell(str(row["n_cells"])),
            Cell(str(row["n_trials"])),
            Cell(_points(row["printed"])),
            Cell(_p(row["printed_p"], 3)),
        ]
        for part in _parts(rows)
        for row in part.to_dict("records")
    ]
    of_rates = "brackets: 95 % t interval over learning rates; p: paired t-test over learning rates"
    notes = [_NO_ANSWER, of_rates, _NOT_REPLICATES]
    if (rows["study"] == PUBLISHED).any():
        notes += [_MEANS_OF_THREE, f"published: learning rates from {PUBLISHED_FROM}, inferred to be the paper's own"]
        notes += [why_gain(part) for part in _parts(rows[rows["study"] == PUBLISHED])]
    header = ["network", "gain (points)", "p (t)", "p (Wilcoxon)", "lr", "trials", "printed gain", "printed p"]
    caption = f"Mean gain of {TREATMENT} over {CONTROL} in {_accuracy(rows)} at equal learning rates, in points"
    notes = [*filter(None, notes), *_left_out(rows)]
    return filled(Sheet(_caption(caption, rows), [], header, body, notes))


TABLES: tuple[Table, ...] = (
    Table("table2", tables.table2, f"needs {BOTH}", written(table2, apart=True)),
    Table("table3", tables.table3, f"needs {BOTH}", written(table3)),
    Table("table4", tables.table4, f"needs {BOTH} at one learning rate", written(table4)),
    Table("shift", tables.shifts, f"needs {BOTH}", written(shifts)),
    Table("own_best", tables.own_best, f"needs {BOTH}, and {CHOICE}", written(own_best)),
)
