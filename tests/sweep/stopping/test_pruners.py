"""The rules by hand-computed rungs and medians, an epoch that comes again, and which trials are compared."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sweep.stopping.config import StoppingConfig
from sweep.stopping.decisions import Decision
from sweep.stopping.pruners import Epochs, Pruners, _Stratum, options_of
from trainers.errors import UserError


def rule(metric: str = "val_robust", axes: tuple[str, ...] = (), epochs: int = 8, **values: Any) -> Pruners:
    return Pruners(StoppingConfig.model_validate(values), metric, Epochs(epochs), axes)


def plan(one: Pruners, *names: str, epochs: int = 8, **point: Any) -> None:
    for name in names:
        trial = {"record": "trial", "trial_id": name, "config": {"epochs": epochs}, "point": point, "seed": 0}
        assert list(one.add(trial)) == []


def epoch(one: Pruners, name: str, number: int, value: float | None, metric: str = "val_robust") -> list[Decision]:
    return list(one.add({"record": "epoch", "trial_id": name, "epoch": number, metric: value}))


def completed(one: Pruners, name: str) -> None:
    assert list(one.add({"record": "outcome", "trial_id": name, "outcome": "completed"})) == []


def places(decisions: list[Decision]) -> list[Any]:
    return [(one.epochs, one.rung, one.rank, one.of) for one in decisions]


def test_asha_keeps_at_each_rung_the_best_of_those_that_came_so_far() -> None:
    """Worked out by hand: a half of those at a rung, rounded down, goes on, and at least the best one."""
    one = rule(name="asha", min_resource=1, reduction_factor=2)
    plan(one, *"abcdef")
    assert [places(epoch(one, name, 1, value)) for name, value in zip("abcd", (0.5, 0.4, 0.6, 0.55), strict=True)] == [
        [],  # alone it is the best
        [(1, 1, 2, 2)],  # 0.4 of {0.5, 0.4}: the best one goes on
        [],  # 0.6 of three: one goes on
        [],  # 0.55 of {0.6, 0.55, 0.5, 0.4}: two go on
    ]
    assert places(epoch(one, "a", 2, 0.7)) == []  # rung 2, alone
    assert places(epoch(one, "c", 2, 0.65)) == [(2, 2, 2, 2)]
    assert places(epoch(one, "a", 3, 0.1)) == []  # between rungs nothing is asked
    assert places(epoch(one, "a", 4, 0.1)) == []
    assert places(epoch(one, "d", 2, 0.9)) == []
    assert places(epoch(one, "d", 4, 0.05)) == [(4, 3, 2, 2)]
    assert places(epoch(one, "e", 1, 0.5)) == [(1, 1, 3, 5)]  # as good as a, of whom two of five stay: 0.6 and 0.55


def test_where_less_is_better_asha_keeps_the_least() -> None:
    one = rule("val_robust_loss", name="asha", min_resource=1, reduction_factor=2)
    plan(one, "a", "b")
    assert epoch(one, "a", 1, 1.0, "val_robust_loss") == []
    assert places(epoch(one, "b", 1, 2.0, "val_robust_loss")) == [(1, 1, 2, 2)]


def test_the_median_rule_ends_what_is_at_its_best_below_the_median_of_completed_trials() -> None:
    one = rule(name="median", n_startup_trials=3, n_warmup_steps=2)
    plan(one, *"abcd")
    for name, value in zip("abc", (0.2, 0.4, 0.6), strict=True):
        for number in range(1, 9):
            assert epoch(one, name, number, value) == []
        completed(one, name)
    assert epoch(one, "d", 1, 0.1) == []  # it warms up
    assert places(epoch(one, "d", 2, 0.3)) == [(2, None, 3, 4)]  # of 0.2, 0.4, 0.6 the median is 0.4
    plan(one, "e")
    assert [epoch(one, "e", number, value) for number, value in ((2, 0.45), (3, 0.1))] == [[], []]  # 0.45 at its best


def test_a_percentile_of_50_is_the_median() -> None:
    drawn = random.Random(0)
    rules = rule(name="median", n_startup_trials=2), rule(name="percentile", percentile=50, n_startup_trials=2)
    said: list[list[Any]] = [[], []]
    for one in rules:
        plan(one, *"abcdefgh")
    for name in "abcdefgh":
        for number in range(1, 9):
            value = drawn.random()
            for one, answers in zip(rules, said, strict=True):
                answers.append(places(epoch(one, name, number, value)))
        for one in rules:
            completed(one, name)
    assert said[0] == said[1]
    assert any(said[0])


def test_hyperband_puts_trials_of_all_brackets_at_first_rungs_of_their_own() -> None:
    """Those of a bracket that begins at epoch 4 go on there whatever they had before; ranks are within one."""
    one = rule(name="hyperband", min_resource=1, max_resource=8, reduction_factor=2)
    names = [f"t{number}" for number in range(40)]
    plan(one, *names)
    ended: dict[int, list[Any]] = {}
    for place, name in enumerate(names):
        for number in range(1, 9):
            if decisions := places(epoch(one, name, number, 1 - place / 100)):  # each worse than those before
                ended.setdefault(number, []).append(decisions[0])
                break
    assert set(ended) == {1, 2, 4}
    for at_epoch in ended.values():
        firsts = [decision for decision in at_epoch if decision[1] == 1]
        assert [(rank, among) for _, _, rank, among in firsts] == [(n, n) for n in range(2, len(firsts) + 2)]


def test_at_its_last_epoch_a_trial_is_whole() -> None:
    one = rule(name="asha", min_resource=1, reduction_factor=2)
    plan(one, "a", "b", epochs=2)
    assert epoch(one, "a", 1, 0.9) == epoch(one, "a", 2, 0.9) == []
    assert places(epoch(one, "b", 1, 0.95)) == []
    assert epoch(one, "b", 2, 0.1) == []


def test_an_epoch_without_the_metric_is_not_asked_about() -> None:
    one = rule(name="asha", min_resource=1, reduction_factor=2)
    plan(one, "a", "b")
    assert epoch(one, "a", 1, 0.9) == epoch(one, "b", 1, None) == []
    assert places(epoch(one, "b", 2, 0.1)) == [(2, 1, 2, 2)]  # the first rung is where it is first measured


def test_trials_of_two_strata_are_compared_only_by_request() -> None:
    for across, ends in ((False, []), (True, [(1, 1, 2, 2)])):
        one = rule(axes=("optimizer.name",), name="asha", min_resource=1, across=across)
        plan(one, "a", **{"optimizer.name": "sgd", "optimizer.lr": 0.1})
        plan(one, "b", **{"optimizer.name": "deat", "optimizer.lr": 0.1})
        assert epoch(one, "a", 1, 0.9) == []
        assert places(epoch(one, "b", 1, 0.1)) == ends


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_an_epoch_that_comes_again_as_it_was_changes_nothing_and_another_value_takes_its_place(name: Any) -> None:
    """As if its first training had never been: the same that a rule says which saw the last values alone."""
    again, never = (rule(name=name, min_resource=1, reduction_factor=2) for _ in range(2))
    for one in (again, never):
        plan(one, *"abcd")
    for value in (0.9, 0.9):
        assert epoch(again, "a", 1, value) == []
    assert epoch(again, "a", 2, 0.8) == []
    assert epoch(again, "a", 1, 0.3) == epoch(never, "a", 1, 0.3) == []
    for trial, number, value in (("b", 1, 0.4), ("c", 1, 0.35), ("a", 2, 0.2), ("d", 1, 0.1), ("b", 2, 0.3)):
        assert epoch(again, trial, number, value) == epoch(never, trial, number, value)


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_of_a_trial_that_begins_anew_all_is_forgotten(name: Any) -> None:
    values = {"median": {"n_startup_trials": 1}}.get(name, {"min_resource": 1, "reduction_factor": 2})
    anew, never = (rule(name=name, epochs=2, **values) for _ in range(2))
    for one in (anew, never):
        plan(one, *"abc", epochs=2)
    assert [epoch(anew, "a", number, 0.9) for number in (1, 2)] == [[], []]
    completed(anew, "a")
    assert list(anew.add({"record": "outcome", "trial_id": "a", "outcome": "interrupted", "epochs": 0})) == []
    for trial, value in (("a", 0.2), ("b", 0.5), ("c", 0.1)):
        for number in (1, 2):
            assert epoch(anew, trial, number, value) == epoch(never, trial, number, value)
        completed(anew, trial)
        completed(never, trial)


def test_many_that_begin_anew_cost_one_rebuild(monkeypatch: pytest.MonkeyPatch) -> None:
    one, rebuilt, rebuild = rule(name="asha"), [], _Stratum._rebuild
    monkeypatch.setattr(_Stratum, "_rebuild", lambda self: (rebuilt.append(1), rebuild(self)))
    plan(one, *"abcd")
    for name in "abc":
        epoch(one, name, 1, 0.5)
    for name in "abc":
        list(one.add({"record": "outcome", "trial_id": name, "outcome": "interrupted", "epochs": 0}))
    for name in "dabc":
        epoch(one, name, 1, 0.6)
    assert rebuilt == [1]


def test_the_first_rung_is_a_hundredth_of_the_longest_trial_and_no_shorter_than_between_evaluations() -> None:
    asha, hyperband = StoppingConfig(name="asha"), StoppingConfig(name="hyperband")
    assert options_of(asha, Epochs(30))["min_resource"] == 1
    assert options_of(asha, Epochs(300))["min_resource"] == 3
    assert options_of(asha, Epochs(30, every=5))["min_resource"] == 5
    assert options_of(hyperband, Epochs(30))["max_resource"] == 30


def test_a_whole_trial_shorter_than_the_first_rung_is_one_line() -> None:
    message = r"^stopping.max_resource: must be at least the epochs of the first rung, 5, got 4; .*min_resource=4$"
    with pytest.raises(UserError, match=message):
        options_of(StoppingConfig(name="hyperband", max_resource=4), Epochs(500))
    assert (
        options_of(StoppingConfig(name="hyperband", max_resource=4, min_resource=4), Epochs(500))["min_resource"] == 4
    )
