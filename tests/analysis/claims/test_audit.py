"""The parts of an audit that a short run does not reach: launches that add seeds until a claim is decided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.claims.audit import Check, Found, audited
from analysis.claims.registration import TO_THE_END, UNTIL_DECIDED, Registration
from analysis.claims.study import Study
from analysis.frames.chain import checked
from trainers.record import line
from trainers.record.linked import CHAIN, Chain

CLAIM = "deat_equal_lr"
REGISTRATION = Registration(
    **{"name": "x", "question": "", "time": "2026-01-01T00:00:00.000+00:00", "sha256": 64 * "a"},
    claims={CLAIM: {"region": "above", "threshold": 0.0}},
    **{"margin": 0.01, "time_margin": 0.05, "alpha": 0.05, "accuracy": "last_test_robust"},
    **{"metric": "val_robust", "mode": "max", "choosers": (), "trials": None, "seeds": (0,)},
    stopping={"rule": UNTIL_DECIDED, "claim": CLAIM, "budget_hours": 2.0},
    **{"code_version": "abc", "commit": None, "dirty": False, "config": {}},
)
LAUNCH = {"record": "launch", "registration": 64 * "a", "decides": {"claim": CLAIM, "budget_hours": 2.0}}


def study_of(frame_of, seeds) -> Study:
    """DEAT is better by two points, with so little noise that the fourth seed decides."""
    gains = [0.02 + 1e-4 * (seed % 3) for seed in seeds]
    rows = [
        {"optimizer.name": name, "seed": seed, "last_test_robust": 0.4 + gain * (name == "deat")}
        for seed, gain in zip(seeds, gains, strict=True)
        for name in ("sgd", "deat")
    ]
    frame = frame_of(rows)
    return Study(frame, {CLAIM: frozenset(frame["trial_id"])}, registration=REGISTRATION)


def broken(found: Found) -> dict[str, str]:
    return {check.name: check.said for check in audited(found) if check.kept is False}


def test_seeds_in_turn_until_the_claim_is_decided_keep_the_rule(frame_of) -> None:
    assert broken(Found(REGISTRATION, study_of(frame_of, range(4)), [LAUNCH], [], [])) == {}


def test_who_goes_on_after_the_claim_was_decided_is_told(frame_of) -> None:
    assert broken(Found(REGISTRATION, study_of(frame_of, range(6)), [LAUNCH], [], [])) == {
        "stopping rule": f"went on after seed 3 had decided {CLAIM}: seeds 4, 5"
    }


def test_seeds_that_are_skipped_or_out_of_turn_are_told(frame_of) -> None:
    found = broken(Found(REGISTRATION, study_of(frame_of, [0, 2, 9]), [LAUNCH], [], []))
    assert found["seeds"] == "dropped: 1; added out of turn: 9"


@pytest.mark.parametrize(
    ("decides", "why"),
    [
        (None, "changed: 1 launch did not stop by it"),
        ({"claim": CLAIM, "budget_hours": 3.0}, "changed: 3 h of trials, registered were 2 h"),
    ],
)
def test_launches_that_stop_otherwise_are_told(decides, why, frame_of) -> None:
    launch = {**LAUNCH, "decides": decides}
    assert broken(Found(REGISTRATION, study_of(frame_of, range(3)), [launch], [], []))["stopping rule"] == why


def test_pruned_trials_that_a_launch_took_up_again_are_told(frame_of) -> None:
    launch = {**LAUNCH, "taken_up": ["t0", "t1"]}
    assert broken(Found(REGISTRATION, study_of(frame_of, range(3)), [launch], [], [])) == {
        "stopping rule": "changed: pruned trials were taken up again: t0, t1"
    }


def test_a_pruned_trial_is_a_hole_unless_a_rule_was_registered(frame_of) -> None:
    study = study_of(frame_of, range(2))
    pruned = study.trials.assign(outcome=["pruned", *study.trials["outcome"][1:]])
    ids = tuple(pruned["trial_id"])
    fixed = replace(REGISTRATION, stopping={"rule": TO_THE_END}, seeds=(0, 1), trials=ids)
    launch = {**LAUNCH, "decides": None}
    found = Found(fixed, replace(study, trials=pruned), [launch], [], [])
    assert broken(found) == {"trials": f"left out, without a result (1 pruned): {ids[0]}"}
    assert broken(replace(found, registration=replace(fixed, config={"stopping": {"name": "asha"}}))) == {}


def test_a_trial_that_was_run_again_after_it_had_ended_is_told(frame_of) -> None:
    began, ended = ({"record": kind, "trial_id": "t0", "code_version": "abc"} for kind in ("start", "outcome"))
    records = [LAUNCH, began, {**ended, "outcome": "interrupted"}, began, {**ended, "outcome": "completed"}]
    study = study_of(frame_of, [0])
    assert broken(Found(REGISTRATION, study, records, [], [])) == {}
    assert broken(Found(REGISTRATION, study, [*records, began], [], [])) == {
        "trials": "run again, or given other lines, after they had a result: t0"
    }


def test_a_launch_with_changes_that_are_in_no_commit_is_told(frame_of) -> None:
    found = Found(REGISTRATION, study_of(frame_of, range(3)), [{**LAUNCH, "dirty": True}], [], [])
    assert broken(found) == {"code": "1 launch had changes that are in no commit"}
    start = {"record": "start", "trial_id": "a", "code_version": "abc"}
    trained = replace(found, records=[*found.records, start])
    assert broken(trained)["code"].endswith(
        "commit; but the sources that train have the registered hash at each of 1 start"
    )


def test_every_check_is_a_row_of_the_docs_page(frame_of) -> None:
    page = (Path(__file__).parents[3] / "docs" / "registering.md").read_text(encoding="utf-8")
    rows = [text.split(" | ")[0].removeprefix("| ") for text in page.splitlines() if text.startswith("| ")]
    checks: tuple[Check, ...] = audited(Found(REGISTRATION, study_of(frame_of, [0]), [], [], []))
    assert rows == ["line of the card", *(check.name for check in checks)]


def test_a_link_holds_the_bytes_before_it_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("")
    chain = Chain(path)
    for number in range(3):
        text = line("launch", {"time": float(number), "size": 0, "wanted": [], CHAIN: chain.link()})
        with path.open("a") as file:
            file.write(text)
    whole = checked(path)
    assert (whole.links, whole.broken, whole.held, whole.damaged, whole.lines) == (3, 0, 3, (), 3)
    lines = path.read_text().splitlines(keepends=True)
    assert json.loads(lines[0])[CHAIN]["bytes"] == 0
    path.write_text("".join(["\n", *lines]))
    assert checked(path).broken == 2
    path.write_text("".join([lines[0], lines[2]]))
    assert (checked(path).broken, checked(path).held) == (2, 1)
    path.write_text("".join(lines)[:-3])  # a torn end is no edit
    assert (checked(path).broken, checked(path).damaged) == (0, ())
