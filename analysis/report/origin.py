"""Where the page's numbers come from: records by their hash, code, packages, machines, and what wrote the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from pandas import DataFrame

from analysis import manifest
from analysis.frames.log import Log
from analysis.plots.plan import OWN, PUBLISHED, Data
from analysis.report.markup import Html, element, joined, table
from trainers.fields import plural

_NAMED = {OWN: "records", PUBLISHED: "published numbers"}

_RAN = ("host", "device", "code_version", "arithmetic")


def origin(trials: DataFrame, log: Log | None, data: Data | None, directory: Path | None) -> Html:
    """Commits, packages and machines of the launches; hashes of the records; how to make the page again."""
    launches = [] if log is None else [one for one in log if one["record"] == "launch"]
    rows: list[list[object]] = []
    if data is not None:
        described = manifest.described(data, directory, ())
        hashes = {_NAMED[study]: source["sha256"] for study, source in described["sources"].items()}
        rows += [[f"{whose}, SHA-256", _code(digest)] for whose, digest in hashes.items()]
        rows.append(["figures by", f"analysis {described['code_version']}, {_packages(described['versions'])}"])
    rows += [["commit", _commit(one)] for one in _once(launches, "commit", "dirty")]
    rows += [["trained with", _packages(one["versions"])] for one in _once(launches, "versions")]
    if log is not None:
        rows += [[name.replace("_", " "), _counted(trials, name)] for name in _RAN if trials[name].notna().any()]
    rows.append(["page by", f"robustsweep {version('robustsweep')}, with {_vendored()}"])
    return table(["", ""], rows)


def _code(value: object) -> Html:
    return element("code", value)


def _once(launches: list[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """One launch of each kind, as far as they say it."""
    return list({json.dumps([one.get(key) for key in keys]): one for one in launches if one.get(keys[0])}.values())


def _commit(launch: Mapping[str, Any]) -> Html:
    changed = " with changes that are in no commit" if launch.get("dirty") else ""
    return joined(_code(launch["commit"]), changed)


def _packages(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items() if number)


def _counted(trials: DataFrame, name: str) -> Html:
    """Each value with how many trials have it."""
    counts = trials[name].dropna().value_counts()
    return joined(*(element("div", f"{value} ({plural(int(n), 'trial')})") for value, n in counts.items()))


def libraries() -> list[dict[str, Any]]:
    """What of others is in the page: name, version, licence, files with their sha256."""
    text = files("analysis.report").joinpath("vendored", "vendored.json").read_text(encoding="utf-8")
    known: list[dict[str, Any]] = json.loads(text)
    return known


def _vendored() -> str:
    return ", ".join(f"{one['title']} {one['version']} ({one['licence']})" for one in libraries())
