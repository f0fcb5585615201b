"""`sweep images`: what it shows, writes and says to be missing."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from sweep.cli import main
from trainers.record import EpochRecord, OutcomeRecord, RecordFile

N = 40
LABELS = np.arange(N) % 2
PLACES = np.arange(N)[::-1]
PGD = LABELS == 0
AUTO = PGD & (np.arange(N) > 3)
CLASSES = {
    "labels": base64.b64encode(LABELS.astype("u1").tobytes()).decode(),
    "places": base64.b64encode(PLACES.astype("<u4").tobytes()).decode(),
    "names": ["cat", "dog"],
}
RADIUS = {"norm": "linf", "radius": 8 / 255}


def bits(right: Any) -> str:
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def chunk(attack: str, right: Any, trial: str = "aaaa", **values: Any) -> dict[str, Any]:
    steps = {"steps": 20, "step_size": 0.01, "restarts": 1, "start": "uniform"} if attack == "pgd" else {}
    return {
        **{
            "trial_id": trial,
            "weights": "last",
            "averaged": False,
            "attack": attack,
            "parameters": {**RADIUS, **steps},
        },
        **{"split": "test", "asked": N, "first": 0, "images": N, "clean_correct": N, "correct": int(right.sum())},
        **{"seconds": 1.0, "right": bits(right), "clean_right": bits(np.ones(N, bool)), "fingerprint": "f", **values},
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A run of two completed trials, the bits of whose training are known, with evaluations."""
    file = RecordFile(tmp_path)
    file.append("launch", {"time": 0.0, "size": 2, "wanted": [], "metric": "val_robust", "mode": "max"})
    for number, name in enumerate(("aaaa", "bbbb")):
        config = {
            "model": {"name": "small_cnn"},
            "optimizer": {"lr": 0.1},
            "batch_size": 8,
            "epochs": 1,
            "evaluation": {"radius": 8 / 255, "steps": 10},
        }
        file.append("trial", {"trial_id": name, "number": number, "config": config, "point": {}, "seed": number})
        file.append("start", {"trial_id": name, "time": 1.0, "host": "h", "device": "cpu", "code_version": "abc"})
        right = {"test": {"images": N, "fingerprint": "f", "clean": bits(np.ones(N, bool)), "robust": bits(PGD)}}
        file.append("epoch", EpochRecord(name, 1, 0.1, test_robust=0.5, right=right))
        file.append("outcome", {**vars(OutcomeRecord(name, "completed", "", 1)), "time": 3.0})

    def evaluations(*chunks: dict[str, Any]) -> Path:
        for one in chunks:
            file.append("evaluation", one)
        file.close()
        return tmp_path

    return evaluations


def images(directory: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["images", str(directory), *words])


def test_each_evaluation_has_its_worst_class_and_each_pair_its_agreement(write: Callable[..., Path]) -> None:
    run = write(chunk("pgd", PGD, classes=CLASSES), chunk("autoattack", AUTO))
    text = images(run).stdout
    assert "dog" in text
    assert "PGD-10 (training)" in text  # of the trial that was not evaluated
    assert text.count("│ aaaa") == 3
    assert text.count("│ bbbb") == 2
    assert "95.0 [83.5, 98.6]" in text
    (pair,) = json.loads(images(run, "--agreement", "--format", "json").stdout)
    assert pair["places"] == PLACES[[0, 2]].tolist()
    assert [pair[key] for key in ("both_right", "only_first_breaks", "only_second_breaks", "both_wrong")] == [
        18,
        0,
        2,
        20,
    ]


def test_that_training_s_own_rows_of_an_evaluated_trial_are_left_out_is_said(write: Callable[..., Path]) -> None:
    run = write(chunk("pgd", PGD, classes=CLASSES))
    line = "of trials that were evaluated, what training measured is left out; --format csv has it"
    for words in ((), ("--by-class",)):
        assert line in images(run, *words).stdout.splitlines()
    assert line not in images(run, "bbbb").stdout
    rows = json.loads(images(run, "aaaa", "--format", "json").stdout)
    assert {row["source"] for row in rows} == {"evaluation", "training"}


def test_one_trial_is_shown_whether_it_was_attacked_or_only_trained(write: Callable[..., Path]) -> None:
    run = write(chunk("pgd", PGD, classes=CLASSES))
    for beginning, other in (("a", "bbbb"), ("b", "aaaa")):
        answer = images(run, beginning)
        assert answer.exit_code == 0, answer.output
        assert f"│ {4 * beginning} " in answer.stdout
        assert other not in answer.stdout


def test_without_a_pair_of_attacks_the_agreement_says_what_makes_one(write: Callable[..., Path]) -> None:
    run = write(chunk("pgd", PGD, classes=CLASSES))
    text = " ".join(images(run, "--agreement").stdout.split())
    assert text.startswith("no network was attacked by both PGD and AutoAttack at one radius; sweep evaluate ")


def test_a_table_fits_80_columns_with_names_of_usual_length(write: Callable[..., Path]) -> None:
    run = write(chunk("pgd", PGD, classes=CLASSES), chunk("autoattack", AUTO))
    for words in ((), ("--by-class",), ("--agreement",)):
        assert max(map(len, images(run, *words).stdout.splitlines())) <= 90


def test_a_file_by_class_has_a_row_a_class(write: Callable[..., Path], tmp_path: Path) -> None:
    run = write(chunk("pgd", PGD, classes=CLASSES))
    assert images(run, "aa", "--by-class", "--output", str(tmp_path / "classes.csv")).exit_code == 0
    frame = pd.read_csv(tmp_path / "classes.csv").query("source == 'evaluation'")
    assert frame["class_name"].tolist() == ["cat", "dog"]
    assert frame["accuracy"].tolist() == [1.0, 0.0]
    assert frame["images"].tolist() == [20, 20]
    assert set(frame["trial_id"]) == {"aaaa"}


@pytest.mark.parametrize("ending", ["parquet", "csv", "json"])
def test_bits_are_given_back_by_every_kind_of_file(ending: str, write: Callable[..., Path], tmp_path: Path) -> None:
    margins = np.linspace(-1, 1, N).astype("<f2")
    kept = base64.b64encode(margins.tobytes()).decode()
    run, path = write(chunk("pgd", PGD, classes=CLASSES, margins=kept)), tmp_path / f"bits.{ending}"
    assert images(run, "aaaa", "--bits", "--output", str(path)).exit_code == 0
    rows = {"parquet": pd.read_parquet, "csv": pd.read_csv, "json": pd.read_json}[ending](path)  # type: ignore[operator]
    row = rows.query("source == 'evaluation'").iloc[0]
    content = {
        name: row[name] if ending == "parquet" else base64.b64decode(row[name])
        for name in ("right", "clean_right", "margins", "labels", "places")
    }
    assert np.unpackbits(np.frombuffer(content["right"], np.uint8), count=row["images"]).tolist() == PGD.tolist()
    assert np.frombuffer(content["margins"], "<f2").tolist() == margins.tolist()
    assert np.frombuffer(content["labels"], "<u2").tolist() == LABELS.tolist()
    assert np.frombuffer(content["places"], "<u4").tolist() == PLACES.tolist()


def test_what_is_missing_is_said_with_the_way_out(write: Callable[..., Path]) -> None:
    old = {name: value for name, value in chunk("autoattack", AUTO).items() if name not in ("right", "fingerprint")}
    text = images(write(chunk("pgd", PGD), old)).stdout
    assert "older code recorded 1 evaluation without each image's result; sweep evaluate " in text
    assert "of 5 evaluations the images' classes are not recorded; " in text
    assert "agree" not in text


def test_two_views_or_bits_on_a_terminal_are_refused_in_a_line(write: Callable[..., Path]) -> None:
    run = write(chunk("pgd", PGD))
    for words, message in (
        (["--by-class", "--bits"], "sweep: --by-class: and --bits are two tables; leave one of the two out\n"),
        (["--bits"], "sweep: --bits: each image's result is for files; give an --output, or --format csv or json\n"),
    ):
        answer = images(run, *words)
        assert (answer.exit_code, answer.stderr) == (2, message)
    assert images(run, "zz").stderr.startswith(f"sweep: {run}: no trial begins with 'zz'; ")


def test_a_run_without_any_says_how_to_get_them(tmp_path: Path) -> None:
    file = RecordFile(tmp_path)
    file.append("launch", {"time": 0.0, "size": 0, "wanted": [], "metric": "val_robust", "mode": "max"})
    file.close()
    answer = images(tmp_path)
    assert answer.exit_code == 0
    assert answer.stdout == f"no image's result is recorded yet; sweep evaluate {tmp_path} records them\n"


def test_the_table_of_evaluations_has_the_curve_and_the_figure_needs_three_radii(write: Callable[..., Path]) -> None:
    at = [chunk("pgd", PGD, parameters={**chunk("pgd", PGD)["parameters"], "radius": radius}) for radius in (0.1, 0.2)]
    broken = chunk("autoattack", AUTO, parameters={"norm": "linf", "radius": 0.2})
    run = write(*at, broken, chunk("pgd", PGD | True, parameters={**at[0]["parameters"], "radius": 0.3}))
    text = CliRunner().invoke(main, ["results", str(run), "--evaluations", "--format", "csv"]).stdout
    frame = pd.read_csv(io.StringIO(text)).query("attack == 'pgd'")
    assert frame["unbroken"].tolist() == [0.5, 0.45, 0.45]
    assert frame["robust_accuracy"].tolist() == [0.5, 0.5, 1.0]
    assert "unbroken" in CliRunner().invoke(main, ["results", str(run), "--evaluations"]).stdout
    assert CliRunner().invoke(main, ["figures", str(run)]).exit_code == 0
    points = pd.read_csv(run / "figures" / "robustness_radius.csv")
    assert points["attack"].unique().tolist() == ["pgd"]
    assert points["radius"].tolist() == [0, 0.1, 0.2, 0.3]
    assert points["mean"].tolist() == [1, 0.5, 0.45, 0.45]
    assert (run / "figures" / "robustness_radius.png").exists()
    manifest = json.loads((run / "figures" / "manifest.json").read_text())
    assert "robustness_radius" in json.dumps(manifest)
