"""The committed pictures are those that `make docs-figures` draws, of the runs and by the commands that it says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from analysis.manifest import alike
from sweep.config_file import load
from sweep.search.inputs import fingerprints
from sweep.search.trials import fixed_points, planned

DOCS = Path(__file__).parents[2] / "docs"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _script()
KNOWN: dict[str, Any] = json.loads((DOCS / "pictures.json").read_text(encoding="utf-8"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_every_committed_picture_is_drawn_by_the_script_and_shown_on_a_page() -> None:
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    shown = {path for page in pages for path in re.findall(r"([\w./]+\.png)\)", page.read_text(encoding="utf-8"))}
    of_runs = {path for path in shown if path.startswith("../benchmarks/study/")}  # drawn by benchmarks/study.py
    assert {path.name for path in DOCS.glob("*.png")} == set(script.PICTURES) == {Path(p).name for p in shown - of_runs}
    assert all((DOCS / path).is_file() for path in of_runs)


def test_every_committed_picture_is_in_the_manifest() -> None:
    assert set(KNOWN) == set(script.PICTURES)


@pytest.mark.parametrize("name", KNOWN)
def test_a_picture_is_the_one_that_its_manifest_says(name: str) -> None:
    assert sha256((DOCS / name).read_bytes()) == KNOWN[name]["picture"]
    assert KNOWN[name]["commands"] == script.PICTURES[name].commands


@pytest.mark.parametrize("name", [name for name in KNOWN if script.PICTURES[name].config])
def test_the_run_of_a_picture_is_all_trials_that_its_config_plans(name: str) -> None:
    config = load(DOCS.parent / "configs" / script.PICTURES[name].config)
    ids = sorted(trial.id for trial in planned(config, fixed_points(config), fingerprints(config)))
    own = KNOWN[name]["sources"]["own"]
    assert (own["trials"], own["trials_sha256"]) == (len(ids), sha256("\n".join(ids).encode()))


@pytest.mark.parametrize("name", [name for name in KNOWN if not script.PICTURES[name].config])
def test_a_picture_of_the_published_study_has_the_numbers_and_the_caption_of_today(name: str) -> None:
    product, data = script.product_of(script.PICTURES[name])
    again = script.described(script.PICTURES[name], product, data)
    assert {part: again[part] for part in ("caption", "trials", "sources")} == {
        part: KNOWN[name][part] for part in ("caption", "trials", "sources")
    }
    assert again["numbers"].keys() == KNOWN[name]["numbers"].keys()
    for file, text in product.texts.items():
        if sha256(text.encode()) != KNOWN[name]["numbers"][file]:  # another processor has other last digits
            assert alike((Path(__file__).parent / f"published_{file}").read_text(encoding="utf-8"), text)


@pytest.mark.slow
def test_the_demos_picture_has_the_caption_of_a_run_of_today_but_for_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RUNS", tmp_path)
    picture = script.PICTURES["demo_ratio.png"]
    script.launch(picture.config, picture.run)
    product, _ = script.product_of(picture)

    def words(text: str) -> str:
        return re.sub(r"[-+]?\d+(\.\d+)?|n/a|supported|contradicted|undecided", "", text)

    assert words(product.caption) == words(KNOWN["demo_ratio.png"]["caption"])
