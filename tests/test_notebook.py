"""The notebook of examples/ runs as it stands, on the run beside it, and prints what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import sweep
from sweep.config_file import load
from sweep.own_code import sources
from sweep.search.inputs import fingerprints
from sweep.search.trials import fixed_points, planned
from trainers.record import read

ROOT = Path(__file__).parent.parent
NOTEBOOK, RUN = ROOT / "examples" / "inspect_results.ipynb", ROOT / "examples" / "small_run"


def printed(notebook: Any) -> list[str]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(out.text for out in cell.outputs if out.output_type == "stream") for cell in cells]


def test_the_notebook_runs_and_its_numbers_are_those_that_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(sweep.__file__).parents[1]))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = printed(notebook)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert printed(notebook) == shown
    assert sum(map(bool, shown)) >= 5
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert any("image/png" in out.get("data", {}) for out in outputs)


def test_it_leaves_the_run_as_it_was_and_names_no_machine() -> None:
    assert {path.name for path in RUN.iterdir()} == {"records.jsonl", "sweep.yaml"}
    assert (RUN / "records.jsonl").stat().st_size < 300_000
    assert "/home/" not in NOTEBOOK.read_text() + (RUN / "records.jsonl").read_text()


def test_the_run_beside_it_is_that_of_the_demo() -> None:
    """The ids are hashes of the trials' configs: whoever launches the demo gets these trials."""
    config = load(ROOT / "configs" / "demo.yaml")
    wanted = planned(config, fixed_points(config), fingerprints(config, sources(config)))
    assert [one["trial_id"] for one in read(RUN) if one["record"] == "trial"] == [trial.id for trial in wanted]
