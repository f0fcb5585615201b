"""The published study as a run: its numbers in the frames of `analysis.frames.trials`, so that whatever reads those
reads them.

Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023 (arXiv 2306.02618). Which number is
printed and which was read off a figure stands in published_numbers/PROVENANCE.md and in the column `source`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.frames.trials import epochs_of, trials_of
from trainers.config import TrialConfig
from trainers.errors import UserError

Name = Literal["table2", "table3", "table4", "figure2", "figure4", "figure5", "others/rice2020", "others/pang2021"]

#: The networks, as Figure 4, Table 2 and a config call them.
NETWORKS = {"ResNet": "preact_resnet18", "SENet": "senet18", "VGG": "vgg19"}
_TABLE_NETWORKS = {"PreActResNet18": "preact_resnet18", "SENet18": "senet18", "VGG19": "vgg19"}

_OPTIMIZERS = {"PGD": "sgd", "DEAT": "deat"}

#: Learning rates of the curves of Figure 5 and of Figure 2, which is PGD-AT alone.
_FIGURE5_LR = {"ResNet": 0.25, "SENet": 0.2, "VGG": 0.03}
_FIGURE2_LR = 0.3

#: The only accuracy that every point has.
METRIC = "last_test_robust"

#: Of every point, though of a run's own trials one without the records of all its epochs is not.
_ENDED = "completed"

#: Runs behind each point of Figure 4; only their mean is published [DEAT, Section 5].
RUNS_A_POINT = 3


@functools.cache
def numbers(name: Name) -> DataFrame:
    """One table or figure as it was published, or what other studies published, accuracies in percent; do not write to
    it.

    Returns:
        the columns of the CSV; in a table's, model.name (the network as a config names it) stands for arch.
    """
    text = files("analysis").joinpath("published_numbers", f"{name}.csv")
    with text.open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    if "arch" not in table:
        return table
    return table.assign(arch=table["arch"].map(_TABLE_NETWORKS)).rename(columns={"arch": "model.name"})


def refuse_other(metric: str) -> None:
    """Refuses an accuracy that was not published.

    Raises:
        UserError: it is another than `METRIC`.
    """
    if metric != METRIC:
        raise UserError(f"--metric {metric}: the published study has {METRIC} alone; leave --metric or --published out")


def load_trials() -> DataFrame:
    """One row a point of Figure 4: `analysis.frames.trials.load_trials` of the published study.

    A row is the mean of `RUNS_A_POINT` runs, and stands as one completed trial of seed 0: an interval from these rows
    knows nothing of the seeds' noise. Of the metrics there is last_test_robust, and where Figure 2 or 5 shows the
    trial's curve, last_test_clean or last_train_robust too.

    Returns:
        the columns of `analysis.frames.trials.load_trials`, and `source` last.
    """
    frame = trials_of(_records())
    return frame.assign(outcome=_ENDED, seconds=np.nan, source="read off Figure 4")


def load_epochs() -> DataFrame:
    """One row an epoch: the curves of Figures 2 and 5, of any other trial its last epoch alone."""
    unmeasured = dict.fromkeys(
        (
            "lr",
            "seconds",
            "evaluation_seconds",
            "checkpoint_seconds",
            "preparing_seconds",
            "samples_per_second",
            "peak_memory_bytes",
        ),
        np.nan,
    )
    return epochs_of(_records()).assign(outcome=_ENDED, **unmeasured)


def _records() -> Iterator[dict[str, Any]]:
    """The study as a run's records."""
    curves = {**_figure5(), **_figure2()}
    for number, (network, method, lr, robust) in enumerate(_points()):
        trial_id = f"{NETWORKS[network]}-{_OPTIMIZERS[method]}-{lr:g}"
        yield _planned(trial_id, number, network, method, lr)
        yield {"record": "start", "trial_id": trial_id, "code_version": "published"}
        last = {"epoch": _CONFIG.epochs, "test_robust": robust / 100}
        for epoch in curves.get((network, method, lr), [last]):
            yield {"record": "epoch", "trial_id": trial_id, "lr": lr, "peak_memory_bytes": 0, **epoch}
        yield {
            "record": "outcome",
            "trial_id": trial_id,
            "outcome": "completed",
            "reason": "",
            "epochs": _CONFIG.epochs,
        }


def _points() -> Iterator[tuple[str, str, float, float]]:
    """Network, method, learning rate and robust accuracy (%) of every point of Figure 4."""
    table = numbers("figure4").melt("lr", var_name="curve", value_name="robust").dropna()
    for curve, lr, robust in zip(table["curve"], table["lr"], table["robust"], strict=True):
        network, _, method = str(curve).partition("_")
        yield network, method, float(lr), float(robust)


#: Table 1's settings are TrialConfig's defaults; the paper holds no validation images out.
_CONFIG = TrialConfig.model_validate(
    {"data": {"name": "cifar10", "validation_fraction": 0}, "evaluation": {"splits": ["train", "test"]}}
)


def _planned(trial_id: str, number: int, network: str, method: str, lr: float) -> dict[str, Any]:
    point = {"model.name": NETWORKS[network], "optimizer.name": _OPTIMIZERS[method], "optimizer.lr": lr}
    optimizer = _CONFIG.optimizer.model_copy(update={"name": _OPTIMIZERS[method], "lr": lr})
    model = _CONFIG.model.model_copy(update={"name": NETWORKS[network]})
    config = _CONFIG.model_copy(update={"optimizer": optimizer, "model": model}).resolved().model_dump(mode="json")
    return {"record": "trial", "trial_id": trial_id, "number": number, "config": config, "point": point, "seed": 0}


_Curves = dict[tuple[str, str, float], list[dict[str, Any]]]


def _figure5() -> _Curves:
    table = numbers("figure5")
    return {
        (network, method, lr): [
            {"epoch": int(epoch) + 1, "train_robust": train / 100, "test_robust": test / 100}
            for epoch, train, test in table[
                ["epoch", f"{network}_{method}_train", f"{network}_{method}_test"]
            ].to_numpy()
        ]
        for network, lr in _FIGURE5_LR.items()
        for method in _OPTIMIZERS
    }


def _figure2() -> _Curves:
    table = numbers("figure2")
    return {
        (network, "PGD", _FIGURE2_LR): [
            {"epoch": int(epoch) + 1, "test_clean": clean / 100, "test_robust": robust / 100}
            for epoch, clean, robust in table[["epoch", f"{network}_std_test", f"{network}_robust_test"]].to_numpy()
        ]
        for network in ("VGG", "SENet")
    }
