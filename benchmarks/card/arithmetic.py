"""env: versions and flags, how exact products and convolutions are in each precision, and what the card can do."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from card.setting import Setting, read
from trainers.engine import Engine, Precision, float32_products
from trainers.provenance import code_version, versions

#: Mean error of a product over the root mean square of its values: fp32's 24 bits give under this, TF32's 11 over it.
TRUE_FP32 = 1e-5
PACKAGES = ("torch", "torchvision", "triton", "numpy", "pydantic", "curvlinops-for-pytorch", "nvidia-cudnn-cu13")


def env(setting: Setting) -> None:
    """Versions, flags, errors against fp64, ceilings."""
    about = {"versions": {"python": platform.python_version(), **versions(PACKAGES)}, "cpu_cores": os.cpu_count()}
    setting.write("versions", code_version=code_version(), **about, **_card(setting))
    for precision in get_args(Precision):
        with setting.measuring(f"errors {precision}"):
            found = errors(setting, precision)
            true = max(found["product"], found["convolution"]) < TRUE_FP32
            setting.write(f"errors {precision}", **found, ok=true if precision == "fp32" else None)
    with setting.measuring("copy"):
        setting.write("copy", **copy_rate(setting))
    with setting.measuring("product"):
        setting.write("product", **product_rate(setting))


def _card(setting: Setting) -> dict[str, Any]:
    if setting.device.type == "cpu":
        return {}
    found = torch.cuda.get_device_properties(setting.device)
    limit = {"memory_bytes": found.total_memory, "processors": found.multi_processor_count}
    return {**limit, "capability": f"{found.major}.{found.minor}", "arch_list": torch.cuda.get_arch_list()}


def flags() -> dict[str, Any]:
    """What torch says of its fp32 arithmetic; a text where it refuses to say."""
    asked: dict[str, Callable[[], Any]] = {
        "cudnn.allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
        "cuda.matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "float32_matmul_precision": torch.get_float32_matmul_precision,
        "cudnn.conv.fp32_precision": lambda: torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "cuda.matmul.fp32_precision": lambda: torch.backends.cuda.matmul.fp32_precision,
    }
    found = {}
    for name, ask in asked.items():
        try:
            found[name] = ask()
        except (RuntimeError, AttributeError) as error:
            found[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return found


def errors(setting: Setting, precision: Precision) -> dict[str, Any]:
    """Root mean square error over root mean square value of a product and a convolution, against fp64."""
    side, images = setting.pick((2048, 64), (64, 2))
    one, other = _normal(setting, side, side), _normal(setting, side, side)
    batch, kernel = _normal(setting, images, 64, 16, 16), _normal(setting, 64, 64, 3, 3)
    with float32_products(precision), Engine(setting.device, precision).autocast():
        product, convolution = one @ other, F.conv2d(batch, kernel, padding=1)
        said = flags()
    exact = F.conv2d(batch.double(), kernel.double(), padding=1)
    return {
        "product": _error(product, one.double() @ other.double()),
        "convolution": _error(convolution, exact),
        "flags": said,
    }


def _normal(setting: Setting, *shape: int) -> Tensor:
    return torch.randn(*shape, device=setting.device, generator=torch.Generator(setting.device).manual_seed(len(shape)))


def _error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()).item()


def copy_rate(setting: Setting) -> dict[str, Any]:
    """TB/s of a copy within the device, bytes read and written both counted."""
    source = torch.empty(setting.pick(2**31, 2**22), dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    seconds = _seconds(setting, lambda: target.copy_(source), setting.pick(20, 2))
    return _rates([2 * source.numel() / each / 1e12 for each in seconds], "TB/s")


def product_rate(setting: Setting) -> dict[str, Any]:
    """TFLOP/s of a bf16 product of two square matrices of random numbers: what is called the measured bf16 rate."""
    side = setting.pick(8192, 128)
    one, other = (_normal(setting, side, side).bfloat16() for _ in range(2))
    seconds = _seconds(setting, lambda: one @ other, setting.pick(10, 2))
    return {"side": side, **_rates([2 * side**3 / each / 1e12 for each in seconds], "TFLOP/s")}


def _seconds(setting: Setting, once: Callable[[], object], calls: int) -> list[float]:
    """Of one call: seven times the mean over so many, after as many that are not counted."""
    found = []
    for _ in range(8):
        setting.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            once()
        setting.synchronize()
        found.append((time.perf_counter() - started) / calls)
    return found[1:]


def _rates(found: list[float], unit: str) -> dict[str, Any]:
    return {"unit": unit, "rate": statistics.median(found), "lowest": min(found), "highest": max(found)}


def measured_rate(setting: Setting) -> float:
    """FLOP/s in bf16, as the section env measured it in this run; measured now where it has not."""
    known = [row["rate"] for row in read(setting.out) if (row["section"], row["name"]) == ("env", "product")]
    return 1e12 * float(known[-1] if known else product_rate(setting)["rate"])
