"""What was submitted: the code and the config that a job runs, hours later too, kept in its run directory.

    DIR/code/robustsweep-HASH/     the packages trainers, analysis and sweep as they were, and the commit they were at
    DIR/code/submitted-HASH.yaml   the config, with every --set in it, every default, and every path absolute
    DIR/code/HASH.zip              the user's own code, which that config names by its hash

`submit` writes these and gives the words of the command that launches from them; `following` gives those of one that
takes code and config as they are when it runs. Both are absolute, and mean the same from any folder.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sweep import submitted_main
from sweep.config import SweepConfig
from sweep.config_file import dump, submitted_name
from sweep.own_code import sources
from sweep.run.directory import refuse_other_sweep, write_whole
from trainers.errors import UserError
from trainers.files import ABANDONED
from trainers.own import snapshot
from trainers.own.source import OURS
from trainers.provenance import SUBMITTED, commit

#: Bytes of our packages together, at most: a snapshot is of code.
_MOST = 20 * 2**20


def submit(config: SweepConfig, directory: Path) -> list[str]:
    """Keeps the code of this process, the user's own, and the config in the run's directory, made if need be.

    Args:
        config: the sweep, checked.
        directory: of the run.

    Returns:
        The words of the launch of what was kept: Python, the code's folder, `launch`, the config, `--out`, the
        directory; further options of `sweep launch` may follow.

    Raises:
        UserError: the directory holds another sweep or a damaged snapshot, or the code cannot be kept.
        OSError: it cannot be written.
    """
    refuse_other_sweep(directory, config)
    folder = directory.absolute() / snapshot.FOLDER
    own = sources(config)
    folder.mkdir(parents=True, exist_ok=True)
    for source in own.values():
        snapshot.keep(source, folder)
    program = keep_code(folder)
    codes = {"code": {name: source.hash for name, source in own.items()}, "code_folder": "."} if own else {}
    path = _keep_config(dump(config.model_copy(update=codes)), folder)
    return [sys.executable, str(program), *_launch(path, directory)]


def following(path: Path, overrides: Sequence[str], directory: Path) -> list[str]:
    """The words of a launch that takes the code and the config as they are when it runs.

    Args:
        path: of the config.
        overrides: KEY=VALUE, as after --set.
        directory: of the run.
    """
    sets = [word for override in overrides for word in ("--set", override)]
    return [sys.executable, "-P", "-m", "sweep", *_launch(path.absolute(), directory), *sets]


def _launch(path: Path, directory: Path) -> list[str]:
    return ["launch", str(path), "--out", str(directory.absolute())]


def _keep_config(text: str, folder: Path) -> Path:
    path = folder / submitted_name(text)
    write_whole(path, text)
    return path


def keep_code(folder: Path) -> Path:
    """Keeps the code of this process in the folder, unless it is there: as a folder by its hash, which is returned.

    Raises:
        UserError: what is there by that hash is damaged, or this code is no files in a folder.
        OSError: it cannot be written.
    """
    _remove_left_over(folder)
    part = folder / f".{submitted_main.NAME}{secrets.token_hex(4)}.part"
    try:
        _copy(part)
        place = folder / f"{submitted_main.NAME}{submitted_main.hash_of(part)}"
        try:
            part.rename(place)
        except OSError:
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if why := submitted_main.damage(place):
        raise UserError(why)
    return place


def _remove_left_over(folder: Path) -> None:
    """Removes copies that killed submissions left half made; one that is being made now is younger."""
    for part in folder.glob(f".{submitted_main.NAME}*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED:
                shutil.rmtree(part, ignore_errors=True)


def _copy(part: Path) -> None:
    ours, size = Path(__file__).resolve().parents[1], 0
    for name in sorted(OURS):
        for file in submitted_main.files(ours / name):
            place = part / file.relative_to(ours)
            place.parent.mkdir(parents=True, exist_ok=True)
            if (size := size + file.stat().st_size) > _MOST:
                raise UserError(
                    f"{ours / name}: robustsweep's code, which is kept for the job, has over {_MOST / 2**20:.0f} MiB; "
                    "move what is no code of it elsewhere"
                )
            shutil.copyfile(file, place)
    if not (part / "sweep" / "cli.py").exists():
        raise UserError(f"{ours}: robustsweep lies there as no files that could be kept; --follow-code keeps none")
    at, dirty = commit()
    (part / SUBMITTED).write_text(json.dumps({"commit": at, "dirty": dirty}) + "\n")
    shutil.copyfile(submitted_main.__file__, part / "__main__.py")
    for file in submitted_main.files(part):
        file.chmod(file.stat().st_mode & 0o444)  # lest an editor that opens a traceback's file changes it
