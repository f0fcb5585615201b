"""What is left to run, by shape of trial and in all: arithmetic on what each number comes from, which is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from recorded import launch, run, trials_of

from sweep.cli import main
from sweep.config import SweepConfig
from sweep.plan import ahead
from sweep.plan.cost import Cost
from sweep.plan.outlook import Outlook
from sweep.plan.plan import Plan, plan
from sweep.plan.room import Room
from sweep.plan.shapes import COUNTED, MEASURED, RECORDS, table
from trainers.config import DataConfig
from trainers.data import unseen
from trainers.data.sources import Shape
from trainers.errors import UserError

Configs = Callable[..., SweepConfig]
TWO_CORES = Room("this machine", [{"CPU": 2.0, "GPU": 0.0}])
EIGHT_BY_EIGHT = Shape(1000, 100, 100, 10, 1, 8, 8)
SHAPES = {"space": {"batch_size": [16, 32]}, "trial": {"data": {"name": "digits"}, "epochs": 3}, "seeds": [0, 1]}


@pytest.fixture(autouse=True)
def without_data(planned_without_data: None) -> None:
    """No plan reads data."""


def outlook(found: Plan, seconds: float = 100.0, room: Room = TWO_CORES, **options: Any) -> Outlook:
    """Of a plan whose trials were counted to take so long an epoch, and 1 MB."""
    each = tuple((seconds, 1e6) for _ in found.to_run)
    cost = Cost(each, 1e12, (1e9, 2e9), "timed", running=2e6, kept=3e6, records=4e3)
    values = {"directory": Path("/"), "measure": False, "tell": lambda line: None} | options
    return ahead.outlook(found, cost, room, **values)


def test_seconds_are_those_of_the_records_where_there_are_some(tiny: Configs) -> None:
    found = plan(tiny(), launch(trials_of(tiny())) + run(trials_of(tiny())[0], 3), "abc")
    ahead_of_us = outlook(found)
    assert ahead_of_us.seconds == found.trial_seconds == 270
    cost, wall, memory, disk = ahead_of_us.lines()
    assert cost == "cost: 270.00 trial seconds at 1 CPU each, from the epochs measured here"
    assert wall == (
        "wall-clock: about 135 s with 2 trials at once (this machine: 2 CPU, no GPU), no less than the longest trial, "
        "90 s; starting Ray and waiting for others not counted"
    )
    assert memory == "memory: 1 MB at most for a trial's tensors, estimated, beside what torch takes itself"
    assert disk.startswith(
        "disk: 3 MB of kept weights, 4 kB of records, 12 MB of checkpoints (3 of 2 MB for each trial that runs: two "
        "kept, one being written), estimated; "
    )


@pytest.mark.parametrize(
    ("rule", "bound"),
    [
        ({}, ""),
        ({"stopping": {"name": "asha"}}, "; an upper bound, as trials are ended early"),
        ({"stopping": {"name": "wilcoxon"}}, "; an upper bound, as points that are worse get no more seeds"),
        ({"race": {"alpha": 0.05}}, "; an upper bound, as points that are worse get no more seeds"),
    ],
)
def test_a_cost_of_which_a_rule_may_save_some_is_called_an_upper_bound(
    rule: dict[str, Any], bound: str, tiny: Configs
) -> None:
    config = tiny(seeds=[0, 1, 2], trial={"epochs": 3, "data": {"name": "digits", "validation_fraction": 0.2}}, **rule)
    found = plan(config, launch(trials_of(config)) + run(trials_of(config)[0], 3), "abc")
    assert outlook(found).lines()[0].endswith(f", from the epochs measured here{bound}")
    assert next(line for line in found.lines() if line.startswith("  cost")).endswith(f"measured here{bound}")


def test_before_anything_was_run_seconds_are_counted_and_have_three_digits(tiny: Configs) -> None:
    lines = outlook(plan(tiny(), [], "abc"), seconds=1329.82 * 3600 / 12).lines()
    assert lines[0] == (
        "cost: 1330 trial hours at 1 CPU each, estimated: 1 TFLOP, counted, at 1 GFLOP/s to 2 GFLOP/s (timed)"
    )
    assert lines[1].startswith("wall-clock: about 665 h with 2 trials at once ")


def test_shapes_add_up_to_the_whole_and_each_is_of_its_own_source(tiny: Configs) -> None:
    config = tiny(**SHAPES)
    small, _, large, _ = trials_of(config)
    precise = tiny(**SHAPES | {"trial": SHAPES["trial"] | {"precision": "bf16"}})  # another kind: of no record
    records = launch(trials_of(config)) + [
        {**line, "peak_memory_bytes": 5e6} if line["record"] == "epoch" else line for line in run(small, 3)
    ]
    known = outlook(plan(config, records, "abc"))
    assert [(row.trials, row.epochs, row.seconds, row.memory) for row in known.shapes] == [
        (1, 3, 90, 5e6),
        (2, 6, 180, 1e6),
    ]
    assert [(row.seconds_from, row.memory_from) for row in known.shapes] == [(RECORDS, RECORDS), (RECORDS, COUNTED)]
    assert "memory: 5 MB at most held by its process in a trial, from the records; 1 MB" in known.lines()[2]
    unknown = outlook(plan(precise, records, "abc"))
    assert [(row.trials, row.seconds, row.seconds_from) for row in unknown.shapes] == [(2, 600, COUNTED)] * 2
    assert large.config.batch_size == 32


def test_points_not_known_yet_are_rows_whose_trials_and_epochs_add_up(tiny: Configs) -> None:
    space = {"batch_size": {"choice": [16, 32, 48]}, "optimizer.lr": {"loguniform": [0.01, 1]}}
    config = tiny(**SHAPES | {"space": space, "search": {"name": "optuna", "n_trials": 5}})
    found = plan(config, [], "abc")
    shapes = outlook(found).shapes
    assert len(shapes) == 3
    assert sum(row.trials for row in shapes) == pytest.approx(10)
    assert sum(row.epochs for row in shapes) == pytest.approx(30)
    assert [row.longest for row in shapes] == pytest.approx([300] * 3)


@pytest.mark.parametrize(
    ("values", "nodes", "n", "seconds"),
    [
        ({}, [{"CPU": 2.0}], 2, 60),
        ({}, [{"CPU": 64.0}], 4, 30),  # no more than are left
        ({}, [{"CPU": 1.0}, {"CPU": 2.0}], 3, 40),
        ({"max_concurrent": 3}, [{"CPU": 64.0}], 3, 40),
        ({"resources": {"cpu": 2}}, [{"CPU": 3.0}, {"CPU": 3.0}], 2, 60),  # not 6 / 2: a trial is on one node
        ({"resources": {"cpu": 1, "gpu": 0.5}}, [{"CPU": 8.0, "GPU": 1.0}], 2, 60),
        ({"resources": {"cpu": 1, "gpu": "auto"}}, [{"CPU": 8.0, "GPU": 2.0}], 2, 60),  # a card each
        ({"resources": {"workers": 2}}, [{"CPU": 3.0}, {"CPU": 3.0}], 3, 40),  # of which one is on two nodes
        ({"resources": {"gpu": "auto", "workers": 2}}, [{"CPU": 8.0, "GPU": 4.0}], 2, 60),
        ({"resources": {"trials_per_process": 2}}, [{"CPU": 1.0}], 2, 60),
        ({"resources": {"trials_per_process": 2}, "max_concurrent": 3}, [{"CPU": 4.0}], 2, 60),
    ],
)
def test_the_wall_clock_is_that_of_the_trials_that_fit_at_once(
    values: dict[str, Any], nodes: list[dict[str, float]], n: int, seconds: float, tiny: Configs
) -> None:
    config = tiny(**{"max_concurrent": None} | values)
    found = outlook(plan(config, [], "abc"), seconds=10.0, room=Room("the cluster at X", nodes))
    assert found.seconds == 120  # four trials of three epochs
    assert found.at_once == n
    assert f"wall-clock: about {seconds} s with {n} trials at once (" in "\n".join(found.lines())


def test_the_hours_of_all_workers_stand_beside_those_of_the_trials(tiny: Configs) -> None:
    config = tiny(**SHAPES, resources={"workers": 2, "gpu": 1}, max_concurrent=None)
    found = outlook(plan(config, [], "abc"), 3600.0, Room("the cluster at X", [{"CPU": 8.0, "GPU": 4.0}]))
    cost, wall, memory, _ = found.lines()
    assert cost.startswith("cost: 12 trial hours at 2 x 1 GPU each (24 GPU hours), estimated: ")
    assert wall.startswith("wall-clock: about 6 h with 2 trials at once (")
    assert memory.startswith("memory: 1 MB at most for a trial's tensors, for each worker, estimated")
    hours = list(table(found.shapes, config.resources).columns[3].cells)  # type: ignore[union-attr]
    assert hours == ["24"]
    nowhere = outlook(plan(config, [], "abc"), room=Room("this machine", [{"CPU": 8.0, "GPU": 1.0}])).lines()[1]
    assert "; each takes 2 workers with 1 CPU and 1 GPU each. With N at once about" in nowhere


def test_epochs_of_other_numbers_of_workers_say_nothing_of_these(tiny: Configs) -> None:
    config = tiny(resources={"workers": 2})
    trials = trials_of(config)
    alone = launch(trials) + run(trials[0], 3)
    beside = [line | {"workers": 2} if line["record"] == "start" else line for line in alone]
    assert plan(config, alone, "abc").trial_seconds is None
    found = plan(config, beside, "abc")
    assert found.trial_seconds == 270
    (cost,) = (line for line in found.lines() if line.startswith("  cost"))
    assert cost.startswith("  cost: 270.00 trial seconds at 2 x 1 CPU each (540.00 CPU seconds), ")


def test_a_sweep_never_ends_before_its_longest_trial(tiny: Configs) -> None:
    config = tiny(max_concurrent=None)
    one, *others = trials_of(config)
    records = launch([one, *others]) + [line for other in others for line in run(other, 3)]
    wall = outlook(plan(config, records, "abc"), room=Room("this machine", [{"CPU": 64.0}])).lines()[1]
    assert wall.startswith("wall-clock: about 90 s with 1 trial at once ")


def test_where_no_trial_can_run_the_wall_clock_is_unknown_and_says_what_is_missing(tiny: Configs) -> None:
    wall = outlook(plan(tiny(resources={"gpu": 1}), [], "abc")).lines()[1]
    assert wall == (
        "wall-clock: unknown, as no trial can run on this machine: 2 CPU, no GPU; each takes 1 GPU and 1 CPU. With N "
        "at once about 0.333 h / N; --address asks a cluster what it has, and resources.gpu=0 trains on the CPU"
    )


def test_a_disk_that_is_too_small_is_a_warning(tiny: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(tiny(), [], "abc")
    assert list(outlook(found).warnings()) == []
    monkeypatch.setattr("sweep.plan.outlook._free", lambda directory: 1e6)
    assert found.lines(outlook(found, directory=Path("there")))[-1] == (
        "    the disk is too small: 15 MB of files, 1 MB free at there; set trial.keep=none, or another --out"
    )


def test_pixels_that_the_first_trial_decodes_are_counted_and_warned_of(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = unseen.shape(DataConfig(name="imagenet", root="/there", image_size=256))
    assert shape is not None
    assert shape.decodes == (Path("/there/.robustsweep"), 1_331_167 * 3 * 256**2)
    found = plan(tiny(), [], "abc")
    found = replace(found, shapes={DataConfig(): shape})
    monkeypatch.setattr("sweep.plan.outlook._free", lambda directory: 74e9)
    *_, last = found.lines(outlook(found))
    where = "of pixels, which the first trial decodes"
    assert (
        outlook(found).lines()[-1].endswith(f"74 GB free at /; 262 GB {where} to /there/.robustsweep, 74 GB free there")
    )
    assert last == (
        f"    the disk is too small: 262 GB {where}, 74 GB free at /there/.robustsweep; set trial.data.root to a copy "
        "on a larger disk, or prepare shards on one (sweep data prepare --output)"
    )
    monkeypatch.setattr("sweep.plan.outlook._free", lambda directory: 300e9)
    assert list(outlook(found).warnings()) == []


def test_what_was_measured_just_now_stands_in_for_the_rate_and_says_so(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = tiny(**SHAPES), []

    def measured(function: str, trial: Any, *others: Any, own: Any, what: str) -> tuple[float, float]:
        asked.append(trial.batch_size)
        return (7.0, 8e6)

    monkeypatch.setattr(ahead, "in_own_process", measured)
    wanted = plan(config, launch(trials_of(config)) + run(trials_of(config)[0], 3), "abc")
    shapes = dict.fromkeys((one.config.data for one in wanted.to_run), EIGHT_BY_EIGHT)
    found = outlook(replace(wanted, shapes=shapes), measure=True)
    assert asked == [32]  # of 16 there are records
    assert [(row.seconds_from, row.memory_from) for row in found.shapes] == [(RECORDS, COUNTED), (MEASURED, MEASURED)]
    assert found.seconds == 90 + 2 * 3 * 7
    assert found.lines()[0] == (
        "cost: 132 trial seconds at 1 CPU each, estimated: of 1 trial from the epochs measured here; of 2 trials from "
        "two training steps and an evaluation batch of each shape, made just now (--measure)"
    )


def told(found: Outlook) -> list[list[str]]:
    """The cells of the table by shape, its header first."""
    shown = table(found.shapes, found.config.resources)
    assert shown is not None
    columns = [list(column.cells) for column in shown.columns]
    return [[str(column.header) for column in shown.columns], *map(list, zip(*columns, strict=True))]  # type: ignore[arg-type]


def test_trials_that_are_not_drawn_yet_are_counted_evenly_and_the_table_says_so(tiny: Configs) -> None:
    space = {"batch_size": {"choice": [16, 32, 64, 128]}, "optimizer.lr": {"loguniform": [0.1, 0.3]}}
    drawn = tiny(space=space, trial={"data": {"name": "digits"}}, search={"name": "optuna", "n_trials": 5}, seeds=[0])
    found = plan(drawn, [], "abc")
    assert [line[:2] for line in told(outlook(found))] == [["batch_size", "trials, if even"], ["16 to 128", "5"]]
    assert told(outlook(replace(found, to_run=found.to_run[:3])))[1][:2] == ["16 to 64", "3.75"]


def test_the_table_has_the_keys_that_tell_shapes_apart_and_no_more(tiny: Configs) -> None:
    space = {"objective.name": ["pgd_at", "trades"], "weights.name": ["none", "awp"], "optimizer.lr": [0.1, 0.3]}
    header, *lines = told(outlook(plan(tiny(space=space, trial={"data": {"name": "digits"}, "epochs": 12}), [], "abc")))
    assert header == ["objective.name", "weights.name", "trials", "s an epoch", "CPU hours", "memory", "from"]
    assert lines[0] == ["pgd_at", "awp", "2", "100", "0.667", "1 MB", "counted"]
    assert [line[:2] for line in lines] == [
        ["pgd_at", "awp"],
        ["pgd_at", "none"],
        ["trades", "awp"],
        ["trades", "none"],
    ]


def test_batch_sizes_that_take_the_same_are_one_line(tiny: Configs) -> None:
    values = SHAPES | {"space": {"batch_size": [64, 16, 32]}}
    header, *lines = told(outlook(plan(tiny(**values), [], "abc")))
    assert header[0] == "batch_size"
    assert lines == [["16 to 64", "6", "100", "0.5", "1 MB", "counted"]]


def test_of_one_shape_there_is_no_table(tiny: Configs) -> None:
    assert table(outlook(plan(tiny(), [], "abc")).shapes, tiny().resources) is None


@pytest.mark.slow
def test_the_command_measures_each_shape_and_writes_nothing(
    sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    file, out = sweep_file(), tmp_path / "run"
    text = CliRunner().invoke(main, ["plan", str(file), "--out", str(out), "--measure"]).stdout
    assert text.startswith("measuring 1 shape of trial on the CPU, 1 thread, some seconds each\nmodel.name=small_cnn ")
    assert "each, from two training steps and an evaluation batch of each shape, made just now (--measure)" in text
    assert "held by a trial's process, measured just now (--measure)" in text
    assert not out.exists()


def test_a_shape_that_cannot_be_measured_is_counted_and_said_so(tiny: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*values: Any, **options: Any) -> None:
        raise UserError("OutOfMemoryError: CUDA out of memory")

    monkeypatch.setattr(ahead, "in_own_process", fails)
    wanted, said = plan(tiny(), [], "abc"), list[str]()
    shapes = dict.fromkeys((one.config.data for one in wanted.to_run), EIGHT_BY_EIGHT)
    (row,) = outlook(replace(wanted, shapes=shapes), measure=True, tell=said.append).shapes
    assert row.seconds_from == COUNTED
    assert said[1].endswith(": not measured, so its time is counted: OutOfMemoryError: CUDA out of memory")


def test_by_auto_each_trial_has_a_card_of_this_machine_alone_until_its_memory_is_known_and_that_is_said(
    sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # so NVML says; CUDA itself may not start on them
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    file = sweep_file(resources={"gpu": "auto"}, max_concurrent=None)
    text = CliRunner().invoke(main, ["plan", str(file), "--out", str(tmp_path / "run"), "--rate", "1"]).stdout
    assert "trial seconds at up to 1 GPU each, estimated: " in text
    assert "with 2 trials at once (this machine: 8 CPU, 2 GPU), no less than the longest trial" in text
    assert "each is counted to have a card alone (gpu: auto), and fewer hours pass where several fit on one" in text
