"""The site is built without a warning; the pages made of the code say all that the code has."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import ROOT
from reference_pages import PACKAGES, leaves, pages

import analysis
from sweep.cli import main
from sweep.config import SweepConfig
from trainers.config import TrialConfig
from trainers.config import leaves as trial_keys
from trainers.presets import PRESETS
from trainers.record import REQUIRED
from trainers.record.forms import FORMS


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of the tables of a page."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_key_of_a_config_has_its_default_and_what_it_is(made: dict[str, str]) -> None:
    keys = {row[0]: row for row in rows(made["config.md"]) if row[0].startswith("`")}
    for key in trial_keys(TrialConfig().model_dump()):
        assert keys[f"`trial.{key}`"][3], key
    for name in SweepConfig.model_fields:
        assert name == "trial" or f"`{name}`" in keys or f"\n### `{name}`\n" in made["config.md"], name
    assert keys["`trial.attack.radius`"][1:3] == ["number from 0", "`8/255`"]
    assert keys["`trial.attack.radius`"][4] == "DEAT"
    assert keys["`trial.batch_size`"] == [
        "`trial.batch_size`", "whole number over 0", "`128`", "Images a step; the last, short batch is kept.", "DEAT"
    ]  # fmt: skip
    assert keys["`search.name`"][1] == "`grid`, `one_at_a_time`, `random`, `quasi_random`, `optuna`"
    assert len(keys) == len([row for row in rows(made["config.md"]) if row[0].startswith("`")])


def test_every_command_and_option_is_there(made: dict[str, str]) -> None:
    sections = dict(
        re.findall(r"^## `sweep ([\w ]+)`\n(.*?)(?=^## |\Z)", made["commands.md"], re.MULTILINE | re.DOTALL)
    )
    found = dict(leaves(main))
    assert set(sections) == set(found)
    for name, command in found.items():
        for option in command.params:
            for text in option.opts if option.param_type_name == "option" and not getattr(option, "hidden", 0) else ():
                assert text in sections[name], f"{name} {text}"


def test_every_kind_of_record_has_its_keys(made: dict[str, str]) -> None:
    for kind in REQUIRED:
        (section,) = re.findall(rf"^## `{kind}`\n(.*?)(?=^## |\Z)", made["records.md"], re.MULTILINE | re.DOTALL)
        keys = {row[0].strip("*`") for row in rows(section)}
        assert keys == {"key", *FORMS[kind]}
        assert section.strip().splitlines()[0], kind


def test_every_preset_is_there_with_the_source_of_each_value(made: dict[str, str]) -> None:
    assert re.findall(r"^## `(\w+)`", made["presets.md"], re.MULTILINE) == list(PRESETS)
    assert all(row[2] for row in rows(made["presets.md"]))


def test_every_name_that_a_user_imports_is_in_the_reference(made: dict[str, str]) -> None:
    assert "analysis" in PACKAGES
    for name in analysis.__all__:
        assert f":: analysis.{name}\n" in made["python.md"]


@pytest.mark.slow
def test_the_site_is_built_and_a_warning_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="the extra docs is not installed")
    words = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run([*words, str(ROOT / "docs"), str(tmp_path)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-5000:]
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "The first ten minutes" in index
    texts = {page.stem: (tmp_path / f"{page.stem}.html").read_text("utf-8") for page in (ROOT / "docs").glob("*.md")}
    for name in pages():  # where a page links to the code it is made of
        link = f'href="reference/{name[:-3]}.html"><span'  # which those of the table of contents lack
        assert any(link in text for text in texts.values()), name
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r"""<(?:script|img|link)[^>]*(?:src|href)=["'](https?:[^"']*)""", page.read_text("utf-8"))
        assert fetched == [], f"{page.name} asks others"
