"""The cost of what was never run: arithmetic on what is counted, at a rate that is named."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sweep.config import ResourcesConfig, SweepConfig
from sweep.plan import cost
from sweep.plan.cost import Cost, _Rate, estimate
from sweep.plan.plan import Plan, plan
from sweep.plan.shapes import si
from trainers import counting

Configs = Callable[..., SweepConfig]
CPU, GPU = ResourcesConfig(), ResourcesConfig(gpu=1)


def planned(tiny: Configs, **values: object) -> Plan:
    return plan(tiny(**values), [], "abc")


def seconds(found: Plan, whole: Cost) -> float:
    """Of all trials, one after another."""
    return sum(one.epochs * took for one, (took, _) in zip(found.to_run, whole.each, strict=True))


def test_flops_and_seconds_add_up_over_trials_and_epochs(tiny: Configs) -> None:
    found = planned(tiny)
    whole = estimate(found.to_run, found.shapes, CPU, 1e9)
    assert whole is not None
    trials = [one.config for one in found.to_run]
    (one,) = {counting.epoch_flops(t, found.shapes[t.data], counting.work(t, found.shapes[t.data])) for t in trials}
    assert whole.flops == pytest.approx(4 * 3 * sum(one))
    assert seconds(found, whole) == pytest.approx(whole.flops / 1e9)
    (shape,) = found.shapes.values()
    bits = 2 * 80 + 8 * (math.ceil(shape.val_images / 24) + math.ceil(shape.test_images / 24))
    # an epoch's line of the demo has 981 bytes, and 199 more at the last with the bits of 40 and 60 images
    assert whole.records == pytest.approx(4 * (3 * 981 + bits), rel=0.05)


def test_workers_share_the_work_and_what_a_batch_takes_and_that_is_said(tiny: Configs) -> None:
    found = planned(tiny)
    alone, shared = (estimate(found.to_run, found.shapes, ResourcesConfig(workers=n), 1e9) for n in (1, 2))
    assert alone is not None
    assert shared is not None
    assert seconds(found, shared) == pytest.approx(seconds(found, alone) / 2)
    assert (shared.flops, shared.kept) == (alone.flops, alone.kept)
    one = found.to_run[0].config
    shape = found.shapes[one.data]
    kept = counting.work(one, shape).kept_attacking
    assert (one.batch_size, shape.val_images, shape.test_images) == (32, 20, 50)
    assert alone.each[0][1] - shared.each[0][1] == 25 * kept  # of an evaluation's batch, which is the larger one
    assert shared.how == "--rate; 2 workers are taken to share it evenly, and to exchange gradients in no time"


def test_points_not_known_yet_cost_what_their_examples_do(tiny: Configs) -> None:
    space = {"optimizer.lr": {"loguniform": [0.01, 1]}}
    drawn = planned(tiny, space=space, search={"name": "optuna", "n_trials": 5}, seeds=[0, 1])
    listed = planned(tiny, space=space, search={"name": "random", "n_trials": 5}, seeds=[0, 1])
    costs = [estimate(one.to_run, one.shapes, CPU, 1e9) for one in (drawn, listed)]
    whole, other = costs
    assert whole is not None
    assert other is not None
    assert seconds(drawn, whole) == pytest.approx(seconds(listed, other))
    assert replace(whole, each=()) == replace(other, each=())


@pytest.mark.parametrize(("precision", "peak"), cost.PEAK.items())
def test_a_gpu_that_is_not_here_is_assumed_and_said_so(
    precision: str, peak: float, tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    trial = {"data": {"name": "digits"}, "model": {"name": "small_cnn"}, "epochs": 3, "precision": precision}
    found = planned(tiny, trial=trial)
    one = estimate(found.to_run, found.shapes, GPU)
    assert one is not None
    assert one.rates == pytest.approx((19.5e12 / 3, peak / 3))  # evaluation is fp32
    assert f"assumed: a third of the peak of an A100 in {precision}" in one.how
    half = estimate(found.to_run, found.shapes, ResourcesConfig(gpu=0.5))
    assert half is not None
    assert seconds(found, half) == pytest.approx(2 * seconds(found, one))


def test_a_gpu_that_is_here_is_timed_and_a_share_of_it_has_so_much_of_its_rate(
    tiny: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(counting, "rates", lambda config, shape, threads, device: {"cuda": (4e12, 1e12)}[device])
    found = planned(tiny)
    whole, half = (estimate(found.to_run, found.shapes, ResourcesConfig(gpu=share)) for share in (1, 0.5))
    assert whole is not None
    assert half is not None
    assert whole.rates == (1e12, 4e12)
    assert seconds(found, half) == pytest.approx(2 * seconds(found, whole))
    assert whole.how.startswith("timed on this GPU with engine: graph, as busy as it is now;")
    assert half.how.startswith(
        "timed on this GPU with engine: graph, of which a trial takes 0.5, as busy as it is now;"
    )


def test_a_gpu_that_is_full_or_not_ours_is_assumed_and_said_so(tiny: Configs, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nand more")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(counting, "rates", busy)
    found = planned(tiny)
    one = estimate(found.to_run, found.shapes, GPU)
    assert one is not None
    assert one.rates == pytest.approx((19.5e12 / 3,) * 2)
    assert one.how == (
        "assumed: a third of the peak of an A100 in fp32, for the GPU here cannot be timed: CUDA out of memory.; "
        "--rate TFLOPS takes another"
    )


def test_a_cpu_is_timed_and_said_so(tiny: Configs) -> None:
    found = planned(tiny)
    one = estimate(found.to_run, found.shapes, CPU)
    assert one is not None
    assert one.how.startswith("timed on this machine, 1 thread,")
    low, high = one.rates
    assert one.flops / high <= seconds(found, one) <= one.flops / low


def test_between_two_batches_a_steps_time_is_a_line() -> None:
    timed = {10: _Rate(10.0, 4.0), 30: _Rate(15.0, 8.0)}  # 1 s and 2 s a step
    assert cost._between(timed, 20) == _Rate(20 / 1.5, 6.0)
    assert cost._between(timed, 10).training == 10
    assert cost._between({10: _Rate(10.0, 4.0)}, 10) == _Rate(10.0, 4.0)


def test_where_nothing_is_left_or_nothing_is_known_there_is_no_estimate(tiny: Configs) -> None:
    assert estimate((), {}, CPU) is None
    assert estimate(planned(tiny).to_run, {}, CPU) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1, "1 B"), (999, "999 B"), (1000, "1 kB"), (1.277e15, "1.28 PB"), (3e22, "3e+04 EB")],
)
def test_numbers_are_written_with_their_prefix(value: float, text: str) -> None:
    assert si(value, "B") == text
