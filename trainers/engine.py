"""How a step runs fast without changing what it means: device, precision, memory format, frozen parameters, compiling.

    eager              operation by operation
    graph              a step is captured once as a CUDA graph, and replayed: the host launches one thing, not thousands
    compile            the network's passes are compiled by torch.compile; on a GPU the step is captured as well, on a
                       CPU a pass of the attack and its gradient are one compiled graph

Whether a step is captured is `trainers.stepper`'s to know; all that stands here is read by the step itself.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn

from trainers import process
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.workers import ALONE, Workers

Precision = Literal["fp32", "tf32", "bf16"]
Mode = Literal["eager", "graph", "compile"]
Function = TypeVar("Function", bound=Callable[..., Any])

#: Training images that a trial sees in all, from which `auto` compiles on a GPU: on an H100 a PreActResNet-18 in bf16
#: wins back in half as many what compiling takes once on a machine (benchmarks/gpu/NOTES.md).
_WORTH_COMPILING = 1_000_000

#: Layers whose weights and biases autocast casts to bf16 as they are.
_CAST = {nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d}

#: Variants of a network's pass that may be compiled in a process before torch.compile gives up on it: train and eval
#: mode, weights frozen and not, with and without gradient, and each of a sweep's batch sizes.
_VARIANTS = 128


@dataclass(frozen=True)
class Engine:
    """Where and in which precision a trial runs, and by how many processes."""

    device: torch.device
    precision: Precision = "fp32"
    mode: Mode = "eager"
    workers: Workers = ALONE

    @property
    def captures(self) -> bool:
        """Whether steps are captured and replayed."""
        return self.mode != "eager" and self.device.type == "cuda"

    @property
    def eager(self) -> Engine:
        """The same without compiling and capturing."""
        return replace(self, mode="eager")

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model on the device, channels-last: the layout in which cuDNN and oneDNN convolve without reordering."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """A batch (B, C, H, W) in the memory format of the model."""
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The model as a function of images (B, C, H, W), its logits (B, classes) never in bf16: losses are not."""

        passed = functools.partial(_compiled(_pass), model) if self.mode == "compile" else model

        def logits(images: torch.Tensor) -> torch.Tensor:
            with self.autocast():
                scores: torch.Tensor = passed(images)
            return scores.float() if scores.dtype == torch.bfloat16 else scores

        return logits

    def whole(self, function: Function) -> Function:
        """The gradient of an attack's loss by its images: compiled on a CPU, with the pass that is in it, as one."""
        compiled = self.mode == "compile" and self.device.type == "cpu" and self.precision == "fp32"
        return cast(Function, _compiled(function)) if compiled else function

    @contextmanager
    def cast_once(self, model: nn.Module) -> Iterator[None]:
        """A block in which the weights do not change and, in bf16, are cast once and not in every pass.

        Autocast casts the weights of convolutions and linear layers anew in each pass, and its cache leaves out frozen
        ones. The numbers are the same to the bit.
        """
        cast = _matrices(model) if self.precision == "bf16" else []
        full = [parameter.data for parameter in cast]
        for parameter in cast:
            parameter.data = parameter.data.to(torch.bfloat16)
        try:
            yield
        finally:
            for parameter, data in zip(cast, full, strict=True):
                parameter.data = data

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 forward passes if asked for; parameters, images and the attack's arithmetic stay fp32."""
        if self.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def _matrices(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that autocast casts to bf16 wherever they are used: those of torch's own convolutions and linear
    layers. A layer made of one may standardise its weight first, or have it worked out from others, in fp32."""
    layers = [module for module in model.modules() if type(module) in _CAST]
    own = [layer._parameters.get(name) for layer in layers for name in ("weight", "bias")]
    return list({id(one): one for one in own if one is not None}.values())


def _pass(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(images)
    return logits


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled: of an attack's gradient forward and backward are one graph, and nothing is kept between.

    The settings are made anew each time: in torch 2.15 they are a thread's own, and Tune gives each trial a new thread.
    """
    config = torch._dynamo.config
    if config.recompile_limit < _VARIANTS or not config.trace_autograd_ops:
        config.recompile_limit, config.trace_autograd_ops = max(config.recompile_limit, _VARIANTS), True
    return _once(function)


@functools.cache
def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The one compiled form of this process, so that trials of one shape share it; dropout draws as it does eagerly."""
    return torch.compile(function, dynamic=False, options={"fallback_random": True})


def compiling() -> float:
    """Seconds that torch.compile has taken in this process so far, by torch's own count."""
    if (dynamo := sys.modules.get("torch._dynamo.utils")) is None:
        return 0.0
    spent = dynamo.cumulative_time_spent_ns
    return float(sum(spent.get(f"entire_{what}_compile", 0) for what in ("frame", "backward"))) / 1e9


def engine_of(config: TrialConfig, training_images: int = 0, workers: Workers = ALONE) -> tuple[Engine, str]:
    """The engine that a config asks for, or the next that is possible here and in words why; empty where it is.

    Args:
        config: of a trial.
        training_images: of an epoch.
        workers: of the trial, this one among them.

    Raises:
        UserError: the device is not here.
    """
    device = device_of(config.device)
    mode, reason = _possible(_asked(config, device, training_images), device)
    if mode != "eager" and not workers.alone:
        done = "compiled" if mode == "compile" else "captured"
        mode, reason = "eager", f"a trial on several workers is not {done} yet"
    return Engine(device, config.precision, mode, workers), reason


def _asked(config: TrialConfig, device: torch.device, training_images: int) -> Mode:
    if config.engine != "auto":
        return config.engine
    if device.type != "cuda":
        return "eager"
    worth = config.epochs * training_images >= _WORTH_COMPILING
    return "compile" if worth and not _no_compiler(device) else "graph"


def _possible(mode: Mode, device: torch.device) -> tuple[Mode, str]:
    if mode == "graph" and device.type != "cuda":
        return "eager", "a step can be captured on a GPU only"
    if mode == "compile" and process.shared():
        return _possible("graph", device)[0], "trials that share a process are not compiled"
    if mode == "compile" and (missing := _no_compiler(device)):
        return _possible("graph", device)[0], missing
    return mode, ""


def _no_compiler(device: torch.device) -> str:
    """What torch.compile lacks here; empty: nothing."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "torch.compile needs triton here"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "torch.compile needs a C++ compiler here"
    return ""


def device_of(name: str) -> torch.device:
    """The torch device that `auto`, `cpu`, `cuda` or `cuda:N` stands for.

    Raises:
        UserError: a GPU is named and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device: must be on this machine, got {name!r}, and torch sees {torch.cuda.device_count()} GPUs; "
            "set device: cpu or auto"
        )
    return device


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Matrix products and convolutions of fp32 tensors in true fp32, or in TF32 where asked for.

    torch lets cuDNN use TF32 unless told otherwise, so fp32 has to be asked for: by torch's older pair of flags. The
    newer `fp32_precision` of all backends does not reach cuDNN's convolutions in torch 2.11 [pytorch#179445], and
    Inductor fails where both are used [pytorch#166387]: that one is set to none, or cuDNN would inherit it.

    Raises:
        UserError: TF32 is asked for, and trials share the process.
    """
    if process.shared() and precision == "tf32":
        raise UserError(f"precision: tf32 is not for trials that share a process; take bf16, or {process.WAY_OUT}")
    allowed = precision == "tf32"
    generic, torch.backends.fp32_precision = torch.backends.fp32_precision, "none"  # type: ignore[attr-defined]
    before = _tf32(allowed, "high" if allowed else "highest")
    try:
        yield
    finally:
        _tf32(*before)
        torch.backends.fp32_precision = generic  # type: ignore[attr-defined]


def _tf32(convolutions: bool, products: str) -> tuple[bool, str]:
    """Sets the pair of flags where they are others, and says what they were."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    if convolutions != before[0]:
        torch.backends.cudnn.allow_tf32 = convolutions
    if products != before[1]:
        torch.set_float32_matmul_precision(products)
    return before
