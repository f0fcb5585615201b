"""A longer trial goes on from a shorter one's end, to the bit as if it had never stopped, or says why it does not."""

from __future__ import annotations

import ast
import itertools
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import tiny

import trainers
from trainers import archive, checkpoint, longer, loop, resuming
from trainers.checkpoint import kept_weights
from trainers.config import TrialConfig
from trainers.engine import Engine
from trainers.identity import trial_id
from trainers.loop import train, with_fingerprint
from trainers.method.schedules import lr_factor
from trainers.record import DynamicsRecord, EpochRecord, OutcomeRecord, ResumeRecord

TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}
SHORT, LONG = 2, 4
CPU = torch.device("cpu")
CONSTANT = {"name": "constant"}
#: The method that a trial has beside its schedule: each kind of state that is carried on, and each key that begins.
METHODS: dict[str, dict[str, Any]] = {
    "pgd_at": {"optimizer": {"lr": 0.1, "momentum": 0.9}},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.01}},
    "deat": {"optimizer": {"name": "deat", "lr": 0.1}},
    "trades": {"objective": {"name": "trades"}},
    "awp": {"weights": {"name": "awp", "warmup": 1}, "clean_passes": 1},
    "awp that begins later": {"weights": {"name": "awp", "warmup": 3}, "clean_passes": 1},
    "ema": {"averaging": {"name": "ema", "decay": 0.5}},
    "ema with a warm-up": {"averaging": {"name": "ema", "decay": 0.5, "ema_warmup": True, "start": 1}},
    "swa": {"averaging": {"name": "swa", "start": 1}},
    "free": {"attack": {"radius": 0.15, "step_size": 0.15, "replays": 2}},
    "fat that rises": {
        "attack": {
            "radius": 0.15,
            "step_size": 0.04,
            "steps": 2,
            "tau": 0,
            "tau_milestones": [1, 3],
            "radius_warmup": 3,
        }
    },
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": CONSTANT,
    "piecewise before its milestone": {"name": "piecewise", "milestones": [3]},
    "piecewise at its milestone": {"name": "piecewise", "milestones": [1, SHORT]},
    "a rise that is not over": {"name": "constant", "warmup_epochs": 3},
}
OTHERS: dict[str, dict[str, Any]] = {
    "cosine": {"name": "cosine"},
    "linear": {"name": "linear"},
    "one_cycle": {"name": "one_cycle"},
    "cosine below a rise": {"name": "cosine", "warmup_epochs": 3},
}


def config(epochs: int, **values: Any) -> TrialConfig:
    """One of three steps an epoch, of images as few as do."""
    data = {"name": "digits", "validation_fraction": 0.2, "train_per_class": 5, "test_per_class": 2}
    small = {"data": data, "batch_size": 16, "evaluation": {"steps": 1}}
    return tiny(**{"epochs": epochs, "schedule": CONSTANT, "keep": "state", **small} | values)


def run(
    trial: TrialConfig, path: Path, shorter: Iterable[Path] = ()
) -> tuple[list[Any], list[ResumeRecord], OutcomeRecord]:
    """The trial's records without times, what is said of where it goes on from, and its outcome."""
    records: list[Any] = []
    begun: list[ResumeRecord] = []

    def report(record: EpochRecord | DynamicsRecord | ResumeRecord) -> None:
        if isinstance(record, ResumeRecord):
            begun.append(record)
        else:
            times = TIMES if isinstance(record, EpochRecord) else {"seconds": 0.0}
            records.append(replace(record, **times))

    return records, begun, train(trial, report, path, shorter)


def same(one: Any, other: Any) -> bool:
    """Equal, tensors to the bit; times aside."""
    if isinstance(one, dict):
        times = {*TIMES, "preparing_seconds", "checkpoint_seconds"}
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one.keys() - times)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def goes_on(folder: Path, **values: Any) -> None:
    """Trains the longer one from the shorter one's end, and from its start; they are the same."""
    short, long = config(SHORT, **values), config(LONG, **values)
    _, _, ended = run(short, folder / "short.pt")
    assert ended.state_kept
    before = (folder / "short.pt").read_bytes()
    records, begun, _ = run(long, folder / "long.pt", [folder / "short.pt"])
    assert begun == [ResumeRecord(trial_id(with_fingerprint(long)), SHORT, "", trial_id(with_fingerprint(short)))]
    never_stopped, nothing, _ = run(long, folder / "whole.pt")
    assert (records, nothing) == (never_stopped, [])
    assert same(*(archive.read(folder / name) for name in ("long.pt", "whole.pt")))
    assert (folder / "short.pt").read_bytes() == before


@pytest.mark.parametrize("method", METHODS)
def test_a_longer_trial_goes_on_to_the_bit_as_if_never_stopped_whatever_is_trained(method: str, tmp_path: Path) -> None:
    goes_on(tmp_path, **METHODS[method])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_longer_trial_goes_on_to_the_bit_where_its_learning_rates_are_those_of_the_shorter_one(
    schedule: str, tmp_path: Path
) -> None:
    goes_on(tmp_path, schedule=SCHEDULES[schedule])


def test_what_is_measured_only_because_an_epoch_is_the_last_is_no_part_of_a_longer_trial(tmp_path: Path) -> None:
    dynamics = {"every": 3, "images": 20, "eigenpairs": 1, "directions": 1, "probes": 2, "batches": 4}
    goes_on(tmp_path, evaluation={"steps": 2, "every": 3}, dynamics=dynamics)
    short, long = (archive.read(tmp_path / f"{name}.pt") for name in ("short", "long"))
    assert [one["epoch"] for one in short["dynamics"]] == [0, 2]
    assert [one["epoch"] for one in long["dynamics"]] == [0, 3, 4]
    assert [one["val_robust"] is not None for one in long["history"]] == [False, False, True, True]


def test_best_weights_of_an_epoch_that_a_longer_trial_does_not_evaluate_are_not_its_best(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The third epoch is the shorter trial's best; the longer one, evaluated at 2 and 4 and 5, has the second."""
    scores, measured = {1: 0.9, 2: 0.5, 3: 0.7, 4: 0.4, 5: 0.3}, loop._evaluation

    def scripted(trial: Any, epoch: int) -> dict[str, Any]:
        return measured(trial, epoch) | {"val_robust": scores[epoch + 1]}

    monkeypatch.setattr(loop, "_evaluation", scripted)
    every = {"evaluation": {"steps": 1, "every": 2}}
    run(config(3, **every), tmp_path / "short.pt")
    assert archive.read(tmp_path / "short.pt")["weights"]["best"]["epoch"] == 3
    _, begun, _ = run(config(5, **every), tmp_path / "long.pt", [tmp_path / "short.pt"])
    assert [one.epoch for one in begun] == [3]
    assert archive.read(tmp_path / "long.pt")["weights"]["best"]["epoch"] == 2
    run(config(5, **every), tmp_path / "whole.pt")
    assert same(*(kept_weights(tmp_path / f"{name}.pt", "best") for name in ("long", "whole")))


@pytest.mark.parametrize("keep", ["none", "last", "best", "both"])
def test_a_longer_trial_that_keeps_something_else_goes_on_all_the_same(keep: str, tmp_path: Path) -> None:
    run(config(SHORT), tmp_path / "short.pt")
    _, begun, ended = run(config(LONG, keep=keep), tmp_path / "long.pt", [tmp_path / "short.pt"])
    run(config(LONG, keep=keep), tmp_path / "whole.pt")
    assert len(begun) == 1
    assert not ended.state_kept
    assert same(*(archive.read(tmp_path / f"{name}.pt") for name in ("long", "whole")))


@pytest.mark.parametrize("schedule", OTHERS)
def test_where_the_beginning_hangs_on_the_number_of_epochs_a_longer_trial_begins_afresh(
    schedule: str, tmp_path: Path
) -> None:
    values = {"schedule": OTHERS[schedule]}
    run(config(SHORT, **values), tmp_path / "short.pt")
    records, begun, _ = run(config(LONG, **values), tmp_path / "long.pt", [tmp_path / "short.pt"])
    kind = OTHERS[schedule]["name"]
    assert [(one.epoch, one.reason, one.from_trial) for one in begun] == [
        (0, f"short.pt {kind}: its beginning depends on epochs", None)
    ]
    assert records == run(config(LONG, **values), tmp_path / "whole.pt")[0]


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_other_code(path: Path) -> None:
    archive.write(path, archive.read(path) | {"code_version": "0" * 12})


def without_a_part(path: Path) -> None:
    state = archive.read(path)
    archive.write(path, state | {"running": {key: state["running"][key] for key in ("epoch", "model", "best")}})


def without_records(path: Path) -> None:
    archive.write(path, {key: value for key, value in archive.read(path).items() if key != "history"})


def of_another_kind(path: Path) -> None:
    archive.write(path, archive.read(path) | {"history": 3})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (damaged, "is damaged: its bytes are not those that were written"),
        (Path.unlink, "is not there"),
        (of_other_code, "is of other code (000000000000)"),
        (without_a_part, "must hold attack, averaging, epoch, model, optimizer while it trains"),
        (without_records, "is not what a trial writes (KeyError)"),
        (of_another_kind, "is not what a trial writes (TypeError)"),
    ],
)
def test_a_shorter_trials_file_that_is_none_to_go_on_from_is_passed_over_with_its_reason(
    change: Any, why: str, tmp_path: Path
) -> None:
    run(config(1), tmp_path / "one.pt")
    shutil.copy(tmp_path / "one.pt", tmp_path / "whole.pt")
    run(config(2), tmp_path / "two.pt")
    change(tmp_path / "two.pt")
    files = [tmp_path / "two.pt", tmp_path / "one.pt"]
    records, begun, _ = run(config(3), tmp_path / "three.pt", files)
    assert [(one.epoch, one.reason[: len(f"two.pt {why}")]) for one in begun] == [(1, f"two.pt {why}")]
    change(tmp_path / "one.pt")
    again, begun, _ = run(config(3), tmp_path / "again.pt", files)
    assert [(one.epoch, one.from_trial) for one in begun] == [(0, None)]
    assert again == records


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"keep": "both"}, "holds no state to go on from: it was not trained with keep: state"),
        ({"seed": 1}, "is of another trial, "),
        ({"schedule": {"name": "piecewise", "milestones": [1]}}, "is of another trial, "),
        ({"averaging": {"name": "ema"}}, "is of another trial, "),
        ({"epochs": LONG}, "holds 4 epochs of a trial of 4"),
        ({"epochs": LONG + 1}, "holds 5 epochs of a trial of 4"),
    ],
)
def test_a_file_of_another_trial_is_not_gone_on_from(values: dict[str, Any], why: str, tmp_path: Path) -> None:
    run(config(**{"epochs": SHORT, **values}), tmp_path / "other.pt")
    _, begun, _ = run(config(LONG), tmp_path / "long.pt", [tmp_path / "other.pt"])
    assert len(begun) == 1
    assert begun[0].reason.startswith(f"other.pt {why}")
    assert begun[0].epoch == 0


@pytest.mark.parametrize("deterministic", [False, True])
def test_another_engine_is_another_beginning_only_where_bits_are_promised(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a GPU, where `engine: auto` compiles the longer one alone."""
    values = {"deterministic": deterministic}
    run(config(SHORT, **values), tmp_path / "short.pt")
    modes = {SHORT: "graph", LONG: "compile"}
    monkeypatch.setattr(resuming, "engine_of", lambda trial, images: (Engine(CPU, "fp32", modes[trial.epochs]), ""))
    _, begun, _ = run(config(LONG, **values), tmp_path / "long.pt", [tmp_path / "short.pt"])
    reason = "short.pt was trained with another engine, whose bits are others; set trial.engine"
    assert [(one.epoch, one.reason) for one in begun] == [(0, reason) if deterministic else (SHORT, "")]


def test_a_longer_trial_that_was_stopped_goes_on_from_its_own_checkpoint_and_from_no_other(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record: Any) -> None:
        if isinstance(record, EpochRecord) and record.epoch == SHORT + 1:
            raise Stopped

    def asked() -> Iterable[Path]:
        raise AssertionError("nobody asks for a shorter one")
        yield

    run(config(SHORT), tmp_path / "short.pt")
    with pytest.raises(Stopped):
        train(config(LONG), stop, tmp_path / "long.pt", [tmp_path / "short.pt"])
    records, begun, _ = run(config(LONG), tmp_path / "long.pt", asked())
    assert begun == []
    assert records == run(config(LONG), tmp_path / "whole.pt")[0]


def test_a_trial_that_ended_before_its_outcome_was_written_says_again_that_its_state_is_kept(tmp_path: Path) -> None:
    run(config(SHORT), tmp_path / "short.pt")
    assert run(config(SHORT), tmp_path / "short.pt")[2].state_kept
    run(config(SHORT, keep="last"), tmp_path / "weights.pt")
    assert not run(config(SHORT), tmp_path / "weights.pt")[2].state_kept


def test_the_state_holds_weights_once_that_it_has_under_two_names(tmp_path: Path) -> None:
    """SGD with momentum and an average, the last epoch the best: weights 2 x 2 times, momentum once, in one file."""
    trial = config(1, averaging={"name": "ema"}, optimizer={"lr": 0.1, "momentum": 0.9})
    sizes = {}
    for keep in ("both", "state"):
        run(trial.model_copy(update={"keep": keep}), tmp_path / f"{keep}.pt")
        sizes[keep] = (tmp_path / f"{keep}.pt").stat().st_size
    state = checkpoint.load(tmp_path / "state.pt")
    momentum = sum(value.nbytes for kept in state["running"]["optimizer"]["state"].values() for value in kept.values())
    assert momentum > 0
    assert sizes["state"] - sizes["both"] == pytest.approx(momentum, rel=0.1)


def test_keep_is_no_part_of_a_trials_id() -> None:
    trials = [with_fingerprint(config(SHORT, keep=keep)) for keep in ("none", "last", "best", "both", "state")]
    assert len({trial_id(trial) for trial in trials}) == 1


def test_the_state_of_a_trial_without_validation_images_is_kept_without_best_weights(tmp_path: Path) -> None:
    goes_on(tmp_path, evaluation={"steps": 1, "splits": ["test"]})
    assert archive.read(tmp_path / "long.pt")["weights"].keys() == {"last"}


def test_a_schedule_is_judged_by_its_factors_and_not_by_its_name() -> None:
    for schedule in (*SCHEDULES.values(), *OTHERS.values(), {"name": "piecewise", "milestones": [1], "factor": 1}):
        short, long = (config(epochs, schedule=schedule).resolved() for epochs in (SHORT, LONG))
        places = [place / 100 for place in range(100 * SHORT)]
        alike = all(lr_factor(short.schedule, p, SHORT) == lr_factor(long.schedule, p, LONG) for p in places)
        assert (longer.why_not(long, SHORT) == "") is alike, schedule


@pytest.mark.parametrize(("schedule", "method"), [*itertools.product([*SCHEDULES, *OTHERS], METHODS)])
def test_a_trial_of_fewer_epochs_is_another_trial_wherever_what_its_keys_stand_for_hangs_on_epochs(
    schedule: str, method: str
) -> None:
    """Of each resolved part that training reads: the same in both lengths, or the ids tell the two apart."""
    values = {"schedule": {**SCHEDULES, **OTHERS}[schedule], **METHODS[method]}
    short, long = (with_fingerprint(config(epochs, **values)) for epochs in (SHORT, LONG))
    begins = longer.beginning(long, SHORT)
    assert trial_id(begins) == trial_id(short)
    assert begins.model_dump(exclude={"epochs"}) == long.model_dump(exclude={"epochs"})


@pytest.mark.parametrize(
    ("values", "short", "long"),
    [
        ({"averaging": {"name": "swa"}}, 8, 16),  # begins after three quarters of the epochs
        ({"weights": {"name": "awp", "warmup": 3}}, 2, 4),  # a clean pass less, where it begins at all
    ],
)
def test_a_key_left_out_that_stands_for_another_value_in_a_longer_trial_makes_another_trial(
    values: Any, short: int, long: int
) -> None:
    one, other = (with_fingerprint(config(epochs, **values)) for epochs in (short, long))
    assert trial_id(longer.beginning(other, short)) != trial_id(one)


#: Who reads how many epochs there are in all, and why a longer trial may go on all the same.
READERS = {
    "config/trial.py:_consistent": "refuses a config",
    "config/trial.py:evaluates": "the last epoch is evaluated: `longer.continued` drops what is not due",
    "config/trial.py:resolved": "values of keys left out: in the id",
    "counting.py:_slots": "an estimate",
    "counting.py:_step": "an estimate",
    "counting.py:epoch_flops": "an estimate",
    "dynamics/measurement.py:is_due": "the last epoch is measured: `longer.continued` drops what is not due",
    "engine.py:_asked": "whether to compile: `resuming` compares the engines where bits count",
    "identity.py:identity": "the id itself",
    "identity.py:_read_by_attack": "the id itself",
    "identity.py:_read_by_schedule": "the id itself",
    "longer.py:why_not": "compares the lengths",
    "loop.py:_checkpoint": "the last file is waited for",
    "loop.py:_epochs": "where training ends",
    "loop.py:_evaluation": "bits of the last epoch: `longer.continued` drops them",
    "running.py:restore": "an ended trial trains no more",
    "running.py:checkpoint_state": "what the last file holds",
    "loop.py:_train": "learning rate before the first step: `longer.why_not` compares it",
    "probe.py:_epoch_seconds": "an estimate",
    "probe.py:_step_seconds": "an estimate",
    "rehearsal.py:_rehearse": "a step of its own",
    "resuming.py:_check": "which parts a file holds",
    "resuming.py:_check_records": "which epochs a file holds",
    "resuming.py:_check_weights": "which epoch weights are of",
    "resuming.py:_continued": "a shorter trial is shorter",
    "stint.py:_run": "how many there were, told",
    "stint.py:_trained": "how many there were, told",
    "stint.py:add": "which epochs were measured",
    "stint.py:finished": "which epochs were measured",
    "stint.py:has": "which epochs were measured",
    "stint.py:report": "whether another epoch fits into a stint",
    "training.py:_steps": "learning rate: `longer.why_not` compares it",
}


def test_whoever_reads_how_many_epochs_there_are_in_all_was_thought_of() -> None:
    """One who is not listed may make the beginning of a training hang on its end: list it with what keeps that out."""
    root = Path(trainers.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and any(map(_reads_epochs, ast.walk(function))):
                found.add(f"{path.relative_to(root)}:{function.name}")
    assert found == READERS.keys()


def _reads_epochs(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "epochs"
