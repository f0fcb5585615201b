from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainers.method.attacks import Start, fgsm, pgd

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")
SHAPE = (6, 3, 5, 4)

both_norms = pytest.mark.parametrize("norm", NORMS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images with many pixels at 0 and at 1."""
    return (torch.rand(SHAPE, generator=seeded(seed), dtype=dtype) * 1.6 - 0.3).clamp(0, 1)


def linear(seed: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Weights (B, C, H, W) and the loss sum_i <w_i, x_i>."""
    weights = torch.randn(SHAPE, generator=seeded(seed), dtype=dtype)
    return weights, lambda images: (weights * images).sum()


def lengths(images: Tensor, norm: Norm) -> Tensor:
    """Each image's norm, (B,)."""
    return torch.linalg.vector_norm(images.flatten(1), ord=torch.inf if norm == "linf" else 2, dim=1)


def softmax_regression() -> tuple[nn.Module, Tensor, Tensor]:
    """A trained linear model on 3 x 5 x 4 pixels, its images (in the middle of the box) and labels."""
    torch.manual_seed(0)
    labels = torch.arange(40) % 4
    means = 0.1 * torch.randn(4, 3, 5, 4, dtype=torch.float64)
    images = (0.5 + means[labels] + 0.05 * torch.randn(40, 3, 5, 4, dtype=torch.float64)).clamp(0.1, 0.9)
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 4)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model, images, labels


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


@pytest.mark.parametrize("start", ["uniform", "normal", "clean"])
def test_linf_on_a_linear_loss_is_the_corner_clipped_to_the_box(start: Start) -> None:
    images, (weights, loss) = some_images(), linear()
    adversarial = pgd(loss, images, radius=0.1, step_size=0.03, steps=7, start=start, generator=seeded(0))
    torch.testing.assert_close(adversarial, (images + 0.1 * weights.sign()).clamp(0, 1), rtol=0, atol=1e-15)


def test_l2_on_a_linear_loss_is_radius_along_the_weights() -> None:
    images, (weights, loss) = torch.full(SHAPE, 0.5, dtype=torch.float64), linear()
    adversarial = pgd(loss, images, radius=0.4, step_size=0.15, steps=3, norm="l2", start="clean")
    expected = images + 0.4 * weights / lengths(weights, "l2").view(-1, 1, 1, 1)
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=1e-14)


def test_l2_from_a_random_start_converges_to_radius_along_the_weights() -> None:
    images, (weights, loss) = torch.full(SHAPE, 0.5, dtype=torch.float64), linear()
    adversarial = pgd(loss, images, radius=0.4, step_size=0.4, steps=45, norm="l2", generator=seeded(0))
    expected = images + 0.4 * weights / lengths(weights, "l2").view(-1, 1, 1, 1)
    torch.testing.assert_close(adversarial, expected, rtol=0, atol=1e-12)


@both_norms
def test_unprojected_steps_have_the_length_step_size(norm: Norm) -> None:
    images, (_, loss) = torch.full(SHAPE, 0.5, dtype=torch.float64), linear()
    adversarial = pgd(loss, images, radius=1.0, step_size=0.01, steps=3, norm=norm, start="clean")
    torch.testing.assert_close(lengths(adversarial - images, norm), torch.full((6,), 0.03, dtype=torch.float64))


@both_norms
def test_fp64_results_stay_in_the_ball_and_the_box(norm: Norm) -> None:
    for seed, radius, step, steps in itertools.product(range(12), (0.0, 0.02, 0.3, 3.0), (0.01, 0.5), (1, 4)):
        images, (weights, _) = some_images(seed), linear(seed)

        def loss(x: Tensor, weights: Tensor = weights) -> Tensor:
            return (weights * x + (7 * x).sin() * weights.flip(0)).sum()

        adversarial = pgd(loss, images, radius=radius, step_size=step, steps=steps, norm=norm, generator=seeded(seed))
        assert adversarial.min() >= 0
        assert adversarial.max() <= 1
        assert (lengths(adversarial - images, norm) <= radius + 1e-12).all()


@both_norms
def test_fp32_results_stay_in_the_ball_to_rounding_and_in_the_box_exactly(norm: Norm) -> None:
    for seed in range(20):
        images, (_, loss) = some_images(seed, torch.float32), linear(seed, torch.float32)
        adversarial = pgd(loss, images, radius=8 / 255, step_size=2 / 255, steps=10, norm=norm, generator=seeded(seed))
        assert adversarial.dtype == torch.float32
        assert adversarial.min() >= 0
        assert adversarial.max() <= 1
        assert (lengths(adversarial - images, norm) <= 8 / 255 + 5e-7).all()


@both_norms
def test_an_image_with_zero_gradient_does_not_move(norm: Norm) -> None:
    images, (weights, _) = some_images(), linear()
    seen = torch.tensor([1, 0, 1, 0, 0, 1], dtype=torch.float64).view(-1, 1, 1, 1)
    adversarial = pgd(
        lambda x: (seen * weights * x).sum(),
        images,
        radius=0.1,
        step_size=0.05,
        steps=3,
        norm=norm,
        start="clean",
    )
    moved = lengths(adversarial - images, norm) > 0
    assert moved.tolist() == [True, False, True, False, False, True]
    assert adversarial.isfinite().all()


@pytest.mark.parametrize("scale", [1e-40, 1e-38, 1e-25, 1e-10, 1e10, 1e30])
def test_l2_steps_do_not_depend_on_the_gradients_scale(scale: float) -> None:
    """Squares of the entries are 0 or infinite in fp32 at most of these scales."""
    images = torch.full((2, 1, 2, 2), 0.5)
    weights = (torch.tensor([3.0, -4.0, 0.0, 0.0]) * scale).view(1, 1, 2, 2)
    adversarial = pgd(
        lambda x: (weights * x).sum(),
        images,
        radius=0.1,
        step_size=0.1,
        steps=1,
        norm="l2",
        start="clean",
    )
    expected = torch.tensor([0.06, -0.08, 0.0, 0.0]).view(1, 1, 2, 2).expand(2, 1, 2, 2)
    torch.testing.assert_close(adversarial - images, expected, rtol=1e-4, atol=1e-7)


@both_norms
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_radius_0_returns_the_clean_images(norm: Norm, scale: float) -> None:
    images, (_, loss) = some_images(), linear()
    adversarial = pgd(lambda x: scale * loss(x), images, radius=0.0, step_size=0.1, steps=2, norm=norm)
    assert torch.equal(adversarial, images)


@both_norms
def test_the_loss_is_asked_about_images_in_the_ball_and_the_box_alone(norm: Norm) -> None:
    images, (weights, _) = some_images(), linear()
    asked: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        asked.append(x.detach().clone())
        return (weights * x).sum()

    pgd(loss, images, radius=0.5, step_size=0.2, steps=3, norm=norm, generator=seeded(0))
    assert len(asked) == 3
    for point in asked:
        assert point.min() >= 0
        assert point.max() <= 1
        assert (lengths(point - images, norm) <= 0.5 + 1e-12).all()


@both_norms
def test_steps_0_returns_the_clean_images_and_draws_nothing(norm: Norm) -> None:
    images, generator = some_images(), seeded(3)
    before = generator.get_state()

    def never(images: Tensor) -> Tensor:
        raise AssertionError("the loss is not needed")

    adversarial = pgd(never, images, radius=0.1, step_size=0.1, steps=0, norm=norm, generator=generator)
    assert torch.equal(adversarial, images)
    assert torch.equal(generator.get_state(), before)


def starts(norm: Norm, shape: tuple[int, ...], seed: int = 0, start: Start = "uniform") -> Tensor:
    """Displacements of random starts at radius 1/4 in the middle of the box, in units of the radius."""
    images = torch.full(shape, 0.5, dtype=torch.float64)
    loss: Callable[[Tensor], Tensor] = lambda x: 0 * x.sum()  # noqa: E731
    draws = seeded(seed)
    adversarial = pgd(loss, images, radius=0.25, step_size=0.1, steps=1, norm=norm, start=start, generator=draws)
    return (adversarial - images) / 0.25


def test_linf_random_start_is_uniform_in_the_cube() -> None:
    values = starts("linf", (500, 3, 4, 4))
    assert stats.kstest(values.flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01
    # 48 x 48 correlations over 500 images: independent pixels stay within 5 standard errors 1 / sqrt(500)
    off_diagonal = torch.corrcoef(values.flatten(1).T) - torch.eye(48)
    assert off_diagonal.abs().max() < 5 / 500**0.5


def test_in_linf_both_uniform_starts_are_one() -> None:
    shape = (4, 3, 2, 2)
    assert torch.equal(starts("linf", shape), starts("linf", shape, start="uniform_radius"))


@pytest.mark.parametrize(("start", "power"), [("uniform", 6), ("uniform_radius", 1)])
def test_l2_random_starts_are_uniform_in_the_ball_s_volume_or_in_its_radius(start: Start, power: int) -> None:
    values = starts("l2", (20_000, 3, 1, 2), start=start).flatten(1)
    length = values.norm(dim=1)
    # volume inside length s is s^d, so that s^d is uniform, or else s is
    assert stats.kstest((length**power).numpy(), "uniform").pvalue > 0.01
    direction = values / length[:, None]
    # a uniform direction has mean 0 and covariance I / d; intervals are 5 standard errors
    assert direction.mean(0).abs().max() < 5 * (1 / 6 / 20_000) ** 0.5
    assert (direction.T @ direction / 20_000 - torch.eye(6) / 6).abs().max() < 5 * (1 / 12 / 20_000) ** 0.5
    assert abs(stats.spearmanr(direction[:, 0].numpy(), length.numpy()).statistic) < 5 / 20_000**0.5


@both_norms
def test_a_generator_leaves_the_global_one_alone(norm: Norm) -> None:
    before = torch.get_rng_state()
    starts(norm, SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def asked_first(start: Start, images: Tensor, norm: Norm, generator: torch.Generator, radius: float = 0.25) -> Tensor:
    """Where PGD begins: the first images that the loss is asked about."""
    asked: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        asked.append(x.detach().clone())
        return x.sum()

    pgd(loss, images, radius=radius, step_size=0.1, steps=1, norm=norm, start=start, generator=generator)
    return asked[0]


@both_norms
def test_normal_start_is_the_image_plus_a_thousandth_of_normal_noise_clamped(norm: Norm) -> None:
    images = some_images()
    noise = torch.randn(SHAPE, generator=seeded(4), dtype=images.dtype)
    first = asked_first("normal", images, norm, seeded(4))
    torch.testing.assert_close(first, (images + 0.001 * noise).clamp(0, 1), rtol=0, atol=1e-16)
    assert ((first == 0) | (first == 1)).any()


def test_normal_start_has_standard_deviation_a_thousandth_and_independent_pixels() -> None:
    images = torch.full((500, 3, 4, 4), 0.5, dtype=torch.float64)
    values = (asked_first("normal", images, "linf", seeded(0)) - images) / 0.001
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 0.01
    off_diagonal = torch.corrcoef(values.flatten(1).T) - torch.eye(48)
    assert off_diagonal.abs().max() < 5 / 500**0.5


@both_norms
def test_a_normal_start_outside_a_small_ball_ends_inside_it(norm: Norm) -> None:
    images, (_, loss) = some_images(), linear()
    assert lengths(asked_first("normal", images, norm, seeded(0), radius=1e-4) - images, norm).max() > 1e-4
    adversarial = pgd(
        loss, images, radius=1e-4, step_size=1e-5, steps=1, norm=norm, start="normal", generator=seeded(0)
    )
    assert (lengths(adversarial - images, norm) <= 1e-4 + 1e-15).all()


@both_norms
def test_clean_start_is_the_image_and_draws_nothing(norm: Norm) -> None:
    images, generator = some_images(), seeded(3)
    before = generator.get_state()
    assert torch.equal(asked_first("clean", images, norm, generator), images)
    assert torch.equal(generator.get_state(), before)


@both_norms
def test_uniform_start_is_the_default_and_lies_in_the_ball_and_the_box(norm: Norm) -> None:
    images, (_, loss) = some_images(), linear()
    first = asked_first("uniform", images, norm, seeded(0))
    assert 0 <= first.min() <= first.max() <= 1
    assert (lengths(first - images, norm) <= 0.25 + 1e-12).all()
    attack: dict[str, Any] = {"radius": 0.25, "step_size": 0.01, "steps": 1, "norm": norm}
    default = pgd(loss, images, generator=seeded(0), **attack)
    assert torch.equal(default, pgd(loss, images, generator=seeded(0), start="uniform", **attack))


@both_norms
@pytest.mark.parametrize("start", ["uniform", "normal"])
def test_a_random_start_is_a_function_of_the_generators_seed(norm: Norm, start: Start) -> None:
    images = some_images()
    first = asked_first(start, images, norm, seeded(5))
    assert torch.equal(first, asked_first(start, images, norm, seeded(5)))
    assert not torch.equal(first, asked_first(start, images, norm, seeded(6)))


def test_fgsm_is_radius_times_the_sign_of_the_gradient() -> None:
    model, images, labels = softmax_regression()
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(model(leaf), labels, reduction="sum"), leaf)
    adversarial = fgsm(lambda x: cross_entropy(model(x), labels, reduction="sum"), images, radius=0.05)
    torch.testing.assert_close(adversarial, images + 0.05 * gradient.sign(), rtol=0, atol=1e-15)


def test_fgsm_is_one_pgd_step_of_the_radius_without_random_start() -> None:
    images, (_, loss) = some_images(), linear()
    one_step = pgd(loss, images, radius=0.1, step_size=0.1, steps=1, start="clean")
    assert torch.equal(fgsm(loss, images, radius=0.1), one_step)


@both_norms
def test_no_step_lowers_the_loss_of_a_trained_linear_model(norm: Norm) -> None:
    """Cross-entropy after a linear map is convex in the image: projected ascent cannot lower it."""
    model, images, labels = softmax_regression()

    def after(steps: int) -> Tensor:
        adversarial = pgd(
            lambda x: cross_entropy(model(x), labels, reduction="sum"),
            images,
            radius=0.08,
            step_size=0.03,
            steps=steps,
            norm=norm,
            start="clean",
        )
        return cross_entropy(model(adversarial), labels, reduction="none").detach()

    losses = torch.stack([after(steps) for steps in range(7)])
    assert (losses.diff(dim=0) >= -1e-12).all()
    assert (losses[-1] > losses[0]).all()


@both_norms
def test_an_image_is_attacked_independently_of_its_batch(norm: Norm) -> None:
    model, images, labels = softmax_regression()

    def attacked(part: slice) -> Tensor:
        return pgd(
            lambda x: cross_entropy(model(x), labels[part], reduction="sum"),
            images[part],
            radius=0.1,
            step_size=0.03,
            steps=4,
            norm=norm,
            start="clean",
        )

    torch.testing.assert_close(attacked(slice(0, 40))[7:8], attacked(slice(7, 8)), rtol=0, atol=1e-12)


@both_norms
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_parameters_mode_and_clean_images_are_left_alone(norm: Norm, frozen: bool, training: bool) -> None:
    model, images = small_cnn(), some_images(dtype=torch.float32)
    model(images)
    model.requires_grad_(not frozen).train(training)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    clean = images.clone()
    adversarial = pgd(lambda x: model(x).square().sum(), images, radius=0.1, step_size=0.03, steps=2, norm=norm)
    assert torch.equal(images, clean)
    assert not torch.equal(adversarial, clean)
    assert all(param.grad is None and param.requires_grad is not frozen for param in model.parameters())
    assert all(module.training is training for module in model.modules())
    buffers = {key for key, _ in model.named_buffers()}
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]) or (training and key in buffers)


@both_norms
@pytest.mark.parametrize("steps", [0, 2])
def test_the_result_carries_no_graph_even_where_gradients_are_off(norm: Norm, steps: int) -> None:
    images, (_, loss) = some_images().requires_grad_(), linear()
    with torch.no_grad():
        quiet = pgd(loss, images, radius=0.1, step_size=0.1, steps=steps, norm=norm, generator=seeded(0))
    adversarial = pgd(loss, images, radius=0.1, step_size=0.1, steps=steps, norm=norm, generator=seeded(0))
    assert torch.equal(quiet, adversarial)
    assert not adversarial.requires_grad
    assert images.grad is None
    assert torch.is_grad_enabled()


@both_norms
def test_images_stay_fp32_when_the_loss_runs_in_bf16(norm: Norm) -> None:
    model, images = small_cnn(), some_images(dtype=torch.float32)
    model(images)
    model.eval().requires_grad_(False)
    seen: list[torch.dtype] = []

    def loss(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        seen.extend((x.dtype, logits.dtype))
        return logits.float().square().sum()

    adversarial = pgd(loss, images, radius=8 / 255, step_size=2 / 255, steps=2, norm=norm)
    assert set(seen) == {torch.float32, torch.bfloat16}
    assert adversarial.dtype == torch.float32
    assert (lengths(adversarial - images, norm) <= 8 / 255 + 5e-7).all()


@both_norms
def test_channels_last_images_give_the_same_result_in_channels_last(norm: Norm) -> None:
    images, (_, loss) = some_images(), linear()
    arguments: dict[str, Any] = {
        "radius": 0.1,
        "step_size": 0.03,
        "steps": 3,
        "norm": norm,
        "start": "clean",
    }
    plain = pgd(loss, images, **arguments)
    last = pgd(loss, images.to(memory_format=torch.channels_last), **arguments)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-14)


def test_an_unknown_norm_is_refused() -> None:
    images, (_, loss) = some_images(), linear()
    with pytest.raises(ValueError, match=r"^norm: must be one of linf, l2; got 'l1'$"):
        pgd(loss, images, radius=0.1, step_size=0.1, steps=1, norm="l1")


def test_an_unknown_start_is_refused() -> None:
    images, (_, loss) = some_images(), linear()
    with pytest.raises(
        ValueError, match=r"^start: must be one of uniform, uniform_radius, normal, clean; got 'random'$"
    ):
        pgd(loss, images, radius=0.1, step_size=0.1, steps=1, start="random")


@both_norms
def test_the_attack_compiles_to_one_graph(norm: Norm) -> None:
    images, (_, loss) = some_images(), linear()

    def attack(x: Tensor) -> Tensor:
        return pgd(loss, x, radius=0.1, step_size=0.03, steps=2, norm=norm, start="clean")

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(attack, fullgraph=True, backend="aot_eager")(images)
    torch.testing.assert_close(compiled, attack(images), rtol=0, atol=1e-14)
