"""Catastrophic overfitting: the rule at its edges, a trial that collapses, and honest ones, which are not flagged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.frames.log import read_log
from analysis.frames.overfitting import overfitting_line, with_overfitting
from analysis.frames.trials import trials_of
from sweep import cli
from trainers.config import TrialConfig
from trainers.identity import identity, trial_id
from trainers.loop import train, with_fingerprint
from trainers.record import EpochRecord, RecordFile

BALLS = {"attack.radius": 0.3, "evaluation.radius": 0.3}
FGSM = {"attack.steps": 1, "evaluation.steps": 20, "objective.name": "pgd_at", **BALLS}


def flags(run: Any) -> list[str | None]:
    log = read_log(run.directory)
    frame = with_overfitting(trials_of(log), log)
    return list(frame["overfitting"]) if "overfitting" in frame else [None] * len(frame)


@pytest.mark.parametrize(
    ("robust", "own", "config", "expected"),
    [
        (0.0, 0.7, {}, True),
        (0.05, 0.31, {}, True),
        (0.06, 0.9, {}, False),  # some robustness is left
        (0.0, 0.2, {}, False),  # nothing was learnt at all
        (0.0, 0.7, {"attack.steps": 2}, True),
        (0.0, 0.7, {"attack.steps": 7}, False),
        (0.0, 0.7, {"attack.steps": 10, "attack.replays": 8}, True),
        (0.0, 0.7, {"evaluation.steps": 1}, False),  # evaluated by FGSM too
        (0.0, 0.7, {"evaluation.radius": 0.4}, False),  # of which it never saw anything
        (0.0, 0.7, {"evaluation.radius": 0.2}, True),
        (0.0, 0.9, {"objective.name": "natural"}, False),
    ],
)
def test_it_is_little_under_pgd_and_much_under_a_weak_training_attack(
    robust: float, own: float, config: dict[str, Any], expected: bool, run: Any
) -> None:
    run.trial("aaa", config={**FGSM, **config})
    run.start("aaa")
    run.epoch("aaa", 1, robust=0.4, train_robust=0.5)
    run.epoch("aaa", 2, robust=robust, train_robust=own)
    run.outcome("aaa")
    assert flags(run) == ["catastrophic" if expected else None]


def test_records_of_trials_that_say_no_attack_that_were_not_evaluated_or_diverged_are_not_flagged(run: Any) -> None:
    run.whole("old", [0.01, 0.0])
    run.trial("blind", config=FGSM)
    run.start("blind")
    run.epoch("blind", 1, robust=None, train_robust=0.9)
    run.outcome("blind", epochs=1)
    run.trial("diverged", config=FGSM)
    run.start("diverged")
    run.epoch("diverged", 1, robust=0.0, train_robust=0.9)
    run.outcome("diverged", "diverged", epochs=1)
    assert flags(run) == [None] * 3


def test_the_test_images_decide_where_no_validation_images_were_held_out(run: Any) -> None:
    run.trial("aaa", config=FGSM)
    run.start("aaa")
    run.epoch("aaa", 1, robust=None, test_robust=0.0, train_robust=0.6)
    run.outcome("aaa", epochs=1)
    assert flags(run) == ["catastrophic"]


def test_results_show_the_word_and_one_line_and_write_the_column_only_where_a_trial_collapsed(run: Any) -> None:
    def results(*words: str) -> str:
        answer = CliRunner().invoke(cli.main, ["results", str(run.directory), *words])
        assert answer.exit_code == 0, answer.output
        return answer.stdout

    run.whole("honest", [0.4, 0.5])
    assert "overfitting" not in results() + results("--format", "csv")
    for name, robust in (("aaa", 0.0), ("bbb", 0.02)):
        run.trial(name, config=FGSM, optimizer__lr=0.2 + robust)
        run.start(name)
        run.epoch(name, 1, robust=robust, train_robust=0.7)
        run.outcome(name, epochs=1)
    text = " ".join(results().split())
    assert (
        "catastrophic overfitting of 2 of 3 trials: right under their own training attack 70.0 %, under PGD 0.0 to "
        in text
    )
    rows = json.loads(results("--format", "json"))
    assert [row["overfitting"] for row in rows] == [None, "catastrophic", "catastrophic"]
    assert overfitting_line(trials_of(read_log(run.directory))) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("radius", "expected"), [(0.4, True), (0.15, False)])
def test_fast_training_at_a_large_radius_collapses_and_is_flagged_and_at_a_small_one_is_not(
    radius: float, expected: bool, tmp_path: Path
) -> None:
    """FGSM from the clean image at radius 0.4: some 30 % of the training images under FGSM, 0 % under PGD-20."""
    values = {
        "data": {"name": "digits", "validation_fraction": 0.1},
        "model": {"name": "small_cnn"},
        "epochs": 15,
        "batch_size": 32,
        "schedule": {"name": "constant"},
        "attack": {"radius": radius, "step_size": radius, "steps": 1, "start": "clean"},
        "evaluation": {"steps": 20, "step_size": radius / 8, "start": "uniform", "every": 15, "splits": ["val"]},
        "device": "cpu",
    }
    config = with_fingerprint(TrialConfig.model_validate(values))
    file, name = RecordFile(tmp_path), trial_id(config)
    file.append("trial", {"trial_id": name, "number": 0, "config": identity(config), "point": {}, "seed": 0})
    file.append("start", {"trial_id": name, "code_version": "x"})
    outcome = train(config, lambda one: file.append("epoch", one) if isinstance(one, EpochRecord) else None)
    file.append("outcome", outcome)
    file.close()
    log = read_log(tmp_path)
    frame = with_overfitting(trials_of(log), log)
    assert ("overfitting" in frame) is expected
    if expected:
        assert frame["last_val_robust"].item() < 0.02
        assert frame["last_train_robust"].item() > 0.25
    else:
        assert frame["last_val_robust"].item() > 0.5
