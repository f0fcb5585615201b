"""A file of `torch.save` that ends with a hash of itself: who reads it knows that every byte is the one written.

Such a file is a zip archive, and the last that one holds is a comment: two bytes that say how long it is, and its text,
which torch and all programs for archives pass over. Here the text is `sha256:` and the hash of the archive without it.
The archive's own checksums would not do: torch does not look at them, and names and places have none.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from trainers.memory import is_out_of_memory

#: Key of what is written which says that a hash belongs at the file's end: none can be cut off unseen.
HASH = "hash"

_NAME = "sha256"

#: How an archive without a comment ends: the comment has no bytes.
_NO_COMMENT = b"\0\0"

#: Bytes of the comment's text, of one byte a character.
_TEXT = len(f"{_NAME}:") + 2 * hashlib.sha256().digest_size


class Refused(Exception):
    """A file that is there and is not what it must be; says in some words what is wrong with it."""


class _Hashed(io.BytesIO):
    """Passes on to a file, if there is one, what is written; counts its bytes and hashes them."""

    def __init__(self, file: IO[bytes] | None) -> None:
        super().__init__()
        self._file, self.hash, self.length = file, hashlib.sha256(), 0

    def write(self, content: Any, /) -> int:
        self.length += len(content)
        if self._file is not None:
            self.hash.update(content)
            self._file.write(content)
        return len(content)


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes it as `torch.save` does, and the hash behind it; it is on the disk when the call returns.

    Raises:
        OSError, RuntimeError: it cannot be written; torch's RuntimeError has the OSError as its context.
    """
    with path.open("wb") as file:
        hashed = _Hashed(file)
        torch.save({HASH: _NAME, **content}, hashed)
        file.seek(-len(_NO_COMMENT), os.SEEK_END)
        file.write(_comment(hashed.hash.hexdigest()))
        file.flush()
        os.fsync(file.fileno())


def length(content: Mapping[str, Any]) -> int:
    """Bytes of a file of this content."""
    counted = _Hashed(None)
    torch.save({HASH: _NAME, **content}, counted)
    return counted.length + _TEXT


def read(path: Path, *, unhashed: bool = False) -> Any:
    """What the file holds, its tensors on the CPU; nothing in it is run (weights_only).

    Args:
        path: of the file.
        unhashed: whether one without a hash, of older code or others, will do; its own checksums must be right.

    Raises:
        Refused: a byte of it is not the one that was written, or it is no file of `torch.save`.
        OSError: it cannot be read.
    """
    content = _bytes(path)
    hashed = _has_comment(content)
    if hashed and not content.endswith(_comment(_hash(content))):
        raise Refused(f"is damaged: its bytes are not those that were written ({_NAME})")
    if not hashed and not unhashed:
        raise Refused(f"is damaged, or of older code: it has no hash ({_NAME}) at its end")
    _check_archive(content, checksums=not hashed)
    state = loaded(io.BytesIO(content))
    if not hashed and isinstance(state, Mapping) and HASH in state:
        raise Refused(f"is damaged: it has lost the hash ({_NAME}) at its end")
    return state


def loaded(file: io.BytesIO | Path) -> Any:
    """What `torch.load` makes of it, on the CPU, with weights_only; of a path mapped, not read.

    Raises:
        Refused: torch does not read it.
        OSError: the path cannot be opened.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=isinstance(file, Path))
    except Exception as error:  # torch has no exception of its own for a damaged file: it raises what comes first
        if is_out_of_memory(error) or (isinstance(error, OSError) and isinstance(file, Path)):
            raise
        raise Refused(
            f"is damaged, or no checkpoint: torch.load does not read it with weights_only=True ({type(error).__name__})"
        ) from None


def _bytes(path: Path) -> bytes:
    """Of a regular file: a pipe would make its reader wait, and a device has no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is no file")
    return path.read_bytes()


def _comment(hexdigest: str) -> bytes:
    text = f"{_NAME}:{hexdigest}".encode()
    return len(text).to_bytes(2, "little") + text


def _has_comment(content: bytes) -> bool:
    return content[-_TEXT:].startswith(f"{_NAME}:".encode())


def _hash(content: bytes) -> str:
    """Of the archive without its comment."""
    digest = hashlib.sha256(memoryview(content)[: -_TEXT - len(_NO_COMMENT)])
    digest.update(_NO_COMMENT)
    return digest.hexdigest()


def _check_archive(content: bytes, *, checksums: bool) -> None:
    """It is an archive whose parts are stored as they are and are together no longer than the file, so that a small
    file does not fill the memory; and, where told, are right by its own checksums.

    Raises:
        Refused: it is not.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            fits = stored and sum(part.file_size for part in parts) <= len(content)
            wrong = "its table of contents" if not fits else archive.testzip() if checksums else None
    except Exception as error:  # of a damaged archive the standard library raises many
        if is_out_of_memory(error):
            raise
        raise Refused(f"is damaged, or no checkpoint: it is no whole archive ({type(error).__name__})") from None
    if wrong is not None:
        raise Refused(f"is damaged, or no checkpoint: {wrong} in it is not as it was written")
