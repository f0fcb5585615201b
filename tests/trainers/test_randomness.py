"""A GPU's kernels that give the same bits each time: asked for, given back, refused where there are none."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from small import tiny

from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.loop import train
from trainers.randomness import ImageDraws, PartDraws, generator, repeatable
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


def pixels(images: int = 50, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (images, 3, 16, 16), generator=generator).float() / 255


def test_the_draws_of_one_image_are_splitmix64_s() -> None:
    def splitmix64(state: int) -> int:
        word = state & (2**64 - 1)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            word = (word ^ (word >> shift)) * factor & (2**64 - 1)
        return word ^ (word >> 31)

    draws = ImageDraws(pixels(1), 0, "a test")
    key = splitmix64(int(draws._keys[0]) & (2**64 - 1))
    expected = [((splitmix64(key + j * 0x9E3779B97F4A7C15) >> 11) + 0.5) / 2**53 for j in range(1, 6)]
    assert draws.uniform_(torch.empty(1, 5, dtype=torch.float64))[0].tolist() == expected


@pytest.mark.parametrize("law", ["uniform", "norm"])
def test_draws_by_image_have_their_law_over_pixels_over_images_and_over_draws(law: str) -> None:
    """Kolmogorov and Smirnov's test, each at 1 in 1,000, and the correlations of neighbours, within 4 errors."""
    draws, empty = ImageDraws(pixels(), 0, "a test"), torch.empty(50, 3, 16, 16)
    each = [(draws.uniform_ if law == "uniform" else draws.normal_)(empty.clone()) for _ in range(2)]
    numbers = torch.stack(each).double()
    for part in (numbers, numbers[0, 0], numbers[:, :, 0, 0, 0], numbers[1, :, 2, 3, 4]):
        assert kstest(part.flatten().numpy(), law).pvalue > 1e-3
    standard = (numbers - 0.5) * 12**0.5 if law == "uniform" else numbers
    for one, other in ((standard[0], standard[1]), (standard[:, 1:], standard[:, :-1])):
        assert (one * other).mean().abs() < 4 / one.numel() ** 0.5
    assert ((standard[..., 1:] * standard[..., :-1]).mean()).abs() < 4 / standard.numel() ** 0.5
    assert standard.pow(4).mean() == pytest.approx(1.8 if law == "uniform" else 3, abs=0.15)


def test_the_draws_of_an_image_are_its_own_whatever_its_batch() -> None:
    images = pixels()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    empty = torch.empty(50, 7)
    whole, mixed, alone = (ImageDraws(part, 3, "a test") for part in (images, images[order], images[8:9]))
    for _ in range(2):
        expected = whole.normal_(empty.clone())
        assert torch.equal(mixed.normal_(empty.clone()), expected[order])
        assert torch.equal(alone.normal_(empty[:1].clone()), expected[8:9])


def test_another_key_image_or_draw_is_another_stream_and_the_rounding_of_a_pixel_is_not() -> None:
    images, empty = pixels(2), torch.empty(2, 64)
    draws = ImageDraws(images, 0, "a test")
    first, second = draws.uniform_(empty.clone()), draws.uniform_(empty.clone())
    assert len(torch.unique(torch.stack([first, second]))) == 256
    assert (ImageDraws(images, 1, "a test").uniform_(empty.clone()) != first).all()
    moved = images.clone()
    moved[0, 0, 0, 0] = (moved[0, 0, 0, 0] + 0.5) / 2
    assert (ImageDraws(moved, 0, "a test").uniform_(empty.clone()) == first).all(1).tolist() == [False, True]
    rounded = (images * 255).round() * (1 / 255)
    assert (rounded != images).any()
    assert torch.equal(ImageDraws(rounded, 0, "a test").uniform_(empty.clone()), first)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(11, 3, 4, 5), (11, 1, 4, 4), (11, 1, 1, 1)], ids=str)
def test_the_draws_of_parts_put_together_are_the_whole_batchs(shape: tuple[int, ...], layout: Any) -> None:
    whole, drawn = torch.empty(shape).to(memory_format=layout), generator(CPU, 0)
    expected = [torch.empty_like(whole).uniform_(-2, 3, generator=drawn), whole.clone().normal_(generator=drawn)]
    parts: list[list[torch.Tensor]] = [[], []]
    for part in (slice(0, 4), slice(4, 5), slice(5, 11)):
        draws = PartDraws(generator(CPU, 0), part, 11)
        room = torch.empty((part.stop - part.start, *shape[1:])).to(memory_format=layout)
        parts[0].append(draws.uniform_(room, -2, 3).clone())
        parts[1].append(draws.normal_(room))
    assert torch.equal(torch.cat(parts[0]), expected[0])
    assert torch.equal(torch.cat(parts[1]), expected[1])
