"""The plan: what is wanted, less what is finished, and its cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from recorded import Records, launch, run, trials_of

from sweep.cli import main
from sweep.config import SweepConfig
from sweep.plan.ended import objective_values
from sweep.plan.plan import Plan, plan
from sweep.progress import Progress
from sweep.search.inputs import data_key
from sweep.search.trials import PlannedTrial, fixed_points, planned
from sweep.share import Share
from trainers.errors import UserError

Configs = Callable[..., SweepConfig]


@pytest.fixture(autouse=True)
def without_data(planned_without_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.plan.plan.warnings", lambda *of: ())


def test_of_a_new_sweep_all_is_left_and_the_cost_unknown(tiny: Configs) -> None:
    found = plan(tiny(seeds=[0, 1]), [], "abc")
    assert (found.size, found.left, found.finished, found.resumable, found.merged) == (8, 8, 0, 0, 0)
    assert found.lines() == [
        "tiny: 8 trials (grid over optimizer.lr: 2 values, optimizer.name: 2 values; 2 seeds)",
        "  finished 0, to resume 0, new 8",
        "  cost: unknown until an epoch of each kind of trial has been measured; each trial takes 1 CPU",
    ]


def test_a_share_counts_and_gives_out_its_own_trials_alone_and_its_search_knows_all(tiny: Configs) -> None:
    config = tiny()
    trials = trials_of(config)
    records = [*launch(trials), *run(trials[0], 3)]
    shares = [plan(config, records, "abc", share=Share(index, 3)) for index in (1, 2, 3)]
    assert [found.size for found in shares] == [sum(map(Share(i, 3).has, (t.id for t in trials))) for i in (1, 2, 3)]
    assert sum(found.finished for found in shares) == 1
    assert sum(found.left for found in shares) == 3
    given = [trial.id for found in shares for trial in iter(found.search.next, None)]
    assert sorted(given) == sorted(trial.id for trial in trials[1:])
    assert {found.search.size() for found in shares} == {4}
    assert shares[0].lines()[0].startswith(f"tiny: share 1/3, {shares[0].size} of 4 trials (grid over ")


def test_optunas_trials_are_shared_out_to_nobody(tiny: Configs) -> None:
    with pytest.raises(UserError, match=r"^--shard 1/3: search\.name is optuna, .*; leave --shard out, or take a "):
        plan(tiny(search={"name": "optuna", "n_trials": 2}), [], "abc", share=Share(1, 3))


def test_the_plan_shows_the_question_and_what_a_trial_takes(tiny: Configs) -> None:
    lines = plan(tiny(question="Is it the ratio?", resources={"cpu": 2, "gpu": 0.5}), [], "abc").lines()
    assert lines[1] == "  Is it the ratio?"
    assert lines[-1].endswith("; each trial takes 0.5 GPU")
    assert plan(tiny(resources={"cpu": 2}), [], "abc").lines()[-1].endswith("; each trial takes 2 CPU")
    several = {"cpu": 2, "gpu": 1, "trials_per_process": 4}
    assert plan(tiny(resources=several), [], "abc").lines()[-1].endswith("; each 4 trials take 1 GPU")


def test_the_plan_says_how_many_trials_run_at_once_where_several_share_a_process(tiny: Configs) -> None:
    config = tiny(resources={"trials_per_process": 4}, max_concurrent=5)  # two processes of two; three trials are left
    found = plan(config, launch(trials_of(config)) + run(trials_of(config)[0], 3), "abc")
    assert found.lines()[-1] == (
        "  cost: 270.00 trial seconds at 1 CPU for each 4, 90.00 s with 3 at once, from the epochs measured here"
    )


def test_finished_trials_are_kept_and_begun_ones_resumed(tiny: Configs) -> None:
    config = tiny()
    one, two, three, four = trials_of(config)
    records = [
        *launch([one, two, three, four]),
        *run(one, 3),
        *run(two, 1, "interrupted"),
        *run(three, 2, None),
        *run(four, 1, "diverged"),
    ]
    found = plan(config, records, "abc")
    assert (found.finished, found.resumable, found.left) == (2, 2, 2)
    # 2 + 1 epochs left, of 30 s each, 2 at once
    assert found.trial_seconds == 90
    assert found.lines()[1:] == [
        "  finished 2, to resume 2, new 0",
        "  cost: 90.00 trial seconds at 1 CPU each, 45.00 s with 2 at once, from the epochs measured here",
    ]


@pytest.mark.parametrize(("part", "key", "value"), [("model", "name", "vit_small"), ("data", "name", "cifar10"),
                                                     ("dynamics", "every", 1)])  # fmt: skip
def test_epochs_of_another_network_or_data_set_or_with_other_dynamics_say_nothing_of_the_cost(
    part: str, key: str, value: Any, tiny: Configs
) -> None:
    config = tiny()
    trials = trials_of(config)
    records = launch(trials) + [line for trial in trials for line in run(trial, 3)]
    changed = getattr(config.trial, part).model_copy(update={key: value})
    found = plan(config.model_copy(update={"trial": config.trial.model_copy(update={part: changed})}), records, "abc")
    assert found.left == len(trials)
    assert found.trial_seconds is None


def test_when_all_is_finished_nothing_is_left(tiny: Configs) -> None:
    config = tiny()
    trials = trials_of(config)
    found = plan(config, launch(trials) + [line for trial in trials for line in run(trial, 3)], "abc")
    assert found.left == 0
    assert found.lines()[-1] == "  cost: nothing left to run"


def test_a_widened_sweep_runs_only_what_is_new_and_a_narrowed_one_forgets_the_rest(tiny: Configs) -> None:
    config = tiny()
    records = launch(trials_of(config)) + [line for trial in trials_of(config) for line in run(trial, 3)]
    wider = plan(tiny(seeds=[0, 1]), records, "abc")
    assert (wider.size, wider.finished, wider.left) == (8, 4, 4)
    narrower = plan(tiny(space={"optimizer.lr": [0.3]}), records, "abc")
    assert (narrower.size, narrower.finished, narrower.left) == (1, 1, 0)


@pytest.mark.parametrize("outcome", ["failed", "out_of_memory", "preempted", "interrupted"])
def test_a_trial_without_its_numbers_runs_again(outcome: str, tiny: Configs) -> None:
    config = tiny()
    trials = trials_of(config)
    found = plan(config, launch(trials) + run(trials[0], 0, outcome), "abc")
    assert (found.finished, found.resumable, found.left) == (0, 0, 4)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_finished_trial_of_which_an_epoch_is_lost_is_resumed(lost: int, tiny: Configs) -> None:
    config = tiny()
    trials = trials_of(config)
    lines = [line for line in run(trials[0], 3) if line.get("epoch") != lost]
    found = plan(config, launch(trials) + lines, "abc")
    assert (found.finished, found.resumable) == (0, 1)


def test_a_trial_that_other_code_began_is_not_resumed(tiny: Configs) -> None:
    config = tiny()
    one, two, *_ = trials_of(config)
    records = launch(trials_of(config)) + run(one, 2, None, code="old") + run(two, 2, None, code="abc")
    found = plan(config, records, "abc")
    assert (found.finished, found.resumable) == (0, 1)
    assert found.trial_seconds == (3 + 1 + 3 + 3) * 30


def test_an_epoch_that_was_trained_twice_took_its_time_twice(tiny: Configs) -> None:
    one, *_ = trials = trials_of(tiny())
    records = launch(trials) + run(one, 2, None, code="old") + run(one, 3)
    assert plan(tiny(), records, "abc").trial_seconds == 3 * 3 * 30


def test_finished_trials_from_other_code_are_told(tiny: Configs) -> None:
    config = tiny()
    one, two, *_ = trials_of(config)
    records = launch(trials_of(config)) + run(one, 3, code="old") + run(two, 3, code="abc")
    found = plan(config, records, "abc")
    assert found.other_code == {"old": 1}
    assert "  1 of the finished come from other code (old); they are kept" in found.lines()
    without = tiny(space={"optimizer.lr": [two.config.optimizer.lr], "optimizer.name": [two.config.optimizer.name]})
    assert plan(without, records, "abc").other_code == {}


def test_points_that_mean_the_same_trial_are_told(tiny: Configs) -> None:
    found = plan(tiny(space={"optimizer.name": ["sgd", "deat"], "optimizer.k1": [0.5, 1.0]}), [], "abc")
    assert (found.size, found.merged) == (3, 1)
    assert found.lines()[1] == "  1 more point means a trial that is there already: the keys that differ are not read"


def taking(seconds: float, lines: Records) -> Records:
    """The lines with epochs that took so long to train."""
    return [{**line, "seconds": seconds} if line["record"] == "epoch" else line for line in lines]


def test_the_cost_of_an_epoch_is_that_of_its_batch_size_or_where_none_was_measured_of_any(tiny: Configs) -> None:
    space, trial = {"batch_size": [16, 32, 64]}, {"data": {"name": "digits"}, "epochs": 4}
    config = tiny(space=space, trial=trial, seeds=[0, 1, 2])
    small, _, _, large, another, _, *_ = trials_of(config)
    measured = taking(90.0, run(small, 4)) + run(large, 4) + taking(50.0, run(another, 2, None))
    found = plan(config, launch(trials_of(config)) + measured, "abc")
    # evaluation takes 10 s: 2 small trials left, of large ones one and a half, and 3 of which nothing is known
    assert found.trial_seconds == pytest.approx(2 * 4 * 100 + 6 * (30 + 60) / 2 + 3 * 4 * (100 + 30 + 60) / 3)


def optuna(tiny: Configs, n: int, **values: Any) -> SweepConfig:
    space = {"optimizer.lr": {"loguniform": [0.01, 1]}}
    return tiny(**{"space": space, "search": {"name": "optuna", "n_trials": n}, **values})


def ran(config: SweepConfig, records: Records, most: int) -> Records:
    """The records of a launch of an Optuna sweep that runs so many trials."""
    found = plan(config, records, "abc")
    known = [trial.id for trial in found.search.known()]
    lines: Records = [{"record": "launch", "time": 0.0, "size": found.size, "wanted": known}]
    for number in range(most):
        trial = found.search.next()
        assert trial is not None
        lines += [{"record": "trial", **trial.record(number)}, *run(trial, 3)]
        found.search.tell(trial.id, (0.5,))
    return records + lines


def counted(found: Plan) -> tuple[int, int, int]:
    return found.size, found.finished, found.left


def test_the_plan_of_a_search_that_learns_counts_only_its_own_trials(tiny: Configs) -> None:
    records = ran(optuna(tiny, 6), [], 4)
    assert counted(plan(optuna(tiny, 6), records, "abc")) == (6, 4, 2)
    assert counted(plan(optuna(tiny, 3), records, "abc")) == (3, 3, 0)
    assert counted(plan(optuna(tiny, 6, seeds=[0, 1]), records, "abc")) == (12, 4, 8)
    assert counted(plan(optuna(tiny, 6, seeds=[1]), records, "abc")) == (6, 0, 6)
    assert plan(optuna(tiny, 6), records, "abc").trial_seconds == 2 * 3 * 30


@pytest.mark.parametrize("n", [3, 4, 6])
@pytest.mark.parametrize("seeds", [[0], [0, 1], [1]])
def test_the_counts_of_a_changed_search_add_up(n: int, seeds: list[int], tiny: Configs) -> None:
    config = optuna(tiny, n, seeds=seeds)
    records = ran(config, ran(optuna(tiny, 6), [], 4), 0)
    progress = Progress.of(records)
    for live in (True, False):
        counts = progress.counts(live)
        assert sum(counts.values()) == progress.size == n * len(seeds)
        assert all(number > 0 for number in counts.values())


@pytest.mark.parametrize(
    ("outcome", "name", "mode", "value"),
    [
        ("completed", "val_robust", "max", 0.3),
        ("diverged", "val_robust", "max", 0.0),
        ("diverged", "val_robust_loss", "min", math.inf),
        ("failed", "val_robust", "max", None),
        ("interrupted", "val_robust", "max", None),
        ("completed", "val_clean", "max", None),
    ],
)
def test_a_diverged_trial_has_the_worst_metric_and_one_without_numbers_none(
    outcome: str, name: str, mode: str, value: float | None, tiny: Configs
) -> None:
    config = tiny(metric=name, mode=mode)
    (trial,) = trials_of(config)[:1]
    progress = Progress.of(launch([trial]) + run(trial, 3, outcome))
    assert objective_values(progress.trials[trial.id], config) == (None if value is None else (value,))


def test_data_that_are_not_there_are_named(tiny: Configs, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.undo()
    config = tiny(trial={"data": {"name": "cifar10", "root": str(tmp_path / "none")}})
    with pytest.raises(UserError) as caught:
        plan(config, [], "abc")
    assert str(caught.value).startswith(f"trial.data.root: cifar10 is not in {tmp_path}/none; put ")
    assert str(caught.value).endswith("), or set trial.data.download: true")


@pytest.mark.parametrize("command", [["plan"], ["launch", "--serial"]])
def test_what_every_trial_would_fail_with_is_one_line_and_exit_2_and_leaves_no_records(
    command: list[str], sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    file = sweep_file(trial={"data": {"name": "digits", "train_per_class": 1000}, "model": {"name": "small_cnn"}})
    answer = CliRunner().invoke(main, [*command, str(file), "--out", str(tmp_path / "run")])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr == (
        "sweep: trial.data.train_per_class: 1000 asked for, but class '8' has only 141 train images; "
        "ask for at most 141\n"
    )
    assert not list(tmp_path.rglob("records.jsonl"))


def test_of_finished_trials_nothing_is_looked_at(tiny: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[PlannedTrial] = []
    monkeypatch.setattr(
        "sweep.plan.plan.check_trials", lambda config, trials, unseen, own: looked_at.extend(trials) or {}
    )
    one, *others = trials_of(tiny())
    plan(tiny(), launch([one]) + run(one, 3), "abc")
    assert looked_at == others


def test_where_points_are_still_to_be_asked_for_an_example_of_them_is_looked_at(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[PlannedTrial] = []
    monkeypatch.setattr(
        "sweep.plan.plan.check_trials", lambda config, trials, unseen, own: looked_at.extend(trials) or {}
    )
    records = ran(optuna(tiny, 2), [], 2)
    assert len(looked_at) == 1
    plan(optuna(tiny, 2), records, "abc")
    assert len(looked_at) == 1


# Without the data


CIFAR = {"data": {"name": "cifar10", "root": "/none"}, "model": {"name": "preact_resnet18"}, "epochs": 50}
FOLDER = {"data": {"name": "image_folder", "root": "/none"}, "model": {"name": "small_cnn"}, "epochs": 3}


def unseen(config: SweepConfig, records: Records, monkeypatch: pytest.MonkeyPatch, how: Any = "if there") -> Plan:
    monkeypatch.undo()
    return plan(config, records, "abc", how)


def test_published_data_that_are_not_there_are_planned_with_the_ids_that_they_will_have(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = unseen(tiny(trial=CIFAR), [], monkeypatch)
    config = tiny(trial=CIFAR)
    published = planned(config, fixed_points(config), {data_key(config.trial): "cifar10-c58f30108f718f92"})
    assert [trial.id for trial in found.search.known()] == [trial.id for trial in published]
    lines = found.lines()
    assert lines[1].startswith("  without data: trial.data.root: cifar10 is not in /none; put ")
    assert lines[2] == "    not checked: that cifar10 is whole; the ids are those that its trials will have"
    (shape,) = set(found.shapes.values())
    assert (shape.train_images, shape.test_images, shape.pixels) == (49_000, 10_000, 3072)


def test_what_a_network_cannot_take_is_refused_without_data_too(tiny: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"data": {"name": "tiny_imagenet", "root": "/none", "image_size": 8}, "batch_size": 97_999}
    with pytest.raises(UserError, match=r"^trial\.batch_size: the last of an epoch's batches has 1 image"):
        unseen(tiny(trial=CIFAR | small), [], monkeypatch)
    with pytest.raises(UserError, match=r"^trial\.attack\.radius: must be <= 55\.43 in l2"):
        unseen(tiny(trial=CIFAR | {"attack": {"norm": "l2", "radius": 56}}), [], monkeypatch)


def test_a_folder_that_is_not_there_is_planned_with_provisional_ids_and_without_a_cost(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = unseen(tiny(trial=FOLDER), [], monkeypatch)
    assert (found.size, found.left, dict(found.shapes)) == (4, 4, {})
    assert found.lines()[1:4] == [
        "  without data: trial.data.root: /none is not a folder; it must hold train/ and test/ (or val/), each with "
        "one folder a class",
        "    not checked: image_folder's content, which is in the ids: they are provisional, none counts as finished",
        "    not checked: number and size of the images, and with them network, batches and cost",
    ]


def test_the_runs_own_records_know_the_content_of_a_folder_that_is_not_there(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(trial=FOLDER)
    trials = planned(config, fixed_points(config), {data_key(config.trial): "image_folder-12"})
    found = unseen(config, launch(trials) + run(trials[0], 3), monkeypatch)
    assert (found.finished, found.left) == (1, 3)
    assert (
        found.lines()[2] == "    not checked: that image_folder is whole; the ids are those that its trials will have"
    )


def test_data_that_are_there_are_looked_at_unless_told_otherwise(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"")
    config = tiny(trial=CIFAR | {"data": {"name": "cifar10", "root": str(tmp_path)}})
    with pytest.raises(UserError, match="is damaged: its MD5 is not the published one"):
        unseen(config, [], monkeypatch)
    found = unseen(config, [], monkeypatch, "unseen")
    assert found.lines()[1] == "  without data: --no-data"
    assert not unseen(tiny(), [], monkeypatch, "unseen").unseen  # digits are inside the package


def test_the_command_plans_without_data_and_the_launch_refuses(
    sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    file, out = sweep_file(trial=CIFAR, resources={"gpu": 1}), ["--out", str(tmp_path / "run")]
    text = CliRunner().invoke(main, ["plan", str(file), *out, "--rate", "10", "--no-data"]).stdout
    # 4 trials of 50 epochs; of an epoch 49,000 images at 27.77 GFLOP, an evaluation of 11,000 at 22 passes of 1.11
    hours = 4 * 50 * (49_000 * 27.77e9 + (49_000 + 22 * 11_000) * 1.111e9) / 10e12 / 3600
    cost = next(line for line in text.splitlines() if line.startswith("  cost: "))
    assert float(cost.split()[1]) == pytest.approx(hours, rel=0.005)
    assert cost.endswith("FLOP, counted, at 10 TFLOP/s (--rate)")
    assert "\n  wall-clock: unknown, as no trial can run on this machine: " in text
    assert (
        "\n  warnings:\n    a launch here is refused: resources.gpu: a trial asks for 1 GPU, and this machine has 0; "
        "set resources.gpu=0 to train on the CPU\n"
    ) in text
    assert "\n  memory: 2.61 GB" in text
    assert "\n  disk: 179 MB of kept weights, " in text  # 4 of 11.2 million numbers
    answer = CliRunner().invoke(main, ["launch", str(file), *out, "--serial"])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr.startswith("sweep: trial.data.root: cifar10 is not in /none; put ")


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1", "1e300", "x"])
def test_a_rate_that_is_none_is_refused(rate: str, sweep_file: Callable[..., Path]) -> None:
    answer = CliRunner().invoke(main, ["plan", str(sweep_file()), "--rate", rate])
    assert answer.exit_code == 2
    assert answer.stderr.startswith("sweep: Invalid value for '--rate': ")


def test_a_launch_says_where_the_cost_is_estimated_and_one_after_another_is_not_at_once(tiny: Configs) -> None:
    launched = plan(tiny(), [], "abc").lines(launched=True)[-1]
    assert launched.endswith(
        "of each kind of trial has been measured; `sweep plan` estimates it; each trial takes 1 CPU"
    )
    measured = plan(tiny(), launch(trials_of(tiny())) + run(trials_of(tiny())[0], 3), "abc")
    assert (
        measured.lines(serial=True)[-1] == "  cost: 270.00 trial seconds at 1 CPU each, from the epochs measured here"
    )


def test_trials_of_seeds_that_the_config_has_no_more_are_told_of(tiny: Configs) -> None:
    trials = trials_of(tiny(seeds=[0, 1, 2]))
    records = [*launch(trials), *(line for trial in trials for line in run(trial, 3))]
    text = "\n".join(plan(tiny(seeds=[0]), records, "abc").lines())
    assert (
        "the directory has 8 more trials, not of this config (seeds 1, 2); they stay, and results and claims count them"
    ) in text
    assert "the directory has" not in "\n".join(plan(tiny(seeds=[0, 1, 2, 3]), records, "abc").lines())


def test_other_values_of_an_axis_in_the_directory_are_told_of(tiny: Configs) -> None:
    trials = trials_of(tiny())
    fewer = tiny(space={"optimizer.name": ["sgd"], "optimizer.lr": [0.1, 0.3]})
    text = "\n".join(plan(fewer, [*launch(trials), *(line for one in trials for line in run(one, 3))], "abc").lines())
    assert "the directory has 2 more trials, not of this config; they stay" in text


@pytest.mark.parametrize("name", ["optuna", "random", "quasi_random"])
def test_a_drawn_search_tells_of_the_trials_of_another_config_too(name: str, tiny: Configs) -> None:
    drawn = {"space": {"optimizer.lr": {"loguniform": [0.01, 1]}}, "search": {"name": name, "n_trials": 3}}
    trials = trials_of(tiny())  # of two learning rates and optimizers, SGD's in the space
    records = [*launch(trials), *(line for one in trials for line in run(one, 3))]
    told = "the directory has {} more trials, not of this config; they stay"
    assert told.format(2 if name == "optuna" else 4) in "\n".join(plan(tiny(**drawn), records, "abc").lines())


def test_a_searchs_own_trials_are_not_told_of_as_others(tiny: Configs) -> None:
    assert not plan(optuna(tiny, 6), ran(optuna(tiny, 6), [], 4), "abc").others
    assert len(plan(optuna(tiny, 3), ran(optuna(tiny, 6), [], 4), "abc").others) == 1


def test_a_plan_shows_itself_in_one_line(tiny: Configs) -> None:
    trials = trials_of(tiny())
    found = plan(tiny(), [*launch(trials), *run(trials[0], 3)], "abc")
    assert repr(found) == "<Plan tiny: 4 trials, 1 finished, 3 to run>"
