"""Every search hands out every trial once; Optuna's goes on, after whatever came between, where it was."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from PIL import Image

from sweep.axes import Point
from sweep.config import ResourcesConfig, SweepConfig
from sweep.search.checks import check_trials, examples
from sweep.search.inputs import data_key, distinct_data, fingerprints
from sweep.search.optuna_search import OptunaSearch
from sweep.search.trials import FixedSearch, PlannedTrial, Search, fixed_points, planned
from trainers.config import DataConfig, TrialConfig
from trainers.data.sources import Shape
from trainers.errors import UserError
from trainers.identity import trial_id

Objective = Callable[[Point], float | tuple[float, ...] | None]

LR = {"optimizer.lr": {"loguniform": [1e-4, 1]}}
NAMES = {"optimizer.name": ["sgd", "deat"]}
SIZES = {"batch_size": {"choice": [16, 32, 64]}}


def sweep(space: Mapping[str, Any] = LR, n: int | None = 6, name: str = "optuna", **values: Any) -> SweepConfig:
    search = {"name": name, "n_trials": n} | values.pop("search", {})
    trial = {"data": {"name": "digits"}} | values.pop("trial", {})
    listed = {key: {"grid": axis} if isinstance(axis, list) else axis for key, axis in space.items()}
    return SweepConfig.model_validate({"name": "t", "trial": trial, "space": listed, "search": search, **values})


def marks(config: SweepConfig) -> dict[str, str]:
    """A fingerprint for every data set, without reading it."""
    return {key: f"{trial.data.name}-0" for key, trial in distinct_data(config).items()}


def search_of(config: SweepConfig, run: Run | None = None) -> Search:
    run = run or Run()
    if config.search.name == "optuna":
        return OptunaSearch(config, marks(config), run.records, run.values)
    return FixedSearch(planned(config, fixed_points(config), marks(config)), frozenset(run.values))


class Run:
    """What a launch would have written down of the trials that it ran."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.values: dict[str, tuple[float, ...] | None] = {}

    def register(self, trial: PlannedTrial) -> None:
        if trial.id not in {record["trial_id"] for record in self.records}:
            self.records.append(trial.record(len(self.records)))

    def trials(self, search: Search, value: Objective, most: int | None = None, at_once: int = 1) -> list[PlannedTrial]:
        """Runs a search's trials, several at a time; each ends with `value` of its point."""
        handed: list[PlannedTrial] = []
        running: list[PlannedTrial] = []
        while most is None or len(handed) < most:
            trial = search.next()
            if trial is not None:
                self.register(trial)
                handed.append(trial)
                running.append(trial)
            if running and (trial is None or len(running) == at_once):
                ended = running.pop(0)
                self.values[ended.id] = values(value(ended.point))
                search.tell(ended.id, self.values[ended.id])
            if trial is None and not running:
                break
        return handed


def values(value: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Of one objective, or of several, as a search is told them."""
    return (value,) if isinstance(value, float | int) else value


def constant(point: Point) -> float:
    return 0.5


def near_a_tenth(point: Point) -> float:
    """Best at lr 0.1, in decades from it."""
    return 1 - abs(math.log10(point["optimizer.lr"]) + 1) / 3


SWEEPS = {
    "grid": (sweep({**NAMES, "batch_size": [16, 32]}, None, "grid", seeds=(0, 1)), 2 * 2 * 2),
    "random": (sweep({**NAMES, **LR}, 5, "random", seeds=(0, 1)), 2 * 5 * 2),
    "one at a time": (
        sweep({"optimizer.name": {"choice": ["sgd", "deat"]}, "batch_size": {"choice": [16, 32, 64]}, "epochs": [1, 2]},
              None, "one_at_a_time", seeds=(0, 1)),
        (1 + 1 + 2) * 2 * 2,
    ),
    "quasi-random": (sweep({**NAMES, **LR}, 5, "quasi_random", seeds=(0, 1)), 2 * 5 * 2),
    "random in a small space": (sweep(SIZES, 30, "random"), 3),
    "optuna": (sweep(LR, 12, seeds=(0, 1)), 12 * 2),
    "optuna in strata": (sweep({**NAMES, **LR}, 4, seeds=(0, 1, 2)), 2 * 4 * 3),
    "optuna, conditional": (
        sweep({"optimizer.name": {"choice": ["sgd", "deat"]},
               "optimizer.k1": {"uniform": [0, 2], "when": {"optimizer.name": "deat"}}}, 15),
        15,
    ),
    "optuna, a grid axis that hangs on a drawn one": (
        sweep({"optimizer.name": {"choice": ["sgd", "deat"]}, **LR,
               "optimizer.k1": {"grid": [0.5, 1.0], "when": {"optimizer.name": "deat"}}}, 8),
        8,
    ),
    "optuna in a small space": (sweep(SIZES, 10, seeds=(0, 1)), 3 * 2),
    "optuna in a space of one point": (sweep({"batch_size": [16]}, 4), 1),
    "optuna in small strata": (
        sweep({**NAMES, **SIZES, "optimizer.k1": {"choice": [0.5, 1.0], "when": {"optimizer.name": "deat"}}}, 5),
        3 + 5,
    ),
    "optuna with a choice that sgd does not read": (
        sweep({**NAMES, **SIZES, "optimizer.k1": {"choice": [0.5, 1.0]}}, 10),
        3 + 6,
    ),
    "optuna in strata of which two mean the same": (
        sweep({**NAMES, "optimizer.k1": [0.5, 1.0], **LR}, 4),
        (1 + 2) * 4,
    ),
    "optuna in strata that mean the same at the low end of a range alone": (
        sweep({"optimizer.decoupled_weight_decay": [False, True], "optimizer.weight_decay": {"uniform": [0, 0.01]}}, 4),
        2 * 4,
    ),
    "optuna with a range that never applies": (
        sweep({**SIZES, "optimizer.k1": {"uniform": [0, 1], "when": {"optimizer.name": "deat"}}}, 10),
        3,
    ),
}  # fmt: skip


@pytest.fixture(params=SWEEPS.values(), ids=SWEEPS.keys())
def case(request: pytest.FixtureRequest) -> tuple[SweepConfig, int]:
    found: tuple[SweepConfig, int] = request.param
    return found


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_trial_is_handed_out_once_and_size_counts_them(case: tuple[SweepConfig, int], at_once: int) -> None:
    config, size = case
    search = search_of(config)
    assert search.size() == size
    ids = [trial.id for trial in Run().trials(search, constant, at_once=at_once)]
    assert len(ids) == len(set(ids)) == size
    assert search.next() is None
    assert search.size() == size


def test_a_finished_trial_is_never_handed_out_again(case: tuple[SweepConfig, int]) -> None:
    config, size = case
    run = Run()
    before = run.trials(search_of(config), constant, most=size // 2)
    done = set(run.values)
    again = search_of(config, run)
    assert again.size() == size
    after = run.trials(again, constant)
    assert not done & {trial.id for trial in after}
    assert {trial.id for trial in (*before, *after)} == set(run.values)
    assert len(run.values) == len(run.records) == size


def test_when_all_is_finished_nothing_is_left(case: tuple[SweepConfig, int]) -> None:
    config, _ = case
    run = Run()
    run.trials(search_of(config), constant)
    assert search_of(config, run).next() is None


def test_what_is_known_is_handed_out_or_finished(case: tuple[SweepConfig, int]) -> None:
    config, size = case
    run = Run()
    run.trials(search_of(config), constant, most=size // 2, at_once=2)
    search = search_of(config, run)
    known = {trial.id for trial in search.known()}
    assert len(known) == len(search.known()) <= size
    assert {record["trial_id"] for record in run.records} <= known
    assert known <= set(run.values) | {trial.id for trial in run.trials(search, constant)}


def test_every_point_runs_every_seed(case: tuple[SweepConfig, int]) -> None:
    config, _ = case
    points: dict[str, list[int]] = {}
    for trial in Run().trials(search_of(config), constant):
        points.setdefault(str(trial.point), []).append(trial.seed)
    assert all(tuple(sorted(seeds)) == config.seeds for seeds in points.values())


def test_a_trial_that_failed_is_handed_out_by_the_next_launch_only(case: tuple[SweepConfig, int]) -> None:
    config, size = case
    run, search = Run(), search_of(config)
    failed = search.next()
    assert failed is not None
    run.register(failed)
    search.tell(failed.id, None)
    assert failed.id not in {trial.id for trial in run.trials(search, constant)}
    assert [trial.id for trial in run.trials(search_of(config, run), constant)] == [failed.id]
    assert len(run.values) == size


def test_points_that_mean_the_same_trial_are_one() -> None:
    config = sweep({**NAMES, "optimizer.k1": [0.5, 1.0]}, None, "grid")
    trials = planned(config, fixed_points(config), marks(config))
    assert [trial.point for trial in trials] == [
        {"optimizer.name": "sgd", "optimizer.k1": 0.5},
        {"optimizer.name": "deat", "optimizer.k1": 0.5},
        {"optimizer.name": "deat", "optimizer.k1": 1.0},
    ]


@pytest.mark.parametrize("name", ["random", "quasi_random"])
def test_more_drawn_points_keep_those_of_fewer(name: str) -> None:
    few, many = (
        [trial.id for trial in planned(config, fixed_points(config), marks(config))]
        for config in (sweep({**NAMES, **LR}, 4, name), sweep({**NAMES, **LR}, 9, name))
    )
    assert many[: len(few)] == few


@pytest.mark.parametrize("name", ["random", "quasi_random", "optuna"])
def test_another_seed_of_the_search_draws_other_points(name: str) -> None:
    first, again, other = (
        [trial.point["optimizer.lr"] for trial in Run().trials(search_of(config), constant)]
        for config in (sweep(LR, 3, name, search={"seed": seed}) for seed in (0, 0, 1))
    )
    assert first == again
    assert not set(first) & set(other)


def test_a_planned_trial_is_named_by_its_config_and_holds_its_point() -> None:
    config = sweep({**NAMES, "optimizer.lr": [0.3]}, None, "grid", seeds=(4,))
    for trial in planned(config, fixed_points(config), marks(config)):
        assert trial.id == trial_id(trial.config)
        assert (trial.config.optimizer.name, trial.config.optimizer.lr) == tuple(trial.point.values())
        assert (trial.seed, trial.config.seed) == (4, 4)
        assert trial.record(7)["config"]["data"]["fingerprint"] == "digits-0"


@pytest.mark.parametrize(
    ("root", "place"), [(None, "data"), ("there", "there"), ("~/there", "home/there"), ("/x", "/x")]
)
def test_a_planned_trial_finds_its_data_from_wherever_it_runs(
    root: str | None, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = sweep(trial={"data": {"name": "digits", "root": root}})
    (trial,) = planned(config, [{}], marks(config))
    assert trial.config.data.root == str(tmp_path / place)


def test_values_that_do_not_go_together_are_named_with_their_point() -> None:
    config = sweep({**NAMES, "optimizer.momentum": [0.0, 0.9]}, None, "grid")
    with pytest.raises(UserError) as caught:
        planned(config, fixed_points(config), marks(config))
    assert str(caught.value).startswith(
        'the point {"optimizer.name": "deat", "optimizer.momentum": 0.9}: optimizer.momentum: DEAT has none; '
    )


def test_optuna_too_refuses_values_that_do_not_go_together_before_it_starts() -> None:
    config = sweep({"optimizer.name": {"choice": ["sgd", "deat"]}, "optimizer.momentum": {"choice": [0.0, 0.9]}})
    with pytest.raises(UserError, match=r"optimizer\.momentum: DEAT has none"):
        OptunaSearch(config, marks(config))


# Data


@pytest.mark.parametrize(
    ("space", "names"),
    [
        ({"batch_size": [1]}, ["digits"]),
        ({"data.name": ["cifar10", "svhn"]}, ["cifar10", "svhn"]),
        ({"data.name": {"grid": ["cifar10"], "when": {"batch_size": 1}}, "batch_size": [1, 2]}, ["cifar10", "digits"]),
    ],
)
def test_every_data_set_that_a_trial_reads_is_fingerprinted(space: dict[str, Any], names: list[str]) -> None:
    config = sweep(space, None, "grid")
    assert [trial.data.name for trial in distinct_data(config).values()] == names
    for trial in planned(config, fixed_points(config), marks(config)):
        assert trial.config.data.fingerprint == f"{trial.config.data.name}-0"


def test_the_data_key_holds_where_the_data_are_and_nothing_of_how_they_are_used() -> None:
    base = sweep().trial
    used = base.model_copy(update={"data": base.data.model_copy(update={"train_per_class": 3})})
    placed = base.model_copy(update={"data": base.data.model_copy(update={"root": "/elsewhere"})})
    assert data_key(used) == data_key(base) != data_key(placed)


def test_other_data_than_the_named_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(data: DataConfig) -> str:
        return "digits-1"

    monkeypatch.setattr("trainers.data.sources.fingerprint", fingerprint)
    assert set(fingerprints(sweep()).values()) == {"digits-1"}
    with pytest.raises(UserError) as caught:
        fingerprints(sweep(trial={"data": {"name": "digits", "fingerprint": "digits-2"}}))
    assert str(caught.value) == (
        "trial.data.fingerprint: the data are digits-1, not digits-2; point trial.data.root at those, "
        "or leave trial.data.fingerprint out"
    )


def checked(config: SweepConfig) -> None:
    """Checks the trials of a grid, or the examples of a search that learns."""
    found = fingerprints(config)
    points = [] if config.search.name == "optuna" else fixed_points(config)
    check_trials(config, planned(config, points, found) or examples(config, found))


@pytest.mark.parametrize(
    ("workers", "trial", "space", "message"),
    [
        (3, {"batch_size": 32}, {"optimizer.lr": [0.1]},
         "trial.batch_size: 3 workers (resources.workers) take equal parts of a batch, and 3 does not divide 32; take "
         "33, or another number of workers"),
        (2, {}, {"batch_size": [32, 15]}, "space.batch_size: 2 workers (resources.workers) take equal parts of a "
         "batch, and 2 does not divide 15; take 16, or another number of workers"),
        (4, {"data": {"name": "digits", "train_per_class": 10, "validation_fraction": 0.33}, "batch_size": 16},
         {"optimizer.lr": [0.1]}, "trial.batch_size: the smallest of an epoch's batches has 3 images (67 training "
         "images, batch_size 16), too few for 4 workers (resources.workers); take another batch_size, or fewer "
         "workers"),
        (2, {"data": {"name": "digits", "train_per_class": 10, "validation_fraction": 0.33}, "batch_size": 16,
             "batch_norm": "local", "model": {"name": "preact_resnet18"}}, {"optimizer.lr": [0.1]},
         "trial.batch_norm: is local, and of an epoch's last batch (3 images) one of 2 workers has 1 image, of which "
         "batch norm in preact_resnet18 needs 2 where images have 8 x 8 pixels; set trial.batch_norm=sync, or take "
         "another batch_size"),
    ],
)  # fmt: skip
def test_batches_that_the_workers_of_a_trial_cannot_share_are_refused(
    workers: int, trial: dict[str, Any], space: dict[str, Any], message: str
) -> None:
    config = sweep(space, None, "grid", trial={"model": {"name": "small_cnn"}} | trial)
    config = config.model_copy(update={"resources": ResourcesConfig(workers=workers)})
    with pytest.raises(UserError) as caught:
        checked(config)
    assert str(caught.value) == message
    checked(config.model_copy(update={"resources": ResourcesConfig()}))


PREACT = {"model": {"name": "preact_resnet18"}}
DIGITS = {"name": "digits"}
CNN = {"model": {"name": "small_cnn"}}


@pytest.mark.parametrize(
    ("trial", "space", "message"),
    [
        ({**CNN, "data": {**DIGITS, "train_per_class": 10_000}}, LR, "trial.data.train_per_class: 10000 asked for, "),
        ({**CNN, "data": {**DIGITS, "test_per_class": 10_000}}, LR, "trial.data.test_per_class: 10000 asked for, "),
        ({**CNN, "data": {**DIGITS, "validation_fraction": 0.9999}}, LR, "trial.data.validation_fraction: 0.9999 of "),
        (CNN, {"data.train_per_class": [10, 10_000]}, "space.data.train_per_class: 10000 asked for, "),
        (CNN, {"data.train_per_class": {"choice": [10, 10_000]}}, "space.data.train_per_class: 10000 asked for, "),
        ({**PREACT, "data": {**DIGITS, "train_per_class": 10, "validation_fraction": 0.35}}, {"batch_size": [30, 32]},
         "space.batch_size: the last of an epoch's batches has 1 image (65 training images, batch_size 32), "),
        ({**CNN, "attack": {"norm": "l2", "radius": 9}}, {"batch_size": [16, 32]}, "trial.attack.radius: must be <= 8 "
         "in l2, pixels being in [0, 1], got 9; did you mean 9/255?"),
        ({**CNN, "attack": {"norm": "l2"}}, {"attack.step_size": [1, 8.1]}, "space.attack.step_size: must be <= 8 "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["grid", "random", "quasi_random", "optuna"])
def test_a_trial_that_could_only_fail_is_refused_with_its_key(
    name: str, trial: dict[str, Any], space: dict[str, Any], message: str
) -> None:
    if name == "grid" and not all(isinstance(axis, list) for axis in space.values()):
        space = {key: axis.get("choice", [0.1]) for key, axis in space.items()}
    config = sweep(space, None if name == "grid" else 6, name, trial=trial)
    with pytest.raises(UserError) as caught:
        checked(config)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("sizes", [[8, 40], [40, 8]])
def test_dynamics_that_cannot_be_measured_are_refused_before_anything_runs(sizes: list[int]) -> None:
    few = {"data": {**DIGITS, "train_per_class": 4}, "dynamics": {"every": 1}}
    config = sweep({"batch_size": sizes}, None, "grid", trial={**CNN, **few})
    with pytest.raises(UserError, match=r"^space\.batch_size: must be below the \d+ images that the dynamics are"):
        checked(config)


def test_trials_that_can_run_are_not_refused() -> None:
    for trial, space in ((CNN, LR), (PREACT, SIZES)):
        assert checked(sweep(space, trial=trial)) is None


def image_folder(root: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """A folder of two classes, an image of each size in each, and the trial that trains on it."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number, size in enumerate(sizes):
                Image.new("RGB", (size, size)).save(root / split / name / f"{number}.png")
    return {**CNN, "data": {"name": "image_folder", "root": str(root), "validation_fraction": 0.5}}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([8, 9], "trial.data.image_size: images must have one size, but "),
        ([4, 4], "trial.data.augment: a 4-pixel reflect pad needs images over 4 x 4 pixels, got 4 x 4; "),
    ],
)
def test_images_that_cannot_be_trained_on_are_refused(sizes: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checked(sweep(trial=image_folder(tmp_path, sizes)))
    assert str(caught.value).startswith(message)


def test_a_file_that_is_no_image_is_refused_and_named(tmp_path: Path) -> None:
    trial = image_folder(tmp_path, [8, 8])
    checked(sweep(trial=trial))
    (tmp_path / "train" / "dog" / "1.png").write_bytes(b"junk")
    with pytest.raises(UserError) as caught:
        checked(sweep(trial=trial))
    assert str(caught.value).startswith(f"trial.data.root: {tmp_path}/train/dog/1.png is no readable image (")


def test_images_too_small_for_one_network_of_the_space_are_refused(tmp_path: Path) -> None:
    trial = image_folder(tmp_path, [6, 6])
    for axis in (["small_cnn", "preact_resnet18"], {"choice": ["small_cnn", "preact_resnet18"]}):
        with pytest.raises(UserError) as caught:
            checked(sweep({"model.name": axis}, trial=trial))
        assert str(caught.value) == (
            "space.model.name: preact_resnet18 needs images of at least 8 x 8 pixels, got 6 x 6; use small_cnn"
        )


def test_each_distinct_data_set_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def shapes(configs: Iterable[DataConfig]) -> dict[DataConfig, Shape]:
        found = {config: Shape(100, 0, 10, 10, 1, 8, 8) for config in configs}
        asked.extend(config.train_per_class for config in found)
        return found

    monkeypatch.setattr("trainers.data.sources.shapes", shapes)
    config = sweep({"data.train_per_class": [5, 10], "optimizer.lr": [0.1, 0.2]}, None, "grid", seeds=(0, 1))
    check_trials(config, planned(config, fixed_points(config), marks(config)))
    assert asked == [5, 10]
    drawn = sweep({"data.train_per_class": {"choice": [5, 10]}, **LR})
    check_trials(drawn, examples(drawn, marks(drawn)))
    assert asked == [5, 10, 5, 10]


# Optuna


def told(search: Search) -> list[float | None]:
    """The values of the points that Optuna was told, None for a failed one."""
    assert isinstance(search, OptunaSearch)
    return [t.value for stratum in search._strata for t in stratum.study.study.trials if t.state.is_finished()]


def test_optuna_is_told_the_mean_over_seeds() -> None:
    search = search_of(sweep(n=2, seeds=(0, 1, 2)))
    trials = [search.next() for _ in range(3)]
    for trial, value in zip(trials, (0.2, 0.3, 0.7), strict=True):
        assert told(search) == []
        assert trial is not None
        search.tell(trial.id, values(value))
    assert told(search) == [pytest.approx(0.4)]


def test_a_seed_that_failed_is_left_out_of_the_mean_and_a_point_without_a_value_fails() -> None:
    search = search_of(sweep(n=2, seeds=(0, 1)))
    for value in (None, 0.4, None, None):
        trial = search.next()
        assert trial is not None
        search.tell(trial.id, values(value))
    assert told(search) == [0.4, None]


@pytest.mark.filterwarnings("ignore:Clip non-finite values")
@pytest.mark.parametrize(("metric", "mode"), [("val_robust", "max"), ("val_robust_loss", "min")])
@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_the_worst_value_does_not_stop_the_search(metric: str, mode: str, sampler: str) -> None:
    worst = 0.0 if mode == "max" else math.inf
    config = sweep(n=12, metric=metric, mode=mode, search={"sampler": sampler})
    handed = Run().trials(search_of(config), lambda point: worst if point["optimizer.lr"] > 0.03 else constant(point))
    assert len(handed) == 12


def test_what_optuna_never_asked_for_is_told_in_vain() -> None:
    search = search_of(sweep(n=1))
    search.tell("ffffffffffff", (1.0,))
    assert told(search) == []


def test_grid_axes_are_strata_that_advance_together() -> None:
    handed = Run().trials(search_of(sweep({**NAMES, **LR}, 5)), constant)
    names = [trial.point["optimizer.name"] for trial in handed]
    assert names == ["sgd", "deat"] * 5
    assert len({trial.point["optimizer.lr"] for trial in handed}) == 10  # each draws its own


@pytest.mark.parametrize(("sampler", "n", "last"), [("tpe", 40, 10), ("gp", 15, 3)])
def test_late_points_are_better_than_the_first_ten_which_are_random(sampler: str, n: int, last: int) -> None:
    config = sweep(n=n, search={"sampler": sampler})
    values = [near_a_tenth(trial.point) for trial in Run().trials(search_of(config), near_a_tenth)]
    assert statistics.mean(values[-last:]) > statistics.mean(values[:10]) + 0.1


@pytest.mark.parametrize(("name", "kind"), [("tpe", optuna.samplers.TPESampler), ("gp", optuna.samplers.GPSampler)])
def test_the_sampler_that_was_asked_for_asks(name: str, kind: type) -> None:
    search = search_of(sweep({**NAMES, **LR}, 2, search={"sampler": name}))
    assert isinstance(search, OptunaSearch)
    for _ in range(4):
        search.next()
    assert [type(stratum.study.study.sampler) for stratum in search._strata] == [kind, kind]


def test_a_point_that_still_runs_keeps_the_next_one_away_as_one_that_failed_does_not() -> None:
    searches = [search_of(sweep(n=20)) for _ in range(2)]
    for search in searches:
        Run().trials(search, near_a_tenth, most=12)
    running, failed = (search.next() for search in searches)
    assert running == failed is not None
    searches[1].tell(failed.id, None)
    assert searches[0].next() != searches[1].next()


def test_a_loss_is_made_small() -> None:
    config = sweep(n=40, metric="val_robust_loss", mode="min")
    values = [1 - near_a_tenth(t.point) for t in Run().trials(search_of(config), lambda p: 1 - near_a_tenth(p))]
    assert statistics.mean(values[-10:]) < statistics.mean(values[:10]) - 0.1


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "nsgaii", "qmc", "random"])
def test_a_search_cut_at_any_place_asks_for_the_points_of_one_never_cut(sampler: str) -> None:
    options = {"cmaes": {"popsize": 4}, "nsgaii": {"population_size": 3}}.get(sampler, {})
    two = {**NAMES, **LR, "optimizer.weight_decay": {"uniform": [0, 0.1]}}
    config = sweep(two, 14 if options else 6, search={"sampler": sampler, "sampler_options": options})
    whole = [trial.id for trial in Run().trials(search_of(config), near_a_tenth)]
    for cut in (1, 4, 11):
        run = Run()
        before = [trial.id for trial in run.trials(search_of(config), near_a_tenth, most=cut)]
        after = [trial.id for trial in run.trials(search_of(config, run), near_a_tenth)]
        assert before + after == whole


def test_a_learning_search_that_was_cut_learns_the_same() -> None:
    config = sweep(n=25)
    whole = [trial.id for trial in Run().trials(search_of(config), near_a_tenth)]
    run = Run()
    for most in (3, 9, 12, None):
        run.trials(search_of(config, run), near_a_tenth, most=most)
    assert [record["trial_id"] for record in run.records] == whole


def test_a_point_of_which_some_seeds_are_done_goes_on_with_the_others() -> None:
    config = sweep(n=3, seeds=(0, 1, 2))
    run = Run()
    before = run.trials(search_of(config), constant, most=4)
    after = run.trials(search_of(config, run), constant)
    assert [trial.seed for trial in after] == [1, 2, 0, 1, 2]
    assert after[0].point == before[-1].point


def test_more_seeds_run_at_the_same_points() -> None:
    run = Run()
    before = run.trials(search_of(sweep(n=3, seeds=(0,))), near_a_tenth)
    after = run.trials(search_of(sweep(n=3, seeds=(0, 1)), run), near_a_tenth)
    assert [(trial.point, trial.seed) for trial in after] == [(trial.point, 1) for trial in before]


def test_fewer_seeds_need_no_new_trial() -> None:
    run = Run()
    run.trials(search_of(sweep(n=3, seeds=(0, 1))), near_a_tenth)
    search = search_of(sweep(n=3, seeds=(1,)), run)
    assert (search.size(), search.next()) == (3, None)
    assert {trial.seed for trial in search.known()} == {1}


def test_more_points_come_after_the_earlier_ones() -> None:
    run = Run()
    run.trials(search_of(sweep(n=3)), near_a_tenth)
    after = run.trials(search_of(sweep(n=5), run), near_a_tenth)
    assert len(after) == 2
    assert [record["trial_id"] for record in run.records] == [
        trial.id for trial in Run().trials(search_of(sweep(n=5)), near_a_tenth)
    ]


def test_fewer_points_are_the_first_of_the_earlier_ones() -> None:
    run = Run()
    before = run.trials(search_of(sweep(n=5)), near_a_tenth)
    search = search_of(sweep(n=3), run)
    assert (search.size(), search.next()) == (3, None)
    assert [trial.id for trial in search.known()] == [trial.id for trial in before[:3]]


def test_an_earlier_point_outside_a_narrowed_range_is_no_part_of_the_sweep() -> None:
    run = Run()
    before = run.trials(search_of(sweep(n=8)), near_a_tenth)
    narrow = sweep({"optimizer.lr": {"loguniform": [1e-2, 1]}}, 8)
    inside = [trial.id for trial in before if trial.point["optimizer.lr"] >= 1e-2]
    assert 0 < len(inside) < 8
    search = search_of(narrow, run)
    assert [trial.id for trial in search.known()] == inside
    after = run.trials(search, near_a_tenth)
    assert len(after) == 8 - len(inside)
    assert all(trial.point["optimizer.lr"] >= 1e-2 for trial in after)


@pytest.mark.parametrize(
    ("sampler", "space"),
    [
        ("gp", {"optimizer.lr": {"loguniform": [1e-2, 1]}, **SIZES}),
        ("tpe", {"optimizer.lr": {"uniform": [1e-4, 1]}}),
        ("tpe", {"optimizer.lr": {"choice": [0.1, 0.2, 0.3]}}),
        ("tpe", {**LR, **NAMES}),
        ("tpe", {**LR, **SIZES}),
        ("tpe", {"batch_size": {"choice": [16, 32, 64, 128]}}),
    ],
)
def test_a_space_that_was_changed_goes_on(sampler: str, space: dict[str, Any]) -> None:
    run = Run()
    run.trials(search_of(sweep({**LR, **SIZES}, 12)), constant)
    changed = sweep(space, 14, search={"sampler": sampler})
    search = search_of(changed, run)
    known = {trial.id for trial in search.known()}
    after = run.trials(search, constant)
    assert len({trial.id for trial in after} | known) == search.size()


def test_a_choice_that_loses_a_value_loses_its_points() -> None:
    run = Run()
    run.trials(search_of(sweep({**LR, **SIZES}, 10)), constant)
    search = search_of(sweep({**LR, "batch_size": {"choice": [16, 32]}}, 10), run)
    assert {trial.point["batch_size"] for trial in search.known()} == {16, 32}
    assert all(trial.point["batch_size"] != 64 for trial in run.trials(search, constant))


def test_a_new_axis_takes_up_the_points_that_had_its_value_already() -> None:
    run = Run()
    before = run.trials(search_of(sweep(LR, 5)), constant)
    decay = {"optimizer.weight_decay": {"uniform": [0, 1e-3]}}
    search = search_of(sweep({**LR, **decay}, 5), run)
    assert search.next() is None
    assert [trial.id for trial in search.known()] == [trial.id for trial in before]
    assert all(trial.point["optimizer.weight_decay"] == 5e-4 for trial in search.known())


def test_an_axis_that_is_pinned_keeps_its_points() -> None:
    run = Run()
    before = run.trials(search_of(sweep({**NAMES, **LR}, 5)), constant)
    search = search_of(sweep(LR, 5, trial={"optimizer": {"name": "deat"}}), run)
    assert [trial.id for trial in search.known()] == [
        trial.id for trial in before if trial.point["optimizer.name"] == "deat"
    ]
    assert search.next() is None


def test_other_trials_are_no_part_of_the_sweep() -> None:
    run = Run()
    run.trials(search_of(sweep(n=4)), constant)
    longer = search_of(sweep(n=4, trial={"epochs": 3}), run)
    assert longer.known() == []
    assert len(run.trials(longer, constant)) == 4


@pytest.mark.parametrize("at_once", [1, 4])
def test_two_strata_at_one_trial_hand_it_out_once(at_once: int) -> None:
    # Under sgd k1 is not read, so that the two strata meet there, and only there.
    space = {"optimizer.k1": [0.5, 1.0], "optimizer.name": {"choice": ["sgd", "deat"]}}
    search = search_of(sweep(space, 2))
    ids = [trial.id for trial in Run().trials(search, constant, at_once=at_once)]
    assert len(ids) == len(set(ids)) == 3
    assert told(search).count(0.5) == 4


def test_a_trials_line_names_its_preset_also_where_no_axis_does() -> None:
    configs = TrialConfig(), TrialConfig(preset="trades")
    without, of_preset = (PlannedTrial("a", config, {}, 0, {}).record(0) for config in configs)
    assert of_preset.keys() - without.keys() == {"preset"}
    assert of_preset["preset"] == "trades"


def test_a_point_that_was_asked_for_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config, run, planned_points = sweep(n=5, seeds=[0, 1]), Run(), []

    def counted(config: SweepConfig, points: Iterable[Point], marks: Mapping[str, str]) -> list[PlannedTrial]:
        points = list(points)
        planned_points.extend(points)
        return planned(config, points, marks)

    run.trials(search_of(config), lambda point: 0.5)
    monkeypatch.setattr("sweep.search.optuna_search.planned", counted)
    again = search_of(config, run)
    assert (len(again.known()), len(again.known()), again.next()) == (10, 10, None)
    assert len(planned_points) == 5
