"""How many faults do the tests see? Single mechanical faults, planted one at a time in the files that hold results.

    python benchmarks/mutation.py --output benchmarks/mutation.json

A fault's place is drawn evenly over the lines that can hold one, then over the places of that line, then over what can
be done there (see `mutants`), so that neither long lines nor operators with many variants count more. The interval is
Wilson's, of the share seen in such draws: a lower bound, since a fault that changes no result is seen by no test.

The checkout is never changed. The tests run in copies of its tracked files, each time in a process of its own, forked
from this one, which has imported the libraries but nothing of the project.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import multiprocessing
import os
import py_compile
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from mutants import Mutant, drawn
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]

#: The files, each with its tests, quick ones first: of the package's own, or of another named; unmutated, up to 15 s.
TESTS = {
    "trainers/method/attacks.py": "attacks trainers/evaluate foolbox",
    "trainers/method/step.py": "weights step",
    "trainers/method/objectives.py": "objectives step",
    "trainers/method/optimizers.py": "optimizers analysis/theory/recursions",
    "trainers/loop.py": "checkpoint evaluate trainers/method/averaging loop",
    "trainers/checkpoint.py": "checkpoint trainers/method/averaging loop",
    "sweep/run/journal.py": "sweep/progress sweep/plan/plan journal",
    "sweep/progress.py": "progress sweep/plan/plan sweep/run/journal",
    "sweep/plan/plan.py": "plan sweep/run/journal sweep/config",
    "sweep/decide.py": "decide",
    "analysis/estimates/correlations.py": "analysis/frames/published analysis/tables/trials correlations",
    "analysis/estimates/differences.py": "differences analysis/tables/trials analysis/frames/published",
    "analysis/claims/ledger.py": "time ledger sweep/claims_command",
    "analysis/claims/evidence.py": "evidence ledger",
    "analysis/theory/deat.py": "deat_noise stationary",
    "analysis/theory/learning_dynamics.py": "learning_dynamics",
    "analysis/theory/pac_bayes.py": "pac_bayes",
    "analysis/theory/recursions.py": "recursions deat_noise",
    "analysis/theory/sde.py": "sde",
    "analysis/theory/stationary.py": "stationary sde",
}
#: What the project imports and is slow to import.
LIBRARIES = ("torch", "pandas", "statsmodels.api", "sklearn.datasets", "optuna", "pydantic", "rich.console", "click")
#: Of the unmutated tests, s; of a mutant's, so many times what those took, and some more.
PATIENCE, TIMES, MORE = 600.0, 4.0, 10.0
#: That one run of the tests may hold, bytes: a fault in a size must not take the machine's.
MEMORY = 8 * 2**30
#: Exit code where the tests pass, but not with the copy's file.
ELSEWHERE = 90

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Run:
    """The tests of a file, with this source of it, in a copy of the project."""

    file: str
    source: str
    limit: float
    mutant: Mutant | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    run: Run
    code: int | None
    """Of pytest; None out of time."""
    seconds: float
    failure: str
    """The first test that failed."""

    @property
    def fate(self) -> str:
        """Of a mutant."""
        return {None: "timed out", 0: "unseen"}.get(self.code, "seen")

    def record(self) -> dict[str, Any]:
        """Of a mutant."""
        of_mutant = {key: getattr(self.run.mutant, key) for key in ("file", "line", "operator", "diff")}
        return {**of_mutant, "fate": self.fate, "seconds": round(self.seconds, 1), "failure": self.failure}


def tests_of(file: str) -> list[str]:
    """Paths of its tests."""
    names = [Path(name) if "/" in name else Path(file).with_name(name) for name in TESTS[file].split()]
    return [str("tests" / name.with_name(f"test_{name.name}.py")) for name in names]


def copies(folder: Path, number: int) -> list[Path]:
    """The tracked files as they are in the checkout, so many times, their bytecode valid for this content alone."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    first = folder / "0"
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (first / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, first / name)
    compileall.compile_dir(first, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return [first, *(shutil.copytree(first, folder / str(index)) for index in range(1, number))]


def outcomes(runs: Sequence[Run], places: Sequence[Path]) -> Iterator[Outcome]:
    """Of each run, as many at once as there are copies."""
    waiting, free = list(runs), list(places)
    going: list[tuple[Run, Path, str, BaseProcess, float]] = []
    try:
        while waiting or going:
            while waiting and free:
                run, place = waiting.pop(0), free.pop(0)
                before = (place / run.file).read_text(encoding="utf-8")
                (place / run.file).write_text(run.source, encoding="utf-8")
                process = FORK.Process(target=_tests, args=(place, run.file))
                process.start()
                going.append((run, place, before, process, time.monotonic()))
            wait([process.sentinel for *_, process, _ in going], timeout=0.5)
            for one in list(going):
                run, place, before, process, begun = one
                seconds = time.monotonic() - begun
                if not (late := process.is_alive()) or seconds > run.limit:
                    going.remove(one)
                    _end(process)
                    (place / run.file).write_text(before, encoding="utf-8")
                    free.append(place)
                    yield Outcome(run, None if late else process.exitcode, seconds, _failure(place))
    finally:
        for *_, process, _ in going:
            _end(process)


def _tests(place: Path, file: str) -> None:
    """Runs the tests of a file in a copy; exits with pytest's code."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    sys.stdout = sys.stderr = place.with_suffix(".log").open("w")
    for stream in (1, 2):
        os.dup2(sys.stdout.fileno(), stream)
    os.chdir(place)
    os.environ |= {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(place))
    importlib.import_module("torch").set_num_threads(1)
    options = f"-xq -m 'not slow' -p no:cacheprovider --basetemp={place}.tmp"
    code = int(pytest.main([*tests_of(file), *shlex.split(options)]))
    module = sys.modules.get(".".join(Path(file).with_suffix("").parts))
    if code == 0 and getattr(module, "__file__", None) != str(place / file):
        code = ELSEWHERE
    sys.exit(code)


def _end(process: BaseProcess) -> None:
    """With all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()


def _failure(place: Path) -> str:
    lines = place.with_suffix(".log").read_text(errors="replace").splitlines()
    return next((line for line in lines if line.startswith(("FAILED ", "ERROR "))), lines[-1] if lines else "")


def _environment() -> dict[str, Any]:
    """As other benchmarks record it; in a process of its own, which imports of the project."""
    sys.path.insert(0, str(ROOT))
    found = importlib.import_module("trainers.provenance").environment()
    found["versions"] |= {name: version(name) for name in ("cosmic-ray", "pytest")}
    return dict(found)


def share(found: Sequence[Outcome]) -> tuple[float, float, float]:
    """Of the mutants that were seen or ran out of time, with Wilson's 95 % interval."""
    seen = sum(one.fate != "unseen" for one in found)
    interval = stats.binomtest(seen, len(found)).proportion_ci(method="wilson")
    return seen / len(found), float(interval.low), float(interval.high)


def report(found: Sequence[Outcome]) -> str:
    """The table by file, each mutant that no test saw, and the total."""
    lines = [f"{'file':40} {'planted':>8} {'seen':>8} {'unseen':>8} {'timed out':>10}"]
    for file in TESTS:
        if count := Counter(one.fate for one in found if one.run.file == file):
            seen, unseen, late = (count[fate] for fate in ("seen", "unseen", "timed out"))
            lines.append(f"{file:40} {count.total():8} {seen:8} {unseen:8} {late:10}")
    lines += ["", *sorted(str(one.run.mutant) for one in found if one.fate == "unseen"), ""]
    part, low, high = (f"{100 * value:.0f}" for value in share(found))
    return "\n".join([*lines, f"seen, or out of time: {part} % of {len(found)}, 95 % interval [{low}, {high}]"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Plants, tests, prints; 2 if the unmutated tests fail."""
    parser = argparse.ArgumentParser(description="Plants faults and counts those that the tests see.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="faults, by default 100")
    parser.add_argument("--file", action="append", choices=TESTS, metavar="NAME", help="one of those in the table")
    parser.add_argument("--workers", type=int, default=2, help="faults at a time, by default 2")
    parser.add_argument("--output", type=Path, help="for the record, JSON")
    asked = parser.parse_args(arguments)
    for name in LIBRARIES:
        importlib.import_module(name)
    with FORK.Pool(1) as pool:
        about = pool.apply(_environment)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        places = copies(Path(folder), asked.workers)
        sources = {file: (places[0] / file).read_text(encoding="utf-8") for file in asked.file or TESTS}
        mutants = list(drawn(sources, asked.seed, asked.count))
        unmutated = [Run(file, sources[file], PATIENCE) for file in sorted({one.file for one in mutants})]
        limits = {}
        for one in outcomes(unmutated, places):
            if one.code != 0:
                whys = {ELSEWHERE: "do not import it", None: f"take more than {PATIENCE:.0f} s"}
                why = whys.get(one.code, f"fail without a fault: {one.failure}")
                print(f"{one.run.file}: its tests {why}", file=sys.stderr)
                return 2
            limits[one.run.file] = TIMES * one.seconds + MORE
        found = []
        for one in outcomes([Run(m.file, m.source, limits[m.file], m) for m in mutants], places):
            found.append(one)
            print(f"{len(found)}/{len(mutants)} {one.fate} in {one.seconds:.1f} s: {one.run.mutant}", file=sys.stderr)
    print(report(found))
    if asked.output:
        record = {
            "question": "How many single faults do the tests see?",
            "command": shlex.join(["python", *sys.argv]),
            **about,
            "seed": asked.seed,
            "limits_seconds": limits,
            "seen": share(found),
            "mutants": [one.record() for one in found],
        }
        asked.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
