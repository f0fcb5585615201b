"""What the process of a trial says of its beginning, to one that has not loaded torch."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import tiny

from trainers.errors import UserError
from trainers.outcome import outcome_of, start_of


def test_who_is_told_that_a_trial_starts_need_not_load_torch() -> None:
    """Its version is a string of a class of torch's own: to unpickle that took the launch a second and a half."""
    said = pickle.dumps(start_of("0123456789ab", tiny(), torch.device("cpu")))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)['arithmetic']['torch'], 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], input=said, capture_output=True, check=True)
    assert told.stdout.decode().split() == [torch.__version__, "False"]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("401 of https://me:PLANTED-0123@host/x"),
        ValueError("got PLANTED-0123"),
        UserError("data.root: PLANTED-0123 is no folder"),
        OSError(errno.ENOMEM, "PLANTED-0123"),
    ],
)
def test_no_secret_that_an_error_names_is_written_down(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_OWN_SECRET", "PLANTED-0123")
    reason = outcome_of("0123456789ab", error, tmp_path / "logs" / "0123456789ab.log").reason
    written = [path.read_text() for path in (tmp_path / "logs").glob("*")]
    assert all("***" in text and "PLANTED" not in text for text in (reason, *written))


def test_an_error_that_names_a_path_whose_bytes_are_no_utf8_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "0123456789ab.log"
    assert outcome_of("0123456789ab", ValueError("a\udce9"), log).reason.endswith("(logs/0123456789ab.log)")
    assert "ValueError: a\\udce9" in log.read_text(encoding="utf-8")
