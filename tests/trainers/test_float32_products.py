"""fp32 is IEEE's, tf32 is asked for, and afterwards torch is as it was: on every release that this runs with."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from trainers.engine import Precision, float32_products


def flags() -> tuple[bool, bool, str, str]:
    """Inductor reads the first three, and fails where torch finds that they contradict one another."""
    backends = torch.backends
    products = torch.get_float32_matmul_precision()
    generic: str = backends.fp32_precision  # type: ignore[attr-defined]
    return backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, products, generic


def of_convolutions() -> str:
    """What the newer flags make of the pair, which cuDNN goes by."""
    found: str = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_true_fp32_has_no_flag_that_allows_tf32(precision: Precision) -> None:
    with float32_products(precision):
        assert flags() == (False, False, "highest", "none")
        assert of_convolutions() in ("none", "ieee")


def test_tf32_is_allowed_to_products_and_convolutions() -> None:
    with float32_products("tf32"):
        assert flags() == (True, True, "high", "none")
        assert of_convolutions() == "tf32"


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_afterwards_the_flags_are_as_they_were(precision: Precision) -> None:
    before = flags(), of_convolutions()
    with pytest.raises(KeyError), float32_products("fp32"), float32_products(precision):
        raise KeyError
    assert (flags(), of_convolutions()) == before


def test_a_users_own_flag_for_all_of_torch_does_not_make_fp32_tf32_and_is_given_back() -> None:
    torch.backends.fp32_precision = "tf32"  # type: ignore[attr-defined]
    try:
        with float32_products("fp32"):
            assert flags() == (False, False, "highest", "none")
            assert of_convolutions() in ("none", "ieee")
        assert torch.backends.fp32_precision == "tf32"  # type: ignore[attr-defined]
    finally:
        torch.backends.fp32_precision = "none"  # type: ignore[attr-defined]


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "low", "high"), [("fp32", 0.0, 2e-6), ("tf32", 1e-4, 1e-3), ("bf16", 0.0, 2e-6)])
def test_errors_of_products_and_convolutions_are_those_of_the_precision(
    precision: Precision, low: float, high: float
) -> None:
    draws = torch.Generator("cuda").manual_seed(0)
    images = torch.randn(64, 64, 16, 16, device="cuda", generator=draws)
    kernel = torch.randn(64, 64, 3, 3, device="cuda", generator=draws)
    left, right = torch.randn(2, 512, 512, device="cuda", generator=draws)
    with float32_products(precision):
        convolved, product = F.conv2d(images, kernel, padding=1), left @ right
    exact = F.conv2d(images.double(), kernel.double(), padding=1), left.double() @ right.double()
    for found, true in zip((convolved, product), exact, strict=True):
        error = float((found - true).norm() / true.norm())
        assert low <= error < high, error
