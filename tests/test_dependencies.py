"""pyproject.toml names what the code imports: no package that tests alone use, none that is missing."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.watchers import TRACKERS

ROOT = Path(__file__).parent.parent
FLOORS = ("trainers", "analysis", "sweep")
VENDORED = ROOT / "analysis" / "report" / "vendored"

#: Extras whose packages the code does not import.
FOR_DEVELOPERS = {"dev", "docs"}

#: pandas reads and writes parquet with the one, Optuna draws by CMA-ES with the other.
THROUGH_OTHERS = {"pyarrow", "cmaes"}


def imported() -> set[str]:
    """The distributions whose packages the code imports, inside functions too.

    Of a package that several bring, as MLflow's parts do, that of its own name; and nothing that mypy alone knows.
    """
    nodes = [
        node
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in names} - {*FLOORS, *sys.stdlib_module_names, "_typeshed"}
    known = {package: {package} if package in names else names for package, names in packages_distributions().items()}
    return {re.sub(r"[-_.]+", "-", name).lower() for package in packages for name in known.get(package, [package])}


def project() -> dict[str, Any]:
    values: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return values


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in requirements}


def test_the_code_imports_what_is_declared_and_nothing_else() -> None:
    found, needed = imported(), declared(project()["dependencies"])
    assert needed - found <= THROUGH_OTHERS
    extras = project()["optional-dependencies"]
    of_users = set().union(*(declared(extras[name]) for name in extras.keys() - FOR_DEVELOPERS))
    assert found - needed <= of_users
    assert of_users <= found


def test_each_dependency_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    lines = [line for line in lists.splitlines() if line.startswith("    ")]
    known = [*project()["dependencies"], *chain(*project()["optional-dependencies"].values())]
    assert len(lines) == len(known)
    assert [line for line in lines if not re.fullmatch(r'    "[^"]+",\s+# \S.*', line)] == []


def test_the_extra_for_tests_has_all_that_users_have() -> None:
    extras = project()["optional-dependencies"]
    (ours,) = (one for one in extras["dev"] if one.startswith("robustsweep["))
    assert set(re.findall(r"[a-z]+", ours)) - {"robustsweep"} == set(extras) - {"dev"}


def test_who_cites_cites_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == project()["version"]
    assert cited["license"] == project()["license"].partition(" AND ")[0]


def test_each_licence_of_what_lies_in_the_package_is_named_and_comes_with_it() -> None:
    named = {one["licence"] for one in json.loads((VENDORED / "vendored.json").read_text(encoding="utf-8"))}
    assert named | {"MIT", "BSD-3-Clause"} == set(project()["license"].split(" AND "))
    brought = {path for pattern in project()["license-files"] for path in ROOT.glob(pattern)}
    texts = [path for path in VENDORED.iterdir() if path.suffix in (".LICENSE", ".NOTICE")]
    assert brought == {ROOT / "LICENSE", *texts}
    assert len(texts) == 5
    assert "BSD 3-Clause" in (VENDORED / "zrender.LICENSE").read_text(encoding="utf-8")


#: Variables of the build of a release.
RELEASE = {"GITHUB_SERVER_URL": "https://host", "GITHUB_REPOSITORY": "who/robustsweep", "GITHUB_REF_NAME": "v1.0.0"}


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, "a [b](https://c) and `f`: "),
        (
            RELEASE,
            "a [b](https://c) and [`f`](https://host/who/robustsweep/blob/v1.0.0/d/f.md#g): "
            "![i\nj](https://host/who/robustsweep/raw/v1.0.0/j.png)",
        ),
    ],
)
def test_a_package_index_shows_the_readme_without_links_that_lead_nowhere(
    environment: dict[str, str], shown: str
) -> None:
    readme = runpy.run_path(str(ROOT / "setup.py"))["readme"]
    assert readme("a [b](https://c) and [`f`](d/f.md#g): ![i\nj](j.png)", environment) == shown
    assert "](docs/" not in readme((ROOT / "README.md").read_text(encoding="utf-8"), environment)


def test_each_tracker_is_an_extra_of_its_name() -> None:
    assert set(TRACKERS) <= set(project()["optional-dependencies"])


def test_the_tests_of_a_file_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist reads the group of a test from its id. Not so with pytest 9.2: each process then started a Ray and
    trained the networks that a file's tests share for itself, and tests that wait for a moment missed it."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("tests are not shared out in groups here")
    assert request.node.nodeid.endswith("@tests/test_dependencies.py")
