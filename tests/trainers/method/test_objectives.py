"""The objectives: each against its published formula written out, and the identities between them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.config import ObjectiveConfig, TrialConfig
from trainers.method.objectives import (
    Logits,
    Objective,
    boosted_cross_entropy,
    build,
    cross_entropy,
    divergence,
    s2o,
    s2o_target,
)

CLASSES = 5
NAMES = ("natural", "pgd_at", "trades", "mart", "avmixup")


def objective(name: str, classes: int = CLASSES, **keys: Any) -> Objective:
    config = TrialConfig.model_validate({"data": {"name": "digits"}, "objective": {"name": name, **keys}})
    return build(config.resolved().objective, classes)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(classes: int = CLASSES) -> nn.Module:
    """fp64, with batch norm and nonlinear."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, classes)
        return nn.Sequential(*layers).double()


def images(count: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Images, others near them, and labels."""
    x = torch.rand(count, 1, 4, 4, dtype=torch.float64, generator=seeded(1))
    near = (x + 0.1 * torch.randn(x.shape, dtype=torch.float64, generator=seeded(2))).clamp(0, 1)
    return x, near, torch.randint(0, CLASSES, (count,), generator=seeded(3))


def outer(found: Objective, model: nn.Module, generator: torch.Generator | None = None) -> Tensor:
    return found.outer(model, *images()[:2], images()[2], generator or seeded()).__call__().loss


def kl(reference: Tensor, attacked: Tensor) -> Tensor:
    """KL(softmax(reference) || softmax(attacked)) of each row, by its definition."""
    p, q = reference.softmax(1), attacked.softmax(1)
    return (p * (p / q).log()).sum(1)


def test_natural_is_the_cross_entropy_at_the_images_and_pgd_at_the_one_at_the_adversarial_images() -> None:
    model, (x, near, y) = network(), images()
    assert torch.equal(outer(objective("natural"), model), F.cross_entropy(model(x), y))
    assert torch.equal(outer(objective("pgd_at"), model), F.cross_entropy(model(near), y))


def assert_same_value_and_gradients(found: Tensor, expected: Tensor, model: nn.Module) -> None:
    """By every parameter: what is held constant in one and not in the other shows only there."""
    torch.testing.assert_close(found, expected)
    weights = list(model.parameters())
    got = torch.autograd.grad(found, weights)
    torch.testing.assert_close(got, torch.autograd.grad(expected, weights), rtol=1e-9, atol=1e-12)


def test_trades_is_its_formula_with_the_mean_over_the_batch_that_is_there() -> None:
    model, (x, near, y) = network().eval(), images()
    expected = F.cross_entropy(model(x), y) + 6 * kl(model(x), model(near)).mean()
    assert_same_value_and_gradients(outer(objective("trades"), model), expected, model)


def test_trades_at_beta_0_is_natural_training_to_the_bit() -> None:
    first, second = network().eval(), network().eval()
    outer(objective("trades", beta=0), first).backward()
    outer(objective("natural"), second).backward()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


SMOOTHED = ("natural", "pgd_at", "trades")


@pytest.mark.parametrize("name", SMOOTHED)
def test_label_smoothing_is_the_cross_entropy_to_the_label_mixed_with_the_uniform_law(name: str) -> None:
    model, (x, near, labels) = network(), images()
    target = 0.7 * F.one_hot(labels, CLASSES) + 0.3 / CLASSES
    fit = -(target * model(near if name == "pgd_at" else x).log_softmax(1)).sum(1).mean()
    rest = 6 * kl(model(x), model(near)).mean() if name == "trades" else 0.0
    torch.testing.assert_close(outer(objective(name, label_smoothing=0.3), model), fit + rest)


def test_label_smoothing_is_that_of_pang_et_al_at_c_over_c_less_1_times_theirs() -> None:
    """P2333/Bag-of-Tricks-for-AT, train_cifar.py, LabelSmoothingLoss: 1 - s for the label, s to the others."""
    model, (_, near, labels), s = network(), images(), 0.2
    target = torch.full((len(labels), CLASSES), s / (CLASSES - 1), dtype=torch.float64).scatter(
        1, labels[:, None], 1 - s
    )
    theirs = -(target * model(near).log_softmax(1)).sum(1).mean()
    ours = outer(objective("pgd_at", label_smoothing=s * CLASSES / (CLASSES - 1)), model)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", SMOOTHED)
def test_label_smoothing_of_0_is_none_to_the_bit(name: str) -> None:
    model = network()
    assert torch.equal(outer(objective(name, label_smoothing=0), model), outer(objective(name), model))


@pytest.mark.parametrize("name", SMOOTHED)
def test_label_smoothing_leaves_the_attacks_loss_and_s2os_term_alone(name: str) -> None:
    model, (x, near, labels) = network(), images()
    plain, smooth = objective(name), objective(name, label_smoothing=0.3)
    assert torch.equal(smooth.inner(model, x, labels)(near), plain.inner(model, x, labels)(near))
    keys = {"s2o": {"enabled": True, "weight": 1}}
    assert torch.equal(*(outer(objective(name, label_smoothing=a, **keys), model) for a in (0, 0.3)))


@pytest.mark.parametrize("name", ["mart", "avmixup"])
def test_label_smoothing_is_refused_where_no_code_has_it(name: str) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing: has no meaning for {name}: .*; set 0, or in space: "):
        objective(name, label_smoothing=0.1)


def test_mart_is_its_formula() -> None:
    model, (x, near, y) = network().eval(), images()
    clean, attacked = model(x), model(near)
    p, q = clean.softmax(1), attacked.softmax(1)
    rows = range(len(y))
    strongest = torch.stack([max(q[i, c] for c in range(CLASSES) if c != y[i]) for i in rows])
    bce = F.cross_entropy(attacked, y) - (1 - strongest).log().mean()
    expected = bce + 5 * (kl(clean, attacked) * (1 - p[rows, y])).mean()
    assert_same_value_and_gradients(outer(objective("mart"), model), expected, model)


@pytest.mark.parametrize(("scale", "percent"), [(1, 0.0043), (5, 2.5), (10, 8.2)])
def test_marts_gradient_parts_from_the_authors_as_the_network_grows_confident(scale: float, percent: float) -> None:
    """Theirs has 1.0001 - p and 1e-12 in its logarithms; standard normal logits, half of the 128 images right."""
    parted = []
    for seed in range(20):
        source = seeded(seed)
        attacked, noise = (torch.randn(128, 10, generator=source, dtype=torch.float64) for _ in range(2))
        y = torch.randint(0, 10, (128,), generator=source)
        y = torch.where(torch.rand(128, generator=source) < 0.5, attacked.argmax(1), y)
        z = [(scale * logits).requires_grad_() for logits in (attacked, attacked + 0.3 * noise)]
        ours = objective("mart", 10).terms(Logits(*z), y)
        assert ours.divergence is not None
        p, q = (logits.softmax(1) for logits in z)
        wrong = p.scatter(1, y[:, None], 0).amax(1)
        unsure = 1.0000001 - q.gather(1, y[:, None]).squeeze(1)
        boosted = F.cross_entropy(z[0], y) - (1.0001 - wrong + 1e-12).log().mean()
        theirs = boosted + 5 * ((q * (q.log() - (p + 1e-12).log())).sum(1) * unsure).mean()
        both = [torch.cat(torch.autograd.grad(loss, z)) for loss in (ours.fit + ours.divergence, theirs)]
        parted.append(((both[0] - both[1]).norm() / both[1].norm()).item())
    assert 100 * sum(parted) / len(parted) == pytest.approx(percent, rel=0.05)


def test_mart_at_beta_0_is_its_boosted_cross_entropy() -> None:
    model, (_, near, y) = network().eval(), images()
    assert torch.equal(outer(objective("mart", beta=0), model), boosted_cross_entropy(model(near), y))


def test_the_boosted_cross_entropy_differs_from_the_authors_by_their_epsilon_alone() -> None:
    logits, y = torch.randn(200, 10, generator=seeded()), torch.randint(0, 10, (200,), generator=seeded(1))
    q = logits.softmax(1)
    wrong = q.scatter(1, y[:, None], 0).amax(1)
    theirs = F.cross_entropy(logits, y) - (1.0001 - wrong + 1e-12).log().mean()
    ours = boosted_cross_entropy(logits, y)
    assert ours != theirs
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=0)


def test_a_hopelessly_wrong_image_keeps_finite_values_and_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    clean = torch.tensor([[0.0, 300.0, -300.0]])
    for name in ("trades", "mart"):
        terms = objective(name, 3).terms(Logits(logits, clean), torch.tensor([1]))
        total = terms.fit + terms.divergence
        (gradient,) = torch.autograd.grad(total, logits)
        assert torch.isfinite(total)
        assert torch.isfinite(gradient).all()
    (gradient,) = torch.autograd.grad(boosted_cross_entropy(logits, torch.tensor([1])), logits)
    assert gradient[0, 0] == pytest.approx(2)  # CE's 1 and the margin's 1: it has not vanished


def test_the_inner_cross_entropy_is_summed_over_the_batch_so_that_no_images_gradient_hangs_on_its_size() -> None:
    model, (x, near, y) = network().eval(), images()
    expected = sum(F.cross_entropy(model(near[i : i + 1]), y[i : i + 1]) for i in range(len(y)))
    torch.testing.assert_close(cross_entropy(model, x, y)(near), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_attack_raises_the_divergence_for_trades_and_the_cross_entropy_for_all_others(name: str) -> None:
    model, (x, near, y) = network().eval(), images()
    raised = kl(model(x), model(near)) if name == "trades" else F.cross_entropy(model(near), y, reduction="none")
    torch.testing.assert_close(objective(name).inner(model, x, y)(near), raised.sum())


def test_the_inner_divergence_is_0_and_flat_at_the_images_and_positive_elsewhere() -> None:
    model, (x, near, y) = network().eval(), images()
    loss = divergence(model, x, y)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(loss(near), kl(model(x), model(near)).sum())
    value = loss(leaf)
    assert abs(value.item()) < 1e-12
    assert torch.autograd.grad(value, leaf)[0].abs().max() < 1e-12


def test_avmixup_lies_between_the_image_and_the_clamped_vertex_with_labels_between_theirs() -> None:
    x, near, y = images()
    made = objective("avmixup", vertex=2, clean_label=0.9, vertex_label=0.5).inputs(x, near, y, seeded())
    share = torch.rand((len(x), 1, 1, 1), generator=seeded(), dtype=torch.float64)
    vertex = (x + 2 * (near - x)).clamp(0, 1)
    torch.testing.assert_close(made.images, share * x + (1 - share) * vertex)
    for i, a in enumerate(share.flatten()):
        own = a * 0.9 + (1 - a) * 0.5
        expected = torch.full((CLASSES,), ((1 - own) / (CLASSES - 1)).item(), dtype=torch.float64)
        expected[y[i]] = own
        torch.testing.assert_close(made.targets[i], expected)


def test_avmixup_with_certain_labels_is_the_cross_entropy_at_the_mixed_images() -> None:
    model = network().eval()
    x, near, y = images()
    found = objective("avmixup", vertex=1, clean_label=1, vertex_label=1)
    ends = found.inputs(x, near, y, seeded())
    torch.testing.assert_close(ends.targets, F.one_hot(y, CLASSES).double())
    share = torch.rand((len(x), 1, 1, 1), generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(outer(found, model), F.cross_entropy(model(torch.lerp(near, x, share)), y))


@pytest.mark.parametrize(("name", "s2o"), [("trades", False), ("trades", True), ("mart", False), ("natural", True)])
def test_where_nothing_was_attacked_the_batch_goes_through_the_model_once_and_diverges_from_itself_by_0(
    name: str, s2o: bool
) -> None:
    model, (x, _, y) = network().eval(), images()
    found = objective(name, s2o={"enabled": s2o})
    loss = found.outer(model, x, x, y, seeded())().loss
    same = objective(name, s2o={"enabled": s2o}).outer(model, x, x.clone(), y, seeded())().loss
    torch.testing.assert_close(loss, same)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found.outer(model, x, x, y, seeded())()
    assert seen == [len(x)]


def test_every_call_of_the_outer_loss_is_the_same_function() -> None:
    model = network().eval()
    for name in NAMES:
        again = objective(name).outer(model, *images()[:2], images()[2], seeded())
        assert torch.equal(again().loss, again().loss), name


def loop_target(z: Tensor, label: int, rho: float) -> list[float]:
    """S2O's target of one sample, entry by entry as the authors' code describes it."""
    n, classes = z.shape
    row = []
    for other in range(classes):
        row.append(-abs(sum(float(z[i, label]) * float(z[i, other]) for i in range(n))))
    least = min(row)
    row = [0.0 if other == label else value - least for other, value in enumerate(row)]
    total = sum(row)
    return [1 - rho if other == label else rho * value / total for other, value in enumerate(row)]


@pytest.mark.parametrize("rho", [0.8, 0.98, 0.0])
def test_the_s2o_target_is_that_of_a_loop_over_samples(rho: float) -> None:
    z, y = torch.randn(9, 6, dtype=torch.float64, generator=seeded()), torch.randint(0, 6, (9,), generator=seeded(1))
    expected = torch.tensor([loop_target(z, int(label), rho) for label in y], dtype=torch.float64)
    torch.testing.assert_close(s2o_target(z, rho)[y], expected)


def test_the_s2o_term_is_half_the_two_divergences_summed_over_classes_and_averaged_over_the_batch() -> None:
    clean, attacked = (torch.randn(9, 6, dtype=torch.float64, generator=seeded(seed)) for seed in (0, 1))
    y = torch.randint(0, 6, (9,), generator=seeded(2))
    total = 0.0
    for z in (clean, attacked):
        for i, label in enumerate(y):
            target, p = loop_target(z, int(label), 0.8), z[i].softmax(0)
            total += sum(t * math.log(t / float(q)) for t, q in zip(target, p, strict=True) if t) / len(y)
    assert s2o(Logits(attacked, clean), y, rho=0.8).item() == pytest.approx(total / 2)


def test_no_gradient_flows_through_the_s2o_target() -> None:
    z = torch.randn(9, 6, dtype=torch.float64, generator=seeded(), requires_grad=True)
    y = torch.randint(0, 6, (9,), generator=seeded(1))
    fixed = s2o_target(z.detach(), 0.8)[y]
    (expected,) = torch.autograd.grad(F.cross_entropy(z, fixed), z)
    (got,) = torch.autograd.grad(s2o(Logits(z, z), y, rho=0.8), z)
    torch.testing.assert_close(got, expected)


def test_a_class_whose_others_are_all_its_least_spreads_rho_evenly_over_them() -> None:
    """|G|'s first row is 1, 2, 2 and its second 2, 4, 4: nothing is left of the others, or of one alone."""
    target = s2o_target(torch.tensor([[1.0, 2.0, 2.0]]), 0.8)
    torch.testing.assert_close(target[:2], torch.tensor([[0.2, 0.4, 0.4], [0.8, 0.2, 0.0]]))
    torch.testing.assert_close(s2o_target(torch.tensor([[1.0, 2.0]]), 0.8), torch.tensor([[0.2, 0.8], [0.8, 0.2]]))


def test_two_classes_have_an_s2o_target_too() -> None:
    target = s2o_target(torch.randn(8, 2, generator=seeded()), 0.8)
    torch.testing.assert_close(target, torch.tensor([[0.2, 0.8], [0.8, 0.2]]))


@pytest.mark.parametrize("name", NAMES)
def test_s2o_takes_its_share_of_the_first_term_and_leaves_the_divergence_whole(name: str) -> None:
    """0.9 CE + 0.1 S2O for PGD-AT, 0.7 CE + 0.3 S2O + 6 KL for TRADES [S2O, code]."""
    plain, joined = objective(name), objective(name, s2o={"enabled": True})
    model = network().eval()
    x, near, y = images()
    inputs = plain.inputs(x, near, y, seeded())
    logits = Logits(model(inputs.images), model(x))
    fit, added = plain.terms(logits, inputs.targets)
    share = {"trades": 0.3, "mart": 0.3}.get(name, 0.1)
    expected = (1 - share) * fit + share * s2o(logits, y, rho=0.8) + (0 if added is None else added)
    torch.testing.assert_close(outer(joined, model), expected)


@pytest.mark.parametrize("name", NAMES)
def test_s2o_at_weight_0_leaves_the_loss_as_it_is(name: str) -> None:
    model = network().eval()
    without = outer(objective(name), model)
    assert torch.equal(outer(objective(name, s2o={"enabled": True, "weight": 0}), model), without)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_not_touched(name: str, training: bool) -> None:
    model = network().train(training)
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(module.training))
    found = objective(name, s2o={"enabled": True})
    outer(found, model)
    found.inner(model, images()[0], images()[2])(images()[1])
    assert set(seen) == {training}
    assert model.training is training


@pytest.mark.parametrize(
    ("name", "enabled", "passes"),
    [("natural", True, 1), ("pgd_at", False, 1), ("pgd_at", True, 2), ("trades", True, 2), ("avmixup", False, 1)],
)
def test_the_clean_batch_goes_through_the_model_once_and_only_where_it_is_read(
    name: str, enabled: bool, passes: int
) -> None:
    model, seen = network(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    outer(objective(name, s2o={"enabled": enabled}), model)
    assert len(seen) == passes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_awp", [False, True])
def test_the_loss_that_awp_climbs_has_s2os_term_only_where_asked(name: str, in_awp: bool) -> None:
    """[S2O, code]: TradesAWP.calc_awp climbs CE + beta KL, and the update descends 0.7 CE + 0.3 S2O + beta KL."""
    model = network().eval()
    x, near, y = images()
    found = objective(name, s2o={"enabled": True, "in_awp": in_awp}).outer(model, x, near, y, seeded())
    plain = objective(name).outer(model, x, near, y, seeded())
    climbed = found(ascending=True).loss
    assert torch.equal(climbed, found().loss) is in_awp
    assert torch.equal(climbed, plain().loss) is not in_awp


def test_a_config_that_is_not_resolved_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="resolve"):
        build(ObjectiveConfig(name="trades"), CLASSES)


def test_trades_reference_is_worked_out_once_an_attack() -> None:
    model, calls = network().eval(), []
    model.register_forward_hook(lambda module, inputs, logits: calls.append(len(inputs[0])))
    loss = divergence(model, *[images()[i] for i in (0, 2)])
    partial(loss, images()[1])()
    loss(images()[1])
    assert len(calls) == 3
