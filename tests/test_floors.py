"""The house's three floors: imports point down only, and what is light stays light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainers import hardware

ROOT = Path(__file__).parent.parent
FLOORS = ("trainers", "analysis", "sweep")
FILES = [
    path.relative_to(ROOT)
    for floor in FLOORS
    for path in sorted((ROOT / floor).rglob("*.py"))
    if "examples" not in path.parts  # a user's files
]

#: The modules of trainers that import no torch, so that whoever reads records need not wait for it.
LIGHT = tuple(
    f"trainers.{name}"
    for name in (
        *("record", "config", "presets", "fields", "errors", "visible", "files", "plain_file", "machine"),
        *("ladder.rungs", "own.reference"),
    )
)
FOREIGN = {
    "trainers": ("ray", "optuna", "pandas", "analysis", "sweep"),
    "analysis": ("torch", "torchvision", "ray", "optuna", "sweep"),
    "sweep": (),
}


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down(path: Path) -> None:
    assert [name for name in imported(path) if within(name, FOREIGN[path.parts[0]])] == []


def test_the_file_that_asks_optuna_does_so_only_when_called() -> None:
    code = "import sweep.search.optuna_importance, sys; sys.exit('optuna' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("floor", FLOORS)
def test_the_rooms_of_a_floor_make_no_circle(floor: str) -> None:
    """A room is a folder or a file of the floor; `graphlib` raises where arrows lead back."""
    arrows: dict[str, set[str]] = {}
    for path in (path for path in FILES if path.parts[0] == floor and len(path.with_suffix("").parts) > 1):
        room = path.with_suffix("").parts[1]
        arrows.setdefault(room, set()).update(
            name.split(".")[1] for name in imported(path) if within(name, (floor,)) and name.split(".")[1] != room
        )
    assert list(graphlib.TopologicalSorter(arrows).static_order())


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "analysis"], ids=str)
def test_analysis_knows_of_trainers_only_what_is_light(path: Path) -> None:
    assert [name for name in imported(path) if within(name, ("trainers",)) and not within(name, LIGHT)] == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if within(".".join(path.with_suffix("").parts), LIGHT)], ids=str
)
def test_what_is_light_imports_no_torch_not_even_through_others(path: Path) -> None:
    names = list(imported(path))
    assert [name for name in names if within(name, ("torch", "torchvision", "numpy"))] == []
    assert [name for name in names if within(name, ("trainers",)) and not within(name, LIGHT)] == []


@pytest.mark.parametrize("floor", FLOORS)
def test_a_package_file_is_a_docstring_and_what_users_import_lazily(floor: str) -> None:
    for path in (ROOT / floor).rglob("__init__.py"):
        docstring, *rest = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr)
        lazily = (ast.ImportFrom, ast.If, ast.Assign, ast.FunctionDef)  # of typing alone; __all__; __getattr__
        assert all(isinstance(statement, lazily) for statement in rest)
        assert [one.name for one in rest if isinstance(one, ast.FunctionDef)] == ["__getattr__"] * bool(rest)


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=str)
def test_a_package_file_maps_all_that_is_in_its_folder(folder: Path) -> None:
    lines = str(ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8")))).splitlines()
    mapped = [line.split()[0].removesuffix("/") for line in lines if line.strip()]
    here = {path.relative_to(folder).with_suffix("").parts[0] for path in FILES if folder in path.parents}
    assert here - {"__init__"} <= set(mapped)


def test_a_package_is_imported_without_what_is_heavy() -> None:
    heavy = "import trainers, trainers.config, sys; sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif(bool(hardware.gpu_count()), reason="torch sees a GPU here, which only torch can count")
def test_a_launch_through_ray_loads_no_torch_in_its_own_process() -> None:
    plan = (
        "import sweep.run.ray_tune, sys; from sweep.run.launch import plan, check_resources, this_machine; "
        "from pathlib import Path; from sweep.config_file import load; config = load(Path('configs/demo.yaml')); "
        "print(plan(config, [], 'code').lines(launched=True, room=this_machine())[0]); "
        "check_resources(config, False, None); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", plan], cwd=ROOT, check=False).returncode == 0
