"""What the tests of shards start from: a few pictures prepared in small chunks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainers.data import image_folder
from trainers.data.preparing import Asked
from trainers.errors import UserError

#: Height and width of the images in pixels, and the command that is said to have prepared them.
SIZE = 16
COMMAND = "sweep data prepare FOLDER"
#: Bytes of 10 images.
CHUNK = 10 * 3 * SIZE * SIZE


def asked(root: Path, size: int | None = SIZE, cropped: bool = True) -> Asked:
    return Asked(image_folder.listing(root), size, cropped, COMMAND)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        act()
    lines = [str(error.value), *error.value.others]
    assert not any("\n" in line for line in lines)
    return "\n".join(lines)
