"""Whether DEAT takes longer is only judged where both ran at the same times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.claims.ledger import ledger
from analysis.claims.study import study_of


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


def launched(claim: str, found: list[dict], time: float = 0.0) -> list[dict]:
    """The same records, begun by a launch to decide a claim."""
    wanted = [record["trial_id"] for record in found if record["record"] == "trial"]
    return [{"record": "launch", "command": f"sweep launch c --decide {claim}", "wanted": wanted, "time": time}, *found]


ONE_AFTER_THE_OTHER = [*itertools.product(["sgd"], range(6)), *itertools.product(["deat"], range(6))]


@pytest.mark.parametrize(
    ("decided", "note"),
    [
        ("ratio", "DEAT's trials ran at another time than SGD's"),
        ("no_extra_time", "so far DEAT's trials began after SGD's; with further seeds they go by turns"),
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
