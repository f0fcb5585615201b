"""The wheel and the sdist: what they hold, and that the wheel alone runs the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("trainers", "analysis", "sweep")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, made of the files that git knows."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.partition("/")[0] in FLOORS or "/" not in name:
            place = source / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_both_hold_every_file_of_the_packages_and_no_test(built: Path) -> None:
    wheel, sdist = next(built.glob("*.whl")), next(built.glob("*.tar.gz"))
    ours = {
        path.relative_to(ROOT).as_posix()
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as files:
        in_wheel = set(files.namelist())
        (described,) = (files.read(name).decode() for name in in_wheel if name.endswith(".dist-info/METADATA"))
    with tarfile.open(sdist) as files_of_sdist:
        in_sdist = {name.partition("/")[2] for name in files_of_sdist.getnames()}
    assert ours - in_wheel == set()
    assert ours - in_sdist == set()
    assert [name for name in in_wheel if not name.startswith((*FLOORS, "robustsweep-"))] == []
    assert "\n# robustsweep\n" in described
    assert "](docs/" not in described
    assert "License-Expression: MIT AND Apache-2.0 AND BSD-3-Clause\n" in described
    assert sum(name.endswith((".LICENSE", ".NOTICE")) and "dist-info" in name for name in in_wheel) == 5


@pytest.mark.slow
def test_the_wheel_alone_runs_the_demo(built: Path, tmp_path: Path) -> None:
    """With the libraries that are here, and none of the repository's files on the path."""
    site = tmp_path / "site"
    zipfile.ZipFile(next(built.glob("*.whl"))).extractall(site)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    begin = f"import sys; sys.path.insert(0, {str(site)!r}); from sweep.cli import main; main()"
    words = [sys.executable, "-P", "-c", begin, "demo", "--out", "demo"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment | {"PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("look at demo/figures/accuracy_ratio.png\n")
    assert (tmp_path / "demo" / "figures" / "accuracy_ratio.png").stat().st_size > 10_000
