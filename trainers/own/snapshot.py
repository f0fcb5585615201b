"""A user's own code as one zip by its hash, and what is imported from it: that, and nothing beside it.

A module of a snapshot is imported under a name of its own, `own_HASH.MODULE`, and so hides nothing and is hidden by
nothing; what it imports is taken from the same snapshot where that has it. So two states of one package can be in one
process, as where trials of both are evaluated.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from trainers.errors import UserError, suggestion
from trainers.files import write
from trainers.own.reference import Reference, parse
from trainers.own.source import Source, hash_of, is_taken, source_of

#: Of the folder of a run directory that holds its snapshots.
FOLDER = "code"

#: A day that zips can hold, so that the same files make the same bytes.
_DAY = (1980, 1, 1, 0, 0, 0)

_folders: list[Path] = []


def look_in(folder: Path) -> None:
    """Snapshots are looked for in this folder from now on, by this process: first of all."""
    place = folder.absolute()
    if _folders[:1] != [place]:
        _folders[:] = [place, *(other for other in _folders if other != place)]


def keep(source: Source, folder: Path) -> None:
    """Writes a source's zip into the folder, made if need be, unless it is there, or is an installed package's."""
    path = folder / f"{source.hash}.zip"
    if not source.files or path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)

    def zipped(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            for place, content in sorted(source.files.items()):
                file.writestr(zipfile.ZipInfo(place, _DAY), content)

    write(path, zipped)


def kept(code: str, path: Path) -> Source:
    """The source whose zip that is.

    Raises:
        UserError: the zip is damaged.
    """
    files = _files(path)
    if hash_of(files) != code:
        raise UserError(f"{path}: is not what was put there; another program changed it: launch into another --out")
    return Source(code, path, files)


def load(name: str, code: str | None, key: str = "name") -> Any:
    """The user's own code of that name, as it was when it had that hash.

    Args:
        name: PACKAGE.MODULE:NAME or ./FILE.py:NAME.
        code: the hash of its source, or the library that it is of.
        key: the config's key, for errors.

    Raises:
        UserError: no folder has that snapshot, or its module no such name; and whatever the module raises.
    """
    if code is None:
        raise UserError(f"{key}: {name}: has no snapshot, as it was planned by no sweep; `sweep launch` makes one")
    reference = parse(name)
    module = _module(reference, code, name, key)
    try:
        return getattr(module, reference.name)
    except AttributeError:
        known = [word for word in vars(module) if not word.startswith("_")]
        raise UserError(
            f"{key}: {reference.canonical}: its module has no {reference.name!r}; {suggestion(reference.name, known)}"
        ) from None


def _module(reference: Reference, code: str, name: str, key: str) -> ModuleType:
    if is_taken(code):
        return importlib.import_module(reference.module)
    path = next((path for folder in _folders if (path := folder / f"{code}.zip").is_file()), None)
    if path is not None:
        _register(code, path)
        return importlib.import_module(f"{_alias(code)}.{reference.module}")
    if reference.file is None and _hash_installed(name) == code:
        return importlib.import_module(reference.module)
    looked = ", ".join(map(str, _folders)) or "nowhere"
    raise UserError(
        f"{key}: {name}: its source {code} is no snapshot of the run (looked in {looked}), nor what is installed; "
        "train it again"
    )


@functools.cache
def _hash_installed(name: str) -> str | None:
    try:
        source = source_of(name)
    except UserError:
        return None
    return None if source.files else source.hash


def _alias(code: str) -> str:
    return f"own_{code}"


def _register(code: str, path: Path) -> None:
    """From now on `own_CODE.MODULE` can be imported."""
    if not any(isinstance(finder, _Snapshot) and finder.alias == _alias(code) for finder in sys.meta_path):
        sys.meta_path.append(_Snapshot(code, path))


class _Snapshot(MetaPathFinder, InspectLoader):
    """Finds and loads the modules of one snapshot, held in memory: who deletes the zip changes nothing."""

    def __init__(self, code: str, path: Path) -> None:
        self.alias, self._path = _alias(code), path
        self._files = kept(code, path).files
        tops = {place.split("/")[0].removesuffix(".py") for place in self._files}
        self._tops = {top for top in tops if not is_taken(top)}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module of the snapshot, a package of it, or the one that stands for all of it."""
        if fullname != self.alias and not fullname.startswith(f"{self.alias}."):
            return None
        place = self._place(fullname)
        inside = "/".join(fullname.split(".")[1:])
        if place is None and not (fullname == self.alias or any(one.startswith(f"{inside}/") for one in self._files)):
            return None
        where, package = self.get_filename(fullname), self.is_package(fullname)
        spec = importlib.util.spec_from_loader(fullname, self, origin=where, is_package=package)
        if spec is not None:
            spec.has_location = True
        return spec

    def _place(self, fullname: str) -> str | None:
        inside = "/".join(fullname.split(".")[1:])
        return next((place for place in (f"{inside}/__init__.py", f"{inside}.py") if place in self._files), None)

    def is_package(self, fullname: str) -> bool:
        """Whether it is a folder: one without __init__.py too."""
        place = self._place(fullname)
        return place is None or place.endswith("/__init__.py")

    def get_filename(self, fullname: str) -> str:
        """Where a traceback says that the code stands: within the zip."""
        return f"{self._path}/{self._place(fullname) or fullname}"

    def get_source(self, fullname: str) -> str:
        """Its text."""
        place = self._place(fullname)
        return "" if place is None else importlib.util.decode_source(self._files[place])

    def get_code(self, fullname: str) -> CodeType:
        """Its text, compiled."""
        return self.source_to_code(self.get_source(fullname), self.get_filename(fullname))

    def exec_module(self, module: ModuleType) -> None:
        """Runs it; its import statements ask the snapshot first."""
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        super().exec_module(module)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or top not in self._tops:
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = builtins.__import__(f"{self.alias}.{name}", globals, locals, fromlist or ("__name__",), 0)
        return module if fromlist else sys.modules[f"{self.alias}.{top}"]


def _files(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as file:
            return {place: file.read(place) for place in file.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: unreadable snapshot ({type(error).__name__}); launch into another --out") from None
