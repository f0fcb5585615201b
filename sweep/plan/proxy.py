"""Whether a stopping rule may end trials where it does: `stopping.require_proxy`, judged by whole trials of other runs.

What is judged by lies in other runs, and of each counts what came before any rule ended a trial there. So no result of
the launch itself changes it, and decisions stay a function of the order of the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.config import SweepConfig
from sweep.plan.stopping import ends_of, metric_of, strata_axes
from sweep.stopping.pruners import Epochs, options_of
from trainers.errors import UserError
from trainers.fields import number_text

if TYPE_CHECKING:
    from pandas import DataFrame


def proxy_lines(config: SweepConfig, epochs: Epochs) -> Iterator[str]:
    """How well each epoch at which trials may end orders the points, one line each; nothing where nobody asks.

    Args:
        config: the sweep.
        epochs: of its trials.

    Raises:
        UserError: at one of them the interval of the coefficient with the last epoch reaches below what is required, in
            any stratum; or the runs that are judged by do not tell.
    """
    if config.stopping is None or config.stopping.require_proxy is None:
        return
    least, metric = config.stopping.require_proxy, metric_of(config)
    known = [row for path in config.stopping.proxy_from for row in _rows(Path(path), config, metric)]
    for epoch in ends_of(options_of(config.stopping, epochs), epochs):
        rows = [row for row in known if (row["value"], row["full"]) == (epoch, epochs.longest)]
        if not rows:
            full = ", ".join(sorted({str(row["full"]) for row in known})) or "none"
            raise UserError(
                f"stopping.require_proxy: needs trials of {epochs.longest} epochs with {metric} at epoch {epoch}, "
                f"where trials may end, and stopping.proxy_from has whole ones of {full}; run some points to their end "
                "without stopping, with trial.evaluation.every=1"
            )
        for row in rows:
            if not _low(row) >= least:
                raise UserError(_refusal(row, epoch, least, known))
        yield f"  epoch {epoch} orders points as the last one does: {'; '.join(map(_said, rows))} (at least {least:g})"


def _rows(directory: Path, config: SweepConfig, metric: str) -> list[dict[str, Any]]:
    """Those of a run's `analysis.estimates.proxies.proxies` that are of epochs."""
    from analysis.estimates.proxies import proxies
    from analysis.frames.replayed import refuse_replay
    from analysis.frames.trials import axes, epochs_of, trials_of
    from trainers.record import read

    refuse_replay(directory)
    records = list(takewhile(lambda record: record.get("outcome") != "pruned", read(directory)))
    trials: DataFrame = trials_of(records)
    by = [key for key in strata_axes(config) if key in axes(trials)]
    mode = "min" if metric.endswith("loss") else "max"
    rows = proxies(trials, epochs_of(records), metric, mode, by=by)  # type: ignore[arg-type]
    return [
        {str(key): value for key, value in row.items()} for row in rows[rows["setting"] == "epoch"].to_dict("records")
    ]


def _low(row: dict[str, Any]) -> float:
    """The lower end; where no resample of the seeds changes the order, the coefficient itself."""
    from analysis.estimates.correlations import ALIKE

    return float(row["estimate"] if row["interval_method"] == ALIKE else row["low"])


def _said(row: dict[str, Any]) -> str:
    from analysis.frames.names import interval_text

    tau = interval_text(row["estimate"], row["low"], row["high"]) or "none"
    return f"{row['model.name']}, {row['method']}: tau {tau}, {row['points']} points, n = {row['n']}"


def _refusal(row: dict[str, Any], epoch: int, least: float, known: Sequence[dict[str, Any]]) -> str:
    """Why an epoch is refused, and the first one from which on all are good enough."""
    of_length = [one for one in known if one["full"] == row["full"]]
    bad = [one["value"] for one in of_length if not _low(one) >= least]
    good = sorted({one["value"] for one in of_length if one["value"] > max(bad)})
    later = f"let trials end from epoch {good[0]} on" if good else "no earlier epoch is one: leave stopping out"
    why = f" ({row['interval_method'].removeprefix('none: ')})" if row["interval_method"].startswith("none") else ""
    return (
        f"stopping.require_proxy: at epoch {epoch}, where trials may end, the order of the points must agree with that "
        f"of epoch {row['full']} by tau {number_text(least)} or more, whole interval; {_said(row)}{why}; {later}, or "
        "require less"
    )
