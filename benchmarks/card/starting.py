"""How long a trial takes to its first steps: in a cold process, in a warm one, and as the second trial of a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from card.setting import Setting
from card.trials import engines

SCRIPT = Path(__file__).resolve().parents[1] / "gpu.py"


def job(setting: Setting, name: str, **arguments: Any) -> subprocess.Popen[str]:
    """A process of this script that does one thing of `gpu.JOBS`, and prints JSON as its last line.

    It is in the section's process group, and is killed with it.
    """
    command = [sys.executable, str(SCRIPT), "--job", name, json.dumps(arguments), "--out", str(setting.out)]
    if setting.tiny:
        command.append("--tiny")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a job printed last.

    Raises:
        RuntimeError: it failed; the log says why.
    """
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the process ended with {process.returncode}")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def starts(setting: Setting) -> None:
    """One process after another with one cache of compiled code: the first finds it empty, the second does not."""
    engine = engines(setting)[-1]
    for name, needs in (("start, cold", 90), ("start, warm", 40))[: setting.pick(2, 1)]:
        if setting.fits(name, needs):
            with setting.measuring(name):
                started = time.monotonic()
                setting.write(name, **answer(job(setting, "start", engine=engine, started=started)))


def start(setting: Setting, engine: str, started: float) -> dict[str, Any]:
    """What `starts` starts: two trials of one shape, one after the other, each of five steps.

    Args:
        engine: of both.
        started: when the process was started, by the monotonic clock, which all processes share.
    """
    from card.trials import free, images, trial
    from trainers.training import Training

    imported = time.monotonic()
    torch.ones(1, device=setting.device)
    setting.synchronize()
    found: dict[str, Any] = {"engine": engine, "import": imported - started, "device": time.monotonic() - imported}
    data = images(setting, 5 * trial(setting).batch_size)
    for name, seed in (("first", 0), ("second", 1)):
        config = trial(setting, {"engine": engine, "seed": seed, "optimizer": {"lr": 0.1 / (1 + seed)}})
        began = time.monotonic()
        training = Training.begin(config, data)
        begun = time.monotonic()
        passed = training.epoch(0)
        setting.synchronize()
        ended = time.monotonic()
        found[name] = {
            "begin": begun - began,
            "preparing": passed.preparing,
            "to_five_steps": ended - began,
            "to_five_steps_from_process_start": ended - started,
        }
        del training
        free(setting)
    return found
