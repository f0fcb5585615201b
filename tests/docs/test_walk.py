"""A newcomer's walk: the blocks that are marked to be run are run, page by page, in one folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT, Block, blocks

RUN = [block for block in blocks("sh") if block.is_run]
FIRST = "first_minutes.md"  # whose run the others read
PAGES = sorted({block.page.name for block in RUN} - {FIRST})

#: `sweep` as bash finds it: this checkout's.
SWEEP = f'sweep() {{ {shlex.quote(sys.executable)} -m sweep "$@"; }}'


def walked(page: str, folder: Path) -> str:
    """What the blocks of a page print, one after the other, each with what is appended to its launches."""
    printed = [done(block, folder) for block in RUN if block.page.name == page]
    assert printed
    return "\n".join(printed)


def done(block: Block, folder: Path) -> str:
    more = " ".join(map(shlex.quote, shlex.split(block.appended)))
    lines = block.text.replace("\\\n", " ").splitlines()
    text = "\n".join(re.sub(r"^(sweep launch [^#]*)", rf"\1 {more} ", line) for line in lines)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "112"}
    ran = subprocess.run(
        ["bash", "-e"], input=f"{SWEEP}\n{text}\n", cwd=folder, env=environment, text=True, capture_output=True
    )
    assert ran.returncode == 0, f"{block}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    return ran.stdout


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder after the first ten minutes, and what they print."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder, walked(FIRST, folder)


@pytest.mark.slow
def test_the_first_ten_minutes_go_from_a_plan_to_figures_and_a_third_seed(first: tuple[Path, str]) -> None:
    folder, printed = first
    assert "36 trials" in printed
    assert (folder / "runs" / "demo" / "figures" / "accuracy_ratio.png").stat().st_size > 10_000
    assert len((folder / "trials.csv").read_text().splitlines()) == 37
    assert "54 trials: 54 completed" in printed


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_has_run_runs(page: str, first: tuple[Path, str]) -> None:
    walked(page, first[0])


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in blocks("text") if block.mark.startswith("printed")], ids=str)
def test_what_a_page_says_is_printed_is_so_but_for_the_numbers(block: Block, first: tuple[Path, str]) -> None:
    printed = " ".join(first[1].split())
    begun = [line for line in block.text.splitlines() if re.match(r"\w+: |  \w|best by|\d+ trials", line)]
    assert len(begun) >= 5
    for line in begun:
        words = " ".join(re.split(r"[-+]?\d|[.]", line.strip())[0].split())
        assert words in printed, f"{block}: {line}"
