"""Which files belong to a user's own code, and what is imported from their snapshot."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest

from trainers.errors import UserError
from trainers.own import reference, snapshot
from trainers.own.source import source_of

FILES = {
    "pkg/__init__.py": "",
    "pkg/nets.py": "import pkg.layers\nfrom pkg.deep import block\n\ndef make():\n    from .late import VALUE\n",
    "pkg/layers.py": "import json\nimport helpers\nfrom . import extra",
    "pkg/extra.py": "",
    "pkg/deep/__init__.py": "",
    "pkg/deep/block.py": "from ..late import VALUE",
    "pkg/late.py": "VALUE = 1",
    "pkg/unused.py": "",
    "helpers.py": "",
    "other.py": "",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def taken(name: str, folder: Path, tmp: str = "code") -> object:
    source = source_of(name)
    snapshot.keep(source, folder / tmp)
    snapshot.look_in(folder / tmp)
    return snapshot.load(name, source.hash)


def test_names_are_read_as_documented() -> None:
    assert doctest.testmod(reference).failed == 0


def test_to_a_source_belong_the_modules_that_it_imports_in_turn_and_no_others(folder: Path) -> None:
    assert set(source_of("pkg.nets:make").files) == set(FILES) - {"pkg/unused.py", "other.py"}
    assert set(source_of("./pkg/extra.py:x").files) == {"extra.py"}


@pytest.mark.parametrize("name", FILES)
def test_the_hash_changes_with_the_files_that_belong_to_it_alone(name: str, folder: Path) -> None:
    before = source_of("pkg.nets:make").hash
    (folder / name).write_text(FILES[name] + "\n# another")
    assert (source_of("pkg.nets:make").hash == before) == (name in ("pkg/unused.py", "other.py"))


def test_what_is_imported_is_the_snapshot_and_nothing_of_the_folder(folder: Path) -> None:
    (folder / "pkg" / "nets.py").write_text("import pkg.late\ndef make():\n    import pkg\n    return pkg.late.VALUE")
    old = taken("pkg.nets:make", folder)
    (folder / "pkg" / "late.py").write_text("VALUE = 2")
    new = taken("pkg.nets:make", folder)
    (folder / "pkg" / "late.py").unlink()
    assert (old(), new()) == (1, 2)  # type: ignore[operator]
    assert "pkg" not in sys.modules


@pytest.mark.parametrize("name", ["random", "torch", "trainers"])
def test_a_name_of_a_library_means_the_library_and_a_file_may_be_called_so(name: str, folder: Path) -> None:
    (folder / f"{name}.py").write_text(f"import {name}\nMINE = {name}")
    __import__(name)
    assert taken(f"./{name}.py:MINE", folder) is sys.modules[name]
    with pytest.raises(UserError, match=f"^name: {name}: the name {name} is .*rename yours$"):
        source_of(f"{name}:MINE")
    (folder / "mine.py").write_text(f"import {name}")
    assert source_of("./mine.py:x").notes == (
        f"{folder}/mine.py:1 imports {name}: that is the library, and not {folder}/{name}.py",
    )


def test_a_library_and_an_installed_package_are_taken_as_they_are_installed(folder: Path) -> None:
    import foolbox.attacks
    import torch

    assert source_of("torch.optim:Adam").hash == "torch"
    assert snapshot.load("torch.optim:Adam", "torch") is torch.optim.Adam
    installed = source_of("foolbox.attacks:PGD")
    assert installed.files == {}
    assert snapshot.load("foolbox.attacks:PGD", installed.hash) is foolbox.attacks.PGD


def test_a_snapshot_that_was_changed_or_is_gone_is_refused(folder: Path) -> None:
    source = source_of("./other.py:x")
    (folder / "changed").mkdir()
    other = source_of("./helpers.py:x")
    snapshot.keep(other, folder / "changed")
    (folder / "changed" / f"{other.hash}.zip").rename(folder / "changed" / f"{source.hash}.zip")
    snapshot.look_in(folder / "changed")
    with pytest.raises(UserError, match="is not what was put there"):
        snapshot.load("./other.py:x", source.hash)
    with pytest.raises(UserError, match="its source 0123456789ab is no snapshot of the run"):
        snapshot.load("./other.py:x", "0123456789ab")


def test_the_same_files_make_the_same_zip(folder: Path) -> None:
    source = source_of("pkg.nets:make")
    for place in ("one", "two"):
        snapshot.keep(source, folder / place)
    one, two = ((folder / place / f"{source.hash}.zip").read_bytes() for place in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:", "model.name: {folder}/other.py:1: SyntaxError: "),
        ("\0", "model.name: {folder}/other.py"),
    ],
)
def test_a_file_that_is_no_python_is_refused_with_its_line(text: str, said: str, folder: Path) -> None:
    (folder / "other.py").write_text(text)
    with pytest.raises(UserError) as caught:
        source_of("./other.py:x", key="model.name")
    assert str(caught.value).startswith(said.format(folder=folder))


def test_files_are_looked_for_beside_the_config_first_and_packages_in_the_working_folder(folder: Path) -> None:
    beside = folder / "beside"
    (beside / "pkg").mkdir(parents=True)
    (beside / "other.py").write_text("# beside")
    (beside / "pkg" / "nets.py").write_text("# beside")
    assert source_of("./other.py:x", beside).root == beside
    assert source_of("./helpers.py:x", beside).root == folder
    assert source_of("pkg.nets:x", beside).root == folder
