"""What the launch makes of the death of the process that trains, without one: its words and its end are stated."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.run import bound
from sweep.run.child import Child
from sweep.run.trial import RESTARTS


@pytest.mark.parametrize(
    ("kills", "out_of_memory"),
    [
        ({-3600: 1}, False),  # before the trial began
        ({100: 1}, False),  # another process, a hundred turns before this one died
        ({990: 1}, True),  # just now; what it held was freed first
        ({100: 1, 995: 2}, True),
    ],
)
def test_a_process_that_is_killed_is_out_of_memory_only_where_the_system_has_just_killed_one_for_that(
    kills: dict[int, int], out_of_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, died = [0], list[str]()

    def counted() -> int:
        return max((count for turn, count in kills.items() if turn <= turns[0]), default=0)

    monkeypatch.setattr(bound, "system_kills", counted)
    monkeypatch.setattr(bound, "time", SimpleNamespace(monotonic=lambda: 0.25 * turns[0]))

    def poll(seconds: float) -> bool:
        turns[0] += 1
        return turns[0] >= 1000

    def recv() -> Any:
        raise EOFError

    child: Any = object.__new__(Child)
    child._trains, child._start, child._end = False, lambda: None, lambda: -signal.SIGKILL
    child._socket = SimpleNamespace(send=lambda words: None, poll=poll, recv=recv)
    end = child.train({}, lambda message: None, lambda: None, died=died.append)
    if out_of_memory:
        assert (end, died) == (("out_of_memory", "the system killed its process for want of memory"), [])
    else:
        assert end == ("failed", f"its process died {RESTARTS + 1} times: signal SIGKILL")
        assert died == ["signal SIGKILL"] * (RESTARTS + 1)
