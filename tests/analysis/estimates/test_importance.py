"""Importance: fANOVA's shares in closed form on a grid, what is withheld, and what enters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pandas import DataFrame
from rich.console import Console

from analysis.estimates import importance
from analysis.estimates.importance import INTERACTIONS, importance_frame, shares_without_noise
from analysis.estimates.resampling import redrawn_seeds
from analysis.tables.importance import importance_view, notes
from sweep.search.optuna_importance import optuna_importance
from trainers.errors import UserError

FIRST = ["trial_id", "outcome", "method", "seed", "model.name", "optimizer.name"]


def sweep(function, seeds=3, noise=0.0, seed=0, **levels):
    """Trials of every combination; `optimizer__lr` is optimizer.lr; `function` of a point gives the metric."""
    rng, rows = np.random.default_rng(seed), []
    for values in itertools.product(*levels.values()):
        point = dict(zip((name.replace("__", ".") for name in levels), values, strict=True))
        for number in range(seeds):
            y = function(point) + noise * rng.standard_normal()
            rows.append({"method": "PGD-AT", **point, "seed": number, "last_val_robust": y})
    frame = DataFrame(rows).assign(**{"outcome": "completed", "model.name": "net", "optimizer.name": "sgd"})
    frame = frame.assign(lr_batch_ratio=1.0, trial_id=[str(n) for n in range(len(frame))])
    last = ["lr_batch_ratio", "last_val_robust"]
    return frame[[*FIRST, *(name for name in frame if name not in (*FIRST, *last)), *last]]


LEVELS = {"method": ("PGD-AT", "DEAT", "TRADES"), "optimizer__lr": (0.01, 0.1, 0.2, 1.0), "batch_size": (32, 64)}
EFFECT = {"PGD-AT": 0.0, "DEAT": 1.0, "TRADES": 0.2}


def additive(point):
    return EFFECT[point["method"]] + 2 * np.log10(point["optimizer.lr"])


def importances(trials, metric="last_val_robust", **asked):
    return importance.importances(trials, optuna_importance, metric, **asked)


def shares(found):
    return {one.axis: one.share.value for one in found.axes}


def test_an_additive_function_on_a_grid_has_its_shares_in_closed_form():
    parts = {"method": np.var([0, 1, 0.2]), "optimizer.lr": np.var(2 * np.log10([0.01, 0.1, 0.2, 1.0]))}
    (found,) = importances(sweep(additive, **LEVELS))
    total = sum(parts.values())
    expected = {"method": parts["method"] / total, "optimizer.lr": parts["optimizer.lr"] / total}
    assert shares(found) == pytest.approx(expected | {"batch_size": 0, INTERACTIONS: 0}, abs=2e-3)
    assert [one.axis for one in found.axes] == ["optimizer.lr", "method", "batch_size", INTERACTIONS]


def test_what_no_axis_makes_alone_is_the_interactions():
    (found,) = importances(sweep(lambda p: float((p["batch_size"] == 64) == (p["optimizer.lr"] > 0.15)), **LEVELS))
    assert shares(found) == pytest.approx({"method": 0, "optimizer.lr": 0, "batch_size": 0, INTERACTIONS: 1}, abs=2e-3)


def test_noise_is_taken_off_and_the_interval_holds_what_many_seeds_show():
    clean = shares(importances(sweep(additive, **LEVELS))[0])
    each = [importances(sweep(additive, noise=0.6, seed=n, **LEVELS), resamples=40)[0] for n in range(6)]
    mean = {axis: np.mean([shares(one)[axis] for one in each]) for axis in clean}
    raw = np.mean([next(axis.raw for axis in one.axes if axis.axis == INTERACTIONS) for one in each])
    assert raw > 0.02 > mean[INTERACTIONS]  # of noise alone; cut at 0 it cannot average to 0
    assert mean["optimizer.lr"] == pytest.approx(clean["optimizer.lr"], abs=0.04)
    held = [a.share.low <= clean[a.axis] + 1e-3 and clean[a.axis] - 1e-3 <= a.share.high for o in each for a in o.axes]
    assert np.mean(held) > 0.85


def test_without_noise_in_the_resamples_a_share_is_that_of_the_data_and_has_no_error():
    parts = np.array([3.0, 1.0, 4.0])
    share, error = shares_without_noise(parts, np.tile(parts, (5, 1)), np.ones(5))
    assert share.tolist() == [0.75, 0.25]
    assert error.tolist() == [0, 0]
    assert np.isnan(shares_without_noise(parts, np.tile(3 * parts, (5, 1)), np.ones(5))[0]).all()


@pytest.mark.parametrize(
    ("seeds", "noise", "why"),
    [(1, 0.0, "one seed a cell"), (2, 40.0, "the seeds' noise makes")],
)
def test_an_interval_is_withheld_with_its_reason_and_the_bars_stay(seeds, noise, why):
    (found,) = importances(sweep(additive, seeds, noise, seed=1, **LEVELS))
    assert why in found.interval
    assert np.isnan([one.share.low for one in found.axes]).all()
    assert np.isfinite([one.share.value for one in found.axes]).all()


def test_seeds_are_redrawn_as_blocks_where_all_cells_share_them_and_within_cells_elsewhere():
    cells, rng = np.repeat([0, 1, 2], 3), np.random.default_rng(0)
    weights, how = redrawn_seeds(cells, np.tile([5, 7, 9], 3), 20, rng)
    assert "blocks" in how
    assert (weights.reshape(20, 3, 3) == weights.reshape(20, 3, 3)[:, :1]).all()
    weights, how = redrawn_seeds(cells, np.arange(9), 20, rng)
    assert "within cells" in how
    assert (weights.reshape(20, 3, 3).sum(axis=2) == 3).all()
    assert (weights.reshape(20, 3, 3) != weights.reshape(20, 3, 3)[:, :1]).any()


def with_own_axis(seeds=2):
    """PGD-AT, and DEAT with k1, which does half of all within it."""
    plain = sweep(lambda p: 0.0 + p["optimizer.lr"], seeds, method=("PGD-AT",), optimizer__lr=(0.1, 0.2, 0.3))
    own = sweep(
        lambda p: 1 + p["optimizer.lr"] + p["optimizer.k1"], seeds, method=("DEAT",), optimizer__lr=(0.1, 0.2, 0.3),
        optimizer__k1=(0.0, 0.1, 0.2),
    )  # fmt: skip
    both = DataFrame([*plain.to_dict("records"), *own.to_dict("records")], columns=own.columns)
    return both.assign(trial_id=[str(n) for n in range(len(both))])


def test_an_axis_of_one_method_is_averaged_over_and_assessed_within_that_method():
    over_all, deat = importances(with_own_axis())
    assert over_all.averaged == ("optimizer.k1",)
    assert shares(over_all)["method"] == pytest.approx(1.1**2 / 4 / (1.1**2 / 4 + 0.02 / 3), abs=2e-3)
    assert (deat.name, deat.n_cells) == ("DEAT", 9)
    assert shares(deat) == pytest.approx({"optimizer.lr": 0.5, "optimizer.k1": 0.5, INTERACTIONS: 0}, abs=2e-3)


def test_too_few_points_are_no_contradiction_to_more_cells_as_the_axis_averaged_over_is_named():
    rng = np.random.default_rng(0)
    drawn = sweep(lambda p: p["optimizer.lr"], 2, method=("PGD-AT",), optimizer__lr=tuple(rng.random(10)))
    own = sweep(
        lambda p: p["optimizer.lr"] + p["optimizer.k1"], 2, method=("DEAT",), optimizer__lr=tuple(rng.random(5)),
        optimizer__k1=(0.0, 0.1),
    )  # fmt: skip
    both = DataFrame([*drawn.to_dict("records"), *own.to_dict("records")], columns=own.columns)
    lines = list(notes(importances(both.assign(trial_id=[str(n) for n in range(len(both))]))))
    said = "all: 20 cells, 40 trials, 2 seeds; no importance: needs 20 points for 2 axes, got 15; run 5 more"
    place = next(place for place, line in enumerate(lines) if line.startswith(said))
    assert lines[place + 1] == "all: averaged over optimizer.k1, which not all of these trials have"


def test_ped_anova_ranks_the_axis_that_makes_the_best_cells_first_and_has_no_interval():
    trials = sweep(
        lambda p: -p["optimizer.lr"], 1, method=("DEAT",), optimizer__lr=tuple(np.arange(8) / 10), batch_size=(1, 2, 3)
    )
    (found,) = importances(trials, by="ped_anova")
    assert found.axes[0].axis == "optimizer.lr"
    assert found.axes[0].share.value > 0.9
    assert sum(shares(found).values()) == pytest.approx(1)
    assert found.interval.startswith("none: which cells are the best")


@pytest.mark.parametrize("name", ["last_val_robust_loss", "seconds"])
def test_the_best_cells_of_ped_anova_are_those_of_the_least_loss_or_time(name):
    levels = {"method": ("DEAT",), "optimizer__lr": tuple(np.arange(8) / 10), "batch_size": (1, 2, 3)}
    trials = sweep(lambda p: p["optimizer.lr"] * (1 + (p["optimizer.lr"] > 0.35) * p["batch_size"]), 1, **levels)
    most = shares(importances(trials, by="ped_anova")[0])
    least = shares(importances(trials.assign(last_val_robust=-trials["last_val_robust"]), by="ped_anova")[0])
    found = importances(trials.rename(columns={"last_val_robust": name}), name, by="ped_anova")[0]
    assert shares(found) == least != most


def test_a_part_for_each_value_of_an_axis_that_is_asked_for():
    parts = importances(sweep(additive, **LEVELS), within=["batch_size"])
    assert [one.name for one in parts] == ["batch_size 32", "batch_size 64"]
    assert all(set(shares(one)) == {"method", "optimizer.lr", INTERACTIONS} for one in parts)


def test_drawn_points_need_more_cells_than_a_grid_and_the_reason_says_how_many():
    rng = np.random.default_rng(0)
    grid = sweep(additive, method=("PGD-AT", "DEAT"), optimizer__lr=tuple(rng.random(9)))
    few = grid[(grid["method"] == "PGD-AT") | (grid["optimizer.lr"] < 0.5)]
    assert importances(grid)[0].reason == ""
    drawn = few.assign(**{"optimizer.lr": few["optimizer.lr"] + 0.001 * (few["method"] == "DEAT")})
    assert "needs 20 points for 2 axes" in importances(drawn)[0].reason


def test_too_few_cells_are_told_how_many_more_and_how_many_the_pruned_ones_make():
    rng = np.random.default_rng(0)
    drawn = sweep(additive, 1, method=("PGD-AT",), optimizer__lr=tuple(rng.random(17)))
    drawn = drawn.assign(outcome=["pruned"] * 5 + ["completed"] * 12)
    drawn.insert(len(FIRST), "optimizer.weight_decay", rng.random(17))
    (found,) = importances(drawn)
    assert found.reason == (
        "needs 20 points for 2 axes, got 12; run 8 more to their end, by more values or a larger search.n_trials; "
        "`sweep launch --resume-pruned` gives 17 points at most"
    )


def test_part_of_a_grid_is_told_how_many_of_its_cells_are_needed():
    grid = sweep(additive, method=("PGD-AT", "DEAT"), optimizer__lr=(0.1, 0.2, 0.3), batch_size=(16, 32, 64))
    half = grid[(grid["optimizer.lr"] < 0.3) | (grid["batch_size"] == 16) & (grid["method"] == "DEAT")]
    (found, *_) = importances(half)
    assert found.reason == "needs at least 14 of its grid's 18 points (75 %), got 13"
    console = Console(width=40)
    with console.capture() as shown:
        console.print(importance_view([found]))
    first, *others = shown.get().splitlines()
    assert first.startswith("all: 13 cells,")
    assert others
    assert all(line.startswith("  ") for line in others)


def test_only_completed_trials_enter_and_the_others_are_counted():
    trials = sweep(additive, **LEVELS)
    worse = trials.assign(outcome=["pruned" if n in (3, 4, 5) else "completed" for n in range(len(trials))])
    worse.loc[worse["outcome"] == "pruned", "last_val_robust"] = 1e6
    found = importances(worse)
    assert found[0].left_out == {"pruned": 3}
    assert found[0].n_trials == len(trials) - 3
    assert shares(found[0])["optimizer.lr"] > 0.7
    assert any("better cells are over-represented" in line for line in notes(found))


def test_trials_of_cells_that_lost_seeds_do_not_enter_and_are_counted():
    trials = sweep(additive, **LEVELS)
    found = importances(trials.drop(index=[0, 1]))
    assert (found[0].n_cells, found[0].n_trials, found[0].n_of_fewer) == (23, 69, 1)
    assert any("69 trials, 3 seeds (1 trial of cells with fewer seeds left out)" in line for line in notes(found))


def test_how_pruned_trials_and_the_rest_of_their_cells_come_in_is_said():
    trials = sweep(additive, noise=0.3, **LEVELS)
    trials.loc[0, "outcome"] = "pruned"
    said = list(notes(importances(trials, resamples=10)))
    assert "2 trials of cells with fewer seeds left out" in said[1]
    assert said[-2] == "1 trial left out: 1 pruned"
    assert said[-1].endswith("`sweep launch --resume-pruned` trains them to their end")


def test_what_cannot_be_answered_is_one_line():
    with pytest.raises(UserError, match="needs two axes that vary among completed trials, got batch_size"):
        importances(sweep(lambda p: p["batch_size"], batch_size=(1, 2, 3)))
    with pytest.raises(UserError, match="--within lr: no axis that varies"):
        importances(sweep(additive, **LEVELS), within=["lr"])
    with pytest.raises(UserError, match="needs a completed trial with last_val_robust"):
        importances(sweep(additive, **LEVELS).assign(outcome="failed"))


def test_the_frame_has_a_row_an_axis_the_same_each_time():
    trials = sweep(additive, noise=0.3, **LEVELS)
    first, second = (importance_frame(importances(trials, resamples=30)) for _ in range(2))
    assert first.equals(second)
    assert list(first["axis"]) == ["optimizer.lr", "method", "batch_size", INTERACTIONS]
