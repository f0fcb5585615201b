"""The page of the response surface has the numbers of the records, and no others."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "surface_page.py"


def test_the_tables_of_the_page_are_those_of_the_records() -> None:
    spec = importlib.util.spec_from_file_location("surface_page", PATH)
    assert spec is not None
    assert spec.loader is not None
    surface_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(surface_page)
    text = surface_page.PAGE.read_text(encoding="utf-8")
    assert surface_page.page(text) == text
    assert text.count("| sgd") + text.count(", sgd,") > 0
