"""How long an epoch may take, and what ends a process whose trial takes longer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import small

from sweep.config import LONGEST_EPOCH
from sweep.run.hung import BEGINNING, LEAST, TIMES, UNKNOWN, Limits, Paces, forget, hung, shape_of
from sweep.share import Share
from trainers.config import TrialConfig
from trainers.identity import identity


def epoch(number: int, seconds: float = 100.0, evaluation: float | None = 50.0, **more: Any) -> dict[str, Any]:
    evaluated = {"val_clean": None} if evaluation is None else {"val_clean": 0.5}
    return {
        "record": "epoch",
        "epoch": number,
        "seconds": seconds,
        "preparing_seconds": 0.0,
        "evaluation_seconds": evaluation or 0.0,
        "checkpoint_seconds": 0.0,
        **evaluated,
        **more,
    }


def trial(**values: Any) -> TrialConfig:
    return small.tiny(**{"epochs": 10, **values})


KNOWN = {"training": 100.0, "evaluation": 50.0, "dynamics": 1000.0}


def test_an_epoch_may_take_ten_times_the_median_of_its_shape_and_the_first_of_a_process_an_hour_more() -> None:
    limits = Limits(trial(), None, KNOWN, 0)
    assert limits.seconds() == TIMES * 150 + BEGINNING
    limits.take(epoch(1))
    assert limits.seconds() == TIMES * 150


def test_no_epoch_is_given_less_than_ten_minutes() -> None:
    limits = Limits(trial(), None, {"training": 1.0, "evaluation": 1.0}, 0)
    limits.take(epoch(1, 1.0, 1.0))
    assert limits.seconds() == LEAST == 600


def test_what_was_never_measured_has_a_day_and_then_the_time_that_it_took_the_trial_itself() -> None:
    limits = Limits(trial(), None, {}, 0)
    assert limits.seconds() == UNKNOWN
    limits.take(epoch(1))
    assert limits.seconds() == TIMES * 150


def test_a_rare_evaluation_and_a_rare_measurement_get_time_of_their_own() -> None:
    """Each takes longer than ten of the other epochs, and at the last epoch both are due."""
    config = trial(evaluation={"every": 4, "steps": 1}, dynamics={"every": 5})
    known = {"training": 100.0, "evaluation": 3000.0, "dynamics": 2000.0}
    limits, given = Limits(config, None, known, 0), {}
    for number in range(1, 11):
        limits.take(epoch(number, 100.0, 3000.0 if number in (4, 8, 10) else None))
        given[number + 1] = limits.seconds()
    seconds = {2: 100, 4: 3100, 5: 2100, 6: 100, 8: 3100, 10: 5100}
    assert {number: given[number] for number in seconds} == {n: TIMES * took for n, took in seconds.items()}
    limits = Limits(config, None, {"training": 100.0}, 0)
    limits.take(epoch(1, 100.0, None))
    limits.take(epoch(3, 100.0, None))
    assert limits.seconds() == UNKNOWN  # epoch 4 is the first that is evaluated


def test_a_trial_that_is_slower_than_its_shape_has_ten_times_its_own_time() -> None:
    """As on another kind of card, or beside others."""
    limits = Limits(trial(), None, KNOWN, 0)
    limits.take(epoch(1, 400.0, 100.0))
    assert limits.seconds() == TIMES * 500


def test_what_epochs_of_an_earlier_launch_took_says_nothing_of_this_machine() -> None:
    """They are sent again from the checkpoint, and may be of a GPU where this is a CPU."""
    limits = Limits(trial(), None, {}, 3)
    for number in (1, 2, 3):
        limits.take(epoch(number, 0.1, 0.1))
        assert limits.seconds() == UNKNOWN
    limits.take(epoch(4))
    assert limits.seconds() == TIMES * 150


def test_a_time_that_is_asked_for_holds_as_it_is() -> None:
    limits = Limits(trial(), 5.0, KNOWN, 0)
    assert limits.seconds() == 5
    limits.take(epoch(1))
    assert limits.seconds() == 5


def test_no_time_is_longer_than_a_clock_can_wait() -> None:
    """Whatever an epoch's line says that it took: with more, faulthandler raises."""
    assert Limits(trial(), None, dict.fromkeys(KNOWN, 1e30), 0).seconds() == LONGEST_EPOCH


def test_the_median_is_of_trials_whose_epochs_cost_the_same() -> None:
    same, other = (shape_of(identity(trial(**values).resolved())) for values in ({"seed": 1}, {"batch_size": 7}))
    assert same == shape_of(identity(trial(seed=2, optimizer={"lr": 0.3}).resolved())) != other
    paces = Paces()
    for seconds in (1.0, 2.0, 90.0):
        paces.add(same, epoch(1, seconds, None, preparing_seconds=4.0))
    paces.add(same, {"record": "dynamics", "epoch": 1, "seconds": 7.0})
    paces.add(same, {"record": "start"})
    assert paces.medians(same) == {"training": 6.0, "dynamics": 7.0}
    assert paces.medians(other) == {}


def test_an_epoch_of_other_data_of_the_same_kind_and_size_was_never_measured() -> None:
    """A second folder of images, which its first trial decodes; or other images beside a split's."""
    folders = [
        shape_of(identity(trial(data={"name": "image_folder", "root": "/r", **marks}).resolved()))
        for marks in (
            {"fingerprint": "a"},
            {"fingerprint": "b"},
            {"fingerprint": "a", "extra": "/x.npz", "extra_fingerprint": "c"},
            {"fingerprint": "a", "extra": "/x.npz", "extra_fingerprint": "d"},
        )
    ]
    assert len(set(folders)) == 4
    paces = Paces()
    paces.add(folders[0], epoch(1))
    assert Limits(trial(), None, paces.medians(folders[0]), 0).seconds() < UNKNOWN
    assert Limits(trial(), None, paces.medians(folders[1]), 0).seconds() == UNKNOWN


#: Two trials of one process; the second hangs, and gives Python's lock to nobody.
HANGS = """
import ctypes, sys, threading
from pathlib import Path
import small
from sweep.run.hung import Limits, watched

directory, known = Path(sys.argv[1]), dict(training=1.0, evaluation=1.0)
slow, sent = threading.Event(), []
def sends(message):
    slow.wait(3)  # longer than the limit: waiting for the launch is no hanging
    sent.append(message)

def first():
    with watched(directory, "a" * 12, Limits(small.tiny(), 30.0, known, 0), sent.append):
        threading.Event().wait()

threading.Thread(target=first, daemon=True).start()
with watched(directory, "b" * 12, Limits(small.tiny(), 1.5, known, 0), sends) as send:
    send({"record": "start"})
    print("started", flush=True)
    ctypes.PyDLL(None).sleep(100)
"""


def test_a_process_whose_trial_hangs_ends_though_it_gives_pythons_lock_to_nobody_and_says_where_it_stood(
    tmp_path: Path,
) -> None:
    shared = str(Path(small.__file__).parent)
    text = f"import sys; sys.path.append({shared!r})\n{HANGS}"
    done = subprocess.run([sys.executable, "-c", text, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (1, "started\n"), done.stderr
    assert hung(tmp_path, "a" * 12) is None
    assert hung(tmp_path, "b" * 12) == f"hung: no epoch ended within 1.5 s; where it stood: logs/{'b' * 12}.log"
    assert re.search(r'File "<string>", line \d+ in <module>', (tmp_path / "logs" / f"{'b' * 12}.log").read_text())
    assert hung(tmp_path, "b" * 12) is None  # told once
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [f"{'b' * 12}.log"]


def test_what_an_earlier_launch_left_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.hung").write_text("1\nTimeout (0:00:01)!\n")
    forget(tmp_path)
    assert hung(tmp_path, "x") is None
    forget(tmp_path / "nowhere")


def test_a_share_forgets_what_was_left_of_its_own_trials_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("0a", "0b"):
        (tmp_path / "logs" / f"{name}.hung").touch()
    forget(tmp_path, Share(1, 2))
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["0b.hung"]


def test_a_crash_is_written_to_the_trials_log_and_is_no_hanging(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.hung").write_text("600\nFatal Python error: Segmentation fault\n")
    assert hung(tmp_path, "x") is None
    assert (tmp_path / "logs" / "x.log").read_text() == "Fatal Python error: Segmentation fault\n"
