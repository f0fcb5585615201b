"""Storage that is full, read-only or away while a launch writes to it: a tmpfs of the test's own, and real processes.

What cannot be made so, as EIO, is raised by fakes in tests/trainers/test_files.py and test_record.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from faults_harness import Command, Commands, numbers

from analysis.frames.trials import load_trials
from sweep.run.signals import STOPPING

SameNumbers = Callable[[Path, Path], None]


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of the test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=8m,nr_inodes=100", "robustsweep-test", folder)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root, and leave to mount a tmpfs")
    yield folder
    for place in (folder / "run", folder, tmp_path / "elsewhere"):
        while os.path.ismount(place):
            subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """No byte is left."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    yield
    filler.unlink()


@contextmanager
def without_inodes(disk: Path) -> Iterator[None]:
    """No file can be made."""
    made: list[Path] = []
    with suppress(OSError):
        while True:
            path = disk / f"filler-{len(made)}"
            path.touch(exist_ok=False)
            made.append(path)
    yield
    for path in made:
        path.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Whatever is opened from now on."""
    run = disk / "run"
    mount("--bind", run, run)
    mount("-o", "remount,ro,bind", run)
    yield
    subprocess.run(["umount", "--lazy", run], check=True)  # a process that is ending may have a file of it open


@contextmanager
def away(disk: Path) -> Iterator[None]:
    """As a server that does not answer: nothing is where it was."""
    elsewhere = disk.parent / "elsewhere"
    elsewhere.mkdir()
    mount("--move", disk, elsewhere)
    yield
    mount("--move", elsewhere, disk)


Fault = Callable[[Path], AbstractContextManager[None]]

FAULTS = [
    full,
    pytest.param(without_inodes, marks=pytest.mark.slow),
    pytest.param(read_only, marks=pytest.mark.slow),
    pytest.param(away, marks=pytest.mark.slow),
]


@dataclass
class Run:
    """A launch on the small disk."""

    commands: Commands
    words: tuple[str | Path, ...]
    directory: Path
    undisturbed: Path
    same_numbers: SameNumbers

    def stopped(self, **values: float) -> Command:
        """The launch, in the midst of its work."""
        given = {f"trainers.files.{name}": value for name, value in values.items()}
        own = ["--debug"] if given else []  # the process of a serial launch knows nothing of these values
        launched = self.commands(*self.words, *own, values=given)
        launched.wait_for(self.directory, "epoch", 2)
        launched.stop()
        return launched

    def is_whole(self) -> None:
        """Asserts that nothing is lost, and nothing is left over."""
        self.same_numbers(self.directory, self.undisturbed)
        assert numbers(self.directory) == numbers(self.undisturbed)
        assert not list(self.directory.rglob(".*.part*"))


@pytest.fixture
def run(
    commands: Commands, sweep_file: Callable[..., Path], same_numbers: SameNumbers, undisturbed: Path, disk: Path
) -> Run:
    words = "launch", sweep_file(), "--out", disk / "run", "--serial", "--set", "trial.checkpoint.every_epochs=1"
    return Run(commands, words, disk / "run", undisturbed, same_numbers)


@pytest.mark.parametrize("fault", FAULTS)
def test_storage_that_fails_for_a_moment_is_waited_for_and_the_numbers_are_the_same(
    fault: Fault, run: Run, disk: Path
) -> None:
    launched = run.stopped(SILENCE=0.2)
    with fault(disk):
        launched.signal(signal.SIGCONT)
        launched.says("; waiting for it, up to 60 s")
    assert launched.code() == 0
    assert (load_trials(run.directory).attempts == 1).all()
    run.is_whole()


@pytest.mark.parametrize("fault", FAULTS)
def test_storage_that_stays_away_ends_trials_with_the_name_of_the_file_and_the_same_command_goes_on(
    fault: Fault, run: Run, disk: Path
) -> None:
    launched = run.stopped(PATIENCE=0.5)
    with fault(disk):
        launched.signal(signal.SIGCONT)
        code = launched.code()
    # where no byte is left, the last page of the records may still hold how the trials ended
    assert code in {full: (1, 2), away: (2,)}.get(fault, (1,))
    assert "Traceback" not in launched.output
    trials = load_trials(run.directory)
    reasons = list(trials.reason[trials.outcome == "failed"])
    assert reasons or code == 2  # where the records do not fit either
    at = re.escape(str(run.directory))
    named = re.compile(
        rf"{at}(/checkpoints/\w+\.pt: cannot be written|: cannot be found): .*; .*the same command goes on"
    )
    assert all(named.fullmatch(reason) for reason in reasons)
    if fault is full and code == 2:
        last = launched.output.splitlines()[-1]
        assert last.startswith(f"sweep: {run.directory}/records.jsonl: cannot be written: No space left on device; ")
    for path in (run.directory / "checkpoints").glob("[!.]*"):  # but what the fault found half written
        assert torch.load(path, weights_only=True)["history"]
    if fault in (full, without_inodes):  # elsewhere nothing can be removed either, but by the next launch
        assert not list(run.directory.rglob(".*.part*"))
    run.commands.finish(*run.words)
    run.is_whole()


@pytest.mark.slow
def test_through_ray_a_storage_that_is_away_for_a_moment_is_waited_for(run: Run, disk: Path) -> None:
    run.words = tuple(word for word in run.words if word != "--serial")
    launched = run.commands(*run.words, "--set", "trial.epochs=10", values={"trainers.files.SILENCE": 0.2})
    launched.wait_for(run.directory, "epoch", 4)
    with full(disk):
        launched.says("; waiting for it, up to 60 s")
    assert launched.code() == 0, launched.output
    assert (load_trials(run.directory).attempts == 1).all()
    whole = (*run.words[:3], disk.parent / "whole", "--serial", "--set", "trial.epochs=10")
    run.commands.finish(*whole)
    run.undisturbed = disk.parent / "whole"
    run.is_whole()


def test_a_disk_that_is_full_or_read_only_when_a_launch_begins_is_told_in_one_line_and_nothing_is_lost(
    run: Run, disk: Path
) -> None:
    shutil.copytree(run.undisturbed, run.directory)
    path = run.directory / "records.jsonl"
    records = b"".join(path.read_bytes().splitlines(keepends=True)[:-6])  # the last trial's end is lacking
    path.write_bytes(records)
    said: list[str] = []
    for read_only_now in (False, True):
        with full(disk):
            if read_only_now:
                mount("-o", "remount,ro", disk)
            refused = run.commands(*run.words, values={"trainers.files.PATIENCE": 0.2})
            assert refused.code() == 2
            said += refused.output.splitlines()[-1:]
            if read_only_now:
                mount("-o", "remount,rw", disk)
    assert said == [
        f"sweep: {run.directory}/sweep.yaml: cannot be written: No space left on device; "
        "mend that: the same command goes on",
        f"sweep: --out {run.directory}: cannot be written: Read-only file system; give a folder that can",
    ]
    assert (run.directory / "records.jsonl").read_bytes() == records
    run.commands.finish(*run.words)
    run.is_whole()


@pytest.mark.slow
def test_ctrl_c_while_storage_is_waited_for_ends_the_launch_and_the_same_command_goes_on(run: Run, disk: Path) -> None:
    launched = run.stopped(SILENCE=0.2)
    with full(disk):
        launched.signal(signal.SIGCONT)
        launched.says("; waiting for it, up to 60 s")
        launched.signal(signal.SIGINT)
        code = launched.code(STOPPING + 30)
    last = launched.output.splitlines()[-1]
    lost = f"sweep: {run.directory}/records.jsonl: cannot be written: No space left on device; "
    assert code == 130 or (code == 2 and last.startswith(lost))  # where the very record waited for room, too
    assert "Traceback" not in launched.output
    run.commands.finish(*run.words)
    run.is_whole()
