import io

import pytest
from rich.console import Console

from analysis.claims.ledger import ledger
from analysis.claims.study import Study, load_study
from analysis.estimates.correlations import correlations
from analysis.frames.names import label
from analysis.frames.trials import load_trials
from analysis.tables.claims import answer
from analysis.tables.trials import best_lines, correlation_table, summary, trials_table


def text(renderable):
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def test_trials_table_shows_the_axes_that_vary_in_percent(ratio_trials):
    shown = text(trials_table(ratio_trials))
    assert "optimizer.lr" in shown
    assert "model.name" not in shown
    assert f"{100 * ratio_trials['last_test_robust'].iloc[0]:.2f}" in shown


def test_hyperparameters_are_shown_in_the_digits_that_tell_them_apart(run):
    values = [0.999999, 1.0, 0.123456789, 0.12345678901234566, 8 / 255]
    for number, value in enumerate(values):
        run.whole(f"t{number}", [0.5], optimizer__name="deat", optimizer__k2=value)
    table = trials_table(load_trials(run.directory))
    (column,) = [column for column in table.columns if column.header == "optimizer.k2"]
    assert list(column.cells) == ["0.999999", "1", "0.123456789", "0.12345678901", "8/255"]


def test_drawn_hyperparameters_are_shown_in_4_digits(run):
    for number, value in enumerate([0.026358449231681756, 0.16342405317830153]):
        run.whole(f"t{number}", [0.5], optimizer__lr=value)
    frame = load_trials(run.directory)
    (column,) = [column for column in trials_table(frame).columns if column.header == "optimizer.lr"]
    assert list(column.cells) == ["0.02636", "0.1634"]
    assert "optimizer.lr 0.02636" in best_lines(frame.iloc[:1])[0]


def test_trials_table_of_an_empty_run_renders(run):
    run.launch()
    assert "trial_id" in text(trials_table(load_trials(run.directory)))


def test_correlation_table_has_a_line_a_group_and_predictor(ratio_trials):
    table = correlation_table(correlations(ratio_trials, resamples=50))
    assert table.row_count == 9
    assert "PGD-AT" in text(table)


def test_summary_counts_outcomes_and_names_the_best_cells_and_each_claim_that_was_measured(ratio_trials):
    shown = text(summary(Study(ratio_trials)))
    assert "54 trials: 51 completed, 3 diverged" in shown
    assert "best by last_val_robust (validation): small_cnn, DEAT, optimizer.lr 0.2, batch_size 64: val robust" in shown
    assert shown.count("best by") == 2
    told = " ".join(shown.split())
    for claim in ledger(Study(ratio_trials)):
        assert (answer(claim) in told) == (claim.verdict != "not measured")
    assert "lr_batch_ratio" in shown
    assert "a description of these trials, not a test over seeds" in shown


def test_summary_of_many_methods_compares_them_in_a_table(frame_of):
    rows = [
        {"objective.name": objective, "optimizer.name": name, "seed": seed, "last_val_robust": 0.5,
         "last_test_robust": 0.5 + seed / 100, "last_test_clean": 0.8}
        for objective in ("pgd_at", "trades") for name in ("sgd", "deat") for seed in (0, 1)
    ]  # fmt: skip
    shown = text(summary(Study(frame_of(rows))))
    assert "best by" not in shown
    assert [name for name in ("DEAT - SGD", "TRADES, DEAT", "baseline", "correlations.csv") if name not in shown] == []


def test_correlations_pool_methods_only_over_the_optimizer(frame_of):
    rows = [
        {"objective.name": o, "optimizer.name": name, "optimizer.lr": lr, "last_test_robust": lr**2}
        for o, name in (("pgd_at", "sgd"), ("pgd_at", "deat"), ("trades", "sgd"))
        for lr in (0.1, 0.2, 0.4)
    ]
    assert set(correlations(frame_of(rows))["method"]) == {"PGD-AT", "DEAT", "TRADES"}
    assert set(correlations(frame_of(rows[:6]))["method"]) == {"all", "PGD-AT", "DEAT"}


def test_summary_chooses_by_the_sweeps_metric_and_minimises_a_loss(run):
    for name, lr, loss in (("a", 0.1, 1.5), ("b", 0.2, 0.5)):
        run.trial(name, optimizer__lr=lr)
        run.start(name)
        run.epoch(name, 1, 0.4, val_robust_loss=loss)
        run.outcome(name, epochs=1)
    shown = text(summary(load_study(run.directory), metric="val_robust_loss", mode="min"))
    assert "best by last_val_robust_loss (validation): small_cnn, PGD-AT, optimizer.lr 0.2" in shown
    assert "val robust loss 0.5 nat, test robust 40.00 % (mean over 1 seed)" in shown


def test_estimate_without_an_interval_says_so(frame_of):
    frame = frame_of([{"optimizer.lr": lr, "last_test_robust": lr**2} for lr in (0.1, 0.2, 0.4)])
    shown = text(correlation_table(correlations(frame)))
    assert shown.count("1.00 [no interval]") == 4
    assert "none, no interval: too few trials, or too uniform ones" in shown


@pytest.mark.parametrize("outcome", ["diverged", "failed"])
def test_summary_without_a_completed_trial_is_the_count_alone(run, outcome):
    run.trial("a")
    run.start("a")
    run.outcome("a", outcome, epochs=0)
    assert text(summary(load_study(run.directory))).strip() == f"1 trial: 1 {outcome}"


def test_summary_says_why_no_cell_is_the_best(run):
    for name, lr in (("a", 0.1), ("b", 0.2)):
        run.trial(name, optimizer__lr=lr)
        run.start(name)
        run.epoch(name, 1, None, test_robust=0.4)
        run.outcome(name, epochs=1)
    assert text(summary(load_study(run.directory))).splitlines()[1] == (
        "no best cell: val_robust, which chooses the best cell, was not measured: trial.evaluation.splits needs val"
    )


def test_summary_of_an_empty_run_is_zero_trials(run):
    run.launch()
    assert text(summary(load_study(run.directory))).strip() == "0 trials"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("last_test_robust", "test robust accuracy, last epoch (%)"),
        ("best_val_clean_loss", "validation clean loss, best epoch by validation (nat)"),
        ("lr_batch_ratio", "learning rate / batch size"),
        ("batch_size", "batch size (images)"),
        ("optimizer.lr", "learning rate"),
    ],
)
def test_label_is_words_with_the_unit(column, expected):
    assert label(column) == expected
