"""A GPU's kernels that give the same bits each time: asked for, given back, refused where there are none."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import tiny

from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.loop import train
from trainers.randomness import repeatable
from trainers.record import EpochRecord

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}


def flags() -> tuple[bool, bool, bool, str | None]:
    cudnn = torch.backends.cudnn
    strict = torch.are_deterministic_algorithms_enabled()
    return strict, cudnn.deterministic, cudnn.benchmark, os.environ.get("CUBLAS_WORKSPACE_CONFIG")


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


def test_a_gpu_takes_deterministic_kernels_alone_and_afterwards_what_it_took_before() -> None:
    torch.backends.cudnn.benchmark = True
    try:
        before = flags()
        with repeatable(GPU, wanted=True):
            assert flags() == (True, True, False, ":4096:8")
        assert flags() == before == (False, False, True, None)
    finally:
        torch.backends.cudnn.benchmark = False


def test_a_trial_that_does_not_want_it_leaves_the_next_one_of_its_process_the_workspace() -> None:
    with repeatable(GPU, wanted=False):
        assert flags() == (False, False, False, ":4096:8")
    assert flags() == (False, False, False, None)


def test_a_users_own_workspace_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with repeatable(GPU, wanted=True):
        assert flags()[3] == ":16:8"
    assert flags()[3] == ":16:8"


def test_on_a_cpu_nothing_is_set() -> None:
    before = flags()
    with repeatable(CPU, wanted=True):
        assert flags() == before


def test_a_kernel_without_a_deterministic_form_is_refused_in_one_line() -> None:
    with pytest.raises(UserError) as refused, repeatable(GPU, wanted=True):
        raise RuntimeError(
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation"
        )
    assert str(refused.value) == (
        "deterministic: must be false for this network on a GPU: adaptive_avg_pool2d_backward_cuda does not have a "
        "deterministic implementation; set it so, take another model.name, or device: cpu"
    )
    with pytest.raises(RuntimeError, match="shape"), repeatable(GPU, wanted=True):
        raise RuntimeError("shape")


def config(**values: Any) -> TrialConfig:
    return tiny(**{"batch_size": 16, "attack": {"steps": 2}} | values)


class Stopped(Exception):
    """What kills a trial in these tests."""


def run(trial: TrialConfig, path: Path | None = None, stop_after: int | None = None) -> list[EpochRecord]:
    """The epochs that the trial reports, without its name and times."""
    found: list[EpochRecord] = []

    def report(record: Any) -> None:
        found.append(replace(record, trial_id="", **TIMES))
        if len(found) == stop_after:
            raise Stopped

    with suppress(Stopped):
        train(trial, report, path)
    return found


def test_on_a_cpu_it_changes_no_number() -> None:
    assert run(config(deterministic=True)) == run(config())


METHODS: list[dict[str, Any]] = [
    {},
    {"objective": {"name": "trades"}},
    {"optimizer": {"name": "deat"}},
    {"weights": {"name": "awp"}},
    {"objective": {"name": "mart"}},
    {"objective": {"name": "avmixup"}, "averaging": {"name": "ema"}},
]


@pytest.mark.gpu
@pytest.mark.parametrize("network", ["preact_resnet18", "vgg16"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_resume_after_each_epoch_equals_a_run_never_stopped_on_a_gpu(
    method: dict[str, Any], network: str, tmp_path: Path
) -> None:
    trial = config(device="cuda", deterministic=True, model={"name": network}, **method)
    whole = run(trial)
    assert len(whole) == trial.epochs
    run(trial, tmp_path / "trial.pt", stop_after=1)
    run(trial, tmp_path / "trial.pt", stop_after=2)
    assert run(trial, tmp_path / "trial.pt") == whole


@pytest.mark.gpu
def test_resume_of_a_compiled_trial_equals_a_run_never_stopped_on_a_gpu(tmp_path: Path) -> None:
    trial = config(device="cuda", deterministic=True, engine="compile", model={"name": "small_cnn"})
    whole = run(trial)
    assert {epoch.engine for epoch in whole} == {"compile"}
    run(trial, tmp_path / "trial.pt", stop_after=1)
    torch._dynamo.reset()  # as in another process
    assert run(trial, tmp_path / "trial.pt") == whole


@pytest.mark.gpu
@pytest.mark.parametrize("network", ["small_cnn", "resnet18", "senet18", "wide_resnet28_10", "vit_small"])
def test_every_network_has_deterministic_kernels_in_both_precisions(network: str) -> None:
    data = {"name": "digits", "train_per_class": 2, "test_per_class": 1, "validation_fraction": 0.5}
    for precision in ("fp32", "bf16"):
        trial = config(
            device="cuda", deterministic=True, precision=precision, epochs=1, data=data, model={"name": network}
        )
        assert len(run(trial)) == 1
