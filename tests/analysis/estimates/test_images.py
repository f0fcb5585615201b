"""What images say one by one: closed forms, identities, and by simulation what an interval of the worst class holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.estimates.images import (
    agreement,
    agreement_rows,
    by_class,
    curve_rows,
    with_curve,
    worst_class,
    worst_rows,
)
from analysis.frames.evaluations import wilson
from analysis.frames.images import Classes

RNG = np.random.default_rng(1)
NAMES = ("cat", "dog", "ship")
LABELS = RNG.integers(0, 3, 300)
CLASSES = {"f": Classes(LABELS, RNG.permutation(300), NAMES)}


def row(right: Any, attack: str = "pgd", radius: float = 0.1, **values: Any) -> dict[str, Any]:
    right = np.asarray(right, dtype=bool)
    return {
        **{"trial_id": "a", "source": "evaluation", "weights": "last", "averaged": False, "attack": attack},
        **{"norm": "linf", "radius": radius, "split": "test", "fingerprint": "f", "images": len(right), "right": right},
        **{"clean_right": np.ones(len(right), dtype=bool), "margins": None, **values},
    }


def truth(share: float, n: int = 300) -> NDArray[np.bool_]:
    return RNG.random(n) < share


def test_the_accuracies_by_class_add_up_to_the_accuracy_each_with_wilson_s_interval() -> None:
    right = truth(0.6)
    rows = by_class(right, CLASSES["f"])
    assert rows["class_name"].tolist() == list(NAMES)
    assert rows["images"].sum() == 300
    assert rows["correct"].sum() == right.sum()
    low, high = wilson(right[LABELS == 1].sum(), (LABELS == 1).sum())
    assert rows.loc[1, ["low", "high"]].tolist() == [low, high]


def test_of_the_first_images_alone_a_class_without_any_has_no_row() -> None:
    right = np.ones(2, dtype=bool)
    assert set(by_class(right, CLASSES["f"])["class_number"]) == set(LABELS[:2])


@pytest.mark.parametrize("accuracies", [(0.5,) * 10, tuple(np.linspace(0.2, 0.8, 10)), (0.02,) + (0.6,) * 9])
def test_the_interval_of_the_worst_class_holds_the_lowest_true_accuracy(accuracies: tuple[float, ...]) -> None:
    """Also where classes are equal and the one that is shown is the unluckiest: its own interval then misses often."""
    p, n, tries = np.array(accuracies), 100, 500
    classes = Classes(np.repeat(np.arange(10), n), np.arange(10 * n), tuple("0123456789"))
    rng, held, alone = np.random.default_rng(2), 0, 0
    for _ in range(tries):
        right = rng.random(10 * n) < np.repeat(p, n)
        worst = worst_class(right, classes)
        held += worst.low <= p.min() <= worst.high
        counts = right.reshape(10, n).sum(axis=1)
        low, high = wilson(counts.min(), n)
        alone += bool(low <= p.min() <= high)
    assert held >= 0.95 * tries
    if len(set(accuracies)) == 1:
        assert alone < 0.9 * tries


def test_the_worst_class_is_that_of_the_fewest_right_and_who_else_may_be_it_is_told() -> None:
    right = np.where(LABELS == 1, truth(0.1), truth(0.9))
    worst = worst_class(right, CLASSES["f"])
    assert (worst.class_name, worst.candidates) == ("dog", ("dog",))
    assert worst.accuracy == right[LABELS == 1].mean()
    equal = worst_class(truth(0.5), CLASSES["f"])
    assert set(equal.candidates) == set(NAMES)
    assert equal.candidates[0] == equal.class_name


def test_the_worst_class_is_unknown_where_no_record_says_the_classes() -> None:
    rows = worst_rows(DataFrame([row(truth(0.5)), row(truth(0.5), fingerprint="unknown")]), CLASSES)
    assert rows["worst_class"].isna().tolist() == [False, True]
    assert rows["robust_accuracy"].notna().all()


def test_the_four_counts_of_an_agreement_are_all_images_and_an_attack_agrees_with_itself() -> None:
    first, second = truth(0.6), truth(0.5, 200)
    table = agreement(first, second)
    assert table.images == sum(table[1:]) == 200
    assert table.both_right + table.only_second_breaks == first[:200].sum()
    assert table.share == (first[:200] == second).mean()
    assert agreement(first, first).share == 1


def test_where_autoattack_alone_breaks_is_told_by_the_place_in_the_split() -> None:
    pgd = truth(0.7)
    auto = pgd & truth(0.8)
    frame = DataFrame([row(pgd), row(auto, "autoattack"), row(pgd, radius=0.2), row(auto, "autoattack", 0.3)])
    (only,) = agreement_rows(frame, CLASSES).to_dict("records")
    assert sorted(only["places"]) == sorted(CLASSES["f"].places[pgd & ~auto])
    assert (only["only_first_breaks"], only["only_second_breaks"]) == (0, (pgd & ~auto).sum())
    assert only["low"] < only["agree"] < only["high"]
    assert agreement_rows(frame, {}).loc[0, "places"] is None


def test_an_agreement_is_of_one_network_and_the_same_images() -> None:
    others = [{"trial_id": "b"}, {"weights": "best"}, {"averaged": True}, {"split": "val"}, {"fingerprint": "g"}]
    frame = DataFrame([row(truth(0.5)), *(row(truth(0.5), "autoattack", **other) for other in others)])
    assert agreement_rows(frame, CLASSES).empty


def curve(*rows: dict[str, Any], attack: str = "pgd") -> DataFrame:
    points = curve_rows(DataFrame(list(rows)))
    return points[points["attack"] == attack]


def test_a_curve_never_rises_and_lies_nowhere_above_the_attack_alone() -> None:
    rights = [truth(share) for share in (0.7, 0.5, 0.55, 0.2)]
    radii = [0.1, 0.2, 0.3, 0.4]
    clean = np.any(rights, axis=0) | truth(0.5)
    points = curve(*(row(r, radius=e, clean_right=clean) for r, e in zip(rights, radii, strict=True)))
    assert points["radius"].tolist() == [0.0, *radii]
    assert points["accuracy"].iloc[0] == clean.mean()
    assert points["accuracy"].is_monotonic_decreasing
    assert (points["accuracy"] <= points["own_accuracy"]).all()
    expected = [np.all(rights[: k + 1], axis=0).mean() for k in range(4)]
    assert points["accuracy"].tolist()[1:] == pytest.approx(expected)


def test_successes_of_stronger_attacks_and_of_training_count_from_their_radius_on_and_of_weaker_ones_never() -> None:
    whole, broken = np.ones(10, dtype=bool), np.arange(10) > 0
    own = [row(whole, radius=radius) for radius in (0.1, 0.2, 0.3)]
    for other in (row(broken, "autoattack", 0.2), row(broken, "cw", 0.2), row(broken, radius=0.2, source="training")):
        assert curve(*own, other)["accuracy"].tolist() == [1, 1, 0.9, 0.9]
    for other in (row(broken, "fgsm", 0.2), row(broken, "autoattack", 0.2, norm="l2"), row(broken, trial_id="b")):
        assert curve(*own, other)["accuracy"].tolist() == [1, 1, 1, 1]


def test_a_curve_is_of_the_images_that_were_seen_at_each_radius() -> None:
    points = curve(row(truth(0.5, 300)), row(truth(0.4, 100), radius=0.2), row(np.zeros(20), "autoattack", 0.2))
    assert set(points["images"]) == {100}
    assert points["accuracy"].iloc[-1] <= 0.8


def test_one_radius_makes_no_curve() -> None:
    assert curve_rows(DataFrame([row(truth(0.5)), row(truth(0.5), "fgsm", 0.2)])).empty


def test_an_evaluation_has_its_point_of_the_curve_where_its_images_are_the_curve_s() -> None:
    rows = [row(truth(0.5), radius=0.1), row(truth(0.5), radius=0.2), row(truth(0.5), "fgsm", 0.2)]
    frame = DataFrame(rows)
    found = with_curve(frame, frame)["unbroken"]
    assert found[0] == rows[0]["right"].mean()
    assert found[1] == (rows[0]["right"] & rows[1]["right"]).mean()
    assert np.isnan(found[2])
    more = DataFrame([*rows[:1], row(truth(0.5, 100), radius=0.2)])
    assert with_curve(more, more)["unbroken"].isna().tolist() == [True, False]
