"""A trained network as RobustBench takes one: its weights, a model card, and the JSON of its model_info form.

The keys are those of the files in model_info/ of github.com/RobustBench/robustbench. A value is what the run's records
hold; of what they do not hold it is said that it is missing, and where a command measures it, which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.frames.evaluations import by_key, evaluations_of
from analysis.frames.trials import trials_of
from analysis.tables.evaluations import attack_name
from sweep.config_file import load
from sweep.export.weights import Chosen, write_weights
from sweep.run.directory import CONFIG_FILE
from sweep.share import Share
from sweep.storage.cache import typed
from trainers.config import DataConfig, TrialConfig
from trainers.data import unseen
from trainers.data.sources import shapes
from trainers.errors import UserError, validated
from trainers.fields import number_text
from trainers.files import whole

#: The built-in networks as RobustBench's files call them.
_ARCHITECTURES = {
    "preact_resnet18": "PreActResNet-18",
    "resnet18": "ResNet-18",
    "senet18": "SENet-18",
    "vgg16": "VGG-16",
    "vgg19": "VGG-19",
    "wide_resnet28_10": "WideResNet-28-10",
    "wide_resnet34_10": "WideResNet-34-10",
}
_FILL_IN = "not recorded: fill in"


def write_robustbench(network: Chosen, folder: Path) -> list[Path]:
    """Writes the weights, their script, the model card and the JSON into a folder, made if need be.

    Raises:
        UserError: as `write_weights`, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: must be a folder, and is a file; give another")
    written = write_weights(network, folder / f"{network.name}.pt")
    facts = _Facts(network)
    for name, text in (
        (f"{network.name}.json", json.dumps(facts.model_info(), indent=2) + "\n"),
        ("README.md", facts.card()),
    ):
        with whole(folder / name) as part:
            part.write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


class _Facts:
    """What a run's records say of one network."""

    def __init__(self, network: Chosen) -> None:
        self._network = network
        self._config = validated(TrialConfig, network.config, f"{network.run}: trial {network.trial_id}").resolved()
        self._trial = trials_of(network.log).set_index("trial_id").loc[network.trial_id]
        evaluations = evaluations_of(network.log)
        own = (evaluations["trial_id"] == network.trial_id) & (evaluations["weights"] == network.weights)
        self._evaluations = evaluations[own & (evaluations["averaged"] == network.averaged)]

    def model_info(self) -> dict[str, Any]:
        """The values of RobustBench's form."""
        attacked = self._robust()
        return {
            "link": _FILL_IN,
            "name": f"{_FILL_IN}, the paper's title",
            "authors": _FILL_IN,
            "additional_data": self._additional_data(),
            "number_forward_passes": _FILL_IN if "code" in self._network.config["model"] else 1,
            "dataset": self._config.data.name,
            "venue": _FILL_IN,
            "architecture": _ARCHITECTURES.get(self._config.model.name, self._config.model.name),
            "eps": number_text(self._radius),
            "clean_acc": self._clean() or self._missing("clean"),
            "reported": attacked or self._missing("autoattack"),
            "autoattack_acc": attacked or self._missing("autoattack"),
            "footnote": ". ".join(self._footnotes()),
            "unreliable": "not checked",
        }

    @property
    def _radius(self) -> float:
        radius = self._config.evaluation.radius
        assert radius is not None, "the config is resolved"
        return radius

    def _missing(self, attack: str) -> str:
        """What is said in place of an accuracy that was not measured on all test images."""
        data = self._config.data
        if data.test_per_class is not None:
            return f"not measured: of the test images the trial has {data.test_per_class} a class (data.test_per_class)"
        network = self._network
        run = typed(network.run)
        command = f"sweep evaluate {run} {network.trial_id} --attack {attack}{network.options}"
        unknown = "" if self._test_images else "; the data must be there, to know whether that is all test images"
        return f"not measured: {command}{unknown}"

    @cached_property
    def _test_images(self) -> int | None:
        """How many test images the data set has; None: the trial takes a part of them, or nobody knows."""
        data = self._config.data
        if data.test_per_class is not None:
            return None
        try:
            if (published := unseen.shape(data)) is not None:
                return published.test_images
            (there,) = shapes([data.model_copy(update={"root": self._root(data)})]).values()
        except UserError:
            return None
        return there.test_images

    def _root(self, data: DataConfig) -> str | None:
        """Where the run found its images."""
        path = self._network.run / CONFIG_FILE
        return load(path).trial.data.root if path.exists() else data.root

    def _whole(self) -> pd.DataFrame:
        """Evaluations on all test images."""
        rows = self._evaluations
        return rows[(rows["split"] == "test") & (rows["images"] == (self._test_images or -1))]

    def _robust(self) -> str | None:
        """Accuracy under AutoAttack on all test images at the trial's radius, percent."""
        rows = self._whole()
        rows = rows[(rows["attack"] == "autoattack") & (rows["radius"] == self._radius)]
        return None if rows.empty else _percent(rows["robust_accuracy"].iloc[-1])

    def _clean(self) -> str | None:
        """Accuracy on all test images as they are, percent: of an evaluation, or of the weights' own epoch."""
        if not (rows := self._whole()).empty:
            return _percent(rows["clean_accuracy"].iloc[-1])
        which = f"{self._network.weights}_{'averaged_' if self._network.averaged else ''}test_clean"
        measured = self._trial.get(which)
        return None if self._test_images is None or measured is None or pd.isna(measured) else _percent(measured)

    def _additional_data(self) -> bool | str:
        model, data = self._config.model, self._network.config["data"]
        if model.weights_fingerprint is not None and not data.get("extra_fingerprint"):
            return f"not recorded: of the weights that it started from, {model.weights_fingerprint}"
        return bool(data.get("extra_fingerprint"))

    def _footnotes(self) -> Iterator[str]:
        model, data = self._config.model, self._network.config["data"]
        yield f"Trained with {self._trial['method']} in {self._config.attack.norm}"
        if self._network.averaged:
            yield f"Weights averaged ({self._config.averaging.name})"
        if self._network.weights == "best":
            yield f"Weights of epoch {self._trial['best_epoch']:.0f}, chosen by robust accuracy on held-out images"
        if model.activation not in (None, "relu"):
            yield f"{model.activation} in place of ReLU"
        if model.weights_fingerprint is not None:
            yield f"Started from given weights ({model.weights_fingerprint})"
        if data.get("extra_fingerprint"):
            yield f"Trained with further images, {100 * data['extra_fraction']:g} % of every batch"

    def card(self) -> str:
        """The model card, as Markdown."""
        network, info = self._network, self.model_info()
        fields = "\n".join(f"| {key} | {value} |" for key, value in info.items())
        which = f"{network.weights}, averaged" if network.averaged else network.weights
        return "\n".join(
            [
                f"# {info['architecture']}, {self._trial['method']}, {info['dataset']}",
                "",
                f"Trial `{network.trial_id}` of the run `{network.run.absolute().name}`, weights: {which}; "
                f"{self._origin()}",
                "",
                "| RobustBench | |",
                "|---|---|",
                fields,
                "",
                "## Measured",
                "",
                *self._measured(),
                "",
                "The network takes images (B, C, H, W) in [0, 1] as they are, and gives logits (B, classes).",
                f"`{network.name}.py` loads it; it needs torch and robustsweep, which has the network's code.",
                "",
                "## Trained with",
                "",
                "```yaml",
                yaml.safe_dump(dict(network.config), sort_keys=False).rstrip(),
                "```",
                "",
            ]
        )

    def _origin(self) -> str:
        """Which code trained it, and on what."""
        launch: dict[str, Any] = {}
        start: dict[str, Any] = {}
        for record in self._network.log:
            if record["record"] == "launch":
                share = record.get("shard")
                launch = dict(record) if share is None or Share.of(share).has(self._network.trial_id) else launch
            elif record["record"] == "start" and record["trial_id"] == self._network.trial_id:
                start = launch | dict(record)
        changed = " with changes" if start.get("dirty") else ""
        commit = f", commit {start['commit']}{changed}" if start.get("commit") else ""
        versions = ", ".join(f"{name} {version}" for name, version in start.get("versions", {}).items())
        return f"trained by robustsweep, code {start['code_version']}{commit}, on {start.get('device')} ({versions})."

    def _measured(self) -> Iterator[str]:
        """Every recorded evaluation of these weights, with its interval over images."""
        if self._evaluations.empty:
            run = typed(self._network.run)
            yield f"Nothing but what training measured; `sweep evaluate {run} {self._network.trial_id}` measures more."
            return
        packages = _packages(self._network)
        yield "| attack | radius | images | right, % | 95 % interval over images | with |"
        yield "|---|---|---|---:|---|---|"
        for row in self._evaluations.to_dict("records"):
            of_all = f" of {self._test_images}" if row["split"] == "test" and self._test_images else ""
            low, high = (_percent(row[end]) for end in ("low", "high"))
            radius = "" if pd.isna(row["radius"]) else number_text(row["radius"])
            yield (
                f"| {attack_name(row)} | {radius} | {row['images']}{of_all} {row['split']} "
                f"| {_percent(row['robust_accuracy'])} | [{low}, {high}] | {packages.get(row['attack'], '')} |"
            )


def _packages(network: Chosen) -> Mapping[str, str]:
    """By attack the versions of what last ran it."""
    packages = {}
    for group in by_key(network.log).values():
        if (newest := group[-1])["trial_id"] == network.trial_id:
            packages[newest["attack"]] = ", ".join(f"{name} {v}" for name, v in newest.get("versions", {}).items())
    return packages


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
