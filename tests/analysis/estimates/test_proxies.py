"""Whether cheap settings order the points as full ones do."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from analysis.estimates.correlations import ALIKE
from analysis.estimates.proxies import OVER_POINTS, OVER_SEEDS, Pairs, _compared, kendall_of, proxies
from analysis.estimates.resampling import Bootstrap
from analysis.figures import load
from analysis.frames.pruned import BIAS
from analysis.frames.trials import load_epochs, load_trials
from analysis.plots.proxies import PLAN
from sweep.cli import main

LRS = [0.01 * 2**power for power in range(8)]


def rows_of(run: Any, **options: Any) -> Any:
    return proxies(load_trials(run.directory), load_epochs(run.directory), **options)


@pytest.fixture
def sweep(run):
    """8 points x 3 seeds x 3 epochs: at the second epoch in the order of the last, at the first turned around."""
    rng = np.random.default_rng(0)
    run.launch()
    for place, lr in enumerate(LRS):
        for seed in range(3):
            value, noise = 0.3 + 0.02 * place, 0.004 * rng.standard_normal()
            run.whole(f"t{place}{seed}", [0.9 - value, value - 0.1 + noise, value + noise], seed=seed, optimizer__lr=lr)
    return run


def test_kendall_of_rows_is_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    x, y = rng.integers(6, size=(2, 20, 9)).astype(float)
    expected = [stats.kendalltau(*row).statistic for row in zip(x, y, strict=True)]
    assert kendall_of(x, y).tolist() == pytest.approx(expected)
    assert np.isnan(kendall_of(np.ones((1, 5)), y[:1, :5])).all()


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33, 100])
@pytest.mark.parametrize("values", [2, 10, 1_000_000])
def test_kendall_is_to_the_bit_what_its_definition_over_all_pairs_says(n, values):
    rng = np.random.default_rng(n)
    x, y = rng.integers(values, size=(2, 7, n)) / 8
    x[0, 0], y[1] = np.nan, 3.0
    of_x, of_y = (np.sign(one[:, :, None] - one[:, None, :]) for one in (x, y))
    untied = np.abs(of_x).sum(axis=(1, 2)) * np.abs(of_y).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (of_x * of_y).sum(axis=(1, 2)) / np.sqrt(untied)
    np.testing.assert_array_equal(kendall_of(x, y), expected)


def test_each_epoch_before_the_last_has_its_coefficient_its_cost_and_its_regret(sweep):
    rows = rows_of(sweep).set_index("value")
    assert rows.index.tolist() == [1, 2]
    assert rows["estimate"].tolist() == pytest.approx([-1.0, 1.0])
    assert rows["share"].tolist() == pytest.approx([1 / 3, 2 / 3])
    last = load_trials(sweep.directory).groupby("optimizer.lr")["last_val_robust"].mean()
    assert rows["regret"].tolist() == pytest.approx([last.iloc[-1] - last.iloc[0], 0.0])
    assert rows["same_best"].tolist() == [0.0, 1.0]
    assert (rows["points"] == 8).all()
    assert (rows["n"] == 24).all()


def test_losses_are_ordered_the_other_way_with_the_same_coefficients(run):
    for place, lr in enumerate(LRS):
        run.trial(f"t{place}", optimizer__lr=lr)
        run.start(f"t{place}")
        for epoch in (1, 2):
            loss = 2 - 0.1 * place if epoch == 2 else 3 - 0.1 * (place if place < 7 else 0)
            run.epoch(f"t{place}", epoch, 0.1 * loss, val_robust_loss=loss)
        run.outcome(f"t{place}")
    (loss,) = rows_of(run, metric="val_robust_loss", mode="min").to_dict("records")
    (same,) = rows_of(run, metric="val_robust", mode="min").to_dict("records")
    assert loss["estimate"] == same["estimate"]
    assert loss["regret"] == pytest.approx(0.1)  # the sixth is chosen, the seventh is best
    assert loss["regret"] == pytest.approx(10 * same["regret"])


def test_with_one_seed_the_interval_is_over_points_and_says_so(run):
    rng = np.random.default_rng(1)
    for place, lr in enumerate(LRS):
        value = 0.3 + 0.02 * place
        run.whole(f"t{place}", [value + 0.04 * rng.standard_normal(), value], optimizer__lr=lr)
    (row,) = rows_of(run).to_dict("records")
    assert row["interval_method"] == OVER_POINTS
    assert -1 <= row["low"] < row["estimate"] < row["high"] <= 1
    assert np.isnan(row["ceiling"])


def pairs(points: int, seeds: int, noise: float, rng: np.random.Generator, common: float = 0.0) -> Pairs:
    point = np.repeat(np.arange(points), seeds)
    shared, own, other = noise * rng.standard_normal((3, len(point)))
    return Pairs(point + common * shared + own, point, point + common * shared + other, point, same=True)


def test_interval_is_withheld_where_it_would_not_hold():
    bootstrap = Bootstrap(0.95, 200, 0)
    rng = np.random.default_rng(0)
    few = _compared(pairs(7, 4, 2.0, rng), bootstrap)
    assert (few["interval_method"], np.isnan(few["low"])) == ("none: fewer than 8 points", True)
    two = _compared(pairs(30, 2, 2.0, rng), bootstrap)
    assert (two["interval_method"], np.isnan(two["low"])) == ("none: fewer than 3 seeds a point", True)
    exact = _compared(pairs(8, 4, 0.0, rng), bootstrap)
    assert (exact["estimate"], exact["interval_method"], np.isnan(exact["low"])) == (1.0, ALIKE, True)
    assert _compared(pairs(8, 4, 2.0, rng), bootstrap)["interval_method"] == OVER_SEEDS


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [1, 3])
def test_points_that_all_have_one_value_are_in_no_order_and_nothing_is_chosen_by_it(seeds):
    known = pairs(9, seeds, 1.0, np.random.default_rng(0))
    flat = _compared(known._replace(cheap=np.zeros(9 * seeds)), Bootstrap(0.95, 50, 0))
    assert flat["interval_method"] == "none: all points have the same value"
    assert np.isnan([flat[name] for name in ("estimate", "low", "other_seeds", "same_best", "regret")]).all()


def test_ceiling_is_what_the_halves_of_the_seeds_agree_by_and_same_trials_may_lie_above_it():
    rng = np.random.default_rng(0)
    found = [_compared(pairs(12, 4, 6.0, rng, common=1.0), Bootstrap(0.95, 50, 0)) for _ in range(60)]
    halves = [
        float(kendall_of(*(np.arange(12.0)[None] + 6.0 * rng.standard_normal((1, 12)) for _ in range(2)))[0])
        for _ in range(2000)  # two seeds a half, each of variance 2 * 36
    ]
    assert np.mean([one["ceiling"] for one in found]) == pytest.approx(np.mean(halves), abs=0.06)
    assert np.mean([one["other_seeds"] for one in found]) == pytest.approx(np.mean(halves), abs=0.06)
    assert np.mean([one["estimate"] for one in found]) > np.mean([one["ceiling"] for one in found]) + 0.1
    without = _compared(pairs(12, 4, 0.0, rng), Bootstrap(0.95, 50, 0))
    assert without["ceiling"] == without["other_seeds"] == 1.0


@pytest.mark.parametrize(("key", "small", "large"), [("attack__steps", 2, 10), ("data__train_per_class", 20, None)])
def test_trials_that_differ_in_one_cheap_key_are_compared_where_both_are_there(run, key, small, large):
    rng = np.random.default_rng(0)
    for place, lr in enumerate(LRS):
        for setting in (small, large):
            for seed in range(2):
                value = 0.3 + 0.02 * place * (1 if setting == large else -1) + 0.001 * rng.standard_normal()
                name = f"t{place}{seed}{'s' if setting == small else 'l'}"
                run.whole(name, [value], seed=seed, optimizer__lr=lr, **{key: setting})
    run.whole("alone", [0.9], optimizer__lr=9.0, **{key: small})
    rows = rows_of(run)
    (row,) = rows.to_dict("records")
    assert (row["setting"], row["value"]) == (key.replace("__", "."), small)
    assert row["estimate"] == pytest.approx(-1.0)
    assert (row["points"], row["n"]) == (8, 16)
    assert row["share"] == pytest.approx(1.0)  # which the fixture's epochs all take


def test_pruned_trials_are_no_points_and_the_command_says_how_many_and_what_is_biased(sweep):
    before = rows_of(sweep)
    for seed in range(3):
        sweep.pruned(f"p{seed}", [0.1, 0.1], seed=seed, optimizer__lr=7.0)
    after = rows_of(sweep)
    assert after["n_left_out"].tolist() == [3, 3]
    assert after.drop(columns="n_left_out").equals(before.drop(columns="n_left_out"))
    ran = CliRunner().invoke(main, ["proxy", str(sweep.directory)])
    said = " ".join(ran.output.split())
    assert "3 of 27 trials were pruned" in said
    assert BIAS in said


def test_command_shows_a_row_a_setting_and_writes_every_column(sweep):
    ran = CliRunner().invoke(main, ["proxy", str(sweep.directory)])
    assert ran.exit_code == 0, ran.output
    assert "epoch 2 of 3" in ran.output
    text = CliRunner().invoke(main, ["proxy", str(sweep.directory), "--format", "csv"]).output
    assert text.splitlines()[0] == ",".join(rows_of(sweep).columns)
    refused = CliRunner().invoke(main, ["proxy", str(sweep.directory), "--by", "optimizer.lrr"])
    assert refused.exit_code == 2
    assert "must be an axis of the sweep; did you mean 'optimizer.lr'?" in refused.output + refused.stderr


def test_command_says_what_to_set_where_nothing_cheap_was_measured(run):
    run.whole("a", [0.5])
    ran = CliRunner().invoke(main, ["proxy", str(run.directory)])
    assert ran.exit_code == 0, ran.output
    assert "trial.evaluation.every=1" in ran.output


def test_figure_has_a_curve_with_its_band_and_says_what_the_line_is_that_it_may_lie_above(sweep):
    data = load(sweep.directory)
    frames = PLAN.frames(data)
    assert frames["proxy"]["epoch"].tolist() == [1, 2]
    figure = PLAN.render(frames, data.metric)
    (axes,) = figure.axes
    assert len(axes.lines) == 2
    assert "a curve may lie above" in PLAN.captioned(data, frames)
    (legend,) = figure.legends
    assert legend.get_texts()[-1].get_text() == "two halves of the seeds, last epoch"
    assert PLAN.trial_ids(data, frames.values()) == set(load_trials(sweep.directory)["trial_id"])


def test_grid_axes_that_the_launch_names_are_looked_at_each_by_itself(run):
    run.launch(strata=["batch_size", "attack.steps"])
    for place, lr in enumerate(LRS[:3]):
        for batch in (16, 32):
            for steps in (1, 2):
                value, name = 0.3 + 0.02 * place, f"t{place}-{batch}-{steps}"
                run.whole(name, [0.9 - value, value], batch_size=batch, optimizer__lr=lr, attack__steps=steps)
    text = CliRunner().invoke(main, ["proxy", str(run.directory), "--format", "csv"]).output
    header, *rows = [line.split(",") for line in text.splitlines()]
    assert header[:4] == ["model.name", "method", "batch_size", "setting"]
    assert {(row[2], row[3]) for row in rows} == set(itertools.product(["16", "32"], ["epoch", "attack.steps"]))
    frames = PLAN.frames(data := load(run.directory))
    titles = [axes.get_title() for axes in PLAN.render(frames, data.metric).axes]
    assert titles == [f"small_cnn, batch_size {batch}\n3 settings, n = 3 trials" for batch in (16, 32)]
