"""A sweep whose trials start from given weights: what its plan says, and that it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from analysis.frames.trials import load_trials
from sweep.cli import main
from sweep.config import SweepConfig
from sweep.run import nodes
from sweep.search.inputs import inputs
from trainers.config import ModelConfig
from trainers.errors import UserError
from trainers.models import registry
from trainers.models.fine_tuning import fingerprint
from trainers.provenance import code_version
from trainers.record import read

Configs = Callable[..., SweepConfig]


def sweep(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of small_cnn for seven classes."""
    config = ModelConfig(name="small_cnn")
    network = registry.build(config, num_classes=7, channels=1, image_size=8, mean=(0.5,), std=(0.2,), seed=3)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_plan_says_what_is_taken_of_the_weights_and_what_is_drawn(
    sweep_file: Callable[..., Path], weights: Path, here: None
) -> None:
    plan = sweep("plan", sweep_file(), "--set", "trial.model.fine_tune=w.pt")
    assert plan.exit_code == 0, plan.output
    assert (
        f"  small_cnn starts from {weights} ({fingerprint(str(weights))}): 18 tensors; 1.linear.weight and "
        "1.linear.bias drawn anew: 7 classes there, 10 here\n"
    ) in plan.output
    assert "read by no trial" not in plan.output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["trial.model.fine_tune=no.pt"],
            "sweep: trial.model.fine_tune: {folder}/no.pt: no such file, and no RUN:TRIAL_ID of a run with "
            "checkpoints; give a file of torch.save, or a trial that `sweep results RUN` lists\n",
        ),
        (
            ["space.model.fine_tune=[null, no.pt]"],
            "sweep: space.model.fine_tune: {folder}/no.pt: no such file, and no RUN:TRIAL_ID of a run with "
            "checkpoints; give a file of torch.save, or a trial that `sweep results RUN` lists\n",
        ),
        (
            ["trial.model.fine_tune=w.pt", "trial.model.name=preact_resnet18"],
            "sweep: trial.model.fine_tune: {folder}/w.pt: must hold the weights of preact_resnet18, and lacks 105 of "
            "its 107 tensors (stem.weight, blocks.0.bn1.weight, blocks.0.bn1.bias, ...), and holds 18 tensors that it "
            "has not (conv1.weight, bn1.weight, bn1.bias, ...); set trial.model.name to the network that was trained, "
            "or give other weights\n",
        ),
        (
            ["space.model.weights_fingerprint=[a]"],
            "sweep: --set space.model.weights_fingerprint: is filled in by the sweep and cannot be an axis\n",
        ),
    ],
)
def test_what_cannot_be_started_from_is_refused_before_anything_runs(
    sweep_file: Callable[..., Path], weights: Path, here: None, settings: list[str], message: str, tmp_path: Path
) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    for command in ("plan", "launch"):
        answer = sweep(command, sweep_file(), *options, "--out", tmp_path / "run")
        assert (answer.exit_code, answer.output) == (2, message.format(folder=tmp_path))
    assert not (tmp_path / "run").exists()


def test_from_scratch_and_from_weights_are_cells_of_one_sweep_which_a_relaunch_finds_finished(
    tiny: Configs, launch: Callable[..., tuple[int, str]], weights: Path, here: None, tmp_path: Path
) -> None:
    config = tiny(space={"model.fine_tune": [None, "w.pt"], "optimizer.lr": [0.1]})
    code, said = launch(config, tmp_path / "run", serial=True)
    assert code == 0, said
    trials = load_trials(tmp_path / "run")
    assert list(trials["model.weights_fingerprint"].fillna("")) == ["", fingerprint(str(weights))]
    assert "model.fine_tune" not in trials
    assert trials["last_val_clean_loss"].nunique() == 2
    assert f"started from {weights}" in sweep("show", tmp_path / "run", trials["trial_id"][1]).output
    kept = yaml.safe_load((tmp_path / "run/sweep.yaml").read_text())
    assert kept["space"]["model.fine_tune"] == {"grid": [None, str(weights)]}
    weights.rename(tmp_path / "moved.pt")
    elsewhere = tiny(space={"model.fine_tune": [None, "moved.pt"], "optimizer.lr": [0.1]})
    assert "nothing left to run" in launch(elsewhere, tmp_path / "run", serial=True)[1]


def test_a_trial_goes_on_from_another_run_s_and_its_network_can_be_evaluated(
    tiny: Configs, launch: Callable[..., tuple[int, str]], undisturbed: Path, tmp_path: Path
) -> None:
    first = load_trials(undisturbed)["trial_id"][0]
    space = {"model.fine_tune": [None, f"{undisturbed}:{first[:8]}"], "optimizer.lr": [0.01]}
    config = tiny(space=space, trial=tiny().given | {"epochs": 1})
    code, said = launch(config, tmp_path / "run", serial=True)
    assert code == 0, said
    assert f"small_cnn starts from {undisturbed}:{first[:8]} (" in said
    drawn, warm = load_trials(tmp_path / "run")["last_train_robust_loss"]
    assert warm < drawn
    assert not any("fine_tune" in one["config"]["model"] for one in read(tmp_path / "run") if one["record"] == "trial")
    evaluation = sweep("evaluate", tmp_path / "run", "--attack", "clean", "--serial")
    assert evaluation.exit_code == 0, evaluation.output


def test_every_node_must_see_the_file_of_weights(
    tiny: Configs, weights: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(space={"model.fine_tune": [None, "w.pt"]})
    assert inputs(config) == {str(weights): "trial.model.fine_tune"}
    assert inputs(tiny()) == {}
    monkeypatch.setattr(nodes.ray, "get", lambda answer, timeout: answer)
    probe = ([str(weights)], code_version())
    with pytest.raises(UserError, match=rf"^trial.model.fine_tune {weights}: node n1 does not see it; give a folder"):
        nodes.check_probe("n1", weights.parent, inputs(config), probe)


@pytest.mark.slow
def test_workers_of_ray_find_the_weights(
    tiny: Configs, launch: Callable[..., tuple[int, str]], weights: Path, here: None, tmp_path: Path, local_ray: None
) -> None:
    config = tiny(space={"model.fine_tune": ["w.pt"], "optimizer.lr": [0.1]})
    code, said = launch(config, tmp_path / "run")
    assert code == 0, said
