"""The pictures: every figure and table that a run, the published study or both allow, as PNG, PDF, CSV and text."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from analysis import manifest
from analysis.claims import registration
from analysis.claims.ledger import ledger
from analysis.claims.study import study_of
from analysis.estimates.correlations import correlations
from analysis.estimates.differences import differences
from analysis.estimates.evaluator import Evaluator
from analysis.estimates.images import curve_rows
from analysis.frames.budgets import BUDGET, CONDITION, network_budgets, one_budget, same_budget
from analysis.frames.cells import nothing_completed
from analysis.frames.dynamics import dynamics_of
from analysis.frames.images import images_of
from analysis.frames.log import Log, read_log
from analysis.frames.names import words
from analysis.frames.pareto import objectives_of
from analysis.frames.pruned import pruned_line
from analysis.frames.strata import grid_axes
from analysis.frames.trials import epochs_of
from analysis.paper import figures as paper_figures
from analysis.paper import sheets as paper_sheets
from analysis.paper.parts import published_data
from analysis.plots import (
    accuracy_epoch,
    accuracy_lr,
    accuracy_ratio,
    dynamics,
    importance,
    methods,
    pareto,
    proxies,
    ratio,
    robustness_radius,
    surface,
)
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import BY_VAL_ROBUST, OWN, PUBLISHED, ChosenBy, Data, Plan, Product
from analysis.plots.setting import ATTACK, DATA_SET, attack_of
from analysis.plots.style import STYLE, captioned, curves
from analysis.tables.claims import claims_frame
from analysis.tables.export import csv_text
from trainers.errors import UserError
from trainers.files import remove_parts, whole

Kind = Literal["png", "pdf", "svg"]

#: What makes each kind of file the same each time.
_NO_DATE: dict[Kind, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}

#: Of more there is no picture, but only the numbers.
MOST_CURVES = 64


@dataclass(frozen=True)
class Drawing:
    """What `draw` wrote, and what it could not draw and why."""

    written: tuple[Path, ...]
    skipped: dict[str, str]
    """Figure or table: what it needs that the data do not have."""
    unused: tuple[str, ...]
    """Names that were to be called otherwise and stand in no figure or table."""
    left_out: dict[str, int]
    """Trials that a run's figures do not pool with the others, by why: of another budget, or other conditions."""
    pruned: str = ""
    """How many trials early stopping left out of them, and what is biased by that; empty: none."""


def draw(
    directory: Path | None,
    output: Path,
    metric: str = "last_test_robust",
    chosen_by: ChosenBy = BY_VAL_ROBUST,
    *,
    published: bool = False,
    evaluator: Evaluator | None = None,
    page: Page = PAGE,
) -> Drawing:
    """Every figure and table of numbers that a run's records, the published numbers or both allow.

    Args:
        directory: a run, as given to `sweep launch --out`; none: the published study alone.
        output: folder for the files; made if it is not there.
        metric: what is drawn, a column of `analysis.frames.trials.load_trials`.
        chosen_by: what the sweep chooses by; each method's cell, in the figures that draw only one.
        published: show the published study beside the run, in the figures and tables of the paper.
        evaluator: of hyperparameters' importance, as `sweep.search.optuna_importance` has it; None: no figure of it.
        page: for what pictures are drawn; where it has a width, their captions stand in the manifest alone.

    Returns:
        the paths written (NAME.png at 150 dpi, NAME.pdf, the CSVs, tables as md and tex, the manifest), and what
        was skipped.

    Raises:
        UserError: the directory is not a run, no trial is completed, there is no such metric, or the output
            cannot be written.
    """
    data = load(directory, metric, chosen_by, published=published, evaluator=evaluator)
    mixed = {why: n for why, n in one_budget(data.trials)[1].items() if why in (BUDGET, CONDITION)}
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_parts(output)
        made, skipped = products(data)
        texts = [path for product in made for path in _write(product, output)]
        pictures = {product.name: _paint(product, output, page) for product in made}
        described = manifest.described(data, directory, made, page)
        written = [*texts, *itertools.chain(*pictures.values()), manifest.write(described, pictures, output)]
        unused = tuple(name for name in page.names if not any(_speaks_of(name, product) for product in made))
        return Drawing(tuple(written), skipped, unused, mixed, pruned_line(data.trials))
    except OSError as error:
        file = Path(error.filename or output)
        why = f"{error.strerror or error}{f' ({file.name})' if file.parent == output else ''}"
        raise UserError(f"--output {output}: cannot be written: {why}; give a folder that can") from error


def check(
    directory: Path | None,
    output: Path,
    chosen_by: ChosenBy = BY_VAL_ROBUST,
    *,
    evaluator: Evaluator | None = None,
) -> dict[str, str]:
    """Whether figures and tables would come out again as they lie there, but for last digits; nothing is written.

    Args:
        directory: the run they were drawn from; none: the published study alone.
        output: folder of the files.
        chosen_by: as for `draw`.
        evaluator: likewise.

    Returns:
        figure or table to `same`, `edited by hand`, `missing`, or `differs` and why.

    Raises:
        UserError: there is no manifest or it cannot be read, it is of other data, or as for `draw`.
    """
    known = manifest.read(output)
    manifest.refuse_other(known, directory, output)
    study_beside = PUBLISHED in known["sources"]
    data = load(directory, known["metric"], chosen_by, published=study_beside, evaluator=evaluator)
    made, skipped = products(data)
    texts = {file: text for product in made for file, text in product.texts.items()}
    return manifest.compared(known, manifest.described(data, directory, made), output, texts, skipped)


def load(
    directory: Path | None,
    metric: str = "last_test_robust",
    chosen_by: ChosenBy = BY_VAL_ROBUST,
    *,
    published: bool = False,
    evaluator: Evaluator | None = None,
) -> Data:
    """What figures are drawn from; the arguments and errors are those of `draw`."""
    if directory is None:
        return published_data(metric)
    return of_log(directory, read_log(directory), metric, chosen_by, published=published, evaluator=evaluator)


def of_log(
    directory: Path,
    records: Log,
    metric: str,
    chosen_by: ChosenBy,
    *,
    published: bool = False,
    evaluator: Evaluator | None = None,
) -> Data:
    """The same of a run whose records are read already; the arguments and errors are those of `draw`."""
    study = study_of(records, registration.read(directory))
    if not (study.trials["outcome"] == "completed").any():
        raise UserError(f"{directory}: {nothing_completed(study.trials, 'to draw')}")
    configs = {record["trial_id"]: record["config"] for record in records if record["record"] == "trial"}
    known = {
        DATA_SET: {name: config.get("data", {}).get("name", "unnamed data") for name, config in configs.items()},
        ATTACK: {name: attack_of(config) for name, config in configs.items()},
    }
    return Data(
        study.trials.assign(**{column: study.trials["trial_id"].map(words) for column, words in known.items()}),
        epochs_of(records),
        metric,
        chosen_by,
        dynamics_of(records),
        claims=ledger(study, y=metric, **chosen_by._asdict()),
        chose=study.chose,
        curves=curve_rows(images_of(records)),
        objectives=objectives_of(records),
        grid=grid_axes(records),
        evaluator=evaluator,
        beside=published_data(metric) if published else None,
    )


def products(data: Data, only: Collection[str] = ()) -> tuple[list[Product], dict[str, str]]:
    """Every figure and table that the data allow, not written yet, and what was skipped and why.

    Of the published study alone there are the paper's own figures and tables. A run's own figures show the trials of
    the commonest budget and conditions (`analysis.frames.cells`); the paper's choose for each network.

    Args:
        data: of `load`.
        only: names of those to make; none: all.
    """
    made, skipped = [], {}
    own = data.study == OWN
    pooled = data._replace(trials=same_budget(data.trials)) if own else data
    own_plans = [*((plan, data) for plan in TABLES), *((plan, pooled) for plan in PLANS)] if own else []
    paper_plans = [(plan, data) for plan in (*paper_sheets.TABLES, *paper_figures.PLANS)]
    for plan, shown in sorted([*own_plans, *paper_plans], key=lambda pair: pair[0].draw is not None):  # tables first
        if only and plan.name not in only:
            continue
        frames = plan.frames(shown)
        first = next(iter(frames.values()))
        if first.empty:
            skipped[plan.name] = plan.needs
            continue
        texts = {f"{stem}.csv": csv_text(frame) for stem, frame in frames.items()}
        texts |= {f"{plan.name}.{ending}": text(first) for ending, text in plan.texts.items()}
        picture = None if plan.draw is None else functools.partial(plan.render, frames, data.metric)
        if picture and (number := curves(first)) > MOST_CURVES:
            skipped[plan.name] = f"needs at most {MOST_CURVES} curves or surfaces, to be read, and has {number}"
            picture = None
        ids = plan.trial_ids(shown, frames.values())
        made.append(Product(plan.name, texts, picture, ids, plan.captioned(shown, frames)))
    return made, skipped


def _write(product: Product, output: Path) -> list[Path]:
    paths = [output / name for name in product.texts]
    for path, text in zip(paths, product.texts.values(), strict=True):
        with whole(path) as part:
            part.write_bytes(text.encode())
    return paths


def _speaks_of(name: str, product: Product) -> bool:
    """Whether a name stands in a figure or table, as a whole word."""
    there = Page(names={name: ""})
    return any(there.named(text) != text for text in (product.caption, *product.texts.values()) if name in text)


def painted(product: Product, kinds: Sequence[Kind], page: Page = PAGE, *, caption: bool = False) -> list[bytes]:
    """The picture of a figure, as files hold it; the same bytes each time.

    Args:
        product: that has a picture.
        kinds: of the files; PNG in 150 dots an inch, PDF with its fonts embedded.
        page: for what it is drawn.
        caption: whether it stands below, in the picture.
    """
    assert product.picture is not None, "a table has no picture"
    with mpl.rc_context(STYLE | {"font.size": page.font_size}):
        figure = product.picture(page=page)
        if caption:
            captioned(figure, page.named(product.caption), page)
        return [_file(figure, kind) for kind in kinds]


def _file(figure: Figure, kind: Kind) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format=kind, dpi=150, metadata=_NO_DATE[kind])
    return held.getvalue()


def _paint(product: Product, output: Path, page: Page = PAGE) -> list[Path]:
    if product.picture is None:
        return []
    kinds: tuple[Kind, ...] = ("png", "pdf")
    paths = [output / f"{product.name}.{kind}" for kind in kinds]
    for path, content in zip(paths, painted(product, kinds, page, caption=page.width is None), strict=True):
        with whole(path) as part:
            part.write_bytes(content)
    return paths


def difference_cells(data: Data) -> DataFrame:
    """DEAT minus SGD, one row a comparison of two cells, in the metric's own unit."""
    cells = [one.cells for one in differences(data.trials, data.metric).values() if one.n_cells]
    return pd.concat(cells, ignore_index=True) if cells else DataFrame()


def _judged(data: Data) -> pd.Series[str]:
    """Those that the ledger reads: of each network by itself its commonest budget."""
    return network_budgets(data.trials)[0]["trial_id"]


def _paired(data: Data) -> frozenset[str]:
    return frozenset().union(*(one.trial_ids for one in differences(data.trials, data.metric).values()))


TABLES: tuple[Plan, ...] = (
    Plan(
        "claims",
        lambda data: claims_frame(data.claims),
        "needs trials",
        lambda rows, metric: (
            "The claims with their effect, its 95 % interval, n and verdict, as `sweep claims` gives them. They are "
            "tested together, so that each needs stronger evidence than it would alone."
        ),
        trials=_judged,
    ),
    Plan(
        "correlations",
        lambda data: correlations(data.trials, data.metric),
        "needs completed trials with two values of the learning rate or the batch size",
        lambda rows, metric: (
            f"Correlations of {words(metric)} with learning rate, batch size and "
            "their ratio, each with a 95 % interval. They describe these trials, and test nothing."
        ),
    ),
    Plan(
        "paired_difference_cells",
        difference_cells,
        "needs completed trials of deat and sgd in the same cell",
        lambda rows, metric: (
            "DEAT minus SGD at each setting that both were trained with: the difference of their means over seeds."
        ),
        trials=_paired,
    ),
    pareto.PLAN,  # a picture, but of all budgets: what a trial costs is weighed against what it brings
)

PLANS: tuple[Plan, ...] = (
    accuracy_lr.PLAN,
    accuracy_ratio.PLAN,
    *surface.PLANS,
    accuracy_epoch.PLAN,
    methods.PLAN,
    proxies.PLAN,
    robustness_radius.PLAN,
    importance.PLAN,
    *ratio.PLANS,
    *dynamics.PLANS,
)
