"""`sweep evaluate`: what it runs, records and prints; again, interrupted, through Ray, and when it cannot."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from analysis.frames import checks, evaluations
from analysis.frames.images import classes_of, load_images
from analysis.frames.trials import load_epochs
from sweep import cli, group
from sweep.config_file import load
from sweep.evaluate import plan
from sweep.evaluate.chunk import Ended
from sweep.evaluate.command import _ATTACKS as OFFERED
from sweep.evaluate.plan import Asked, Chunk, gaps
from sweep.evaluate.run import _config, _Run, evaluate
from sweep.run import launch
from sweep.run.directory import EVALUATION, RunLock, is_live
from sweep.run.hung import BEGINNING, LEAST, UNKNOWN
from trainers.errors import UserError
from trainers.ladder import rungs
from trainers.ladder.rungs import Strength
from trainers.record import RecordFile, read

SWEEP = {
    "name": "small",
    "trial": {  # written out: a worker of Ray's imports this file, and finds no small.py
        "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 20, "test_per_class": 6},
        "model": {"name": "small_cnn"},
        "batch_size": 32,
        "epochs": 2,
        "attack": {"radius": 0.15, "step_size": 0.04, "steps": 2},
        "evaluation": {"steps": 2},
    },
    "space": {"optimizer.lr": [0.03, 0.1]},
    "max_concurrent": 2,
}
QUICK = ("clean", "fgsm", "pgd")
#: Keys of a record that may differ between two evaluations of the same.
INCIDENTAL = ("seconds", "time", "asked", "classes")

Evaluate = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small")
    (directory / "small.yaml").write_text(yaml.safe_dump(SWEEP))
    config = load(directory / "small.yaml")
    how: dict[str, Any] = {"command": "test", "serial": True, "debug": True}
    assert launch.Launch(config, directory / "run", Console(file=io.StringIO()), **how).run() == 0
    return directory / "run"


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.fixture
def evaluated() -> Evaluate:
    """Evaluates in this process unless told; gives the exit code and what was printed."""

    def call(directory: Path, attacks: tuple[Any, ...] = QUICK, **options: Any) -> tuple[int, str]:
        text = io.StringIO()
        where = {name: options.pop(name) for name in ("serial", "address", "overrides") if name in options}
        console = Console(file=text, width=200)
        return evaluate(directory, Asked(attacks, **options), console, **{"serial": True, **where}), text.getvalue()

    return call


@pytest.fixture
def command() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(cli.main, [str(word) for word in words])


def recorded(directory: Path) -> list[dict[str, Any]]:
    return [record for record in read(directory) if record["record"] == "evaluation"]


def numbers(directory: Path) -> list[str]:
    """The evaluation records without times, sorted."""
    kept = [{key: value for key, value in one.items() if key not in INCIDENTAL} for one in recorded(directory)]
    return sorted(json.dumps(one, sort_keys=True) for one in kept)


def rewrite(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes every record in place."""
    records = read(directory)
    for record in records:
        change(record)
    (directory / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def refused(directory: Path, evaluated: Evaluate, attacks: tuple[Any, ...] = QUICK, **options: Any) -> str:
    before = (directory / "records.jsonl").read_bytes()
    with pytest.raises(UserError) as error:
        evaluated(directory, attacks, **options)
    assert (directory / "records.jsonl").read_bytes() == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_clean_accuracy_is_the_one_that_training_recorded(run: Path, evaluated: Evaluate) -> None:
    code, text = evaluated(run)
    assert code == 0
    assert text.startswith("2 trials: clean, fgsm, pgd on 60 test images each (weights: last)\n")
    epochs = load_epochs(run).groupby("trial_id")["test_clean"].last()
    frame = evaluations.load_evaluations(run)
    assert len(frame) == 6
    assert frame["complete"].all()
    for row in frame.to_dict("records"):
        assert row["clean_accuracy"] == pytest.approx(epochs[row["trial_id"]], abs=1e-12)
        assert row["robust_accuracy"] <= row["clean_accuracy"]
    assert text.rstrip().endswith(f"all evaluations: sweep results {run} --evaluations")
    assert "PGD-20" in text


def test_a_record_says_what_was_measured_and_where(run: Path, evaluated: Evaluate) -> None:
    evaluated(run, ("pgd",), images=20, strength=Strength(steps=3, restarts=2))
    record = recorded(run)[0]
    ball = {"norm": "linf", "radius": 0.15, "steps": 3, "step_size": 0.04, "restarts": 2, "start": "uniform"}
    assert record["parameters"] == ball
    expected = {"weights": "last", "averaged": False, "attack": "pgd", "split": "test", "asked": 20, "first": 0}
    assert {key: record[key] for key in expected} == expected
    assert record["images"] == 20 >= record["clean_correct"] >= record["correct"]
    assert {"trial_id", "seconds", "host", "device", "code_version", "time"} <= set(record)


def test_the_same_command_again_runs_nothing(run: Path, evaluated: Evaluate) -> None:
    evaluated(run)
    before = (run / "records.jsonl").read_bytes()
    code, text = evaluated(run)
    assert code == 0
    assert "6 recorded already, 0 to run" in text
    assert "PGD-20" in text
    assert (run / "records.jsonl").read_bytes() == before


def test_more_images_reuse_the_chunks_that_are_there(run: Path, evaluated: Evaluate) -> None:
    evaluated(run, ("fgsm",), images=20)
    evaluated(run, ("fgsm",), images=1000)
    chunks = [(one["first"], one["images"]) for one in recorded(run)]
    assert chunks == [(0, 20), (0, 20), (20, 40), (20, 40)]
    assert list(evaluations.load_evaluations(run)["images"]) == [60, 60]


def test_to_an_evaluation_that_older_code_began_nothing_is_added_and_one_that_it_ended_is_not_run_again(
    run: Path, evaluated: Evaluate
) -> None:
    evaluated(run, ("pgd",), images=20)
    rewrite(run, lambda record: record.pop("draws", None))
    assert "2 recorded already, 0 to run" in evaluated(run, ("pgd",), images=20)[1]
    text = evaluated(run, ("pgd",))[1]
    assert "  2 begun by older code are begun anew: its draws depended on the chunk\n" in text
    assert [(one["first"], one["images"]) for one in recorded(run)] == [(0, 20), (0, 20), (0, 60), (0, 60)]
    assert list(evaluations.load_evaluations(run)["images"]) == [60, 60]
    assert "begun anew" not in evaluated(run, ("pgd",))[1]


def test_images_that_are_run_again_for_what_was_not_kept_are_not_called_older_code_s(
    run: Path, evaluated: Evaluate
) -> None:
    evaluated(run, ("fgsm", "pgd"), images=20)
    text = evaluated(run, ("fgsm", "pgd"), images=20, needs=("margins",))[1]
    assert "0 recorded already, 4 to run" in text
    assert "older code" not in text


def test_an_older_evaluation_counts_until_as_many_images_were_run_again(run: Path, evaluated: Evaluate) -> None:
    evaluated(run, ("pgd",), images=40)
    rewrite(run, without_bits)
    text = evaluated(run, ("pgd",), images=20, needs=("right",))[1]
    assert "begun anew" not in text  # they are run again for what was not kept
    assert "intervals over seeds, without the error of the test set where" not in " ".join(text.split())
    assert list(evaluations.load_evaluations(run)["images"]) == [40, 40]
    assert "2 recorded already, 2 to run" in evaluated(run, ("pgd",), images=40, needs=("right",))[1]
    assert list(evaluations.load_evaluations(run)["images"]) == [40, 40]
    assert len(bits_of(run, source="evaluation")) == 2


def test_other_weights_splits_and_strengths_are_other_evaluations(run: Path, evaluated: Evaluate) -> None:
    for options in ({}, {"split": "val"}, {"strength": Strength(radius=0.1)}):
        evaluated(run, ("fgsm",), **options)
    frame = evaluations.load_evaluations(run)
    assert len(frame) == 6
    assert set(zip(frame["split"], frame["radius"], frame["images"], strict=True)) == {
        ("test", 0.15, 60), ("val", 0.15, 40), ("test", 0.1, 60),
    }  # fmt: skip


@pytest.mark.parametrize("after", [1, 5, 11])
def test_an_interrupted_evaluation_goes_on_to_the_records_of_an_undisturbed_one(
    after: int, run: Path, trained_run: Path, tmp_path: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 25)
    append, seen = RecordFile.append, 0

    def count(file: RecordFile, kind: str, record: Any) -> None:
        nonlocal seen
        append(file, kind, record)
        seen += 1
        if seen == after:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RecordFile, "append", count)
        code, text = evaluated(run)
    assert code == 130
    assert text.endswith("stopped by SIGTERM; the same command goes on\n")
    assert len(recorded(run)) == after
    code, text = evaluated(run)
    assert code == 0
    assert f"{after} recorded already, {18 - after} to run" in text
    whole = Path(shutil.copytree(trained_run, tmp_path / "whole"))
    evaluated(whole)
    assert numbers(run) == numbers(whole)


def test_ray_and_this_process_give_the_same_records(
    run: Path, trained_run: Path, tmp_path: Path, evaluated: Evaluate, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 25)
    code, text = evaluated(run, serial=False)
    assert code == 0
    assert "0 recorded already, 18 to run" in text
    other = Path(shutil.copytree(trained_run, tmp_path / "other"))
    evaluated(other)
    assert numbers(run) == numbers(other)
    assert "18 recorded already, 0 to run" in evaluated(run, serial=False)[1]


@pytest.mark.slow
def test_through_ray_a_signal_stops_at_once_and_the_same_command_goes_on(
    run: Path, evaluated: Evaluate, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 25)
    append = RecordFile.append

    def stop(file: RecordFile, kind: str, record: Any) -> None:
        append(file, kind, record)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RecordFile, "append", stop)
        code, text = evaluated(run, serial=False)
    assert code == 130
    assert text.endswith("stopped by SIGTERM; the same command goes on\n")
    assert len(recorded(run)) == 1
    assert evaluated(run, serial=False)[0] == 0
    assert len(recorded(run)) == 18


def _in_a_process_that_fgsm_poisons(values: Any) -> Any:
    """A chunk, in a process that can compute no more once it has met fgsm; writes down which it was."""
    from sweep.evaluate import chunk
    from trainers import cards

    def broken(*args: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    with Path(values["directory"], "processes").open("a") as file:
        file.write(f"{values['attack']['name']} {os.getpid()}\n")
    if values["attack"]["name"] == "fgsm":
        chunk.count, cards.freed = broken, lambda device: False  # type: ignore[assignment]
    return chunk.run_chunk(values)


@pytest.mark.slow
def test_a_process_whose_gpu_answers_no_more_ends_with_its_chunk_and_the_next_chunks_get_a_new_one(
    run: Path, evaluated: Evaluate, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.evaluate.run.run_limited", _in_a_process_that_fgsm_poisons)
    code, text = evaluated(run, serial=False, overrides=("max_concurrent=1",))
    assert code == 1
    assert text.count("FGSM: RuntimeError: CUDA error: an illegal memory access was encountered (logs/") == 2
    assert [record["attack"] for record in recorded(run)] == ["clean", "clean", "pgd", "pgd"]
    began = [line.split() for line in (run / "processes").read_text().splitlines()]
    assert [attack for attack, _ in began] == ["clean", "clean", "fgsm", "fgsm", "pgd", "pgd"]
    first, second, poisoned, again, fifth, sixth = (process for _, process in began)
    assert first == second == poisoned
    assert fifth == sixth
    assert len({poisoned, again, fifth}) == 3


@pytest.mark.slow
def test_through_ray_a_chunk_that_hangs_is_ended_and_says_where_it_stood(
    run: Path, evaluated: Evaluate, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [record["trial_id"] for record in read(run) if record["record"] == "trial"]
    code, text = evaluated(run, ("clean",), serial=False, overrides=("resources.epoch_timeout=0.01",))
    assert (code, recorded(run)) == (1, [])
    for name in names:
        assert f"failed {name} clean: hung: it was not done within 0.01 s; where it stood: logs/{name}.log" in text
        assert "Timeout (" in (run / "logs" / f"{name}.log").read_text()
    assert list((run / "logs").glob("*.hung")) == []
    limits: list[float] = []
    limited = _Run.limited

    def noted(self: _Run, work: Any) -> dict[str, Any]:
        values = limited(self, work)
        limits.append(values["limit"])
        return values

    monkeypatch.setattr(_Run, "limited", noted)
    assert evaluated(run, ("clean",), serial=False, overrides=("max_concurrent=1",))[0] == 0
    assert limits == [UNKNOWN, LEAST + BEGINNING]


def test_an_evaluation_may_take_longer_than_an_epoch_of_its_run_unless_it_is_told_how_long(run: Path) -> None:
    text = (run / "sweep.yaml").read_text()
    (run / "sweep.yaml").write_text(text.replace("epoch_timeout: null", "epoch_timeout: 5"))
    assert load(run / "sweep.yaml").resources.epoch_timeout == 5
    assert _config(run, ["resources.cpu=1"]).resources.epoch_timeout is None
    assert _config(run, ["resources.epoch_timeout=7"]).resources.epoch_timeout == 7


def test_in_this_process_a_gpu_that_answers_no_more_ends_the_evaluation_and_the_same_command_goes_on(
    run: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("trainers.cards.freed", lambda device: False)
        patch.setattr("sweep.evaluate.chunk.count", lambda *args: 1 / 0)
        code, text = evaluated(run)
    assert code == 1
    assert recorded(run) == []
    name = read(run)[1]["trial_id"]
    failed, stopped = text.splitlines()[2:4]
    assert failed.startswith(f"failed {name} clean: ZeroDivisionError: ")
    assert stopped == (
        f"trial {name}: after its error the GPU answers this process no more, which ends here; "
        "the same command goes on in a new one"
    )
    assert evaluated(run)[0] == 0


def test_a_chunk_that_fails_is_told_and_the_other_evaluations_go_on(
    run: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.evaluate import chunk

    count = chunk.count

    def broken(network: Any, attack: Any, *place: Any) -> Any:
        if attack.name == "fgsm":
            raise RuntimeError("out of everything\nand more")
        return count(network, attack, *place)

    monkeypatch.setattr(plan, "CHUNK", 25)
    monkeypatch.setattr(chunk, "count", broken)
    code, text = evaluated(run)
    assert code == 1
    names = [record["attack"] for record in recorded(run)]
    assert (names.count("clean"), names.count("fgsm"), names.count("pgd")) == (6, 0, 6)
    told = [line for line in text.splitlines() if line.startswith("failed ")]
    assert len(told) == 2
    assert " FGSM: RuntimeError: out of everything (logs/" in told[0]
    assert "and more" in next((run / "logs").glob("*.log")).read_text()


def test_the_best_trials_are_those_of_the_cell_that_validation_chose(run: Path, evaluated: Evaluate) -> None:
    evaluated(run, ("clean",), best="overall")
    last = load_epochs(run).groupby("trial_id")["val_robust"].last()
    assert [record["trial_id"] for record in recorded(run)] == [last.idxmax()]


def test_a_cell_that_lacks_a_seed_is_not_the_best_one_and_that_is_said(run: Path, evaluated: Evaluate) -> None:
    last = load_epochs(run).groupby("trial_id")["val_robust"].last()
    lucky = next(record for record in read(run) if record.get("trial_id") == last.idxmax())
    file = RecordFile(run)
    file.append("trial", {**lucky, "trial_id": "seed1", "seed": 1, "number": 2})
    file.append("outcome", {"trial_id": "seed1", "outcome": "failed", "reason": "", "epochs": 0})
    file.close()
    _, text = evaluated(run, ("clean",), best="overall")
    assert [record["trial_id"] for record in recorded(run)] == [last.idxmin()]
    assert "  1 cell left out of the choice: not all of their seeds completed, or fewer than of the others; " in text
    better = (
        "perhaps not the best of PGD-AT: of the cells left out, 1 has a higher mean val robust over the seeds that it"
    )
    assert f"{better} kept, up to {100 * last.max():.2f} %" in text


def test_an_evaluation_and_a_launch_exclude_each_other(run: Path, evaluated: Evaluate) -> None:
    with RunLock(run):
        assert refused(run, evaluated).startswith(f"{run}: is in use by another command (sweep launch, process ")
    with RunLock(run, EVALUATION):
        assert not is_live(run)
        with pytest.raises(UserError, match=r"is in use by another command \(sweep evaluate, process "):
            RunLock(run)


def test_what_was_recorded_before_starts_were_is_not_run_again(run: Path, evaluated: Evaluate) -> None:
    evaluated(run)
    rewrite(run, lambda record: record.get("parameters", {}).pop("start", None))
    assert "6 recorded already, 0 to run" in evaluated(run)[1]


def test_what_is_no_run_stays_as_it_is(tmp_path: Path, evaluated: Evaluate) -> None:
    with pytest.raises(UserError, match=r"not a run directory: it has no records.jsonl"):
        evaluated(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_trials_that_cannot_be_evaluated_are_refused_before_anything_runs(run: Path, evaluated: Evaluate) -> None:
    first, second = list(dict.fromkeys(record["trial_id"] for record in read(run) if record["record"] == "trial"))
    listed = f"`sweep results {run}` lists their ids"
    assert refused(run, evaluated, trial_ids=("zz",)) == f"{run}: no trial begins with 'zz'; {listed}"
    assert refused(run, evaluated, trial_ids=("",)) == f"{run}: 2 trials begin with ''; {listed}"
    path = run / "checkpoints" / f"{second}.pt"
    best = refused(run, evaluated, weights="best")
    assert best.startswith(f"{path.with_stem(first)}: must hold the best weights, and holds last; choose of those, ")
    assert refused(run, evaluated, averaged=True).startswith(
        f"{path.with_stem(first)}: its last weights, of epoch 2, have no average; "
    )
    path.unlink()
    assert refused(run, evaluated).startswith(f"{path}: no such checkpoint; ")
    assert evaluated(run, ("clean",), trial_ids=(first[:6],))[0] == 0


def test_only_completed_trials_are_evaluated(run: Path, evaluated: Evaluate) -> None:
    def diverge(record: dict[str, Any]) -> None:
        if record["record"] == "outcome":
            record["outcome"] = "diverged"

    rewrite(run, diverge)
    assert refused(run, evaluated).startswith(f"{run}: needs a completed trial to attack, and all ")
    name = next(record["trial_id"] for record in read(run) if record["record"] == "trial")
    assert refused(run, evaluated, trial_ids=(name,)) == (
        f"{run}: trial {name} must be completed, and is diverged; choose another"
    )


def rewrite_config(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = yaml.safe_load((directory / "sweep.yaml").read_text())
    change(config)
    (directory / "sweep.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_what_was_trained_on_a_gpu_is_shown_without_one_and_evaluated_if_told_so(
    run: Path, evaluated: Evaluate
) -> None:
    rewrite_config(run, lambda config: config["resources"].update(gpu=1))
    assert refused(run, evaluated).startswith("resources.gpu: a trial asks for 1 GPU, and this machine has 0; ")
    assert "--set resources.gpu: must be <= 1, got 2: " in refused(run, evaluated, overrides=("resources.gpu=2",))
    code, text = evaluated(run, overrides=("resources.gpu=0",))
    assert (code, len(recorded(run))) == (0, 6)
    code, text = evaluated(run)
    assert code == 0
    assert "6 recorded already, 0 to run" in text


def test_a_run_whose_config_this_code_does_not_know_is_refused(run: Path, evaluated: Evaluate) -> None:
    rewrite_config(run, lambda config: config["trial"]["attack"].update(random_start=True))
    message = refused(run, evaluated)
    assert message.startswith(f"{run}/sweep.yaml: trial.attack.random_start: unknown key; ")
    assert message.endswith("; other code wrote this run: evaluate it with that code, or train it again")


def test_a_record_says_which_packages_attacked(run: Path, evaluated: Evaluate) -> None:
    evaluated(run, ("clean",))
    assert {tuple(record["versions"]) for record in recorded(run)} == {("torch",)}


def test_data_that_are_not_the_trial_s_are_refused(run: Path, evaluated: Evaluate) -> None:
    def other_data(record: dict[str, Any]) -> None:
        if record["record"] == "trial":
            record["config"]["data"]["fingerprint"] = "0123"

    rewrite(run, other_data)
    assert ": trial.data.fingerprint: the data in " in refused(run, evaluated)
    assert refused(run, evaluated).endswith("point trial.data.root at those, or leave trial.data.fingerprint out")


def test_a_trial_whose_config_this_code_does_not_know_is_refused(run: Path, evaluated: Evaluate) -> None:
    def older(record: dict[str, Any]) -> None:
        if record["record"] == "trial":
            record["config"]["optimizer"]["dampening"] = 0.5

    rewrite(run, older)
    name = next(record["trial_id"] for record in read(run) if record["record"] == "trial")
    message = refused(run, evaluated)
    assert message.startswith(f"{run}: trial {name}: optimizer.dampening: unknown key; ")
    assert message.endswith("; other code trained it: evaluate it with that code, or train it again")


def test_an_attack_whose_package_is_missing_is_refused(
    run: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install pyautoattack" in refused(run, evaluated, ("clean", "autoattack"))


def test_the_other_commands_do_not_mind_evaluations(
    run: Path, evaluated: Evaluate, command: Callable[..., Result]
) -> None:
    name = next(record["trial_id"] for record in read(run) if record["record"] == "trial")
    config = run.parent / "small.yaml"
    config.write_text(yaml.safe_dump(SWEEP))
    words = (["results", run], ["results", run, "--epochs"], ["status", run], ["show", run, name],
             ["plan", config, "--out", run])  # fmt: skip
    before = [command(*one).stdout for one in words]
    evaluated(run)
    assert [command(*one).stdout for one in words] == before
    assert "nothing left to run" in command("launch", config, "--out", run, "--serial").stdout


def test_the_command_evaluates_and_results_show_it(run: Path, command: Callable[..., Result], tmp_path: Path) -> None:
    name = next(record["trial_id"] for record in read(run) if record["record"] == "trial")
    answer = command("evaluate", run, name[:5], "--attack", "pgd", "--attack", "clean", "--steps", 2, "--step-size",
                     "8/255", "--radius", "16/255", "--images", 10, "--split", "val", "--serial")  # fmt: skip
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("1 trial: clean, pgd on 10 val images each (weights: last)\n")
    parameters = recorded(run)[-1]["parameters"]
    assert (parameters["radius"], parameters["step_size"], parameters["steps"]) == (16 / 255, 8 / 255, 2)
    table = tmp_path / "table.csv"
    assert command("results", run, "--evaluations", "--output", table).exit_code == 0
    assert len(table.read_text().splitlines()) == 3
    assert "PGD-2" in command("results", run, "--evaluations").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--serial", "--address", "auto"], "--serial: runs without Ray, so that --address says nothing; leave one of "
         "the two out"),
        (["a1", "--best"], "--best: chooses the trials, so that TRIAL_ID says nothing; leave one of the two out"),
        (["a1", "--best-each"], "--best-each: chooses the trials, so that TRIAL_ID says nothing; leave one of the two "
         "out"),
        (["--best", "--best-each"], "--best: and --best-each are two choices of trials; leave one of the two out"),
        (["--radius", "far"], "--radius: must be a number such as 0.1, 1e-4 or 8/255, got 'far'"),
        (["--radius", "-1"], "--radius: must be a finite number > 0, got '-1'"),
        (["--step-size", "nan"], "--step-size: must be a finite number > 0, got 'nan'"),
        (["--checks", "--steps", "9"], "--steps: none of the attacks reads it, checks; leave it out"),
        (["--attack", "autoattack", "--steps", "9"], "--steps: none of the attacks reads it, autoattack; leave it out"),
    ],
)  # fmt: skip
def test_options_that_say_nothing_are_refused(words: list[str], message: str, command: Callable[..., Result]) -> None:
    answer = command("evaluate", "none", *words)
    assert answer.exit_code == 2
    assert answer.stderr == f"sweep: {message}\n"


@pytest.mark.parametrize("option", ["--radius", "--step-size"])
def test_a_length_that_no_image_of_pixels_in_0_1_has_is_refused(
    option: str, run: Path, command: Callable[..., Result]
) -> None:
    answer = command("evaluate", run, "--attack", "pgd", option, "8", "--serial")
    assert answer.exit_code == 2
    assert (
        answer.stderr == f"sweep: {option}: must be <= 1 in linf, pixels being in [0, 1], got 8; did you mean 8/255?\n"
    )


def test_two_tables_at_once_are_refused(command: Callable[..., Result]) -> None:
    for one, other in (("--epochs", "--evaluations"), ("--evaluations", "--checks")):
        answer = command("results", "none", one, other)
        assert answer.stderr == f"sweep: {one}: and {other} are two tables; leave one of the two out\n"


QUICK_CHECKS = tuple(check for check in rungs.CHECKS if check != "black_box")


def checked(directory: Path) -> list[dict[str, Any]]:
    return [record for record in read(directory) if record["record"] == "check"]


@pytest.mark.parametrize("missing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_checks_are_recorded_printed_and_not_run_again_and_what_needs_the_package_is_said_not_to_run(
    missing: bool, run: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(group, "hiding", lambda: "")
    plan.cannot_run.cache_clear()
    name = next(record["trial_id"] for record in read(run) if record["record"] == "trial")
    words = ("evaluate", run, name, "--checks", "--images", 30, "--serial")
    answer = command(*words)
    plan.cannot_run.cache_clear()
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("1 trial: checks on 30 test images each (weights: last)\n")
    reason = "  check black_box is not run: needs pyautoattack, which is not installed\n"
    assert (reason in answer.stdout) is missing
    expected = QUICK_CHECKS if missing else rungs.CHECKS
    assert tuple(record["check"] for record in checked(run)) == expected
    for record in checked(run):
        assert record["images"] == 30 >= record["clean_correct"] >= record["against"] + record["in_favour"] >= 0
        assert record["parameters"] == {"norm": "linf", "radius": 0.15}
        assert {"trial_id", "seconds", "host", "device", "code_version", "versions", "time"} <= set(record)
    before = (run / "records.jsonl").read_bytes()
    again = command(*words)
    plan.cannot_run.cache_clear()
    assert f"  chunks of images: {len(expected)} recorded already, 0 to run\n" in again.stdout
    assert (run / "records.jsonl").read_bytes() == before
    assert recorded(run) == []
    rows = json.loads(command("results", run, "--checks", "--format", "json").stdout)
    assert [(row["check"], row["against"]) for row in rows] == [(one["check"], one["against"]) for one in checked(run)]
    assert {row["verdict"] for row in rows} <= {"passed", "failed", "too few"}
    assert "restarts" in command("results", run, "--checks").stdout


def test_checks_beside_attacks_are_of_200_images_and_more_reuse_them(
    run: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHECKS", ("single_step", "ascent"))
    monkeypatch.setattr(plan, "CHECKED", 20)
    code, text = evaluated(run, ("clean",), checks=True, radii=(0.1, 0.15))
    assert code == 0
    assert "2 trials: clean, checks at 2 radii on 20 to 60 test images each (weights: last)\n" in text
    assert {(one["check"], one["parameters"]["radius"], one["images"]) for one in checked(run)} == {
        (check, radius, 20) for check in ("single_step", "ascent") for radius in (0.1, 0.15)
    }
    evaluated(run, (), checks=True, radii=(0.1,), images=35)
    assert [(one["first"], one["images"]) for one in checked(run)[8:]] == [(20, 15)] * 4
    assert set(checks.load_checks(run)["images"]) == {35, 20}


def test_ray_and_this_process_count_the_same_in_checks(
    run: Path, trained_run: Path, tmp_path: Path, evaluated: Evaluate, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHECKS", ("single_step", "ascent"))
    other = Path(shutil.copytree(trained_run, tmp_path / "other"))
    for directory, serial in ((run, False), (other, True)):
        assert evaluated(directory, (), checks=True, serial=serial)[0] == 0
    kept = [
        sorted(str({key: value for key, value in one.items() if key not in INCIDENTAL}) for one in checked(directory))
        for directory in (run, other)
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 4


def test_checks_where_nothing_is_attacked_are_refused_with_the_way_out(run: Path, evaluated: Evaluate) -> None:
    def unattacked(record: dict[str, Any]) -> None:
        if record["record"] == "trial":
            record["config"]["evaluation"]["radius"] = 0

    rewrite(run, unattacked)
    message = refused(run, evaluated, (), checks=True)
    assert message.startswith("--checks: trial ")
    assert message.endswith(" is evaluated at radius 0, which no attack leaves; give --radius")


def test_all_agree_on_the_names_of_the_ladder() -> None:
    assert rungs.ATTACKS == OFFERED == tuple(evaluations.ATTACKS)
    read_by_some = {name for attack in rungs.ATTACKS for name in rungs.reads(attack)}
    assert read_by_some == set(evaluations.PARAMETERS)


@pytest.mark.parametrize(
    ("done", "images", "expected"),
    [
        ([], 5, [(0, 4), (4, 1)]),
        ([(0, 4)], 10, [(4, 4), (8, 2)]),
        ([(0, 3)], 10, [(3, 1), (4, 4), (8, 2)]),
        ([(2, 3), (3, 4)], 8, [(0, 2), (5, 3)]),
        ([(0, 20)], 8, []),
        ([(12, 4)], 8, [(0, 4), (4, 4)]),
    ],
)
def test_the_chunks_that_are_missing_fill_the_gaps(
    done: list[tuple[int, int]], images: int, expected: list[tuple[int, int]]
) -> None:
    chunks = [Chunk(*chunk)._asdict() for chunk in done]
    assert gaps(chunks, images, 4) == [Chunk(*chunk) for chunk in expected]


def test_what_was_trained_cannot_be_set(run: Path, evaluated: Evaluate) -> None:
    message = refused(run, evaluated, overrides=("trial.epochs=3",))
    assert message.startswith("--set trial.epochs: a trained network is as it is; set resources or trial.data.root, ")


def test_the_table_holds_what_was_asked_for_and_says_where_images_differ(run: Path, evaluated: Evaluate) -> None:
    first = next(record["trial_id"] for record in read(run) if record["record"] == "trial")
    evaluated(run, ("fgsm",), trial_ids=(first,))
    _, text = evaluated(run, ("clean", "fgsm"), images=20)
    assert text.count("FGSM") >= 2
    assert "n differs: some networks were attacked on more images than others" in " ".join(text.split())
    _, text = evaluated(run, ("clean",), images=20)
    assert "FGSM" not in text
    assert "n differs" not in text


def test_more_images_than_there_are_become_all_and_that_is_said(run: Path, evaluated: Evaluate) -> None:
    images = 60  # 6 of each digit
    said = f"  --images 5000: of test there are {images}, all of which are taken\n"
    assert said in evaluated(run, ("clean",), images=5000)[1]
    assert "--images" not in evaluated(run, ("clean",), images=images)[1]


def bits_of(directory: Path, **chosen: Any) -> list[list[bool]]:
    frame = load_images(directory)
    for name, value in chosen.items():
        frame = frame[frame[name] == value]
    return [right.tolist() for right in frame["right"]]


def test_each_image_s_result_is_recorded_in_one_order_whatever_the_chunks(
    run: Path, trained_run: Path, tmp_path: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(run, ("clean", "fgsm"))
    other = Path(shutil.copytree(trained_run, tmp_path / "other"))
    monkeypatch.setattr(plan, "CHUNK", 25)
    evaluated(other, ("clean", "fgsm"))
    for attack in ("clean", "fgsm"):
        assert bits_of(run, attack=attack) == bits_of(other, attack=attack)
    assert bits_of(run, attack="clean", source="evaluation") == bits_of(
        run, attack="clean", source="training", split="test"
    )
    for row, robust in zip(
        load_images(run).query("source == 'evaluation'").to_dict("records"),
        evaluations.load_evaluations(run)["robust_accuracy"],
        strict=True,
    ):
        assert row["right"].mean() == robust


def test_training_s_last_bits_are_those_of_the_same_attack_in_the_same_places(
    run: Path, tmp_path: Path, evaluated: Evaluate
) -> None:
    """From the clean image an attack draws nothing: what training saw in the split's places an evaluation sees anew."""
    sweep = {**SWEEP, "space": {"optimizer.lr": [0.1]}}
    sweep["trial"] = {**SWEEP["trial"], "evaluation": {"steps": 4, "start": "clean"}}  # type: ignore[dict-item]
    (tmp_path / "clean.yaml").write_text(yaml.safe_dump(sweep))
    config = load(tmp_path / "clean.yaml")
    directory = tmp_path / "clean"
    launched = launch.Launch(config, directory, Console(file=io.StringIO()), command="test", serial=True, debug=True)
    assert launched.run() == 0
    for split in ("test", "val"):
        evaluated(directory, ("pgd",), split=split, strength=Strength(steps=4))
        trained, attacked = (
            bits_of(directory, source=source, split=split, attack="pgd") for source in ("training", "evaluation")
        )
        assert trained == attacked
        assert 0 < sum(trained[0]) < len(trained[0])
    classes = classes_of(read(directory))
    assert set(classes) == set(load_images(directory)["fingerprint"])


def test_the_classes_of_a_split_stand_once_an_evaluation(run: Path, evaluated: Evaluate) -> None:
    evaluated(run)
    evaluated(run, ("clean",), split="val")
    assert [record.get("classes") is not None for record in recorded(run)] == [True, *[False] * 5, True, False]


def test_several_radii_are_an_evaluation_each_and_clean_is_run_once(run: Path, evaluated: Evaluate) -> None:
    code, text = evaluated(run, ("clean", "pgd"), radii=(0.05, 0.1, 0.15))
    assert code == 0
    assert text.startswith("2 trials: clean, pgd at 3 radii on 60 test images each (weights: last)\n")
    assert "PGD-20 at 0.05: " in text
    frame = evaluations.load_evaluations(run)
    assert (
        frame.groupby("trial_id")["radius"].apply(lambda radii: radii.dropna().tolist()).tolist()
        == [[0.05, 0.1, 0.15]] * 2
    )
    assert len(frame) == 8
    assert frame["step_size"].dropna().tolist() == pytest.approx([0.04 / 3, 0.08 / 3, 0.04] * 2)
    assert "8 recorded already, 0 to run" in evaluated(run, ("clean", "pgd"), radii=(0.05, 0.1, 0.15))[1]


def test_radii_of_the_command_are_each_checked_and_sorted(run: Path, command: Callable[..., Result]) -> None:
    words = ("evaluate", run, "--serial", "--attack", "fgsm")
    assert command(*words, "--radius", "0.1", "--radius", "12.75/255", "--radius", "0.1").exit_code == 0
    assert [one["parameters"]["radius"] for one in recorded(run)] == [0.05, 0.1, 0.05, 0.1]
    zero = command(*words, "--radius", "0.1", "--radius", "0").stderr
    assert zero == "sweep: --radius: must be a finite number > 0, got '0'\n"
    assert "--radius: " in command(*words, "--radius", "0.1", "--radius", "8").stderr


def without_bits(record: dict[str, Any]) -> None:
    for name in ("right", "clean_right", "fingerprint", "classes", "margins", "draws"):
        if record["record"] == "evaluation":
            record.pop(name, None)


def test_what_older_code_recorded_is_run_again_for_the_bits_if_that_is_asked_for(
    run: Path, evaluated: Evaluate, command: Callable[..., Result]
) -> None:
    evaluated(run)
    rewrite(run, without_bits)
    before = evaluations.load_evaluations(run).drop(columns="seconds")
    assert "6 recorded already, 0 to run" in evaluated(run)[1]
    assert "older code recorded 6 evaluations without each image's result; " in command("images", run).stdout
    assert "0 recorded already, 6 to run" in evaluated(run, needs=("right",))[1]
    assert len(bits_of(run, source="evaluation")) == 6
    assert evaluations.load_evaluations(run).drop(columns="seconds").equals(before)
    assert "6 recorded already, 0 to run" in evaluated(run, needs=("right",))[1]
    assert "older code" not in command("images", run).stdout


def test_margins_are_kept_where_they_are_asked_for(run: Path, evaluated: Evaluate) -> None:
    evaluated(run, ("clean", "pgd"), images=20)
    assert {record["margins"] for record in recorded(run)} == {None}
    evaluated(run, ("clean", "pgd"), images=20, needs=("margins",))
    frame = load_images(run).query("source == 'evaluation'")
    assert [(row["margins"] > 0).tolist() == row["right"].tolist() for row in frame.to_dict("records")] == [True] * 4
    assert "4 recorded already, 0 to run" in evaluated(run, ("clean", "pgd"), images=20, needs=("margins",))[1]


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def another_trial_s(path: Path) -> None:
    (other,) = [file for file in path.parent.iterdir() if file != path]
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damaged, "is damaged: its bytes are not those that were written (sha256)"),
        (cut, "is damaged, or no checkpoint: it is no whole archive (BadZipFile)"),
        (another_trial_s, "is of another trial, "),
    ],
)
def test_a_trial_whose_kept_weights_are_damaged_is_skipped_with_its_reason_and_the_others_are_evaluated(
    damage: Callable[[Path], None], why: str, run: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 25)
    first, second = list(dict.fromkeys(record["trial_id"] for record in read(run) if record["record"] == "trial"))
    path = run / "checkpoints" / f"{first}.pt"
    damage(path)
    code, text = evaluated(run)
    assert code == 1
    assert {record["trial_id"] for record in recorded(run)} == {second}
    (line,) = [line for line in text.splitlines() if line.startswith(("skipped", "failed"))]
    assert line.startswith(f"skipped {first}: {path}: {why}")
    assert line.endswith("; put back a copy of it, or launch into another --out to train it again")


@pytest.mark.parametrize("checks", [False, True])
def test_where_nothing_could_be_evaluated_one_line_says_so(
    checks: bool, run: Path, evaluated: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.evaluate.run.run_chunk", lambda values: Ended("out of memory: no room", True))
    code, text = evaluated(run, () if checks else ("clean",), checks=checks, images=5)
    assert code == 1
    assert text.splitlines()[-1] == f"{run}: nothing could be evaluated; the lines above say why"
    assert "out of memory: no room" in text
