from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from trainers.config import ModelConfig
from trainers.errors import UserError
from trainers.models import registry, sizes, torchvision_models
from trainers.models.meta import EmptyOnMeta
from trainers.randomness import generator

#: One of each family.
FAMILIES = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_16",
)
#: Those with few enough weights to draw and train here.
LIGHT = (
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
)


def model(name: str, *, size: int | tuple[int, int] = 32, seed: int = 0) -> nn.Module:
    config = ModelConfig(name=f"torchvision:{name}", normalize=False)
    return registry.build(config, num_classes=10, channels=3, image_size=size, mean=(), std=(), seed=seed)


def on_meta(name: str, channels: int, num_classes: int, height: int, width: int) -> nn.Module:
    with EmptyOnMeta():
        return torchvision_models.build(name, channels, num_classes, height, width).to("meta")


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator("cpu", "noise"))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("channels", "num_classes", "size"),
    [
        (4, 10, (40, 33)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, 7, (32, 32)), (3, 100, (64, 80)), (1, 2, (224, 224)))
        ),
    ],
)
def test_every_family_gives_one_logit_a_class_for_any_channels_and_size(
    name: str, channels: int, num_classes: int, size: tuple[int, int]
) -> None:
    network = on_meta(name, channels, num_classes, *size)
    for mode in (True, False):
        assert network.train(mode)(torch.empty(2, channels, *size, device="meta")).shape == (2, num_classes)


@pytest.mark.parametrize("name", LIGHT)
def test_a_step_on_small_images_gives_every_parameter_a_finite_gradient(name: str) -> None:
    network = model(name, size=16).train()
    F.cross_entropy(network(noise(2, 3, 16, 16)), torch.tensor([0, 1])).backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "inception_v3"])
def test_at_the_published_size_a_network_has_the_published_parameters(name: str) -> None:
    published = models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert parameters(on_meta(name, 3, 1000, 224, 224)) == published


def test_at_the_published_size_the_weights_are_those_that_torchvision_draws() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        drawn = torchvision_models.build("mobilenet_v3_small", 3, 10, 224, 224).state_dict()
        torch.default_generator.manual_seed(0)
        expected = models.mobilenet_v3_small(num_classes=10).state_dict()
    assert drawn.keys() == expected.keys()
    assert all(torch.equal(drawn[key], expected[key]) for key in expected)


def test_torchvision_s_resnet18_with_the_small_stem_is_this_project_s() -> None:
    network = on_meta("resnet18", 3, 10, 32, 32)
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(2, 3, 32, 32, device="meta"))
    assert parameters(network) == 11_173_962
    assert counter.get_total_flops() / 2e9 == pytest.approx(1.111, abs=0.0005)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "alexnet", "googlenet", "inception_v3", "squeezenet1_1"])
def test_a_small_stem_keeps_the_resolution_until_the_second_convolution(name: str) -> None:
    network = on_meta(name, 3, 10, 32, 32)
    second = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][1]
    seen: list[torch.Size] = []
    second.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape[2:]))
    network(torch.empty(2, 3, 32, 32, device="meta"))
    assert seen == [(32, 32)]


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 32), ("swin_t", 32), pytest.param("vit_b_32", 32, marks=pytest.mark.slow)]
)
def test_a_stem_of_another_shape_varies_as_the_published_one(name: str, size: int) -> None:
    white = noise(2, 3, 224, 224)
    stems = []
    for pixels in (size, 224):
        network = model(name, size=pixels)
        stems.append(next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d)))
    small, published = (stem(white).std().item() for stem in stems)
    assert small == pytest.approx(published, rel=0.1)


def test_patches_of_vit_are_four_times_smaller_on_small_images_which_are_padded_to_a_square() -> None:
    padded = on_meta("vit_b_16", 3, 10, 30, 17)
    assert isinstance(padded, nn.Sequential)
    pad, network = padded
    assert pad(torch.empty(1, 3, 30, 17)).shape == (1, 3, 32, 32)
    assert network.conv_proj.kernel_size == (4, 4)
    assert network.encoder.pos_embedding.shape == (1, 1 + 8 * 8, 768)


def test_a_seed_decides_the_weights_and_no_global_generator_moves() -> None:
    before = torch.get_rng_state()
    weights = [nn.utils.parameters_to_vector(model("mobilenet_v3_small", seed=s).parameters()) for s in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_in_eval_mode_an_image_s_logits_do_not_depend_on_its_batch() -> None:
    network, images = model("efficientnet_b0").eval(), noise(4, 3, 32, 32)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [8, 9])
def test_a_last_batch_of_one_image_is_refused_exactly_where_batch_norm_would_raise(size: int) -> None:
    network, image = model("resnet18", size=size).train(), noise(1, 3, size, size)
    sizes.check_batches("torchvision:resnet18", size, size, 64, 32)
    if size > 8:
        sizes.check_batches("torchvision:resnet18", size, size, 65, 32)
        network(image)
        return
    with pytest.raises(UserError, match="batch norm in torchvision:resnet18 needs 2 where"):
        sizes.check_batches("torchvision:resnet18", size, size, 65, 32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(image)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnt18", (32, 32), "torchvision has no classifier 'resnt18'; did you mean 'resnet18'?"),
        (
            "fasterrcnn_resnet50_fpn",
            (32, 32),
            "torchvision has no classifier 'fasterrcnn_resnet50_fpn'; known: alexnet,",
        ),
        (
            "vgg11",
            (28, 40),
            "torchvision:vgg11 needs images of at least 32 x 32 pixels, got 28 x 40; use preact_resnet18",
        ),
        (
            "inception_v3",
            (8, 8),
            "torchvision:inception_v3 needs images of at least 19 x 19 pixels, got 8 x 8; use preact_resnet18",
        ),
        (
            "maxvit_t",
            (32, 32),
            "torchvision:maxvit_t cuts its features into whole windows of 7 x 7, so it needs square images with a "
            "multiple of 224 pixels a side, got 32 x 32; use torchvision:swin_t",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_size(name: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(UserError) as caught:
        sizes.check_size(f"torchvision:{name}", *size)
    assert str(caught.value).startswith(f"model.name: {message}")


@pytest.mark.slow
def test_maxvit_takes_the_size_that_it_was_published_for() -> None:
    sizes.check_size("torchvision:maxvit_t", 224, 224)
    assert on_meta("maxvit_t", 1, 5, 224, 224)(torch.empty(2, 1, 224, 224, device="meta")).shape == (2, 5)
