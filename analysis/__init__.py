"""What the records say: frames, values with intervals, claims, tables and pictures. Never torch, ray or optuna.

theory      closed forms and solves on a quadratic risk, tested against the recursions themselves
frames      records.jsonl and the published numbers -> a row a trial, a row an epoch
estimates   frame -> frozen values with intervals, a question a file
surrogate   the open response surface: accuracy with its error between what was run
claims      the ledger: what the study says, each claim with its effect, interval and verdict
tables      what is read in a terminal, in Markdown, in LaTeX; numbers as CSV, JSON and parquet
plots       pictures, a figure a file: its numbers, its drawing, its place among the figures
paper       the paper's own figures, tables and printed numbers
figures     draws all of them and writes them, with the CSV beside each
report      one HTML page of a run: answers, figures, every trial, cost and origin
manifest    what figures came from, and whether they would come out again
glossary    thirteen words that results are told in

What a user imports stands in __all__: `from analysis import load_trials, correlation`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.claims.ledger import ledger
    from analysis.claims.study import load_study
    from analysis.estimates.correlations import correlation, correlations
    from analysis.estimates.differences import paired_difference
    from analysis.frames.checks import load_checks
    from analysis.frames.dynamics import load_dynamics
    from analysis.frames.evaluations import load_evaluations
    from analysis.frames.images import load_images
    from analysis.frames.trials import load_epochs, load_trials
    from analysis.surrogate.surface import Surrogate
    from analysis.tables.claims import claims_text

__all__ = [
    "Surrogate",
    "claims_text",
    "correlation",
    "correlations",
    "ledger",
    "load_checks",
    "load_dynamics",
    "load_epochs",
    "load_evaluations",
    "load_images",
    "load_study",
    "load_trials",
    "paired_difference",
]

_ROOMS = {
    "Surrogate": "surrogate.surface",
    "claims_text": "tables.claims",
    "correlation": "estimates.correlations",
    "correlations": "estimates.correlations",
    "ledger": "claims.ledger",
    "load_checks": "frames.checks",
    "load_dynamics": "frames.dynamics",
    "load_epochs": "frames.trials",
    "load_evaluations": "frames.evaluations",
    "load_images": "frames.images",
    "load_study": "claims.study",
    "load_trials": "frames.trials",
    "paired_difference": "estimates.differences",
}


def __getattr__(name: str) -> Any:
    """Found when it is asked for, so that a command that needs one room does not load them all."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_ROOMS[name]}"), name)
