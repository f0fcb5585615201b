"""What is served, in a browser: the report follows the run, and keeps what was asked; the dashboard obeys no name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded import launch, run, trials_of

from analysis import figures
from sweep.config import SweepConfig
from sweep.reports.dashboard import dashboard_of
from sweep.reports.follow import following, stamp_of
from sweep.reports.localhost import listening
from sweep.reports.report import page_of
from sweep.reports.serve import showing
from trainers.record import RecordFile

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'robustsweep[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the PATH"),
]

EXAMPLE = Path(__file__).parents[2] / "examples" / "small_run"
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>[a](javascript:document.title='owned')"


@pytest.fixture
def opened() -> Iterator[Callable[[str], Any]]:
    """Opens addresses, and holds each page to this: it said no error, and asked nobody but its own server."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        errors: list[str] = []
        elsewhere: list[str] = []

        def open_page(address: str) -> Any:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            page.on("console", lambda one: errors.append(one.text) if one.type in ("error", "warning") else None)
            page.on("pageerror", lambda one: errors.append(str(one)))
            known = (address.partition("?")[0], "data:", "blob:")
            page.on("request", lambda one: None if one.url.startswith(known) else elsewhere.append(one.url))
            page.goto(address)
            return page

        yield open_page
        browser.close()
    assert (errors, elsewhere) == ([], [])


def test_the_report_is_another_one_once_the_run_is_and_stays_sorted_and_filtered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], Any]
) -> None:
    monkeypatch.setattr(figures, "products", lambda data: ([], {}))
    records = (EXAMPLE / "records.jsonl").read_bytes().splitlines(keepends=True)
    ends = [place for place, line in enumerate(records) if b'"record":"outcome"' in line]
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(records[: ends[19] + 1]))
    followed = following(page_of(tmp_path, False, "last_test_robust", live=True), lambda: stamp_of(tmp_path), look=0.1)
    with followed as made, listening(showing(made)) as address:
        page = opened(address)
        page.wait_for_selector("#table[data-ready]")
        page.locator(".tabulator-col-title", has_text="optimizer.lr").click()
        page.wait_for_function("location.hash.includes('sort=optimizer.lr')")
        assert page.locator("#table .tabulator-row", has_text="completed").count() == 20
        path.write_bytes(b"".join(records))
        page.wait_for_selector(f"html:not([data-version={made.version.stamp!r}])")
        page.wait_for_selector("#table[data-ready]")
        assert page.locator("#table .tabulator-row", has_text="completed").count() == 36
        assert "sort=optimizer.lr" in page.evaluate("location.hash")
        page.close()  # before its server ends, which is an error to it


def test_the_dashboard_shows_hostile_names_as_text(tmp_path: Path, opened: Callable[[str], Any]) -> None:
    values = {"name": "s", "trial": {"data": {"name": "digits"}}, "space": {"optimizer.lr": [0.1, 0.2, 0.4]}}
    trials = trials_of(SweepConfig.model_validate(values))
    lines = launch(trials) + [line for trial in trials for line in run(trial, 2)]
    lines[-1] |= {"outcome": "failed", "reason": HOSTILE}
    folder = tmp_path / HOSTILE.replace("/", "")
    folder.mkdir()
    file = RecordFile(folder)
    for line in lines:
        file.append(line.pop("record"), line)
    file.close()
    app = dashboard_of(folder)()
    with listening(app, landing="/dashboard") as address:
        page = opened(address)
        page.get_by_text(folder.name).first.click()
        page.get_by_text("Hyperparameter Importance").wait_for()
        page.goto(f"{address.partition('?')[0]}dashboard/studies/0/trials?numbers=2")
        page.get_by_text("onerror").first.wait_for()
        assert page.title() != "owned"
        page.close()
