from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainers.models import vit
from trainers.models.preact_resnet import PreActBlock
from trainers.models.registry import NETWORKS
from trainers.models.resnet import BasicBlock
from trainers.models.senet import SEPreActBlock
from trainers.models.vgg import VGG
from trainers.models.wide_resnet import WideResNet
from trainers.randomness import generator


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator("cpu", "noise"))


@pytest.mark.parametrize(
    ("name", "parameters", "gflop"),
    [
        ("preact_resnet18", 11_172_170, 1.111),
        ("resnet18", 11_173_962, 1.111),
        ("senet18", 11_260_354, 1.111),
        ("vgg16", 14_728_266, 0.626),
        ("vgg19", 20_040_522, 0.796),
        ("wide_resnet28_10", 36_479_194, 10.487),
        ("wide_resnet34_10", 46_160_474, 13.318),
        ("vit_small", 4_770_570, 0.631),
    ],
)
def test_a_network_has_its_published_parameters_and_takes_its_gflop_on_one_32_pixel_image(
    name: str, parameters: int, gflop: float
) -> None:
    with torch.device("meta"):
        network = NETWORKS[name](3, 10, 32, 32).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=0.0005)


def test_small_cnn_has_19258_parameters_on_digits() -> None:
    network = NETWORKS["small_cnn"](1, 10, 8, 8)
    assert sum(parameter.numel() for parameter in network.parameters()) == 19_258


def test_a_wide_resnet_s_flop_are_those_of_its_convolutions_by_hand() -> None:
    # WRN-34-10: positions of a stage x 9 x inputs x outputs multiply-adds a convolution, five blocks of two a stage
    stages = [(32**2, 16, 160), (16**2, 160, 320), (8**2, 320, 640)]
    wide = sum(positions * (9 * (before + 9 * width) + before) * width for positions, before, width in stages)
    stem, linear = 32**2 * 9 * 3 * 16, 640 * 10
    assert 2 * (wide + stem + linear) / 1e9 == pytest.approx(13.318, abs=0.0005)


def test_a_preact_block_whose_last_convolution_is_zero_is_the_identity() -> None:
    block = PreActBlock(4, 4, stride=1)
    nn.init.zeros_(block.conv2.weight)
    features = noise(2, 4, 6, 6)
    assert torch.equal(block(features), features)


def test_a_preact_block_that_changes_shape_projects_the_activated_features() -> None:
    block = PreActBlock(4, 6, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)
    features = noise(2, 4, 6, 6)
    assert block.shortcut is not None
    expected = F.conv2d(F.relu(block.bn1(features)), block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(features), expected)


def test_a_residual_block_whose_last_batch_norm_is_zero_passes_what_is_positive() -> None:
    block = BasicBlock(4, 4, stride=1)
    nn.init.zeros_(block.bn2.weight)
    features = noise(2, 4, 6, 6)
    assert torch.equal(block(features), F.relu(features))


def test_a_squeeze_and_excitation_gate_that_reads_nothing_halves_the_residual() -> None:
    block = SEPreActBlock(16, 16, stride=1).eval()
    for parameter in block.gate.parameters():
        nn.init.zeros_(parameter)
    features = noise(2, 16, 6, 6)
    gated, block.gate = block(features), nn.Identity()
    torch.testing.assert_close(gated - features, (block(features) - features) / 2)


def test_vgg_pools_five_times_and_leaves_single_positions_as_they_are() -> None:
    network = VGG(3, 10, depth=16).eval()
    shapes = [network.features(noise(1, 3, *size)).shape[2:] for size in ((64, 32), (33, 28), (8, 8))]
    assert shapes == [(2, 1), (2, 1), (1, 1)]


def test_a_wide_resnet_s_convolutions_are_drawn_by_their_outputs_and_its_last_bias_is_zero() -> None:
    network = WideResNet(3, 10, depth=10, width=2)
    block = network.blocks[1]
    assert isinstance(block, PreActBlock)
    assert block.conv2.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert not network.linear.bias.any()


@pytest.mark.parametrize(
    ("size", "patch"), [(8, 2), (15, 2), (16, 4), (32, 4), (63, 4), (64, 8), (127, 8), (128, 16), (224, 16)]
)
def test_a_patch_follows_the_shorter_side(size: int, patch: int) -> None:
    assert vit.patch_size(size, 224) == vit.patch_size(224, size) == patch


def test_images_of_no_whole_number_of_patches_are_those_images_padded_with_zeros() -> None:
    network = vit.ViTSmall(3, 10, 30, 17)
    images = noise(2, 3, 30, 17)
    padded = torch.zeros(2, 3, 32, 20)
    padded[:, :, :30, :17] = images
    assert torch.equal(network(images), network(padded))


def test_attention_is_torch_s() -> None:
    attention, tokens = vit.Attention(), noise(2, 5, vit.WIDTH)
    q, k, v = (part.unflatten(-1, (vit.HEADS, -1)).transpose(1, 2) for part in attention.qkv(tokens).chunk(3, -1))
    expected = attention.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(tokens), expected)


def test_without_positions_the_order_of_the_patches_is_nothing_to_a_vision_transformer() -> None:
    network = vit.ViTSmall(3, 10, 16, 16)
    images = noise(2, 3, 16, 16)
    moved = images.roll(vit.patch_size(16, 16), dims=2)
    assert not torch.allclose(network(images), network(moved), atol=1e-4)
    nn.init.zeros_(network.positions)
    torch.testing.assert_close(network(images), network(moved), rtol=1e-4, atol=1e-5)


def test_a_vision_transformer_s_second_derivatives_are_differences_of_its_first_ones() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = vit.ViTSmall(1, 3, 8, 8).double()
    images, labels = noise(2, 1, 8, 8).double(), torch.tensor([0, 2])
    weights = list(network.parameters())
    direction = [noise(*weight.shape).double() for weight in weights]

    def gradient(*, differentiable: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(F.cross_entropy(network(images), labels), weights, create_graph=differentiable)

    along = sum((g * d).sum() for g, d in zip(gradient(differentiable=True), direction, strict=True))
    assert isinstance(along, Tensor)
    products = torch.autograd.grad(along, weights)
    ends = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for weight, shift in zip(weights, direction, strict=True):
                weight.add_(shift, alpha=step)
        ends.append(gradient())
    for product, above, below in zip(products, *ends, strict=True):
        torch.testing.assert_close(product, (above - below) / 2e-5, rtol=1e-4, atol=1e-5)
