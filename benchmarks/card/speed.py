"""usual, modes, networks: milliseconds of a step of the loop of papers' codes, and of ours in each of its modes."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
import usual_loop
from scipy import special  # not stats, whose import takes a second
from torch.utils.data import DataLoader

from card.arithmetic import flags, measured_rate
from card.setting import Setting, read
from card.starting import answer, job
from card.trials import IMAGES, Timer, engines, free, images, shape_of, summary, trial
from trainers import engine
from trainers.config import TrialConfig
from trainers.counting import work
from trainers.data.sets import Data
from trainers.method import attacks
from trainers.models import registry
from trainers.randomness import generator

#: Engine and precision, the most telling first.
MODES = (
    *(("graph", "bf16"), ("compile", "bf16"), ("graph", "fp32")),
    *(("eager", "bf16"), ("graph", "tf32"), ("eager", "fp32"), ("eager", "tf32"), ("compile", "tf32")),
)
#: Steps of a timed epoch, by precision: a second or more.
TIMED = {"bf16": 30, "tf32": 20, "fp32": 10}
NETWORKS = ("wide_resnet34_10", "vgg16", "senet18", "resnet18")


def usual(setting: Setting) -> None:
    """The loop of `usual_loop.py` in fp32, NCHW, with worker processes that load: at torch's own flags, under which
    convolutions are TF32, and in true fp32. A worker's start is not timed."""
    workers = setting.pick(8, 0)
    for name, tf32 in (("true fp32", False), ("torch's default flags", True)):
        if not setting.fits(name, 12):
            continue
        with setting.measuring(name):
            torch.backends.cudnn.allow_tf32 = tf32
            found = usual_loop_times(setting, workers)
            setting.write(name, workers=workers, flags=flags(), **found)
        free(setting)


def usual_loop_times(setting: Setting, workers: int) -> dict[str, Any]:
    """Three repeats of some steps of one epoch, after some that are not counted."""
    steps, repeats = setting.pick(25, 2), setting.pick(3, 1)
    config = trial(setting, {"precision": "fp32"})
    data = _on_cpu(images(setting, (repeats * steps + setting.pick(15, 1)) * config.batch_size))
    normalize, model = registry.network(config, data).to(setting.device)
    optimizer = torch.optim.SGD(model.parameters(), config.optimizer.lr, weight_decay=config.optimizer.weight_decay)
    draws, total = generator(setting.device, 0, "attack"), usual_loop.nothing()
    dataset = usual_loop.Images(data.train, augment=True)
    dataset.crops = torch.randint(0, 2, (3, len(dataset)))
    loader = DataLoader(dataset, config.batch_size, shuffle=True, num_workers=workers, pin_memory=not setting.tiny)
    batches = iter(loader)

    def some(count: int) -> float:
        setting.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            x, y = (part.to(setting.device) for part in next(batches))
            usual_loop.step(model, normalize, x, y, optimizer, config, draws, total)
        setting.synchronize()
        return 1000 * (time.perf_counter() - started) / count

    some(setting.pick(15, 1))
    found = summary([some(steps) for _ in range(repeats)])
    return {**found, "steps": steps, "ok": math.isfinite(total["robust loss"])}


def _on_cpu(data: Data) -> Data:
    return data._replace(train=data.train._replace(images=data.train.images.cpu(), labels=data.train.labels.cpu()))


def modes(setting: Setting) -> None:
    """A step in each engine and precision; the best as whole epochs; DEAT against SGD; cudnn.benchmark."""
    chosen = [mode for mode in MODES if mode[0] in engines(setting)][: setting.pick(None, 2)]
    for mode, precision in chosen[:3]:
        _mode(setting, mode, precision)
    whole_epochs(setting)
    versus(setting)
    as_one_graph(setting)
    benchmarked(setting)
    for mode, precision in chosen[3:]:
        _mode(setting, mode, precision)


def as_one_graph(setting: Setting) -> None:
    """The best mode with the attack's gradient compiled forward and backward as one graph, as a CPU has it."""
    name = "compile bf16, attack as one graph"
    if setting.tiny or not setting.fits(name, 35):
        return
    whole = property(lambda _: engine._compiled(attacks.gradient))
    with setting.measuring(name), mock.patch.object(engine.Engine, "gradient", whole):
        timer = Timer(setting, trial(setting, {"engine": "compile"}), _timed_images(setting)).repeat(3)
        setting.write(name, engine="compile", **timer.values())
    free(setting)


def _timed_images(setting: Setting, precision: str = "bf16") -> Data:
    return images(setting, setting.pick(TIMED[precision], 3) * trial(setting).batch_size)


def _mode(setting: Setting, engine: str, precision: str) -> None:
    name = f"{engine} {precision}"
    if not setting.fits(name, {"bf16": 10, "tf32": 10, "fp32": 12}[precision] + 20 * (engine == "compile")):
        return
    with setting.measuring(name):
        data = _timed_images(setting, precision)
        timer = Timer(setting, trial(setting, {"engine": engine, "precision": precision}), data)
        timer.repeat(setting.pick(3 if precision == "fp32" else 5, 1))
        setting.write(name, engine=engine, precision=precision, **timer.values(), **_useful(setting, timer))
    free(setting)


def _useful(setting: Setting, timer: Timer) -> dict[str, Any]:
    """Share of the measured bf16 rate that is useful work: 2 K + 3 forward passes of each image."""
    config = timer.training.config
    flops = useful_flops(config, timer.training.data) * config.batch_size
    rate = flops / (statistics.median(timer.milliseconds) / 1000)
    return {"useful_flops_a_step": flops, "share": rate / _rate(setting)}


@functools.cache
def _rate(setting: Setting) -> float:
    return measured_rate(setting)


def useful_flops(config: TrialConfig, data: Data) -> float:
    """FLOPs that a step needs of each image: the attack's K forward and K backward passes, and the update's three."""
    return (2 * config.attack.steps + 3) * work(config, shape_of(data)).forward


def best_engine(setting: Setting) -> str:
    """The engine that was the fastest in bf16 in this run; eager where none was timed."""
    found = {
        row["engine"]: row["ms"]
        for row in read(setting.out)
        if row["section"] == "modes" and row.get("precision") == "bf16" and "ms" in row and row.get("ok")
    }
    return min(found, key=found.__getitem__, default="eager")


def whole_epochs(setting: Setting) -> None:
    """Epochs of 49,000 images as a trial trains them, the short last batch included, in the best mode."""
    if not setting.fits("whole epochs", 27):
        return
    with setting.measuring("whole epochs"):
        engine = best_engine(setting)
        data = images(setting, setting.pick(IMAGES, 20))
        timer = Timer(setting, trial(setting, {"engine": engine}), data).repeat(setting.pick(2, 1))
        seconds = [ms * timer.steps / 1000 for ms in timer.milliseconds]
        values = {**timer.values(), "epoch_seconds": statistics.median(seconds), "seconds": seconds}
        setting.write("whole epochs", engine=engine, **values, **_useful(setting, timer))
    free(setting)


def versus(setting: Setting) -> None:
    """DEAT's time over SGD's in the best mode, in turns: geometric mean of the pairs with its 95 % t interval."""
    if not setting.fits("DEAT against SGD", 30):
        return
    with setting.measuring("DEAT against SGD"):
        engine = best_engine(setting)
        chosen = [trial(setting, {"engine": engine, "optimizer": {"name": name}}) for name in ("deat", "sgd")]
        data = _timed_images(setting)
        deat, sgd = (Timer(setting, config, data) for config in chosen)
        for pair in range(setting.pick(6, 2)):
            for timer in (deat, sgd) if pair % 2 else (sgd, deat):
                timer.repeat()
        found = ratio(deat.milliseconds, sgd.milliseconds)
        setting.write("DEAT against SGD", engine=engine, **found, deat=deat.values(), sgd=sgd.values())
    free(setting)


def ratio(one: list[float], other: list[float]) -> dict[str, Any]:
    """Geometric mean of one / other over the pairs, and its 95 % t interval."""
    logs = np.log(np.divide(one, other))
    half = float(special.stdtrit(len(logs) - 1, 0.975) * logs.std(ddof=1) / math.sqrt(len(logs)))
    mean, low, high = (float(np.exp(logs.mean() + part)) for part in (0, -half, half))
    return {"ratio": mean, "low": low, "high": high, "pairs": len(logs)}


def benchmarked(setting: Setting) -> None:
    """The best mode with cudnn.benchmark off and on, `left` being how the training left it; and deterministic."""
    engine, data = best_engine(setting), _timed_images(setting)
    if setting.fits("deterministic", 15):
        with setting.measuring("deterministic"):
            setting.write("deterministic", engine=engine, **answer(job(setting, "deterministic", engine=engine)))
    for on in (False, True):
        name = f"cudnn.benchmark {'on' if on else 'off'}"
        if not setting.fits(name, 12):
            continue
        with setting.measuring(name), cudnn_benchmark(on) as before:
            timer = Timer(setting, trial(setting, {"engine": engine}), data).repeat(setting.pick(3, 1))
            after = torch.backends.cudnn.benchmark
            setting.write(name, engine=engine, torch_default=before, left=after, **timer.values())
        free(setting)


def deterministic(setting: Setting, engine: str) -> dict[str, Any]:
    """A step with kernels that give the same bits each time: a process of its own, as cuBLAS is told at its start."""
    from trainers.randomness import repeatable

    with repeatable(setting.device, True):
        config = trial(setting, {"engine": engine, "deterministic": True})
        return Timer(setting, config, _timed_images(setting)).repeat(setting.pick(3, 1)).values()


@contextmanager
def cudnn_benchmark(on: bool) -> Iterator[bool]:
    """A block with cudnn.benchmark on or off; gives what it was before."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield before
    finally:
        torch.backends.cudnn.benchmark = before


def networks(setting: Setting) -> None:
    """Other networks in the best mode, bf16."""
    engine = best_engine(setting)
    for name in setting.pick(NETWORKS, ("small_cnn",)):
        if not setting.fits(name, 90 if engine == "compile" else 25):
            continue
        with setting.measuring(name):
            config = trial(setting, {"engine": engine, "model": {"name": name}})
            data = images(setting, setting.pick(8 if name.startswith("wide") else 30, 2) * config.batch_size)
            timer = Timer(setting, config, data).repeat(setting.pick(3, 1))
            setting.write(name, engine=engine, **timer.values(), **_useful(setting, timer))
        free(setting)
