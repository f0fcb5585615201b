"""A trial on several workers: its numbers are those of one worker that has the whole batch."""

from __future__ import annotations

import copy
import doctest
from collections.abc import Iterator
from typing import Any

import in_crew
import pytest
import torch
from crew import Crew, crew
from methods import COMBINATIONS, config
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from trainers import workers
from trainers.config import TrialConfig
from trainers.engine import Engine, engine_of
from trainers.stepper import Stepper
from trainers.training import Training
from trainers.workers import ALONE, Part, Workers

#: What one worker's numbers and several's may differ by; they do by rounding, 1e-8 at the most.
CLOSE: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-6}

#: Each objective, attack, optimizer and what else hangs on the whole batch, once.
SOME: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "natural, cutmix": (("linf", "natural", False, "none", "sgd"), {"data": {"cutmix": 0.8, "augment": True}}),
    "pgd_at, policy": (("linf", "pgd_at", False, "awp", "deat"), {"data": {"policy": "trivialaugment"}}),
    "fat, s2o": (("fat", "pgd_at", True, "awp", "deat"), {}),
    "trades": (("l2", "trades", True, "awp", "adamw"), {}),
    "free": (("free", "mart", False, "none", "sgd"), {}),
    "avmixup": (("n_fgsm", "avmixup", True, "awp", "deat"), {"clean_passes": 2, "batch_norm_data": "both"}),
}

#: For the one each process imports torchvision's transforms; the other goes over three and two workers below.
SLOW = dict.fromkeys(("pgd_at, policy", "free"), pytest.mark.slow)


@pytest.fixture(scope="module")
def call() -> Iterator[Crew]:
    with crew(3) as calling:
        yield calling


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the crew."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trial(method: tuple[Any, ...], **parts: Any) -> TrialConfig:
    """Twenty updates, on batches of 20 and of 12 images: three workers have parts of 6 and 7 and of 4."""
    values = config(*method).model_dump()
    epochs = 10 // (values["attack"]["replays"] or 1)
    data = values["data"] | parts.pop("data", {})
    return TrialConfig.model_validate(values | parts | {"data": data, "epochs": epochs}).resolved()


def some(name: str, **parts: Any) -> TrialConfig:
    method, own = SOME[name]
    return trial(method, **own, **parts)


def equal(ones: Any, others: Any) -> None:
    torch.testing.assert_close(ones, others, **CLOSE)


def same_in_all(results: list[Any]) -> None:
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=0)


@pytest.mark.parametrize("name", [pytest.param(one, marks=SLOW.get(one, ())) for one in SOME])
def test_two_workers_train_to_the_weights_of_one(name: str, call: Crew) -> None:
    results = call(2, in_crew.trained, some(name))
    same_in_all(results)
    equal(results[0], in_crew.trained(ALONE, some(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["free", "fat, s2o", "natural, cutmix"])
def test_three_workers_with_parts_of_unequal_size_do_too(name: str, call: Crew) -> None:
    results = call(3, in_crew.trained, some(name))
    same_in_all(results)
    equal(results[0], in_crew.trained(ALONE, some(name)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "size"), [(each, 2) for each in COMBINATIONS] + [(each, 3) for each in COMBINATIONS[::9]], ids=str
)
def test_workers_train_to_the_weights_of_one_by_every_method(method: tuple[Any, ...], size: int, call: Crew) -> None:
    results = call(size, in_crew.trained, trial(method))
    same_in_all(results)
    equal(results[0], in_crew.trained(ALONE, trial(method)))


class Ghosts(TorchFunctionMode):
    """A block in which batch norm in train mode normalises each of several parts of the batch by itself."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self._parts = parts

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function is not F.batch_norm or not given["training"]:
            return function(*args, **given)
        images, *running = args
        parts = [Part(Workers(rank, self._parts), len(images)) for rank in range(self._parts)]
        own = [[one if one is None else one.clone() for one in running] for _ in parts]
        made = [F.batch_norm(images[part.images], *each, **given) for part, each in zip(parts, own, strict=True)]
        for place, *each in zip(running, *own, strict=True):
            if place is not None:
                place.copy_(torch.stack([part.share * one for part, one in zip(parts, each, strict=True)]).sum(0))
        return torch.cat(made)


@pytest.mark.parametrize(("name", "size"), [("trades", 2), pytest.param("fat, s2o", 3, marks=pytest.mark.slow)])
def test_local_batch_norm_is_ghost_batch_norm_of_as_many_parts(name: str, size: int, call: Crew) -> None:
    local = some(name, batch_norm="local", workers=size)
    results = call(size, in_crew.trained, local)
    same_in_all(results)
    with Ghosts(size):
        equal(results[0], in_crew.trained(ALONE, local))
    with pytest.raises(AssertionError):
        equal(results[0], in_crew.trained(ALONE, some(name)))


def test_what_two_workers_leave_three_or_one_go_on_from(call: Crew) -> None:
    config = some("free")
    whole = in_crew.trained(ALONE, config)
    begun = call(2, in_crew.trained, config, None, (0, 2))[0]
    assert len(begun["attack"]["delta"]) == config.batch_size
    further = call(3, in_crew.trained, config, begun, (2, 4))[0]
    last = in_crew.trained(ALONE, config, further, (4, 5))
    passes = torch.cat([each["passes"] for each in (begun, further, last)])
    equal(last | {"passes": passes}, whole)


@pytest.mark.parametrize(("name", "ascents"), [("natural, cutmix", 0), ("fat, s2o", 1)])
def test_one_sum_carries_the_gradients_of_a_step_and_one_more_those_of_awp(name: str, ascents: int, call: Crew) -> None:
    parameters = list(Training.begin(some(name)).model.parameters())
    climbing = sum(each.numel() for each in parameters if each.dim() > 1)
    sizes = call(2, in_crew.sums, some(name))[0]
    assert sizes.count(sum(each.numel() + 1 for each in parameters)) == 1  # and whether there is one
    assert sizes.count(climbing) == ascents
    largest = 2 * 3 * 32  # of batch norm's sums: of each worker count, mean and variance of a channel
    assert sum(size > largest for size in sizes) == 1 + ascents


LAYERS = {
    2: [nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False, momentum=None)],
    3: [nn.BatchNorm1d(3, track_running_stats=False)],
    4: [nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, eps=0.1).eval(), in_crew.Activated(3)],
    5: [nn.BatchNorm3d(3)],
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dimensions", LAYERS)
def test_batch_norm_in_sync_is_that_of_the_whole_batch_with_first_and_second_gradients(
    dimensions: int, size: int, call: Crew
) -> None:
    images = 3 + torch.randn(8, 3, *[2] * (dimensions - 2), generator=torch.Generator().manual_seed(0)).double()
    layers = [layer.double() for layer in LAYERS[dimensions]]
    for layer in layers:
        for number, parameter in enumerate(layer.parameters()):
            nn.init.constant_(parameter, 0.5 + number)
    results = call(size, in_crew.normalised, copy.deepcopy(layers), images)
    same_in_all(results)
    expected = in_crew.normalised(ALONE, copy.deepcopy(layers), images)
    torch.testing.assert_close(results[0], expected, rtol=1e-9, atol=1e-9)


def test_a_gradient_that_one_worker_has_alone_is_that_of_all_and_one_that_none_has_stays_none(call: Crew) -> None:
    results = call(3, in_crew.gradients)
    same_in_all(results)
    assert [one if one is None else one.tolist() for one in results[0]] == [[6, 6], [2, 2], None]


def test_in_bf16_batch_norm_in_sync_rounds_as_torchs_does(call: Crew) -> None:
    images = 3 + torch.randn(16, 4, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    for own, other in zip(call(2, in_crew.rounded, images)[0], in_crew.rounded(ALONE, images), strict=True):
        torch.testing.assert_close(own, other, rtol=2**-8, atol=1e-3)  # one unit in the last place, where they differ
        torch.testing.assert_close(own.mean((0, 2, 3)), other.mean((0, 2, 3)), rtol=0, atol=1e-4)


def test_the_mean_of_a_large_number_costs_the_variance_no_digits(call: Crew) -> None:
    images = 1000 + torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    layer = nn.BatchNorm2d(3)
    results = call(2, in_crew.normalised, [layer], images)
    variance = in_crew.normalised(ALONE, [copy.deepcopy(layer).double()], images.double())[0]["buffers"]["running_var"]
    torch.testing.assert_close(results[0][0]["buffers"]["running_var"].double(), variance, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("layer", "sync"), [(nn.BatchNorm2d(3), False), (nn.InstanceNorm2d(3, track_running_stats=True), True)], ids=str
)
def test_statistics_that_each_worker_has_of_its_part_become_their_mean_by_images(
    layer: nn.Module, sync: bool, call: Crew
) -> None:
    images = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    parts = [Part(Workers(rank, 2), 5) for rank in range(2)]
    alone = [in_crew.averaged(ALONE, copy.deepcopy(layer).double(), images[part.images], sync) for part in parts]
    results = call(2, in_crew.averaged, layer.double(), images, sync)
    same_in_all(results)
    for name in ("running_mean", "running_var"):
        expected = sum(part.share * one[name] for part, one in zip(parts, alone, strict=True))
        torch.testing.assert_close(results[0][name], expected, rtol=1e-12, atol=0)


def test_workers_add_gather_in_order_of_rank_and_hear_the_first(call: Crew) -> None:
    total, pair, rows, zeros, said = call(3, in_crew.exchanged)[2]
    assert (total.item(), pair.tolist(), said) == (3.0, [3, 3], {"rank": 0})
    assert rows.tolist() == [[0, 0], [1, 1], [1, 1], [2, 2], [2, 2], [2, 2]]
    assert zeros.tolist() == [[True, True], *[[False, False]] * 5]


def test_a_loss_that_is_not_finite_in_one_worker_ends_the_pass_of_all(call: Crew) -> None:
    assert call(2, in_crew.lost, 1) == [True, True]
    assert call(2, in_crew.lost, -1) == [False, False]


def test_what_a_network_draws_itself_it_draws_by_worker_the_first_as_one_alone(call: Crew) -> None:
    first, second = call(2, in_crew.drawn, some("fat, s2o"))
    assert first == in_crew.drawn(ALONE, some("fat, s2o"))
    assert not set(first) & set(second)


def test_what_a_users_optimizer_draws_from_torchs_own_generator_is_the_same_in_all_workers(call: Crew) -> None:
    own = some("natural, cutmix", optimizer={"name": "torch.optim:SGD", "code": "torch", "lr": 0.1})
    results = [*call(2, in_crew.noised, own), *call(2, in_crew.noised, own)]
    same_in_all(results)
    _, numbers = results[0]
    assert len(set(numbers)) == len(numbers) > 2


def test_a_users_objective_draws_by_worker_and_the_attack_does_not() -> None:
    training = Training.begin(some("fat, s2o"))
    seeds = []
    for rank, own in ((0, True), (1, True), (1, False)):
        slots = copy.copy(training._method(0))
        object.__setattr__(slots, "own_objective", own)
        stepper = Stepper(training.model, Engine(torch.device("cpu"), workers=Workers(rank, 2)), seed=0)
        with stepper.epoch(slots, 0, 20):
            seeds.append([draws.initial_seed() for draws in stepper._draws])
    (attack, mixing), (same, other), (*_, shared) = seeds
    assert attack == same
    assert mixing == shared != other


@pytest.mark.parametrize(("engine", "done"), [("compile", "compiled"), ("graph", "captured")])
def test_steps_of_several_workers_are_eager_and_it_is_said_why(
    engine: Any, done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.engine._possible", lambda mode, device: (mode, ""))
    asked = trial(SOME["free"][0], engine=engine, device="cpu")
    made, reason = engine_of(asked, 0, Workers(1, 2))
    assert (made.mode, made.workers, reason) == ("eager", (1, 2), f"a trial on several workers is not {done} yet")
    assert engine_of(asked) == (Engine(torch.device("cpu"), mode=engine), "")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_parts_are_the_batch_and_their_weighted_means_its_mean(size: int) -> None:
    numbers = torch.arange(11.0)
    parts = [Part(Workers(rank, size), 11) for rank in range(size)]
    assert torch.equal(torch.cat([numbers[part.images] for part in parts]), numbers)
    means: list[Tensor] = [part.of_mean(numbers[part.images].mean()) for part in parts]
    torch.testing.assert_close(torch.stack(means).sum(), numbers.mean())


def test_the_examples_hold() -> None:
    assert doctest.testmod(workers).failed == 0
