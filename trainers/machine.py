"""Which machine a process runs on, and whether another process of that machine still lives."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import socket
from pathlib import Path

#: Of the fields behind a process's name in /proc/PID/stat: its state, and when it started.
_STATE, _START = 0, 19

#: States of a process that has ended.
_ENDED = ("Z", "X")


@functools.cache
def machine() -> str:
    """16 hex digits, the same in two processes only if each sees the other's number: one boot, one space of numbers.

    Two containers of one host have two, also where their host names are equal. Where the system does not tell, each
    process has its own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        numbers = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return secrets.token_hex(8)
    return hashlib.sha256(f"{socket.gethostname()} {boot} {numbers}".encode()).hexdigest()[:16]


def started(process: int) -> int | None:
    """When a process of this machine started, in the system's own count; None: it has ended, or none is known."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in _ENDED else int(fields[_START])
