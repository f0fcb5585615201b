"""The frame of images: bits as they were packed, in one order, joined over chunks; and what has none."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.frames.evaluations import load_evaluations
from analysis.frames.images import classes_of, load_images
from analysis.frames.log import read_log
from trainers.errors import UserError
from trainers.record import RecordFile

RNG = np.random.default_rng(0)
TRUTH = RNG.random(50) < 0.6
CLEAN = TRUTH | (RNG.random(50) < 0.5)
PGD = {"norm": "linf", "radius": 0.1, "steps": 20, "step_size": 0.01, "restarts": 1, "start": "uniform"}


def text(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def bits(right: NDArray[np.bool_]) -> str:
    return text(np.packbits(right))


def chunk(first: int, images: int, **values: Any) -> dict[str, Any]:
    part = slice(first, first + images)
    return {
        **{"trial_id": "a", "weights": "last", "averaged": False, "attack": "pgd", "parameters": PGD, "split": "test"},
        **{"asked": 50, "first": first, "images": images, "seconds": 1.0, "fingerprint": "f"},
        **{"clean_correct": int(CLEAN[part].sum()), "correct": int(TRUTH[part].sum())},
        **{"right": bits(TRUTH[part]), "clean_right": bits(CLEAN[part]), **values},
    }


@pytest.fixture
def write(run: Any) -> Any:
    """Writes evaluation records of a run with one trial `a`; gives its directory."""
    run.whole("a", [0.1, 0.2])
    run.close()

    def write(*chunks: dict[str, Any]) -> Path:
        file = RecordFile(run.directory)
        for one in chunks:
            file.append("evaluation", one)
        file.close()
        directory: Path = run.directory
        return directory

    return write


@pytest.mark.parametrize("cuts", [(50,), (8, 42), (7, 13, 30), (1,) * 50])
def test_bits_of_chunks_are_joined_in_the_split_s_order_whichever_ended_first(cuts: Any, write: Any) -> None:
    starts = np.cumsum([0, *cuts[:-1]])
    directory = write(*reversed([chunk(int(first), images) for first, images in zip(starts, cuts, strict=True)]))
    (row,) = load_images(directory).to_dict("records")
    assert row["right"].tolist() == TRUTH.tolist()
    assert row["clean_right"].tolist() == CLEAN.tolist()
    assert (row["source"], row["attack"], row["images"], row["steps"]) == ("evaluation", "pgd", 50, 20)
    assert row["right"].mean() == load_evaluations(directory)["robust_accuracy"].item()


def test_what_older_code_recorded_has_no_row(write: Any) -> None:
    old = {name: value for name, value in chunk(0, 50).items() if name not in ("right", "clean_right", "fingerprint")}
    directory = write(old)
    assert load_images(directory).empty
    assert len(load_evaluations(directory)) == 1
    write(chunk(0, 20))
    assert load_images(directory)["images"].tolist() == [20]


def test_behind_a_gap_nothing_is_said(write: Any) -> None:
    """A place in the array must be a place in the split."""
    directory = write(chunk(30, 20), chunk(0, 10), chunk(10, 5))
    (right,) = load_images(directory)["right"]
    assert right.tolist() == TRUTH[:15].tolist()


def test_images_of_a_split_that_was_changed_are_not_joined_with_those_of_before(write: Any) -> None:
    directory = write(chunk(0, 20), chunk(20, 30, fingerprint="other"), chunk(0, 20, fingerprint="other"))
    assert load_images(directory)[["fingerprint", "images"]].to_numpy().tolist() == [["other", 50]]


def test_margins_are_there_where_each_chunk_has_them(write: Any) -> None:
    margins = RNG.standard_normal(50).astype("<f2")
    both = [chunk(0, 20, margins=text(margins[:20])), chunk(20, 30, margins=text(margins[20:]))]
    (kept,) = load_images(write(*both))["margins"]
    assert kept.tolist() == margins.tolist()


def test_without_one_chunk_s_margins_there_are_none(write: Any) -> None:
    directory = write(chunk(0, 20, margins=text(np.zeros(20, "<f2"))), chunk(20, 30))
    assert load_images(directory)["margins"].tolist() == [None]


def test_bits_of_another_number_of_images_are_refused_with_the_trial(write: Any) -> None:
    with pytest.raises(UserError, match=r":6: damaged line: right must hold 7 bytes for 50 images, got 6; "):
        load_images(write(chunk(0, 50, right=bits(TRUTH[:48]))))


def test_the_last_epoch_of_a_completed_trial_says_each_image_and_no_other(run: Any) -> None:
    right = {"test": {"images": 50, "fingerprint": "f", "clean": bits(CLEAN), "robust": bits(TRUTH)}}
    config = {"attack.norm": "l2", "evaluation.radius": 0.5, "evaluation.steps": 10}
    run.trial("a", config=config)
    run.start("a")
    run.epoch("a", 1, 0.1)
    run.epoch("a", 2, 0.1, right={"test": {**right["test"], "robust": bits(~TRUTH)}})
    run.epoch("a", 2, 0.1, right=right)  # the line that counts
    run.outcome("a")
    run.trial("b", seed=1)
    run.start("b")
    run.epoch("b", 2, 0.1, right=right)
    run.close()
    rows = load_images(run.directory).to_dict("records")
    assert [(row["trial_id"], row["source"], row["attack"], row["split"]) for row in rows] == [
        ("a", "training", "clean", "test"),
        ("a", "training", "pgd", "test"),
    ]
    clean, robust = rows
    assert clean["right"].tolist() == robust["clean_right"].tolist() == CLEAN.tolist()
    assert robust["right"].tolist() == TRUTH.tolist()
    assert (robust["norm"], robust["radius"], robust["steps"]) == ("l2", 0.5, 10)
    assert np.isnan(robust["restarts"])
    assert clean["norm"] != clean["norm"]


@pytest.mark.parametrize(("classes", "kind"), [(10, "u1"), (256, "u1"), (257, "<u2"), (1000, "<u2")])
def test_classes_are_read_from_whichever_record_says_them(classes: int, kind: str, write: Any) -> None:
    labels = RNG.integers(0, classes, 50)
    places = RNG.permutation(50)
    said = {"labels": text(labels.astype(kind)), "places": text(places.astype("<u4"))}
    said |= {"names": [f"c{n}" for n in range(classes)]}
    directory = write(chunk(0, 20, classes=said), chunk(20, 30, classes=said))
    assert sum(record.get("classes") is not None for record in read_log(directory)) == 1
    (found,) = classes_of(read_log(directory)).values()
    assert found.labels.tolist() == labels.tolist()
    assert found.places.tolist() == places.tolist()
    assert found.names[-1] == f"c{classes - 1}"


def test_an_empty_run_has_the_columns(run: Any) -> None:
    run.launch()
    run.close()
    frame = load_images(run.directory)
    assert frame.empty
    assert {"trial_id", "source", "attack", "radius", "images", "right", "clean_right", "margins"} <= set(frame)
