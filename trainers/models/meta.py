"""Networks without values, to try what they take: they cost no memory, and no time to draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class EmptyOnMeta(TorchFunctionMode):
    """Layers allocate weights with torch.empty: on the meta device these take no memory and no time to draw.

    Unlike `torch.device("meta")` it leaves what a constructor calculates with, as regnet's does, on the CPU.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})})
