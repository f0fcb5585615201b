import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from analysis.estimates.correlations import correlations
from analysis.frames.budgets import one_budget, same_budget
from analysis.frames.cells import cell_means, conditions
from analysis.frames.history import TrialHistory, handed_on
from analysis.frames.identity import BASE_AXES, identity_columns
from analysis.frames.names import UNITS
from analysis.frames.trials import axes, epochs_of, load_epochs, load_trials, trials_of
from sweep.progress import Progress
from trainers.errors import UserError
from trainers.record import FINISHED, METRICS, EpochRecord, read

FIRST = ["trial_id", "outcome", "reason", "method", "seed"]
BASE = ["model.name", "optimizer.name", "optimizer.lr", "batch_size"]
LAST = ["seconds", "memory_bytes", "host", "device", "code_version", "workers", "arithmetic", "attempts", "from_trial"]
PRUNED = ["pruned_rung", "pruned_rank", "pruned_share", "pruned_by"]


def test_columns_stand_in_the_documented_order(run):
    run.whole("a", [0.1], optimizer__name="sgd", attack__steps=7)
    run.whole("b", [0.1], optimizer__name="deat", optimizer__k1=1.0)
    metrics = [f"{which}_{metric}" for which in ("last", "best") for metric in METRICS]
    swept = ["attack.steps", "optimizer.k1"]
    expected = [*FIRST, *BASE, *swept, "lr_batch_ratio", "epochs", "best_epoch", *metrics, *LAST, *PRUNED]
    assert list(load_trials(run.directory).columns) == expected


def test_epoch_columns_are_identity_outcome_and_every_number_and_text_of_the_record(run):
    run.whole("a", [0.1])
    record = [field.name for field in fields(EpochRecord) if field.name not in ("trial_id", "right")]
    expected = ["trial_id", "method", "seed", *BASE, "lr_batch_ratio", "outcome", *record]
    assert list(load_epochs(run.directory).columns) == expected


def test_empty_run_keeps_its_columns(run):
    run.launch()
    trials, epochs = load_trials(run.directory), load_epochs(run.directory)
    assert trials.empty
    assert epochs.empty
    assert {"lr_batch_ratio", "best_test_robust", "attempts"} <= set(trials.columns)
    assert {"optimizer.lr", "epoch", "test_robust"} <= set(epochs.columns)


def test_axes_are_the_base_and_every_swept_key_however_the_frame_is_extended(run):
    run.whole("a", [0.1], optimizer__k1=1.0, optimizer__name="deat")
    trials = load_trials(run.directory).assign(gap=0.0)
    assert axes(trials) == [*BASE, "optimizer.k1"]
    assert axes(load_epochs(run.directory)) == [*BASE, "optimizer.k1"]


def test_axis_is_nan_where_it_does_not_apply(run):
    run.whole("a", [0.1], optimizer__name="sgd")
    run.whole("b", [0.1], optimizer__name="deat", optimizer__k1=2.0)
    assert load_trials(run.directory)["optimizer.k1"].tolist() == pytest.approx([np.nan, 2.0], nan_ok=True)


def test_activation_is_nan_of_a_network_that_has_no_choice_of_it(run):
    run.whole("a", [0.1], model__name="small_cnn", model__activation="silu")
    for number, name in enumerate(("small_cnn", "vit_small", "timm:vit_tiny_patch16_224", "./nets.py:Net")):
        run.whole(f"b{number}", [0.1], model__name=name)
    assert load_trials(run.directory)["model.activation"].fillna("none").tolist() == ["silu", "relu", *["none"] * 3]


def test_keys_in_which_base_configs_differ_are_axes_after_those_of_the_points(run):
    run.whole("a", [0.1], config={"data.fingerprint": "x", "attack.radius": 0.1}, attack__steps=7)
    run.whole("b", [0.1], config={"data.fingerprint": "y", "attack.radius": 0.2}, attack__steps=7)
    trials = load_trials(run.directory)
    assert axes(trials) == [*BASE, "attack.steps", "data.fingerprint", "attack.radius"]
    assert trials["attack.radius"].tolist() == [0.1, 0.2]
    assert len(cell_means(trials, [])) == 2


def test_key_that_differs_between_optimizers_or_seeds_alone_is_no_axis(run):
    for seed in (0, 1):
        for name, decoupled in (("sgd", False), ("deat", True)):
            config = {"seed": seed, "optimizer.decoupled_weight_decay": decoupled}
            run.whole(f"{name}{seed}", [0.1], seed=seed, optimizer__name=name, config=config)
    assert axes(load_trials(run.directory)) == BASE


def test_axis_of_one_optimizers_points_is_nan_for_another_that_has_the_key(run):
    key = "optimizer.decoupled_weight_decay"
    run.whole("a", [0.1], optimizer__name="sgd", config={key: False})
    run.whole("b", [0.1], optimizer__name="deat", optimizer__decoupled_weight_decay=True)
    run.whole("c", [0.1], optimizer__name="deat", optimizer__decoupled_weight_decay=False)
    column = load_trials(run.directory)[key].tolist()
    assert np.isnan(column[0])
    assert column[1:] == [True, False]


def test_value_of_an_axis_that_only_a_later_launch_swept_is_kept(run):
    run.whole("a", [0.1], config={"optimizer.weight_decay": 0.5})
    run.whole("b", [0.1], optimizer__weight_decay=0.1)
    assert load_trials(run.directory)["optimizer.weight_decay"].tolist() == [0.5, 0.1]


def test_condition_in_which_one_optimizers_trials_differ_stands_for_every_trial(run):
    run.whole("a", [0.1], optimizer__name="sgd", config={"epochs": 12})
    run.whole("b", [0.1], optimizer__name="sgd", config={"epochs": 24})
    run.whole("c", [0.1], optimizer__name="deat", config={"epochs": 12})
    assert load_trials(run.directory)["planned_epochs"].tolist() == [12, 24, 12]


def test_method_is_the_choice_in_the_slots_and_old_records_trained_by_pgd_at(run):
    run.whole("a", [0.1], optimizer__name="deat")
    run.whole("b", [0.1], config={"objective.name": "trades", "objective.s2o.enabled": True}, weights__name="awp")
    run.whole("c", [0.1], config={"attack.steps": 0})
    trials = load_trials(run.directory)
    assert trials["method"].tolist() == ["DEAT", "TRADES-AWP+S2O", "natural"]
    assert trials["objective.name"].tolist() == ["pgd_at", "trades", "natural"]
    assert trials["objective.s2o.enabled"].tolist() == [False, True, False]
    assert trials["weights.name"].tolist() == ["none", "awp", "none"]
    assert load_epochs(run.directory)["method"].tolist() == trials["method"].tolist()


def test_a_trial_that_went_on_from_a_shorter_one_names_it_until_it_begins_afresh(run):
    for name in ("own", "long", "afresh", "anew"):
        run.trial(name)
        run.start(name)
    run.resume("own", 1, "own.pt is damaged")
    run.resume("long", 3, from_trial="short")
    run.resume("long", 4, "long.pt is damaged")
    run.resume("afresh", 3, from_trial="short")
    run.resume("afresh", 0, "afresh.pt and short.pt is damaged")
    run.resume("anew", 3, from_trial="short")
    run.outcome("anew", epochs=4)
    run.outcome("anew", "interrupted", 0)  # by `sweep rerun`
    assert load_trials(run.directory)["from_trial"].tolist() == ["", "short", "", ""]
    assert handed_on(read(run.directory)) == {"long": 3, "afresh": 0}


def test_slot_that_does_not_vary_is_no_axis(run):
    for lr in (0.1, 0.2):
        run.whole(f"t{lr}", [0.1], config={"objective.name": "trades", "weights.name": "none"}, optimizer__lr=lr)
    assert axes(load_trials(run.directory)) == BASE


def test_hyperparameter_of_a_slot_is_nan_for_methods_that_do_not_read_it(run):
    run.whole("a", [0.1], config={"objective.name": "pgd_at"})
    for beta in (3.0, 6.0):
        run.whole(f"t{beta}", [0.1], config={"objective.name": "trades", "objective.beta": beta})
    run.whole("m", [0.1], config={"objective.name": "mart", "objective.beta": 5.0})
    trials = load_trials(run.directory)
    assert trials["objective.beta"].tolist() == pytest.approx([np.nan, 3.0, 6.0, np.nan], nan_ok=True)
    assert len(cell_means(trials, [])) == 4


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("attack.start", ("uniform", "normal")),
        ("batch_norm_data", ("both", "adversarial")),
        ("clean_passes", (2, 1)),
    ],
)
def test_default_that_differs_between_methods_alone_is_no_axis(key, values, run):
    for name, value in zip(("pgd_at", "trades"), values, strict=True):
        run.whole(name, [0.1], config={key: value}, objective__name=name)
    assert axes(load_trials(run.directory)) == [*BASE, "objective.name"]


def test_a_presets_name_is_no_axis_for_its_values_are(run):
    run.whole("a", [0.1], config={"epochs": 76}, objective__name="trades", preset="trades")
    run.whole("b", [0.1], config={"epochs": 76}, objective__name="trades")
    run.whole("c", [0.1], config={"epochs": 120}, objective__name="mart", preset="mart")
    trials = load_trials(run.directory)
    assert axes(trials) == [*BASE, "objective.name", "planned_epochs"]
    assert len(cell_means(trials, [])) == 2


def test_methods_measured_by_different_attacks_are_told_apart(run):
    for name, steps in (("pgd_at", 10), ("trades", 20)):
        run.whole(name, [0.1], config={"evaluation.steps": steps}, objective__name=name)
    trials = load_trials(run.directory)
    assert trials["evaluation.steps"].tolist() == [10, 20]
    assert conditions(trials) == ["evaluation.steps"]


@pytest.mark.parametrize(("key", "values"), [("data.padding", ("reflect", "zero")), ("data.augment", (True, False))])
def test_how_training_images_are_augmented_is_an_axis_across_which_methods_are_compared(key, values, run):
    for name, value in zip(("pgd_at", "trades"), values, strict=True):
        run.whole(name, [0.1], config={key: value}, objective__name=name)
    trials = load_trials(run.directory)
    assert trials[key].tolist() == list(values)
    assert conditions(trials) == []
    assert one_budget(trials)[1] == {}


def test_training_that_differs_between_methods_alone_is_an_axis(run):
    for name, epochs in (("pgd_at", 7), ("trades", 30)):
        run.whole(name, [0.1], config={"epochs": epochs}, objective__name=name)
    trials = load_trials(run.directory)
    assert trials["planned_epochs"].tolist() == [7, 30]
    assert conditions(trials) == []


def test_axis_outside_the_slots_that_only_one_methods_points_have_is_told_of_the_others(run):
    run.whole("a", [0.1], config={"epochs": 7}, objective__name="pgd_at")
    run.whole("b", [0.1], objective__name="trades", epochs=30)
    assert load_trials(run.directory)["planned_epochs"].tolist() == [7, 30]


@pytest.mark.parametrize(
    ("key", "one", "other"), [("weight_decay", 5e-4, 2e-4), ("momentum", 0.9, 0.8), ("nesterov", False, True)]
)
def test_setting_of_an_optimizer_is_an_axis_where_it_differs_between_its_methods(run, key, one, other):
    key = f"optimizer.{key}"
    run.whole("a", [0.1], config={key: one}, objective__name="pgd_at", optimizer__name="sgd")
    run.whole("b", [0.1], config={key: other}, objective__name="trades", optimizer__name="sgd")
    run.whole("c", [0.1], config={key: one}, objective__name="trades", optimizer__name="deat")
    column = load_trials(run.directory)[key].tolist()
    assert column[:2] == [one, other]
    assert np.isnan(column[2])


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [("splits", ["train", "val", "test"], ["test", "train", "val"]), ("batch_size", 500, 100), ("every", 1, 5)],
)
def test_order_and_pace_of_evaluation_split_nothing(run, key, one, other):
    run.whole("a", [0.1], seed=0, config={f"evaluation.{key}": one})
    run.whole("b", [0.1], seed=1, config={f"evaluation.{key}": other})
    trials = load_trials(run.directory)
    assert axes(trials) == BASE
    assert conditions(trials) == []
    assert len(cell_means(trials, [])) == 1


def test_list_valued_axis_becomes_its_json_text(run):
    run.whole("a", [0.1], schedule__milestones=[100, 105])
    assert load_trials(run.directory)["schedule.milestones"].tolist() == ["[100, 105]"]


def test_axis_named_epochs_does_not_hide_the_epochs_done(run):
    run.whole("a", [0.1, 0.2], epochs=2)
    row = load_trials(run.directory).iloc[0]
    assert (row["planned_epochs"], row["epochs"]) == (2, 2)


def test_ratio_is_lr_over_batch_size(ratio_trials):
    expected = ratio_trials["optimizer.lr"] / ratio_trials["batch_size"]
    assert ratio_trials["lr_batch_ratio"].tolist() == expected.tolist()


def test_last_line_of_an_epoch_counts(run):
    run.trial("a")
    run.start("a")
    run.epoch("a", 1, 0.1)
    run.epoch("a", 1, 0.2)
    run.outcome("a", epochs=1)
    assert load_epochs(run.directory)["test_robust"].tolist() == [0.2]


@pytest.mark.parametrize(
    ("outcome", "kept"), [("completed", [1]), ("diverged", [1]), ("preempted", [1, 2]), ("interrupted", [1, 2])]
)
def test_epochs_beyond_a_finished_outcome_are_dropped(run, outcome, kept):
    run.trial("a")
    run.start("a")
    run.epoch("a", 1, 0.1)
    run.epoch("a", 2, 0.2)
    run.outcome("a", outcome, epochs=1)
    assert load_epochs(run.directory)["epoch"].tolist() == kept
    assert load_trials(run.directory)["epochs"].tolist() == kept[-1:]


def test_start_after_the_last_outcome_makes_a_trial_unfinished(run):
    run.trial("a")
    run.start("a", host="first")
    run.epoch("a", 1, 0.1)
    run.outcome("a", "interrupted", epochs=1)
    run.start("a", host="second")
    row = load_trials(run.directory).iloc[0]
    assert (row["outcome"], row["host"], row["attempts"], row["epochs"]) == ("unfinished", "second", 2, 1)


def test_trial_that_never_started_is_listed_only_while_wanted(run):
    run.launch(wanted=["a", "b"])
    run.trial("a")
    run.trial("b")
    assert load_trials(run.directory)["outcome"].tolist() == ["never_started", "never_started"]
    run.launch(wanted=["b"])
    assert load_trials(run.directory)["trial_id"].tolist() == ["b"]
    run.trial("a")  # a search that finds its trials on the way asks for it after the launch
    assert load_trials(run.directory)["trial_id"].tolist() == ["a", "b"]


def test_trial_that_ran_stays_though_no_longer_wanted(run):
    run.whole("a", [0.1])
    run.launch(wanted=[])
    assert load_trials(run.directory)["trial_id"].tolist() == ["a"]


def test_best_epoch_is_the_earliest_of_the_highest_val_robust(run):
    run.trial("a")
    run.start("a")
    for epoch, (val, test) in enumerate([(0.3, 0.1), (0.5, 0.2), (0.5, 0.9), (0.4, 0.4)], start=1):
        run.epoch("a", epoch, val_robust=val, test_robust=test)
    run.outcome("a", epochs=4)
    row = load_trials(run.directory).iloc[0]
    assert (row["best_epoch"], row["best_test_robust"], row["last_test_robust"]) == (2, 0.2, 0.4)


def test_best_is_nan_where_validation_was_not_measured(run):
    run.trial("a")
    run.start("a")
    run.epoch("a", 1, val_robust=None, test_robust=0.4)
    run.outcome("a", epochs=1)
    row = load_trials(run.directory).iloc[0]
    assert np.isnan(row["best_epoch"])
    assert np.isnan(row["best_test_robust"])
    assert row["last_test_robust"] == 0.4


def test_last_is_the_last_evaluated_epoch(run):
    run.trial("a")
    run.start("a")
    run.epoch("a", 1, 0.4, train_robust=0.1)
    run.epoch("a", 2, None, train_robust=0.2)
    row = load_trials(run.directory).iloc[0]
    assert (row["last_test_robust"], row["last_train_robust"], row["epochs"]) == (0.4, 0.1, 2)


def test_seconds_are_training_evaluation_and_checkpoints_of_the_epochs_that_count(run):
    run.trial("a")
    run.start("a")
    for epoch in (1, 1, 2):
        run.epoch("a", epoch, 0.1, seconds=3.0, evaluation_seconds=0.5, checkpoint_seconds=0.25)
    run.outcome("a", epochs=2)
    assert load_trials(run.directory)["seconds"].tolist() == [7.5]


def test_the_seconds_of_checkpoints_have_a_column_in_which_records_that_lack_them_are_nan(run):
    run.trial("a")
    run.start("a")
    run.epoch("a", 1, 0.1)
    run.epoch("a", 2, 0.1, checkpoint_seconds=0.25)
    records = read(run.directory)
    older = next(record for record in records if record["record"] == "epoch")
    del older["checkpoint_seconds"]
    assert epochs_of(records)["checkpoint_seconds"].fillna(-1.0).tolist() == [-1.0, 0.25]
    assert trials_of(records)["seconds"].tolist() == [2 * 2.0 + 0.25]
    assert UNITS["checkpoint_seconds"] == "s"


def test_rows_follow_the_trials_number_not_the_order_of_lines(run):
    run.whole("late", [0.1], number=1)
    run.whole("early", [0.1, 0.2], number=0)
    assert load_trials(run.directory)["trial_id"].tolist() == ["early", "late"]
    assert load_epochs(run.directory)["trial_id"].tolist() == ["early", "early", "late"]


def test_trial_planned_again_with_more_axes_gains_them(run):
    run.whole("a", [0.1])
    run.trial("a", attack__steps=7)
    assert "attack.steps" in axes(load_trials(run.directory))
    assert len(load_trials(run.directory)) == 1


def test_every_metric_has_a_unit():
    assert {UNITS[f"last_{metric}"] for metric in METRICS} == {"fraction", "nat"}


def test_folder_without_records_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="not a run directory"):
        load_trials(tmp_path)


def test_frames_and_the_view_of_a_trial_import_neither_scipy_nor_matplotlib_nor_torch():
    code = (
        "import sys, analysis.frames.trials, analysis.tables.trials;"
        "print([m for m in ('torch', 'ray', 'optuna', 'matplotlib', 'scipy.stats') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_trial_that_ran_again_to_measure_its_dynamics_is_listed_once(run):
    run.whole("plain", [0.3, 0.4])
    run.whole("measured", [0.3, 0.4], config={"dynamics.every": 1})
    run.whole("measured_more", [0.3, 0.4], config={"dynamics.every": 2})
    run.whole("other", [0.3, 0.4], optimizer__lr=0.2)
    run.whole("plain_only", [0.3, 0.4], optimizer__lr=0.4)
    run.trial("unfinished", config={"dynamics.every": 1}, optimizer__lr=0.4)
    run.start("unfinished")
    run.close()
    trials, epochs = load_trials(run.directory), load_epochs(run.directory)
    assert trials["trial_id"].tolist() == ["measured_more", "other", "plain_only", "unfinished"]
    assert set(epochs["trial_id"]) == {"measured_more", "other", "plain_only"}
    assert not [axis for axis in axes(trials) if axis.startswith("dynamics")]


def test_seconds_hold_what_measuring_the_dynamics_took(run):
    run.whole("a", [0.3, 0.4])
    run.close()
    plain = load_trials(run.directory)["seconds"].item()
    measured = {"trial_id": "a", "lr": 0.1, "seconds": 5.0, "curvatures": [], "variances": []}
    records = [*read(run.directory), *({"record": "dynamics", "epoch": epoch, **measured} for epoch in (0, 2, 2))]
    assert trials_of(records)["seconds"].item() == plain + 10


def twins(run):
    """Cell and seed `a` trained by two codes, the older of which had no key `precision`; `b` by the older alone."""
    run.whole("old_a", [0.1, 0.2], optimizer__lr=0.1)
    run.whole("old_b", [0.3, 0.4], optimizer__lr=0.2)
    run.whole("new_a", [0.5, 0.6], optimizer__lr=0.1, config={"precision": "fp32"})


def test_of_two_trials_of_one_cell_and_seed_the_newer_counts_and_both_are_listed(run):
    twins(run)
    trials = load_trials(run.directory)
    assert axes(trials) == BASE
    assert dict(zip(trials["trial_id"], trials["outcome"], strict=True)) == {
        "old_a": "superseded",
        "old_b": "completed",
        "new_a": "completed",
    }
    assert trials["reason"].tolist()[0] == "trial new_a has the same settings and seed, and counts in its place"
    assert load_epochs(run.directory)["outcome"].tolist() == ["superseded"] * 2 + ["completed"] * 4
    assert cell_means(trials, ["last_test_robust"])[["n", "trials", "last_test_robust"]].to_numpy().tolist() == [
        [1, 1, 0.6],
        [1, 1, 0.4],
    ]


def test_of_two_trials_of_one_cell_and_seed_the_one_that_the_last_launch_wants_counts(run):
    twins(run)
    run.launch(wanted=["old_a", "old_b"])
    trials = load_trials(run.directory).set_index("trial_id")
    assert trials.loc[["old_a", "new_a"], "outcome"].tolist() == ["completed", "superseded"]


@pytest.mark.parametrize(
    ("outcome", "counts"), [("failed", "old"), ("preempted", "old"), ("interrupted", "old"), ("diverged", "new")]
)
def test_a_newer_trial_without_its_numbers_supersedes_nothing(run, outcome, counts):
    run.whole("old", [0.1, 0.2])
    run.trial("new", config={"precision": "fp32"})
    run.start("new")
    run.outcome("new", outcome, epochs=0)
    ends = {"old": ["completed", outcome], "new": ["superseded", outcome]}
    assert load_trials(run.directory)["outcome"].tolist() == ends[counts]


def test_of_three_trials_of_one_cell_and_seed_both_older_name_the_newest(run):
    for index, pace in enumerate((1, 2, 3)):
        run.whole(f"t{index}", [0.1, 0.2], config={"evaluation.every": pace})
    trials = load_trials(run.directory)
    assert trials["outcome"].tolist() == ["superseded", "superseded", "completed"]
    assert trials["reason"].str.contains("trial t2 ").tolist() == [True, True, False]


def test_superseded_trials_enter_no_estimate_and_are_counted_where_others_are_left_out(run):
    for number, lr in enumerate((0.1, 0.2, 0.4)):
        run.whole(f"old{number}", [0.1, 0.2 + number / 10], optimizer__lr=lr)
        run.whole(f"new{number}", [0.1, 0.3 + number / 10], optimizer__lr=lr, config={"precision": "fp32"})
    trials = load_trials(run.directory)
    kept, left_out = one_budget(trials)
    assert (kept["trial_id"].tolist(), left_out) == (["new0", "new1", "new2"], {"superseded": 3})
    assert same_budget(trials)["trial_id"].tolist() == ["new0", "new1", "new2"]
    fits = correlations(trials, predictors=["optimizer.lr"], methods=["pearson"])
    assert fits[["n", "n_left_out"]].to_numpy().tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"data.train_per_class": None}, {"data.train_per_class": 80}),
        ({"schedule.name": "cosine"}, {"schedule.name": "cosine", "schedule.warmup_epochs": 2}),
        ({}, {"precision": "bf16"}),
        ({}, {"attack.radius_warmup": 2}),
        ({}, {"attack.step_size_warmup": 2}),
        ({}, {"objective.label_smoothing": 0.1}),
    ],
)
def test_none_and_a_key_that_is_left_out_at_its_default_are_told_from_another_value(run, one, other):
    run.whole("one", [0.1], config=one)
    run.whole("other", [0.2], config=other)
    trials = load_trials(run.directory)
    assert axes(trials) == [*BASE, list(other)[-1]]
    assert trials["outcome"].tolist() == ["completed"] * 2
    assert len(cell_means(trials, [])) == 2


def test_methods_are_told_apart_by_their_attack_and_a_run_of_pgd_alone_has_no_column_of_it(run):
    pgd = {"attack.steps": 10, "attack.start": "uniform", "attack.step_size": 0.1, "attack.radius": 0.3}
    one = {**pgd, "attack.steps": 1}
    run.whole("pgd", [0.1], config=pgd)
    assert "attack.kind" not in load_trials(run.directory)
    run.whole("short", [0.1], config=one)
    run.whole("rs", [0.1], config={**one, "attack.step_size": 0.375})
    run.whole("noisy", [0.1], config={**one, "attack.project": False, "attack.start_scale": 2.0})
    run.whole("fat", [0.1], config={**pgd, "attack.tau": 0})
    run.whole("free", [0.1], config={"attack.replays": 8, "attack.step_size": 0.3, "attack.radius": 0.3})
    run.whole("trades", [0.1], config={**pgd, "attack.tau": 0, "objective.name": "trades"})
    run.whole("natural", [0.1], config={"objective.name": "natural"})
    trials = load_trials(run.directory)
    names = ["PGD-AT", "PGD-AT", "FGSM-RS", "N-FGSM", "FAT", "Free-AT", "TRADES (FAT)", "natural"]
    assert trials["method"].tolist() == names
    assert trials["attack.kind"].tolist() == ["pgd", "pgd", "fgsm_rs", "n_fgsm", "fat", "free", "fat", "pgd"]
    assert "attack.kind" in axes(trials)


def test_a_key_that_older_code_lacks_is_its_methods_default(run):
    for name, start in (("pgd_at", 0.01), ("trades", 0.005)):
        run.whole(f"old_{name}", [0.1], weights__name="awp", objective__name=name)
        run.whole(f"new_{name}", [0.2], weights__name="awp", objective__name=name, config={"weights.gamma": start})
    run.whole("other", [0.2], weights__name="awp", objective__name="trades", config={"weights.gamma": 0.02})
    trials = load_trials(run.directory)
    assert trials["outcome"].tolist() == ["superseded", "completed", "superseded", "completed", "completed"]
    assert trials["weights.gamma"].tolist()[2:] == [0.005, 0.005, 0.02]


@pytest.mark.parametrize(
    ("method", "key", "other", "outcome"),
    [
        ("pgd_at", "batch_norm_data", "both", "completed"),  # as published, which older code did not do
        ("pgd_at", "batch_norm_data", "adversarial", "superseded"),
        ("trades", "clean_passes", 2, "completed"),
        ("trades", "clean_passes", 1, "superseded"),
        ("mart", "clean_passes", 1, "superseded"),
        ("avmixup", "batch_norm_data", "adversarial", "superseded"),
    ],
)
def test_a_trial_of_code_before_batch_norms_keys_is_no_seed_of_what_it_did_not_do(run, method, key, other, outcome):
    run.whole("old", [0.1], objective__name=method)
    run.whole("new", [0.2], objective__name=method, config={key: other})
    assert load_trials(run.directory)["outcome"].tolist() == [outcome, "completed"]


def test_a_choice_that_this_code_does_not_have_is_read_all_the_same(run):
    run.whole("a", [0.1], objective__name="of_the_future")
    run.whole("b", [0.1], objective__name="of_the_future", config={"precision": "fp32"})
    assert load_trials(run.directory)["outcome"].tolist() == ["superseded", "completed"]


def test_a_key_that_a_choice_does_not_read_splits_nothing(run):
    run.whole("sgd", [0.1], config={"optimizer.weight_decay": 5e-4, "optimizer.decoupled_weight_decay": True})
    run.whole("natural", [0.1], config={"objective.name": "natural", "attack.norm": "linf"})
    run.whole("steps", [0.1], config={"attack.norm": "linf", "attack.steps": 5})
    assert axes(load_trials(run.directory)) == [*BASE, "objective.name"]


@pytest.mark.parametrize(("lost", "text"), [({2}, "epoch 2 is"), ({1}, "epoch 1 is"), ({1, 2}, "epoch 1, 2 is")])
def test_a_trial_that_ended_without_the_record_of_each_epoch_is_unfinished(run, lost, text):
    run.trial("a")
    run.start("a")
    for epoch in {1, 2} - lost:
        run.epoch("a", epoch, 0.1)
    run.outcome("a", epochs=2)
    row = load_trials(run.directory).iloc[0]
    assert (row["outcome"], row["attempts"]) == ("unfinished", 1)
    assert row["reason"] == f"the record of {text} missing; the next launch runs the trial again"
    assert one_budget(load_trials(run.directory))[1] == {"unfinished": 1}


@pytest.mark.parametrize("lost", [None, 1, 2])
@pytest.mark.parametrize("outcome", ["completed", "diverged", "failed", "preempted", "interrupted"])
def test_frame_and_progress_agree_on_what_is_finished(run, lost, outcome):
    run.trial("a")
    run.start("a")
    for epoch in {1, 2} - {lost}:
        run.epoch("a", epoch, 0.1)
    run.outcome("a", outcome, epochs=2)
    records = read(run.directory)
    frame, state = trials_of(records)["outcome"].item(), Progress.of(records).trials["a"].state(live=False)
    assert {frame, state} in ({outcome}, {"unfinished", "interrupted"})
    assert (frame in FINISHED) == Progress.of(records).trials["a"].finished


def test_axes_stand_in_the_order_in_which_the_configs_first_hold_them():
    configs = (
        {"schedule": {"name": "a"}, "epochs": 1, "data": {}},
        {"schedule": {"late": 1, "name": "b"}, "epochs": 2, "data": {"size": 3}},
        {"schedule": {"late": 2, "name": "b"}, "epochs": 2, "data": {"size": [4]}},
    )
    trials = [TrialHistory(str(number), number, config, 0, {}) for number, config in enumerate(configs)]
    columns = identity_columns(trials)
    written = ["schedule.name", "planned_epochs", "schedule.late", "data.size"]
    assert list(columns) == ["trial_id", "method", "seed", *BASE_AXES, *written, "lr_batch_ratio"]
    assert columns["data.size"][1:] == [3, "[4]"]
