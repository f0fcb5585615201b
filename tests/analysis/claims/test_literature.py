"""What others published: the numbers as they stand in their sources, and how little one run a value says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.claims.blocks import Effect, Options
from analysis.claims.effects import ratio
from analysis.claims.literature import Finding, findings, twins
from analysis.claims.questions import NAMES
from analysis.frames.published import numbers
from analysis.frames.trials import trials_of
from analysis.tables.literature import findings_text
from trainers.config import TrialConfig


@pytest.fixture(scope="module")
def found() -> tuple[Finding, ...]:
    return findings()


def of(found: tuple[Finding, ...], varied: str, at: str) -> Finding:
    (one,) = (finding for finding in found if finding.varied == varied and finding.at == at)
    return one


def test_the_logs_say_where_robust_accuracy_is_highest(found: tuple[Finding, ...]) -> None:
    start = "learning rate of the first 100 epochs"
    assert of(found, start, "epoch 110").values == pytest.approx(
        {0.06: 0.5054, 0.08: 0.5165, 0.1: 0.5217, 0.3: 0.4981, 0.5: 0.4520}
    )
    assert {of(found, start, at).highest for at in ("epoch 110", "epoch 150", "best epoch")} == {0.1}
    decay = "weight decay, of all but batch norm and biases"
    assert of(found, decay, "epoch 110").highest == of(found, decay, "best epoch").highest == 0.0005
    assert of(found, decay, "epoch 200").highest == 0.01


def test_a_slope_is_the_ledgers_of_the_same_runs(found: tuple[Finding, ...]) -> None:
    one = of(found, "learning rate of the first 100 epochs", "epoch 110")
    records = [record for lr, robust in one.values.items() for record in _records(lr, robust)]
    effect = ratio(trials_of(records), Options())
    assert isinstance(effect, Effect)
    assert (one.estimate, one.low, one.high) == pytest.approx(
        (effect.evidence.estimate, *effect.evidence.interval(0.05))
    )
    assert (one.n, one.verdict) == (effect.evidence.n, "undecided")
    assert effect.untested  # by the ledger too: cells of one seed decide nothing


def _records(lr: float, robust: float) -> list[dict[str, object]]:
    name, config = f"lr {lr}", TrialConfig.model_validate({"optimizer": {"lr": lr}}).model_dump(mode="json")
    trial = {"record": "trial", "trial_id": name, "number": 0, "config": config, "seed": 0}
    return [
        trial | {"point": {"optimizer.lr": lr}},
        {"record": "start", "trial_id": name, "code_version": "none"},
        {"record": "epoch", "trial_id": name, "epoch": 1, "lr": lr, "peak_memory_bytes": 0, "test_robust": robust},
        {"record": "outcome", "trial_id": name, "outcome": "completed", "reason": "", "epochs": 1},
    ]


def test_runs_that_learned_nothing_are_in_no_slope_and_counted(found: tuple[Finding, ...]) -> None:
    decay = [one for one in found if one.varied.startswith("weight decay, of all")]
    assert {(one.n, one.left_out, max(one.values)) for one in decay} == {(5, 2, 0.5)}
    assert "without 2 values at which nothing was learned" in " ".join(findings_text(decay).split())


def test_two_models_give_no_interval(found: tuple[Finding, ...]) -> None:
    (one,) = (finding for finding in found if finding.source == "Pang et al. 2021")
    assert one.values == {0.0002: 0.5304, 0.0005: 0.5464}
    assert one.estimate == pytest.approx(0.016 / np.log10(2.5))
    assert math.isnan(one.low)
    assert "+4.02 [no interval]" in findings_text([one])


def test_no_number_of_others_decides_a_claim(found: tuple[Finding, ...]) -> None:
    assert {one.name for one in found} == {"ratio", "not_weight_decay"} <= set(NAMES)
    assert {one.verdict for one in found} == {"undecided", "not measured"}


def test_the_noise_is_that_of_the_two_runs_that_are_nearly_alike() -> None:
    assert twins() == pytest.approx({110: 0.0054, 150: 0.0181, 200: 0.0087})


def test_a_run_s_best_epoch_is_its_highest() -> None:
    runs = numbers("others/rice2020")
    last = runs.filter(regex="^robust_[0-9]").max(axis=1)
    assert (runs["robust_best"] >= last).all()
    assert (runs["best_epoch"] <= runs["epochs"]).all()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_says_the_same(found: tuple[Finding, ...], width: int) -> None:
    text = findings_text(found, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.split() == findings_text(found).split()


def test_the_page_shows_what_the_command_prints(found: tuple[Finding, ...]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "published.md").read_text(encoding="utf-8")
    assert f"```text\n{findings_text(found)}```\n" in page
