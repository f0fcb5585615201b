"""Files that are nothing but files: no pipe that waits for ever, no device without end, no link into another folder."""

from __future__ import annotations

import errno
import os
import select
import stat
from contextlib import suppress
from pathlib import Path

#: How long a pipe may say nothing before it is given up, s.
PATIENCE = 10.0


def plain(path: str, flags: int) -> int:
    """An `opener` of `open` for a file of a run: never waits, as a pipe would, and writes into no other file.

    A folder that is a link is followed, as one that lies on other storage is; the file itself must be none to be
    written to, nor have a second name: what is appended to it, or cut off, would be another's.

    Raises:
        OSError: it is a pipe, a device, a folder, or for writing a link.
    """
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
    if writes and os.path.islink(path):
        raise OSError(errno.ELOOP, "is a symbolic link, and is written to in place; put the file itself there", path)
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | (os.O_NOFOLLOW if writes else 0), 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, a socket
            raise OSError(errno.EINVAL, "is not a regular file", path) from None
        raise
    status = os.fstat(descriptor)
    why = "" if stat.S_ISREG(status.st_mode) else "is not a regular file"
    why = os.strerror(errno.EISDIR) if stat.S_ISDIR(status.st_mode) else why
    if writes and not why and status.st_nlink > 1:
        why = "is a hard link, and is written to in place; make it a copy"
    if why:
        os.close(descriptor)
        raise OSError(errno.EINVAL, why, path)
    return descriptor


def bounded(path: Path, most: int) -> bytes:
    """What a file holds, or a pipe that ends.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, has more, or nothing comes within `PATIENCE`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        content = bytearray()
        while len(content) <= most:
            if not select.select([descriptor], [], [], PATIENCE)[0]:
                raise OSError(errno.ETIMEDOUT, f"nothing came within {PATIENCE:g} s", str(path))
            with suppress(BlockingIOError):
                if not (part := os.read(descriptor, 1 << 16)):
                    return bytes(content)
                content += part
    finally:
        os.close(descriptor)
    raise OSError(errno.EFBIG, f"is longer than {most:,} bytes", str(path))


def is_plain(path: Path) -> bool:
    """Whether a file may take the place of what is there: nothing, or a file, and no device, pipe, folder or link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True
