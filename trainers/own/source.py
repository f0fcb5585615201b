"""Which files belong to a user's own code: found by reading them, and never by running any of them."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from trainers.errors import UserError
from trainers.own.reference import Reference, parse

#: Packages of ours, which a user's own code may use and cannot stand in for.
OURS = frozenset({"trainers", "analysis", "sweep"})
#: Those that we stand on: an import of one means the library, whatever lies in the working folder.
LIBRARIES = frozenset(
    {"click", "curvlinops", "matplotlib", "numpy", "optuna", "pandas", "PIL", "pyarrow", "pydantic", "yaml", "ray"}
    | {"rich", "sklearn", "scipy", "statsmodels", "torch", "torchvision"}
)
_TAKEN = OURS | LIBRARIES | sys.stdlib_module_names

#: Bytes of the user's files together, at most: a snapshot is of code.
_MOST = 20 * 2**20


class Source(NamedTuple):
    """The files of a user's own code.

    Attributes:
        hash: of all of them; of a library that this package stands on, that library's name.
        root: the folder that they are imported from.
        files: paths below it, with / between folders, and their content; none of an installed package.
        notes: what of their imports means something else than one may think, in words.
    """

    hash: str
    root: Path
    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()


def source_of(name: str, folder: Path | None = None, key: str = "name") -> Source:
    """The source of the user's own code of that name.

    A file is looked for beside the config, then in the working folder; a package in the working folder, beside the
    config, and among what is installed. To a source belong its module, and every module that it imports, in turn, from
    the folder that it was found in; of an installed package, those of that package.

    Args:
        name: PACKAGE.MODULE:NAME or ./FILE.py:NAME.
        folder: of the config; None: the working folder.
        key: the config's key, for errors.

    Raises:
        UserError: there is none, one of its files is no Python, or it is called like a package of ours or a library.
    """
    reference, folders = parse(name), list(dict.fromkeys([Path.cwd(), *([folder.absolute()] if folder else [])]))
    if reference.file is not None:
        root = _folder_of(reference.file, folders[::-1], key)
        return _read(root, reference, key)
    top = reference.module.partition(".")[0]
    if top in _TAKEN:
        return _library(reference, top, folders, key)
    for root in folders:
        if _module(root, reference.module) is not None:
            return _read(root, reference, key)
    return _installed(reference, top, folders, key)


def hash_of(files: Mapping[str, bytes]) -> str:
    """12 hex digits of the SHA-256 of the files' names and content."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(f"{path}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()[:12]


def is_taken(module: str) -> bool:
    """Whether a dotted name is one of ours, of a library of ours or of Python's."""
    return module.partition(".")[0] in _TAKEN


def _folder_of(file: str, folders: Sequence[Path], key: str) -> Path:
    for folder in folders:
        path = folder / Path(file).expanduser()
        if path.is_file():
            return path.resolve().parent
    looked = " and in ".join(dict.fromkeys(map(str, folders)))
    raise UserError(f"{key}: {file}: no such file, looked for in {looked}; mend the path, or give an absolute one")


def _library(reference: Reference, top: str, folders: Sequence[Path], key: str) -> Source:
    """A name under that of a library: the library's, which is not hashed, as its version is in no trial's id."""
    for folder in folders:
        there = next((place for place in (folder / f"{top}.py", folder / top) if _holds(place, reference)), None)
        if top in OURS or there is not None:
            whose = "this package's own" if top in OURS else "a library's or Python's"
            where = f"; {there} is not imported" if there is not None else ""
            raise UserError(f"{key}: {reference.module}: the name {top} is {whose}{where}; rename yours")
    if find_spec(top) is None:
        raise UserError(f"{key}: {reference.module}: {top} is not installed; install it")
    return Source(top, Path(), {})


def _holds(place: Path, reference: Reference) -> bool:
    """Whether a module of the user's is meant: it stands there, and is not where the library itself is installed."""
    if place.suffix == ".py":
        return place.is_file() and "." not in reference.module
    return _module(place.parent, reference.module) is not None and place.parent not in _site_packages()


def _installed(reference: Reference, top: str, folders: Sequence[Path], key: str) -> Source:
    spec = find_spec(top)
    places = [Path(place).parent for place in (spec.submodule_search_locations or ()) if place] if spec else []
    if spec is not None and not places and spec.origin:
        places = [Path(spec.origin).parent]
    for root in places:
        if _module(root, reference.module) is not None:
            whole = _read(root, reference, key, within=top if root.resolve() in _site_packages() else None)
            return whole._replace(files={}) if root.resolve() in _site_packages() else whole
    looked = ", ".join(map(str, folders))
    raise UserError(
        f"{key}: {reference.module}: no such module in {looked}, and none is installed; mend the name, start the "
        "command in the folder that holds the package, or give the file, ./FILE.py:NAME"
    )


def _site_packages() -> set[Path]:
    return {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}


def _module(root: Path, module: str) -> Path | None:
    """The file of a dotted module below a folder."""
    place = root.joinpath(*module.split("."))
    return next((file for file in (place / "__init__.py", place.with_name(f"{place.name}.py")) if file.is_file()), None)


def _read(root: Path, reference: Reference, key: str, within: str | None = None) -> Source:
    """The closure of a module's imports among the modules below a folder, or within one package there."""
    files, notes, left = dict[str, bytes](), dict[str, str](), [reference.module]
    seen = set(left)
    while left:
        module = left.pop()
        for file in _with_packages(root, module):
            place = file.relative_to(root).as_posix()
            if place in files:
                continue
            files[place] = _content(file, key)
            if sum(map(len, files.values())) > _MOST:
                raise UserError(f"{key}: {reference.module} imports over {_MOST / 2**20:.0f} MiB of modules in {root}")
            for line, wanted in _imports(file, place, files[place], key):
                top = wanted.partition(".")[0]
                if within is not None and top != within:
                    continue
                if top in _TAKEN:
                    if (hidden := _module(root, top)) is not None and within is None:
                        notes.setdefault(top, f"{file}:{line} imports {top}: that is the library, and not {hidden}")
                    continue
                if wanted not in seen:
                    seen.add(wanted)
                    left.append(wanted)
    return Source(hash_of(files), root, files, tuple(notes.values()))


def _with_packages(root: Path, module: str) -> Iterator[Path]:
    """The files of a module and of the packages that it is in; none where there is no such module."""
    parts = module.split(".")
    for n in range(1, len(parts)):
        if (file := root.joinpath(*parts[:n], "__init__.py")).is_file():
            yield file
    if (own := _module(root, module)) is not None:
        yield own


def _content(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{key}: {file}: cannot be read: {error.strerror}; mend that") from None


def _imports(file: Path, place: str, content: bytes, key: str) -> Iterator[tuple[int, str]]:
    """The dotted names that a file imports, inside functions too, each with its line."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{file}:{line}" if line else str(file)
        raise UserError(f"{key}: {where}: {type(error).__name__}: {getattr(error, 'msg', error)}") from None
    package = place.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield from ((node.lineno, name) for name in (base, *(f"{base}.{alias.name}" for alias in node.names)))
