"""profile: the kernels of a step and how busy the card is, eagerly and in the best mode."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

from card.setting import Setting
from card.speed import best_engine
from card.trials import free, images, trial
from trainers.training import Training

KERNELS_FILE = "kernels.txt"
#: What occupies the card, and what is kept of a trace beside it.
ON_CARD = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
KEPT = ON_CARD | {"cpu_op", "cuda_runtime", "cuda_driver"}
STEPS, TOP = 3, 25
#: Of a trace that may come back, bytes.
LARGEST = 15_000_000


def profile(setting: Setting) -> None:
    """Three steps each of eager and of the best mode, after epochs that are not looked at."""
    chosen = {"best": best_engine(setting), "eager": "eager"}
    for name, engine in chosen.items():
        if not setting.fits(name, 15):
            continue
        with setting.measuring(name):
            events = traced(setting, engine)
            found = [event for event in events if event.get("cat") in (ON_CARD if not setting.tiny else {"cpu_op"})]
            size = written(setting.out / f"trace_{name}.json.gz", events)
            _list(setting.out / KERNELS_FILE, f"{name} ({engine})", found)
            setting.write(name, engine=engine, **busy(found), top=top(found)[:TOP], trace_bytes=size)
        free(setting)


def traced(setting: Setting, engine: str) -> list[dict[str, Any]]:
    """The events of the steps of one epoch, as Chrome's trace format has them; times in us."""
    config = trial(setting, {"engine": engine})
    training = Training.begin(config, images(setting, STEPS * config.batch_size))
    for epoch in range(3):
        training.epoch(epoch)
    kinds = [ProfilerActivity.CPU, *([] if setting.tiny else [ProfilerActivity.CUDA])]
    setting.synchronize()
    with profiler(activities=kinds) as found:
        training.epoch(3)
        setting.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return [event for event in events if event.get("ph") in ("X", "M")]


def busy(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Kernels and copies of a step, their ms, and the share of the time from the first to the last that has one."""
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events)
    covered, until = 0.0, spans[0][0]
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    length = until - spans[0][0]
    kernels = {"kernels_a_step": len(events) / STEPS, "busy_ms_a_step": covered / 1000 / STEPS}
    return {**kernels, "wall_ms_a_step": length / 1000 / STEPS, "busy_share": covered / length}


def top(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Kernels by name, the one with the most time first."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in events:
        by_name[event["name"]].append(event["dur"])
    total = sum(map(sum, by_name.values()))
    rows = [
        {"name": name[:120], "calls": len(found) / STEPS, "ms": sum(found) / 1000 / STEPS, "share": sum(found) / total}
        for name, found in by_name.items()
    ]
    return sorted(rows, key=lambda row: -row["ms"])


def _list(path: Path, title: str, events: list[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        print(f"{title}: kernels by time, of a step", file=file)
        print(f"{'ms':>9} {'share':>6} {'calls':>7}  name", file=file)
        for row in top(events)[: 4 * TOP]:
            print(f"{row['ms']:9.4f} {row['share']:6.1%} {row['calls']:7.1f}  {row['name']}", file=file)
        print(file=file)


def written(path: Path, events: list[dict[str, Any]]) -> int:
    """Writes a trace, the card's events alone where it would be too large to come back; its bytes."""
    for kept in (KEPT, ON_CARD):
        chosen = [event for event in events if event["ph"] == "M" or event.get("cat") in kept]
        with gzip.open(path, "wt", encoding="utf-8") as file:
            json.dump({"traceEvents": chosen}, file)
        if path.stat().st_size <= LARGEST:
            break
    return path.stat().st_size
