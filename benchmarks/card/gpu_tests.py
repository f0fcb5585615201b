"""tests: the tests marked gpu, in a process of their own."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from card.setting import Setting

ROOT = Path(__file__).resolve().parents[2]
#: Those that look at the memory of the whole card run alone; the others beside one another, where xdist is there.
ALONE = "tests/trainers/test_cards.py"
PARTS = {"alone": [ALONE], "together": ["tests/trainers", f"--ignore={ALONE}"]}
_BESIDE = ["-n", "6", "--dist", "load"]
_TO_END = 10.0  # seconds that pytest may take to end
_NONE_CHOSEN = 5  # pytest's exit status


def tests(setting: Setting) -> None:
    """Runs them, and writes how many passed and the first line of each that did not."""
    for part, chosen in PARTS.items():
        report = setting.out.resolve() / f"junit_{part}.xml"
        command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        beside = _BESIDE if part == "together" and find_spec("xdist") and not setting.tiny else []
        code = _status([*command, *beside, *chosen], setting.left() - _TO_END)
        for name, reason in failures(report):
            setting.write(name, error=reason, ok=False)
        counted = counts(report)
        ok = (code == 0 and counted["passed"] > 0) or (setting.tiny and code in (0, _NONE_CHOSEN))
        setting.write(f"pytest, {part}", code=code, **counted, ok=ok)


def _status(command: list[str], seconds: float) -> int:
    """The exit status; after so many seconds it is interrupted, upon which pytest writes what it knows."""
    # what a shell starts in the background ignores SIGINT, and so would its children
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, preexec_fn=heeds)
    try:
        return process.wait(None if seconds == math.inf else seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.wait()


def failures(report: Path) -> list[tuple[str, str]]:
    """Name and message of each test of a JUnit file that failed."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        for wrong in (*case.iter("failure"), *case.iter("error")):
            message = (wrong.get("message") or "").splitlines() or [""]
            found.append((f"{case.get('classname')}::{case.get('name')}", message[0][:300]))
    return found


def counts(report: Path) -> dict[str, int]:
    """How many tests passed, failed (errors included) and were skipped."""
    suite = next(ElementTree.parse(report).iter("testsuite"))
    every, skipped, *wrong = (int(suite.get(key, 0)) for key in ("tests", "skipped", "failures", "errors"))
    return {"passed": every - skipped - sum(wrong), "failed": sum(wrong), "left_out": skipped}
