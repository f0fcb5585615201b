from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import TINY, tiny
from torch import Tensor, nn

from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data import sets, sources
from trainers.errors import UserError
from trainers.files import checkpoint_path
from trainers.identity import identity, trial_id
from trainers.loop import train, with_fingerprint
from trainers.models import fine_tuning, registry
from trainers.record import EpochRecord

TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}
SHAPE = sources.Shape(80, 20, 50, 10, 1, 8, 8)


def network(classes: int = 10, *, seed: int = 7, normalize: bool = True, name: str = "small_cnn") -> nn.Module:
    config = ModelConfig(name=name, normalize=normalize)
    return registry.build(config, num_classes=classes, channels=1, image_size=8, mean=(0.2,), std=(0.3,), seed=seed)


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


def begun(path: Path | str, **model: Any) -> dict[str, Tensor]:
    """The weights before the first step of a trial that starts from a file."""
    config = with_fingerprint(tiny(model={"name": "small_cnn", "fine_tune": str(path), **model}))
    return fine_tuning.network(config, sets.load(config.data, "cpu")).state_dict()


def trained(path: Path, **parts: Any) -> list[EpochRecord]:
    records: list[EpochRecord] = []
    train(tiny(**{"epochs": 1, **parts}), records.append, path)  # type: ignore[arg-type]
    return records


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    names = [name for name in one if not name.startswith("0.")]
    return all(torch.equal(one[name], other[name]) for name in names)


WRAPPERS: dict[str, Any] = {
    "as this project keeps it": (lambda state: state, ""),
    "without normalisation": (lambda state: {n[2:]: t for n, t in state.items() if n.startswith("1.")}, ""),
    "DataParallel": (lambda state: {f"module.{n}": t for n, t in state.items()}, "module."),
    "compiled": (lambda state: {f"_orig_mod.{n}": t for n, t in state.items()}, "_orig_mod."),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("normalize", [True, False])
def test_a_trial_starts_from_the_weights_whatever_wrapped_their_names(
    tmp_path: Path, wrapper: str, normalize: bool
) -> None:
    wrap, front = WRAPPERS[wrapper]
    state = network().state_dict()
    path = saved(tmp_path / "w.pt", wrap(state))
    model = ModelConfig(name="small_cnn", fine_tune=str(path), normalize=normalize)
    bare = {name.removeprefix("1."): tensor for name, tensor in state.items() if name.startswith("1.")}
    here = {name.removeprefix("1."): tensor for name, tensor in begun(path, normalize=normalize).items()}
    assert all(torch.equal(here[name], bare[name]) for name in bare)
    there = front if normalize else front + ("" if wrapper == "without normalisation" else "1.")
    assert fine_tuning.start(model, SHAPE).line() == (
        f"{len(bare)} tensors" + (f"; names there begin with {there}" if there else "")
    )


def test_a_trial_normalises_by_its_own_data_and_not_by_the_file_s(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network().state_dict())
    digits = sets.load(tiny().data, "cpu")
    assert begun(path)["0.mean"].item() == pytest.approx(digits.mean[0])
    assert digits.mean[0] != pytest.approx(0.2, abs=0.01)


def test_the_last_layer_is_drawn_as_without_fine_tune_where_it_has_another_number_of_classes(tmp_path: Path) -> None:
    given = network(7).state_dict()
    path = saved(tmp_path / "w.pt", given)
    here = begun(path)
    drawn = registry.network(tiny(), sets.load(tiny().data, "cpu")).state_dict()
    for name in here:
        if name.startswith("1."):
            assert torch.equal(here[name], (drawn if "linear" in name else given)[name])
    line = fine_tuning.start(ModelConfig(name="small_cnn", fine_tune=str(path)), SHAPE).line()
    assert line == "18 tensors; 1.linear.weight and 1.linear.bias drawn anew: 7 classes there, 10 here"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"1.conv1.weight": torch.zeros(16, 1, 3, 3), "other": torch.zeros(1)},
            "must hold the weights of small_cnn, and lacks 20 of its 20 tensors (conv1.weight, bn1.weight, bn1.bias, "
            "...), and holds 2 tensors that it has not (1.conv1.weight, other); set model.name to the network that was "
            "trained, or give other weights",
        ),
        (
            network().state_dict() | {"1.more": torch.zeros(1)},
            "must hold the weights of small_cnn, and holds 1 tensor that it has not (more); "
            "set model.name to the network that was trained, or give other weights",
        ),
        (
            network().state_dict() | {"1.conv1.weight": torch.zeros(16, 3, 3, 3)},
            "must hold the weights of small_cnn, and conv1.weight is (16, 3, 3, 3) there and (16, 1, 3, 3) here: the "
            "network is of other images or another width; give weights of this one",
        ),
        (
            network().state_dict() | {"1.linear.weight": torch.zeros(10, 2048)},
            "must hold the weights of small_cnn, and linear.weight is (10, 2048) there and (10, 512) here: the "
            "network is of other images or another width; give weights of this one",
        ),
        (
            {"epoch": 3, "state_dict": network().state_dict()},
            "must hold a state dict, names to tensors and nothing else, got a mapping with the keys epoch, state_dict; "
            "save that alone: torch.save(torch.load(FILE)['state_dict'], NEW_FILE)",
        ),
        (
            [torch.zeros(1)],
            "must hold a state dict, names to tensors and nothing else, got list; save that alone: "
            "torch.save(network.state_dict(), FILE)",
        ),
    ],
)
def test_weights_of_something_else_are_refused_in_one_line(tmp_path: Path, state: Any, message: str) -> None:
    path = saved(tmp_path / "w.pt", state)
    with pytest.raises(UserError) as caught:
        fine_tuning.start(ModelConfig(name="small_cnn", fine_tune=str(path)), SHAPE)
    assert str(caught.value) == f"model.fine_tune: {path}: {message}"


class Evil:
    """What a pickle may run when it is read."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


def test_a_file_that_is_more_than_tensors_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "w.pt", {"a": Evil()})
    with pytest.raises(
        UserError,
        match=r"torch.load does not read it with weights_only=True \(UnpicklingError\); give a whole copy, or save",
    ):
        fine_tuning.weights(str(path))
    assert not (tmp_path / "evil").exists()
    path.write_bytes(b"nothing of torch's")
    with pytest.raises(UserError, match="does not read it with weights_only=True"):
        fine_tuning.weights(str(path))


def test_a_trial_s_kept_weights_are_named_by_run_and_beginning_of_its_id(tmp_path: Path) -> None:
    config = with_fingerprint(tiny(epochs=2, keep="both", averaging={"name": "ema", "decay": 0.5}))
    name = trial_id(config)
    file = checkpoint_path(tmp_path, name)
    train(config, lambda record: None, file)
    kept = torch.load(file, weights_only=True)["weights"]
    for end, state in {
        "": kept["last"]["raw"],
        ":last": kept["last"]["raw"],
        ":best": kept["best"]["raw"],
        ":averaged": kept["last"]["averaged"],
        ":best:averaged": kept["best"]["averaged"],
    }.items():
        for place in (f"{tmp_path}:{name[:6]}", str(file)):
            assert same(begun(place + end), state)
            assert fine_tuning.fingerprint(place + end) == fine_tuning.fingerprint(str(saved(tmp_path / "w", state)))
            (tmp_path / "w").unlink()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing.pt", "no such file, and no RUN:TRIAL_ID of a run with checkpoints; give a file of torch.save, or a"),
        ("elsewhere:abc", "no such file, and no RUN:TRIAL_ID of a run with checkpoints"),
        ("run:f", "no trial begins with 'f'; `sweep results"),
        ("run:a", "2 trials begin with 'a'; `sweep results"),
        ("run:a1:best", "must hold the best weights, and holds last; choose of those"),
        ("run:a1:averaged", "its last weights, of epoch 1, have no average"),
        ("w.pt:best", ":best and :averaged are of a trial's file, and this is a state dict; leave them out"),
    ],
)
def test_weights_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    saved(tmp_path / "w.pt", network().state_dict())
    for name in ("a1", "a2"):
        saved(checkpoint_path(tmp_path / "run", name), {"trial_id": name, "weights": {"last": {"epoch": 1, "raw": {}}}})
    with pytest.raises(UserError) as caught:
        fine_tuning.fingerprint(str(ModelConfig(fine_tune=place).fine_tune))
    assert str(caught.value).startswith("model.fine_tune: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["a state dict", "a trial's file", "a trial of a run", "another trial's"])
def test_damaged_weights_to_start_from_are_refused(kind: str, tmp_path: Path) -> None:
    """A state dict by the checksums of the archive, which torch does not look at."""
    config = with_fingerprint(tiny(epochs=1))
    path = checkpoint_path(tmp_path, trial_id(config))
    train(config, lambda record: None, path)
    place = str(path) if kind == "a trial's file" else f"{tmp_path}:{path.stem}"
    if kind == "a state dict":
        path = saved(tmp_path / "w.pt", network().state_dict())
        place = str(path)
    whole = fine_tuning.fingerprint(place)
    if kind == "another trial's":
        path.rename(path.with_stem("0123456789ab"))
        with pytest.raises(UserError, match=r"0123456789ab\.pt: is of another trial, "):
            fine_tuning.fingerprint(f"{tmp_path}:0123")
        return
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^model\.fine_tune: {path}: is damaged"):
        fine_tuning.fingerprint(place)
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert fine_tuning.fingerprint(place) == whole


def test_the_id_holds_the_weights_content_and_neither_their_place_nor_the_file_s_bytes(tmp_path: Path) -> None:
    state = network().state_dict()
    one, other = saved(tmp_path / "one.pt", state), saved(tmp_path / "other.bin", dict(reversed(state.items())))
    assert one.read_bytes() != other.read_bytes()
    ids = [trial_id(with_fingerprint(tiny(model={"name": "small_cnn", "fine_tune": str(p)}))) for p in (one, other)]
    assert ids[0] == ids[1]
    saved(one, state | {"1.linear.bias": state["1.linear.bias"] + 1e-7})
    assert trial_id(with_fingerprint(tiny(model={"name": "small_cnn", "fine_tune": str(one)}))) not in ids
    assert trial_id(with_fingerprint(tiny())) not in ids
    assert not {"fine_tune", "weights_fingerprint"} & identity(tiny())["model"].keys()


def test_other_weights_than_the_fingerprint_says_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network().state_dict())
    config = ModelConfig(name="small_cnn", fine_tune=str(path), weights_fingerprint="0" * 16)
    with pytest.raises(
        UserError, match=rf"^model.weights_fingerprint: the weights in {path} are [0-9a-f]{{16}}, not 00"
    ):
        fine_tuning.with_fingerprint(config)
    with pytest.raises(UserError, match=r"^model.weights_fingerprint: is of weights that model.fine_tune names"):
        fine_tuning.with_fingerprint(ModelConfig(weights_fingerprint="0" * 16))
    with pytest.raises(UserError, match=r"^model.weights_fingerprint: needed for the trial's id"):
        trial_id(TrialConfig(data=DataConfig(name="digits", fingerprint="x"), model=ModelConfig(fine_tune=str(path))))


def test_two_epochs_from_the_weights_of_no_training_are_those_from_the_beginning(tmp_path: Path) -> None:
    """An identity: the weights that a trial draws itself, given to it as a file, are the same training."""
    fresh = registry.network(tiny(), sets.load(tiny().data, "cpu"))
    path = saved(tmp_path / "w.pt", fresh.state_dict())
    drawn = trained(tmp_path / "drawn.pt", epochs=2)
    given = trained(tmp_path / "given.pt", epochs=2, model={"name": "small_cnn", "fine_tune": str(path)})
    assert [replace(one, trial_id="", **TIMES) for one in given] == [
        replace(one, trial_id="", **TIMES) for one in drawn
    ]


def test_a_stopped_trial_that_was_fine_tuned_goes_on_to_the_same_records(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network().state_dict())
    config = tiny(
        epochs=2,
        model={"name": "small_cnn", "fine_tune": str(path)},
    )
    whole: list[Any] = []
    rest: list[Any] = []

    def stop(record: Any) -> None:
        raise KeyboardInterrupt

    train(config, whole.append, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(config, stop, tmp_path / "stopped.pt")
    train(config, rest.append, tmp_path / "stopped.pt")
    assert [replace(one, **TIMES) for one in whole] == [replace(one, **TIMES) for one in rest]
    assert len(whole) == 2


def test_the_distance_of_the_dynamics_is_from_the_weights_that_were_given(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network().state_dict())
    dynamics = {"every": 1, "images": 64, "eigenpairs": 1, "directions": 1, "probes": 2, "batches": 4}
    records: list[Any] = []
    config = TINY | {"model": {"name": "small_cnn", "fine_tune": str(path)}, "epochs": 1, "dynamics": dynamics}
    train(TrialConfig.model_validate(config), records.append)
    before, _, after = records
    assert before.distance_squared == 0
    assert 0 < after.distance_squared < 10


def test_a_file_that_is_replaced_while_a_trial_trains_changes_no_distance_and_lets_none_go_on(tmp_path: Path) -> None:
    path, distances = saved(tmp_path / "w.pt", network().state_dict()), list[Any]()
    dynamics = {"every": 1, "images": 64, "eigenpairs": 1, "directions": 1, "probes": 2, "batches": 4}
    given = {"name": "small_cnn", "fine_tune": str(path)}
    config = with_fingerprint(tiny(model=given, epochs=1, dynamics=dynamics))

    def replacing(record: Any) -> None:
        saved(path, network(seed=8).state_dict())
        distances.append(getattr(record, "distance_squared", None))

    train(config, lambda record: distances.append(getattr(record, "distance_squared", None)))
    train(config, replacing)
    assert distances[:3] == distances[3:]
    assert distances[2] > 0
    with pytest.raises(UserError, match=r"^model.weights_fingerprint: the weights in .* are .*, not "):
        train(config, replacing)
