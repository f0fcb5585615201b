"""What `make mutate` plants, and that it leaves the checkout as it was."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SOURCE = '''"""Text with a - b in it."""

from __future__ import annotations

from typing import overload


@overload
def least(values: list[int | None], k: int = 1) -> int | None: ...


def least(values: "list[int | None]", *, limit: int | None = None) -> int | None:
    """The least - if any."""
    assert len(values) > 0, "none"
    kept: list[int | None] = [value for value in values if value < 7]
    if limit is None:
        kept.append(limit)
    total = max(kept, key=abs) - 1
    values[0] = total
    raise ValueError(f"{total - 2} for {limit}")
'''


@pytest.fixture
def mutants(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("mutants")


@pytest.fixture
def planted(mutants):
    return list(mutants.drawn({"least.py": SOURCE}, 0, 1000))


def test_the_same_seed_draws_the_same_mutants_and_another_seed_others(mutants):
    sources = {"least.py": SOURCE, "other.py": SOURCE.replace("7", "8")}
    one, again, other = (list(mutants.drawn(sources, seed, 10)) for seed in (1, 1, 2))
    assert len(set(one)) == 10
    assert one == again != other


def test_each_mutant_parses_and_differs_in_one_place(planted):
    for mutant in planted:
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(SOURCE))
        assert sum(line.startswith("@@") for line in mutant.diff) == 1
        assert mutant.diff[0].startswith(f"@@ -{mutant.line} "), mutant.diff


def test_every_line_that_can_hold_a_fault_gets_one_and_annotations_text_and_assertions_none(planted):
    lines = SOURCE.splitlines()
    assert {lines[mutant.line - 1].split("=")[0].strip() for mutant in planted} == {
        "kept: list[int | None]",
        "if limit is None:",
        "kept.append(limit)",
        "total",
        "values[0]",
    }
    assert all("list[int | None] = " in mutant.source for mutant in planted)


@pytest.mark.parametrize(
    ("operator", "line"),
    [
        ("force_condition", "    if False:"),
        ("force_condition", "    kept: list[int | None] = [value for value in values if True]"),
        ("delete_statement", "        pass"),
        ("delete_statement", "    pass"),
        ("swap_name", "    total = min(kept, key=abs) - 1"),
        ("change_arguments", "    total = max(kept) - 1"),
        ("ReplaceBinaryOperator_Sub_Add", "    total = max(kept, key=abs) + 1"),
        ("ReplaceComparisonOperator_Lt_LtE", "    kept: list[int | None] = [value for value in values if value <= 7]"),
    ],
)
def test_the_operators_plant(planted, operator, line):
    assert (operator, "+" + line) in {(mutant.operator, mutant.diff[-1]) for mutant in planted}


def test_a_mutant_is_told_by_its_place_and_what_it_changes(mutants):
    source = f"call({'a' * 99} - {'b' * 99})\n"
    found = {str(mutant) for mutant in mutants.drawn({"call.py": source}, 0, 1000)}
    old, new = (f"…{'a' * 59} {sign} {'b' * 59}…" for sign in "-+")
    assert f"call.py:1: ReplaceBinaryOperator_Sub_Add: {old} -> {new}" in found


def test_arguments_are_swapped_with_neighbours_that_are_written_alike(mutants):
    found = mutants.drawn({"call.py": "f(a, b, c, 'd', 'e')\n"}, 0, 100)
    changed = {mutant.source.strip() for mutant in found if mutant.operator == "change_arguments"}
    assert changed == {"f(b, a, c, 'd', 'e')", "f(a, c, b, 'd', 'e')"}


@pytest.fixture
def checkout(tmp_path):
    """A project of two functions, of which one is tested."""
    folder = tmp_path / "checkout"
    for name in ("benchmarks/mutants.py", "benchmarks/mutation.py", "trainers/provenance.py", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "sweep").mkdir()
    (folder / "tests/sweep").mkdir(parents=True)
    (folder / "sweep/decide.py").write_text("tenfold = lambda x: x * 10\nunseen = lambda x: x - 1\n")
    (folder / "tests/sweep/test_decide.py").write_text(
        "from sweep.decide import tenfold\n\n\ndef test_tenfold():\n    assert tenfold(3) == 30\n"
    )
    for words in ("init -q", "add ."):
        subprocess.run(["git", *words.split()], cwd=folder, check=True)
    return folder


@pytest.fixture
def mutate(checkout):
    command = [sys.executable, "-B", "benchmarks/mutation.py", "--file", "sweep/decide.py"]
    return lambda *options: subprocess.run([*command, *options], cwd=checkout, capture_output=True, text=True)


@pytest.mark.slow
def test_a_run_prints_what_was_seen_and_leaves_the_checkout_as_it_was(checkout, mutate):
    before = _hashes(checkout)
    done = mutate("--count", "4", "--output", "../record.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((checkout.parent / "record.json").read_text())["mutants"]
    assert {(mutant["line"], mutant["fate"]) for mutant in found} == {(1, "seen"), (2, "unseen")}
    assert "\nsweep/decide.py:2: " in done.stdout
    assert "of 4, 95 % interval" in done.stdout
    assert _hashes(checkout) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("imported", "why"),
    [
        ("from sweep.decide import tenfold", "fail without a fault: FAILED tests/sweep/test_decide.py::test_tenfold "),
        ("tenfold = lambda x: 31", "do not import it"),
    ],
)
def test_tests_that_say_nothing_without_a_fault_end_it(checkout, mutate, imported, why):
    (checkout / "tests/sweep/test_decide.py").write_text(
        f"{imported}\n\n\ndef test_tenfold():\n    assert tenfold(3) == 31\n"
    )
    done = mutate()
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"sweep/decide.py: its tests {why}")
    assert done.stderr.count("\n") == 1


def _hashes(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
