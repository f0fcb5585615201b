"""Whether DEAT takes longer is only judged where both ran at the same times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.claims.blocks import BEGAN, EPOCH_SECONDS, LAUNCH
from analysis.claims.ledger import ledger
from analysis.claims.study import Study, study_of


def records(order: list[tuple[str, int]], slowdown: float, deat: float = 1.0) -> list[dict]:
    """Trials that began one after another, in this order, each `slowdown` slower than the one before it."""
    found: list[dict] = []
    rng = np.random.default_rng(0)
    for number, (name, seed) in enumerate(order):
        trial = f"{name}-{seed}"
        config = {"model": {"name": "m"}, "epochs": 2, "batch_size": 32, "optimizer": {"name": name, "lr": 0.1}}
        point = {"optimizer.name": name}
        found.append(
            {"record": "trial", "trial_id": trial, "number": number, "config": config, "point": point, "seed": seed}
        )
        found.append({"record": "start", "trial_id": trial, "time": 100.0 * number, "code_version": "c"})
        seconds = (deat if name == "deat" else 1.0) * slowdown**number * rng.uniform(0.99, 1.01)
        for epoch in (1, 2):
            values = {"epoch": epoch, "lr": 0.1, "seconds": seconds, "evaluation_seconds": 0.0, "test_robust": 0.5}
            found.append({"record": "epoch", "trial_id": trial, "peak_memory_bytes": 0, **values})
        found.append({"record": "outcome", "trial_id": trial, "outcome": "completed", "reason": "", "epochs": 2})
    return found


def test_a_machine_that_slows_down_is_not_taken_for_a_slow_optimizer() -> None:
    one_after_the_other = [*itertools.product(["sgd"], range(6)), *itertools.product(["deat"], range(6))]
    (claim,) = ledger(study_of(records(one_after_the_other, 1.05)), only="no_extra_time")
    assert claim.verdict == "not measured"
    assert claim.note.startswith("DEAT's trials ran at another time than SGD's")


def in_launches(*orders: list[tuple[str, int]], decided: str | None = None) -> list[dict]:
    """Records of launches one after another, each with its trials in this order; DEAT takes 30 % longer."""
    every = records([one for order in orders for one in order], 1.001, 1.3)
    by_trial: dict[str, list[dict]] = {}
    for record in every:
        by_trial.setdefault(record["trial_id"], []).append(record)
    decides = None if decided is None else {"claim": decided}
    found = []
    for order in orders:
        wanted = [f"{name}-{seed}" for name, seed in order]
        found.append({"record": "launch", "command": "c", "decides": decides, "wanted": wanted, "time": 0.0})
        found += [record for trial in wanted for record in by_trial[trial]]
    return found


def test_seeds_that_later_launches_added_say_nothing_of_time_where_deat_always_ran_after_sgd() -> None:
    blocks = [[(name, seed) for name in ("sgd", "deat") for seed in (2 * block, 2 * block + 1)] for block in range(3)]
    (claim,) = ledger(study_of(in_launches(*blocks)), only="no_extra_time")
    assert claim.verdict == "not measured"
    assert claim.note.startswith("DEAT's trials ran at another time than SGD's")


def test_an_optimizer_that_was_added_by_a_later_launch_did_not_run_beside_the_other() -> None:
    one_alone = [[(name, seed) for seed in range(3)] for name in ("sgd", "deat")]
    by_turns = [(name, seed) for seed in range(3, 7) for name in ("sgd", "deat")]
    (claim,) = ledger(study_of(in_launches(*one_alone, by_turns)), only="no_extra_time")
    assert (claim.verdict, claim.n, claim.n_trials) == ("contradicted", 4, 8)
    assert "6 trials not compared, as the other optimizer's ran at another time" in claim.note


def test_a_lone_trial_of_its_seed_does_not_hide_that_all_others_ran_one_optimizer_after_the_other(frame_of) -> None:
    order = [(0, name, 0, lr) for name in ("sgd", "deat") for lr in (0.1, 0.2)]
    order += [(0, name, 1, lr) for name in ("deat", "sgd") for lr in (0.1, 0.2)]
    order += [(0, "sgd", 2, 0.1), (1, "deat", 2, 0.1)]
    frame = frame_of([{"optimizer.name": name, "seed": seed, "optimizer.lr": lr} for _, name, seed, lr in order])
    frame = frame.assign(**{EPOCH_SECONDS: 2.0, BEGAN: range(len(order)), LAUNCH: [launch for launch, *_ in order]})
    (claim,) = ledger(Study(frame), only="no_extra_time")
    assert claim.note.startswith("DEAT's trials ran at another time than SGD's")


def test_seeds_to_decide_it_count_where_each_optimizer_is_the_first_in_every_other_one() -> None:
    def claimed(turns: list[list[str]]) -> tuple[str, int]:
        launches = [[(name, seed) for name in names] for seed, names in enumerate(turns)]
        (claim,) = ledger(study_of(in_launches(*launches, decided="no_extra_time")), only="no_extra_time")
        return claim.verdict, claim.n

    first, second = ["sgd", "deat"], ["deat", "sgd"]
    assert claimed([first, first, first, first]) == ("not measured", 0)
    assert claimed([first]) == ("not measured", 0)
    assert claimed([first, second, first])[1] == 3
    assert claimed([first, second] * 4) == ("contradicted", 8)


def launched(claim: str, found: list[dict], time: float = 0.0) -> list[dict]:
    """The same records, begun by a launch to decide a claim."""
    wanted = [record["trial_id"] for record in found if record["record"] == "trial"]
    return [{"record": "launch", "command": f"sweep launch c --decide {claim}", "wanted": wanted, "time": time}, *found]


ONE_AFTER_THE_OTHER = [*itertools.product(["sgd"], range(6)), *itertools.product(["deat"], range(6))]


@pytest.mark.parametrize(
    ("decided", "note"),
    [
        ("ratio", "DEAT's trials ran at another time than SGD's"),
        ("no_extra_time", "so far one optimizer's trials began before the other's; further seeds take turns"),
    ],
)
def test_a_launch_that_decides_is_no_excuse_for_running_one_after_the_other(decided: str, note: str) -> None:
    study = study_of(launched(decided, records(ONE_AFTER_THE_OTHER, 1.05)))
    (claim,) = ledger(study, only="no_extra_time")
    assert claim.verdict == "not measured"
    assert claim.note.startswith(note)


def test_trials_that_another_launch_trained_are_not_counted_though_one_to_decide_wants_them() -> None:
    before = records(ONE_AFTER_THE_OTHER, 1.05)
    study = study_of([*before, *launched("no_extra_time", before)[:1]])
    assert study.launched == {"no_extra_time": frozenset()}
    assert ledger(study, only="no_extra_time")[0].verdict == "not measured"


def test_one_start_long_before_the_others_hides_no_order() -> None:
    found = records(ONE_AFTER_THE_OTHER, 1.05)
    first = next(record for record in found if record["record"] == "start")
    first["time"] = -1e7
    assert ledger(study_of(found), only="no_extra_time")[0].verdict == "not measured"


BY_TURNS = [(name, seed) for seed in range(6) for name in ("sgd", "deat")]
IN_TWO_BLOCKS = [(name, seed) for block in (range(3), range(3, 6)) for name in ("sgd", "deat") for seed in block]


@pytest.mark.parametrize("order", [BY_TURNS, IN_TWO_BLOCKS])
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "supported"), (1.3, "contradicted")])
def test_by_turns_or_in_two_blocks_it_is_judged(order: list[tuple[str, int]], factor: float, verdict: str) -> None:
    (claim,) = ledger(study_of(records(order, 1.001, factor)), only="no_extra_time")
    assert (claim.verdict, claim.n) == (verdict, 6)


def test_an_optimizer_whose_trials_ran_in_another_engine_is_not_taken_for_a_slow_one() -> None:
    found = records(BY_TURNS, 1.001, 1.3)
    known = {"precision": "bf16", "engine": "auto", "deterministic": False, "torch": "2", "cudnn": 9, "threads": None}
    verdicts = []
    for engine in ("graph", "eager"):
        for record in found:
            if record["record"] == "start":
                record["arithmetic"] = known | {"processor": "H100"}
            if record["record"] == "epoch":
                record["engine"] = engine if record["trial_id"].startswith("deat") else "graph"
        (claim,) = ledger(study_of(found), only="no_extra_time")
        verdicts.append(claim.verdict)
    assert verdicts == ["contradicted", "not measured"]
    assert claim.note.startswith("DEAT's trials were not computed as SGD's were")


def test_the_claims_may_be_about_clean_accuracy() -> None:
    claims = ledger(study_of(records([("sgd", 0), ("deat", 0)], 1.0)), y="last_test_clean")
    assert claims[0].statement == "Clean accuracy rises with lr / batch."
    assert {claim.verdict for claim in claims if claim.name == "deat_equal_lr"} <= {"not measured", "undecided"}
