"""How a step runs fast without changing what it means: device, precision, memory format, frozen parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from trainers.batch_norm import frozen
from trainers.errors import UserError

Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class Engine:
    """Where and in which precision a trial runs."""

    device: torch.device
    precision: Precision = "fp32"

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model on the device, channels-last: the layout in which cuDNN and oneDNN convolve without reordering."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """A batch (B, C, H, W) in the memory format of the model."""
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The model as a function of images (B, C, H, W), its logits (B, classes) never in bf16: losses are not."""

        def logits(images: torch.Tensor) -> torch.Tensor:
            with self.autocast():
                found: torch.Tensor = model(images)
            return found.float() if found.dtype == torch.bfloat16 else found

        return logits

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 forward passes if asked for; parameters, images and the attack's arithmetic stay fp32."""
        if self.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


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
    """
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


@contextmanager
def attacking(model: nn.Module, batch_norm: Literal["eval", "train", "batch"]) -> Iterator[None]:
    """The model as an attack needs it: parameters frozen, so that only input gradients are worked out.

    batch: in train mode, but batch norm's running statistics stay.

    Freezing saves a third of every backward pass: a PGD-10 step costs 23 forward-equivalents, not 33.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    for parameter in trainable:
        parameter.requires_grad_(False)
    model.train(batch_norm != "eval")
    try:
        with frozen(model) if batch_norm == "batch" else nullcontext():
            yield
    finally:
        model.train(was_training)
        for parameter in trainable:
            parameter.requires_grad_(True)
