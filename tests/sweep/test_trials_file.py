"""What `sweep plan --trials-file` lists, `python -m trainers` runs, and `sweep merge` takes in beside a launch's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from analysis.frames.trials import load_trials
from sweep import cli
from sweep.config import SweepConfig
from sweep.plan.plan import earlier_records, plan
from sweep.trials_file import write_trials
from trainers.errors import UserError
from trainers.provenance import code_version
from trainers.record import RECORDS_FILE, line, read
from trainers.record.linked import REGISTRATION_FILE, registered
from trainers.stint import Stint
from trainers.trial_list import TrialList, read_list

Tiny = Callable[..., SweepConfig]
Launch = Callable[..., tuple[int, str]]


def listed(config: SweepConfig, run: Path, file: Path, **how: Any) -> TrialList:
    """The list of what a run lacks."""
    write_trials(plan(config, earlier_records(run), code_version(), **how), file, registered(run))
    return read_list(file)


def refused(config: SweepConfig, tmp_path: Path, **how: Any) -> str:
    with pytest.raises(UserError) as error:
        listed(config, tmp_path / "none", tmp_path / "trials.jsonl", **how)
    assert not (tmp_path / "trials.jsonl").exists()
    return str(error.value).removeprefix(f"--trials-file {tmp_path / 'trials.jsonl'}: ")


def judged(run: Path) -> list[dict[str, Any]]:
    """The ledger, but for what is said of times."""
    done = CliRunner().invoke(cli.main, ["claims", str(run), "--json"])
    assert done.exit_code == 0, done.output
    return [claim for claim in json.loads(done.stdout) if claim["name"] != "no_extra_time"]


def test_all_points_come_with_one_seed_before_any_with_the_next_and_given_points_first(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(seeds=[3, 0], search={"name": "grid", "points": [{"optimizer.name": "deat", "optimizer.lr": 0.3}]})
    trials = listed(config, tmp_path / "none", tmp_path / "trials.jsonl").trials
    assert [one.record["seed"] for one in trials] == [3] * 4 + [0] * 4
    assert trials[0].record["point"] == trials[4].record["point"] == {"optimizer.name": "deat", "optimizer.lr": 0.3}


def test_a_list_of_a_registered_run_begins_nowhere_without_its_registration(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / REGISTRATION_FILE).write_text("{}")
    trials = listed(tiny(seeds=[0]), tmp_path / "run", tmp_path / "trials.jsonl")
    with pytest.raises(UserError, match=r"registration\.json: is not there, and trials were begun under"):
        Stint(trials, tmp_path / "elsewhere" / RECORDS_FILE, say=lambda line: None).run()
    assert not (tmp_path / "elsewhere" / RECORDS_FILE).exists()


def test_a_plan_of_a_list_keeps_the_config_that_stints_write_none_of_until_there_are_records(
    sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def planned(seeds: str) -> list[int]:
        words = ["--out", run, "--trials-file", tmp_path / "trials.jsonl", "--rate", "0.01", "--set", f"seeds={seeds}"]
        done = CliRunner().invoke(cli.main, ["plan", str(sweep_file()), *map(str, words)])
        assert done.exit_code == 0, done.output
        return list(yaml.safe_load((run / "sweep.yaml").read_text())["seeds"])

    assert planned("[0]") == [0]
    assert planned("[1]") == [1]
    (run / RECORDS_FILE).write_text(line("launch", {"time": 0.0, "size": 0, "wanted": []}))
    assert planned("[2]") == [1]


def test_what_a_run_has_is_not_listed_and_numbers_are_those_of_a_launch(tiny: Tiny, undisturbed: Path) -> None:
    records = read(undisturbed)
    fewer = undisturbed.parent / "fewer.jsonl"
    assert listed(tiny(), undisturbed, fewer).trials == ()
    listed(tiny(seeds=[0, 1]), undisturbed, fewer)
    known = {record["trial_id"]: record["number"] for record in records if record["record"] == "trial"}
    new = [one.record["number"] for one in read_list(fewer).trials]
    assert new == [4, 5, 6, 7]
    assert sorted(known.values()) == [0, 1, 2, 3]


def test_a_sweep_that_needs_a_launch_is_refused_in_a_line(tiny: Tiny, tmp_path: Path) -> None:
    runs = "lists trials that run one by one, without a launch, and"
    assert refused(tiny(search={"name": "optuna", "n_trials": 4}), tmp_path) == (
        f"{runs} search.name is optuna, which asks for them as results come; take grid, say"
    )
    assert refused(tiny(stopping={"name": "asha"}), tmp_path) == (
        f"{runs} stopping compares trials while they run; leave it out, or launch the sweep"
    )
    assert refused(tiny(seeds=[0, 1, 2], race={"alpha": 0.05}), tmp_path) == (
        f"{runs} race compares trials while they run; leave it out, or launch the sweep"
    )
    assert refused(tiny(resources={"workers": 2}), tmp_path) == (
        f"{runs} resources.workers is 2; set resources.workers=1, or launch the sweep"
    )
    data = {"name": "image_folder", "root": "nowhere"}
    assert refused(tiny(trial={"data": data}), tmp_path, data="if there") == (
        "needs the data, whose fingerprint is part of a trial's id, and image_folder was not looked at; put it there, "
        "or leave --no-data out"
    )


def test_half_by_a_launch_and_half_by_a_list_merge_to_the_run_that_a_launch_gives(
    tiny: Tiny, launch: Launch, undisturbed: Path, tmp_path: Path, same_numbers: Callable[[Path, Path], None]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert launch(tiny(space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1]}), here, serial=True)[0] == 0
    trials = listed(tiny(), here, tmp_path / "trials.jsonl")
    assert len(trials.trials) == 2
    Stint(trials, there / "card.jsonl", say=lambda line: None).run()
    done = CliRunner().invoke(cli.main, ["merge", str(here), str(there / "card.jsonl")])
    assert done.exit_code == 0, done.output
    assert "card.jsonl: 2 trials taken, 0 here already" in done.output
    again = CliRunner().invoke(cli.main, ["merge", str(here), str(there / "card.jsonl")])
    assert "card.jsonl: 0 trials taken, 2 here already" in again.output
    same_numbers(here, undisturbed)
    assert set(load_trials(here).outcome) == {"completed"}
    assert all((here / "checkpoints" / f"{one.id}.pt").is_file() for one in trials.trials)
    sources = [one["merged"]["from"] for one in read(here) if one["record"] == "launch" and "merged" in one]
    assert sources == [str(there / "card.jsonl")]
    assert judged(here) == judged(undisturbed)


@pytest.mark.slow
def test_the_two_commands_work_together(sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    """A user's own network too, which is kept beside the list."""
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, channels, image_size):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(channels * image_size[0] * image_size[1], num_classes))\n"
    )
    config = sweep_file()
    values = yaml.safe_load(config.read_text())
    values["trial"] = {**values["trial"], "model": {"name": "./own.py:Net"}, "epochs": 1}
    config.write_text(yaml.safe_dump(values))
    trials, run = tmp_path / "list" / "trials.jsonl", tmp_path / "run"
    command = ["plan", str(config), "--out", str(run), "--trials-file", str(trials), "--rate", "0.01"]
    planned = CliRunner().invoke(cli.main, command)
    assert planned.exit_code == 0, planned.output
    assert f"{trials}: 4 trials; python -m trainers" in "".join(planned.output.splitlines())
    words = [sys.executable, "-m", "trainers", str(trials), "--records", str(run / RECORDS_FILE)]
    ran = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == f"{run / RECORDS_FILE}: 4 of 4 trials finished"
    assert set(load_trials(run).outcome) == {"completed"}
