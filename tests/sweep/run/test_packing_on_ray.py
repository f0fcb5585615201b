"""Packing through Ray, on two cards that only Ray believes in: what the trials record, and what became of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small
import yaml

from analysis.frames.trials import load_trials

#: A user's objective that lacks memory where its process has less than such a share of a card.
NEEDS = """
import ray
import torch
from torch.nn import functional as F


class Needs:
    def __init__(self, num_classes, share: float = 0.0):
        self.share = share

    def inner(self, forward, images, labels):
        return lambda candidates: F.cross_entropy(forward(candidates), labels, reduction="sum")

    def outer(self, forward, images, adversarial, labels):
        if ray.is_initialized() and ray.get_runtime_context().get_assigned_resources()["GPU"] < self.share:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return F.cross_entropy(forward(adversarial), labels)
"""

#: Launches the sweeps that are named, on a Ray that takes this machine for one with 4 cores and 2 GPUs of 80 GiB, of
#: which each trial alone on one takes 30 GiB.
LAUNCHES = """
import functools, json, os, sys
from pathlib import Path
import ray
from rich.console import Console
from sweep.config_file import load
from sweep.run import cluster, launch, ray_packing, ray_tune

GIB, folder = 2**30, Path(sys.argv[1])
ray.init = functools.partial(ray.init, num_gpus=2)
nodes = ray_packing.packing_nodes

def of_80_gib(up, resources, asked, say):
    return [node._replace(memory=80 * GIB) for node in nodes(up, resources, False, say)]

def measured(values, bell):
    from trainers import cards
    from sweep.run import ray_tune

    class Meter(cards.Meter):
        def taken(self):
            return (30 * GIB, GIB) if self.alone else (None, None)

    cards.Meter, cards.capacity = Meter, lambda device: 80 * GIB
    with Path(values["directory"], "shares").open("a") as file:
        file.write(f"{values['share']} {values['alone']}\\n")
    ray_tune._trainable(values, bell)

codes = {}
with (folder / "text").open("w") as text, cluster.local(Console(file=text), folder / "logs", cpus=4):
    console = Console(file=text, width=250)
    run = lambda name, **how: codes.setdefault(len(codes), launch.launch(
        load(folder / f"{name}.yaml"), folder / name, console, command="test", address="this one", **how))
    run("own")
    run("own")
    trainable, ray_tune._trainable = ray_tune._trainable, measured
    ray_packing.packing_nodes = of_80_gib
    run("auto")
(folder / "codes").write_text(json.dumps(list(codes.values())))
"""


def sweep(folder: Path, name: str, **values: Any) -> None:
    trial = small.TINY | {"epochs": 2, **values.pop("trial", {})}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "trial": trial, **values}))


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which both sweeps have run."""
    folder = tmp_path_factory.mktemp("packing")
    (folder / "own.py").write_text(NEEDS)
    sweep(
        folder,
        "own",
        trial={"objective": {"name": "./own.py:Needs"}},
        resources={"cpu": 0.5, "gpu": 0.5},
        space={"objective.share": [0.0, 0.9, 2.0]},
    )
    sweep(folder, "auto", resources={"cpu": 0.5, "gpu": "auto"}, space={"optimizer.lr": [0.1, 0.2, 0.3, 0.4]})
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHES, str(folder)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.mark.slow
def test_what_runs_out_of_memory_beside_others_completes_alone_and_what_never_fits_is_left_out(launched: Path) -> None:
    trials = load_trials(launched / "own")
    needs = trials["objective.share"]
    assert ((trials["outcome"] == "completed") == (needs <= 1)).all()
    assert set(trials["outcome"][needs > 1]) == {"out_of_memory"}
    assert trials["attempts"].tolist() == needs.map({0.0: 1, 0.9: 2, 2.0: 2}).tolist()  # none in the second launch
    assert set(trials["reason"][needs > 1].str.partition("; ")[2].str.partition(" on ")[0]) == {"alone"}
    assert json.loads((launched / "codes").read_text()) == [1, 1, 0]


@pytest.mark.slow
def test_one_trial_measures_and_then_two_share_each_card(launched: Path) -> None:
    trials = load_trials(launched / "auto")
    assert set(trials["outcome"]) == {"completed"}
    shares = (launched / "auto" / "shares").read_text().splitlines()
    assert shares[:2] == ["1.0 True"] * 2  # a trial on each card
    assert set(shares[2:]) == {"0.42 False"}
