"""The links of a registered run's records hold, whatever came between."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from analysis.claims.registration import FILE
from analysis.frames.chain import checked
from trainers import files
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, OutcomeRecord, read
from trainers.record.linked import CHAIN, LinkedFile

FullDisk = Callable[..., AbstractContextManager[None]]

LAUNCH = {"time": 0.0, "size": 0, "wanted": []}


def test_a_run_without_a_registration_has_no_link(tmp_path: Path) -> None:
    file = LinkedFile(tmp_path)
    file.append("launch", LAUNCH)
    file.close()
    assert read(tmp_path) == [{"record": "launch", **LAUNCH}]


def test_links_hold_over_a_full_disk_and_over_a_relaunch(
    tmp_path: Path, full_disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.0)
    (tmp_path / FILE).write_text("{}")
    file = LinkedFile(tmp_path)
    file.append("launch", LAUNCH)
    size = (tmp_path / RECORDS_FILE).stat().st_size
    with full_disk(after=size + 40), pytest.raises(UserError):
        file.append("outcome", OutcomeRecord("a", "failed", "", 0))
    file.append("outcome", OutcomeRecord("b", "failed", "", 0))
    file.close()
    again = LinkedFile(tmp_path)
    again.append("launch", LAUNCH)
    again.append("note", {"trial_id": "a", "note": "odd", "tags": [], "untags": [], "time": 1.0})
    again.close()
    found = checked(tmp_path / RECORDS_FILE)
    assert (found.links, found.broken, found.unlinked, found.damaged, found.lines) == (4, 0, (), (), 5)
    assert [CHAIN in one for one in read(tmp_path)] == [True, True, True, True, False]
