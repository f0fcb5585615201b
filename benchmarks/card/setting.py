"""Where a section runs, what it may take, and the one hand that writes results.jsonl."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

RESULTS_FILE = "results.jsonl"
_Value = TypeVar("_Value")


class Poisoned(RuntimeError):
    """The card answers nothing more in this process: a CUDA error that stays."""


@dataclass(frozen=True)
class Setting:
    """What every section is given."""

    section: str
    out: Path
    """Folder of the results."""
    tiny: bool = False
    """Everything at toy size, on the CPU."""
    data: Path | None = None
    """Folder with train/ and test/, or an archive of one; none: random images of CIFAR-10's shape."""
    seconds: float = math.inf
    """That the section may take."""
    commit: str | None = None
    command: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def device(self) -> torch.device:
        """The card, or with `tiny` the CPU."""
        return torch.device("cpu" if self.tiny else "cuda")

    def pick(self, full: _Value, tiny: _Value) -> _Value:
        """The value for the card, or that for toy size."""
        return tiny if self.tiny else full

    def left(self) -> float:
        """Seconds until the section is killed."""
        return self.seconds - (time.monotonic() - self.started)

    def synchronize(self) -> None:
        """Waits for the card."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def write(self, name: str, **values: Any) -> None:
        """Appends one result: values of JSON's types, beside what ran it; `ok=False` says that a check did not hold."""
        append(self.out, {"section": self.section, "name": name, **values, **self._about()})

    def _about(self) -> dict[str, Any]:
        about = {"commit": self.commit, "command": self.command, "time": time.strftime("%F %T"), "tiny": self.tiny}
        return {**_machine(self.device.type), **about}

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """A block that measures `name`: an error in it is a result, and the next block runs.

        Use `fits` first where the block takes long.

        Raises:
            Poisoned: the card is lost to this process.
        """
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.write(name, error=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}", ok=False)
            self._check_card()

    def fits(self, name: str, needs: float) -> bool:
        """Whether what takes so many seconds still fits; says in the results that it was left out, if not."""
        if self.left() >= needs or self.tiny:
            return True
        self.write(name, skipped=f"needs {needs:.0f} s, {self.left():.0f} s left")
        return False

    def _check_card(self) -> None:
        if self.device.type == "cuda":
            try:
                torch.ones(1, device=self.device).add_(1).item()
                torch.cuda.empty_cache()
            except Exception as error:
                raise Poisoned(str(error)) from error


def append(out: Path, values: dict[str, Any]) -> None:
    """Appends one line, whole, at once."""
    with (out / RESULTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(_plain(values)) + "\n")


def read(out: Path) -> list[dict[str, Any]]:
    """The results so far; a torn last line, of a process that was killed, is left out."""
    path = out / RESULTS_FILE
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            print(f"{path}: a torn line is left out", file=sys.stderr)
    return found


def _plain(value: Any) -> Any:
    """JSON's own types: no NaN, floats of six digits."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


@functools.cache
def _machine(kind: str) -> dict[str, Any]:
    card = torch.cuda.get_device_name() if kind == "cuda" else "cpu"
    version = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"card": card, "driver": _driver() if kind == "cuda" else None, **version}


def _driver() -> str | None:
    """The NVIDIA driver's version."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split("\n")[0].strip()
