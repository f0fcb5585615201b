"""Shards prepared and checked from the command line: how far it is, and what came of it, in words."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep.run.screen import duration
from trainers.data import image_folder, shards, tiny_imagenet
from trainers.data.chunk import processes
from trainers.data.image_folder import Listing
from trainers.data.preparing import Asked, Told
from trainers.data.preparing import prepare as prepare_shards
from trainers.data.shards import Index, Made
from trainers.errors import UserError
from trainers.fields import bytes_text, plural

#: Between two lines of how far it is, s.
EVERY = 5.0
#: Damaged chunks that are named.
_NAMED = 5


def prepared(
    folder: Path, output: Path | None, size: int | None, count: int | None, say: Callable[[str], None]
) -> list[str]:
    """Writes shards of a folder of images, or goes on with them; gives what there is then, in words.

    Args:
        folder: of the images.
        output: to write to; none: beside the folder, named by it and the size.
        size: shorter side, pixels; none: images have one size.
        count: of processes; none: one a core.
        say: takes how far it is, a line at a time.

    Raises:
        UserError: images cannot be taken, there is no room, or something else lies where they are to be written.
    """
    folder = folder.expanduser().absolute()
    output = (output or folder.with_name(f"{folder.name}{f'-{size}' if size else ''}.shards")).expanduser().absolute()
    with _of_the_command():
        listed = _listed(folder)
        say(f"{folder}: {plural(len(listed.train), 'training image')}, {plural(len(listed.test), 'test image')}")
        asked = Asked(listed, size, True, command(folder, output, size))
        with processes(count) as pool:
            found = prepare_shards(asked, output, pool, _telling(say))
    return _lines(output, found)


def checked(folder: Path) -> list[str]:
    """Holds all shards against their hashes; gives what there is, in words.

    Raises:
        UserError: some are not what was written.
    """
    with _of_the_command():
        found = shards.index(folder)
        all_chunks = list(shards.damaged(folder))
        bad = [shards.described(folder, chunk) for chunk, is_damaged in all_chunks if is_damaged]
        if bad:
            more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
            raise UserError(
                f"{len(bad)} of {plural(len(all_chunks), 'chunk')} are not what was written: {'; '.join(bad[:_NAMED])}"
                f"{more}; copy them again, or mend them: {_mending(folder, found.made)}"
            )
    return [f"whole: {plural(len(all_chunks), 'chunk')} as they were written", *_lines(folder, found)]


def command(folder: Path, output: Path, size: int | None) -> str:
    """What prepares these shards, to be copied to a shell."""
    words = ["sweep", "data", "prepare", str(folder), "--output", str(output), *(["--size", str(size)] if size else [])]
    return shlex.join(words)


def _mending(folder: Path, made: Made) -> str:
    if made.image_size is None or made.cropped:
        return command(Path(made.folder), folder.absolute(), made.image_size)
    return f"remove {shlex.quote(str(folder))}, and a trial writes it again"


@contextmanager
def _of_the_command() -> Iterator[None]:
    """A block in which nothing is said of `data.root`, of which the command knows nothing."""
    try:
        yield
    except UserError as error:
        raise type(error).of(text.removeprefix("data.root: ") for text in (str(error), *error.others)) from None


def _listed(folder: Path) -> Listing:
    annotated = (folder / "val" / "val_annotations.txt").exists()
    return tiny_imagenet.listing(folder) if annotated else image_folder.listing(folder)


def _telling(say: Callable[[str], None]) -> Callable[[Told], None]:
    began = last = time.monotonic()

    def tell(told: Told) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < EVERY and told.images < told.of:
            return
        last = now
        rate = (told.images - told.kept) / max(now - began, 1e-9)
        left = f", {duration((told.of - told.images) / rate)} left" if rate and told.images < told.of else ""
        before = f", {told.kept:,} of them there from before" if told.kept else ""
        say(f"  {told.images:,} of {told.of:,} images{before}; {rate:,.0f} decoded a second{left}")

    return tell


def _lines(folder: Path, found: Index) -> list[str]:
    size = sum((folder / f"{split}_images.npy").stat().st_size for split in shards.SPLITS)
    classes = f"{len(found.classes):,} class{'' if len(found.classes) == 1 else 'es'}"
    lines = [
        f"{folder}: {found.fingerprint}, {found.train.images:,} training and {found.test.images:,} test images of "
        f"{classes}, {found.height} x {found.width} pixels, {bytes_text(size)}",
        f"  resized: {found.made.resize}",
    ]
    if found.made.test != "test":
        lines.append(f"  {found.made.test}/ is the test set, as there is no test/ with classes in it")
    return [*lines, f"  train on it: --set trial.data.name=shards --set trial.data.root={shlex.quote(str(folder))}"]
