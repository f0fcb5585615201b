"""What this host has for trials: GPUs that torch sees, and memory.

Where no GPU has a driver torch is not loaded to say so: it takes longer than the rest of a launch's planning.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: What a GPU's driver puts there: NVIDIA's, also of Jetson and under WSL, and AMD's.
_DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")))


def gpu_count() -> int:
    """How many GPUs torch sees."""
    if "torch" not in sys.modules and sys.platform == "linux" and not any(path.exists() for path in _DRIVERS):
        return 0
    import torch

    return torch.cuda.device_count()


def gpu_names() -> list[str]:
    """The GPUs that torch sees, by name."""
    if not (count := gpu_count()):
        return []
    import torch

    return [torch.cuda.get_device_name(index) for index in range(count)]


def card_bytes() -> list[int]:
    """The memory of each card that torch sees; nothing is taken of them. None where CUDA does not start on them."""
    if not (count := gpu_count()):
        return []
    import torch

    try:
        return [torch.cuda.get_device_properties(index).total_memory for index in range(count)]
    except RuntimeError:  # NVML counts cards of which CUDA itself can say nothing, as with another driver
        return []


def host_bytes() -> int:
    """The memory of this host, or what this process may have of it in its container or job (control group)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _limits(groups: Path, root: Path) -> list[int]:
    """Of the groups that this process is in, and of those around them: version 2's and version 1's."""
    files = []
    try:
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base, name = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
            if not controllers or "memory" in controllers.split(","):
                inner = base / path.lstrip("/")
                files += [folder / name for folder in (inner, *inner.parents) if folder.is_relative_to(base)]
    except (OSError, ValueError):
        return []
    return [int(text) for file in files if (text := _text_of(file)).isdigit()]


def _text_of(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
