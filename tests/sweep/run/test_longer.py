"""Launches whose longer trials go on from the ends of shorter ones: in this process, by the real command, killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from faults_harness import Commands, lines
from small import TINY

from analysis.frames.trials import load_epochs, load_trials
from sweep.config import ResourcesConfig, SweepConfig
from sweep.run.trial import run_together
from sweep.share import Share
from trainers.config import TrialConfig
from trainers.files import checkpoint_path
from trainers.identity import trial_id
from trainers.loop import with_fingerprint
from trainers.record import read

Launch = Callable[..., tuple[int, str]]
SHORT, LONG = 2, 4
KEPT = TINY | {
    "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 5, "test_per_class": 2},
    "batch_size": 16,
    "evaluation": {"steps": 1},
    "schedule": {"name": "constant"},
    "keep": "state",
}
#: What may differ between a trial that went on and one that was never stopped.
INCIDENTAL = ["seconds", "evaluation_seconds", "checkpoint_seconds", "preparing_seconds", "samples_per_second"]
INCIDENTAL += ["peak_memory_bytes", "memory_bytes", "host", "attempts", "from_trial"]


def values(epochs: int) -> dict[str, Any]:
    return {"trial": KEPT | {"epochs": epochs}, "space": {"optimizer.lr": [0.1]}, "seeds": [0, 1]}


@pytest.fixture(scope="module")
def never_stopped(launched: Launch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long trials, trained from their start; for reading only."""
    folder = tmp_path_factory.mktemp("never_stopped")
    assert launched(config(folder, LONG), folder / "run", serial=True)[0] == 0
    return folder / "run"


def config(folder: Path, epochs: int) -> SweepConfig:
    return SweepConfig.model_validate({"name": "tiny", **values(epochs)})


def ended_alike(run: Path, never_stopped: Path) -> None:
    """The long trials of both have the same numbers."""
    for load in (load_trials, load_epochs):
        wanted, frame = (load(path).drop(columns=INCIDENTAL, errors="ignore") for path in (never_stopped, run))
        long = frame[frame["trial_id"].isin(wanted["trial_id"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(long[wanted.columns], wanted, check_exact=True)


def begun(run: Path) -> list[tuple[int, str, str | None]]:
    records = read(run)
    return [(one["epoch"], one["reason"], one["from_trial"]) for one in records if one["record"] == "resume"]


def trial_ids(epochs: int) -> list[str]:
    """Of both seeds."""
    trials = (KEPT | {"epochs": epochs, "seed": seed, "optimizer": {"lr": 0.1}} for seed in (0, 1))
    return [trial_id(with_fingerprint(TrialConfig.model_validate(trial))) for trial in trials]


def test_a_widened_sweep_goes_on_from_what_is_finished_and_gives_the_numbers_of_one_never_stopped(
    launch: Launch, never_stopped: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert launch(config(tmp_path, SHORT), run, serial=True)[0] == 0
    before = {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    code, said = launch(config(tmp_path, LONG), run, serial=True)
    assert code == 0
    assert "2 of the new go on from the end of a shorter trial, which saves 4 of 8 epochs" in said
    assert begun(run) == [(SHORT, "", name) for name in trial_ids(SHORT)]
    ended_alike(run, never_stopped)
    assert {name: (run / "checkpoints" / name).read_bytes() for name in before} == before
    trials = load_trials(run).set_index("trial_id")
    assert trials["from_trial"][trial_ids(LONG)].tolist() == trial_ids(SHORT)
    epochs = load_epochs(run).set_index(["trial_id", "epoch"])
    for short, long in zip(trial_ids(SHORT), trial_ids(LONG), strict=True):  # times are those that were measured
        assert [epochs["seconds"][long, n] for n in (1, 2)] == [epochs["seconds"][short, n] for n in (1, 2)]


def test_of_epochs_as_an_axis_the_longer_trials_go_on_from_the_shorter_ones_of_the_same_launch(
    launch: Launch, never_stopped: Path, tmp_path: Path
) -> None:
    trial = {key: value for key, value in KEPT.items() if key != "epochs"}
    space = {"epochs": [LONG, SHORT], "optimizer.lr": [0.1]}
    axis = SweepConfig.model_validate({"name": "tiny", **values(LONG), "trial": trial, "space": space})
    assert launch(axis, tmp_path / "run", serial=True)[0] == 0
    assert begun(tmp_path / "run") == [(SHORT, "", name) for name in trial_ids(SHORT)]
    ended_alike(tmp_path / "run", never_stopped)


def test_a_damaged_file_is_passed_over_with_its_reason_on_the_screen_and_in_the_records(
    launch: Launch, never_stopped: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert launch(config(tmp_path, SHORT), run, serial=True)[0] == 0
    (first, _), (_, second) = trial_ids(SHORT), trial_ids(LONG)
    path = checkpoint_path(run, first)
    path.write_bytes(path.read_bytes()[:-200])
    _, said = launch(config(tmp_path, LONG), run, serial=True)
    (epoch, reason, of), other = begun(run)
    assert (epoch, of) == (0, None)
    assert reason.startswith(f"{first}.pt is damaged")
    assert f"begins afresh: {first}.pt is damaged" in said
    assert second in said
    assert other == (SHORT, "", trial_ids(SHORT)[1])
    ended_alike(run, never_stopped)


def test_a_share_goes_on_from_what_another_share_has_finished(
    launch: Launch, never_stopped: Path, tmp_path: Path
) -> None:
    run, shares = tmp_path / "run", [Share(index, 2) for index in (1, 2)]
    for epochs in (SHORT, LONG):
        for share in shares:
            assert launch(config(tmp_path, epochs), run, serial=True, share=share)[0] == 0
    assert sorted(begun(run)) == sorted((SHORT, "", name) for name in trial_ids(SHORT))
    ended_alike(run, never_stopped)


def test_trials_side_by_side_in_one_process_go_on_each_from_its_own_shorter_one(
    launch: Launch, never_stopped: Path, tmp_path: Path
) -> None:
    from contextlib import nullcontext

    run = tmp_path / "run"
    assert launch(config(tmp_path, SHORT), run, serial=True)[0] == 0
    trials, sent = {}, []
    for seed, name in enumerate(trial_ids(LONG)):
        trial = TrialConfig.model_validate(KEPT | {"epochs": LONG, "seed": seed, "optimizer": {"lr": 0.1}})
        trials[name] = with_fingerprint(trial).model_dump(mode="json")
    shorter = {long: [short] for long, short in zip(trial_ids(LONG), trial_ids(SHORT), strict=True)}
    together = {"training": lambda name: nullcontext(lambda: False), "lost": lambda: None, "shorter": shorter}
    assert run_together(trials, run, 1, sent.append, share=1, **together)  # type: ignore[arg-type]
    resumed = {one["trial_id"]: one["from_trial"] for one in sent if one["record"] == "resume"}
    assert resumed == {long: short for long, (short,) in shorter.items()}
    last = {one["trial_id"]: one["val_robust"] for one in sent if one["record"] == "epoch" and one["epoch"] == LONG}
    expected = load_trials(never_stopped).set_index("trial_id")["last_val_robust"].to_dict()
    assert last == expected


@pytest.mark.slow
def test_through_ray_longer_trials_go_on_from_shorter_ones_alone_and_side_by_side(
    launch: Launch, never_stopped: Path, tmp_path: Path, local_ray: None
) -> None:
    run = tmp_path / "run"
    assert launch(config(tmp_path, SHORT), run)[0] == 0
    two = config(tmp_path, LONG).model_copy(update={"resources": ResourcesConfig(trials_per_process=2)})
    for wider in (config(tmp_path, LONG - 1), two):
        assert launch(wider, run)[0] == 0
    begins = [(SHORT, name) for name in trial_ids(SHORT)] + [(LONG - 1, name) for name in trial_ids(LONG - 1)]
    assert sorted((epoch, of) for epoch, _, of in begun(run)) == sorted(begins)
    ended_alike(run, never_stopped)


@pytest.mark.slow
def test_the_real_command_killed_while_a_longer_trial_trains_goes_on_to_the_same_numbers(
    commands: Commands, sweep_file: Callable[..., Path], never_stopped: Path, tmp_path: Path
) -> None:
    run, file = tmp_path / "run", sweep_file(**values(SHORT))
    words = ("launch", file, "--out", run, "--serial")
    short = commands(*words)
    assert short.code() == 0, short.output
    long = commands(*words, "--set", f"trial.epochs={LONG}")
    long.until(lambda: lines(run, "epoch") > 2 * SHORT + SHORT, "an epoch of a longer trial")
    long.signal(signal.SIGKILL)
    long.code()
    again = commands(*words, "--set", f"trial.epochs={LONG}")
    assert again.code() == 0, again.output
    assert {of for _, _, of in begun(run)} == set(trial_ids(SHORT))
    ended_alike(run, never_stopped)
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    epochs = [(one["trial_id"], one["epoch"]) for one in records if one["record"] == "epoch" and one["epoch"] <= SHORT]
    assert len(epochs) == len(set(epochs))  # handed on once, though reported by each process
