"""The figures and tables that the data allow, each written: PNG and PDF with the CSV beside them, or text."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from pandas import DataFrame

from analysis import manifest
from analysis.claims.ledger import ledger
from analysis.claims.study import study_of
from analysis.estimates.correlations import correlations
from analysis.estimates.differences import differences
from analysis.frames.cells import BUDGET, CONDITION, nothing_completed, one_budget, same_budget
from analysis.frames.dynamics import dynamics_of
from analysis.frames.log import read_log
from analysis.frames.trials import epochs_of
from analysis.paper import figures, sheets
from analysis.paper.parts import published_data
from analysis.plots import accuracy_epoch, accuracy_lr, accuracy_ratio, dynamics, methods, ratio, style, surface
from analysis.plots.plan import BY_VAL_ROBUST, OWN, PUBLISHED, ChosenBy, Data, Plan, Product, Table
from analysis.plots.style import STYLE
from analysis.tables.claims import claims_frame
from analysis.tables.export import csv_text
from analysis.uses import trial_ids
from trainers.errors import UserError
from trainers.files import whole

#: Of more there is no picture, but only the numbers.
MOST_CURVES = 64


@dataclass(frozen=True)
class Drawing:
    """What `draw` wrote, and what it could not draw and why."""

    written: tuple[Path, ...]
    skipped: dict[str, str]
    """Figure or table: what it needs that the data do not have."""
    left_out: dict[str, int]
    """Trials that a run's figures do not pool with the others, by why: of another budget, or other conditions."""


def draw(
    directory: Path | None,
    output: Path,
    metric: str = "last_test_robust",
    chosen_by: ChosenBy = BY_VAL_ROBUST,
    *,
    published: bool = False,
) -> Drawing:
    """Every figure and table of numbers that a run's records, the published numbers or both allow.

    Args:
        directory: a run, as given to `sweep launch --out`; none: the published study alone.
        output: folder for the files; made if it is not there.
        metric: what is drawn, a column of `analysis.frames.trials.load_trials`.
        chosen_by: what the sweep chooses by; each method's cell, in the figures that draw only one.
        published: show the published study beside the run, in the figures and tables of the paper.

    Returns:
        the paths written (NAME.png at 150 dpi, NAME.pdf, the CSVs, tables as md and tex, the manifest), and what
        was skipped.

    Raises:
        UserError: the directory is not a run, no trial is completed, there is no such metric, or the output
            cannot be written.
    """
    data = load(directory, metric, chosen_by, published=published)
    try:
        output.mkdir(parents=True, exist_ok=True)
        made, skipped = products(data)
        texts = [path for product in made for path in _write(product, output)]
        pictures = {product.name: _paint(product, output) for product in made}
        described = manifest.described(data, directory, made)
        written = [*texts, *itertools.chain(*pictures.values()), manifest.write(described, pictures, output)]
        return Drawing(tuple(written), skipped, _mixed(data.trials))
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"--output {output}: cannot be written: {why}; give a folder that can") from error


def _mixed(trials: DataFrame) -> dict[str, int]:
    return {why: n for why, n in one_budget(trials)[1].items() if why in (BUDGET, CONDITION)}


def check(directory: Path | None, output: Path, chosen_by: ChosenBy = BY_VAL_ROBUST) -> dict[str, str]:
    """Whether figures and tables would come out again as they lie there; nothing is written.

    Args:
        directory: the run they were drawn from; none: the published study alone.
        output: folder of the files.
        chosen_by: as for `draw`.

    Returns:
        figure or table to `same`, `edited by hand`, `missing`, or `differs` and why.

    Raises:
        UserError: there is no manifest or it cannot be read, it is of other data, or as for `draw`.
    """
    known = manifest.read(output)
    manifest.refuse_other(known, directory, output)
    published = PUBLISHED in known["sources"]
    data = load(directory, known["metric"], chosen_by, published=published)
    made, skipped = products(data)
    fresh = manifest.described(data, directory, made)
    return manifest.compared(known, fresh, output, skipped)


def load(
    directory: Path | None,
    metric: str = "last_test_robust",
    chosen_by: ChosenBy = BY_VAL_ROBUST,
    *,
    published: bool = False,
) -> Data:
    """What figures are drawn from; the arguments and errors are those of `draw`."""
    if directory is None:
        return published_data(metric)
    records = read_log(directory)
    study, epochs = study_of(records), epochs_of(records)
    trials = study.trials
    if not (trials["outcome"] == "completed").any():
        raise UserError(f"{directory}: {nothing_completed(trials, 'to draw')}")
    names = {
        record["trial_id"]: record["config"].get("data", {}).get("name", "unnamed data")
        for record in records
        if record["record"] == "trial"
    }
    trials = trials.assign(data_set=trials["trial_id"].map(names))
    beside = published_data(metric) if published else None
    claims = ledger(study, y=metric, **chosen_by._asdict())
    shown = dynamics_of(records)
    return Data(trials, epochs, metric, chosen_by, shown, claims=claims, chose=study.chose, beside=beside)


def products(data: Data) -> tuple[list[Product], dict[str, str]]:
    """Every figure and table that the data allow, not written yet, and what was skipped and why.

    Of the published study alone there are the paper's own figures and tables. A run's own figures show the trials of
    the commonest budget and conditions (`analysis.frames.cells`); the paper's choose for each network.
    """
    own = data.study == OWN
    made, skipped = [], {}
    pooled = data._replace(trials=same_budget(data.trials)) if own else data
    for table in (*(TABLES if own else ()), *sheets.TABLES):
        rows = table.frame(data)
        if len(rows):
            texts = {f"{table.name}.csv": csv_text(rows)}
            texts |= {f"{table.name}.{ending}": text(rows) for ending, text in table.texts.items()}
            made.append(Product(table.name, texts, trials=trial_ids(table.name, data, [rows])))
        else:
            skipped[table.name] = table.needs
    for plan in (*((*PLANS, *ratio.PLANS, *dynamics.PLANS) if own else ()), *figures.PLANS):
        frames = plan.frames(data if plan in figures.PLANS else pooled)
        first = next(iter(frames.values()))
        if first.empty:
            skipped[plan.name] = plan.needs
            continue
        texts = {f"{stem}.csv": csv_text(frame) for stem, frame in frames.items()}
        used = trial_ids(plan.name, data if plan in figures.PLANS else pooled, list(frames.values()))
        if (curves := style.curves(first)) > MOST_CURVES:
            made.append(Product(plan.name, texts, trials=used))
            skipped[plan.name] = f"needs at most {MOST_CURVES} curves or surfaces, to be read, and has {curves}"
        else:
            made.append(Product(plan.name, texts, functools.partial(plan.render, frames, data.metric), used))
    return made, skipped


def difference_cells(data: Data) -> DataFrame:
    """DEAT minus SGD, one row a comparison of two cells, in the metric's own unit."""
    cells = [found.cells for found in differences(data.trials, data.metric).values() if found.n_cells]
    return pd.concat(cells, ignore_index=True) if cells else DataFrame()


def _write(product: Product, output: Path) -> list[Path]:
    paths = [output / name for name in product.texts]
    for path, text in zip(paths, product.texts.values(), strict=True):
        with whole(path) as part:
            part.write_bytes(text.encode())
    return paths


def _paint(product: Product, output: Path) -> list[Path]:
    if product.picture is None:
        return []
    png, pdf = (output / f"{product.name}.{ending}" for ending in ("png", "pdf"))
    with mpl.rc_context(STYLE):
        figure = product.picture()
        with whole(png) as part:
            figure.savefig(part, dpi=150)
        with whole(pdf) as part:
            figure.savefig(part, metadata={"CreationDate": None})
    return [png, pdf]


def _single(name: str, function: Callable[[Data], DataFrame]) -> Callable[[Data], dict[str, DataFrame]]:
    return lambda data: {name: function(data)}


def _ratio_frames(data: Data) -> dict[str, DataFrame]:
    return {
        "accuracy_ratio": accuracy_ratio.accuracy_by_ratio(data.trials, data.metric),
        "accuracy_ratio_lines": accuracy_ratio.ratio_lines(data.trials, data.metric, data.claims),
    }


TABLES: tuple[Table, ...] = (
    Table("claims", lambda data: claims_frame(data.claims), "needs trials"),
    Table(
        "correlations",
        lambda data: correlations(data.trials, data.metric),
        "needs completed trials with two values of the learning rate or the batch size",
    ),
    Table(
        "paired_difference_cells",
        difference_cells,
        "needs completed trials of deat and sgd in the same cell",
    ),
)

PLANS: tuple[Plan, ...] = (
    Plan(
        "accuracy_lr",
        _single("accuracy_lr", lambda data: accuracy_lr.accuracy_by_lr(data.trials, data.metric)),
        lambda frames, metric: accuracy_lr.accuracy_lr(frames["accuracy_lr"], metric),
        "needs completed trials at two learning rates",
    ),
    Plan(
        "accuracy_ratio",
        _ratio_frames,
        lambda frames, metric: accuracy_ratio.accuracy_ratio(
            frames["accuracy_ratio"], frames["accuracy_ratio_lines"], metric
        ),
        "needs completed trials at two values of lr / batch size",
    ),
    Plan(
        "surface_lr_batch",
        _single(
            "surface_lr_batch",
            lambda data: surface.grid(data.trials, "optimizer.lr", "batch_size", data.metric),
        ),
        lambda frames, metric: surface.heat_map(
            frames["surface_lr_batch"], "optimizer.lr", "batch_size", metric, equal_ratio=True
        ),
        "needs a grid of two learning rates by two batch sizes",
    ),
    Plan(
        "surface_k1_k2",
        _single("surface_k1_k2", lambda data: surface.deat_grid(data.trials, data.metric)),
        lambda frames, metric: surface.heat_map(
            frames["surface_k1_k2"], "optimizer.k1", "optimizer.k2", metric, equal_ratio=False
        ),
        "needs completed trials of deat with two values of optimizer.k1 or optimizer.k2",
    ),
    Plan(
        "accuracy_epoch",
        _single(
            "accuracy_epoch", lambda data: accuracy_epoch.accuracy_by_epoch(data.trials, data.epochs, data.chosen_by)
        ),
        lambda frames, metric: accuracy_epoch.accuracy_epoch(frames["accuracy_epoch"]),
        "needs the sweep's metric of validation, to choose each method's cell without looking at the test set",
    ),
    Plan(
        "methods",
        _single("methods", lambda data: methods.methods(data.trials, data.chosen_by, data.chose, data.claims)),
        lambda frames, metric: methods.draw_methods(frames["methods"]),
        "needs three methods, each with a cell that validation chose",
    ),
)
