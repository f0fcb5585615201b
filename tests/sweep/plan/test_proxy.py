"""`stopping.require_proxy`: which epochs may end trials, judged by whole trials of another run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from sweep.config import SweepConfig
from sweep.plan.proxy import proxy_lines
from sweep.plan.stopping import ends_of, rule_lines
from sweep.stopping.config import StoppingConfig
from sweep.stopping.pruners import Epochs, options_of
from trainers.errors import UserError
from trainers.record import EpochRecord, OutcomeRecord, PrunedRecord, RecordFile

LENGTH = Epochs(3)


@pytest.fixture
def pilot(tmp_path: Path) -> Path:
    """8 points x 4 seeds: epoch 1 turns the order of epoch 3 around, epoch 2 has it."""
    rng = np.random.default_rng(0)
    with closing(RecordFile(tmp_path)) as file:
        for number, (place, seed) in enumerate((place, seed) for place in range(8) for seed in range(4)):
            name, lr = f"t{number}", 0.01 * 2**place
            config = {
                "model": {"name": "small_cnn"},
                "epochs": 3,
                "optimizer": {"name": "sgd", "lr": lr},
                "batch_size": 8,
            }
            point = {"optimizer.lr": lr}
            file.append("trial", {"trial_id": name, "number": number, "config": config, "point": point, "seed": seed})
            for epoch, value in enumerate((0.9 - 0.02 * place, 0.02 * place, 0.02 * place), start=1):
                noise = 0.012 * rng.standard_normal()
                file.append("epoch", EpochRecord(name, epoch, lr=lr, val_robust=value + noise, seconds=1.0))
            file.append("outcome", OutcomeRecord(name, "completed", "", 3))
    return tmp_path


def config(pilot: Path, **stopping: Any) -> SweepConfig:
    values = {"name": "asha", "require_proxy": 0.3, "proxy_from": [str(pilot)], **stopping}
    trial = {"data": {"name": "digits", "validation_fraction": 0.2}, "epochs": 3}
    return SweepConfig.model_validate(
        {"name": "x", "trial": trial, "space": {"optimizer.lr": [0.1]}, "stopping": values}
    )


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize(("warmup", "interval"), [(0, 1), (5, 10), (0, 7), (4, 3)])
def test_the_median_rule_is_judged_at_the_epochs_at_which_optuna_looks(every: int, warmup: int, interval: int) -> None:
    from optuna.pruners._percentile import _is_first_in_interval_step

    stopping = StoppingConfig(name="median", n_warmup_steps=warmup, interval_steps=interval)
    evaluated = range(every, 30, every)
    looks = [
        epoch
        for number, epoch in enumerate(evaluated, start=1)
        if epoch >= warmup
        and _is_first_in_interval_step(epoch, dict.fromkeys(evaluated[:number]).keys(), warmup, interval)
    ]
    assert list(ends_of(options_of(stopping, Epochs(30, every)), Epochs(30, every))) == looks


def test_the_plan_names_the_first_epoch_at_which_the_median_rule_looks(pilot: Path) -> None:
    late = {"name": "median", "require_proxy": None, "proxy_from": ()}
    (line,) = rule_lines(config(pilot, **late, n_warmup_steps=5), Epochs(30, 2))
    assert "from epoch 6 on every 2 epochs" in line
    (line,) = rule_lines(config(pilot, **late, n_warmup_steps=30), Epochs(30, 2))
    assert line.endswith(": it looks at no epoch before 30, and ends nothing")


def test_epoch_whose_interval_reaches_below_is_refused_with_the_first_one_that_may_end_trials(pilot: Path) -> None:
    with pytest.raises(UserError, match=r"require_proxy: at epoch 1, .*tau -.*\[-.*let trials end from epoch 2 on"):
        list(proxy_lines(config(pilot), LENGTH))


def test_epoch_that_is_good_enough_is_told_with_its_interval(pilot: Path) -> None:
    (line,) = proxy_lines(config(pilot, min_resource=2), LENGTH)
    assert line.startswith("  epoch 2 orders points as the last one does: small_cnn, PGD-AT: tau 1.00 [")
    assert line.endswith("8 points, n = 32 (at least 0.3)")


def test_trials_of_another_length_judge_nothing(pilot: Path) -> None:
    with pytest.raises(UserError, match=r"needs trials of 9 epochs with val_robust at epoch 1, .* whole ones of 3;"):
        list(proxy_lines(config(pilot), Epochs(9)))


def test_only_what_came_before_the_first_pruned_trial_judges(pilot: Path) -> None:
    before = list(proxy_lines(config(pilot, min_resource=2), LENGTH))
    with closing(RecordFile(pilot)) as file:
        file.append("outcome", PrunedRecord("t0", "pruned", "by asha", 1, rung=1, share=0.3, by="asha"))
        for epoch in (2, 3):
            file.append("epoch", EpochRecord("t3", epoch, lr=0.1, val_robust=0.9))
    assert list(proxy_lines(config(pilot, min_resource=2), LENGTH)) == before


def test_nothing_is_asked_of_a_rule_without_it(pilot: Path) -> None:
    assert not list(proxy_lines(config(pilot, require_proxy=None, proxy_from=[]), LENGTH))


@pytest.mark.parametrize(
    "alone", [{"require_proxy": 0.8}, {"proxy_from": ["runs/pilot"]}], ids=lambda keys: next(iter(keys))
)
def test_one_key_without_the_other_is_refused(alone: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r": needed beside "):
        StoppingConfig.model_validate({"name": "asha", **alone})
