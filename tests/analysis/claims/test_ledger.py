"""The ledger on frames whose truth is known, and on the published study."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame
from scipy import stats

from analysis.claims.blocks import (
    EPOCH_SECONDS,
    OWN,
    OWN_DECAY,
    Block,
    Effect,
    NotMeasured,
    Options,
    published_settings,
)
from analysis.claims.effects import _left_of, choosing_seeds, k1_k2, matched_controls, ratio_only
from analysis.claims.evidence import MOST_FURTHER, of_values
from analysis.claims.ledger import UNMATCHED, Claim, ledger
from analysis.claims.questions import NAMES, question
from analysis.claims.study import Study, chosen_by, decided_by, load_study, published
from analysis.estimates.intervals import holm
from analysis.estimates.methods import comparison
from analysis.frames.budgets import BUDGET
from analysis.tables.claims import answer, claims_json, claims_text, rule, sentence
from analysis.tables.methods import notes
from trainers.errors import UserError

NOISE = 0.002


def grid(frame_of, seeds=4, *, gain=0.02, along=0.0, noise=NOISE, slow=1.0, network="small_cnn", shift=0.0):
    """SGD and DEAT over lr x batch: accuracy of slope 0.05 a decade of the ratio, and `along` of lr beside it."""
    rng = np.random.default_rng(7)
    rows = []
    for name, lr, batch, seed in itertools.product(("sgd", "deat"), (0.05, 0.1, 0.2, 0.4), (32, 64, 128), range(seeds)):
        value = 0.5 + shift + 0.05 * np.log10(lr / batch) + along * np.log10(lr) + gain * (name == "deat")
        drawn = noise * rng.standard_normal(4)
        rows.append(
            {
                **{"model.name": network, "optimizer.name": name, "optimizer.lr": lr, "batch_size": batch},
                **{"seed": seed, "last_test_robust": value + drawn[0] + drawn[1], "last_val_robust": value + drawn[2]},
                EPOCH_SECONDS: 2.0 * (slow if name == "deat" else 1) * np.exp(0.01 * drawn[3] / max(noise, 1e-9)),
            }
        )
    frame = frame_of([{key: value for key, value in row.items() if key != EPOCH_SECONDS} for row in rows])
    return frame.assign(**{EPOCH_SECONDS: [row[EPOCH_SECONDS] for row in rows], "seconds": 10.0})


def lines(frame, **options):
    return {(claim.name, claim.of): claim for claim in ledger(Study(frame), **options)}


def test_known_truths_get_their_verdicts(frame_of):
    found = lines(grid(frame_of, noise=0.0005))
    for method in ("PGD-AT", "DEAT"):
        assert found["ratio", method].verdict == "supported"
        assert found["ratio", method].low < 0.05 < found["ratio", method].high
        assert found["ratio_only", method].verdict == "supported"
    assert found["deat_equal_lr", ""].verdict == found["no_extra_time", ""].verdict == "supported"
    assert {name for name, _ in found if found[name, _].verdict == "not measured"} == {"not_weight_decay", "k1_k2"}


def test_known_falsehoods_are_contradicted(frame_of):
    found = lines(grid(frame_of, gain=-0.02, along=-0.1, slow=1.3))
    assert found["deat_equal_lr", ""].verdict == found["no_extra_time", ""].verdict == "contradicted"
    assert found["ratio_only", "DEAT"].verdict == "contradicted"
    assert found["no_extra_time", ""].low < 1.3 < found["no_extra_time", ""].high


def test_the_gain_is_the_t_test_over_seeds_of_the_mean_over_cells(frame_of):
    frame = grid(frame_of)
    means = frame.groupby(["optimizer.name", "seed"])["last_test_robust"].mean()
    expected = stats.ttest_1samp(means["deat"] - means["sgd"], 0)
    claim = lines(frame)["deat_equal_lr", ""]
    assert (claim.estimate, claim.p) == pytest.approx(((means["deat"] - means["sgd"]).mean(), expected.pvalue))
    assert (claim.low, claim.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (claim.n, claim.replicate, claim.n_trials) == (4, "seed", len(frame))


def slopes(frame, column, degree, settings=None):
    """Of each seed by numpy: y on log10(column), every setting with a polynomial in log10(lr / batch)."""
    found = []
    for _, part in frame.groupby("seed"):
        x = np.log10(part["lr_batch_ratio"].to_numpy())
        of = np.ones((len(part), 1)) if settings is None else np.asarray(pd.get_dummies(part[settings]), dtype=float)
        powers = [of * x[:, None] ** power for power in range(degree + 1)]
        design = np.column_stack([np.log10(part[column]), *powers])
        found.append(np.linalg.lstsq(design, part["last_test_robust"], rcond=None)[0][0])
    return np.array(found)


def assert_is_t_test(claim, values):
    expected = stats.ttest_1samp(values, 0)
    assert claim.estimate == pytest.approx(values.mean())
    assert (claim.low, claim.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_the_slope_on_the_ratio_is_the_t_test_over_seeds_of_lines_that_numpy_fits(frame_of):
    frame = grid(frame_of, along=0.03)
    for method, rows in frame.groupby("method"):
        assert_is_t_test(lines(frame)["ratio", method], slopes(rows, "lr_batch_ratio", 0))


def test_the_slope_along_the_ratio_takes_the_bend_that_the_poorest_setting_allows(frame_of):
    # 12 cells allow a degree of 2, the 5 of another setting only 1; without a cell no column is orthogonal to another.
    frame = grid(frame_of, along=0.03)
    bent = 0.05 * (np.log10(frame["lr_batch_ratio"]) + 3) ** 2
    sgd = frame.assign(last_test_robust=frame["last_test_robust"] + bent).query("method == 'PGD-AT'").iloc[4:]
    assert_is_t_test(lines(sgd)["ratio_only", "PGD-AT"], slopes(sgd, "optimizer.lr", 2))
    few = sgd[(sgd["optimizer.lr"] < 0.15) & (sgd["batch_size"] > 16)]
    both = pd.concat([sgd, few.assign(trial_id="f" + few["trial_id"])], ignore_index=True)
    both.insert(list(both.columns).index("lr_batch_ratio"), "precision", np.repeat([1, 2], [len(sgd), len(few)]))
    assert_is_t_test(lines(both)["ratio_only", "PGD-AT"], slopes(both, "optimizer.lr", 1, "precision"))


def test_the_ratio_is_asked_of_pgd_at_and_deat_and_of_others_only_without_them(frame_of):
    frame = grid(frame_of, seeds=2)
    sgd = frame[frame["optimizer.name"] == "sgd"]
    trades = sgd.assign(**{"objective.name": "trades"}, method="TRADES", trial_id="t" + sgd["trial_id"])
    both = pd.concat([frame.assign(**{"objective.name": "pgd_at"}), trades], ignore_index=True)
    both = both[["objective.name", *frame.columns]]
    asked = {
        name: [claim.of for claim in ledger(Study(part), only="ratio")] for name, part in both.groupby("objective.name")
    }
    assert asked == {"pgd_at": ["PGD-AT", "DEAT"], "trades": ["TRADES"]}
    assert [claim.of for claim in ledger(Study(both), only="ratio")] == ["PGD-AT", "DEAT"]


def test_opposite_effects_of_two_methods_do_not_pass_for_none(frame_of):
    frame = grid(frame_of)
    tilt = np.where(frame["optimizer.name"] == "deat", 0.1, -0.1) * np.log10(frame["optimizer.lr"])
    found = lines(frame.assign(last_test_robust=frame["last_test_robust"] + tilt))
    assert [found["ratio_only", method].verdict for method in ("PGD-AT", "DEAT")] == ["contradicted"] * 2


def test_a_wide_interval_is_undecided_and_a_wider_margin_supports(frame_of):
    frame = grid(frame_of, noise=0.02)
    narrow, wide = (lines(frame, margin=margin)["ratio_only", "DEAT"] for margin in (0.0005, 0.5))
    assert (narrow.verdict, wide.verdict) == ("undecided", "supported")
    assert narrow.further is None or narrow.further > 10


def test_verdicts_are_holms_over_all_lines(frame_of):
    found = ledger(Study(grid(frame_of, gain=0.003, noise=0.01)))
    p = np.array([claim.p for claim in found])
    assert np.array([claim.p_holm for claim in found]) == pytest.approx(holm(p), nan_ok=True)
    for claim in found:
        if np.isfinite(claim.p):
            assert (claim.verdict == "undecided") == (claim.p_holm >= 0.05)


def test_p_is_the_level_at_which_the_interval_decides(frame_of):
    for claim in ledger(Study(grid(frame_of, gain=0.002, noise=0.01))):
        if claim.region == "above" and np.isfinite(claim.p):
            assert (claim.p < 0.05) == (claim.low > 0 or claim.high < 0)
        if claim.region == "within":
            inside = -claim.threshold < claim.low and claim.high < claim.threshold
            outside = claim.low > claim.threshold or claim.high < -claim.threshold
            assert (claim.p < 0.05) == (inside or outside)


def test_what_would_decide_costs_the_seconds_of_the_claims_trials(frame_of):
    claim = lines(grid(frame_of, gain=0.0, noise=0.02))["deat_equal_lr", ""]
    assert claim.verdict == "undecided"
    assert claim.further_seconds == pytest.approx(claim.further * 24 * 10.0)


def test_seconds_of_epochs_that_one_trial_took_over_from_another_count_once():
    trials = DataFrame({"seed": [0, 0, 0, 1], "seconds": [30.0, 50.0, 80.0, 20.0], "trial_id": list("abcd")})
    evidence = of_values(np.array([0.1, 0.2]))
    assert Effect(evidence, "seed", "", trials).seconds == 90
    went_on = trials.assign(from_trial=["", "a", "b", "elsewhere"])
    assert Effect(evidence, "seed", "", went_on).seconds == (80 + 20) / 2
    assert np.isnan(Effect(evidence, "seed", "", trials.assign(seconds=[np.nan, 1, 1, 1])).seconds)


def test_further_seeds_are_foretold_at_holms_share_for_all_lines_that_are_open(frame_of):
    frame = grid(frame_of, gain=0.0, noise=0.04)
    found = ledger(Study(frame))
    claim = next(line for line in found if line.name == "deat_equal_lr")
    still, tested = (sum(bool(test(line)) for line in found) for test in (
        lambda line: line.p_holm >= 0.05, lambda line: np.isfinite(line.p),
    ))  # fmt: skip
    means = frame.groupby(["optimizer.name", "seed"])["last_test_robust"].mean()
    evidence = of_values((means["deat"] - means["sgd"]).to_numpy())
    alone, shared, all_of_them = (evidence.further(evidence.estimate, 0.05 / share) for share in (1, still, tested))
    assert alone < shared < all_of_them
    assert (claim.verdict, claim.further) == ("undecided", shared)


def test_a_cell_that_diverged_at_one_seed_is_out_for_all_seeds(frame_of):
    frame = grid(frame_of, noise=0.0)
    odd = (frame["optimizer.lr"] == 0.4) & (frame["batch_size"] == 32) & (frame["optimizer.name"] == "sgd")
    frame = frame.assign(outcome=frame["outcome"].mask(odd & (frame["seed"] == 0), "diverged"))
    block = Block.of(frame, "last_test_robust")
    assert block.table.shape == (23, 4)
    claim = ledger(Study(frame), only="deat_equal_lr")[0]
    assert claim.estimate == pytest.approx(0.02)
    assert claim.left_out == {"diverged": 1, UNMATCHED: 3 + 4}


@pytest.mark.parametrize("name", ["deat_equal_lr", "no_extra_time", "not_weight_decay"])
def test_more_seeds_of_one_side_neither_count_nor_displace_those_of_both(frame_of, name):
    frame = controls(frame_of, 0.01, seeds=20) if name == "not_weight_decay" else grid(frame_of, seeds=20)
    deat = frame["optimizer.name"] == "deat"
    (both,) = ledger(Study(frame[frame["seed"] < 4]), only=name)
    (more,) = ledger(Study(frame[(frame["seed"] < 4) | ~deat]), only=name)
    assert (more.estimate, more.low, more.high, more.n) == pytest.approx((both.estimate, both.low, both.high, 4))
    assert more.left_out[UNMATCHED] - both.left_out.get(UNMATCHED, 0) == (~deat & (frame["seed"] >= 4)).sum()


def test_seeds_that_no_cell_has_of_both_sides_measure_nothing(frame_of):
    frame = grid(frame_of)
    frame = frame.assign(seed=frame["seed"] + 10 * (frame["optimizer.name"] == "deat"))
    claim = ledger(Study(frame), only="deat_equal_lr")[0]
    assert (claim.verdict, claim.note) == ("not measured", "no cell was run with both DEAT and SGD at the same seed")


def test_other_budgets_are_left_out_and_counted(frame_of):
    frame = grid(frame_of)
    short = frame.head(6).assign(planned_epochs=3, last_test_robust=0.0, trial_id=[f"s{n}" for n in range(6)])
    both = frame.assign(planned_epochs=5)
    mixed = pd.concat([both, short], ignore_index=True)
    columns = list(mixed.columns)
    columns.remove("planned_epochs")
    columns.insert(columns.index("lr_batch_ratio"), "planned_epochs")
    claim = ledger(Study(mixed[columns]), only="deat_equal_lr")[0]
    assert claim.left_out == {BUDGET: 6}
    assert claim.estimate == ledger(Study(frame), only="deat_equal_lr")[0].estimate


def test_own_best_is_what_the_comparison_of_methods_says(frame_of):
    frame = grid(frame_of)
    deat = next(row for row in comparison(frame) if row.method == "DEAT")
    claim = ledger(Study(frame), only="deat_own_best")[0]
    assert claim.estimate == pytest.approx(deat.difference.value)
    assert (claim.low, claim.high) == pytest.approx((deat.own.low, deat.own.high))


def test_seeds_that_confirm_a_best_cell_count_alone(frame_of):
    frame = grid(frame_of, seeds=6)
    best = (frame["optimizer.lr"] == 0.4) & (frame["batch_size"] == 32)
    frame = frame[(frame["seed"] < 3) | best]
    confirming = frame[frame["seed"] >= 3]
    claim = ledger(Study(frame), only="deat_own_best")[0]
    expected = confirming.pivot_table(index="seed", columns="optimizer.name", values="last_test_robust")
    assert claim.n == 3
    assert claim.estimate == pytest.approx((expected["deat"] - expected["sgd"]).mean())
    assert "other seeds (3), which are not counted here" in claim.note


def test_seeds_that_chose_a_cell_decide_nothing_and_the_line_says_why(frame_of):
    frame = grid(frame_of, gain=0.2)
    found = ledger(Study(frame))
    (claim,) = [line for line in found if line.name == "deat_own_best"]
    assert (claim.verdict, claim.low > 0.19, np.isnan([claim.p, claim.p_holm]).all()) == ("undecided", True, True)
    assert claim.reason.startswith("the same seeds chose each method's best cell")
    assert "undecided because the same seeds chose" in " ".join(claims_text([claim]).split())
    # It is no test, so that Holm does not count it.
    without = [line for line in found if line.name != "deat_own_best"]
    p = np.array([line.p for line in without])
    assert np.array([line.p_holm for line in without]) == pytest.approx(holm(p), nan_ok=True)


def test_where_each_side_has_one_cell_nothing_was_chosen_and_the_seeds_decide(frame_of):
    frame = grid(frame_of).query("batch_size == 32")
    frame = frame[frame["optimizer.lr"] == 0.1]
    best, equal = (ledger(Study(frame), only=name)[0] for name in ("deat_own_best", "deat_equal_lr"))
    assert (best.verdict, best.estimate, best.p, best.reason) == ("supported", equal.estimate, equal.p, "")


@pytest.mark.parametrize(
    ("kept", "caveat"),
    [
        ("batch_size == 64", "at one batch size this is the learning rate, not yet the ratio"),
        ("optimizer_lr == 0.1", "at one learning rate this is the batch size, not yet the ratio"),
        ("lr_batch_product == 6.4", "the learning rate and the batch size vary only together: it may be either"),
        ("batch_size > 0", ""),
    ],
)
def test_a_ratio_of_which_one_part_alone_varies_is_not_supported_without_saying_so(frame_of, kept, caveat):
    frame = grid(frame_of)
    product = (frame["optimizer.lr"] * frame["batch_size"]).round(6)
    named = frame.assign(optimizer_lr=frame["optimizer.lr"], lr_batch_product=product)
    frame = frame.loc[named.query(kept).index]
    found = ledger(Study(frame), only="ratio")
    assert {(claim.verdict, claim.caveat) for claim in found} == {("supported", caveat)}
    assert [caveat in sentence(claim) for claim in found] == [True, True]
    assert " ".join(claims_text(found).split()).count(caveat) == 1 or not caveat
    assert {row["caveat"] for row in json.loads(claims_json(found))} == {caveat}


def test_a_caveat_of_one_network_is_said_of_that_network(frame_of):
    one = grid(frame_of, network="a").query("batch_size == 64")
    frame = pd.concat([one, grid(frame_of, network="b")], ignore_index=True)
    frame["trial_id"] = [f"t{n}" for n in range(len(frame))]
    text = claims_text(ledger(Study(frame), only="ratio"))
    assert "a, PGD-AT: at one batch size" in text
    assert "b, PGD-AT: at one batch size" not in text


def test_an_equivalence_whose_interval_leaves_out_0_and_not_the_margin_says_so(frame_of):
    frame = grid(frame_of, noise=0.01, along=-0.1)
    beyond = lines(frame)["ratio_only", "DEAT"]
    across = lines(frame, margin=-beyond.estimate)["ratio_only", "DEAT"]
    assert across.high < 0
    assert (beyond.verdict, beyond.reason) == ("contradicted", "")
    told = "the effect is not 0, but may be smaller or larger than the margin"
    assert (across.verdict, across.reason) == ("undecided", told)
    assert lines(grid(frame_of, noise=0.02), margin=0.0005)["ratio_only", "DEAT"].reason == ""


def test_a_line_that_its_own_interval_would_decide_says_that_others_are_tested_with_it(frame_of):
    frame = grid(frame_of, noise=0.02, gain=0.0)
    rng = np.random.default_rng(0)
    shift = 0.01 * np.array([1.0, 1.8, 0.4, 1.3])[frame["seed"]] * (frame["optimizer.name"] == "deat")
    flat = frame.assign(last_test_robust=0.5 + shift + 0.004 * rng.standard_normal(len(frame)))
    claim = next(line for line in ledger(Study(flat)) if line.name == "deat_equal_lr")
    alone, together = f"{claim.p:.2g}", f"{claim.p_holm:.2g}"
    assert claim.p < 0.05 <= claim.p_holm
    assert claim.low > 0
    assert claim.verdict == "undecided"
    assert claim.reason.startswith("6 lines are tested together, so each needs stronger evidence: by itself this")
    assert f"(p {alone})" in claim.reason
    assert f"(p (Holm) {together})" in claim.reason
    assert sentence(claim).endswith(f"p (Holm) {together}: undecided because {claim.reason}")


def test_further_seeds_have_an_interval_or_are_not_told(frame_of):
    said = {
        seeds: [line for line in ledger(Study(grid(frame_of, seeds=seeds, gain=0.0, noise=0.02))) if line.p > 0.05]
        for seeds in (2, 6)
    }
    for seeds, found in said.items():
        for claim in found:
            text = " ".join(claims_text([claim]).split())
            if claim.further_low is None:
                assert claim.further is claim.further_high is None
                assert f"{seeds} seeds cannot tell how many further" in text
            elif claim.further_low == MOST_FURTHER:
                assert "more than 50 further seeds would be needed" in text
            else:
                assert f"(95 % interval {claim.further_low} to {claim.further_high or 'more than 50'})" in text
                assert claim.further is None or claim.further_low <= claim.further


def test_seeds_that_chose_a_cell_do_not_decide_a_run_that_was_to_confirm_it(frame_of):
    frame = grid(frame_of)
    study = Study(frame, {"deat_own_best": frozenset(frame["trial_id"])})
    assert ledger(study, only="deat_own_best")[0].verdict == "not measured"


def test_a_trial_that_diverged_does_not_make_choosing_seeds_confirm(frame_of):
    frame = grid(frame_of, seeds=6)
    worst = (frame["optimizer.lr"] == 0.05) & (frame["batch_size"] == 128) & (frame["optimizer.name"] == "sgd")
    whole = ledger(Study(frame), only="deat_own_best")[0]
    for lost in (worst & (frame["seed"] == 5), worst & (frame["seed"] > 0)):
        holed = frame.assign(outcome=frame["outcome"].mask(lost, "diverged"))
        claim = ledger(Study(holed), only="deat_own_best")[0]
        assert (claim.n, claim.estimate, claim.note) == (6, whole.estimate, "chosen and compared with the same seeds")


def test_seeds_known_to_have_chosen_leave_the_others_to_confirm_though_all_have_every_cell(frame_of):
    frame = grid(frame_of, seeds=6)
    launched = {"deat_own_best": frozenset(frame.loc[frame["seed"] > 1, "trial_id"])}
    claim = ledger(Study(frame, launched, choosers=frozenset({0, 1})), only="deat_own_best")[0]
    assert (claim.n, claim.note) == (4, "other seeds (2), which are not counted here, chose the cells")


@pytest.mark.parametrize("lr", [0.2, 0.4])
def test_a_cell_in_which_a_choosing_seed_diverged_is_not_chosen_however_few_are_left(frame_of, lr):
    frame = grid(frame_of, seeds=6)
    left = (frame["optimizer.lr"] == lr) & (frame["batch_size"] == 32)
    frame = frame.assign(outcome=frame["outcome"].mask((frame["seed"] == 5) & ~left, "diverged"))
    claim = ledger(Study(frame), only="deat_own_best")[0]
    gains = frame[left].pivot_table(index="seed", columns="method", values="last_test_robust")
    assert (claim.n, claim.note, claim.verdict) == (6, "chosen and compared with the same seeds", "undecided")
    assert claim.estimate == pytest.approx((gains["DEAT"] - gains["PGD-AT"]).mean())
    methods = {row.method: row.difference.value for row in comparison(frame)}
    assert claim.estimate == pytest.approx(methods["DEAT"])


def test_what_became_of_the_compared_seeds_has_no_part_in_the_choice(frame_of):
    frame = grid(frame_of, seeds=6)
    best = (frame["optimizer.lr"] == 0.4) & (frame["batch_size"] == 32) & (frame["method"] == "DEAT")
    frame = frame.assign(outcome=frame["outcome"].mask(best & (frame["seed"] == 5), "diverged"))
    claim = ledger(Study(frame, choosers=frozenset({0, 1, 2})), only="deat_own_best")[0]
    rows = {row.method: row for row in comparison(frame, choosers={0, 1, 2})}
    means = frame[(frame["optimizer.lr"] == 0.4) & (frame["batch_size"] == 32) & frame["seed"].isin({3, 4})]
    gain = means.groupby("method")["last_test_robust"].mean()
    assert (claim.n, claim.estimate) == (2, pytest.approx(gain["DEAT"] - gain["PGD-AT"]))
    assert (rows["DEAT"].cell["optimizer.lr"], rows["DEAT"].n, rows["DEAT"].diverged) == (0.4, 2, 1)
    lost = "diverged at the best cell, which other seeds chose, and are in no mean: 1 of DEAT"
    assert lost in notes(list(rows.values()))


def test_cells_may_be_chosen_by_the_least_loss(frame_of):
    frame = grid(frame_of)
    loss = frame.assign(last_val_robust_loss=-frame["last_val_robust"], last_val_robust=np.nan)
    (by_accuracy,) = ledger(Study(frame), only="deat_own_best")
    (by_loss,) = ledger(Study(loss), only="deat_own_best", metric="val_robust_loss", mode="min")
    assert (by_loss.estimate, by_loss.low, by_loss.high) == (by_accuracy.estimate, by_accuracy.low, by_accuracy.high)


def test_seeds_choose_in_which_the_most_cells_were_wanted(frame_of):
    frame = grid(frame_of).query("seed < 2 or batch_size > 32")
    assert choosing_seeds(frame) == {0, 1}


def test_a_cell_of_deat_meets_the_mean_of_all_sgd_that_agree_with_it(frame_of):
    rows = [{"optimizer.name": "deat", "optimizer.lr": lr, "last_test_robust": 0.6} for lr in (0.1, 0.2)]
    for decay, robust in ((1e-3, 0.4), (2e-3, 0.5)):  # neither is the published one
        rows += [
            {**row, "optimizer.name": "sgd", "optimizer.weight_decay": decay, "last_test_robust": robust}
            for row in rows[:2]
        ]
    claim = ledger(Study(frame_of([{**row, "seed": seed} for row in rows for seed in (0, 1)])), only="deat_equal_lr")[0]
    assert (claim.estimate, claim.n_trials) == (pytest.approx(0.15), 12)


@pytest.mark.parametrize("axis", ["optimizer.momentum", "optimizer.nesterov"])
def test_momentum_that_was_not_published_is_not_pooled_with_sgd(frame_of, axis):
    rows = []
    for name, lr, seed, setting in itertools.product(("sgd", "deat"), (0.1, 0.2), range(3), (0, 1)):
        if name == "sgd" or not setting:
            own = {axis: bool(setting) if "nesterov" in axis else 0.9 * setting} if name == "sgd" else {}
            robust = 0.5 + 0.1 * setting + 0.02 * (name == "deat")
            cell = {"optimizer.name": name, "optimizer.lr": lr, "seed": seed, **own}
            rows.append({**cell, "last_test_robust": robust})
    claim = ledger(Study(frame_of(rows)), only="deat_equal_lr")[0]
    assert claim.estimate == pytest.approx(0.02)
    assert claim.left_out == {UNMATCHED: 6}


def test_sgd_with_another_weight_decay_than_deats_is_no_equal_cell(frame_of):
    frame = grid(frame_of)
    decays = {OWN_DECAY: np.where(frame["optimizer.name"] == "deat", 5e-4, 1.118e-3)}
    claim = ledger(Study(frame.assign(**decays)), only="deat_equal_lr")[0]
    assert (claim.verdict, claim.note) == ("not measured", "no cell was run with both DEAT and SGD at the same seed")


def test_controls_have_no_momentum_and_the_decay_that_deat_was_really_run_with(frame_of):
    rows = [{"optimizer.name": "deat", "optimizer.lr": 0.2236}]
    for decay, momentum in itertools.product((5e-4, 1.118e-3, 1e-3, 2.236e-3), (0.0, 0.9)):
        rows.append({"optimizer.lr": 0.1, "optimizer.weight_decay": decay, "optimizer.momentum": momentum})
    rows += [{**row, "batch_size": 64} for row in rows[1:]]  # nor of another batch size
    frame = frame_of([{**row, "last_test_robust": 0.5} for row in rows])
    for own, met in ((5e-4, 1.118e-3), (1e-3, 2.236e-3)):
        known = frame.assign(**{OWN_DECAY: frame["optimizer.weight_decay"].fillna(own)})
        ((deat, sgd),) = matched_controls(known)
        assert (deat, len(sgd)) == ([0], 1)
        assert frame.loc[sgd[0], ["optimizer.weight_decay", "optimizer.momentum"]].tolist() == [met, 0.0]


def test_a_network_without_its_counterpart_has_a_line_that_says_so(frame_of):
    other = grid(frame_of, network="other")
    other = other[other["optimizer.name"] == "sgd"].assign(trial_id=lambda f: "o" + f["trial_id"])
    claims = ledger(Study(pd.concat([grid(frame_of), other], ignore_index=True)), only="deat_equal_lr")
    assert [(claim.network, claim.verdict) for claim in claims] == [
        ("small_cnn", "supported"),
        ("other", "not measured"),
    ]
    assert "  other  not measured: no trial of deat; configs/paper/compare.yaml measures it" in claims_text(claims)


def test_the_legend_and_the_json_say_which_accuracy_it_is(frame_of):
    frame = grid(frame_of).assign(best_test_clean=lambda f: f["last_test_robust"])
    claims = ledger(Study(frame), y="best_test_clean")
    text = " ".join(claims_text(claims).split())
    assert "test clean accuracy, best epoch by validation, in percentage points" in text
    assert {row["y"] for row in json.loads(claims_json(claims))} == {"best_test_clean"}


def controls(frame_of, gain, decay_effect=0.05, seeds=4):
    """configs/controls.yaml: DEAT acts like SGD at lr / sqrt(5), sqrt(5) times the weight decay, plus `gain`."""
    rng, root, rows = np.random.default_rng(3), math.sqrt(5), []
    lrs = (0.02, 0.0447, 0.1, 0.2236)

    def value(lr, decay):
        return 0.5 + 0.03 * np.log10(lr) + decay_effect * np.log10(decay / 5e-4) + NOISE * rng.standard_normal()

    for lr, seed in itertools.product(lrs, range(seeds)):
        shared = {"optimizer.lr": lr, "seed": seed}
        for decay in (5e-4, 1.118e-3):
            robust = value(lr, decay)
            rows.append({**shared, "optimizer.weight_decay": decay, "last_test_robust": robust})
        for k1, decoupled in itertools.product((0.0, 1.0), (True, False)):
            factor = root if k1 else 1.0
            robust = value(lr / factor, 5e-4 * (factor if decoupled else 1)) + gain * (k1 > 0)
            own = {"optimizer.name": "deat", "optimizer.k1": k1, "optimizer.decoupled_weight_decay": decoupled}
            rows.append({**shared, **own, "last_test_robust": robust})
    frame = frame_of(rows)
    return frame.assign(**{OWN_DECAY: frame["optimizer.weight_decay"].fillna(5e-4)})


@pytest.mark.parametrize(("gain", "verdict"), [(0.02, "supported"), (-0.02, "contradicted")])
def test_the_remaining_gain_is_measured_against_the_sgd_that_deat_acts_like(frame_of, gain, verdict):
    claim = ledger(Study(controls(frame_of, gain)), only="not_weight_decay")[0]
    assert (claim.verdict, claim.n, claim.n_trials) == (verdict, 4, 3 * 4 * 2)
    assert claim.low < gain < claim.high


def test_a_gain_that_is_all_weight_decay_shows_at_equal_lr_and_vanishes_against_its_control(frame_of):
    frame = controls(frame_of, gain=0.0)
    equal, control = (ledger(Study(frame), only=name)[0] for name in ("deat_equal_lr", "not_weight_decay"))
    assert equal.estimate == pytest.approx(0.05 * np.log10(np.sqrt(5)) - 0.03 * np.log10(np.sqrt(5)), abs=0.003)
    assert equal.verdict == "supported"
    assert abs(control.estimate) < 0.002
    assert control.verdict == "undecided"


def test_each_deat_cell_meets_the_control_with_its_effective_lr_and_weight_decay(frame_of):
    frame = controls(frame_of, 0.0, seeds=1).reset_index(drop=True)
    pairs = matched_controls(frame)
    met = [(frame["optimizer.lr"][deat[0]], frame["optimizer.lr"][sgd[0]]) for deat, sgd in pairs]
    assert met == [(0.0447, 0.02), (0.1, 0.0447), (0.2236, 0.1)]
    assert {frame["optimizer.weight_decay"][sgd[0]] for _, sgd in pairs} == {1.118e-3}


def constants(frame_of, effect, noise=NOISE, seeds=4):
    rng = np.random.default_rng(5)
    return frame_of(
        [
            {
                **{"optimizer.name": "deat", "optimizer.k1": k1, "optimizer.k2": k2, "seed": seed},
                "last_test_robust": 0.5 + effect * k1 + noise * rng.standard_normal() + 0.02 * seed,
            }
            for k1, k2, seed in itertools.product((0.0, 0.5, 1.0), (0.2, 0.8), range(seeds))
        ]
    )


@pytest.mark.parametrize(
    ("effect", "noise", "verdict"),
    [(0.0, 0.001, "supported"), (0.05, 0.001, "contradicted"), (0.0, 0.02, "undecided"), (0.01, 0.001, "undecided")],
)
def test_k1_and_k2_hardly_matter_only_if_the_largest_difference_is_bounded(frame_of, effect, noise, verdict):
    claim = ledger(Study(constants(frame_of, effect, noise)), only="k1_k2")[0]
    assert claim.verdict == verdict
    assert claim.low <= effect <= claim.high + 1e-9


def test_k1_and_k2_are_compared_at_the_learning_rates_and_seeds_that_all_settings_have(frame_of):
    frame = constants(frame_of, 0.01)
    (expected,) = ledger(Study(frame), only="k1_k2")
    high = frame[frame["optimizer.k1"] > 0.6].assign(**{"optimizer.lr": 0.2}, last_test_robust=0.9)
    sgd = frame_of([{"seed": seed, "last_test_robust": 0.3} for seed in range(40)])
    others = [part.assign(trial_id=name + part["trial_id"]) for name, part in (("h", high), ("s", sgd))]
    (found,) = ledger(Study(pd.concat([frame, *others], ignore_index=True)[list(frame.columns)]), only="k1_k2")
    assert (found.estimate, found.low, found.high, found.n) == (expected.estimate, expected.low, expected.high, 4)
    assert (found.n_trials, found.left_out) == (24, {UNMATCHED: len(high) + 40})


@pytest.mark.parametrize("place", [{"optimizer.lr": 0.2}, {"batch_size": 32}])
def test_a_setting_that_was_not_run_where_most_others_were_takes_nothing_from_them(frame_of, place):
    frame = constants(frame_of, 0.01)
    (expected,) = ledger(Study(frame), only="k1_k2")
    odd = frame.iloc[:4].assign(**{"optimizer.k1": 3.0, **place}, last_test_robust=0.9)
    odd["trial_id"] = "o" + odd["trial_id"]
    (found,) = ledger(Study(pd.concat([odd, frame], ignore_index=True)), only="k1_k2")
    assert (found.estimate, found.low, found.high, found.n) == (expected.estimate, expected.low, expected.high, 4)
    assert (found.n_trials, found.left_out) == (24, {UNMATCHED: 4})


def test_settings_each_with_a_learning_rate_and_batch_size_of_its_own_cannot_be_compared(frame_of):
    frame = constants(frame_of, 0.01)
    alone = 0.1 * (1 + frame["optimizer.k1"] + 10 * frame["optimizer.k2"])
    (found,) = ledger(Study(frame.assign(**{"optimizer.lr": alone})), only="k1_k2")
    assert (found.verdict, found.note) == (
        "not measured",
        "no two settings of k1 and k2 were run at the same optimizer.lr",
    )
    (found,) = ledger(Study(frame[frame["seed"] == 0]), only="k1_k2")
    assert found.note == "2 seeds of 2 settings are needed for a bound; run more seeds"


def test_a_largest_difference_has_no_mean_over_networks(frame_of):
    one = constants(frame_of, 0.0)
    other = one.assign(**{"model.name": "other"}, trial_id="o" + one["trial_id"])
    claims = ledger(Study(pd.concat([one, other], ignore_index=True)), only="k1_k2")
    assert [(claim.network, claim.verdict) for claim in claims] == [("small_cnn", "supported"), ("other", "supported")]


def test_trials_that_all_diverged_measure_nothing_and_are_counted(frame_of):
    frame = grid(frame_of).assign(outcome="diverged")
    for claim in ledger(Study(frame)):
        assert (claim.verdict, claim.note, claim.left_out) == ("not measured", "no completed trial", {"diverged": 96})


def test_a_network_whose_trials_all_diverged_hides_no_other(frame_of):
    lost = grid(frame_of, network="a").assign(outcome="diverged")
    found = ledger(Study(pd.concat([lost, grid(frame_of, network="b")], ignore_index=True)), only="deat_equal_lr")
    assert [(claim.network, claim.verdict) for claim in found] == [("a", "not measured"), ("b", "supported")]


def test_k1_k2_says_which_of_them_is_not_varied(frame_of):
    frame = constants(frame_of, 0.0)
    found = k1_k2(frame[frame["optimizer.k2"] == 0.8], Options())
    assert found == NotMeasured("optimizer.k2 is not varied")
    assert ledger(Study(frame), only="ratio_only")[0].note.startswith("the learning rate is not varied")
    assert isinstance(ratio_only(frame, Options()), NotMeasured)


def test_along_one_ratio_it_is_said_that_it_has_one_value(frame_of):
    rows = [
        {"optimizer.lr": 0.1 * k, "batch_size": 32 * k, "seed": seed, "last_test_robust": 0.5 + 0.01 * seed}
        for k, seed in itertools.product((1, 2, 3, 5, 6, 7, 9, 10), range(3))
    ]
    frame = frame_of(rows)
    assert len(set(frame["lr_batch_ratio"])) > 1  # by rounding alone
    told = "lr / batch size has one value, so that nothing shows its own effect"
    assert [lines(frame)[name, ""].note for name in ("ratio", "ratio_only")] == [told] * 2
    fixed = frame[frame["batch_size"] == 32]
    assert lines(fixed)["ratio", ""].note == "neither the learning rate nor the batch size is varied"


def test_settings_each_with_a_ratio_of_its_own_have_no_slope_and_no_seed_is_missed(frame_of):
    rows = [
        {"optimizer.lr": 0.1 * k, "batch_size": 32, "attack.steps": k, "seed": seed}
        for k, seed in itertools.product((1, 2, 3, 5), range(3))
    ]
    frame = frame_of([{**row, "last_test_robust": 0.5 + 0.01 * row["seed"]} for row in rows])
    told = "too few cells that differ in nothing else completed the same seeds for a slope"
    assert lines(frame)["ratio", ""].note == told
    bound = [{**row, "optimizer.lr": 0.2, "batch_size": 64} for row in rows] + rows
    frame = frame_of([{**row, "last_test_robust": 0.5 + 0.01 * row["seed"]} for row in bound])
    assert lines(frame)["ratio_only", ""].note.endswith(" (at one setting of what else is varied)")


def test_one_seed_decides_nothing_however_far_its_interval_over_cells_is_from_the_threshold(frame_of):
    one = ledger(Study(grid(frame_of, seeds=1, gain=0.1)))
    found = {(claim.name, claim.of): claim for claim in one if claim.verdict != "not measured"}
    assert {name for name, _ in found} == {"ratio", "ratio_only", "deat_equal_lr", "deat_own_best", "no_extra_time"}
    assert {claim.verdict for claim in found.values()} == {"undecided"}
    assert all(claim.reason.startswith("there is one seed, whose chance all cells share") for claim in found.values())
    assert not any(np.isfinite([claim.p, claim.p_holm]).any() for claim in found.values())
    claim = found["deat_equal_lr", ""]
    assert (claim.replicate, claim.n, claim.further) == ("cell", 12, None)
    assert 0 < claim.low < claim.estimate < claim.high
    assert found["deat_own_best", ""].reason.endswith("run a second seed; one cell gives no interval")
    assert sentence(claim).endswith(claim.reason)


def test_one_seed_in_each_of_several_networks_decides_nothing_over_them_either(frame_of):
    frames = [grid(frame_of, seeds=1, network=name) for name in ("vgg11", "vgg13", "vgg16")]
    found = {claim.network: claim for claim in ledger(Study(pd.concat(frames)), only="deat_equal_lr")}
    assert {claim.verdict for claim in found.values()} == {"undecided"}
    assert found["3 networks"].n == 3
    assert found["3 networks"].reason.startswith("there is one seed")


def test_seeds_whose_differences_are_equal_say_so_beside_what_else_keeps_them_undecided(frame_of):
    claim = ledger(Study(grid(frame_of, seeds=2, noise=0.0)), only="deat_own_best")[0]
    assert claim.reason.startswith("the same seeds chose each method's best cell")
    assert claim.reason.endswith("; the 2 seeds' effects are equal, which gives no interval")


def test_own_best_names_what_else_its_sides_differ_in(frame_of):
    rows = [
        {"optimizer.name": name, "seed": seed, "attack.batch_norm": mode, "last_test_robust": 0.5 + 0.01 * seed}
        for name, mode in (("sgd", "train"), ("deat", "eval"))
        for seed in range(2)
    ]
    frame = frame_of([{**row, "last_val_robust": row["last_test_robust"]} for row in rows])
    frame[OWN["optimizer.momentum"]] = np.where(frame["optimizer.name"] == "sgd", 0.9, np.nan)
    note = ledger(Study(frame), only="deat_own_best")[0].note
    told = "attack.batch_norm (eval for DEAT, train for SGD), momentum (0.9 for SGD, none for DEAT)"
    assert note.endswith(f"the sides differ also in {told}")


def test_one_seed_left_to_confirm_is_told_from_a_run_of_one_seed(frame_of):
    study = chosen_by(Study(grid(frame_of, seeds=2)), [0])
    claim = ledger(study, only="deat_own_best")[0]
    assert claim.verdict == "undecided"
    assert math.isnan(claim.p)
    assert claim.reason.startswith("one seed alone is left to compare")


def test_of_one_seed_the_slope_on_the_ratio_is_scipys_over_cells(frame_of):
    frame = grid(frame_of, seeds=1, noise=0.02)
    for method, rows in frame.groupby("method"):
        claim, y = lines(frame)["ratio", method], rows["last_test_robust"]
        expected = stats.linregress(np.log10(rows["lr_batch_ratio"]), y)
        half = stats.t.ppf(0.975, 10) * expected.stderr
        assert claim.estimate == pytest.approx(expected.slope)
        assert (claim.low, claim.high) == pytest.approx((expected.slope - half, expected.slope + half))


def test_of_two_blocks_as_large_the_one_of_more_seeds_counts(frame_of):
    frame = grid(frame_of)
    everywhere = (frame["batch_size"] == 64) | (frame["batch_size"] == 32) & (frame["optimizer.lr"] > 0.1)
    frame = frame[(frame["method"] == "DEAT") & ((frame["seed"] < 2) | everywhere)]
    assert Block.of(frame, "last_test_robust").table.shape == (6, 4)


def test_a_constant_that_was_drawn_near_its_published_value_was_not_asked_for(frame_of):
    values = {1.0: 0.8, 1.001: 0.8, 0.999: 0.8}
    frame = frame_of([{"optimizer.name": "deat", "optimizer.k1": k1, "optimizer.k2": k2} for k1, k2 in values.items()])
    assert published_settings(frame)["optimizer.k1"].tolist() == [1.0]
    assert len(published_settings(frame.iloc[1:])) == 2


def test_networks_are_replicates_of_their_mean_effect(frame_of):
    parts = [grid(frame_of, gain=gain, network=name) for gain, name in ((0.02, "a"), (0.03, "b"), (0.025, "c"))]
    frame = pd.concat(
        [part.assign(trial_id=part["trial_id"] + str(n)) for n, part in enumerate(parts)], ignore_index=True
    )
    found = {claim.network: claim for claim in ledger(Study(frame), only="deat_equal_lr")}
    values = [found[name].estimate for name in "abc"]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found["3 networks"].low, found["3 networks"].high) == pytest.approx(tuple(expected))
    assert (found["3 networks"].n, found["3 networks"].replicate) == (3, "network")
    two = ledger(Study(frame[frame["model.name"] != "c"]), only="deat_equal_lr")
    assert [(claim.network, claim.n) for claim in two] == [("a", 4), ("b", 4), ("2 networks", 2)]
    stopped = ledger(Study(frame, {"deat_equal_lr": frozenset(frame["trial_id"])}), only="deat_equal_lr")
    assert [claim.network for claim in stopped] == ["a", "b", "c"]


def test_a_run_that_was_stopped_has_wider_intervals_and_its_claim_a_family_of_its_own(frame_of):
    frame = grid(frame_of, seeds=8, noise=0.01)
    plain = ledger(Study(frame))
    stopped = ledger(Study(frame, {"deat_equal_lr": frozenset(frame["trial_id"])}))
    for before, after in zip(plain, stopped, strict=True):
        if before.verdict != "not measured":
            assert after.sequential
            assert after.high - after.low > before.high - before.low
    own = next(claim for claim in stopped if claim.name == "deat_equal_lr")
    assert own.p_holm == own.p


def test_a_largest_difference_that_was_stopped_at_has_the_wider_sequence(frame_of):
    frame = constants(frame_of, 0.0, seeds=6)
    (plain,) = ledger(Study(frame), only="k1_k2")
    (stopped,) = ledger(Study(frame, {"k1_k2": frozenset(frame["trial_id"])}), only="k1_k2")
    assert (plain.sequential, stopped.sequential, stopped.estimate) == (False, True, plain.estimate)
    assert stopped.high > plain.high


def test_a_run_that_looks_after_its_first_seed_knows_no_spread_yet(frame_of):
    frame = grid(frame_of, seeds=1)
    found = ledger(Study(frame, {"deat_equal_lr": frozenset(frame["trial_id"])}))
    looked = [claim for claim in found if claim.verdict != "not measured"]
    assert {(claim.replicate, claim.n, claim.verdict) for claim in looked} == {("seed", 1, "undecided")}
    assert np.isnan([(claim.low, claim.high, claim.p) for claim in looked]).all()


def test_a_stopped_runs_claim_is_of_the_trials_that_its_launches_wanted(frame_of):
    frame = grid(frame_of, seeds=5)
    wanted = frame[frame["optimizer.lr"] == 0.1]
    claim = next(
        c for c in ledger(Study(frame, {"no_extra_time": frozenset(wanted["trial_id"])})) if c.name == "no_extra_time"
    )
    assert claim.n_trials == len(wanted)


@pytest.mark.parametrize(
    ("command", "claim"),
    [
        ("sweep launch c.yaml --decide ratio --budget-hours 1", "ratio"),
        ("sweep launch c.yaml --decide=k1_k2 --budget-hours 1", "k1_k2"),
        ("sweep launch c.yaml", None),
        ("sweep launch ratio", None),
        ("sweep launch 'unfinished", None),
    ],
)
def test_a_launch_of_older_code_is_known_by_its_command_and_a_new_one_by_its_field_alone(command, claim):
    assert decided_by({"command": command}).get("claim") == claim
    assert decided_by({"command": command, "decides": None}) == {}
    assert decided_by({"command": command, "decides": {"claim": "ratio"}}) == {"claim": "ratio"}


def test_times_are_of_training_alone_in_the_median_epoch(run):
    run.launch()
    for seed, name in itertools.product((0, 1), ("sgd", "deat")):
        trial = f"{name}{seed}"
        run.trial(trial, seed=seed, optimizer__name=name)
        run.start(trial)
        for epoch, seconds in enumerate((9.0, 1.0, 1.0 + (name == "deat") * (1 + 0.01 * seed)), start=1):
            run.epoch(trial, epoch, 0.5, seconds=seconds, evaluation_seconds=100.0)
        run.outcome(trial, epochs=3)
    study = load_study(run.directory)
    assert study.trials.set_index("trial_id")[EPOCH_SECONDS].to_dict() == {
        "sgd0": 1.0,
        "deat0": 2.0,
        "sgd1": 1.0,
        "deat1": 2.01,
    }
    assert study.launched == {}


def test_times_of_epochs_that_a_shorter_trial_trained_are_of_another_time_and_left_out(run):
    run.launch()
    run.trial("long")
    run.start("long")
    run.resume("long", 2, from_trial="short")
    for epoch, seconds in enumerate((9.0, 9.0, 1.0, 2.0, 3.0), start=1):
        run.epoch("long", epoch, 0.5, seconds=seconds)
    run.outcome("long", epochs=5)
    study = load_study(run.directory)
    assert study.trials[EPOCH_SECONDS].tolist() == [2.0]
    assert study.trials["seconds"].tolist() == [24.0]  # of the whole trial, whoever trained it


@pytest.fixture(scope="module")
def study_of_the_paper() -> tuple[Claim, ...]:
    return ledger(published())


def test_the_published_numbers_support_the_ratio_and_the_gain_at_equal_lr(study_of_the_paper):
    verdicts = {(c.name, c.network, c.of): c.verdict for c in study_of_the_paper}
    for key, verdict in verdicts.items():
        if key[0] in ("ratio", "deat_equal_lr"):
            assert verdict == "supported", key
    unmeasured = {c.name for c in study_of_the_paper if c.verdict == "not measured"}
    assert unmeasured == {"ratio_only", "not_weight_decay", "k1_k2", "no_extra_time"}
    assert all(c.config for c in study_of_the_paper if c.verdict == "not measured")
    assert not any(c.sequential for c in study_of_the_paper)
    means = "each cell is the mean of 3 runs, which are not published; "
    for claim in (c for c in study_of_the_paper if c.network):
        alone = "networks" not in claim.network
        assert (means.rstrip("; ") in claim.note) is alone, claim
        assert ("the cells of one network stand in for seeds" in claim.caveat) is alone, claim
        assert not alone or "the cells of one network stand in for seeds" in answer(claim)


def test_the_published_gain_at_each_ones_best_lr_is_undecided_over_three_networks(study_of_the_paper):
    found = {c.network: c for c in study_of_the_paper if c.name == "deat_own_best"}
    assert [100 * found[name].estimate for name in ("preact_resnet18", "senet18", "vgg19")] == pytest.approx(
        [1.45, 2.07, 0.76], abs=0.01
    )
    assert found["3 networks"].verdict == "undecided"
    # The sweep's metric and mode are of a run: the study has its test accuracy alone.
    assert "the test set chose the cells, as there is no other" in found["vgg19"].note
    other = ledger(published(), only="deat_own_best", metric="val_robust_loss", mode="min")
    assert [line.estimate for line in other] == [line.estimate for line in found.values()]
    assert (100 * found["3 networks"].low, 100 * found["3 networks"].high) == pytest.approx((-0.20, 3.05), abs=0.01)


def test_the_published_mean_gain_over_networks(study_of_the_paper):
    found = {c.network: c for c in study_of_the_paper if c.name == "deat_equal_lr"}
    assert 100 * found["3 networks"].estimate == pytest.approx(1.08, abs=0.01)
    assert found["senet18"].n == 25


def test_json_holds_every_field_and_no_nan(study_of_the_paper):
    rows = json.loads(claims_json(study_of_the_paper))
    assert {row["name"] for row in rows} == set(NAMES)
    assert set(rows[0]) == set(Claim.__dataclass_fields__)
    assert json.loads(claims_json([replace(study_of_the_paper[0], low=-math.inf)]))[0]["low"] is None


def test_text_is_no_wider_than_100_columns_and_names_every_claim(study_of_the_paper, frame_of):
    for found in (study_of_the_paper, ledger(Study(grid(frame_of, noise=0.05)))):
        text = claims_text(found)
        assert max(map(len, text.splitlines())) <= 100
        assert all(f"{name}: " in text for name in NAMES)
        assert "[nan" not in text


def test_a_look_is_one_line_in_points(frame_of):
    claim = lines(grid(frame_of, noise=0.0))["deat_equal_lr", ""]
    said = "deat_equal_lr, small_cnn: +2.00 [no interval] percentage points, n = 4 seeds, p (Holm) none: undecided"
    assert sentence(claim) == f"{said} because the 4 seeds' effects are equal, which gives no interval"


@pytest.mark.parametrize(
    ("name", "estimate", "threshold", "agrees", "gap"),
    [
        ("ratio", 0.02, 0.0, True, 0.02),
        ("ratio", -0.02, 0.0, False, 0.02),
        ("ratio", 0.0, 0.0, False, 0.0),
        ("ratio_only", -0.004, 0.01, True, 0.006),
        ("ratio_only", -0.03, 0.01, False, 0.02),
        ("ratio_only", 0.03, 0.01, False, 0.02),
        ("k1_k2", 0.004, 0.01, True, 0.006),
        ("no_extra_time", -0.2, 0.05, True, 0.25),
        ("no_extra_time", 0.2, 0.05, False, 0.15),
    ],
)
def test_a_claim_is_as_far_from_being_decided_as_its_estimate_from_the_nearest_threshold(
    name, estimate, threshold, agrees, gap
):
    asked = question(name)
    assert asked.agrees(estimate, threshold) == agrees
    assert asked.gap(estimate, threshold) == pytest.approx(gap)


def test_a_point_and_5_percent_of_time_pass_for_none_unless_others_are_asked_for():
    thresholds = {line.name: line.threshold for line in ledger(Study(DataFrame(columns=["model.name"])))}
    assert thresholds == pytest.approx(
        {**dict.fromkeys(NAMES, 0.0), "ratio_only": 0.01, "k1_k2": 0.01, "no_extra_time": 1.05}
    )


def test_rules_say_where_a_claim_holds(frame_of):
    found = lines(grid(frame_of), margin=0.02, time_margin=0.1)
    assert rule(found["deat_equal_lr", ""]) == "holds above 0 percentage points"
    assert rule(found["ratio_only", "DEAT"]) == "holds within +-2 percentage points a decade"
    assert rule(found["no_extra_time", ""]) == "holds below 10 % more time"


def test_an_unknown_claim_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"^ratoi: no such claim; did you mean 'ratio'\?$"):
        question("ratoi")


def control_run(run, **base):
    """DEAT at 0.2236 and the SGD that it acts like, two seeds; `base`: what a base config sets of one optimizer."""
    for seed in (0, 1):
        for name, lr, decay in (("deat", 0.2236, 5e-4), ("sgd", 0.1, 1.118e-3), ("sgd", 0.2236, 5e-4)):
            own = {f"optimizer.{key}": value for key, value in base.get(name, {}).items()}
            config = {"optimizer.weight_decay": decay, **own}
            point = {"optimizer__name": name, "optimizer__lr": lr}
            run.whole(f"{name}{lr}{seed}", [0.4, 0.5 + 0.01 * seed], seed=seed, config=config, **point)
    (claim,) = ledger(load_study(run.directory), only="not_weight_decay")
    return claim


@pytest.mark.parametrize(
    ("base", "note"),
    [
        ({"sgd": {"momentum": 0.9, "nesterov": True}}, "SGD was run with momentum 0.9 alone, whose steps are longer"),
        (
            {"sgd": {"momentum": 0.9}},
            "SGD was run with momentum 0.9 alone, whose steps are longer at its lr: a control",
        ),
        ({"deat": {"decoupled_weight_decay": False}}, "DEAT was run with k1 0 or with coupled decay alone"),
        ({"deat": {"k1": 0.0}}, "DEAT was run with k1 0 or with coupled decay alone"),
        ({"deat": {"k1": 0.5}}, "the controls were not run: no SGD trial has the learning rate and weight decay"),
    ],
)
def test_what_a_base_config_sets_makes_no_control_of_what_is_none_and_the_reason_is_said(run, base, note):
    claim = control_run(run, **base)
    assert claim.verdict == "not measured"
    assert claim.note.startswith(note)


def test_base_configs_as_published_are_controls(run):
    claim = control_run(run, sgd={"momentum": 0.0}, deat={"k1": 1.0, "decoupled_weight_decay": True})
    assert (claim.n, claim.n_trials) == (2, 4)


def test_at_equal_lr_sgds_momentum_is_said(run):
    control_run(run, sgd={"momentum": 0.9, "weight_decay": 5e-4})
    (claim,) = ledger(load_study(run.directory), only="deat_equal_lr")
    assert (claim.n, claim.note) == (2, "SGD has momentum 0.9, DEAT none: at equal lr SGD's steps are longer")


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_polynomials_of_each_group_leave_is_what_the_whole_design_leaves(degree: int) -> None:
    draws = np.random.default_rng(degree)
    for _ in range(20):
        n = int(draws.integers(2, 40))
        x, r = draws.normal(size=n), draws.choice(draws.normal(size=6), n)
        groups = np.unique(draws.integers(0, 5, n), return_inverse=True)[1]
        others = np.column_stack([(groups[:, None] == np.unique(groups)) * r[:, None] ** p for p in range(degree + 1)])
        left = _left_of(x, r, groups, degree)
        assert left == pytest.approx(x - others @ (np.linalg.pinv(others) @ x), abs=1e-8)
        if np.abs(left).max() > 1e-3:
            assert left / (left @ left) == pytest.approx(np.linalg.pinv(np.column_stack([x, others]))[0], abs=1e-6)
