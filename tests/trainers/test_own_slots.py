"""A user's own code that does what a built-in choice does gives its numbers to the bit, in every slot."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import small

from trainers import loop, resuming
from trainers.archive import Refused
from trainers.errors import UserError
from trainers.loop import train, with_fingerprint
from trainers.own import snapshot
from trainers.own.source import source_of
from trainers.own.stage import doing
from trainers.provenance import code_version
from trainers.record import EpochRecord
from trainers.rehearsal import marks, rehearse
from trainers.running import checkpoint_state
from trainers.training import Training
from trainers.workers import ALONE, Workers

TIMES = {
    "trial_id": "", "seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0,
    "checkpoint_seconds": None, "preparing_seconds": 0.0,
}  # fmt: skip

MINE = """
import torch
from torch import nn
from torch.nn import functional as F
from trainers.data import archives
from trainers.models.small_cnn import SmallCNN


def Net(num_classes, channels, image_size, classes=None):
    return SmallCNN(channels, num_classes if classes is None else classes, *image_size)


def OverBatch(num_classes, channels, image_size, keeps=False):
    flat = channels * image_size[0] * image_size[1]
    norm = nn.BatchNorm1d(flat, track_running_stats=keeps)
    return nn.Sequential(nn.Flatten(), norm, nn.Linear(flat, num_classes))


def SixBySix(num_classes, channels, image_size):
    if image_size != (6, 6):
        raise ValueError(f"must be given 6 x 6 pixels, got {image_size}")
    return nn.Sequential(nn.Flatten(), nn.Linear(36 * channels, num_classes))


def digits(root, floats=False, last=False):
    source = archives.digits()
    train, test = source.train_images, source.test_images
    if floats:
        train, test = train / 255, test / 255
    if last:
        train, test = train.transpose(0, 2, 3, 1), test.transpose(0, 2, 3, 1)
    return train, source.train_labels, test, source.test_labels


class Images(torch.utils.data.Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, place):
        return torch.from_numpy(self.images[place]).float() / 255, int(self.labels[place])


def datasets():
    source = archives.digits()
    return Images(source.train_images, source.train_labels), Images(source.test_images, source.test_labels)


class Casting(nn.Module):
    def __init__(self, num_classes, channels, image_size):
        super().__init__()
        self.linear = nn.Linear(channels * image_size[0] * image_size[1], num_classes)

    def forward(self, images):
        return self.linear(images.flatten(1).float())


class Madry:
    def outer(self, forward, images, adversarial, labels):
        return F.cross_entropy(forward(adversarial), labels)


class Rising:
    def __init__(self):
        self.calls = torch.zeros(())

    def outer(self, forward, images, adversarial, labels):
        self.calls += 1
        return self.calls / 20 * F.cross_entropy(forward(adversarial), labels)


class Kept(Rising):
    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls.copy_(state["calls"])


class Trades:
    passes_clean = True

    def __init__(self, beta: float = 6.0):
        self.beta = beta

    def inner(self, forward, images, labels):
        with torch.no_grad():
            reference = F.log_softmax(forward(images), dim=1)
        return lambda candidates: self.far(forward(candidates), reference).sum()

    def outer(self, forward, images, adversarial, labels):
        clean, attacked = forward(images), forward(adversarial)
        return F.cross_entropy(clean, labels), self.beta * self.far(attacked, F.log_softmax(clean, dim=1)).mean()

    def far(self, logits, reference):
        return F.kl_div(F.log_softmax(logits, dim=1), reference, reduction="none", log_target=True).sum(dim=1)


class Silent(Trades):
    passes_clean = False


class Together:
    def __init__(self, first: bool = False):
        self.first = first

    def outer(self, forward, images, adversarial, labels):
        both = [adversarial, images] if self.first else [images, adversarial]
        return F.cross_entropy(forward(torch.cat(both)), torch.cat([labels, labels]))


class Shifted:
    def outer(self, forward, images, adversarial, labels):
        return F.cross_entropy(forward(images), labels) + F.cross_entropy(forward(adversarial.roll(1, 3)), labels)

    passes_clean = True


class PerImage:
    def outer(self, forward, images, adversarial, labels):
        return F.cross_entropy(forward(adversarial), labels, reduction="none")


def half(progress, epochs):
    return 1 - progress / epochs


def bad_curve(progress, epochs):
    return -1.0


class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.add_(param.grad, alpha=-group["lr"])
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A part of the config that is the user's own: own(NAME, option=value)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    source = source_of("./mine.py:Net")
    snapshot.keep(source, tmp_path / "code")
    snapshot.look_in(tmp_path / "code")

    def part(name: str, **options: Any) -> dict[str, Any]:
        return {"name": f"./mine.py:{name}", "code": source.hash, **options}

    return part


def records(**parts: Any) -> list[EpochRecord]:
    found: list[EpochRecord] = []
    outcome = train(small.tiny(**{"epochs": 2, **parts}), found.append)  # type: ignore[arg-type]
    assert outcome.outcome == "completed"
    return [replace(record, **TIMES) for record in found]


DATA = {key: value for key, value in small.TINY["data"].items() if key != "name"} | {"augment": False}
PASSES = {"batch_norm_data": "both", "clean_passes": 2}


@pytest.mark.parametrize(
    ("built_in", "mine"),
    [
        ({}, {"model": ("Net", {})}),
        ({}, {"data": ("digits", DATA)}),
        ({}, {"data": ("digits", {**DATA, "floats": True})}),
        ({}, {"data": ("digits", {**DATA, "last": True})}),
        ({}, {"data": ("datasets", DATA)}),
        (PASSES, {**PASSES, "objective": ("Madry", {})}),
        ({**PASSES, "objective": {"name": "trades", "beta": 3}}, {**PASSES, "objective": ("Trades", {"beta": 3})}),
        ({"schedule": {"name": "linear", "warmup_epochs": 1}}, {"schedule": ("half", {"warmup_epochs": 1})}),
        ({"optimizer": {"weight_decay": 0}}, {"optimizer": ("Plain", {"weight_decay": 0})}),
    ],
)
def test_ones_own_gives_the_numbers_of_the_built_in_one_that_it_repeats(
    built_in: dict[str, Any], mine: dict[str, Any], own: Any
) -> None:
    parts = {key: own(value[0], **value[1]) if isinstance(value, tuple) else value for key, value in mine.items()}
    attack = {"attack": {**small.TINY["attack"], "start": "uniform"}}
    assert records(**attack, **parts) == records(**attack, **built_in)


def test_torchs_own_sgd_is_ours(own: Any) -> None:
    name = {"name": "torch.optim:SGD", "code": "torch", "lr": 0.1, "momentum": 0.9, "nesterov": True}
    ours = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}
    assert records(optimizer=name) == records(optimizer=ours)


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("weights", ["none", "awp"])
def test_an_objective_of_ones_own_takes_awp_and_s2o_as_the_built_in_one(enabled: bool, weights: str, own: Any) -> None:
    s2o = {"s2o": {"enabled": enabled, "weight": 0.3}}
    attack = {"attack": {**small.TINY["attack"], "start": "uniform"}}
    common = {**attack, **PASSES, "weights": {"name": weights, "gamma": 0.005, "warmup": 0}, "epochs": 1}
    (mine,) = records(**common, objective=own("Trades", beta=6.0, **s2o))
    (ours,) = records(**common, objective={"name": "trades", "beta": 6.0, **s2o})
    assert mine.train_robust_loss == pytest.approx(ours.train_robust_loss, rel=1e-5)
    assert mine.test_robust == ours.test_robust


def test_an_objective_of_ones_own_is_one_before_and_after_awps_warm_up(own: Any) -> None:
    config = small.tiny(objective=own("Rising"), weights={"name": "awp", "warmup": 1})
    training = Training.begin(with_fingerprint(config))
    for epoch in range(2):
        training.epoch(epoch)
    calls = training.objective.given.calls  # type: ignore[attr-defined]
    assert calls == 3 * (1 + 2)  # three steps an epoch, and with AWP two passes each


@pytest.mark.parametrize("objective", ["Trades", "Kept"])
def test_a_stopped_trial_of_ones_own_goes_on_to_the_same_records(objective: str, own: Any, tmp_path: Path) -> None:
    parts = {
        "model": own("Net"),
        "objective": own(objective),
        "schedule": own("half"),
        "optimizer": {"name": "torch.optim:Adam", "code": "torch", "lr": 0.01},
        "weights": {"name": "awp"},
        "averaging": {"name": "ema", "decay": 0.5},
    }
    config, found = small.tiny(epochs=2, **parts), {"whole": list[Any](), "stopped": list[Any]()}

    def stop(record: Any) -> None:
        raise KeyboardInterrupt

    train(config, found["whole"].append, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(config, stop, tmp_path / "stopped.pt")
    train(config, found["stopped"].append, tmp_path / "stopped.pt")
    whole, stopped = ([replace(record, **TIMES) for record in records] for records in found.values())
    assert whole == stopped


def test_a_state_that_an_objective_of_ones_own_does_not_take_is_not_gone_on_from(own: Any) -> None:
    config = with_fingerprint(small.tiny(objective=own("Kept"), checkpoint={"every_epochs": 1}))
    trial = loop._begin(config, ALONE)
    trial.history.append(loop._epoch(trial, 0))
    state = checkpoint_state(trial) | {"hash": "", "code_version": code_version()}
    check = partial(resuming.check, config=config, trial_id=trial.id, training=loop._begin(config, ALONE).training)
    check(state)
    del state["running"]["objective"]["calls"]
    with pytest.raises(Refused, match="KeyError"):
        check(state)
    del state["running"]["objective"]  # as of a time before it was kept
    check(state)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"model": ("Net", {"classes": 5})},
         "model.name: ./mine.py:Net: must give logits of shape (4, 10) for images of shape (4, 1, 8, 8), got (4, 5)"),
        ({"model": ("half", {})}, "model.progress: ./mine.py:half needs it, for it has no default; set it"),
        ({"objective": ("Silent", {})}, "objective.name: ./mine.py:Silent: its outer passes the clean images through "),
        ({"objective": ("Together", {"first": True})},
         "objective.name: ./mine.py:Together: its outer passes the adversarial images in front of others, and "
         "train_robust is of the last logits of its last pass; pass them by themselves, or last: "),
        ({"objective": ("PerImage", {})},
         "objective.name: ./mine.py:PerImage: outer must give a loss of shape () that hangs on the network, "),
        ({"objective": ("half", {})}, "objective.progress: ./mine.py:half needs it, for it has no default; set it"),
        ({"schedule": ("bad_curve", {})},
         "schedule.name: ./mine.py:bad_curve: must give a finite number >= 0, got -1.0 at progress 0 of 3 epochs"),
        ({"optimizer": ("Plain", {})},
         "optimizer.weight_decay: ./mine.py:Plain takes none, got 0.0005; set trial.optimizer.weight_decay=0"),
        ({"data": ("half", {})}, "data.progress: ./mine.py:half needs it, for it has no default; set it"),
    ],
)  # fmt: skip
def test_what_is_not_as_a_slot_needs_it_is_one_line_before_any_training(
    parts: dict[str, tuple[str, dict[str, Any]]], said: str, own: Any
) -> None:
    trial = small.tiny(**{key: own(name, **options) for key, (name, options) in parts.items()}).resolved()
    with pytest.raises(UserError) as caught:
        rehearse([trial], shapes_of(trial))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("objective", ["Together", "Shifted", "Trades"])
@pytest.mark.parametrize("s2o", [False, True])
def test_an_objective_may_pass_adversarial_images_behind_others_or_changed(objective: str, s2o: bool, own: Any) -> None:
    trial = small.tiny(objective=own(objective, s2o={"enabled": s2o})).resolved()
    rehearse([trial], shapes_of(trial))


def test_dynamics_of_a_network_of_one_precision_alone_are_refused_before_any_training(own: Any) -> None:
    dynamics = {"every": 1, "images": 60, "eigenpairs": 1, "directions": 1, "batches": 4}
    trial = small.tiny(model=own("Casting"), dynamics=dynamics).resolved()
    rehearse([trial.model_copy(update={"dynamics": small.tiny().dynamics})], shapes_of(trial))
    with pytest.raises(UserError) as caught:
        rehearse([trial], shapes_of(trial))
    assert str(caught.value).startswith(
        "dynamics.every: must be none for ./mine.py:Casting: its loss cannot be had in "
    )
    assert "\n" not in str(caught.value)


def test_batch_norm_of_a_network_is_tried_with_the_images_of_each_worker(own: Any) -> None:
    whole = small.tiny(model=own("OverBatch", keeps=True), batch_size=26).resolved()  # of 80: the last batch has 2
    rehearse([whole], shapes_of(whole), workers=2)
    parted = whole.model_copy(update={"batch_norm": "local", "workers": 2})
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        rehearse([parted], shapes_of(parted), workers=2)
    assert doing() == "a training step of 1 image, as one of 2 workers of the last of an epoch's 80 by batch_size has"


def test_batch_norm_without_running_statistics_is_one_workers_alone(own: Any) -> None:
    trial = small.tiny(model=own("OverBatch")).resolved()
    rehearse([trial], shapes_of(trial))
    with pytest.raises(UserError) as caught:
        rehearse([trial], shapes_of(trial), workers=2)
    with pytest.raises(UserError) as later:
        Training.begin(trial, workers=Workers(0, 2))
    assert str(caught.value) == str(later.value)
    assert str(caught.value) == (
        "model.name: batch norm in ./mine.py:OverBatch keeps no running statistics, and an evaluation would be "
        "normalised by each worker's part of its batches; leave track_running_stats=False out, or set "
        "resources.workers=1"
    )


def shapes_of(trial: Any) -> Any:
    from trainers.data.sources import shapes

    return {} if trial.data.is_own else shapes([trial.data])


def test_a_rehearsal_gives_the_shape_and_the_mark_of_ones_own_data(own: Any) -> None:
    trial = small.tiny(data=own("digits", **DATA)).resolved()
    shape = rehearse([trial], {})[trial.data]
    assert (shape.train_images, shape.val_images, shape.test_images, shape.classes) == (80, 20, 50, 10)
    one, same = marks([trial.data, small.tiny(data=own("digits", **DATA, floats=True)).data])
    assert one == same
    assert one.startswith("digits-")


def test_a_rehearsal_passes_the_middle_of_ones_own_images_where_they_are_cropped(own: Any) -> None:
    data = own("digits", **DATA, crop_size=6)
    trial = small.tiny(data=data, model=own("SixBySix"), batch_size=79).resolved()
    assert rehearse([trial], {})[trial.data].train_images % trial.batch_size == 1  # so a step of one image is tried too


def test_an_optimizer_that_does_not_say_so_is_not_captured(own: Any) -> None:
    from torch import nn

    from trainers.method import optimizers

    weights = [nn.Parameter(nn.Linear(2, 2).weight.detach())]
    for part, captured in (
        (own("Plain", weight_decay=0), False),
        ({"name": "torch.optim:Adam", "code": "torch"}, False),
        ({"name": "torch.optim:Adam", "code": "torch", "capturable": True}, True),
        ({"name": "sgd"}, True),
    ):
        config = small.tiny(optimizer=part).resolved().optimizer
        assert optimizers.is_capturable(config, optimizers.build(config, weights)) is captured
