"""The checks: an honestly trained network passes all, and one whose gradients are masked fails the right ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analysis.estimates.masking import FAILED, judged
from analysis.frames.checks import checks_of
from trainers.config import TrialConfig
from trainers.identity import identity, trial_id
from trainers.ladder.checks import count_check
from trainers.ladder.rungs import CHECKS, LadderAttack
from trainers.ladder.trained import Trained, trained
from trainers.loop import train, with_fingerprint

BALL = LadderAttack(name="fgsm", norm="linf", radius=0.15)
CONFIG = TrialConfig.model_validate(
    {
        "data": {"name": "digits", "validation_fraction": 0.1},
        "model": {"name": "small_cnn"},
        "epochs": 8,
        "batch_size": 32,
        "attack": {"radius": 0.15, "step_size": 0.04, "steps": 7},
        "evaluation": {"every": 8, "splits": ["test"], "steps": 1},
        "device": "cpu",
        "keep": "last",
    }
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path: Path = tmp_path_factory.mktemp("trained") / "trial.pt"
    config = with_fingerprint(CONFIG)
    assert train(config, lambda record: None, resume=path).outcome == "completed"
    return trained(config, path, "last")


class Masked(nn.Module):
    """The network behind something through which its gradient does not come as it is."""

    def __init__(self, network: nn.Module, how: str) -> None:
        super().__init__()
        self.network, self.how = network, how

    def forward(self, images: Tensor) -> Tensor:
        if self.how == "quantised":
            images = (images * 16).round() / 16  # a step, whose slope is 0
        elif self.how == "confident":  # the cross-entropy is 0 in fp32, and so is its slope
            logits: Tensor = self.network(images) * 1e4
            return logits
        elif self.how == "clean only":  # as where a network was trained against FGSM alone
            through = ((images * 16).round() - images * 16).flatten(1).abs().amax(1) < 0.04
            images = torch.where(through.reshape(-1, 1, 1, 1), images, images.detach())
        elif self.how == "by luck":  # at one start in six
            through = (images[:, :1, :1, :1] > 0.1).expand_as(images).clone()
            through[:, :, 0, 0] = False  # no step moves what decides
            images = torch.where(through, images, images.detach())
        logits = self.network(images)
        return logits


def verdicts(network: Trained, how: str, checks: tuple[Any, ...], images: int = 200) -> set[str]:
    """The checks that fail, from the counts to the verdict by way of records."""
    masked = network._replace(model=network.model if how == "honest" else Masked(network.model, how))
    config = with_fingerprint(CONFIG)
    trial = {"trial_id": trial_id(config), "number": 0, "config": identity(config), "point": {}, "seed": 0}
    records: list[dict[str, Any]] = [
        {"record": "trial", **trial},
        {"record": "start", "trial_id": trial["trial_id"], "code_version": "x"},
    ]
    what = {"weights": "last", "averaged": False, "split": "test", "parameters": BALL.parameters()}
    for check in checks:
        counts = vars(count_check(masked, check, BALL, "test", 0, images))
        place = {"record": "check", "trial_id": trial["trial_id"], "asked": images, "first": 0, "seconds": 1.0}
        records.append({**place, **what, "check": check, **counts})
    rows = judged(checks_of(records))
    assert list(rows["check"]) == list(checks)
    assert rows["complete"].all()
    return set(rows["check"][rows["verdict"] == FAILED])


QUICK = tuple(check for check in CHECKS if check != "black_box")


def test_an_adversarially_trained_network_passes_and_masked_ones_fail_what_they_must(network: Trained) -> None:
    assert verdicts(network, "honest", QUICK) == set()
    assert verdicts(network, "quantised", QUICK, 80) == {"unbounded", "ascent"}
    assert verdicts(network, "confident", QUICK, 80) == {"unbounded", "ascent"}
    assert verdicts(network, "clean only", ("single_step",), 80) == {"single_step"}
    assert verdicts(network, "by luck", ("restarts",)) == {"restarts"}


@pytest.mark.slow
def test_without_gradients_more_breaks_than_with_them_where_they_are_masked_and_else_not(network: Trained) -> None:
    assert verdicts(network, "honest", ("black_box",)) == set()
    assert verdicts(network, "quantised", ("black_box",)) == {"black_box"}
    assert verdicts(network, "confident", ("black_box",)) == set()  # APGD's targeted loss is the same at any scale


@pytest.mark.parametrize("check", QUICK)
def test_a_check_adds_up_over_its_chunks(check: Any, network: Trained) -> None:
    whole, *parts = (count_check(network, check, BALL, "test", *place) for place in ((0, 40), (0, 13), (13, 27)))
    for name in ("images", "clean_correct", "against", "in_favour"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
    assert whole.right_under == {name: sum(part.right_under[name] for part in parts) for name in whole.right_under}
    assert 0 < whole.clean_correct <= whole.images == 40


def test_a_check_leaves_the_network_as_it_was_and_does_not_count_what_is_wrong_when_clean(network: Trained) -> None:
    model = network.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = network._replace(model=nn.Sequential(model, nn.Linear(10, 10)).eval())
    with torch.no_grad():
        for parameter in wrong.model[1].parameters():
            parameter.zero_()
    counts = count_check(wrong, "unbounded", BALL, "test", 0, 20)
    assert counts.clean_correct < 20
    assert counts.right_under == {"radius 1": counts.clean_correct}  # logits that never change: no gradient at all
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
