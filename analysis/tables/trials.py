"""What a terminal shows of trials: all of them, one, its epochs, and the summary at a launch's end.

Functions return what rich renders; none prints. The ledger and the estimates, which load scipy, stand inside the
summary's: a trial or an epoch is shown without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml
from pandas import DataFrame, isna
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.frames.arithmetic import in_words
from analysis.frames.cells import (
    BEST_LEFT_OUT,
    BETTER,
    GROUP,
    LEFT_OUT,
    Mode,
    best_cells,
    better_text,
    left_out_text,
    measured,
    several,
    varying_in,
)
from analysis.frames.log import Log
from analysis.frames.names import KEYS, UNITS, brief, interval_text, point_text, scale, short
from analysis.frames.notes import NOTE, TAGS, Written, notes_of
from analysis.frames.pruned import pruned_line
from analysis.frames.trials import SUPERSEDED, axes, epochs_of
from analysis.tables.curve import curves, points
from analysis.tables.settings import presets
from analysis.tables.sheet import console_table
from trainers.fields import plural
from trainers.record import METRICS

if TYPE_CHECKING:
    from analysis.claims.study import Study

#: Accuracies of a trial that people compare, in percent.
SHOWN = ("best_val_robust", "last_val_robust", "last_test_robust", "last_test_clean")

_TITLES = {"memory_bytes": "GiB"}

#: What is shown of an epoch: accuracies in percent, everything else as it is.
SHOWN_OF_EPOCHS = (
    "epoch", "lr", "train_clean", "train_robust", "val_clean", "val_robust", "test_clean", "test_robust",
    "train_robust_loss", "test_robust_loss", "seconds",
)  # fmt: skip

#: Up to so many methods have a line each in the summary, and correlations; more are compared in a table.
FEW_METHODS = 3

#: Up to so many trials the summary has correlations.
FEW_TRIALS = 1000

_CORRELATIONS_ELSEWHERE = "correlations, by method: correlations.csv of `sweep figures`"


def trials_table(frame: DataFrame, of: DataFrame | None = None) -> Table:
    """One line a trial: outcome, preset, the axes that vary, seed, epochs, accuracies in percent, seconds, GPU memory.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials`, `analysis.tables.settings.with_settings` or
            `analysis.frames.overfitting.with_overfitting` gives them.
        of: the frame of which these are some rows: what varies there is shown; none: they are all.
    """
    preset = [name for name in ("overfitting", "preset") if name in frame]
    memory = ["memory_bytes"] if "memory_bytes" in frame and frame["memory_bytes"].notna().any() else []
    varied, written = varying_in(frame, frame if of is None else of), [name for name in (NOTE, TAGS) if name in frame]
    names = ["trial_id", "outcome", *preset, *varied, "seed", "epochs", *SHOWN, "seconds", *memory, *written]
    header = [_TITLES.get(name, name.replace("_", " ") if name in SHOWN else name) for name in names]
    columns = [
        brief(list(frame[name]), 4) if name in varied else [_cell(name, value) for value in frame[name]]
        for name in names
    ]
    caption = "accuracies in %, last: at the last epoch, best: at the best one by validation"
    right = set(header) - {"trial_id", "outcome", *preset, *written}
    rows, spare = zip(*columns, strict=True), [name for name in _spare(preset, varied, written) if name in header]
    return console_table(header, rows, caption=caption, right=right, wraps=header, folds=True, spare=spare)


def _spare(preset: Sequence[str], varied: Sequence[str], written: Sequence[str]) -> list[str]:
    """The columns that a narrow terminal may leave out, the most telling first: not whose row it is, how that ended and
    how robust it is."""
    best, *_, clean = (name.replace("_", " ") for name in SHOWN)
    return [*varied, "seed", clean, *written[::-1], *preset, best, "epochs", "seconds", _TITLES["memory_bytes"]]


def epochs_table(frame: DataFrame) -> Table:
    """One line an epoch; the trial's id in front where there are several.

    Args:
        frame: epochs, as `analysis.frames.trials.load_epochs` gives them.
    """
    names = [*(["trial_id"] if several(frame["trial_id"]) else []), *SHOWN_OF_EPOCHS]
    header = [name.replace("_", " ") for name in names]
    columns = {name: [_epoch_cell(name, value) for value in frame[name]] for name in names}
    columns["lr"] = brief(list(frame["lr"]), 4)
    caption = "accuracies in %, losses in nats, seconds of training"
    rows = zip(*columns.values(), strict=True)
    return console_table(header, rows, caption=caption, right=header, wraps=header, box=None)


def trial_view(records: Log, run: str, name: str) -> RenderableType:
    """One trial's config, where its numbers come from, what a user wrote of it, and its curve.

    Args:
        records: of the run.
        run: what that is called.
        name: the trial's id.
    """
    trial = {record["trial_id"]: record for record in records if record["record"] == "trial"}[name]
    preset = presets(records).get(trial["trial_id"])
    started = f", started from {trial['fine_tune']}" if "fine_tune" in trial else ""
    own, epochs = records.of_trial(trial["trial_id"]), epochs_of(records)
    config = yaml.safe_dump(trial["config"], sort_keys=False).rstrip()
    epochs = epochs[epochs["trial_id"] == trial["trial_id"]]
    written = notes_of(own).get(name, Written())
    said = {"note": written.note, "tags": ", ".join(written.tags)}
    return Group(
        Text(f"trial {trial['trial_id']} of {run}{f', preset {preset}' if preset else ''}{started}\n"),
        Text(f"{config}\n"),
        *(Text(event(own[place:])) for place, one in enumerate(own) if one["record"] in ("start", "resume", "outcome")),
        *(Text(f"{kind}: {text}") for kind, text in said.items() if text),
        Text(""),
        epochs_table(epochs) if len(epochs) else Text("no epoch is recorded"),
        *map(Text, _curve(epochs)),
    )


#: What is drawn of a trial, by the character that marks it.
_DRAWN = {"r": "train_robust", "v": "val_robust", "t": "test_robust"}


def _curve(epochs: DataFrame) -> list[str]:
    """The robust accuracies of one trial over its epochs, drawn, with what marks them; none where none was measured."""
    measured = {mark: points(epochs, metric) for mark, metric in _DRAWN.items()}
    shown = {mark: line for mark, line in measured.items() if line}
    marks = ", ".join(f"{mark}: {_DRAWN[mark].replace('_', ' ')}" for mark in shown)
    return ["", *curves(shown, f"%, by epoch: {marks}, *: several")] if shown else []


def event(records: Sequence[Mapping[str, Any]]) -> str:
    """When the first of them was written, two spaces, and what it says.

    Args:
        records: of one trial: a start, a resumption or an outcome; then what follows, which says in which engine a
            start's first epoch ran.
    """
    record, *later = records
    when = datetime.fromtimestamp(record["time"], UTC).strftime("%F %T UTC") if "time" in record else "at no known time"
    if record["record"] == "start":
        following = next((each for each in later if each["record"] in ("epoch", "start")), {})
        how = in_words(record, following.get("engine", ""))
        host, device = (record.get(key, "unknown") for key in ("host", "device"))
        where = f"{when}  start on {host} ({device}), code {record['code_version']}"
        died = f"; the process before it died: {record['died']}" if "died" in record else ""
        return f"{where}{f', {how}' if how else ''}{died}"
    if record["record"] == "resume":
        of = f" of the shorter trial {shorter}" if (shorter := record.get("from_trial")) else ""
        how = f"goes on from epoch {record['epoch']}{of}" if record["epoch"] else "begins afresh"
        return f"{when}  {how}{': ' if record['reason'] else ''}{record['reason']}"
    memory = f", {taken / 2**30:.1f} GiB of the GPU" if (taken := record.get("memory_bytes")) else ""
    after = f" after {plural(record['epochs'], 'epoch')}" if record["epochs"] else ""  # what failed does not say
    reason = f": {record['reason']}" if record["reason"] else ""
    return f"{when}  {record['outcome']}{after}{memory}{reason}"


def correlation_table(fits: DataFrame) -> Table:
    """One line a group and predictor, one column a coefficient: estimate and interval.

    Args:
        fits: of `analysis.estimates.correlations.correlations`.
    """
    from analysis.estimates.correlations import METHODS

    keys = [*(["model.name"] if several(fits["model.name"]) else []), "method", "x"]
    rows = []
    for _, part in fits.groupby([*GROUP, "x"], sort=False):
        first = part.iloc[0]
        estimates = {
            row["coefficient"]: interval_text(row["estimate"], row["low"], row["high"]) or "none"
            for row in part.to_dict("records")
        }
        numbers = (str(first[name]) for name in ("n", "n_left_out"))
        rows.append([*(str(first[key]) for key in keys), *(estimates.get(name, "") for name in METHODS), *numbers])
    y = ", ".join(dict.fromkeys(fits["y"]))
    lacking = "; none, no interval: too few trials, or too uniform ones" if fits["low"].isna().any() else ""
    counts = ("n", "left out")
    return console_table(
        [*keys, *METHODS, *counts],
        rows,
        title=f"correlation of {y}: a description of these trials, not a test over seeds",
        caption=f"brackets: 95 % intervals by bootstrap{lacking}; pearson: of x itself "
        "(r in the figure accuracy_ratio: of its logarithm)",
        right=counts,
        wraps=counts,
    )


def summary(
    study: Study, y: str = "last_test_robust", metric: str = "val_robust", mode: Mode = "max"
) -> RenderableType:
    """What a launch prints at its end: outcomes, the best cell by validation, the ledger's lines, correlations.

    Beyond `FEW_METHODS` methods: their comparison in place of the best cells and of the correlations, which then
    have a page of lines. Beyond `FEW_TRIALS` no correlations either: their bootstrap then takes minutes.

    Args:
        study: a run's, of `analysis.claims.study.load_study`.
        y: the metric of claims and correlations.
        metric: of validation; what the best cell is chosen by, at the last epoch, as in a sweep's config.
        mode: max for an accuracy, min for a loss.

    Raises:
        UserError: the frame has no column `y`.
    """
    from analysis.claims.ledger import ledger
    from analysis.estimates.correlations import correlations
    from analysis.estimates.methods import comparison
    from analysis.estimates.slot_effects import slot_effects
    from analysis.tables.claims import judged_lines
    from analysis.tables.methods import as_judged, effects_as_judged, methods_view

    frame = study.trials
    claims = ledger(study, metric=metric, mode=mode, y=y)
    judged = judged_lines(claims)
    lines = ["", *judged] if judged else []
    outcomes = [outcome_line(frame), *filter(None, [pruned_line(frame)])]
    if frame["method"].nunique() > FEW_METHODS and len(measured(frame, y)):
        asked: dict[str, Any] = {"choosers": study.chose, "metric": metric, "mode": mode}
        results, effects = comparison(frame, **asked), slot_effects(frame, **asked)
        tables = methods_view(as_judged(results, claims), effects_as_judged(effects, claims))
        return Group(*map(Text, [*outcomes, *lines, ""]), tables, Text(_CORRELATIONS_ELSEWHERE))
    lines = [*outcomes, *best_lines(frame, metric, mode), *lines]
    if len(frame) > FEW_TRIALS:
        return Group(*map(Text, [*lines, "", _CORRELATIONS_ELSEWHERE]))
    fits = correlations(frame, y)
    lines += [""] if len(fits) else []
    return Group(*map(Text, lines), *([correlation_table(fits)] if len(fits) else []))


def outcome_line(frame: DataFrame) -> str:
    """How many trials ended how, the most frequent first.

    >>> outcome_line(DataFrame({"outcome": ["completed", "completed", "diverged"]}))
    '3 trials: 2 completed, 1 diverged'
    """
    counts = frame["outcome"].value_counts()
    parts = ", ".join(f"{n} {name}" for name, n in counts.items())
    why = f" ({SUPERSEDED}: another trial of the same settings and seed counts)" if SUPERSEDED in counts else ""
    return f"{plural(len(frame), 'trial')}: {parts}{why}" if parts else "0 trials"


def best_lines(frame: DataFrame, metric: str = "val_robust", mode: Mode = "max") -> list[str]:
    """The best cell of each model and method by its seeds' mean `metric`, with its test accuracy.

    All at the last evaluated epoch: a best epoch of each trial would be chosen once more.
    """
    chooser, report = f"last_{metric}", ["last_test_robust", "last_test_clean"]
    cells = best_cells(frame, chooser, report, mode=mode).to_dict("records")
    if not cells and (frame["outcome"] == "completed").any():
        from analysis.estimates.methods import without_cell

        return [f"no best cell: {without_cell(frame, chooser)}"]
    shown = [axis for axis in axes(frame) if axis not in (*GROUP, *KEYS)]
    lines = []
    for cell in cells:
        where = point_text({axis: cell[axis] for axis in shown})
        texts = {name: _with_unit(name, cell[name]) for name in dict.fromkeys([chooser, *report])}
        values = [f"{name.partition('_')[2].replace('_', ' ')} {text}" for name, text in texts.items() if text]
        counts = "; ".join(filter(None, [f"mean over {plural(cell['n'], 'seed')}", left_out_text(cell[LEFT_OUT])]))
        name, numbers = f"{cell['model.name']}, {cell['method']}", ", ".join(values) or "not measured"
        lines.append(f"best by {chooser} (validation): {name}, {where}: {numbers} ({counts})")
        if doubt := better_text(cell[BETTER], cell[BEST_LEFT_OUT], chooser):
            lines.append(f"  {doubt}")
    return lines


def _with_unit(metric: str, value: float) -> str:
    """`68.70 %` or `0.693 nat`, nothing for NaN."""
    text = _cell(metric, value)
    return f"{text} {'%' if scale(metric) == 100 else UNITS[metric]}" if text else ""


def _cell(name: str, value: Any) -> str:
    """A value of a column as text: fractions in percent, seconds whole, NaN as nothing."""
    if isinstance(value, float) and (isna(value) or scale(name) == 100):
        return "" if isna(value) else f"{100 * value:.2f}"
    if name == "memory_bytes":
        return f"{value / 2**30:.1f}"
    return f"{value:.0f}" if name == "seconds" else short(value, 3 if UNITS.get(name) == "nat" else None)


def _epoch_cell(name: str, value: Any) -> str:
    """The same in an epoch's line, which has room for less."""
    if isinstance(value, str):
        return value
    if isna(value):
        return "-"
    return f"{100 * value:.1f}" if name in METRICS and not name.endswith("loss") else f"{value:.4g}"
