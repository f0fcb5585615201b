"""The ladder: closed forms on a linear network, what nests on a trained one, and what it leaves untouched."""

from __future__ import annotations

import copy
import importlib.util
import logging
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.ladder import autoattack, survivors
from trainers.ladder.rungs import ATTACKS, LadderAttack, Strength, ladder_attack
from trainers.ladder.survivors import still_right
from trainers.ladder.trained import Trained, count, order, trained
from trainers.loop import train, with_fingerprint

Norm = Literal["linf", "l2"]
IMAGES = 100
CONFIG = TrialConfig.model_validate(
    {
        "data": {"name": "digits", "validation_fraction": 0.1},
        "model": {"name": "small_cnn"},
        "epochs": 5,
        "batch_size": 32,
        "attack": {"radius": 0.15, "step_size": 0.04, "steps": 7},
        "evaluation": {"every": 5, "splits": ["test"]},
        "device": "cpu",
        "keep": "last",
    }
)


def attack(name: Any, norm: Norm = "linf", radius: float = 0.15, **strength: Any) -> LadderAttack:
    base = {"attack": {"norm": norm, "radius": 0.15, "step_size": 0.04}}
    return ladder_attack(name, Strength(radius=radius, **strength), TrialConfig.model_validate(base))


SLOW = ("apgd", "autoattack")

#: AutoAttack takes seconds for an image too.
each_attack = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "autoattack" else name for name in ATTACKS]
)


class Plane(nn.Module):
    """Four logits s, -s, -9, -9 with s = w (x - 1/2): two classes that a plane parts, and two never chosen."""

    def __init__(self) -> None:
        super().__init__()
        signs = torch.randint(2, (64,), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        self.w = nn.Parameter(signs)

    def forward(self, images: Tensor) -> Tensor:
        s = (images.flatten(1) - 0.5) @ self.w / 8
        return torch.stack([s, -s, torch.full_like(s, -9), torch.full_like(s, -9)], dim=1)


def on_both_sides(plane: Plane, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Images around the plane, their labels, and their margins in units of `reach`, from -1.5 to 1.5 but not +-1."""
    margins = torch.linspace(-1.5, 1.5, 40)
    generator = torch.Generator().manual_seed(1)
    images = 0.5 + 0.05 * (torch.rand(40, 64, generator=generator) - 0.5)
    w = plane.w.detach() / 8
    images += ((margins * reach - (images - 0.5) @ w) / (w @ w)).unsqueeze(1) * w
    return images.reshape(40, 1, 8, 8), torch.zeros(40, dtype=torch.long), margins


@each_attack
@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.05), ("l2", 0.4)])
def test_on_a_linear_network_an_image_stays_right_if_its_margin_is_over_the_radius_in_the_dual_norm(
    name: str, norm: Norm, radius: float
) -> None:
    plane = Plane()
    dual = (plane.w.detach() / 8).abs().sum() if norm == "linf" else (plane.w.detach() / 8).norm()
    images, labels, margins = on_both_sides(plane, radius * float(dual))
    expected = margins > (0 if name == "clean" else 1)
    assert 5 < expected.sum() < 35
    assert torch.equal(still_right(plane, images, labels, attack(name, norm, radius, steps=40), 0), expected)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """PGD-7 adversarial training on the digits, five epochs, read back from its checkpoint."""
    path: Path = tmp_path_factory.mktemp("trained") / "trial.pt"
    config = with_fingerprint(CONFIG)
    assert train(config, lambda record: None, resume=path).outcome == "completed"
    return trained(config, path, "last")


@pytest.fixture(scope="module")
def examples(network: Trained) -> tuple[Tensor, Tensor]:
    test = network.data.test
    chosen = torch.tensor(order(test.labels.tolist())[:IMAGES])
    return test.images[chosen] / 255, test.labels[chosen]


@pytest.fixture(scope="module")
def right(network: Trained, examples: tuple[Tensor, Tensor]) -> Callable[..., Tensor]:
    """Which examples stay right; each attack is run once."""
    known: dict[LadderAttack, Tensor] = {}

    def find(name: str, **strength: Any) -> Tensor:
        one = attack(name, **strength)
        if one not in known:
            known[one] = still_right(network.model, *examples, one, 0)
        return known[one]

    return find


def test_in_the_l2_ball_pgd_finds_more_from_a_uniform_distance_than_from_the_ball_s_volume(
    network: Trained, examples: tuple[Tensor, Tensor]
) -> None:
    """Which is why evaluations start there; on how many networks and at which radii, see benchmarks/l2_start.py."""
    found = []
    for start in ("uniform", "uniform_radius"):
        one = attack("pgd", "l2", 0.6, steps=5, step_size=0.12).model_copy(update={"start": start})
        found.append(sum(int(still_right(network.model, *examples, one, seed).sum()) for seed in range(3)))
    assert found[1] < found[0] - 3


@pytest.mark.slow
def test_no_attack_makes_a_wrong_image_right(right: Callable[..., Tensor]) -> None:
    for name in ATTACKS:
        assert not (right(name) & ~right("clean")).any(), name


@pytest.mark.slow
def test_autoattack_breaks_image_by_image_all_that_apgd_does(right: Callable[..., Tensor]) -> None:
    assert 0 < right("autoattack").sum() <= right("apgd").sum()
    assert not (right("autoattack") & ~right("apgd")).any()


@pytest.mark.slow
def test_more_restarts_break_image_by_image_all_that_fewer_do(right: Callable[..., Tensor]) -> None:
    for name in ("pgd", "cw"):
        assert not (right(name, restarts=4) & ~right(name)).any()


@pytest.mark.slow
def test_the_ladder_rises(right: Callable[..., Tensor]) -> None:
    accuracies = {name: right(name).double().mean().item() for name in ATTACKS}
    assert accuracies["clean"] - accuracies["fgsm"] > 0.1
    noise = 0.02  # of the starts: two images
    assert accuracies["pgd"] <= accuracies["fgsm"] + noise
    assert accuracies["apgd"] <= min(accuracies["pgd"], accuracies["cw"]) + noise
    assert right("pgd", steps=50, restarts=3).sum() <= right("pgd", steps=10).sum() + noise * IMAGES


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "cw", "apgd"])
def test_adversarial_images_are_in_the_ball_and_in_the_box(
    name: str, norm: Norm, network: Trained, examples: tuple[Tensor, Tensor]
) -> None:
    images, labels = (part[:20] for part in examples)
    one = attack(name, norm, 0.3)
    if name == "apgd":
        found = autoattack.adversarial(network.model, images, labels, one, 0)[0]
    else:
        found = survivors.adversarial(network.model, images, labels, one, (0, 0))
    lengths = torch.linalg.vector_norm((found - images).flatten(1), ord=torch.inf if norm == "linf" else 2, dim=1)
    assert 0.2 < lengths.max() <= 0.3 * (1 + 1e-5)
    assert found.min() >= 0
    assert found.max() <= 1


class Exact(nn.Module):
    """A network whose sums are in fp64, so that what is rounded otherwise in another batch is next to nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).double()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.double())
        return logits.float()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ATTACKS]
)
@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.15), ("l2", 0.8)])
def test_an_image_s_result_does_not_depend_on_its_batch(
    name: Any, norm: Norm, radius: float, network: Trained, examples: tuple[Tensor, Tensor]
) -> None:
    count = 20 if name in SLOW else IMAGES
    images, labels = (part[:count] for part in examples)
    model, one = Exact(network.model), attack(name, norm, radius, steps=10)
    whole = still_right(model, images, labels, one, 0)
    assert 0 < whole.sum() < count
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    assert torch.equal(still_right(model, images[order], labels[order], one, 0), whole[order])
    parts = zip(images.split(7), labels.split(7), strict=True)
    assert torch.equal(torch.cat([still_right(model, *part, one, 0) for part in parts]), whole)
    those = range(count) if count > 20 else [int(whole.nonzero()[0]), int((~whole).nonzero()[-1])]
    alone = [still_right(model, images[i : i + 1], labels[i : i + 1], one, 0) for i in those]
    assert torch.equal(torch.cat(alone), whole[list(those)])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_package_s_square_draws_for_an_image_what_it_draws_in_any_batch(
    norm: Norm, network: Trained, examples: tuple[Tensor, Tensor]
) -> None:
    images, labels = (part[:12] for part in examples)

    def found(images: Tensor, labels: Tensor) -> Tensor:
        package = autoattack._package(Exact(network.model), images, attack("autoattack", norm, 0.1), 0)
        package.square.n_queries = 60
        with torch.random.fork_rng():
            queried: Tensor = package.square.perturb(images, labels)
        return queried

    whole = found(images, labels)
    assert (whole != images).any()
    assert torch.equal(torch.cat([found(images[i : i + 1], labels[i : i + 1]) for i in range(12)]), whole)
    assert torch.equal(found(images.flip(0), labels.flip(0)), whole.flip(0))


@each_attack
def test_one_image_can_be_attacked_alone_and_none_at_all(
    name: Any, network: Trained, examples: tuple[Tensor, Tensor]
) -> None:
    images, labels = examples
    wrong = (network.model(images[:1]).argmax(1) + 1) % 10
    assert not still_right(network.model, images[:1], wrong, attack(name), 0).any()
    assert still_right(network.model, images[:1], labels[:1], attack(name, radius=0.001), 0).shape == (1,)


@each_attack
def test_attacking_leaves_everything_as_it_was(
    name: Any, network: Trained, examples: tuple[Tensor, Tensor], capfd: pytest.CaptureFixture[str]
) -> None:
    images, labels = (part[:4] for part in examples)
    model = network.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states, trace = torch.random.get_rng_state(), sys.gettrace()
    try:
        still_right(model, images, labels, attack(name), 0)
        assert model.training
    finally:
        model.eval()
    assert torch.equal(torch.random.get_rng_state(), states)
    assert sys.gettrace() is trace
    assert not logging.getLogger("auto-attack").disabled
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert capfd.readouterr() == ("", "")


def test_the_same_seed_gives_the_same_and_chunks_do_not_depend_on_their_order(network: Trained) -> None:
    one = attack("pgd", steps=5, restarts=2)
    halves = [(0, 50), (50, 50)]
    there = [count(network, one, "test", *half) for half in halves]
    back = [count(network, one, "test", *half) for half in reversed(halves)]
    assert there == back[::-1]
    assert [counts.images for counts in there] == [50, 50]
    whole = count(network, attack("fgsm"), "test", 0, 100)
    assert whole.correct == sum(count(network, attack("fgsm"), "test", *half).correct for half in halves)
    assert whole.clean_correct == sum(counts.clean_correct for counts in there)


def test_every_image_is_evaluated_once_and_the_first_ones_hold_each_class_in_proportion() -> None:
    labels = [0] * 500 + [1] * 300 + [2] * 200
    found = order(labels)
    assert sorted(found) == list(range(1000))
    for number in (10, 100, 137, 500):
        counts = Counter(labels[place] for place in found[:number])
        assert all(abs(counts[label] - number * share) <= 1 for label, share in ((0, 0.5), (1, 0.3), (2, 0.2)))
    assert found[:100] != sorted(found[:100])


def test_the_margin_is_that_of_the_best_wrong_class() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    loss = survivors.margin(lambda images: logits, torch.zeros(2), torch.tensor([0, 1]))
    assert loss(torch.zeros(2)) == (2 - 3) + (3 - 1)


def test_an_attack_takes_what_is_not_given_from_the_trial() -> None:
    config = TrialConfig.model_validate({"attack": {"norm": "l2", "radius": 0.5, "step_size": 0.1}})
    found = {name: ladder_attack(name, Strength(), config).parameters() for name in ATTACKS}
    ball = {"norm": "l2", "radius": 0.5}
    assert found["clean"] == {}
    assert found["fgsm"] == found["apgd"] == found["autoattack"] == ball
    pgd = {"steps": 20, "step_size": 0.1, "restarts": 1, "start": "uniform_radius"}
    assert found["pgd"] == found["cw"] == ball | pgd
    assert ladder_attack("pgd", Strength(radius=1.0), config).step_size == pytest.approx(0.2)
    no_ball = TrialConfig.model_validate({"attack": {"radius": 0}})
    assert ladder_attack("pgd", Strength(radius=0.8), no_ball).step_size == pytest.approx(0.1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", [None, "uniform", "normal"])
def test_an_attack_starts_where_the_trial_s_evaluation_does(norm: str, start: str | None) -> None:
    values = {"attack": {"norm": norm, "start": "clean"}, "evaluation": {"start": start}}
    config = TrialConfig.model_validate(values)
    expected = start or ("uniform_radius" if norm == "l2" else "uniform")
    assert config.resolved().evaluation.start == expected
    assert ladder_attack("cw", Strength(), config).start == expected


def test_restarts_from_the_clean_image_are_refused() -> None:
    config = TrialConfig.model_validate({"evaluation": {"start": "clean"}})
    assert ladder_attack("fgsm", Strength(restarts=3), config).restarts is None
    with pytest.raises(
        UserError, match=r"^--restarts 3: the trial's evaluation\.start is clean, and .* the same; leave"
    ):
        ladder_attack("pgd", Strength(restarts=3), config)


@pytest.mark.parametrize("name", ["apgd", "autoattack"])
def test_too_few_classes_and_a_missing_package_are_refused(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    survivors.check(LadderAttack(name=name), 4, 8, 8)
    with pytest.raises(UserError) as error:
        survivors.check(LadderAttack(name=name), 3, 8, 8)
    assert str(error.value) == (
        f"--attack {name}: its DLR loss needs at least 4 classes, and the data have 3; choose of clean, fgsm, pgd, cw"
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        survivors.check(LadderAttack(name=name), 10, 8, 8)
    assert str(error.value) == (
        f"--attack {name}: needs pyautoattack, which is not installed; pip install pyautoattack, "
        "or choose of clean, fgsm, pgd, cw"
    )
    survivors.check(LadderAttack(name="cw"), 2, 8, 8)


def test_weights_of_another_network_are_refused(network: Trained, tmp_path: Path) -> None:
    config = with_fingerprint(CONFIG)
    path = tmp_path / "trial.pt"
    torch.save({"weights": {"last": {"epoch": 1, "raw": {"linear.weight": torch.zeros(1)}}}}, path)
    with pytest.raises(UserError, match=r"trial.pt: must hold the weights of this code's small_cnn, and holds those"):
        trained(config, path, "last")


@pytest.mark.parametrize(("size", "fits"), [((4, 4), False), ((8, 8), True), ((12, 12), False), ((8, 16), True)])
def test_square_in_the_l2_norm_is_refused_on_images_that_the_package_cannot_tile(
    size: tuple[int, int], fits: bool
) -> None:
    square = pytest.importorskip("pyautoattack.square")
    wanted = LadderAttack(name="autoattack", norm="l2")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size[0] * size[1], 5))
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    package = square.SquareAttack(network, norm="L2", eps=1e-3, n_queries=3, seed=0, device="cpu")
    with torch.random.fork_rng():
        if fits:
            survivors.check(wanted, 5, *size)
            package.perturb(images, network(images).argmax(1))
            return
        with pytest.raises((RuntimeError, ZeroDivisionError)):
            package.perturb(images, network(images).argmax(1))
    message = f"cannot tile images of {size[0]} x {size[1]} pixels in the l2 norm; choose apgd"
    with pytest.raises(UserError, match=message):
        survivors.check(wanted, 5, *size)
    survivors.check(LadderAttack(name="autoattack", norm="linf"), 5, *size)


@pytest.mark.parametrize("name", ["clean", "fgsm", "pgd", "cw", "apgd"])
def test_the_margin_where_an_attack_ended_says_who_is_right_and_by_how_much(
    name: str, network: Trained, examples: tuple[Tensor, Tensor]
) -> None:
    images, labels = (part[:40] for part in examples)
    one = attack(name, steps=5)
    end = survivors.ends(network.model, images, labels, one, 0)
    assert torch.equal(end.right, still_right(network.model, images, labels, one, 0))
    assert torch.equal(end.margins > 0, end.right)
    with torch.no_grad():
        logits = network.model(images)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    clean = logits.gather(1, labels[:, None]).squeeze(1) - others
    attacked = clean > 0  # what is wrong already is not
    torch.testing.assert_close(end.margins[~attacked], clean[~attacked])
    if name != "clean":
        assert (end.margins <= clean + 1e-5).all()
        assert (end.margins[attacked & ~end.right] < 0).all()


def test_of_several_restarts_the_margin_is_the_smallest(network: Trained, examples: tuple[Tensor, Tensor]) -> None:
    images, labels = (part[:40] for part in examples)
    once, thrice = (
        survivors.ends(network.model, images, labels, attack("pgd", steps=1, restarts=restarts), 0).margins
        for restarts in (1, 3)
    )
    assert (thrice <= once).all()
    assert (thrice < once).any()


@pytest.mark.parametrize("name", ["clean", "fgsm"])
def test_each_image_is_said_by_itself(name: str, network: Trained) -> None:
    counts = count(network, attack(name), "test", 0, 30)
    assert (counts.images, len(counts.clean_right), len(counts.margins)) == (30, 30, 30)
    assert counts.right == tuple(margin > 0 for margin in counts.margins)
    assert counts.correct == sum(counts.right)
    assert all(clean for clean, right in zip(counts.clean_right, counts.right, strict=True) if right)
