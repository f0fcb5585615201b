"""What is said of an update rule is what its own recursion does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pandas import DataFrame

from analysis.theory import deat, pac_bayes, recursions
from analysis.theory.predictions import Rule, bound_moves, predictions

RULES = [
    Rule(),
    *(Rule(momentum=mu) for mu in (0.5, 0.9)),
    *(Rule(k1, k2) for k1 in (0.0, 1.0, 2.5) for k2 in (0, 0.8)),
]


def recursion(rule, lr, curvature=1.0):
    hessian, noise = np.array([[curvature]]), np.eye(1)
    if math.isnan(rule.k1):
        return recursions.sgd(hessian, noise, lr, momentum=rule.momentum)
    return recursions.deat(hessian, noise, lr, k1=rule.k1, k2=rule.k2)


def updates_of_one_gradient(rule, lr):
    """What one gradient, on a flat loss, does to this update and the 400 that follow."""
    flat = recursion(rule, lr, 0.0)
    values, vectors = np.linalg.eigh(flat.noise)
    states = [vectors[:, -1] * math.sqrt(values[-1])]
    for _ in range(400):
        states.append(flat.transition @ states[-1])
    return np.diff([0.0, *(state[0] for state in states)])


def setting(**values):
    known = {"method": "PGD-AT", "optimizer.name": "sgd", "optimizer.lr": 0.1, "batch_size": 50}
    known |= {"optimizer.k1": np.nan, "optimizer.k2": np.nan, "optimizer.momentum": 0.0, "optimizer.nesterov": False}
    known |= {"optimizer.weight_decay": 5e-4, "optimizer.decoupled_weight_decay": False}
    known |= {"weights.name": "none", "averaging.name": "none", "schedule.name": "constant"}
    return known | {key.replace("__", "."): value for key, value in values.items()}


def deat_setting(k1=1.0, k2=0.8, **values):
    own = {"method": "DEAT", "optimizer.name": "deat", "optimizer.k1": k1, "optimizer.k2": k2}
    own |= {"optimizer.momentum": np.nan, "optimizer.nesterov": np.nan, "optimizer.decoupled_weight_decay": True}
    return setting() | own | {key.replace("__", "."): value for key, value in values.items()}


def said(*settings):
    return predictions(DataFrame(settings))


@pytest.mark.parametrize("rule", RULES)
def test_mean_step_and_noise_are_those_of_the_recursions_answer_to_one_gradient(rule):
    updates = updates_of_one_gradient(rule, 0.3)
    assert abs(updates.sum()) / 0.3 == pytest.approx(rule.mean_step)
    assert (updates**2).sum() / 0.3**2 == pytest.approx(rule.step_noise)


@pytest.mark.parametrize("rule", RULES)
def test_the_recursion_is_stable_up_to_the_limit_and_not_beyond(rule):
    assert recursion(rule, 0.999 * rule.stability_limit).radius < 1
    assert recursion(rule, 1.001 * rule.stability_limit).radius > 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lr_curvature", [1e-3, 0.5, 1.0])
def test_the_spread_is_the_recursions_covariance_over_plain_sgds(rule, lr_curvature):
    ratio = recursion(rule, lr_curvature).covariance() / recursion(Rule(), lr_curvature).covariance()
    assert rule.spread(lr_curvature) == pytest.approx(ratio.item(), rel=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_the_spread_becomes_the_mean_step_as_lr_falls(rule):
    assert rule.spread(1e-6) == pytest.approx(rule.mean_step, rel=1e-4)


@pytest.mark.parametrize("plain", [setting(), deat_setting(k1=0.0, k2=0.0)])
def test_plain_sgd_and_deat_at_k1_0_and_k2_0_are_one_and_the_same(plain):
    row = said(plain).iloc[0]
    for name in ("mean_step", "step_noise", "noise_at_equal_step", "spread", "spread_at_1"):
        assert row[name] == pytest.approx(1)
    assert row["stability_limit"] == pytest.approx(2)
    assert row["effective_lr"] == pytest.approx(0.1)
    assert row["effective_weight_decay"] == pytest.approx(5e-4)


def test_noise_at_equal_step_is_that_of_deats_bracket_beside_plain_sgd():
    rows = said(*(deat_setting(k1, k2) for k1 in (0.0, 1.0, 2.0) for k2 in (0.0, 0.8)))
    expected = [deat.bracket_noise(k1, k2) for k1, k2 in zip(rows["optimizer.k1"], rows["optimizer.k2"], strict=True)]
    assert rows["noise_at_equal_step"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("decoupled", [True, False])
def test_the_sgd_that_deat_acts_like_is_the_equivalent_one(decoupled):
    row = said(deat_setting(optimizer__decoupled_weight_decay=decoupled)).iloc[0]
    same = deat.equivalent_sgd(0.1, 1.0, 5e-4, decoupled_weight_decay=decoupled)
    assert (row["effective_lr"], row["effective_weight_decay"]) == pytest.approx((same.lr, same.weight_decay))


@pytest.mark.parametrize("given", [setting(), setting(optimizer__momentum=0.9), deat_setting()])
def test_the_posteriors_scale_is_that_of_the_settled_covariance_where_lr_is_small(given):
    row = said({**given, "optimizer.lr": 1e-5}).iloc[0]
    rule = Rule(row["optimizer.k1"], row["optimizer.k2"], np.nan_to_num(row["optimizer.momentum"]))
    of_a_batch = 3.0 / 50  # c = 3 for one image, h = 1
    settled = of_a_batch * recursion(rule, 1e-5).covariance().item()
    assert row["posterior_scale"] * 3.0 / 2 == pytest.approx(settled, rel=1e-3)


def test_of_awp_the_step_is_said_alone_and_of_nesterov_and_unknown_optimizers_nothing():
    awp, nesterov, other = (
        row for _, row in said(
            setting(weights__name="awp"), setting(optimizer__nesterov=True, optimizer__momentum=0.9),
            setting(optimizer__name="adam"),
        ).iterrows()
    )  # fmt: skip
    assert awp["mean_step"] == awp["step_noise"] == 1
    assert np.isnan([awp[name] for name in ("stability_limit", "spread", "spread_at_1", "posterior_scale")]).all()
    for row in (nesterov, other):
        assert np.isnan(
            [
                row[name]
                for name in ("mean_step", "step_noise", "stability_limit", "effective_lr", "effective_weight_decay")
            ]
        ).all()
    for row, word in ((awp, "AWP"), (nesterov, "Nesterov"), (other, "adam")):
        assert [word in text for text in row["uncovered"]] == [True]


def test_averaged_weights_and_schedules_are_named_and_change_no_number():
    plain, other = (
        row for _, row in said(setting(), setting(averaging__name="ema", schedule__name="cosine")).iterrows()
    )
    assert plain["uncovered"] == ()
    assert [any(word in text for text in other["uncovered"]) for word in ("ema", "cosine")] == [True, True]
    assert plain["mean_step"] == other["mean_step"]


def test_the_bound_moves_by_the_kl_of_a_posterior_that_many_times_as_wide():
    moves = bound_moves(said(setting(optimizer__lr=0.01), setting(), setting(optimizer__momentum=0.9), deat_setting()))
    assert moves["change"].tolist() == [
        "lr / batch size 0.0002 -> 0.002", "SGD -> DEAT with k1 1, at equal lr", "momentum 0 -> 0.9, at equal lr",
        "k2, whatever it is",
    ]  # fmt: skip
    assert moves["factor"].tolist() == pytest.approx([10, 5**-0.5, 10, 1])
    narrow = 1e-7
    for factor, change in zip(moves["factor"], moves["kl_per_direction"], strict=True):
        exact = pac_bayes.spherical_kl([factor * narrow], 1.0) - pac_bayes.spherical_kl([narrow], 1.0)
        assert change == pytest.approx(exact, abs=1e-6)


def test_at_the_turning_width_kl_stays_as_it_is():
    moves = bound_moves(said(setting(), deat_setting(), setting(optimizer__momentum=0.9)))
    for factor, width in moves.loc[moves["factor"] != 1, ["factor", "turning_width"]].itertuples(index=False):
        assert pac_bayes.kl_change(factor, width, 1, 1.0) == pytest.approx(0, abs=1e-12)
        before, after = (pac_bayes.spherical_kl([v * width / 2], 1.0) for v in (1, factor))
        assert (after < before) == (factor > 1)


def test_of_many_k1_the_least_and_the_greatest_are_listed():
    moves = bound_moves(said(*(deat_setting(k1=k1) for k1 in np.linspace(0.1, 2, 20))))
    assert [text for text in moves["change"] if "k1" in text] == [
        "SGD -> DEAT with k1 0.1, at equal lr", "SGD -> DEAT with k1 2, at equal lr",
    ]  # fmt: skip


def test_without_a_setting_that_theory_covers_no_bound_moves():
    assert bound_moves(said(setting(weights__name="awp"))).empty
