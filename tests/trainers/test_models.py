from __future__ import annotations

from contextlib import nullcontext
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers import config
from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data import batches, sets
from trainers.errors import UserError, validated
from trainers.identity import identity
from trainers.models import registry, sizes
from trainers.models.activations import ACTIVATIONS
from trainers.models.registry import NETWORKS, build
from trainers.models.sizes import SIZES
from trainers.randomness import generator

NAMES = list(NETWORKS)
WITH_ACTIVATIONS = [name for name in NAMES if ModelConfig(name=name).has_activations]
#: Of each family the lightest to draw.
LIGHT = ("small_cnn", "preact_resnet18", "resnet18", "senet18", "vgg16")
MEAN, STD = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)


def model(name: str, **changes: object) -> nn.Module:
    values = {"num_classes": 10, "channels": 3, "image_size": 32, "mean": MEAN, "std": STD, "seed": 0}
    normalize = changes.pop("normalize", False)
    activation = changes.pop("activation", None)
    config = ModelConfig.model_validate({"name": name, "normalize": normalize, "activation": activation})
    return build(config, **{**values, **changes})  # type: ignore[arg-type]


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator("cpu", "noise"))


def on_meta(name: str, channels: int, num_classes: int, size: tuple[int, int]) -> nn.Module:
    """The network without weights, so that the large ones cost a test nothing."""
    with torch.device("meta"):
        return NETWORKS[name](channels, num_classes, *size)


def blank(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


def test_the_config_and_the_registry_know_the_same_networks() -> None:
    assert tuple(NETWORKS) == tuple(SIZES) == config.NETWORKS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("channels", "num_classes", "size"),
    [(1, 10, (8, 8)), (3, 100, (32, 32)), (4, 2, (9, 15)), (3, 200, (64, 64)), (1, 10, (28, 28)), (3, 3, (48, 31))],
)
def test_every_network_gives_one_logit_a_class_for_any_channels_and_size(
    name: str, channels: int, num_classes: int, size: tuple[int, int]
) -> None:
    network = on_meta(name, channels, num_classes, size)
    assert network(blank(2, channels, *size)).shape == (2, num_classes)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_works_at_its_minimum_size_and_refuses_one_pixel_less(name: str) -> None:
    size = SIZES[name].minimum
    assert on_meta(name, 3, 10, (size, size))(blank(2, 3, size, size)).shape == (2, 10)
    with pytest.raises(UserError, match=f"^model.name: {name} needs images of at least {size} x {size} pixels"):
        model(name, image_size=(size + 1, size - 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_on_small_images_gives_every_parameter_a_finite_gradient(name: str) -> None:
    network = model(name, image_size=8).train()
    F.cross_entropy(network(noise(4, 3, 8, 8)), torch.tensor([0, 1, 2, 3])).backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_too_small_images_are_told_which_network_takes_them() -> None:
    with pytest.raises(UserError) as error:
        model("preact_resnet18", image_size=(7, 9))
    assert str(error.value) == (
        "model.name: preact_resnet18 needs images of at least 8 x 8 pixels, got 7 x 9; use small_cnn"
    )
    with pytest.raises(UserError) as error:
        model("small_cnn", image_size=3)
    assert str(error.value) == "model.name: small_cnn needs images of at least 4 x 4 pixels, got 3 x 3"


@pytest.mark.parametrize("name", NAMES)
def test_normalisation_inside_the_model_equals_normalised_images(name: str) -> None:
    images = noise(4, 3, 8, 8)
    normalised = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    inside, outside = (model(name, image_size=8, normalize=normalize).eval() for normalize in (True, False))
    torch.testing.assert_close(inside(images), outside(normalised))


def test_normalisation_is_exact_to_rounding_and_kept_weights_hold_the_moments_alone() -> None:
    layer, images = registry.Normalize(MEAN, STD), noise(4, 3, 8, 8)
    mean, std = (torch.tensor(moment, dtype=torch.float64).view(3, 1, 1) for moment in (MEAN, STD))
    torch.testing.assert_close(layer(images).double(), (images.double() - mean) / std, rtol=0, atol=5e-7)
    assert set(layer.state_dict()) == {"mean", "std"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith("wide") else name for name in NAMES]
)
def test_a_seed_decides_the_weights_and_no_global_generator_moves(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = model(name)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    weights = [nn.utils.parameters_to_vector(m.parameters()) for m in (one, model(name), model(name, seed=1))]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", NAMES)
def test_in_eval_mode_an_image_s_logits_do_not_depend_on_its_batch(name: str) -> None:
    network, images = model(name, image_size=8).eval(), noise(8, 3, 8, 8)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(4, 4), (4, 5), (8, 8), (8, 9), (9, 8), (16, 16), (16, 17), (32, 32)])
def test_a_last_batch_of_one_image_is_refused_exactly_where_batch_norm_would_raise(
    name: str, size: tuple[int, int]
) -> None:
    network = on_meta(name, 3, 10, size).train()
    with pytest.raises(ValueError, match="more than 1 value per channel") if _refused(name, size) else nullcontext():
        network(blank(1, 3, *size))
    for train_images, batch_size in ((64, 32), (66, 32)):
        sizes.check_batches(name, *size, train_images, batch_size)


def _refused(name: str, size: tuple[int, int]) -> bool:
    """Whether a last batch of one image is, whatever the batch size."""
    answers = set()
    for train_images, batch_size in ((65, 32), (5, 1)):
        try:
            sizes.check_batches(name, *size, train_images, batch_size)
            answers.add(False)
        except UserError:
            answers.add(True)
    (answer,) = answers
    return answer


def test_a_last_batch_of_one_image_is_named_with_its_numbers() -> None:
    with pytest.raises(UserError) as caught:
        sizes.check_batches("preact_resnet18", 8, 8, 65, 32)
    assert str(caught.value) == (
        "batch_size: the last of an epoch's batches has 1 image (65 training images, batch_size 32), and batch norm "
        "in preact_resnet18 needs 2 where images have 8 x 8 pixels; take another batch_size, "
        "or more or fewer training images"
    )


def test_the_config_and_the_networks_know_the_same_activations() -> None:
    assert tuple(ACTIVATIONS) == get_args(get_args(ModelConfig.model_fields["activation"].annotation)[0])


@pytest.mark.parametrize("name", LIGHT)
def test_relu_is_the_network_s_own_to_the_bit(name: str) -> None:
    own, relu = model(name, image_size=8), model(name, image_size=8, activation="relu")
    assert all(torch.equal(one, other) for one, other in zip(own.parameters(), relu.parameters(), strict=True))
    assert torch.equal(own(noise(4, 3, 8, 8)), relu(noise(4, 3, 8, 8)))


@pytest.mark.parametrize("name", WITH_ACTIVATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_stands_in_place_of_every_relu_and_changes_nothing_else(name: str, activation: str) -> None:
    with torch.device("meta"):
        own, chosen = (NETWORKS[name](3, 10, 8, 8, **k) for k in ({}, {"activation": ACTIVATIONS[activation]}))
    kinds = {path: ACTIVATIONS[activation] if type(m) is nn.ReLU else type(m) for path, m in own.named_modules()}
    assert {path: type(m) for path, m in chosen.named_modules()} == kinds
    assert nn.ReLU in map(type, own.modules())
    assert list(own.state_dict()) == list(chosen.state_dict())


@pytest.mark.parametrize("name", LIGHT)
def test_a_network_with_silu_is_the_one_with_relu_in_which_the_function_is_exchanged(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, silu = noise(4, 3, 8, 8).double(), model(name, image_size=8, activation="silu").double()
    own = model(name, image_size=8).double()
    assert not torch.equal(silu(images), own(images))
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, features: features * torch.sigmoid(features))
    torch.testing.assert_close(silu(images), own(images))


@pytest.mark.parametrize("name", ["vit_small", "torchvision:resnet18"])
def test_a_network_without_a_choice_of_activation_refuses_one(name: str) -> None:
    with pytest.raises(UserError) as caught:
        validated(TrialConfig, {"model": {"name": name, "activation": "silu"}}, "trial")
    assert str(caught.value) == (
        f"trial.model.activation: {name} has its own and no choice of it, got 'silu'; leave it out, or take one of "
        "small_cnn, preact_resnet18, resnet18, senet18, vgg16, vgg19, wide_resnet28_10, wide_resnet34_10"
    )


def test_relu_is_the_same_trial_as_none_and_silu_another() -> None:
    own, relu, silu = (
        TrialConfig(model=ModelConfig(name="resnet18", activation=activation)) for activation in (None, "relu", "silu")
    )
    assert own.resolved() == relu.resolved()
    assert identity(own) == identity(relu)
    assert "activation" not in identity(own)["model"]
    assert identity(silu)["model"]["activation"] == "silu"
    assert "activation" not in identity(TrialConfig(model=ModelConfig(name="vit_small")))["model"]


def test_small_cnn_learns_the_digits_in_five_epochs() -> None:
    digits = sets.load(DataConfig(name="digits", validation_fraction=0.1), "cpu")
    network = model("small_cnn", channels=1, image_size=digits.image_size)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for epoch in range(5):
        for images, labels in batches.batches(digits.train, 32, augment=False, seed=0, epoch=epoch):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
    network.eval()
    ((images, labels),) = batches.sequential(digits.test, 360)
    assert (network(images).argmax(1) == labels).double().mean() > 0.9
