"""How trials were computed, besides their settings: on what their last bits depend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pandas import DataFrame


def in_words(start: Mapping[str, Any], engine: str = "") -> str | None:
    """What a start record says of it, in words; None where older code wrote that, or there is none.

    Args:
        start: of a trial.
        engine: that was used, where it is known; else the one that was asked for.

    >>> known = {"precision": "fp32", "engine": "eager", "deterministic": False, "torch": "2.15.0", "cudnn": None,
    ...     "processor": "AVX2", "threads": 1}
    >>> in_words({"arithmetic": known, "workers": 2})
    'fp32 eager, 2 workers, torch 2.15.0, AVX2, 1 thread'
    """
    if (known := start.get("arithmetic")) is None:
        return None
    how = " ".join(
        [known["precision"], engine or known["engine"], *(["deterministic"] if known["deterministic"] else [])]
    )
    workers = [f"{number} workers"] if (number := start.get("workers", 1)) > 1 else []
    cudnn = [f"cuDNN {known['cudnn']}"] if known["cudnn"] else []
    threads = [f"{known['threads']} thread{'s' if known['threads'] > 1 else ''}"] if known["threads"] else []
    return ", ".join([how, *workers, f"torch {known['torch']}", *cudnn, known["processor"], *threads])


def warning(trials: DataFrame) -> str:
    """A warning, in one line, that completed trials were computed in several ways for which their settings did not ask.

    Args:
        trials: from `load_trials`.
    """
    completed = trials[(trials["outcome"] == "completed") & trials["arithmetic"].notna()]
    asked = [key for key in ("precision", "deterministic") if key in trials]
    kinds = completed[["arithmetic", *asked]].drop_duplicates()
    if len(kinds) == len(kinds.groupby(asked)) if asked else len(kinds) < 2:
        return ""
    counts = completed["arithmetic"].value_counts()
    return (
        f"trials were computed in several ways: {'; '.join(f'{number} in {name}' for name, number in counts.items())}. "
        "The same trial gives other numbers in each; in `--format csv` the column arithmetic tells them apart"
    )
