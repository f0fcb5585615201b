"""pyproject.toml names what the code imports: no package that tests alone use, none that is missing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("trainers", "analysis", "sweep")

#: pandas reads and writes parquet with the one, Optuna draws by CMA-ES with the other.
THROUGH_OTHERS = {"pyarrow", "cmaes"}


def imported() -> set[str]:
    """The distributions whose packages the code imports, inside functions too."""
    nodes = [
        node
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in names} - set(FLOORS) - set(sys.stdlib_module_names)
    known = packages_distributions()
    return {re.sub(r"[-_.]+", "-", name).lower() for package in packages for name in known.get(package, [package])}


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in requirements}


def test_the_code_imports_what_is_declared_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, needed = imported(), declared(project["dependencies"])
    assert needed - found <= THROUGH_OTHERS
    extras = project["optional-dependencies"]
    assert found <= needed.union(*(declared(extras[name]) for name in extras if name != "dev"))
