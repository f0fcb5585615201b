from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small import tiny
from torch import Tensor, nn

from trainers import counting
from trainers.config import ModelConfig, TrialConfig
from trainers.data.sources import Shape
from trainers.dynamics import measurement
from trainers.errors import UserError, validated
from trainers.identity import identity
from trainers.loop import train
from trainers.models import fine_tuning, registry, sizes, timm_models
from trainers.models.meta import EmptyOnMeta
from trainers.models.vit import Pad
from trainers.randomness import generator

#: Of each kind of stem and of size one, with few weights.
FAMILIES = (
    "convnext_atto",
    "deit_tiny_patch16_224",
    "efficientnet_b0",
    "mixer_s32_224",
    "mobilenetv3_small_050",
    "pvt_v2_b0",
    "regnety_002",
    "resnet18",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
    "xcit_nano_12_p16_224",
)
#: Made by timm for tests: some hundred thousand weights.
TINY = ("test_convnext", "test_efficientnet", "test_resnet", "test_vit")
TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is not installed: pip install timm")


def model(name: str, *, size: int | tuple[int, int] = 32, seed: int = 0) -> nn.Module:
    config = ModelConfig(name=f"timm:{name}", normalize=False)
    return registry.build(config, num_classes=10, channels=3, image_size=size, mean=(), std=(), seed=seed)


def on_meta(name: str, channels: int, num_classes: int, height: int, width: int) -> nn.Module:
    with EmptyOnMeta():
        return timm_models.build(name, channels, num_classes, height, width).to("meta")


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator("cpu", "noise"))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("channels", "num_classes", "size"), [(1, 7, (32, 32)), (4, 100, (64, 96))])
def test_every_family_gives_one_logit_a_class_for_any_channels_and_size(
    timm: Any, name: str, channels: int, num_classes: int, size: tuple[int, int]
) -> None:
    network = on_meta(name, channels, num_classes, *size)
    for mode in (True, False):
        assert network.train(mode)(torch.empty(2, channels, *size, device="meta")).shape == (2, num_classes)


@pytest.mark.parametrize("name", TINY)
def test_the_weights_are_those_that_timm_draws(timm: Any, name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        drawn = timm_models.build(name, 3, 10, 160, 160).state_dict()
        torch.default_generator.manual_seed(0)
        expected = timm.create_model(name, num_classes=10).state_dict()
    assert drawn.keys() == expected.keys()
    assert all(torch.equal(drawn[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", TINY)
def test_a_step_gives_every_parameter_a_finite_gradient(timm: Any, name: str) -> None:
    network = model(name).train()
    F.cross_entropy(network(noise(4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])).backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_images_of_no_whole_number_of_patches_are_padded_so_that_every_pixel_is_seen(timm: Any) -> None:
    network, images = model("vit_tiny_patch16_224", size=(30, 20)).eval(), noise(1, 3, 30, 20).requires_grad_()
    assert isinstance(network, nn.Sequential)
    assert isinstance(network[0], Pad)
    assert network[1].patch_embed.grid_size == (2, 2)
    network(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.ne(0).all()
    assert not isinstance(model("vit_tiny_patch16_224", size=32), nn.Sequential)


def test_a_seed_decides_the_weights_and_no_global_generator_moves(timm: Any) -> None:
    before = torch.get_rng_state()
    weights = [nn.utils.parameters_to_vector(model("test_vit", seed=s).parameters()) for s in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_in_eval_mode_an_image_s_logits_do_not_depend_on_its_batch(timm: Any) -> None:
    network, images = model("test_resnet").eval(), noise(4, 3, 32, 32)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnt18", 32, "timm has no network 'resnt18'; did you mean 'resnet18'?"),
        ("qqqqqqqq", 32, "timm has no network 'qqqqqqqq'; timm.list_models() has the names"),
        ("convnext_tiny", 8, "timm:convnext_tiny takes no images of 8 x 8 pixels: Calculated padded input size per"),
        ("pvt_v2_b0", 8, "timm:pvt_v2_b0 takes no images of 8 x 8 pixels: "),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_size(timm: Any, name: str, size: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        sizes.check_size(f"timm:{name}", size, size)
    assert str(caught.value).startswith(f"model.name: {message}")
    assert "\n" not in str(caught.value)


def test_the_way_out_is_a_network_that_takes_such_images(timm: Any) -> None:
    with pytest.raises(UserError, match=r"; use preact_resnet18$"):
        sizes.check_size("timm:convnext_tiny", 8, 8)


def test_a_last_batch_of_one_image_is_refused_where_batch_norm_would_raise(timm: Any) -> None:
    sizes.check_batches("timm:test_resnet", 64, 64, 65, 32)
    with pytest.raises(UserError, match=r"^batch_size: the last .* batch norm in timm:test_resnet needs 2 where"):
        sizes.check_batches("timm:test_resnet", 8, 8, 65, 32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model("test_resnet", size=8).train()(noise(1, 3, 8, 8))


def test_without_timm_it_is_said_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        sizes.check_size("timm:resnet18", 32, 32)
    assert str(caught.value) == (
        "model.name: timm:resnet18 needs the package timm, which is not installed; pip install timm, "
        "or take one of torchvision's: torchvision:NAME"
    )


def test_a_name_with_the_tag_of_pretrained_weights_is_no_network_s() -> None:
    with pytest.raises(UserError, match=r"^trial.model.name: must be .* or timm:NAME, got 'timm:resnet18.a1_in1k'$"):
        validated(TrialConfig, {"model": {"name": "timm:resnet18.a1_in1k"}}, "trial")
    assert identity(TrialConfig(model=ModelConfig(name="timm:resnet18")))["model"]["name"] == "timm:resnet18"


def test_its_cost_is_counted(timm: Any) -> None:
    trial = TrialConfig(model=ModelConfig(name="timm:test_resnet")).resolved()
    work = counting.work(trial, Shape(100, 10, 10, 10, 3, 32, 32))
    assert work.step > 20 * work.forward > 0


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_stopped_trial_goes_on_to_the_same_records(timm: Any, name: str, tmp_path: Path) -> None:
    config = tiny(model={"name": f"timm:{name}"}, epochs=2, optimizer={"lr": 0.01})
    records: dict[str, list[Any]] = {"whole": [], "stopped": []}

    def stop(record: Any) -> None:
        raise KeyboardInterrupt

    run: Callable[..., Any] = train
    run(config, records["whole"].append, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        run(config, stop, tmp_path / "stopped.pt")
    run(config, records["stopped"].append, tmp_path / "stopped.pt")
    whole, stopped = ([replace(one, **TIMES) for one in each] for each in records.values())
    assert whole == stopped
    assert len(whole) == 2


def test_a_trial_starts_from_a_state_dict_that_timm_made_for_other_classes(timm: Any, tmp_path: Path) -> None:
    given = timm.create_model("test_vit", num_classes=7, in_chans=1, img_size=16).state_dict()
    torch.save(given, tmp_path / "w.pt")
    config = ModelConfig(name="timm:test_vit", fine_tune=str(tmp_path / "w.pt"))
    taken = fine_tuning.start(config, Shape(100, 10, 10, 10, 1, 16, 16))
    assert taken.line() == (
        f"{len(given) - 2} tensors; 1.head.weight and 1.head.bias drawn anew: 7 classes there, 10 here"
    )


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_its_curvature_can_be_measured(timm: Any, name: str) -> None:
    dynamics = {"every": 1, "images": 40, "eigenpairs": 1, "directions": 1, "probes": 2, "batches": 4}
    measurement.refuse(tiny(dynamics=dynamics, model={"name": f"timm:{name}"}).resolved())
