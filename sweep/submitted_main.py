"""What `python DIR/code/robustsweep-HASH` runs: the command `sweep`, of the code in that folder, if it is whole.

A copy of this file is that folder's `__main__.py`. It stands by itself, so that what is damaged is never imported.
"""

from __future__ import annotations

import hashlib
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

#: How the folder is called that holds code, before its hash.
NAME = "robustsweep-"


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder but for what Python keeps beside the code, and hidden ones, as an NFS makes them."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith(".") and name[-4:] != ".pyc")


def hash_of(folder: Path) -> str:
    """12 hex digits of the SHA-256 of the files' names and content."""
    digest = hashlib.sha256()
    for path in sorted(files(folder)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def damage(folder: Path) -> str:
    """Why the folder is not what was put there, in one line; empty: it is."""
    try:
        whole = folder.name == f"{NAME}{hash_of(folder)}"
    except OSError as error:
        return f"{error.filename}: a file of the submitted code cannot be read: {error.strerror}; submit anew"
    if whole:
        return ""
    return (
        f"{folder}: the code in it is not what was submitted: files were changed, added or lost; delete the folder and "
        "submit anew"
    )


def main() -> None:
    """Refuses damaged code in one line, with exit code 2; or runs the command."""
    folder = Path(__file__).absolute().parent
    sys.path[0] = str(folder)  # Python has put it there as it was typed, and processes start in other folders
    if why := damage(folder):
        sys.stderr.write(f"sweep: {why}\n")
        raise SystemExit(2)
    runpy.run_module("sweep", run_name="__main__")


if __name__ == "__main__":
    main()
