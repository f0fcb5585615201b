"""`sweep register` and `sweep audit`: what is written down beforehand, and every way of not keeping it that is told."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small
import yaml
from click.testing import CliRunner, Result

from analysis.claims import audit as checks
from analysis.claims.ledger import ledger
from analysis.claims.registration import BY_CONFIG, HASH_FILE, read, text_of
from analysis.claims.study import load_study
from sweep.cli import main
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.departures import changed_keys
from sweep.merge.run import merge_runs
from sweep.register import written
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, EvaluationRecord, line
from trainers.record import read as read_lines
from trainers.record.linked import CHAIN, NOTED, registered
from trainers.record.linked import REGISTRATION_FILE as FILE

Launched = Callable[..., tuple[int, str]]
Records = list[dict[str, Any]]

SWEEP: dict[str, Any] = {
    "name": "asked",
    "question": "Does DEAT help?",
    "trial": small.TINY | {"epochs": 2},
    "space": {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.3]},
    "seeds": [0, 1],
}
TERMS = {"margin": 0.01, "time_margin": 0.05, "accuracy": "last_test_robust"}
ASKED = ("ratio", "deat_equal_lr")


def sweep_of(folder: Path, **values: Any) -> SweepConfig:
    path = folder / "asked.yaml"
    path.write_text(yaml.safe_dump(SWEEP | values))
    return load(path)


def cli(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def said(result: Result) -> str:
    """The one line on stderr of a command that was given wrong input."""
    assert result.exit_code == 2, (result.output, result.exception)
    (one,) = result.stderr.splitlines()
    return one


def card(run: Path, *words: object) -> dict[str, str]:
    """What the audit says is not kept: check -> why; its exit code tells whether there is any."""
    result = cli("audit", run, *words, "--json")
    assert result.exit_code in (0, 1), (result.output, result.exception)
    broken = {one["name"]: one["said"] for one in json.loads(result.stdout)["checks"] if one["kept"] is False}
    assert result.exit_code == bool(broken)
    return broken


def write(run: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """As somebody would who edits lines and makes their checksums anew."""
    (run / RECORDS_FILE).write_text("".join(line(record["record"], record) for record in records))


def edited(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Each record changed, or left out where the change says False."""
    write(run, [one for one in read_lines(run) if change(one) is not False])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, launched: Launched) -> Path:
    """A registered run that kept everything; for reading only."""
    folder = tmp_path_factory.mktemp("registered")
    config = sweep_of(folder)
    written(config, folder / "run", ASKED, (), {}, TERMS)
    assert launched(config, folder / "run", serial=True)[0] == 0
    return folder / "run"


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    """A copy, to tamper with."""
    return Path(shutil.copytree(kept, tmp_path / "run"))


def test_a_registration_is_refused_after_the_first_trial_and_a_second_time(run: Path, tmp_path: Path) -> None:
    sweep_of(tmp_path)
    first = next(one["trial_id"] for one in read_lines(run) if one["record"] == "start")
    way_out = "and a registration comes before the first one; register another run: give another --out"
    words = ("register", tmp_path / "asked.yaml", "--out", run)
    assert said(cli(*words)) == f"sweep: {run}: trial {first} has started, {way_out}"
    (run / RECORDS_FILE).unlink()
    way_out = f"to register it anew, while no trial has started, delete {FILE}"
    assert said(cli(*words)) == f"sweep: {run}: is registered already, SHA-256 {registered(run)}; {way_out}"


def test_what_a_config_cannot_measure_is_not_registered(tmp_path: Path) -> None:
    sweep_of(tmp_path)
    words = ("register", tmp_path / "asked.yaml", "--out", tmp_path / "run")
    assert re.fullmatch(
        r"sweep: --claim k1_k2: \S+ is not varied.*; take a config such as \S+", said(cli(*words, "--claim", "k1_k2"))
    )
    assert "did you mean 'ratio'?" in said(cli(*words, "--claim", "ratoi"))
    assert said(cli(*words, "--chosen-by-seed", 7)).endswith("no trial has it; must be one of 0, 1")
    assert "needs --budget-hours" in said(cli(*words, "--decide", "ratio"))
    assert not (tmp_path / "run").exists()


def test_the_hash_that_is_printed_is_the_files(tmp_path: Path) -> None:
    sweep_of(tmp_path)
    result = cli("register", tmp_path / "asked.yaml", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    (printed,) = re.findall(r"^SHA-256 (\w{64})$", result.stdout, re.MULTILINE)
    content = (tmp_path / "run" / FILE).read_bytes()
    assert printed == hashlib.sha256(content).hexdigest() == registered(tmp_path / "run")
    assert (tmp_path / "run" / HASH_FILE).read_text() == f"{printed}  {FILE}\n"
    found = read(tmp_path / "run")
    assert found is not None
    assert text_of(found).encode() == content
    assert len(found.trials or ()) == 8
    assert set(ASKED) <= set(found.claims)  # all that the config can measure
    assert "margin 1 percentage point, of time 5 %" in result.stdout


def test_a_run_that_kept_everything_passes_and_its_launch_noted_the_hash(kept: Path) -> None:
    assert card(kept, "--hash", registered(kept)) == {}
    (launch,) = (one for one in read_lines(kept) if one["record"] == "launch")
    assert launch[NOTED] == registered(kept)
    text = cli("audit", kept).stdout
    assert "kept, as far as the run's own files can tell" in text
    assert text.count("unchecked") == 2  # of the ledger that was printed


def test_a_launch_with_another_config_than_the_registered_says_so(
    run: Path, tmp_path: Path, launched: Launched
) -> None:
    assert "not as registered" not in launched(sweep_of(tmp_path), run, serial=True)[1]
    said_of_it = launched(sweep_of(tmp_path, metric="val_clean"), run, serial=True)[1]
    assert "not as registered: metric; `sweep audit" in " ".join(said_of_it.split())


def test_the_ledger_tells_what_was_registered_from_what_was_found_afterwards(kept: Path) -> None:
    def marks(**options: Any) -> dict[str, str]:
        return {one.name: one.registered for one in ledger(load_study(kept), **options)}

    asked = marks()
    assert {name for name, mark in asked.items() if mark == "registered"} == set(ASKED)
    assert asked["deat_own_best"] == "found afterwards"
    assert asked["k1_k2"] == ""  # of which nothing is found
    assert "registered" not in marks(y="last_test_clean").values()
    assert "registered" not in marks(metric="val_clean").values()
    text = cli("claims", kept).stdout
    assert "holds above 0 percentage points; registered)" in " ".join(text.split())
    assert "; found afterwards)" in " ".join(text.split())


def test_an_unregistered_run_has_no_mark_and_no_links(undisturbed: Path) -> None:
    assert {one.registered for one in ledger(load_study(undisturbed))} == {""}
    assert not any(CHAIN in one or NOTED in one for one in read_lines(undisturbed))
    assert "registered" not in cli("claims", undisturbed).stdout
    way_out = f"has no {FILE}; before its first trial, `sweep register CONFIG --out {undisturbed}` makes one"
    assert said(cli("audit", undisturbed)) == f"sweep: {undisturbed}: {way_out}"


def test_a_folder_of_runs_is_not_said_to_lack_a_registration(run: Path) -> None:
    way_out = f"holds runs, and is none; give one of them: {run}"
    assert said(cli("audit", run.parent)) == f"sweep: {run.parent}: {way_out}"


def test_an_edited_registration_is_told_by_its_hash(run: Path) -> None:
    before = str(registered(run))
    (run / FILE).write_text((run / FILE).read_text().replace('"margin": 0.01', '"margin": 0.05'))
    now = str(registered(run))
    assert card(run)["registration"] == (
        f"edited: {HASH_FILE} says {before[:12]}..., and it is {now[:12]}...; "
        f"edited: launches found another one: {before[:12]}"
    )
    assert {one.registered for one in ledger(load_study(run))} == {"found afterwards", ""}


def test_who_rewrites_every_file_is_told_by_the_deposited_hash_alone(run: Path) -> None:
    before = str(registered(run))
    (run / FILE).write_text((run / FILE).read_text().replace('"margin": 0.01', '"margin": 0.05'))
    (run / HASH_FILE).write_text(f"{registered(run)}  {FILE}\n")
    records = read_lines(run)
    (run / RECORDS_FILE).write_text("")
    for record in records:
        with (run / RECORDS_FILE).open("a") as file:
            content = (run / RECORDS_FILE).read_bytes()
            if CHAIN in record:
                record[CHAIN] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            file.write(line(record["record"], {**record, **({NOTED: registered(run)} if NOTED in record else {})}))
    assert card(run) == {}
    assert list(card(run, "--hash", before)) == ["registration"]


def test_a_deleted_registration_is_asked_for(run: Path) -> None:
    before = registered(run)
    (run / FILE).unlink()
    assert said(cli("audit", run)).endswith(f"its launches found one, of SHA-256 {before}: restore that")


def test_what_was_registered_after_the_first_trial_is_told(run: Path) -> None:
    (run / FILE).unlink()
    edited(run, lambda one: [one.pop(key, None) for key in (NOTED, CHAIN)])
    (run / RECORDS_FILE).rename(run / "aside")
    written(load(run / "sweep.yaml"), run, ASKED, (), {}, TERMS)
    (run / "aside").rename(run / RECORDS_FILE)
    broken = card(run)
    assert re.match(
        r"registered \d{4}-.* UTC, and 8 trials began before, the first \d{4}-",
        broken["registered before the first trial"],
    )
    assert broken["registration"] == "1 launch found none"
    assert broken["records"] == f"{RECORDS_FILE}: not one link"
    assert {one.registered for one in ledger(load_study(run))} == {"found afterwards", ""}


def test_dropped_seeds_and_trials_that_are_left_out_are_told(run: Path) -> None:
    dropped = [one["trial_id"] for one in read_lines(run) if one["record"] == "trial" and one["seed"] == 1]
    edited(run, lambda one: one.get("trial_id") not in dropped)
    broken = card(run)
    assert broken["seeds"] == "dropped: 1"
    assert broken["trials"].startswith("left out, without a result (4 never_started): ")
    assert "edited" in broken["records"]


def test_a_failed_trial_that_was_never_run_again_is_told(run: Path) -> None:
    *_, last = (one["trial_id"] for one in read_lines(run) if one["record"] == "outcome")
    edited(run, lambda one: one.update(outcome="failed") if one.get("outcome") and one["trial_id"] == last else None)
    assert card(run)["trials"] == f"left out, without a result (1 failed): {last}"


@pytest.mark.parametrize("kind", ["epoch", "outcome"])
def test_a_line_put_behind_a_trials_result_is_told_though_it_breaks_no_link(kind: str, run: Path) -> None:
    """The last line of an epoch counts, and so does the last outcome: a good seed made `diverged` is in no mean."""
    records = read_lines(run)
    last = next(one for one in reversed(records) if one["record"] == kind)
    content = (run / RECORDS_FILE).read_bytes()
    change = {"test_robust": 0.99} if kind == "epoch" else {"outcome": "diverged"}
    link = {CHAIN: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}} if CHAIN in last else {}
    (run / RECORDS_FILE).write_bytes(content + line(kind, {**last, **change, **link}).encode())
    assert card(run) == {"trials": f"run again, or given other lines, after they had a result: {last['trial_id']}"}


@pytest.mark.parametrize("kinds", [("epoch",), ("start", "epoch")], ids=["epoch", "start and epoch"])
def test_a_line_in_a_file_of_its_own_is_told_though_every_link_holds(kinds: tuple[str, ...], run: Path) -> None:
    """Files are one log by time: before its trial's outcome it is the epoch's last line, which counts."""
    records, content = read_lines(run), (run / RECORDS_FILE).read_bytes()
    last = next(one for one in reversed(records) if one["record"] == "epoch")
    true = load_study(run).trials.set_index("trial_id").last_test_robust[last["trial_id"]]
    start = next(one for one in records if one["record"] == "start" and one["trial_id"] == last["trial_id"])
    launch = {**records[0], CHAIN: {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}}
    forged = {"start": start, "epoch": {**last, "test_robust": 0.99}}
    lines = [launch, *({**forged[kind], "time": last["time"]} for kind in kinds)]
    (run / "records.1of2.jsonl").write_text("".join(line(one["record"], one) for one in lines))
    assert true != load_study(run).trials.set_index("trial_id").last_test_robust[last["trial_id"]] == 0.99
    elsewhere = f"edited: lines in another file than their trial's start: {last['trial_id']}"
    assert card(run) == {"records": elsewhere}
    told = card(run, "--records", hashlib.sha256(content).hexdigest())
    assert told == {"records": f"begin with none of the deposited hashes: records.1of2.jsonl; {elsewhere}"}


def test_a_trial_that_a_later_launch_goes_on_with_in_another_file_keeps_the_records(
    run: Path, tmp_path: Path, launch: Launched
) -> None:
    *lines, _ = (run / RECORDS_FILE).read_bytes().splitlines(keepends=True)
    (run / RECORDS_FILE).unlink()
    (run / "records.1of1.jsonl").write_bytes(b"".join(lines))
    assert launch(sweep_of(tmp_path), run, serial=True)[0] == 0
    assert [one["record"] for one in read_lines(run)[len(lines) :]] == ["launch", "start", "outcome"]
    assert card(run) == {}


def test_a_launch_that_began_no_trial_may_come_before_the_registration(run: Path) -> None:
    """It was killed in time; the study is registered, or registered anew, and launched."""
    first, *rest = (without(one) for one in read_lines(run))
    bare = {key: value for key, value in first.items() if key != NOTED}
    write(run, [bare, {**bare, NOTED: 64 * "a"}, first, *rest])
    assert card(run).keys() == {"records"}
    assert "registered" in {one.registered for one in ledger(load_study(run))}


def test_before_the_first_trial_nothing_is_broken(run: Path) -> None:
    (run / RECORDS_FILE).unlink()
    assert card(run) == {}


def test_a_launch_and_an_evaluation_without_the_registration_that_trials_were_begun_under_are_refused(
    run: Path, tmp_path: Path, launch: Launched
) -> None:
    before, records, content = registered(run), (run / RECORDS_FILE).read_bytes(), (run / FILE).read_text()
    way_out = f"and trials were begun under that of SHA-256 {before}; put that there"
    (run / FILE).unlink()
    with pytest.raises(UserError) as error:
        launch(sweep_of(tmp_path, seeds=[0, 1, 7]), run, serial=True)
    assert str(error.value) == f"{run / FILE}: is not there, {way_out}"
    trial = next(one["trial_id"] for one in read_lines(run) if one["record"] == "start")
    for words in (("rerun", run, trial), ("note", run, trial, "odd")):
        assert said(cli(*words)) == f"sweep: {run / FILE}: is not there, {way_out}"
    (run / FILE).write_text(content.replace('"margin": 0.01', '"margin": 0.05'))
    assert said(cli("evaluate", run, "--serial")) == f"sweep: {run / FILE}: is another one, {way_out}"
    assert (run / RECORDS_FILE).read_bytes() == records


def test_a_config_whose_rules_end_trials_is_not_registered_as_run_to_its_end(tmp_path: Path) -> None:
    written(sweep_of(tmp_path, stopping={"name": "asha"}), tmp_path / "run", ASKED, (), {}, TERMS)
    found = read(tmp_path / "run")
    assert found is not None
    assert found.stopping == {"rule": BY_CONFIG}


def test_added_seeds_and_a_changed_config_are_told(run: Path, tmp_path: Path, launch: Launched) -> None:
    config = sweep_of(tmp_path, seeds=[0, 1, 7], space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.3]})
    assert launch(config, run, serial=True)[0] == 0
    broken = card(run)
    assert broken["seeds"] == "added: 7"
    assert broken["config"] == "changed: seeds, space.optimizer.lr.grid"
    assert broken["trials"].startswith("added: ")
    assert "records" not in broken  # an honest launch goes on with the chain


def test_a_config_is_told_by_its_keys_and_not_by_what_moves_no_number(run: Path) -> None:
    values = yaml.safe_load((run / "sweep.yaml").read_text())
    values["max_concurrent"], values["trial"]["device"], values["trial"]["epochs"] = 7, "cpu", 9
    (run / "sweep.yaml").write_text(yaml.safe_dump(values))
    assert card(run) == {"config": "changed: trial.epochs"}


def test_a_key_that_no_trial_reads_is_not_called_changed(run: Path) -> None:
    """As a decay is none whose milestone lies behind the last epoch: the trials are the same."""
    values = yaml.safe_load((run / "sweep.yaml").read_text())
    values["trial"]["schedule"] = {"name": "piecewise", "milestones": [9]}
    (run / "sweep.yaml").write_text(yaml.safe_dump(values))
    assert card(run) == {}
    values["trial"]["schedule"]["milestones"] = [1]
    (run / "sweep.yaml").write_text(yaml.safe_dump(values))
    assert card(run)["config"].startswith("changed: trial.schedule.")
    (run / "sweep.yaml").write_text("")
    assert card(run)["config"].startswith("changed: ")


def test_a_config_that_a_launch_wrote_and_that_is_gone_is_not_kept(run: Path, tmp_path: Path) -> None:
    (run / "sweep.yaml").unlink()
    assert card(run) == {"config": "sweep.yaml, which the launch wrote, is gone: restore it"}
    merge_runs(tmp_path / "all", [run], checkpoints=False, command="sweep merge all run")
    assert card(tmp_path / "all") == {}
    stints = "`python -m trainers` writes none, and `sweep plan --trials-file` does"
    assert f"no launch has written sweep.yaml here; {stints}" in " ".join(cli("audit", tmp_path / "all").stdout.split())


def test_other_images_are_called_changed_though_nothing_looks_at_them(run: Path) -> None:
    registration, values = read(run), yaml.safe_load((run / "sweep.yaml").read_text())
    assert registration is not None
    values["trial"]["data"] |= {"extra": "/one.npz", "extra_fraction": 0.5}
    asked = replace(registration, config=copy.deepcopy(values))
    assert changed_keys(asked, values) == []
    values["trial"]["data"]["extra"] = "/other.npz"
    assert changed_keys(asked, values) == ["trial.data.extra"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: [change_value(one) for one in lines], "a line was changed, removed, added or moved"),
        (lambda lines: [one for one in lines if one.get("epoch") != 1], "a line was changed, removed, added or moved"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "a line was changed, removed, added or moved"),
        (lambda lines: [{**one, CHAIN: None} if CHAIN in one else one for one in lines], "a line was changed"),
        (lambda lines: [without(one) if one["record"] == "outcome" else one for one in lines], "without their link"),
    ],
    ids=["value", "removed", "moved", "links emptied", "links removed"],
)
def test_edited_records_break_the_chain(change: Callable[[Records], Records], why: str, run: Path) -> None:
    write(run, change(read_lines(run)))
    assert why in card(run)["records"]


def change_value(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "test_robust": 0.99} if one.get("epoch") == 1 else one


def without(one: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != CHAIN}


def test_a_line_whose_checksum_is_wrong_is_named(run: Path) -> None:
    lines = (run / RECORDS_FILE).read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b'"record"', b'"rexord"')
    (run / RECORDS_FILE).write_bytes(b"".join(lines))
    assert f"{RECORDS_FILE}: edited: lines that are not as they were written: 6" in card(run)["records"]


def test_lines_that_were_cut_off_the_end_are_told_by_a_deposited_hash_alone(run: Path) -> None:
    content = (run / RECORDS_FILE).read_bytes()
    part = b"".join(content.splitlines(keepends=True)[:-1])
    deposited, earlier = (hashlib.sha256(one).hexdigest() for one in (content, part))
    assert card(run, "--records", deposited, "--records", earlier) == {}
    (run / RECORDS_FILE).write_bytes(part + line("launch", read_lines(run)[0]).encode())
    assert (
        f"no file begins with what was deposited as: {deposited[:12]}" in card(run, "--records", deposited)["records"]
    )


def test_other_code_is_told(run: Path) -> None:
    *_, last = (one["trial_id"] for one in read_lines(run) if one["record"] == "start")
    own = read(run)
    assert own is not None
    edited(
        run, lambda one: one.update(code_version="abc") if one["record"] == "start" and one["trial_id"] == last else 0
    )
    assert card(run)["code"] == f"changed: 1 of 8 starts by abc, registered was {own.code_version}"


def test_another_metric_to_choose_by_is_told(run: Path) -> None:
    edited(run, lambda one: one.update(metric="val_clean") if one["record"] == "launch" else None)
    assert card(run)["what best cells are chosen by"] == "changed: val_clean (max)"


def test_test_images_that_were_read_before_the_last_trial_had_ended_are_told(run: Path) -> None:
    records, first = read_lines(run), next(one["trial_id"] for one in read_lines(run) if one["record"] == "start")
    chunk = EvaluationRecord(
        first, *("last", False, "pgd", {}, "test", 9, 0, 9, 8, 8, 1.0, "h", "cpu", "abc", {}, "/wA=")
    )
    early = {"record": "evaluation", **vars(chunk), "time": records[-1]["time"] - 0.001}
    write(run, [*records[:-1], early, records[-1]])
    assert card(run)["test images read before the decision"] == ("read before the last trial had ended: pgd on 1 trial")
    write(run, [*records, {**early, "time": records[-1]["time"] + 0.001}])
    assert "test images read before the decision" not in card(run)


def test_another_stopping_rule_and_a_question_that_it_adds_are_told(run: Path) -> None:
    decides = {"claim": "k1_k2", "budget_hours": 1.0, "choosing_seeds": []}
    edited(run, lambda one: one.update(decides=decides) if one["record"] == "launch" else None)
    broken = card(run)
    assert broken["stopping rule"] == "changed: launches added seeds to decide: k1_k2"
    assert broken["questions"] == "added: launches were to decide: k1_k2"


@pytest.fixture
def printed(kept: Path, tmp_path: Path) -> Callable[..., Path]:
    """The ledger as it was printed, and then changed."""

    def make(change: Callable[[dict[str, Any]], object], *words: str) -> Path:
        lines = json.loads(cli("claims", kept, "--json", *words).stdout)
        (tmp_path / "ledger.json").write_text(json.dumps([one for one in lines if change(one) is not False]))
        return tmp_path / "ledger.json"

    return make


def test_a_printed_ledger_that_is_the_records_passes(kept: Path, printed: Callable[..., Path]) -> None:
    assert card(kept, "--claims", printed(lambda one: None)) == {}


def test_a_changed_margin_is_told(kept: Path, printed: Callable[..., Path], tmp_path: Path) -> None:
    ledger_file = printed(lambda one: None, "--margin", "5")
    assert card(kept, "--claims", ledger_file) == {}  # the claims that are registered here have none
    run = Path(shutil.copytree(kept, tmp_path / "run"))
    values = json.loads((run / FILE).read_text())
    values["claims"]["deat_equal_lr"]["threshold"] = 0.01
    (run / FILE).write_text(json.dumps(values))
    assert card(run, "--claims", ledger_file)["margins"] == "changed: deat_equal_lr 0 in place of 0.01"


def test_another_margin_is_told_of_a_claim_that_has_one(tmp_path: Path, launch: Launched) -> None:
    space = {"optimizer.name": ["deat"], "optimizer.k1": [0.5, 1.0], "optimizer.k2": [0.0, 0.8]}
    config = sweep_of(tmp_path, space=space, seeds=[0])
    written(config, tmp_path / "run", ("k1_k2",), (), {}, TERMS)
    assert launch(config, tmp_path / "run", serial=True)[0] == 0
    for margin, told in (("1", None), ("5", "changed: k1_k2 0.05 in place of 0.01")):
        printed = cli("claims", tmp_path / "run", "--json", "--margin", margin)
        (tmp_path / "ledger.json").write_text(printed.stdout)
        assert card(tmp_path / "run", "--claims", tmp_path / "ledger.json").get("margins") == told


def test_a_question_that_is_added_or_left_out_is_told(kept: Path, printed: Callable[..., Path]) -> None:
    added = printed(lambda one: one.update(registered="registered"))
    assert card(kept, "--claims", added)["questions"].startswith("added, and not marked as found afterwards: ")
    left_out = printed(lambda one: one["name"] != "ratio")
    assert card(kept, "--claims", left_out) == {"questions": "left out: ratio"}


def test_a_ledger_that_the_records_do_not_give_is_told(kept: Path, printed: Callable[..., Path]) -> None:
    better = printed(lambda one: one.update(estimate=0.5) if one["name"] == "deat_equal_lr" else None)
    assert card(kept, "--claims", better) == {"printed ledger": "differs from the records: deat_equal_lr (estimate)"}


def test_a_printed_ledger_of_another_accuracy_is_compared_with_that(kept: Path, printed: Callable[..., Path]) -> None:
    clean = printed(lambda one: None, "--metric", "last_test_clean")
    assert card(kept, "--claims", clean) == {"questions": "left out: deat_equal_lr, ratio"}
    better = printed(lambda one: one.update(estimate=0.5), "--metric", "last_test_clean")
    assert card(kept, "--claims", better)["printed ledger"].startswith("differs from the records: ")


def test_a_registered_run_that_was_not_launched_is_called_so(tmp_path: Path) -> None:
    written(sweep_of(tmp_path), tmp_path / "run", ASKED, (), {}, TERMS)
    how = f"is registered, and no trial has begun: sweep launch CONFIG --out {tmp_path / 'run'}"
    assert cli("status", tmp_path / "run").stdout == f"{how}\n"
    assert said(cli("results", tmp_path / "run")) == f"sweep: {tmp_path / 'run'}: {how}"


def test_another_alpha_is_told(kept: Path, printed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loose = printed(lambda one: one.update(verdict="supported", p_holm=0.08) if one["name"] == "ratio" else None)
    assert card(kept, "--claims", loose)["alpha"] == "changed: decided though p (Holm) is not below 0.05: ratio"
    monkeypatch.setattr(checks, "CONFIDENCE", 0.9)
    assert card(kept)["alpha"] == "changed: registered 0.05, and this version judges at 0.1"


def test_a_line_of_another_network_that_is_left_out_is_told(kept: Path, printed: Callable[..., Path]) -> None:
    other = printed(lambda one: one.update(network="other") if one["name"] == "ratio" else None)
    assert card(kept, "--claims", other) == {
        "printed ledger": "differs from the records: ratio (no such line); lines left out: ratio (small_cnn)"
    }


OF_A_LINE = {"name": "ratio", "network": "", "of": "", "verdict": "supported", "threshold": 0.0, "p_holm": 0.01}


@pytest.mark.parametrize(
    "content",
    [
        *("", "[1]", "{}", '[{"name": "ratio"}]'),
        json.dumps([{key: value for key, value in OF_A_LINE.items() if key != "threshold"}]),
        *(json.dumps([OF_A_LINE | odd]) for odd in ({"p_holm": "x"}, {"threshold": None}, {"of": []}, {"name": {}})),
    ],
)
def test_a_file_that_is_no_ledger_is_refused(content: str, kept: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    assert said(cli("audit", kept, "--claims", tmp_path / "x.json")).endswith(
        "must be what `sweep claims DIR --json` printed; print it anew"
    )


@pytest.mark.parametrize("key", ["threshold", "estimate"])
def test_a_number_that_is_too_large_for_one_is_another(key: str, kept: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([OF_A_LINE | {key: 10**400}]))
    assert "ratio" in card(kept, "--claims", tmp_path / "x.json")["printed ledger" if key == "estimate" else "margins"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda values: values.pop("alpha"), "alpha is missing"),
        (lambda values: values.update(seeds="all"), "seeds is no such value"),
        (lambda values: values.update(time="yesterday"), "time is no such value"),
        (lambda values: values.update(margin=math.inf), "margin is no such value"),
        (lambda values: values.update(alpha=math.nan), "alpha is no such value"),
        (lambda values: values["claims"]["ratio"].update(threshold=-math.inf), "claims is no such value"),
        (lambda values: values.update(more=1), "more: unknown key"),
        (lambda values: values.update(seeds=[]), "seeds is no such value"),
        (lambda values: values["stopping"].update(budget_hours="2"), "stopping is no such value"),
        (lambda values: values["claims"]["ratio"].pop("threshold"), "claims is no such value"),
    ],
)
def test_a_registration_that_is_none_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], object], why: str, run: Path
) -> None:
    values = json.loads((run / FILE).read_text())
    change(values)
    (run / FILE).write_text(json.dumps(values))
    where = f"sweep: {run / FILE}: must be as `sweep register` wrote it: {why}; restore it"
    assert said(cli("audit", run)) == said(cli("claims", run)) == where


def test_a_hash_must_be_one(kept: Path) -> None:
    assert "must be the 64 hex digits of a SHA-256, got 'abc'" in said(cli("audit", kept, "--hash", "abc"))


def test_what_a_merge_takes_in_keeps_the_registration_and_makes_links_of_its_own(
    kept: Path, run: Path, tmp_path: Path
) -> None:
    names = [one["trial_id"] for one in read_lines(run) if one["record"] == "trial"]
    edited(run, lambda one: one["record"] in ("launch", "trial") or one["trial_id"] in names[:4])
    merge_runs(tmp_path / "all", [run, kept], checkpoints=False, command="sweep merge all run kept")
    assert card(tmp_path / "all", "--hash", registered(kept)) == {}


def test_a_file_that_is_merged_each_time_it_has_grown_counts_its_launch_once(kept: Path, tmp_path: Path) -> None:
    """The launch stands anew before each part of what it began, so that all is as registered."""
    lines = (kept / RECORDS_FILE).read_text().splitlines(keepends=True)
    ends = [number for number, text in enumerate(lines, start=1) if '"record":"outcome"' in text]
    for name in (FILE, HASH_FILE):
        shutil.copy(kept / name, tmp_path)
    for number in (ends[2], ends[5], len(lines)):
        (tmp_path / "there.jsonl").write_text("".join(lines[:number]))
        merge_runs(tmp_path / "all", [tmp_path / "there.jsonl"], checkpoints=False, command="sweep merge")
    assert card(tmp_path / "all") == {}
    assert "as 1 launch found it" in cli("audit", tmp_path / "all").stdout


def test_a_merge_of_trials_whose_launch_line_is_lost_does_not_count_them_as_registered(
    run: Path, tmp_path: Path
) -> None:
    edited(run, lambda one: one["record"] != "launch")
    merge_runs(tmp_path / "all", [run], checkpoints=False, command="sweep merge all run")
    assert "registered" not in {one.registered for one in ledger(load_study(tmp_path / "all"))}


def test_a_merge_says_that_a_run_was_registered_otherwise(kept: Path, run: Path, tmp_path: Path) -> None:
    (run / FILE).write_text((run / FILE).read_text().replace('"margin": 0.01', '"margin": 0.05'))
    lines = merge_runs(tmp_path / "all", [kept, run], checkpoints=False, command="sweep merge all kept run")
    assert f"{run}: is registered as {registered(run)}, and {tmp_path / 'all'} otherwise: the card will say so" in lines
