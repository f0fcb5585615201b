"""The folder of this machine that stands for a run in a store: a run directory as any other, with a mark in it.

A launch writes there, and what it writes is brought to the store (`sweep.storage.mirror`); a reader has brought there
what is new in the store. Records are objects NAME/LAUNCH.PART in the store, whose bytes one after another are those of
the file NAME here: an object cannot be appended to, and no launch writes to one of another's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sweep.storage.mark import MARK
from sweep.storage.objects import Address, Store, endpoint, patiently, store_at
from trainers.errors import UserError
from trainers.files import whole
from trainers.plain_file import bounded, plain

#: What of the store is in the folder.
_PULLED = ".pulled.json"
#: Locked by the one command of this machine that changes the folder; holds what that says of itself, if it is a launch.
_CLAIM = ".claim"
#: Files of a run that are brought as they are, and the folder of users' own code.
PLAIN = ("sweep.yaml", "environment.json")
CODE = "code"

_RECORDS = re.compile(r"records(\.\d+of\d+)?\.jsonl")

#: Bytes of the mark at most.
_LONGEST_MARK = 16_000

#: How long a reader waits for another that brings the same run, s.
_PATIENCE = 60.0


def base() -> Path:
    """Where the folders of runs in stores lie: ROBUSTSWEEP_CACHE, or robustsweep in the user's folder of caches."""
    own = os.environ.get("ROBUSTSWEEP_CACHE")
    usual = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(own).expanduser().absolute() if own else Path(usual).expanduser().absolute() / "robustsweep"


def folder(address: Address) -> Path:
    """That of a run; made, if need be, with its mark."""
    where = endpoint() if address.scheme == "s3" else None
    name = f"{address.bucket}-{address.key.replace('/', '-')}"[:60]
    path = base() / f"{name}-{hashlib.sha256(f'{where} {address}'.encode()).hexdigest()[:12]}"
    if not (path / MARK).exists():
        try:
            path.mkdir(parents=True, exist_ok=True)
            _write(path / MARK, {"address": str(address), "cache": secrets.token_hex(8)})
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written: {error.strerror}; {address} needs a folder of this machine: set "
                "ROBUSTSWEEP_CACHE to one"
            ) from None
    return path


def local(place: str) -> Path:
    """The run directory on this machine: of a run in a store its folder here, with users' own code in it.

    Args:
        place: what `named` gave, perhaps on another machine.
    """
    address = Address.of(place)
    if address is None:
        return Path(place)
    path = folder(address)
    _pull_code(path, store_at(address))
    return path


def named(directory: Path) -> str:
    """The run directory as every machine finds it: the address of a run in a store, else the absolute path."""
    return str(address_of(directory) or directory.absolute())


def shown(directory: Path) -> str:
    """The run directory as its user has typed it."""
    return str(address_of(directory) or directory)


def typed(directory: Path) -> str:
    """The same as a word of a command to type: with the quotes that a shell needs."""
    return shlex.quote(shown(directory))


def mark(directory: Path) -> dict[str, Any] | None:
    """What the folder of a run in a store says of itself; None: the directory is an ordinary one."""
    try:
        values = json.loads(bounded(directory / MARK, _LONGEST_MARK))
        if isinstance(values, dict) and all(isinstance(values.get(key), str) for key in ("address", "cache")):
            return values
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        pass
    raise UserError(f"{directory / MARK}: cannot be read; remove the folder: all of it is in the store")


def address_of(directory: Path) -> Address | None:
    """Of the run in a store that a folder stands for; None: it is an ordinary directory."""
    values = mark(directory)
    return None if values is None else Address.of(values["address"])


@contextmanager
def claimed(directory: Path, holder: str = "") -> Iterator[str | None]:
    """A block in which no other command of this machine changes the folder.

    Args:
        directory: of a run in a store.
        holder: what a launch says of itself; none: of a reader, which waits for other readers.

    Yields:
        None; or what the launch says of itself that has claimed it.

    Raises:
        UserError: another reader has not ended within `_PATIENCE`.
    """
    with open(directory / _CLAIM, "a+") as file:
        deadline = time.monotonic() + (_PATIENCE if not holder else 1.0)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                text = file.read(300)
                late = time.monotonic() > deadline
                if late and not (text or holder):
                    raise UserError(
                        f"{directory}: another command is still bringing the run here; give this one again"
                    ) from None
                if late or (text and not holder):
                    yield text or "a reader"
                    return
                time.sleep(0.05)
        file.truncate(0)
        file.write(holder)
        file.flush()
        try:
            yield None
        finally:
            file.truncate(0)


def bring(directory: Path) -> None:
    """Brings what is new in the store, for a reader; nothing where a launch of this machine runs, which is ahead of it.

    Args:
        directory: of a run; an ordinary one is as it is.

    Raises:
        UserError: the store refuses or stays away.
    """
    address = address_of(directory)
    if address is not None:
        with claimed(directory) as launch:
            if launch is None:
                pull(directory, store_at(address))


def pull(directory: Path, store: Store) -> None:
    """Makes the folder what the store is, but for records at a file's end that no store has: a killed launch's last.

    A run that was removed in the store is removed here.

    Args:
        directory: of the run, claimed by the caller.
        store: that the run lies in.

    Raises:
        UserError: the store refuses or stays away.
    """
    patiently(store, store.check)
    there = patiently(store, store.list)
    known = _read(directory / _PULLED)
    records = [name for name in there if _RECORDS.fullmatch(name)]
    if not records and any(map(_RECORDS.fullmatch, known)):
        clear(directory)
        known = {}
    for name in PLAIN:
        if name in there and (known.get(name) != [*there[name]] or not (directory / name).exists()):
            _put(directory / name, patiently(store, partial(store.read, name)))
            known[name] = [*there[name]]
    for name in records:
        known[name] = _pull_records(directory / name, store, known.get(name, []))
    if CODE in there:
        _pull_code(directory, store)
    if known:
        _write(directory / _PULLED, known)


def clear(directory: Path) -> None:
    """Removes all that is in the folder but its mark and claim."""
    for path in directory.iterdir():
        if path.name in (MARK, _CLAIM):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _pull_records(path: Path, store: Store, known: list[list[Any]]) -> list[list[Any]]:
    """One file of records; gives the names and stamps of its objects, whose bytes are its own from its first on."""
    there: list[list[Any]] = [
        [name, *stamp] for name, stamp in sorted(patiently(store, lambda: store.list(path.name)).items())
    ]
    own = path.read_bytes() if path.exists() else b""
    same = 0
    while same < min(len(there), len(known)) and there[same] == known[same]:
        same += 1
    if (start := sum(size for _, size, _ in there[:same])) > len(own):
        same = start = 0
    rest = [patiently(store, partial(store.read, f"{path.name}/{name}")) for name, *_ in there[same:]]
    theirs = own[:start] + b"".join(rest)
    if not own.startswith(theirs):
        _put(path, theirs)
    return there


def _pull_code(directory: Path, store: Store) -> None:
    for name in patiently(store, lambda: store.list(CODE)):
        if not (directory / CODE / name).exists():
            (directory / CODE).mkdir(exist_ok=True)
            _put(directory / CODE / name, patiently(store, partial(store.read, f"{CODE}/{name}")))


def pulled(directory: Path, name: str, objects: list[list[Any]]) -> None:
    """Notes that a file of records is these objects, each with its name and stamp: a launch has just written them."""
    _write(directory / _PULLED, {**_read(directory / _PULLED), name: objects})


def _put(path: Path, content: bytes) -> None:
    with whole(path) as part:
        part.write_bytes(content)


def _write(path: Path, values: Any) -> None:
    _put(path, json.dumps(values).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb", opener=plain) as file:
            values = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
