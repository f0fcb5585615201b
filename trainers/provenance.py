"""Where numbers come from: which code, which versions, which machine."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import socket
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.hardware import gpu_names

if TYPE_CHECKING:
    import torch

    from trainers.config import TrialConfig

#: What is written down of the installed packages.
PACKAGES = (
    *("robustsweep", "torch", "torchvision", "numpy", "ray", "optuna", "pandas", "scipy", "scikit-learn"),
    *("pyautoattack", "timm"),
)

#: Beside code that was submitted to run later: the commit that it was at, as the copy is no checkout.
SUBMITTED = "submitted.json"


#: Of the sources of this package, those that give trials out and train none: no number depends on them.
_GIVE_OUT = ("__main__.py", "stint.py", "trial_list.py", "record/linked.py")


@functools.cache
def code_version() -> str:
    """12 hex digits of the SHA-256 of the trainers' sources: what a trial's numbers depend on besides its config."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(set(folder.rglob("*.py")) - {folder / name for name in _GIVE_OUT}):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def commit() -> tuple[str | None, bool | None]:
    """The commit that this code is at, and whether tracked files have changes; of submitted code, as it was then.

    Files that git does not track, such as a user's configs, are no changes.

    Both are None where this code is not part of a git checkout: installed into somebody else's repository it is not
    tracked there, and that repository's commit would say nothing of it.
    """
    try:
        noted = json.loads((Path(__file__).parents[1] / SUBMITTED).read_text())
    except FileNotFoundError:
        checkout = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
        changes = _git("status", "--porcelain", "--untracked-files=no") if checkout else None
        return _git("rev-parse", "HEAD") if checkout else None, None if changes is None else changes != ""
    return noted["commit"], noted["dirty"]


def environment() -> dict[str, Any]:
    """Commit, versions and hardware of this process, as plain values; see `commit`."""
    at, dirty = commit()
    return {
        "commit": at,
        "dirty": dirty,
        "code_version": code_version(),
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
        "host": host(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "gpus": gpu_names(),
    }


def arithmetic(config: TrialConfig, device: torch.device) -> dict[str, Any]:
    """How a process computes a trial, as plain values: on what its last bits depend besides its config and code.

    Args:
        config: of the trial.
        device: that it runs on.

    Returns:
        precision, that is used: a GPU before compute capability 8.0 and a CPU have no TF32, and take fp32 for it;
        engine, as asked for: each epoch's record has the one that was used; deterministic; torch and cudnn, their
        versions, None where cuDNN is not used; processor, a GPU's name or a CPU's widest vector instructions that torch
        uses; threads, None on a GPU.
    """
    import torch

    gpu = device.type == "cuda"
    tf32 = gpu and torch.cuda.get_device_capability(device) >= (8, 0)
    return {
        "precision": "fp32" if config.precision == "tf32" and not tf32 else config.precision,
        "engine": config.engine,
        "deterministic": config.deterministic,
        "torch": str(torch.__version__),  # a class of its own, which whoever unpickles it would import torch for
        "cudnn": torch.backends.cudnn.version() if gpu else None,  # type: ignore[no-untyped-call]
        "processor": torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": None if gpu else torch.get_num_threads(),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of each of these packages that is installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _git(*words: str) -> str | None:
    """What git says of the folder that this code stands in; None where it is no checkout."""
    try:
        answer = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
