"""Where each trial has its bits of the test images, every answer holds both errors, and says so; else which one."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.claims.ledger import ledger
from analysis.claims.study import Study
from analysis.estimates.crossed import half_width, image_variance
from analysis.estimates.evaluated import evaluated, over_seeds, with_evaluation_bits
from analysis.estimates.intervals import difference_error, mean_error
from analysis.estimates.methods import comparison, results_frame
from analysis.estimates.slot_effects import slot_effects
from analysis.frames.bits import BITS, TrialBits
from analysis.frames.evaluations import evaluations_of
from analysis.frames.log import read_log
from analysis.plots.methods import caption
from analysis.tables.claims import claims_text, errors_text, judged_lines
from analysis.tables.methods import as_judged, effects_as_judged, effects_rows, methods_text, notes
from sweep.cli import main
from trainers.ladder.bits import packed
from trainers.record import RecordFile

Y, IMAGES, SEEDS = "last_test_robust", 300, 4
OBJECTIVES = ("pgd_at", "trades", "mart")


def drawn(rng, methods, seeds=SEEDS, images=IMAGES):
    """Bits (methods, seeds, images): images differ in how hard they are, for all methods and for each."""
    hard = rng.standard_normal(images) + 0.5 * rng.standard_normal((methods, 1, images))
    return (
        hard + 0.4 * rng.standard_normal((methods, seeds, images)) + 0.05 * rng.standard_normal((methods, seeds, 1)) > 0
    )


def with_bits(frame, bits):
    """The frame with one trial's bits a row, (rows, images), its accuracies those of the bits."""
    column = [
        TrialBits(name, "f", bits.shape[1], {Y: right}) for name, right in zip(frame["trial_id"], bits, strict=True)
    ]
    return frame.assign(**{Y: bits.mean(axis=1), BITS: column})


@pytest.fixture
def of_methods(frame_of):
    """Three methods of one cell each, and their bits, (methods, seeds, images)."""
    bits = drawn(np.random.default_rng(0), len(OBJECTIVES))
    rows = [
        {"objective.name": name, "seed": seed, Y: 0.5, "last_val_robust": 0.5, "last_test_clean": 0.5 + 0.01 * seed}
        for name, seed in itertools.product(OBJECTIVES, range(SEEDS))
    ]
    return with_bits(frame_of(rows), bits.reshape(-1, IMAGES)), bits.astype(float)


@pytest.fixture
def of_optimizers(frame_of):
    """SGD and DEAT at two learning rates, and their bits, (optimizers, learning rates, seeds, images)."""
    bits = drawn(np.random.default_rng(1), 4)
    rows = [
        {"optimizer.name": name, "optimizer.lr": lr, "seed": seed, Y: 0.5, "last_val_robust": 0.5}
        for name, lr, seed in itertools.product(("sgd", "deat"), (0.1, 0.2), range(SEEDS))
    ]
    return with_bits(frame_of(rows), bits.reshape(-1, IMAGES)), bits.astype(float).reshape(2, 2, SEEDS, IMAGES)


def test_methods_differences_hold_the_error_of_the_images(of_methods):
    frame, bits = of_methods
    pgd, trades, _ = bits
    found = {row.method: row for row in comparison(frame)}["TRADES"]
    error, images = difference_error(bits.mean(axis=2)), image_variance(trades - pgd)
    half = half_width(*error, images, 0.05)
    assert images > 0
    assert found.difference == pytest.approx(
        (found.difference.value, *(found.difference.value + half * np.array([-1, 1])))
    )
    assert half > half_width(*error, 0.0, 0.05)
    alone = {row.method: row for row in comparison(frame.drop(columns=BITS))}["TRADES"]
    assert found.own == alone.own  # these seeds on these images
    assert found.p_value > alone.p_value
    assert found.test == "paired by seed, variance pooled over 3 methods, paired by image"


def test_a_methods_own_accuracy_holds_the_error_of_the_images(of_methods):
    frame, bits = of_methods
    found = {row.method: row for row in comparison(frame)}["MART"]
    half = half_width(*mean_error(bits.mean(axis=2)), image_variance(bits[2]), 0.05)
    assert found.robust.high - found.robust.value == pytest.approx(half)
    assert half > 1.9 * np.sqrt(
        0.25 / IMAGES
    )  # no less than a binomial's, for the images are not seen alike by all seeds
    assert found.robust_interval == "seeds and test images, variance pooled over 3 methods"
    assert found.clean_interval == "t, variance pooled over 3 methods"  # of which there are no bits


def test_a_slots_effect_holds_the_error_of_the_images(of_methods):
    frame, bits = of_methods
    (found,) = [effect for effect in slot_effects(frame) if effect.label == "TRADES - PGD-AT"]
    gains = bits[1] - bits[0]
    error = gains.mean(axis=1).std(ddof=1) / np.sqrt(SEEDS)
    half = half_width(error, SEEDS - 1, image_variance(gains), 0.05)
    assert (found.high - found.estimate, found.holds) == (pytest.approx(half), "seeds and test images")


def test_seeds_of_their_own_are_paired_by_image_alone(of_methods):
    frame, _ = of_methods
    other = frame.assign(seed=frame["seed"] + 10 * (frame["method"] == "TRADES"))
    found = {row.method: row for row in comparison(other)}["TRADES"]
    assert found.test == "Welch, paired by image"
    assert found.difference.high - found.difference.low >= found.own.high - found.own.low


def test_a_claims_interval_p_and_verdict_hold_both_errors_and_the_seeds_alone_stand_beside(of_optimizers):
    frame, bits = of_optimizers
    found = {claim.name: claim for claim in ledger(Study(frame))}["deat_equal_lr"]
    gains = bits[1].mean(axis=0) - bits[0].mean(axis=0)
    error = gains.mean(axis=1).std(ddof=1) / np.sqrt(SEEDS)
    half = half_width(error, SEEDS - 1, image_variance(gains), 0.05)
    assert (found.low, found.high) == pytest.approx((found.estimate - half, found.estimate + half))
    alone = {claim.name: claim for claim in ledger(Study(frame.drop(columns=BITS)))}["deat_equal_lr"]
    assert (found.seeds_low, found.seeds_high) == pytest.approx((alone.low, alone.high))
    assert (found.holds, alone.holds, alone.seeds_low) == (
        "seeds and test images",
        "seeds",
        pytest.approx(np.nan, nan_ok=True),
    )
    assert found.p > alone.p
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_a_slope_over_learning_rates_holds_both_errors(of_optimizers):
    frame, bits = of_optimizers
    found = {(claim.name, claim.of): claim for claim in ledger(Study(frame))}["ratio", "DEAT"]
    gains = (bits[1, 1] - bits[1, 0]) / np.log10(2)
    error = gains.mean(axis=1).std(ddof=1) / np.sqrt(SEEDS)
    assert found.high - found.estimate == pytest.approx(half_width(error, SEEDS - 1, image_variance(gains), 0.05))


def test_an_n_that_was_stopped_at_is_about_seeds_alone(of_optimizers):
    frame, _ = of_optimizers
    launched = {"deat_equal_lr": frozenset(frame["trial_id"])}
    found = {claim.name: claim for claim in ledger(Study(frame, launched))}["deat_equal_lr"]
    assert (found.sequential, found.holds) == (True, "seeds")


def test_the_methods_and_the_ledger_say_the_same_of_deat(of_optimizers):
    frame, _ = of_optimizers
    frame = frame[frame["optimizer.lr"] == 0.1]
    claims = ledger(Study(frame))
    (claim,) = [claim for claim in claims if claim.name == "deat_own_best"]
    row = {row.method: row for row in as_judged(comparison(frame), claims)}["DEAT"]
    assert row.difference == pytest.approx((claim.estimate, claim.low, claim.high))
    own = {row.method: row for row in comparison(frame)}["DEAT"]
    assert (own.difference.low, own.p_value) == pytest.approx((claim.low, claim.p))  # two methods: one answer, two ways
    (effect,) = effects_as_judged([one for one in slot_effects(frame) if one.label.startswith("DEAT")], claims)
    assert (effect.low, effect.holds) == (pytest.approx(claim.low), claim.holds)


def test_every_text_says_whose_error_it_holds(of_optimizers, of_methods):
    frame, _ = of_optimizers
    both, alone = (ledger(Study(rows)) for rows in (frame, frame.drop(columns=BITS)))
    assert errors_text(both) == "over seeds and test images"
    assert errors_text(alone) == "without the error of the test set"
    most = [claim if claim.name == "ratio" else old for claim, old in zip(both, alone, strict=True)]
    without = "deat_equal_lr, deat_own_best without the error of the test set"
    assert errors_text(most) == f"over seeds and test images; only those of {without}"
    first = next(place for place, claim in enumerate(both) if claim.name == "ratio")
    few = [*alone[:first], both[first], *alone[first + 1 :]]
    of = f"ratio ({both[first].network}, {both[first].of})"
    assert errors_text(few) == f"without the error of the test set; only those of {of} over seeds and test images"
    assert "over seeds alone, on these test images: " in claims_text(both)
    assert "on these test images" not in claims_text(alone)
    assert judged_lines(alone)[0].startswith(
        "claims, as `sweep claims` judges them (95 % intervals without the error of the test set; "
    )
    frame, _ = of_methods
    without = comparison(frame.drop(columns=BITS))
    assert "They leave out the error of the test set" in " ".join(notes(without))
    mixed = notes(comparison(frame))[1]
    assert "those over seeds alone that of the test set too" in mixed
    bits = [TrialBits(one.trial_id, "f", IMAGES, {**one.right, "last_test_clean": one.right[Y]}) for one in frame[BITS]]
    whole = comparison(frame.assign(**{BITS: bits, "last_test_clean": frame[Y]}))
    assert notes(whole)[1] == (
        "brackets: 95 % intervals over seeds and test images (variance pooled over 3 methods). They leave out the "
        "error of choosing the cell"
    )
    (pooled,) = {one.robust_interval for one in whole}
    apart = [
        replace(one, clean_interval=pooled.replace("pooled over 3 methods", "of the method's own seeds"))
        for one in whole
    ]
    assert "(robust: variance pooled over 3 methods; clean: variance of the method's own seeds)" in notes(apart)[1]
    assert "95 % interval over seeds and test images" in methods_text(whole, slot_effects(frame), "markdown")
    assert effects_rows(slot_effects(frame))


@pytest.fixture
def attacked(run):
    """A run of three methods and three seeds, and evaluations of them with bits, (methods, seeds, images)."""
    bits, config = drawn(np.random.default_rng(2), 3, 3, 80), {"evaluation.radius": 0.1, "attack.norm": "linf"}
    ids = [[f"{name}{seed}" for seed in range(3)] for name in OBJECTIVES]
    for name, rows in zip(OBJECTIVES, ids, strict=True):
        for seed, trial in enumerate(rows):
            run.whole(trial, [0.4, 0.5 + 0.01 * seed], seed=seed, config=config, objective__name=name)
    run.close()

    def write(attack, radius=0.1, only=OBJECTIVES, images=80, right=bits, weights="last"):
        file = RecordFile(run.directory)
        for name, rows, of_method in zip(OBJECTIVES, ids, right, strict=True):
            for trial, one in zip(rows, of_method, strict=True):
                if name in only:
                    said = {"trial_id": trial, "weights": weights, "averaged": False, "attack": attack, "split": "test"}
                    text = packed(one[:images])
                    counted = {"clean_correct": images, "correct": int(one[:images].sum()), "right": text}
                    parameters = {"norm": "linf", "radius": radius}
                    chunk = {"first": 0, "images": images, "asked": images, "seconds": 1.0, "fingerprint": "f"}
                    clean = packed(np.ones(images, bool))
                    file.append(
                        "evaluation", {**said, "parameters": parameters, **counted, **chunk, "clean_right": clean}
                    )
        file.close()
        return run.directory

    return write, bits.astype(float)


def asked(directory):
    from analysis.claims.study import load_study

    return evaluated(load_study(directory).trials, read_log(directory))


def test_methods_are_compared_under_the_strongest_attack_that_all_saw(attacked):
    write, bits = attacked
    assert asked(write("autoattack", only=OBJECTIVES[:2])) is None
    write("fgsm")
    assert asked(write("apgd", right=bits[::-1] > 0)).attack["attack"] == "apgd"
    write("apgd", radius=0.3)  # not the radius that training evaluated at
    found = asked(write("autoattack", only=OBJECTIVES[2:]))
    assert (found.attack["attack"], found.attack["radius"], found.attack["images"]) == ("autoattack", 0.1, 80)
    assert list(found.trials[Y]) == pytest.approx(list(bits.mean(axis=2).ravel()))
    row = {row.method: row for row in comparison(found.trials)}["TRADES"]
    half = half_width(*difference_error(bits.mean(axis=2)), image_variance(bits[1] - bits[0]), 0.05)
    assert row.difference.high - row.difference.value == pytest.approx(half)
    assert row.clean_interval == ""  # all right, by every seed: no spread, and no interval


def test_a_trial_attacked_on_more_images_counts_by_those_that_all_saw(attacked):
    write, bits = attacked
    write("apgd", only=OBJECTIVES[:1])
    found = asked(write("apgd", only=OBJECTIVES[1:], images=30))
    assert found.attack["images"] == 30
    assert list(found.trials[Y]) == pytest.approx(list(bits[:, :, :30].mean(axis=2).ravel()))
    assert {one.images for one in found.trials[BITS]} == {30}
    assert np.isfinite(comparison(found.trials)[0].robust.low)


def test_of_several_weights_under_one_attack_the_last_raw_ones_are_compared(attacked):
    write, _ = attacked
    for weights in ("best", "last"):
        directory = write("apgd", weights=weights)
    assert asked(directory).attack["weights"] == "last"


def test_sweep_methods_shows_the_attack_that_was_evaluated_beside_trainings_own(attacked):
    write, bits = attacked
    directory = str(write("apgd", only=OBJECTIVES[:1]))
    shown = CliRunner().invoke(main, ["methods", directory], catch_exceptions=False).output
    assert "under another attack: sweep evaluate" in shown
    assert "methods under" not in shown
    write("apgd")
    shown = CliRunner().invoke(main, ["methods", directory, "--format", "markdown"], catch_exceptions=False).output
    assert "**methods under APGD, radius 0.1, on 80 test images (last epoch)**" in shown
    assert f"| TRADES | 3 | {100 * bits[1].mean():.2f} [" in re.sub(r"\| trades \|", "|", shown)
    told = json.loads(CliRunner().invoke(main, ["methods", directory, "--format", "json"]).stdout)
    assert told["evaluated_under"].startswith("APGD, radius 0.1, on 80 test images")
    (trades,) = [row["robust"] for row in told["evaluated_methods"] if row["method"] == "TRADES"]
    assert trades == pytest.approx(bits[1].mean())
    assert len(told["evaluated_slot_effects"]) == len(told["slot_effects"])
    first, second = shown.split("**methods under")
    assert "accuracies in % at the last epoch" in first
    assert "over seeds and test images" in second
    assert "over seeds and test images" not in first  # training recorded no bits here


def test_an_evaluations_means_over_seeds_hold_both_errors(attacked):
    write, bits = attacked
    log = read_log(write("apgd"))
    rows = evaluations_of(log)
    found = over_seeds(with_evaluation_bits(rows, log)).set_index("method").loc["PGD-AT"]
    error = bits[0].mean(axis=1).std(ddof=1) / np.sqrt(3)
    half = half_width(error, 2, image_variance(bits[0]), 0.05)
    assert (found["n"], found["holds"]) == (3, "seeds and test images")
    assert found["high"] == pytest.approx(min(1.0, bits[0].mean() + half))
    without = over_seeds(with_evaluation_bits(rows, log).assign(**{BITS: None}))
    assert set(without["holds"]) == {"seeds"}
    assert over_seeds(with_evaluation_bits(rows[rows["seed"] == 0], log)).empty


def test_the_ledger_as_json_says_whose_error_each_interval_holds(of_optimizers):
    from analysis.tables.claims import claims_json

    said = {claim["name"]: claim for claim in json.loads(claims_json(ledger(Study(of_optimizers[0]))))}
    assert said["deat_equal_lr"]["holds"] == "seeds and test images"
    assert said["k1_k2"]["holds"] == ""


def test_under_another_attack_too_averaged_methods_are_compared_by_their_averaged_weights(run):
    """One network each; the averaged weights are right of all images, the raw ones of none."""
    for name in ("none", "ema"):
        run.trial(name, config={"evaluation.radius": 0.1}, averaging__name=name)
        run.start(name)
        run.epoch(name, 1, 0.5, averaged_test_robust=0.6, averaged_val_robust=0.6)
        run.outcome(name, epochs=1)
    run.close()
    file = RecordFile(run.directory)

    def write(trial, right, averaged):
        said = {"trial_id": trial, "weights": "last", "averaged": averaged, "attack": "apgd", "split": "test"}
        counted = {"first": 0, "images": 8, "asked": 8, "clean_correct": 8, "correct": 8 * right, "seconds": 1.0}
        parameters = {"norm": "linf", "radius": 0.1}
        file.append("evaluation", {**said, **counted, "parameters": parameters, "right": packed([right] * 8),
                                   "clean_right": packed([True] * 8), "fingerprint": "f"})  # fmt: skip

    write("none", False, averaged=False)
    write("ema", False, averaged=False)
    assert asked(run.directory) is None  # nobody attacked the weights that are compared
    write("ema", True, averaged=True)
    found = asked(run.directory)
    file.close()
    assert {row.method: row.robust.value for row in comparison(found.trials)} == {"PGD-AT, EMA": 1, "PGD-AT": 0}
    assert [bits.of(Y).mean() for bits in found.trials[BITS]] == [0, 1]


def test_a_figure_says_which_of_its_bars_hold_both_errors(of_methods):
    frame, _ = of_methods
    rows = results_frame(comparison(frame)).assign(**{"model.name": "small_cnn"})
    text = " ".join(caption(rows).split())
    assert (
        "t over seeds or over seeds and test images (seeds and test images, variance pooled over 3 methods or t, "
        in text
    )
    assert "those over seeds alone leave out the error of the test set" in text
