"""Dynamics of a real run, against a dense Hessian and per-sample gradients; training is the same beside them."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from small import tiny as config
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.theory.deat import stationary_variance
from trainers import loop
from trainers.config import ObjectiveConfig, TrialConfig
from trainers.data.batches import Split
from trainers.data.sets import load
from trainers.dynamics import curvature, measurement
from trainers.dynamics.lines import rises
from trainers.dynamics.loss import FixedLoss, fixed_loss
from trainers.dynamics.noise import excess_kurtosis, gradient, gradient_noise, variance
from trainers.engine import Engine
from trainers.errors import UserError
from trainers.loop import train, with_fingerprint
from trainers.method.objectives import Inputs, Objective, Terms, build
from trainers.models import registry
from trainers.randomness import generator
from trainers.record import DynamicsRecord, EpochRecord, dynamics_record
from trainers.workers import ALONE

IMAGES, SIDE, CLASSES, PARAMETERS = 30, 3, 4, 46
#: Two-sided Monte-Carlo interval of 99.9 %, in standard errors.
WIDTH = 3.3
CPU = Engine(torch.device("cpu"))
TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}


class Tiny(nn.Module):
    """46 smooth parameters, in double precision: small enough for a dense Hessian."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(SIDE * SIDE, 3), nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.second(torch.tanh(self.first(images.flatten(1))))
        return found


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().double()


def drawn(name: str = "pgd_at", **values: Any) -> FixedLoss:
    """A fixed loss at images that need no attack to be drawn."""
    draws = torch.Generator().manual_seed(1)
    images = torch.rand((IMAGES, 1, SIDE, SIDE), generator=draws, dtype=torch.float64)
    moved = (images + 0.1 * torch.rand(images.shape, generator=draws, dtype=torch.float64)).clamp(0, 1)
    labels = torch.randint(CLASSES, (IMAGES,), generator=draws)
    config = TrialConfig(objective=ObjectiveConfig.model_validate({"name": name, **values})).resolved()
    objective = build(config.objective, CLASSES)
    inputs = objective.inputs(images, moved, labels, draws)
    return FixedLoss(objective, images, inputs, labels, CPU)


def flat(parameters: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def mean_at(model: nn.Module, loss: FixedLoss, weights: Tensor) -> Tensor:
    """The loss at other weights, as one function of a flat vector: what autograd differentiates densely."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [parameter.shape for parameter in model.parameters()]
    parts = weights.split([shape.numel() for shape in shapes])
    values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}

    class Moved(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(model, values, (images,))
            return found

    return loss.outer(Moved(), torch.arange(IMAGES)).loss


def dense(model: nn.Module, loss: FixedLoss) -> Tensor:
    """The Hessian by double reverse mode, (d, d)."""
    weights = flat(model.parameters())
    found: Tensor = torch.autograd.functional.hessian(lambda w: mean_at(model, loss, w), weights)
    return found


@pytest.mark.parametrize(
    ("name", "size"), [("natural", 17), ("pgd_at", 17), ("pgd_at", 100), ("trades", 100), ("mart", 17), ("avmixup", 17)]
)
def test_top_eigenpairs_are_those_of_the_dense_hessian_of_every_objective(
    name: str, size: int, tiny: nn.Module
) -> None:
    loss = drawn(name)
    exact, vectors = torch.linalg.eigh(dense(tiny, loss))
    found = curvature.eigenpairs(curvature.hessian(tiny, loss, size), 3, torch.ones(len(exact)).double())
    assert found.values == pytest.approx(exact.flip(0)[:3].tolist(), rel=1e-6)
    overlap = (vectors.flip(1)[:, :3] * found.directions).sum(dim=0).abs()
    assert overlap.tolist() == pytest.approx([1, 1, 1], abs=1e-3)


def test_s2o_is_part_of_the_loss_whose_hessian_is_taken(tiny: nn.Module) -> None:
    loss = drawn("trades", s2o={"enabled": True})
    exact = torch.linalg.eigvalsh(dense(tiny, loss))
    found = curvature.eigenpairs(curvature.hessian(tiny, loss, 100), 2, torch.ones(len(exact)).double())
    assert found.values == pytest.approx(exact.flip(0)[:2].tolist(), rel=1e-6)


@pytest.mark.parametrize("known", [0, 3])
def test_the_trace_lies_within_its_own_interval_of_the_dense_one(known: int, tiny: nn.Module) -> None:
    loss = drawn()
    exact = dense(tiny, loss)
    operator = curvature.hessian(tiny, loss, 100)
    pairs = curvature.eigenpairs(operator, 3, torch.ones(len(exact)).double())
    pairs = curvature.Eigenpairs(pairs.values[:known], pairs.directions[:, :known])
    found = curvature.trace(operator, pairs, 120, torch.Generator().manual_seed(0))
    assert 0 < found.error < 0.2 * exact.trace()
    assert abs(found.value - exact.trace()) < WIDTH * found.error


def test_taking_the_known_eigenpairs_out_makes_the_trace_more_certain(tiny: nn.Module) -> None:
    loss = drawn()
    operator = curvature.hessian(tiny, loss, 100)
    pairs = curvature.eigenpairs(operator, 5, torch.ones(operator.shape[0]).double())
    none = curvature.Eigenpairs((), pairs.directions[:, :0])
    errors = [curvature.trace(operator, p, 100, torch.Generator().manual_seed(0)).error for p in (none, pairs)]
    assert errors[1] < 0.7 * errors[0]


def test_derivatives_that_are_not_finite_give_no_eigenpairs_and_no_error(tiny: nn.Module) -> None:
    with torch.no_grad():
        next(tiny.parameters()).fill_(torch.nan)
    operator = curvature.hessian(tiny, drawn(), 100)
    assert curvature.eigenpairs(operator, 2, torch.ones(operator.shape[0]).double()).values == ()


def per_sample(model: nn.Module, loss: FixedLoss) -> Tensor:
    return torch.stack([gradient(model, loss, [torch.tensor([image])]) for image in range(IMAGES)])


@pytest.mark.parametrize("batch_size", [1, 5, 20])
def test_noise_has_the_covariance_of_per_sample_gradients_over_the_batch_with_the_finite_factor(
    batch_size: int, tiny: nn.Module
) -> None:
    loss, batches = drawn(), 800
    samples = per_sample(tiny, loss)
    covariance = samples.T.cov() / batch_size * (1 - batch_size / IMAGES)
    directions = torch.linalg.eigh(dense(tiny, loss))[1].flip(1)[:, :4]
    found = gradient_noise(tiny, loss, batch_size, batches, directions, torch.Generator().manual_seed(3))
    assert abs(found.trace.value - covariance.trace()) < WIDTH * found.trace.error
    assert found.trace.error < 0.1 * covariance.trace()
    exact = (directions * (covariance @ directions)).sum(dim=0)
    heavy = excess_kurtosis(found.projections)
    errors = exact * ((2 + heavy) / batches).sqrt()
    assert ((variance(found.projections) - exact).abs() < 3.9 * errors).all()  # 99.9 % for four together


def test_noise_falls_as_one_over_the_batch_once_the_finite_factor_is_out(tiny: nn.Module) -> None:
    loss, sizes = drawn(), [1, 2, 4, 8, 16]
    found = [
        gradient_noise(
            tiny, loss, b, 300, torch.eye(PARAMETERS).double()[:, :1], torch.Generator().manual_seed(b)
        ).trace
        for b in sizes
    ]
    y = np.log([each.value / (1 - b / IMAGES) for each, b in zip(found, sizes, strict=True)])
    weights = np.array([each.value / each.error for each in found])
    (slope, _), covariance = np.polyfit(np.log(sizes), y, 1, w=weights, cov="unscaled")
    assert abs(slope + 1) < WIDTH * covariance[0, 0] ** 0.5 < 0.15


def test_a_batch_of_all_images_has_no_noise(tiny: nn.Module) -> None:
    found = gradient_noise(tiny, drawn(), IMAGES, 4, torch.eye(PARAMETERS).double()[:, :2], torch.Generator())
    assert found.trace.value == pytest.approx(0, abs=1e-25)


def test_the_gradient_in_parts_is_that_of_the_whole(tiny: nn.Module) -> None:
    loss = drawn("mart")
    whole = gradient(tiny, loss, loss.parts(100))
    assert torch.allclose(gradient(tiny, loss, loss.parts(7)), whole, rtol=1e-10)
    assert torch.allclose(per_sample(tiny, loss).mean(dim=0), whole, rtol=1e-10)


@pytest.mark.parametrize(("law", "excess"), [(stats.norm, 0.0), (stats.uniform, -1.2), (stats.laplace, 3.0)])
def test_kurtosis_is_scipys_and_that_of_a_known_law(law: Any, excess: float) -> None:
    values = law.rvs(size=(50, 4000), random_state=np.random.default_rng(0))
    found = excess_kurtosis(torch.from_numpy(values)).numpy()
    assert found == pytest.approx(stats.kurtosis(values, axis=0, bias=False), rel=1e-9)
    many = excess_kurtosis(torch.from_numpy(law.rvs(size=(40_000, 50), random_state=np.random.default_rng(1)))).numpy()
    assert abs(many.mean() - excess) < WIDTH * many.std(ddof=1) / 50**0.5
    if law is stats.norm:  # unbiased at any n
        assert abs(found.mean()) < WIDTH * found.std(ddof=1) / 4000**0.5


def squares() -> FixedLoss:
    """Half the squared error of a linear model: its loss is its quadratic."""
    loss = drawn()
    targets = torch.rand((IMAGES, CLASSES), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def terms(logits: Any, expected: Tensor) -> Terms:
        return Terms((logits.trained - expected).square().sum(dim=1).mean() / 2)

    return replace(loss, objective=replace(loss.objective, terms=terms), inputs=Inputs(loss.inputs.images, targets))


def test_a_quadratic_loss_lies_on_its_quadratic_at_any_distance() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).double()
    loss = squares()
    operator, places = curvature.hessian(model, loss, 100), (-30.0, -0.1, 1e-3, 2.0)
    pairs = curvature.eigenpairs(operator, 2, torch.ones(operator.shape[0]).double())
    slopes = gradient(model, loss, loss.parts(100)) @ pairs.directions
    found = rises(model, loss, pairs.directions, [places] * 2, 100)
    for slope, bend, line in zip(slopes.tolist(), pairs.values, found, strict=True):
        assert line == pytest.approx([slope * t + bend * t**2 / 2 for t in places], rel=1e-6, abs=1e-12)


def test_a_smooth_loss_leaves_its_quadratic_as_the_distance_cubed(tiny: nn.Module) -> None:
    loss = drawn()
    operator, places = curvature.hessian(tiny, loss, 100), (0.1, 0.2, 0.4)
    pairs = curvature.eigenpairs(operator, 1, torch.ones(operator.shape[0]).double())
    slope = float(gradient(tiny, loss, loss.parts(100)) @ pairs.directions[:, 0])
    (line,) = rises(tiny, loss, pairs.directions, [places], 100)
    left = [abs(rise - slope * t - pairs.values[0] * t**2 / 2) for rise, t in zip(line, places, strict=True)]
    order = np.polyfit(np.log(places), np.log(left), 1)[0]
    assert 2.7 < order < 3.5


def test_the_noises_scale_is_the_stationary_deviation_at_small_learning_rates() -> None:
    lr, c, h, mu = 1e-5, 0.3, 2.0, 0.9
    exact = lr * c * (1 + mu) / ((1 - mu) * h * (2 * (1 + mu) - lr * h))
    assert measurement.noise_scale(lr, c, h, mu) == pytest.approx(exact**0.5, rel=1e-5)
    deat = stationary_variance(lr, h, c, k1=1.0, k2=0.8)
    assert measurement.noise_scale(lr / 5**0.5, c, h, 0.0) == pytest.approx(float(deat) ** 0.5, rel=1e-4)
    assert measurement.noise_scale(lr, c, -h, mu) == measurement.noise_scale(lr, 0.0, h, mu) == 1.0


DYNAMICS: dict[str, Any] = {
    "every": 2,
    "images": 40,
    "eigenpairs": 2,
    "directions": 1,
    "probes": 2,
    "batches": 4,
    "batch_sizes": [8],
    "line": [0.5, 1],
}


class Stopped(Exception):
    """What kills a trial in these tests."""


def run(trial: TrialConfig, checkpoint: Path | None = None, stop_after: int | None = None) -> list[Any]:
    """Everything the trial reports, without times."""
    records: list[Any] = []

    def report(record: EpochRecord | DynamicsRecord) -> None:
        times = TIMES if isinstance(record, EpochRecord) else {"seconds": 0.0}
        records.append(replace(record, **times))
        if len(records) == stop_after:
            raise Stopped

    try:
        train(trial, report, checkpoint)
    except Stopped:
        assert len(records) == stop_after
    return records


def of_epochs(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in asdict(record).items() if key != "trial_id"}
        for record in records
        if isinstance(record, EpochRecord)
    ]


VARIANTS: dict[str, dict[str, Any]] = {
    "deat": {"optimizer": {"name": "deat"}},
    "awp": {"weights": {"name": "awp"}, "averaging": {"name": "ema"}},
    "trades": {"objective": {"name": "trades"}, "attack": {"steps": 2, "batch_norm": "train"}, "epochs": 1},
    "dropout": {"model": {"name": "torchvision:squeezenet1_1"}, "optimizer": {"lr": 0.01}, "epochs": 1},
}


@pytest.mark.parametrize(
    "name", [name if name == "deat" else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_training_gives_the_same_bits_with_and_without(name: str) -> None:
    before = torch.random.get_rng_state()
    watched = run(config(dynamics=DYNAMICS, **{"epochs": 2, **VARIANTS[name]}))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert of_epochs(watched) == of_epochs(run(config(**{"epochs": 2, **VARIANTS[name]})))


def test_it_is_measured_before_training_every_n_epochs_and_after_the_last_at_the_lr_of_the_moment() -> None:
    records = run(config(dynamics=DYNAMICS, schedule={"milestones": [2]}))
    kinds = [(type(record) is DynamicsRecord, record.epoch) for record in records]
    assert kinds == [(True, 0), (False, 1), (False, 2), (True, 2), (False, 3), (True, 3)]
    before, between, last = (record for record in records if isinstance(record, DynamicsRecord))
    assert [before.lr, between.lr, last.lr] == pytest.approx([0.1, 0.1, 0.01])
    assert before.distance_squared == 0
    assert last.distance_squared is not None
    assert last.distance_squared > 0.01
    assert (before.images, before.training_images, before.batch_sizes, before.eigenpairs) == (40, 80, (32, 8), 2)
    assert [len(row) for row in before.variances] == [3, 3]
    assert [len(row) for row in before.rises] == [4, 4, 4]
    assert before.parameters == 19_258


def test_a_trial_stopped_twice_gives_the_measurements_of_one_never_stopped(tmp_path: Path) -> None:
    trial = config(dynamics=DYNAMICS, epochs=2)
    for stop_after in (1, 3):
        run(trial, tmp_path / "trial.pt", stop_after)
    resumed = run(trial, tmp_path / "trial.pt")
    assert len(resumed) == 4
    assert resumed == run(trial)
    assert resumed == run(trial, tmp_path / "trial.pt")  # ended: from the file alone


def test_a_measurement_leaves_the_model_as_it_was_and_its_slopes_are_those_of_its_lines() -> None:
    trial = with_fingerprint(config(dynamics={**DYNAMICS, "line": [1e-4]}))
    begun = loop._begin(trial, ALONE)
    begun.model.train()
    kept = copy.deepcopy(begun.model.state_dict())
    found = measurement.measure(trial, 0, 0.1, begun.model, begun.data, CPU, begun.training.start)
    assert begun.model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in begun.model.parameters())
    for name, value in begun.model.state_dict().items():
        assert torch.equal(value, kept[name]), name
    for slope, places, line in zip(found.slopes[:2], found.places[:2], found.rises[:2], strict=True):
        # at so short a distance the loss is its tangent: gradient, directions and lines are of one and the same loss
        expected = [float(slope or 0) * float(place or 0) for place in places]
        assert line == pytest.approx(expected, rel=0.02)


def test_a_trial_that_diverges_keeps_what_was_measured_before() -> None:
    records: list[Any] = []
    outcome = train(config(dynamics=DYNAMICS, optimizer={"lr": 1e30}), records.append)
    assert (outcome.outcome, outcome.epochs) == ("diverged", 0)
    assert [(type(record), record.epoch) for record in records] == [(DynamicsRecord, 0)]


def test_a_loss_that_is_not_finite_is_recorded_as_missing_numbers() -> None:
    trial = with_fingerprint(config(dynamics=DYNAMICS))
    begun = loop._begin(trial, ALONE)
    with torch.no_grad():
        begun.model.get_parameter("1.linear.bias").fill_(torch.nan)
    found = measurement.measure(trial, 0, 0.1, begun.model, begun.data, CPU, begun.training.start)
    assert (found.loss, found.eigenpairs, found.gradient_squared) == (None, 0, None)
    assert dynamics_record(json.loads(json.dumps(asdict(found), allow_nan=False))) == found


def test_a_record_comes_back_from_its_line_hashable_and_equal() -> None:
    found = run(config(dynamics=DYNAMICS, epochs=1))[0]
    again = dynamics_record({**json.loads(json.dumps(asdict(found))), "of_tomorrow": 1})
    assert again == found
    assert hash(again) == hash(found)


class Fused(nn.Module):
    """What torch computes in kernels that it cannot differentiate twice: attention, the hard sigmoid, SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(SIDE, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.gate, self.head = nn.Sequential(nn.SiLU(), nn.Hardsigmoid()), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images.squeeze(1))
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        found: Tensor = self.head((tokens * self.gate(mixed)).mean(1))
        return found


def test_products_with_the_hessian_of_fused_layers_are_differences_of_the_gradient() -> None:
    torch.manual_seed(0)
    model, loss, step = Fused().double(), drawn(), 1e-5
    weights = flat(model.parameters())
    direction = torch.randn(len(weights), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slopes = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(weights + sign * step * direction, model.parameters())
        slopes.append(gradient(model, loss, loss.parts(100)))
    nn.utils.vector_to_parameters(weights, model.parameters())
    product = curvature.hessian(model, loss, 17) @ direction
    torch.testing.assert_close(product, (slopes[0] - slopes[1]) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_b0", "swin_t", "vit_b_32")),
    ],
)
def test_torchvision_s_networks_can_be_measured(name: str) -> None:
    # raises UserError where torch cannot differentiate the network twice, as of Once below
    measurement.refuse(config(dynamics=DYNAMICS, model={"name": f"torchvision:{name}"}).resolved())


class Once(nn.Module):
    """A kernel without second derivative that is called past torch.nn.functional."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIDE * SIDE, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = torch.ops.aten.hardsigmoid(self.linear(images.flatten(1)))
        return found


def test_a_network_without_second_derivatives_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"dynamics\.every: must be none for once: torch cannot differentiate") as error:
        curvature.check(Once().double(), drawn(), "once")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"batch_size": 80}, "batch_size"),
        ({"dynamics": {**DYNAMICS, "batch_sizes": [100]}}, r"dynamics\.batch_sizes"),
        ({"dynamics": {**DYNAMICS, "images": 32}}, "batch_size"),
    ],
)
def test_batches_as_large_as_the_images_measured_on_are_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: must be below the .* images"):
        run(config(**{"dynamics": DYNAMICS, **values}))


def test_all_seeds_and_epochs_are_measured_on_the_same_images() -> None:
    data = load(config().data, "cpu")
    labels = []
    for seed in (0, 1):
        trial = with_fingerprint(config(seed=seed, dynamics=DYNAMICS))
        model = registry.network(trial, data).eval()
        labels.append(measurement._loss(trial, model, data, CPU, seed, 20))
    assert torch.equal(labels[0].images, labels[1].images)
    assert not torch.equal(labels[0].inputs.images, labels[1].inputs.images)


def test_an_attack_in_train_mode_leaves_the_statistics_with_which_the_loss_is_measured() -> None:
    trial = with_fingerprint(config(attack={"steps": 2, "batch_norm": "train"}))
    data = load(trial.data, "cpu")
    model = registry.network(trial, data).eval()
    before = [buffer.clone() for buffer in model.buffers()]
    measurement._loss(trial, model, data, CPU, 0, 20)
    assert all(torch.equal(*pair) for pair in zip(model.buffers(), before, strict=True))


def test_an_objective_is_given_a_generator_of_the_labels_device(
    tiny: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(device: Any = "left out") -> torch.Generator:
        asked.append(device)
        return plain()

    loss, plain, asked = drawn(), torch.Generator, list[Any]()
    monkeypatch.setattr(torch, "Generator", made)
    loss.outer(tiny, torch.arange(4))
    assert asked == [loss.labels.device]


def test_attacked_images_stay_in_the_ball_and_are_worse_than_clean_ones() -> None:
    trial = with_fingerprint(config())
    data = load(trial.data, "cpu")
    model = registry.network(trial, data).eval()
    objective: Objective = build(trial.objective, 10)
    draws = generator("cpu", 0, 0, "test")
    split: Split = data.train
    loss = fixed_loss(
        model, objective, split, torch.arange(40), trial.attack, CPU, size=16, attacking=draws, mixing=draws
    )
    assert float((loss.inputs.images - loss.images).abs().max()) <= 0.15 + 1e-6
    clean = F.cross_entropy(model(loss.images), loss.labels).detach()
    assert loss.outer(model, torch.arange(40)).loss > clean
    assert math.isfinite(float(clean))
