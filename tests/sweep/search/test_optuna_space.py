"""Constraints, whole numbers, steps, conditions and given points under every one of Optuna's samplers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from sweep.axes import Point
from sweep.config import SweepConfig
from sweep.search.admission import Admission
from sweep.search.inputs import distinct_data
from sweep.search.optuna_search import OptunaSearch
from sweep.search.points import applies, draw
from sweep.search.study import PointStudy
from sweep.search.trials import PlannedTrial
from trainers.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")

#: gp, cmaes and nsgaii refuse axes that apply at some points of a stratum alone.
CONDITIONAL = ("tpe", "qmc", "random", None)
SAMPLERS = (*CONDITIONAL, "gp", "cmaes", "nsgaii")

RANGES: dict[str, Any] = {
    "batch_size": {"loguniform": [8, 512]},
    "attack.steps": {"uniform": [2, 20], "step": 2},
    "optimizer.lr": {"loguniform": [0.001, 1]},
    "optimizer.weight_decay": {"uniform": [0, 0.3], "step": 0.1},
}
HANGING: dict[str, Any] = {
    "optimizer.name": {"choice": ["sgd", "deat"]},
    "optimizer.momentum": {"choice": [0.0, 0.9], "when": {"optimizer.name": "sgd"}},
    "optimizer.nesterov": {"choice": [True, False], "when": {"optimizer.momentum": 0.9}},
    "optimizer.k1": {"uniform": [0, 2], "when": {"optimizer.name": "deat"}},
}
WHERE = "batch_size * optimizer.lr <= 10 and attack.steps > 4"


def sweep(space: dict[str, Any], sampler: str | None, n: int = 12, **values: Any) -> SweepConfig:
    search = {"name": "optuna", "n_trials": n, "sampler": sampler} | values.pop("search", {})
    listed = {key: {"grid": axis} if isinstance(axis, list) else axis for key, axis in space.items()}
    trial = {"data": {"name": "digits"}}
    return SweepConfig.model_validate({"name": "t", "trial": trial, "space": listed, "search": search, **values})


def value(point: Point) -> float:
    return 1 - abs(math.log10(point.get("optimizer.lr", 0.1)) + 1) / 3 - point.get("batch_size", 0) / 1e4


class Run:
    def __init__(self, config: SweepConfig) -> None:
        self.config = config
        self.records: list[dict[str, Any]] = []
        self.values: dict[str, tuple[float, ...] | None] = {}

    def search(self) -> OptunaSearch:
        marks = {key: f"{trial.data.name}-0" for key, trial in distinct_data(self.config).items()}
        return OptunaSearch(self.config, marks, self.records, self.values)

    def trials(self, most: int = 10_000) -> list[PlannedTrial]:
        """Those that a launch runs, one after another, of at most so many."""
        search, handed = self.search(), list[PlannedTrial]()
        self.last = search
        while len(handed) < most and (trial := search.next()) is not None:
            self.records.append(trial.record(len(self.records)))
            handed.append(trial)
            self.values[trial.id] = (value(trial.point),)
            search.tell(trial.id, self.values[trial.id])
        return handed


def fits(config: SweepConfig, point: Point) -> bool:
    """Whether a point has every axis that applies, and no other, and lies in each of them, and is admitted."""
    for key, axis in config.space.items():
        if (key in point) != applies(axis, point, config.given):
            return False
        if key in point and not axis.admits(point[key]):
            return False
    return Admission.of_sweep(config).admits(point)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_to_its_axes_and_to_where_and_goes_on_after_a_kill(sampler: str | None) -> None:
    config = sweep({"objective.name": ["pgd_at", "trades"], **RANGES}, sampler, where=WHERE)
    run, cut = Run(config), Run(config)
    whole = run.trials()
    assert len({trial.id for trial in whole}) == len(whole) == 2 * 12
    assert all(fits(config, trial.point) for trial in whole)
    assert {type(trial.point[key]) for trial in whole for key in ("batch_size", "attack.steps")} == {int}
    parts = [trial.id for most in (5, 16, 100) for trial in cut.trials(most)]
    assert parts == [trial.id for trial in whole]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsgaii", "qmc", "random"])
def test_a_rebuilt_study_holds_the_digits_of_steps_that_optuna_drew(sampler: str) -> None:
    config = sweep(
        {"optimizer.momentum": {"uniform": [0, 0.9], "step": 0.1}, "optimizer.lr": {"loguniform": [0.01, 1]}}, sampler
    )
    run, drawn = Run(config), []
    for _ in range(2):
        run.trials()
        trials = run.last._strata[0].study.study.get_trials(states=[TrialState.COMPLETE])
        drawn.append([trial.params["optimizer.momentum"] for trial in trials])
    assert drawn[0] == drawn[1]
    assert any(one != round(one, 12) for one in drawn[0])


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(CONDITIONAL), st.integers(0, 2**32), st.sampled_from(["", "optimizer.momentum < 0.5"]))
def test_axes_that_hang_on_drawn_ones_are_there_where_they_apply(sampler: str | None, seed: int, where: str) -> None:
    space = {**HANGING, "batch_size": {"uniform": [16, 64], "step": 16}}
    config = sweep(space, sampler, 8, search={"seed": seed}, where=[where] if where else [])
    handed = Run(config).trials()
    assert len(handed) == 8
    assert all(fits(config, trial.point) for trial in handed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_given_points_run_first_beside_n_trials_and_again_at_no_relaunch(sampler: str | None) -> None:
    whole = {"batch_size": 64, "attack.steps": 10, "optimizer.lr": 0.1, "optimizer.weight_decay": 0.1}
    search = {"points": [whole, {"optimizer.lr": 0.05}]}
    config = sweep({"objective.name": ["pgd_at", "trades"], **RANGES}, sampler, 6, search=search, where=WHERE)
    run = Run(config)
    assert run.search().lines() == ("search.points: 4 points first",)
    assert [trial.point["optimizer.lr"] for trial in run.trials(3)] == [0.1, 0.1, 0.05]
    assert run.trials()[0].point["optimizer.lr"] == 0.05
    points = [record["point"] for record in run.records]
    assert len(points) == 2 * (6 + 2)
    assert points[0] == {"objective.name": "pgd_at", **whole}
    assert run.trials() == []


def test_a_given_point_runs_where_draws_meet_nothing() -> None:
    space = {"optimizer.name": ["sgd", "deat", "adamw"], "optimizer.lr": {"loguniform": [0.001, 1]}}
    points = [{"optimizer.name": name, "optimizer.lr": 0.1} for name in ("deat", "adamw")]
    where = "optimizer.name == 'sgd' or 0.0999 < optimizer.lr < 0.1001"
    run = Run(sweep(space, None, 3, search={"points": points}, where=where))
    assert run.search().lines()[1] == 'where leaves out all of 1001 draws at {"optimizer.name": "deat"} and 1 more'
    assert run.search().size() == 5
    given = [trial.point for trial in run.trials() if trial.point["optimizer.name"] != "sgd"]
    assert given == points
    assert run.trials() == []


def test_points_given_after_a_run_are_run_and_those_before_are_kept() -> None:
    space = {"batch_size": {"choice": [16, 32, 64]}, "optimizer.lr": {"loguniform": [0.01, 1]}}
    run = Run(sweep(space, "tpe", 4))
    before = run.trials()
    run.config = sweep(space, "tpe", 4, search={"points": [{"batch_size": 64, "optimizer.lr": 0.3}]})
    assert [trial.point for trial in run.trials()] == [{"batch_size": 64, "optimizer.lr": 0.3}]
    assert {trial.id for trial in before} < {trial.id for trial in run.search().known()}


def test_a_space_that_can_be_counted_is_run_whole_once() -> None:
    config = sweep({"batch_size": {"uniform": [16, 64], "step": 16}}, None, 9, where="batch_size != 32")
    run = Run(config)
    assert run.search().size() == 3
    assert sorted(trial.point["batch_size"] for trial in run.trials()) == [16, 48, 64]


def test_strata_that_mean_the_same_as_far_as_they_are_listed_are_all_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OptunaSearch, "LISTED", 4)
    space = {
        "optimizer.decoupled_weight_decay": [False, True],
        "optimizer.weight_decay": {"choice": [0, 0.001, 0.002]},  # of the first four combinations there is none
        "batch_size": {"choice": [16, 32, 64, 128]},
    }
    assert Run(sweep(space, None, 4)).search().size() == 8


@pytest.mark.parametrize("looked_at", [10, 15])
def test_of_choices_draws_are_admitted_beyond_the_combinations_looked_at(
    monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr("sweep.search.listed.MOST", looked_at)
    space = {"batch_size": {"choice": [8, 16, 32, 64]}, "optimizer.momentum": {"choice": [n / 10 for n in range(10)]}}
    run = Run(sweep(space, None, 12, where="batch_size >= 16"))
    assert run.search().size() == 12
    assert len({trial.id for trial in run.trials()}) == 12


def test_too_many_points_are_refused_before_any_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.search.optuna_search.planned_trial", lambda *_: pytest.fail("planned"))
    some = {"choice": [number / 1000 for number in range(500)]}
    config = sweep({"optimizer.lr": some, "optimizer.momentum": some}, None, 200_000)
    with pytest.raises(UserError, match=r"^space: must have at most 100,000 trials, .*; lower search.n_trials, 200000"):
        Run(config).search()


def test_a_stratum_in_which_nothing_is_admitted_is_left_out_and_said() -> None:
    space = {"optimizer.name": ["sgd", "adamw"], "optimizer.lr": {"loguniform": [0.01, 1]}}
    run = Run(sweep(space, None, 4, where="optimizer.name != 'adamw' or optimizer.lr < 0.001"))
    assert run.search().lines() == ('where leaves out all of 1001 draws at {"optimizer.name": "adamw"}',)
    assert {trial.point["optimizer.name"] for trial in run.trials()} == {"sgd"}


@pytest.mark.parametrize("where", ["optimizer.lr > 1", "optimizer.name == 'adamw'"])
def test_a_space_in_which_nothing_is_admitted_is_one_line(where: str) -> None:
    space = {"optimizer.name": ["sgd"], "optimizer.lr": {"loguniform": [0.01, 1]}}
    with pytest.raises(UserError, match=r"^where: optimizer\..*: none of 1,001 points meets it; the first is "):
        Run(sweep(space, None, 4, where=where)).search()


def test_what_is_hardly_ever_admitted_ends_the_search_and_not_the_launch() -> None:
    config = sweep({"optimizer.lr": {"uniform": [0.001, 1]}}, "random", 6, where="optimizer.lr < 0.005")
    handed = Run(config).trials()
    assert 0 < len(handed) <= 6
    assert all(trial.point["optimizer.lr"] < 0.005 for trial in handed)


@pytest.mark.parametrize(("sampler", "most"), [("qmc", 1), ("tpe", 10)])
def test_only_a_sampler_that_can_answer_otherwise_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, sampler: str, most: int
) -> None:
    attempts: list[int] = []
    ask = PointStudy.ask

    def counted(self: PointStudy, index: int, point: Point | None = None, attempt: int = 0) -> Any:
        attempts.append(attempt + 1)
        return ask(self, index, point, attempt)

    monkeypatch.setattr(PointStudy, "ask", counted)
    Run(sweep({"optimizer.lr": {"uniform": [0.001, 1]}}, sampler, 4, where="optimizer.lr < 0.02")).trials()
    assert max(attempts) == most


def test_draws_that_stand_in_are_looked_at_once_and_not_anew_for_each_point(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    counted = lambda space, seed, number: looked_at.append(number) or draw(space, seed, number)  # noqa: E731
    monkeypatch.setattr("sweep.search.optuna_search.draw", counted)
    config = sweep({"optimizer.lr": {"uniform": [0.001, 1]}}, "random", 6, where="optimizer.lr < 0.02")
    points = len(Run(config).trials())
    assert points == 6
    assert looked_at == sorted(looked_at)
    assert len(looked_at) <= max(looked_at) + 1 + points


# Other runs


def test_a_study_starts_from_the_finished_trials_of_other_runs_and_counts_none_as_its_own() -> None:
    space = {"objective.name": ["pgd_at", "trades"], "optimizer.lr": {"loguniform": [0.001, 1]}}
    other = Run(sweep(space, "tpe", 12, seeds=(5, 6)))
    other.trials()
    config = sweep(space, "tpe", 3, search={"start_from": ["there"]}, seeds=(0,))
    marks = {key: f"{trial.data.name}-0" for key, trial in distinct_data(config).items()}
    known = [(record, other.values[record["trial_id"]]) for record in other.records]
    apart = {**other.records[0], "trial_id": "0" * 12}
    told = OptunaSearch(config, marks, elsewhere=[*known, (known[0][0], None), (apart, (0.5,))])
    assert told.lines() == (
        "search.start_from: 48 finished trials taken in, at 24 points; 1 not: not finished, or without the objectives; "
        "1 not: other keys",
    )
    assert told.started_from_none() is None
    assert (told.size(), told.known()) == (6, [])
    for stratum in told._strata:
        trials = stratum.study.study.get_trials()
        assert [trial.value for trial in trials] == [
            pytest.approx(value({"optimizer.lr": trial.params["optimizer.lr"]})) for trial in trials
        ]
        assert len(trials) == 12
    first, alone = told.next(), Run(sweep(space, "tpe", 3)).search().next()
    assert first is not None
    assert alone is not None
    assert first.point != alone.point  # it has learnt already


def test_what_other_runs_do_not_tell_is_said_by_reason_with_the_keys_that_differ_and_the_way_out() -> None:
    def told(space: dict[str, Any], fingerprint: str, **here: Any) -> OptunaSearch:
        config = sweep(space, "gp", 3, search={"start_from": ["there"]})
        trial = config.trial.model_copy(update=here)
        config = config.model_copy(update={"trial": trial})
        marks = dict.fromkeys(distinct_data(config), fingerprint)
        return OptunaSearch(config, marks, elsewhere=known)

    space = {"optimizer.lr": {"loguniform": [0.001, 1]}}
    other = Run(sweep(space, "random", 4))
    other.trials()
    known = [(record, other.values[record["trial_id"]]) for record in other.records]
    none = "search.start_from: 0 finished trials taken in, at 0 points; 4 not: "

    data = sweep(space, None).trial.data.model_copy(update={"train_per_class": 40})
    search = told(space, "digits-0 of other images", data=data)
    assert search.lines() == (f"{none}other keys (data.train_per_class null, here 40)",)
    assert search.started_from_none() == "trial.data.train_per_class=null or search.start_from=[]"

    search = told(space, "digits-0", epochs=200, batch_size=16)
    assert search.lines() == (f"{none}other keys (batch_size 128, here 16; epochs 110, here 200)",)
    assert search.started_from_none() == "search.start_from=[]"

    search = told(space, "digits of another file")
    (line,) = search.lines()
    assert line.startswith(f"{none}other keys (data.fingerprint digits-0, here digits of another file)")
    assert search.started_from_none() == "search.start_from=[]"

    search = told({"optimizer.lr": {"uniform": [2, 3]}}, "digits-0")
    (line,) = search.lines()
    assert line.startswith(f"{none}outside of the space (optimizer.lr 0.")
    assert told(space, "digits-0").started_from_none() is None
