"""results.jsonl in words: the short table at a run's end, and Markdown with predictions and goals beside outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from card.setting import RESULTS_FILE, read

Row = Mapping[str, Any]
#: What a result is about, and not what it found.
ABOUT = frozenset(
    ["section", "name", "commit", "command", "time", "tiny", "card", "driver", "torch", "cuda", "cudnn", "ok"]
)
#: What its name tells, and what is not worth its place in a line.
HIDDEN = ABOUT | set(
    [
        "engine",
        "precision",
        "case",
        "size",
        "way",
        "count",
        "code_version",
        "steps",
        "useful_flops_a_step",
        "unit",
        "data",
    ]
)


def table(rows: Sequence[Row]) -> list[str]:
    """A line a result: section, name, and what was found; first those that failed or were left out."""
    told = [row for row in rows if row["name"] != "section" or row.get("ok") is False]
    chosen = sorted(told, key=lambda row: row.get("ok") is not False and "skipped" not in row)
    return [f"{row['section']:<13}{row['name']:<34.34} {_told(row)}".rstrip() for row in chosen]


def _told(row: Row) -> str:
    for key in ("error", "skipped"):
        if key in row:
            return f"{key.upper()} {row[key]}"[:110]
    found = "  ".join(f"{key} {_short(value)}" for key, value in row.items() if key not in HIDDEN and _is_short(value))
    return ("CHECK DID NOT HOLD  " if row.get("ok") is False else "") + found[:110]


def _is_short(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and 0 < len(value) < 20)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Found:
    """The last result of each section and name that was measured."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {(row["section"], row["name"]): row for row in rows if "skipped" not in row and "error" not in row}

    def number(self, section: str, name: str, *keys: str) -> float | None:
        """A number of a result; None: it was not measured."""
        value: Any = self._rows.get((section, name))
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def least(self, section: str, beginning: str, key: str) -> float | None:
        """The least number under a key of the results whose names begin so."""
        return min(self._all(section, beginning, key), default=None)

    def most(self, section: str, beginning: str, key: str) -> float | None:
        """The largest."""
        return max(self._all(section, beginning, key), default=None)

    def _all(self, section: str, beginning: str, key: str) -> list[float]:
        chosen = (row for (part, name), row in self._rows.items() if part == section and name.startswith(beginning))
        return [row[key] for row in chosen if row.get(key) is not None]


def markdown(out: Path) -> str:
    """Goals and predictions with the outcomes of a run, every timing, and what did not run.

    Raises:
        FileNotFoundError: there are no results.
    """
    rows = read(out)
    if not rows:
        raise FileNotFoundError(f"{out}: must hold {RESULTS_FILE}; give the --out of a run")
    found = Found(rows)
    parts = [
        _head(rows),
        _goals(found, not rows[0]["tiny"]),
        _predictions(found),
        _timings(rows),
        _equality(rows),
        _problems(rows),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(rows: Sequence[Row]) -> str:
    row = next((row for row in rows if "card" in row), rows[0])
    toy = "**At toy size on a CPU: these numbers say nothing.** " if row.get("tiny") else ""
    versions = ", ".join(f"{key} {row.get(key)}" for key in ("driver", "torch", "cuda", "cudnn"))
    return f"{toy}{row.get('card')}; {versions}; commit {row['commit']}; `{row['command']}`; {row['time']}"


def _goals(found: Found, judged: bool) -> str:
    """The goals, what was found, and where it is judged whether that is enough."""
    epoch = found.number("modes", "whole epochs", "epoch_seconds")
    usual = found.number("usual", "true fp32", "epoch_seconds")
    default = found.number("usual", "torch's default flags", "epoch_seconds")
    alone = found.number("modes", "whole epochs", "share")
    hours = found.most("side_by_side", "large, 2 ", "trial_epochs_an_hour")
    beside = None if hours is None else 3600 / hours
    together = None if beside is None or epoch is None or alone is None else alone * epoch / beside
    ratio = found.number("modes", "DEAT against SGD", "ratio")
    evaluation = found.least("evaluation", "evaluation ", "share_of_training")
    snapshot = found.number("evaluation", "checkpoint", "share_of_training")
    second = found.number("starts", "start, warm", "second", "to_five_steps")
    process = found.number("starts", "start, warm", "first", "to_five_steps")
    lines: list[tuple[str, str, float | None, float, bool]] = [
        ("an epoch of 49,000 images, alone, s", "at most 5.5", epoch, 5.5, True),
        ("a trial-epoch with two side by side, s", "at most 3.2", beside, 3.2, True),
        ("the usual loop's epoch (true fp32) over ours", "at least 10", _over(usual, epoch), 10, False),
        ("the same, at torch's default flags", "", _over(default, epoch), 0, False),
        ("share of the measured bf16 rate that is useful work, alone", "at least 0.35", alone, 0.35, False),
        ("the same with two", "at least 0.50", together, 0.50, False),
        ("DEAT's time over SGD's", "at most 1.01", ratio, 1.01, True),
        ("evaluation over training", "at most 0.15", evaluation, 0.15, True),
        ("checkpoint, as far as training waits for it, over training", "at most 0.02", snapshot, 0.02, True),
        ("second trial of a shape in a process: to its first five steps, s", "at most 3", second, 3, True),
        ("the same in a new process, compiled code cached, s", "", process, 0, True),
    ]
    body = [
        (what, goal, _number(value), _reached(goal, value, *bound) if judged else "")
        for what, goal, value, *bound in lines
    ]
    return _table("Goals", ("", "goal", "outcome", "reached"), body)


def _over(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _reached(goal: str, value: float | None, bound: float, below: bool) -> str:
    if not goal or value is None:
        return ""
    return "yes" if (value <= bound if below else value >= bound) else "no"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


def _predictions(found: Found) -> str:
    """What was estimated before anything ran on a card (PreActResNet-18, PGD-10, batch 128, one H100)."""

    def epochs(name: str) -> Callable[[], float | None]:
        return lambda: found.number("modes", name, "epoch_seconds")

    lines: list[tuple[str, str, Callable[[], float | None]]] = [
        ("fp32, eager, training, s an epoch", "40-60", epochs("eager fp32")),
        ("tf32, eager", "13-18", epochs("eager tf32")),
        ("bf16, eager", "8-11", epochs("eager bf16")),
        ("bf16, CUDA graph", "6.5-8", epochs("graph bf16")),
        ("bf16, Inductor, CUDA graph", "4.2-5.5", epochs("compile bf16")),
        ("evaluation in fp32, s", "9-13", lambda: found.number("evaluation", "evaluation fp32", "total")),
        ("kernels of an eager step", "2,200", lambda: found.number("profile", "eager", "kernels_a_step")),
        ("bf16 product, TFLOP/s", "790", lambda: found.number("env", "product", "rate")),
    ]
    body = [(what, predicted, _number(measured())) for what, predicted, measured in lines]
    return _table("Predictions", ("", "predicted", "outcome"), body)


def _timings(rows: Sequence[Row]) -> str:
    body = [
        (
            row["section"],
            row["name"],
            f"{row['ms']:.4g}",
            f"{row['ms_min']:.4g}-{row['ms_max']:.4g}",
            len(row["repeats"]),
            f"{row['epoch_seconds']:.3g}" if "epoch_seconds" in row else "",
            f"{row['share']:.1%}" if "share" in row else "",
            f"{row.get('preparing', 0):.3g}",
        )
        for row in rows
        if "ms" in row
    ]
    columns = ("section", "", "ms a step", "range", "n", "s an epoch", "useful share", "preparing, s")
    return _table("Timings (medians)", columns, body)


def _equality(rows: Sequence[Row]) -> str:
    body = [
        (row["name"], f"{row['weights']:.3g}", f"{row['loss']:.3g}", "yes" if row["bit_equal"] else "no")
        for row in rows
        if "bit_equal" in row
    ]
    return _table("After 20 steps", ("", "weights differ by", "mean loss by", "equal to the bit"), body)


def _problems(rows: Sequence[Row]) -> str:
    """What was skipped, failed or did not hold."""
    wrong = [row for row in rows if row.get("ok") is False or "skipped" in row]
    why = (row.get("error") or row.get("skipped") or "check did not hold" for row in wrong)
    body = [(row["section"], row["name"], reason) for row, reason in zip(wrong, why, strict=True)]
    return _table("What did not run or hold", ("section", "", ""), body)


def _table(title: str, columns: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    if not body:
        return ""
    rows = [columns, ["---"] * len(columns), *body]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
