"""How often do an evaluation's attacks in bf16 and in fp32 agree? Image by image, on trained networks.

    python benchmarks/evaluation_precision.py > benchmarks/evaluation_precision.json
    python benchmarks/evaluation_precision.py --data image_folder=DIR   # train/ and test/; a GPU, or patience

small_cnn are trained on the digits by PGD-AT, one a seed, and with `--data` a PreActResNet-18 on those images in
bf16; each is attacked on its test images as its evaluation would, once with `evaluation.precision` fp32 and once with
bf16, from the same starts. What counts an image right is fp32 in both. `agree`: on how many of the images both say the
same, with its 95 % Wilson interval; `restarts_agree`: the same of two fp32 attacks from other starts, for comparison;
`more`: how many points more are right under the attack in bf16, over the images, with the 95 % interval of a mean of
paired differences.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

from trainers.config import TrialConfig
from trainers.data.batches import sequential
from trainers.engine import Engine, float32_products
from trainers.ladder.trained import Trained, trained
from trainers.loop import train, with_fingerprint
from trainers.method.objectives import cross_entropy
from trainers.method.step import adversarial
from trainers.provenance import arithmetic, environment
from trainers.randomness import generator

DIGITS: dict[str, Any] = {
    "data": {"name": "digits", "validation_fraction": 0.1},
    "model": {"name": "small_cnn"},
    "batch_size": 32,
    "epochs": 20,
    "schedule": {"milestones": [14, 18]},
    "attack": {"radius": 0.15, "step_size": 0.0375, "steps": 10},
    "device": "cpu",
}
#: On 32 x 32 images in colour; PGD-AT as published, but short.
COLOUR: dict[str, Any] = {
    "model": {"name": "preact_resnet18"},
    "epochs": 8,
    "schedule": {"milestones": [6]},
    "precision": "bf16",
}


def config(values: dict[str, Any], seed: int) -> TrialConfig:
    """Measured here, not while it trains."""
    quiet = {"evaluation": {"splits": ["test"], "every": values["epochs"]}, "seed": seed}
    return with_fingerprint(TrialConfig.model_validate({**values, **quiet}))


def right(network: Trained, one: TrialConfig, precision: Any, start: str) -> Tensor:
    """Which test images stay right, (N,), on the CPU."""
    device = network.data.test.labels.device
    engine, draws, found = Engine(device, precision), generator(device, start), []
    with float32_products("fp32"):
        for images, labels in sequential(network.data.test, network.batch_size):
            x_adv = adversarial(
                network.model, cross_entropy, engine.images(images), labels, one.evaluation_attack(),
                engine.forward(network.model), draws,
            )  # fmt: skip
            with torch.no_grad():
                found.append(network.model(x_adv).argmax(dim=1) == labels)
    return torch.cat(found).cpu()


def row(one: TrialConfig, folder: Path) -> dict[str, Any]:
    """One network."""
    path = folder / "trial.pt"
    path.unlink(missing_ok=True)
    train(one, lambda record: None, path)
    network = trained(one, path, "last")
    exact, rough, other = (right(network, one, *how) for how in (("fp32", "a"), ("bf16", "a"), ("fp32", "b")))
    difference = 100 * (rough.double() - exact.double())
    mean, error = float(difference.mean()), float(difference.std()) / len(difference) ** 0.5
    agree, restarts_agree = (int((exact == each).sum()) for each in (rough, other))
    return {
        "data": one.data.name,
        "network": one.model.name,
        "seed": one.seed,
        "arithmetic": arithmetic(one, network.data.test.labels.device),
        "images": len(exact),
        "robust_fp32": round(100 * float(exact.double().mean()), 2),
        "agree": [agree, *np.round(proportion_confint(agree, len(exact), method="wilson"), 5).tolist()],
        "restarts_agree": restarts_agree,
        "more": [round(value, 3) for value in (mean, mean - 1.96 * error, mean + 1.96 * error)],
    }


def main() -> None:
    """Trains, attacks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="NAME=ROOT of images in colour")
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="of the network on the images in colour")
    parser.add_argument("--images", type=int, help="of each class, to train that one on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    trials = [config(DIGITS, seed) for seed in range(given.networks)]
    if given.data:
        name, _, root = given.data.partition("=")
        data = {"name": name, "root": root, "train_per_class": given.images}
        short = {"epochs": given.epochs, "schedule": {"name": "cosine"}} if given.epochs else {}
        trials.append(config({**COLOUR, **short, "data": data}, 0))
    rows = []
    with TemporaryDirectory() as folder:
        for one in trials:
            rows.append(row(one, Path(folder)))
            print(rows[-1], file=sys.stderr, flush=True)
    question = "How often do an evaluation's attacks in bf16 and in fp32 agree?"
    about = {"question": question, "command": shlex.join(["python", *sys.argv]), **environment()}
    json.dump({**about, "rows": rows}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
