"""What the README shows in Python does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from analysis.claims.ledger import ledger
from analysis.claims.study import load_study
from analysis.tables.claims import claims_text

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_in_python_go_from_a_run_to_a_network_and_its_accuracy(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace("runs/demo", str(undisturbed)), names)
    assert len(blocks) == 2
    printed = capsys.readouterr().out
    assert claims_text(ledger(load_study(undisturbed))) in printed
    found, recorded = printed.splitlines()[-1].split()
    assert float(found) == pytest.approx(float(recorded))
    assert len(names["labels"]) == 50
