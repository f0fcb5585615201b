"""The frame and the table of evaluations, and Wilson's interval."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest, norm

from analysis.frames.evaluations import load_evaluations, wilson
from analysis.frames.trials import axes, load_trials
from analysis.tables.evaluations import evaluations_table
from trainers.record import RecordFile

Write = Callable[..., None]


@pytest.fixture
def chunk(run: Any) -> Write:
    """Writes one chunk of an evaluation of a run with two trials."""
    run.whole("aaa", [0.5, 0.6], optimizer__lr=0.1)
    run.whole("bbb", [0.5, 0.7], optimizer__lr=0.2, seed=1)
    run.close()

    def write(trial: str = "aaa", attack: str = "pgd", first: int = 0, images: int = 100, **values: Any) -> None:
        ball = {"norm": "linf", "radius": 0.1, "steps": 20, "step_size": 0.01, "restarts": 1}
        read_by = {"clean": {}, "pgd": ball}.get(attack, {key: ball[key] for key in ("norm", "radius")})
        record = {"trial_id": trial, "weights": "last", "averaged": False, "attack": attack, "parameters": read_by}
        where = {"split": "test", "asked": 200, "first": first, "images": images}
        counts = {"clean_correct": images * 9 // 10, "correct": images // 2, "seconds": 2.0}
        file = RecordFile(run.directory)
        file.append("evaluation", {**record, **where, **counts, **values})
        file.close()

    return write


def shown(table: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_s_ends_are_where_the_score_test_decides(level: float) -> None:
    # (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) [Newcombe, Statistics in Medicine 1998].
    correct, n = np.array([[0, 1], [1, 1], [0, 20], [7, 20], [20, 20], [81, 263], [4999, 10000]]).T
    p, z = correct / n, norm.ppf((1 + level) / 2)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]
    np.testing.assert_allclose(wilson(correct, n, level), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("correct", "images", "expected"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_gives_newcombe_s_table_1(correct: int, images: int, expected: tuple[float, float]) -> None:
    assert tuple(np.round(wilson(correct, images), 4)) == expected


def test_wilson_s_ends_are_exact_where_all_or_none_are_right() -> None:
    for images in (1, 7, 360, 10_000):
        assert wilson(0, images)[0] == 0
        assert wilson(images, images)[1] == 1


def test_the_chunks_of_an_evaluation_add_up(run: Any, chunk: Write) -> None:
    chunk(first=0, correct=30)
    chunk(first=100, correct=50, images=100)
    (row,) = load_evaluations(run.directory).to_dict("records")
    assert (row["images"], row["asked"], row["complete"]) == (200, 200, True)
    assert (row["clean_accuracy"], row["robust_accuracy"], row["seconds"]) == (0.9, 0.4, 4.0)
    expected = binomtest(80, 200).proportion_ci(method="wilson")
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


def test_an_evaluation_is_complete_once_all_images_that_were_asked_last_are_there(run: Any, chunk: Write) -> None:
    def complete() -> bool:
        (row,) = load_evaluations(run.directory).to_dict("records")
        return bool(row["complete"])

    steps = [
        ({"first": 0, "asked": 100}, True),
        ({"first": 100, "images": 50, "asked": 300}, False),
        ({"first": 200, "asked": 300}, False),  # 150 to 199 are still in flight
        ({"first": 150, "images": 50, "asked": 300}, True),
        ({"first": 0, "asked": 150}, True),  # fewer asked for later: more are there
    ]
    for values, expected in steps:
        chunk(**values)
        assert complete() == expected, values


def test_an_image_that_stands_in_two_chunks_counts_once(run: Any, chunk: Write) -> None:
    for first, images in ((0, 50), (0, 100), (50, 100), (100, 100)):
        chunk(first=first, images=images)
    (row,) = load_evaluations(run.directory).to_dict("records")
    assert (row["images"], row["robust_accuracy"], row["complete"]) == (200, 0.5, True)


def test_rows_have_the_trial_s_axes_and_climb_the_ladder(run: Any, chunk: Write) -> None:
    for trial in ("bbb", "aaa"):
        for attack in ("autoattack", "clean", "pgd", "fgsm"):
            chunk(trial, attack)
    chunk("gone")
    frame = load_evaluations(run.directory)
    assert list(frame["trial_id"]) == ["aaa"] * 4 + ["bbb"] * 4
    assert list(frame["attack"][:4]) == ["clean", "fgsm", "pgd", "autoattack"]
    assert axes(frame) == axes(load_trials(run.directory))
    assert list(frame["optimizer.lr"]) == [0.1] * 4 + [0.2] * 4
    assert list(frame["seed"]) == [0] * 4 + [1] * 4
    assert frame["radius"].isna().sum() == 2
    assert not frame["complete"].any()


def test_what_differs_in_a_parameter_is_another_evaluation(run: Any, chunk: Write) -> None:
    chunk()
    chunk(averaged=True)
    chunk(weights="best")
    chunk(split="val")
    chunk(parameters={"norm": "linf", "radius": 0.2, "steps": 20, "step_size": 0.01, "restarts": 1})
    assert len(load_evaluations(run.directory)) == 5


def test_an_evaluation_that_does_not_say_where_it_started_is_one_that_started_uniform(run: Any, chunk: Write) -> None:
    """Its chunks are gone on with, and never mixed with those from another start."""
    ball = {"norm": "l2", "radius": 0.1, "steps": 20, "step_size": 0.01, "restarts": 1}
    chunk(parameters=ball)
    chunk(first=100, parameters=ball | {"start": "uniform"})
    chunk(images=200, parameters=ball | {"start": "uniform_radius"})
    frame = load_evaluations(run.directory)
    assert dict(zip(frame["start"], frame["images"], strict=True)) == {"uniform": 200, "uniform_radius": 200}
    assert {row[3] for row in cells(shown(evaluations_table(frame)))} == {"uniform", "uniform_radius"}


def test_a_run_without_evaluations_has_an_empty_frame(run: Any, chunk: Write, tmp_path: Path) -> None:
    chunk()
    one = load_evaluations(run.directory)
    (run.directory / "records.jsonl").write_text(
        (run.directory / "records.jsonl").read_text().split('{"record":"ev')[0]
    )
    none = load_evaluations(run.directory)
    assert len(none) == 0
    assert list(none.columns) == list(one.columns)
    assert "PGD-20" not in shown(evaluations_table(none))


def cells(text: str) -> list[list[str]]:
    """The rows of a printed table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_the_table_shows_percent_with_interval_and_n(run: Any, chunk: Write) -> None:
    chunk(attack="clean", correct=90)
    chunk(images=200)
    text = shown(evaluations_table(load_evaluations(run.directory)))
    assert cells(text) == [
        ["aaa", "clean", "", "100 of 200", "90.00 [82.56, 94.48]", "2"],
        ["aaa", "PGD-20", "0.1", "200", "50.00 [43.14, 56.86]", "2"],
    ]
    caption = (
        "right: share still classified correctly (test, last epoch), in %, with 95 % Wilson intervals over test images "
        "alone; n of more: not all images are attacked yet"
    )
    assert caption in " ".join(text.split())


@pytest.mark.parametrize(("key", "values"), [("step_size", ("0.01", "0.02")), ("restarts", ("1", "5"))])
def test_evaluations_that_differ_in_one_parameter_do_not_look_the_same(
    run: Any, chunk: Write, key: str, values: tuple[str, str]
) -> None:
    ball = {"norm": "linf", "radius": 0.1, "steps": 20, "step_size": 0.01, "restarts": 1}
    for value in values:
        chunk(images=200, parameters=ball | {key: float(value) if key == "step_size" else int(value)})
    one, other = cells(shown(evaluations_table(load_evaluations(run.directory))))
    assert one != other
    assert ([one[3], other[3]] == list(values)) == (key == "step_size")


def test_what_varies_gets_a_column_of_its_own(run: Any, chunk: Write) -> None:
    for trial in ("aaa", "bbb"):
        chunk(trial, attack="autoattack", images=200, averaged=True, parameters={"norm": "l2", "radius": 0.5})
        chunk(trial, attack="clean", images=200, split="val", weights="best")
    text = shown(evaluations_table(load_evaluations(run.directory)))
    assert cells(text)[:2] == [
        ["aaa", "0", "0.1", "val", "best epoch", "clean", "", "200", "50.00 [43.14, 56.86]", "2"],
        ["aaa", "0", "0.1", "test", "last epoch, averaged", "AutoAttack, l2", "0.5", "200", "50.00 [43.14, 56.86]",
         "2"],
    ]  # fmt: skip
    assert "right: share still classified correctly, in %, with 95 % Wilson intervals" in " ".join(text.split())


@pytest.mark.parametrize(("seconds", "text"), [(0.00412, "0.00412"), (1329.82, "1330"), (12.345, "12.3")])
def test_seconds_have_three_digits(run: Any, chunk: Write, seconds: float, text: str) -> None:
    chunk(attack="clean", images=200)
    frame = load_evaluations(run.directory).assign(seconds=seconds)
    assert cells(shown(evaluations_table(frame)))[0][-1] == text


def test_chunks_whose_draws_are_seeded_by_image_count_alone_once_they_hold_as_many_images_as_older_ones(
    run: Any, chunk: Write
) -> None:
    chunk(first=0, images=100, correct=10)
    chunk(first=100, images=100, correct=10)
    assert load_evaluations(run.directory)["robust_accuracy"].tolist() == [0.1]
    for first, counted in [
        (0, [200, 0.1, True]),
        (50, [200, 0.1, True]),
        (100, [200, 0.1, True]),
        (150, [200, 0.5, True]),
    ]:
        chunk(first=first, images=50, correct=25, draws="image")
        frame = load_evaluations(run.directory)
        assert frame[["images", "robust_accuracy", "complete"]].values.tolist() == [counted]
