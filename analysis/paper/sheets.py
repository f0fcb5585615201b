"""The paper's tables as they are read: a frame of `analysis.paper.tables` -> a sheet, in percent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame, Series

from analysis.estimates.differences import paired_difference
from analysis.frames.cells import measured, several
from analysis.frames.names import bounds, interval_text, label, short, spoken
from analysis.frames.pruned import BIAS, PRUNED
from analysis.paper import tables
from analysis.paper.parts import COLUMNS, CONTROL, KEYS, PUBLISHED_FROM, TREATMENT, joined, parts
from analysis.paper.printed import otherwise_printed, why_different, why_gain
from analysis.paper.tables import BOTH, CHOICE, at_own_best, counted
from analysis.plots.plan import PUBLISHED, Data, Plan
from analysis.tables.sheet import Bold, Sheet, latex, markdown

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
_FROM = f"published: learning rates from {PUBLISHED_FROM}, inferred to be the paper's own"

_OF_CORRELATIONS = (
    "brackets: 95 % bootstrap intervals, over seeds within learning rates where there are several, else over learning "
    "rates; n: trials; p: of no association"
)

_OF_SHIFTS = [
    f"{TREATMENT}(lr) = {CONTROL}(c lr): c by least squares over {TREATMENT}'s learning rates for which c lr lies "
    f"within {CONTROL}'s; nothing is extrapolated, {CONTROL}'s means are joined by a monotone cubic in log lr",
    "gain: at the same learning rate; left: at c times it; both are means over the learning rates that count",
    "where c rises with the least learning rate, the curves part at large ones alone: no single c describes them",
    "what is left at c is small by construction, c being chosen so: a shift is seen only where its rmse is clearly "
    "below that of a gain that is the same at every learning rate",
]


def table2(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.table2`: a row a learning rate, the better method in bold."""
    named = [(_part(part, rows), part.set_index("optimizer.lr")) for part in _parts(rows)]
    rates = sorted(rows["optimizer.lr"].unique())
    body = [[short(rate), *(cell for _, part in named for cell in _accuracies(part, rate))] for rate in rates]
    notes = [_MEANS_OF_THREE, *_otherwise(rows)] if (rows["study"] == PUBLISHED).any() else []
    if (rows["study"] != PUBLISHED).any():
        notes.append("own: mean ± standard deviation over seeds (number of trials)")
    said = _accuracy(rows)
    caption = f"{said[0].upper()}{said[1:]} (%) by learning rate, the better of the two in bold"
    groups = [("", 1), *((name, 2) for name, _ in named)]
    return _sheet(caption, ["lr", *[*COLUMNS] * len(named)], body, notes, rows, groups=groups)


def table3(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.table3`: a row a network and coefficient."""
    body = []
    for part in _parts(rows):
        for (x, coefficient), pair in part.groupby(["x", "coefficient"], sort=False):
            sides = pair.set_index("method")
            name = _COEFFICIENTS[str(coefficient)] + (" with log10 lr" if x == "log10_lr" else "")
            cells = [cell for method in COLUMNS for cell in _correlation(sides.loc[method])]
            body.append([_part(part, rows), name, str(pair["n"].max()), *cells])
    published = rows[rows["study"] == PUBLISHED]
    notes = [_NO_ANSWER, _OF_CORRELATIONS, _NOT_REPLICATES]
    notes += [_MEANS_OF_THREE, _FROM, *map(why_different, _parts(published))] if len(published) else []
    columns = ["computed", "p", "printed", "computed - printed"]
    groups = [("", 3), *((method, len(columns)) for method in COLUMNS)]
    header = ["network", "coefficient", "n", *columns * 2]
    caption = f"Correlation of {_accuracy(rows)} with the learning rate"
    return _sheet(caption, header, body, notes, rows, groups=groups).filled()


def table4(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.table4`: a row a network."""
    body = [
        [
            _part(part, rows),
            _gain(row, "estimate"),
            short(row["p_value"], 2),
            short(row["p_wilcoxon"], 2),
            str(row["n_cells"]),
            str(row["n_trials"]),
            _points(row["printed"]),
            short(row["printed_p"], 3),
        ]
        for part in _parts(rows)
        for row in part.to_dict("records")
    ]
    published = rows[rows["study"] == PUBLISHED]
    of_rates = "brackets: 95 % t interval over learning rates; p: paired t-test over learning rates"
    notes = [_NO_ANSWER, of_rates, _NOT_REPLICATES]
    notes += [_MEANS_OF_THREE, _FROM, *map(why_gain, _parts(published))] if len(published) else []
    header = ["network", "gain (points)", "p (t)", "p (Wilcoxon)", "lr", "trials", "printed gain", "printed p"]
    gain = f"Mean gain of {TREATMENT} over {CONTROL} in {_accuracy(rows)}"
    caption = f"{gain} at equal learning rates, in percentage points"
    return _sheet(caption, header, body, notes, rows).filled()


def shifts(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.shifts`: a row a network and least learning rate."""
    body = [
        [
            _part(part, rows),
            "all" if not row["lr_from"] else f"from {short(row['lr_from'])}",
            interval_text(row["c"], row["low"], row["high"]) or "none",
            f"{row['n']} of {row['n_rates']}",
            _points(row["gain"]),
            _gain(row, "residual", "residual_"),
            _points(row["rmse"], ""),
            _points(row["constant_rmse"], ""),
            row["interval_method"],
        ]
        for part in _parts(rows)
        for row in part.to_dict("records")
    ]
    notes = [*_OF_SHIFTS, *([_MEANS_OF_THREE] if (rows["study"] == PUBLISHED).any() else [])]
    header = ["network", "DEAT's lr", "c", "counted", "gain", "left at c", "rmse", "rmse of a constant gain"]
    caption = f"Horizontal shift c at which {TREATMENT} meets {CONTROL}, in percentage points but for c"
    return _sheet(caption, [*header, "interval"], body, notes, rows)


def own_best(rows: DataFrame) -> Sheet:
    """Of `analysis.paper.tables.own_best`: a row a network."""
    body = [
        [
            _part(part, rows),
            *(text for name in COLUMNS.values() for text in _at_best(row, name)),
            _gain(row, "difference"),
            label(str(row["chosen_by"])).removesuffix(" (%)"),
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
    return _sheet("Each method at its own best learning rate", header, body, notes, rows, groups=groups)


def _sheet(
    caption: str,
    header: list[str],
    body: list[list[str]],
    notes: list[str],
    rows: DataFrame,
    *,
    groups: Sequence[tuple[str, int]] = (),
) -> Sheet:
    """The sheet, its caption with the study, data set and batch size that all rows share, its notes with what is
    left out."""
    first = rows.iloc[0]
    shared = [] if _mixed(rows) else [_where(first)]
    shared += [] if several(rows["batch_size"]) else [f"batch {first['batch_size']}"]
    left_out = [
        f"{_part(part, rows)}: left out: {part['left_out'].iloc[0]}"
        for part in _parts(rows)
        if part["left_out"].iloc[0]
    ]
    caption = f"{caption} ({', '.join(shared)})" if shared else caption
    biased = [f"pruned trials: {BIAS}"] if any(f" {PRUNED}" in note for note in left_out) else []
    return Sheet(caption, header, body, [*notes, *left_out, *biased], groups)


def _parts(rows: DataFrame) -> Iterator[DataFrame]:
    for _, part in rows.groupby(list(KEYS), sort=False):
        yield part


def _part(part: DataFrame, rows: DataFrame) -> str:
    """`VGG-19, batch 128 (published, CIFAR-10)`, without what all rows share: that stands in the caption."""
    first = part.iloc[0]
    batch = f", batch {first['batch_size']}" if several(rows["batch_size"]) else ""
    where = f" ({_where(first)})" if _mixed(rows) else ""
    return f"{spoken(first['model.name'])}{batch}{where}"


def _mixed(rows: DataFrame) -> bool:
    return several(rows["study"]) or several(rows["data_set"])


def _where(row: Series[Any]) -> str:
    return f"{row['study']}, {row['data_set']}"


def _accuracy(rows: DataFrame) -> str:
    """`robust test accuracy`; of another moment than the last epoch, with that."""
    which, *_, kind = str(rows["metric"].iloc[0]).split("_")
    return f"{kind} test accuracy" + (" at the best epoch by validation" if which == "best" else "")


def _accuracies(part: DataFrame, rate: float) -> list[str]:
    """Both methods at one learning rate."""
    if rate not in part.index:
        return [""] * len(COLUMNS)
    row = part.loc[rate]
    shown = [round(100 * row[name], 2) for name in COLUMNS.values()]
    better = np.nanmax(shown) if np.isfinite(shown).all() and shown[0] != shown[1] else np.inf
    marks = ["†" if otherwise_printed(part, name).loc[rate] else "" for name in COLUMNS.values()]
    texts = [_mean(row, name) + mark for name, mark in zip(COLUMNS.values(), marks, strict=True)]
    return [Bold(text) if value == better else text for text, value in zip(texts, shown, strict=True)]


def _mean(row: Any, name: str) -> str:
    """`45.20`, of several seeds `45.20 ± 0.31 (3)`, nothing for NaN."""
    if pd.isna(row[name]):
        return ""
    spread = f" ± {100 * row[f'{name}_sd']:.2f} ({row[f'{name}_n']})" if row[f"{name}_n"] > 1 else ""
    return f"{100 * row[name]:.2f}{spread}"


def _otherwise(rows: DataFrame) -> Iterator[str]:
    for method, name in COLUMNS.items():
        for row in rows[otherwise_printed(rows, name)].to_dict("records"):
            value = 100 * row[f"{name}_printed"]
            place = f"{spoken(row['model.name'])}, {method}, lr {short(row['optimizer.lr'])}"
            yield f"† {place}: drawn in Figure 4; the paper's Table 2 prints {value:.2f}"


def _correlation(row: Any) -> list[str]:
    printed = [f"{row['printed']:.3f}", f"{row['difference']:+.3f}"] if pd.notna(row["printed"]) else ["", ""]
    interval = bounds(row["low"], row["high"], 3)
    return [f"{row['estimate']:.3f} {interval}", short(row["p_value"], 2), *printed]


def _at_best(row: Any, name: str) -> tuple[str, str]:
    count = f" (n = {row[f'{name}_n']})" if row[f"{name}_n"] > 1 else ""
    return f"{short(row[f'{name}_lr'])}{'*' * bool(row[f'{name}_edge'])}", f"{100 * row[name]:.2f}{count}"


def _points(fraction: float, sign: str = "+") -> str:
    return "" if pd.isna(fraction) else f"{100 * fraction:{sign}.2f}"


def _gain(row: Any, name: str, prefix: str = "") -> str:
    """In points, with a sign; the interval's ends without."""
    ends = bounds(row[f"{prefix}low"], row[f"{prefix}high"], factor=100)
    return "" if pd.isna(row[name]) else f"{_points(row[name])} {ends}"


def _written(sheet: Callable[[DataFrame], Sheet], *, apart: bool = False) -> dict[str, Callable[[DataFrame], str]]:
    """A table's further files: ending to the text of its frame.

    Args:
        sheet: a function of this module.
        apart: one table a study, for one with a column a network.
    """

    def sheets(rows: DataFrame) -> list[Sheet]:
        return [sheet(part) for _, part in rows.groupby("study", sort=False)] if apart else [sheet(rows)]

    return {
        "md": lambda rows: "\n".join(map(markdown, sheets(rows))),
        "tex": lambda rows: "\n".join(map(latex, sheets(rows))),
    }


def _measured(data: Data) -> Series[str]:
    return joined([measured(part.trials, data.metric) for part in parts(data)])["trial_id"]


def _counted(data: Data) -> Series[str]:
    return joined([measured(part.trials, data.metric) for part, _ in counted(data)])["trial_id"]


def _paired(data: Data) -> frozenset[str]:
    gains = [paired_difference(part.trials, data.metric) for part, _ in counted(data)]
    return frozenset().union(*(gain.trial_ids for gain in gains))


def _best(data: Data) -> Series[str]:
    return joined([measured(best, data.metric) for _, best in at_own_best(data)])["trial_id"]


def _captioned(sheet: Callable[[DataFrame], Sheet]) -> Callable[..., str]:
    """What a reader has to know of a table: its caption, and its notes."""

    def caption(rows: DataFrame, metric: str) -> str:
        one = sheet(rows)
        return " ".join(f"{text[0].upper()}{text[1:]}." for text in (one.caption, *one.notes))

    return caption


def _table(
    name: str,
    numbers: Callable[[Data], DataFrame],
    needs: str,
    sheet: Callable[[DataFrame], Sheet],
    trials: Callable[[Data], Any],
    *,
    apart: bool = False,
) -> Plan:
    texts = _written(sheet, apart=apart)
    return Plan(name, numbers, needs, _captioned(sheet), texts=texts, overlays=True, trials=trials)


TABLES: tuple[Plan, ...] = (
    _table("table2", tables.table2, f"needs {BOTH}", table2, _measured, apart=True),
    _table("table3", tables.table3, f"needs {BOTH}", table3, _counted),
    _table("table4", tables.table4, f"needs {BOTH} at one learning rate", table4, _paired),
    _table("shift", tables.shifts, f"needs {BOTH}", shifts, _measured),
    _table("own_best", tables.own_best, f"needs {BOTH}, and {CHOICE}", own_best, _best),
)
