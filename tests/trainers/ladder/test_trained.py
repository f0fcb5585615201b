"""A trained network by its run and trial, and the images that it was measured on."""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

import trainers
from trainers.config import TrialConfig
from trainers.data.sets import load as load_data
from trainers.errors import UserError
from trainers.files import checkpoint_path
from trainers.identity import identity, trial_id
from trainers.ladder import trained
from trainers.loop import train, with_fingerprint
from trainers.record import EpochRecord, RecordFile, read

CONFIG = {
    "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 20, "test_per_class": 10},
    "model": {"name": "small_cnn"},
    "batch_size": 32,
    "epochs": 3,
    "optimizer": {"lr": 0.1},
    "attack": {"radius": 0.1, "step_size": 0.05, "steps": 2},
    "averaging": {"name": "ema", "decay": 0.9, "start": 1},
    "evaluation": {"steps": 2},
    "keep": "both",
}
LISTED = "`sweep results {run}` lists their ids"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two trained trials, of which one keeps its last weights alone, and of three without a network."""
    directory = tmp_path_factory.mktemp("run")
    file = RecordFile(directory)
    trials = [with_fingerprint(TrialConfig.model_validate({**CONFIG, "seed": seed})) for seed in range(5)]
    for number, config in enumerate(trials):
        name = trial_id(config)
        file.append("trial", {"trial_id": name, "number": number, "config": identity(config), "point": {}, "seed": 0})
        if number == 4:
            continue
        file.append("start", {"trial_id": name, "code_version": "x"})
        if number < 2:
            kept = config.model_copy(update={"keep": "both" if number == 0 else "last"})
            file.append(
                "outcome", {**vars(train(kept, lambda record: _write(file, record), checkpoint_path(directory, name)))}
            )
        if number == 2:
            file.append("outcome", {"trial_id": name, "outcome": "diverged", "reason": "", "epochs": 0})
    file.close()
    return directory


def _write(file: RecordFile, record: Any) -> None:
    if isinstance(record, EpochRecord):
        file.append("epoch", record)


def names(run: Path) -> list[str]:
    return [record["trial_id"] for record in read(run) if record["record"] == "trial"]


def epochs(run: Path, name: str) -> list[dict[str, Any]]:
    return [record for record in read(run) if record["record"] == "epoch" and record["trial_id"] == name]


def accuracy(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return (network(images).argmax(dim=1) == labels).double().mean().item()


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("weights", ["last", "best"])
def test_a_loaded_network_has_the_accuracy_and_loss_that_were_recorded(
    run: Path, weights: Any, averaged: bool, split: Any
) -> None:
    name = names(run)[0]
    history = epochs(run, name)
    best = max(history, key=lambda record: record["val_robust"])
    if averaged and weights == "best" and best["epoch"] == 1:
        pytest.skip("no average before the second epoch")
    network = trainers.load(str(run), name, weights=weights, averaged=averaged, device="cpu")
    images, labels = trainers.images(run, name, split, device="cpu")
    assert not network.training
    assert (images.dtype, images.min().item(), images.max().item()) == (torch.float32, 0, 1)
    record, prefix = (history[-1] if weights == "last" else best), "averaged_" if averaged else ""
    assert accuracy(network, images, labels) == pytest.approx(record[f"{prefix}{split}_clean"])
    loss = torch.nn.functional.cross_entropy(network(images), labels).item()
    assert loss == pytest.approx(record[f"{prefix}{split}_clean_loss"], rel=1e-5)


def test_a_network_is_loaded_by_the_beginning_of_its_id_and_without_its_data(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = names(run)[0]
    monkeypatch.setattr("trainers.ladder.trained.load_data", lambda *_: pytest.fail("read the data"))
    short, whole = (trainers.load(run, text).state_dict() for text in (name[:8], name))
    assert all(torch.equal(short[key], whole[key]) for key in whole)


def message(run: Path, trial: str, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        trainers.load(run, trial, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_loaded_is_told_in_one_line(run: Path, tmp_path: Path) -> None:
    first, last, diverged, unfinished, waiting = names(run)
    assert message(tmp_path, first).startswith(f"{tmp_path}: not a run directory: it has no records.jsonl; ")
    assert message(run, "zz") == f"{run}: no trial begins with 'zz'; {LISTED.format(run=run)}"
    assert message(run, "") == f"{run}: 5 trials begin with ''; {LISTED.format(run=run)}"
    for name, state in ((diverged, "diverged"), (unfinished, "unfinished"), (waiting, "never_started")):
        assert message(run, name) == f"{run}: trial {name} must be completed, and is {state}; choose another"
    path = run / "checkpoints" / f"{last}.pt"
    assert message(run, last, weights="best").startswith(f"{path}: must hold the best weights, and holds last; ")
    assert message(run, last, device="gpu").startswith("device: must ")
    assert message(run, last, device="cuda:7").startswith("device: must be on this machine, got 'cuda:7'")


def test_a_checkpoint_that_does_not_say_for_which_images_it_is_is_refused(run: Path, tmp_path: Path) -> None:
    name = names(run)[0]
    state = torch.load(checkpoint_path(run, name), weights_only=True)
    del state["network"], state["hash"]
    checkpoint_path(tmp_path, name).parent.mkdir()
    torch.save(state, checkpoint_path(tmp_path, name))
    (tmp_path / "records.jsonl").write_bytes((run / "records.jsonl").read_bytes())
    assert "does not say for which images its network is, as older code wrote it; " in message(tmp_path, name)


def test_a_model_that_this_code_does_not_know_is_refused(run: Path, tmp_path: Path) -> None:
    name = names(run)[0]
    records = read(run)
    records[0]["config"]["model"]["width"] = 3
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    checkpoint_path(tmp_path, name).parent.mkdir()
    checkpoint_path(tmp_path, name).write_bytes(checkpoint_path(run, name).read_bytes())
    assert message(tmp_path, name).startswith(f"{tmp_path}: trial {name}: model.width: unknown key; ")


def test_images_of_a_folder_are_where_they_are_told_to_be(run: Path, tmp_path: Path) -> None:
    name = names(run)[0]
    records = read(run)
    records[0]["config"]["data"]["name"] = "cifar10"
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError, match=rf"^data\.root: cifar10 is not in {tmp_path}/data; "):
        trainers.images(tmp_path, name, root=tmp_path / "data")


def test_what_trainers_does_not_export_is_no_attribute_of_it() -> None:
    with pytest.raises(AttributeError, match="module 'trainers' has no attribute 'lod'"):
        trainers.lod  # noqa: B018


def test_a_split_or_weights_that_are_none_are_refused_with_the_choices(run: Path) -> None:
    first = names(run)[0]
    with pytest.raises(UserError, match=r"^split: must be one of train, val, test, got 'foo'$"):
        trainers.images(run, first, "foo")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^weights: must be one of last, best, got 'first'$"):
        trainers.load(run, first, weights="first")  # type: ignore[arg-type]


def test_the_images_that_a_trial_was_trained_on_are_given_too(run: Path) -> None:
    config = TrialConfig.model_validate(CONFIG)
    images, labels = trainers.images(run, names(run)[0], "train", device="cpu")
    expected = load_data(config.data, "cpu").train
    assert torch.equal(images, expected.images.float() / 255)
    assert torch.equal(labels, expected.labels)


def test_the_last_network_stays_in_memory_until_another_is_loaded_and_never_are_there_two(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = with_fingerprint(TrialConfig.model_validate(CONFIG)), checkpoint_path(run, names(run)[0])
    first = weakref.ref(trained.trained(config, path, "last").model)
    assert trained.trained(config, path, "last").model is first()
    there = []
    kept_weights = trained.kept_weights
    monkeypatch.setattr(
        trained, "kept_weights", lambda *args, **options: there.append(first()) or kept_weights(*args, **options)
    )
    trained.trained(config, path, "best")
    assert there == [None]
    os.utime(path)  # replaced, perhaps
    trained.trained(config, path, "best")
    assert len(there) == 2
