"""The response surface: what is in its table, that it finds a known function, and that it says where it ends."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.surrogate import table as tables
from analysis.surrogate.fits import fits_of, held_out
from analysis.surrogate.surface import Box, Surface, Surrogate, measured, scaled
from analysis.surrogate.table import AXES, COLUMNS, METRICS, committed, name_of, rows, setting_of
from trainers.errors import UserError

DATA = Path(tables.__file__).parents[1] / "surface_data"
NOISE = 0.01


def config(lr: float, batch_size: int, seed: int, **more: Any) -> dict[str, Any]:
    return {
        "data": {"name": "digits"},
        "model": {"name": "small_cnn"},
        "batch_size": batch_size,
        "epochs": 3,
        "optimizer": {"name": "sgd", "lr": lr, "weight_decay": 5e-4},
        "attack": {"radius": 0.15, "steps": 5},
        "objective": {"name": "pgd_at"},
        "weights": {"name": "none"},
        "schedule": {"name": "constant"},
        "evaluation": {"every": 1, "splits": ["val"], "steps": 10},
        "seed": seed,
        **more,
    }


def truth(lr: float, batch_size: float, epoch: int) -> float:
    """A hill over the logarithms, which rises from epoch to epoch."""
    return 0.3 + 0.1 * epoch - 0.15 * (np.log10(lr) + 1) ** 2 - 0.1 * (np.log2(batch_size) - 5) ** 2 / 4


@cache
def known(points: int = 36, seeds: int = 2) -> tuple[pd.DataFrame, Surrogate]:
    """The table of a study whose truth is known, and its surrogate; a seed's noise is the same at each epoch."""
    rng = np.random.default_rng(1)
    configs, lines = {}, []
    for point in range(points):
        lr, batch = float(10 ** rng.uniform(-2, 0)), int(rng.choice([16, 24, 32, 48, 64]))
        for seed in range(seeds):
            name, off = f"{point:08x}{seed:04x}", rng.normal(0, NOISE)
            configs[name] = config(lr, batch, seed)
            lines += [
                {"trial_id": name, "epoch": epoch, "val_robust": truth(lr, batch, epoch) + off} for epoch in (1, 2, 3)
            ]
    about = dict.fromkeys(("code_version", "device", "arithmetic"), "")
    frame = tables.table([rows("known", configs, pd.DataFrame(lines).assign(**about))])
    return frame, Surrogate(frame, {"settings": fits_of(frame), "sha256": "0" * 64})


def surface() -> Surface:
    return known()[1].of_trial(config(0.1, 32, 0))[0]


PLACES = [
    {"optimizer.lr": lr, "batch_size": batch, "optimizer.weight_decay": 5e-4, "attack.steps": 5}
    for lr, batch in ((0.03, 20), (0.1, 32), (0.3, 40), (0.6, 60))
]


def test_a_setting_is_all_that_is_no_axis_no_seed_and_no_measuring() -> None:
    same = config(0.5, 64, 7, evaluation={"every": 3, "splits": ["test"], "steps": 10})
    assert setting_of(config(0.1, 32, 0)) == setting_of(same)
    for other in ({"epochs": 4}, {"attack": {"radius": 0.2, "steps": 5}}, {"objective": {"name": "trades"}}):
        assert setting_of(config(0.1, 32, 0)) != setting_of(config(0.1, 32, 0, **other))
    assert config(0.1, 32, 0)["seed"] == 0  # what is given is left as it is


def test_a_training_that_was_evaluated_at_two_paces_is_in_the_table_once_with_the_longer_curve() -> None:
    about = dict.fromkeys(("code_version", "device", "arithmetic"), "")
    long, short = config(0.1, 32, 0), config(0.1, 32, 0, evaluation={"every": 3, "splits": ["val"], "steps": 10})
    curve = pd.DataFrame([{"trial_id": "long", "epoch": n, "val_robust": n / 10, **about} for n in (1, 2, 3)])
    last = curve.tail(1).assign(trial_id="short")
    parts = [rows("b", {"short": short}, last), rows("a", {"long": long}, curve)]
    for order in (parts, parts[::-1]):
        assert tables.table(order)["trial_id"].tolist() == ["long"] * 3


def test_the_file_is_the_table_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    frame, _ = known()
    for name in ("a", "b"):
        tables.write_table(frame, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / "a"), frame)


def test_a_known_function_is_found_within_its_own_error() -> None:
    for epoch in (1, 3):
        told = surface().predict(PLACES, "val_robust", epoch)
        true = [truth(place["optimizer.lr"], place["batch_size"], epoch) for place in PLACES]
        assert (abs(told["estimate"] - true) < 3.5 * told["error"]).all()
        assert (told["error"] < NOISE).all()
        assert told["noise"][0] == pytest.approx(NOISE, rel=0.35)


def test_held_out_points_are_told_and_intervals_hold() -> None:
    held = surface().fits["held_out"]["val_robust"]
    assert (held["trials"], held["points"]) == (72, 36)
    assert held["r2_points"] > 0.85
    assert held["r2_trials"] <= held["r2_points"]
    assert held["coverage_interval"][0] <= 0.95 <= held["coverage_interval"][1]


def test_of_pure_noise_nothing_is_told_of_held_out_points() -> None:
    frame, _ = known()
    part = measured(frame, "val_robust", 3)
    noise = part.assign(val_robust=np.random.default_rng(0).normal(0.5, 0.1, len(part)))
    assert held_out(noise, "val_robust")["r2_points"] < 0.3


def test_draws_are_the_surface_and_the_noise_of_seeds_together_over_epochs() -> None:
    place = PLACES[1]
    curves = [surface().drawn(place, seed) for seed in range(100)]
    assert curves[0] == surface().drawn(place, 0)
    off = np.array(
        [[curve["val_robust", n] - surface().expected(place)["val_robust", n] for n in (1, 3)] for curve in curves]
    )
    assert abs(off.mean()) < NOISE
    assert off.std() == pytest.approx(NOISE, rel=0.5)
    assert np.corrcoef(off.T)[0, 1] > 0.99  # a seed's noise is the same at each epoch here


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({"optimizer.lr": 3.0}, "surrogate: optimizer.lr: the data lie from 0.01"),
        (
            {"batch_size": 128},
            "surrogate: batch_size: the data lie from 16 to 64, got 128; it says nothing outside its data",
        ),
        (
            {"attack.steps": "5"},
            "surrogate: attack.steps: the data lie at 5 alone, got '5', which is no number; it says",
        ),
        ({"attack.steps": 10}, "surrogate: attack.steps: the data lie at 5 alone, got 10; it says nothing outside"),
        (
            {"optimizer.weight_decay": None},
            "surrogate: optimizer.weight_decay: the data lie at 0.0005 alone, got none;",
        ),
    ],
)
def test_nothing_is_told_outside_the_data(point: dict[str, Any], says: str) -> None:
    for told in (lambda at: surface().predict([at], "val_robust"), surface().expected):
        with pytest.raises(UserError) as refused:
            told({**PLACES[1], **point})
        assert str(refused.value).startswith(says)


def test_no_point_and_an_unknown_setting_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        UserError, match="surrogate: needs a point to predict at, got none; give a value by axis of each"
    ):
        surface().predict([])
    with pytest.raises(UserError, match="surrogate: zzz: no such setting; known: "):
        known()[1].surface("zzz")


def test_what_too_few_trials_have_is_refused() -> None:
    with pytest.raises(
        UserError, match="surrogate: test_robust at epoch 3: too few trials have it; there are val_robust"
    ):
        surface().predict(PLACES, "test_robust")
    few, _ = known()
    assert fits_of(few[few["optimizer.lr"] < 0.02]) == {}


def test_trials_of_another_setting_are_refused_with_the_nearest_that_is_known() -> None:
    with pytest.raises(UserError) as refused:
        known()[1].of_trial(config(0.1, 32, 0, epochs=9))
    assert str(refused.value) == (
        "surrogate: has no data of such trials: the nearest (digits, small_cnn, pgd_at, sgd, 3 epochs constant) differ "
        "in trial.epochs (they have 3); set these, or begin from configs/ratio_digits.yaml or another that "
        "docs/surrogate.md names"
    )


def test_a_weight_decay_of_nothing_has_a_place_on_its_axis() -> None:
    assert np.isfinite(scaled("optimizer.weight_decay", [0.0, 1e-3])).all()


def test_the_committed_table_is_what_its_fits_say_and_small() -> None:
    frame, fits = committed()
    content = (DATA / "surface.parquet").read_bytes()
    assert hashlib.sha256(content).hexdigest() == fits["sha256"]
    assert len(content) < 5_000_000
    assert tuple(frame.columns) == COLUMNS
    assert frame["trial_id"].nunique() == fits["trials"] == sum(fits["studies"].values())
    assert not frame.duplicated(["setting", *AXES, "seed", "epoch"]).any()
    values = frame[list(METRICS)].to_numpy()
    assert ((values >= 0) & (values <= 1) | np.isnan(values)).all()


def test_every_committed_surface_says_how_well_it_tells_and_names_its_data() -> None:
    frame, fits = committed()
    names = {name_of(setting) for setting in frame["setting"].unique()}
    assert fits["settings"].keys() <= names
    for one in fits["settings"].values():
        for metric, quality in one["held_out"].items():
            assert one["theta"][metric]
            assert {"r2_points", "coverage", "coverage_interval", "trials", "points"} <= quality.keys()
    assert all(json.loads(setting)["data"]["name"] for setting in frame["setting"].unique())


def test_the_data_card_names_every_column() -> None:
    card = (DATA / "README.md").read_text(encoding="utf-8")
    assert [column for column in COLUMNS if f"`{column}`" not in card] == []


def test_a_box_is_of_the_axes_that_every_trial_reads() -> None:
    frame, _ = known()
    assert set(Box.of(frame).ranges) == {"optimizer.lr", "batch_size", "optimizer.weight_decay", "attack.steps"}
    assert Box.of(frame).axes == ["optimizer.lr", "batch_size"]
