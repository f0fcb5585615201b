"""Synthetic runs and frames: records as a sweep writes them, without training anything."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame

from analysis.frames.names import Slots
from analysis.frames.trials import axes, load_trials
from trainers.record import (
    METRICS,
    DynamicsRecord,
    EpochRecord,
    OutcomeRecord,
    PrunedRecord,
    RecordFile,
    ResumeRecord,
)

Point = Mapping[str, Any]


def nested(point: Point) -> dict[str, Any]:
    """Dotted keys as the nested mapping that a config's identity is."""
    config: dict[str, Any] = {"model": {"name": "small_cnn"}, "epochs": 2}
    for key, value in point.items():
        inner = config
        *parents, last = key.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return config


class Run:
    """A run directory written line by line through the one writer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = RecordFile(directory)
        self._number = 0

    def close(self) -> None:
        self._file.close()

    def launch(self, wanted: Sequence[str] = (), **also: Any) -> None:
        self._file.append(
            "launch",
            {
                "time": 0.0,
                "command": "sweep launch",
                "code_version": "abc",
                "size": len(wanted),
                "wanted": list(wanted),
                **also,
            },
        )

    def trial(
        self, trial_id: str, seed: int = 0, number: int | None = None, config: Point | None = None, **point: Any
    ) -> None:
        """`config`: dotted keys that the base config sets and no axis."""
        dotted = {key.replace("__", "."): value for key, value in point.items()}
        base = {"optimizer.name": "sgd", "optimizer.lr": 0.1, "batch_size": 128, **(config or {})} | dotted
        number = self._number if number is None else number
        self._number += 1
        line = {"trial_id": trial_id, "number": number, "config": nested(base), "point": dotted, "seed": seed}
        self._file.append("trial", line)

    def start(self, trial_id: str, host: str = "h", **values: Any) -> None:
        line = {"trial_id": trial_id, "time": 0.0, "host": host, "device": "cpu", "code_version": "abc"}
        self._file.append("start", {**line, **values})

    def resume(self, trial_id: str, epoch: int, reason: str = "", from_trial: str | None = None) -> None:
        self._file.append("resume", ResumeRecord(trial_id, epoch, reason, from_trial))

    def epoch(self, trial_id: str, epoch: int, robust: float | None = None, **values: Any) -> None:
        given: dict[str, Any] = {"val_robust": robust, "test_robust": robust, "seconds": 2.0, **values}
        self._file.append("epoch", EpochRecord(trial_id, epoch, lr=0.1, **given))

    def outcome(self, trial_id: str, outcome: Any = "completed", epochs: int = 2, reason: str = "") -> None:
        self._file.append("outcome", OutcomeRecord(trial_id, outcome, reason, epochs))

    def pruned(self, trial_id: str, robust: Iterable[float], **point: Any) -> None:
        """A trial that asha ended, the last of three at its first rung; it was to train an epoch more."""
        self.trial(trial_id, **point)
        self.start(trial_id)
        values = list(robust)
        for epoch, value in enumerate(values, start=1):
            self.epoch(trial_id, epoch, value, val_clean=value + 0.3, test_clean=value + 0.3, train_robust=value)
        share = len(values) / (len(values) + 1)
        ended = PrunedRecord(trial_id, "pruned", "by asha", len(values), rung=1, rank=3, of=3, share=share, by="asha")
        self._file.append("outcome", ended)

    def whole(self, trial_id: str, robust: Iterable[float], **point: Any) -> None:
        """A completed trial with a robust accuracy an epoch."""
        self.trial(trial_id, **point)
        self.start(trial_id)
        values = list(robust)
        for epoch, value in enumerate(values, start=1):
            clean = {"val_clean": value + 0.3, "test_clean": value + 0.3, "train_robust": value + 0.05}
            self.epoch(trial_id, epoch, value, **clean)
        self.outcome(trial_id, epochs=len(values))


def accuracy(point: Point) -> float:
    """A made-up surface: linear in log10(lr / batch), DEAT 0.02 above SGD."""
    ratio = np.log10(point["optimizer.lr"] / point["batch_size"])
    return 0.6 + 0.05 * float(ratio) + (0.02 if point["optimizer.name"] == "deat" else 0.0)


def product(**values: list[Any]) -> list[dict[str, Any]]:
    """Every combination, keys with `__` for the dot."""
    keys = [key.replace("__", ".") for key in values]
    return [dict(zip(keys, combination, strict=True)) for combination in itertools.product(*values.values())]


@pytest.fixture(scope="session")
def new_run() -> Callable[[Path], Run]:
    """Begins a run in a directory, or goes on with it: for what several tests read."""
    return Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.close()


@pytest.fixture
def ratio_run(tmp_path: Path) -> Run:
    """54 trials: 2 optimizers x 3 lr x 3 batch sizes x 3 seeds, 3 epochs; one cell of SGD diverged."""
    run = Run(tmp_path)
    rng = np.random.default_rng(0)
    run.launch()
    points = product(
        optimizer__name=["sgd", "deat"],
        optimizer__lr=[0.05, 0.1, 0.2],
        batch_size=[64, 128, 256],
        seed=[0, 1, 2],
    )
    for index, point in enumerate(points):
        seed = point.pop("seed")
        value = accuracy(point) + 0.004 * rng.standard_normal()
        name = f"t{index:03d}"
        axis = {key.replace(".", "__"): v for key, v in point.items()}
        if (point["optimizer.name"], point["optimizer.lr"], point["batch_size"]) == ("sgd", 0.2, 64):
            run.trial(name, seed=seed, **axis)
            run.start(name)
            run.outcome(name, "diverged", epochs=0, reason="loss is nan")
        else:
            run.whole(name, [value - 0.1, value - 0.04, value], seed=seed, **axis)
    run.close()
    return run


@pytest.fixture
def ratio_trials(ratio_run: Run) -> DataFrame:
    return load_trials(ratio_run.directory)


@pytest.fixture
def frame_of() -> Callable[..., DataFrame]:
    """Builds a frame of trials, completed unless told, from points with their seed and last_test_robust."""

    def build(rows: list[dict[str, Any]]) -> DataFrame:
        base = {"outcome": "completed", "seed": 0, "model.name": "small_cnn", "optimizer.name": "sgd"}
        filled = [{**base, "optimizer.lr": 0.1, "batch_size": 128, **row} for row in rows]
        frame = DataFrame(filled)
        metrics = [column for column in frame.columns if column.startswith(("last_", "best_"))]
        names = {"objective.name": "objective", "objective.s2o.enabled": "s2o", "weights.name": "weights"}
        names |= {"optimizer.name": "optimizer", "attack.kind": "attack"}
        chosen = [{names[key]: value for key, value in row.items() if key in names} for row in filled]
        frame["method"] = [Slots(**choice).method for choice in chosen]
        first = ["trial_id", "outcome", "method", "seed", "model.name", "optimizer.name", "optimizer.lr", "batch_size"]
        frame["trial_id"] = [f"t{index}" for index in range(len(frame))]
        frame["lr_batch_ratio"] = frame["optimizer.lr"] / frame["batch_size"]
        others = [c for c in frame.columns if c not in {*first, *metrics, "lr_batch_ratio"}]
        missing = [f"last_{metric}" for metric in METRICS if f"last_{metric}" not in frame]
        frame = frame[[*first, *others, "lr_batch_ratio", *metrics]]
        frame = pd.concat([frame, DataFrame(np.nan, index=frame.index, columns=missing)], axis=1)
        assert axes(frame) == [*first[4:], *others]
        return frame

    return build


#: Of DEAT's gradient noise over SGD's, by seed.
NOISIER = (1.8, 2.0, 2.4)


def _measurement(trial: str, epoch: int, lr: float, curvature: float, noise: float, deat: bool) -> DynamicsRecord:
    """Of one eigenvector, of noise that falls as 1 / batch; 1,000,000 images, so that a batch is no share of them."""
    traces = tuple(noise * 20 / size for size in (20, 5))
    return DynamicsRecord(
        trial_id=trial, epoch=epoch, lr=lr, batch_size=20, momentum=0.0, k1=1.0 if deat else None,
        k2=0.8 if deat else None, parameters=1000, training_images=1_000_000, images=1_000_000, robust=0.5, loss=1.0,
        gradient_squared=0.1, distance_squared=1.0, eigenpairs=1, trace=30.0, trace_error=1.0, curvatures=(curvature,),
        slopes=(0.0,), batches=100, batch_sizes=(20, 5), noise_traces=traces,
        noise_trace_errors=tuple(trace / 100 for trace in traces), variances=((noise / 10,), (noise / 10 * 4,)),
        kurtoses=((0.0,), (0.0,)), places=((1.0,),), rises=((1.0,),),
    )  # fmt: skip


@pytest.fixture
def measured_run(run: Run) -> Callable[..., Path]:
    """Writes a run of three seeds a method, measured at lr 0.1 (epochs 0, 1, 2) and 0.01 (epochs 3, 4).

    Methods, as `sgd` or `deat awp`, are given with seed 0's curvature, which rises by 1 a seed.
    """

    def write(curvatures: Mapping[str, float], noisier: Sequence[float] = NOISIER) -> Path:
        run.launch()
        records = []
        for name, curvature in curvatures.items():
            optimizer, _, weights = name.partition(" ")
            deat = optimizer == "deat"
            config = {"optimizer.k1": 1.0, "optimizer.k2": 0.8} if deat else {"optimizer.momentum": 0.0}
            for seed in range(3):
                trial = f"{optimizer}{weights}{seed}"
                point = {"optimizer__name": optimizer, "weights__name": weights or "none"}
                run.whole(trial, [0.2, 0.3, 0.4, 0.4], seed=seed, config=config, **point)
                for epoch, lr in ((0, 0.1), (1, 0.1), (2, 0.1), (3, 0.01), (4, 0.01)):
                    noise = 6.0 * (noisier[seed] if deat else 1.0) * (1 + epoch)
                    records.append(_measurement(trial, epoch, lr, curvature + seed + 100 * (epoch == 0), noise, deat))
        run.close()
        file = RecordFile(run.directory)
        for each in records:
            file.append("dynamics", each)
        file.close()
        return run.directory

    return write
