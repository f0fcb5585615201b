"""What figures and tables were made from, written beside them, and whether they would come out the same again."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

from analysis.frames.pruned import PRUNED, number_pruned
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import OWN, PUBLISHED, Data, Product
from trainers.errors import UserError
from trainers.files import whole
from trainers.record import record_files

MANIFEST_FILE = "manifest.json"

#: Packages on which a number may depend, or a picture.
PACKAGES = ("matplotlib", "numpy", "optuna", "pandas", "scikit-learn", "scipy", "statsmodels")

SAME = "same"

#: A number that has digits behind its point, or an exponent; what numbers so written may differ by, relative, and what
#: is as little as 0.
_FRACTION = re.compile(r"((?<![\w.])-?\d+(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)(?![\w.]))")
_LAST, _NOTHING = 1e-6, 1e-9


def described(data: Data, directory: Path | None, made: Iterable[Product], page: Page = PAGE) -> dict[str, Any]:
    """The manifest of figures and tables.

    Args:
        data: what they were made from.
        directory: the run whose data these are; none: the published study alone.
        made: the figures and tables, pictures aside.
        page: for what pictures are drawn.

    Returns:
        metric, chosen_by, code_version (of `analysis`), versions, sources (study to its file, sha256, trials, the
        completed ones, trials_sha256, of their ids, and pruned, how many are left out as such), figures (name to its
        files, each with its sha256), trials (name to how many trials the figure or table is made of, and
        trials_sha256, of their ids), captions (name to what a reader has to know of it) and page (width in cm, null: as
        wide as suits; font_size in points; names in the data to those in pictures and captions).
    """
    products = list(made)
    return {
        "metric": data.metric,
        "chosen_by": data.chosen_by._asdict(),
        "code_version": code_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "sources": {study.study: _source(study, directory) for study in (data, data.beside) if study is not None},
        "figures": {one.name: {file: _sha256(text.encode()) for file, text in one.texts.items()} for one in products},
        "trials": {one.name: _ids(one.trials) for one in products},
        "captions": {one.name: page.named(one.caption) for one in products},
        "page": page._asdict() | {"names": dict(page.names)},
    }


def write(manifest: Mapping[str, Any], pictures: Mapping[str, Iterable[Path]], output: Path) -> Path:
    """Writes the manifest with the pictures' sha256, and returns its path.

    Args:
        manifest: of `described`.
        pictures: figure to its PNG and PDF, as they lie there.
        output: the folder.
    """
    drawn = {name: {path.name: _sha256(path.read_bytes()) for path in paths} for name, paths in pictures.items()}
    path = output / MANIFEST_FILE
    with whole(path) as part:
        part.write_text(json.dumps({**manifest, "pictures": drawn}, indent=2) + "\n", encoding="utf-8")
    return path


def read(output: Path) -> dict[str, Any]:
    """The manifest of a folder of figures.

    Raises:
        UserError: there is none, or it is not one.
    """
    path = output / MANIFEST_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; draw the figures first, without --check") from None
    except ValueError:
        known = None
    if not _whole(known):
        raise UserError(f"{path}: must be a manifest as `sweep figures` writes it, and is damaged; draw them again")
    manifest: dict[str, Any] = known
    return manifest


def _whole(known: Any) -> bool:
    """Whether it has what every manifest has."""
    if not isinstance(known, dict) or not {"metric", "code_version"} <= set(known):
        return False
    nested = [known.get("sources"), known.get("figures"), known.get("trials", {})]
    flat = [known.get("versions"), *(value for part in nested if isinstance(part, dict) for value in part.values())]
    return all(isinstance(part, dict) for part in (*nested, *flat))


def refuse_other(manifest: Mapping[str, Any], directory: Path | None, output: Path) -> None:
    """Refuses to check figures of a run without the run, and those of the published study against a run.

    Raises:
        UserError: the manifest is of the other.
    """
    if directory is None and OWN in manifest["sources"]:
        raise UserError(f"--output {output}: its figures were drawn from a run; give its DIR to check them")
    if directory is not None and OWN not in manifest["sources"]:
        raise UserError(f"--output {output}: its figures are of the published study alone; leave DIR out")


def compared(
    known: Mapping[str, Any],
    fresh: Mapping[str, Any],
    output: Path,
    texts: Mapping[str, str],
    skipped: Mapping[str, str],
) -> dict[str, str]:
    """Each figure and table of either manifest, and whether its file is what it would be now.

    Numbers may differ in their last digits, which another processor computes otherwise.

    Args:
        known: of the files in the folder.
        fresh: of the same made again.
        output: the folder.
        texts: file to its text, made again.
        skipped: what could not be made again, and why.
    """

    def why(name: str) -> str:
        return ", ".join(_changes(known, fresh, name)) or "though nothing it came from did: it is not reproducible"

    answers = {
        name: _touched({**files, **known.get("pictures", {}).get(name, {})}, output)
        or _compared(files, fresh["figures"].get(name), output, texts, why(name), skipped.get(name, ""))
        for name, files in known["figures"].items()
    }
    return answers | {
        name: f"missing: not drawn yet, {why(name)}" for name in fresh["figures"] if name not in known["figures"]
    }


@functools.cache
def code_version() -> str:
    """12 hex digits of the SHA-256 of the sources of `analysis`, the published numbers among them."""
    folder = Path(__file__).parent
    paths = sorted([*folder.rglob("*.py"), *folder.rglob("*.csv")])
    return _digest(part for path in paths for part in (path.relative_to(folder).as_posix().encode(), path.read_bytes()))


def _source(study: Data, directory: Path | None) -> dict[str, Any]:
    trials = study.trials
    known = _ids(trials.loc[trials["outcome"] == "completed", "trial_id"])
    known |= {PRUNED: pruned} if (pruned := number_pruned(trials)) else {}
    if study.study == PUBLISHED or directory is None:
        folder = Path(__file__).parent / "published_numbers"
        return {
            "files": folder.name,
            "sha256": _digest(path.read_bytes() for path in sorted(folder.glob("*.csv"))),
        } | known
    paths = record_files(directory)
    files = {"file": paths[0].name} if len(paths) == 1 else {"files": [path.name for path in paths]}
    return {**files, "sha256": _sha256(b"".join(path.read_bytes() for path in paths))} | known


def _ids(trials: Iterable[str]) -> dict[str, Any]:
    """How many, and which: some thousands of ids would make the manifest long."""
    ids = sorted(trials)
    return {"trials": len(ids), "trials_sha256": _sha256("\n".join(ids).encode())}


def _touched(files: Mapping[str, str], output: Path) -> str:
    """Which files are gone or not as they were written; empty: none."""
    missing = [file for file in files if not (output / file).is_file()]
    if missing:
        return f"missing: {', '.join(missing)}"
    edited = [file for file, digest in files.items() if _sha256((output / file).read_bytes()) != digest]
    return f"edited by hand: {', '.join(edited)}" if edited else ""


def _compared(
    files: Mapping[str, str],
    fresh: Mapping[str, str] | None,
    output: Path,
    texts: Mapping[str, str],
    why: str,
    needs: str,
) -> str:
    if fresh is None:
        return f"differs: cannot be drawn any more: {needs}"
    others = [file for file in fresh if fresh[file] != files.get(file)]
    as_before = fresh.keys() == files.keys() and all(
        alike((output / file).read_text(encoding="utf-8"), texts[file]) for file in others
    )
    return SAME if as_before else f"differs: {why}"


def alike(one: str, other: str) -> bool:
    """Whether two texts are the same but for the last digits of their fractions.

    >>> alike("lr,c\\n0.1,2.1761381845258523\\n", "lr,c\\n0.1,2.1761381845258514\\n")
    True
    >>> alike("n,c\\n4,2.17\\n", "n,c\\n5,2.17\\n")
    False
    """
    pairs = list(zip_longest(_FRACTION.split(one), _FRACTION.split(other)))
    return all(a == b for a, b in pairs[::2]) and all(
        a == b or (None not in (a, b) and math.isclose(float(a), float(b), rel_tol=_LAST, abs_tol=_NOTHING))
        for a, b in pairs[1::2]
    )


def _changes(known: Mapping[str, Any], fresh: Mapping[str, Any], name: str) -> Iterable[str]:
    """What changed of what a figure or table came from: its trials, or else the records of the same ones."""
    before, now = (manifest.get("trials", {}).get(name, {}) for manifest in (known, fresh))
    if before and now and before != now:
        more = now["trials"] - before["trials"]
        yield f"its trials changed, {more:+d}" if more else "its trials are others, as many"
    for study, source in fresh["sources"].items():
        if source["sha256"] != known["sources"].get(study, {}).get("sha256"):
            source_name = "records" if study == OWN else "published numbers"
            if not (before and now):
                yield f"{source_name} changed"
            elif before == now:
                yield f"{source_name} changed, its trials are the same"
    if known["code_version"] != fresh["code_version"]:
        yield "code version"
    for name, number in fresh["versions"].items():
        if known["versions"].get(name) != number:
            yield f"{name} {known['versions'].get(name, 'none')}, now {number}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(parts: Iterable[bytes]) -> str:
    """12 hex digits of all parts together."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()[:12]
