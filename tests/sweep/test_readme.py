"""What the README, and the page on results, show in Python does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT, blocks

from analysis.claims.ledger import ledger
from analysis.claims.study import load_study
from analysis.tables.claims import claims_text


def run(page: str, directory: Path) -> dict[str, Any]:
    """Runs the blocks of a page one after the other, on a run of ours."""
    names: dict[str, Any] = {}
    for block in blocks("python"):
        if block.page == ROOT / page:
            exec(block.text.replace("runs/demo", str(directory)), names)
    assert names
    return names


def test_the_lines_in_python_go_from_a_run_to_a_network_and_its_accuracy(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("docs/results.md", undisturbed)
    printed = capsys.readouterr().out
    assert claims_text(ledger(load_study(undisturbed))) in printed
    found, recorded = printed.splitlines()[-1].split()
    assert float(found) == pytest.approx(float(recorded))
    assert len(names["labels"]) == 50


def test_the_readme_groups_a_runs_trials_and_prints_its_claims(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("README.md", undisturbed)
    printed = capsys.readouterr().out
    assert "last_test_robust" in printed
    assert claims_text(ledger(load_study(undisturbed))) in printed
