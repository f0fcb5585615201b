"""References: every method that has a paper has its BibTeX, and a run cites what it used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.report import sources
from analysis.report.sources import cited, entries, references
from trainers.presets import PRESETS


def trial(point: dict[str, object] | None = None, **config: object) -> dict[str, object]:
    return {"record": "trial", "config": {"objective": {"name": "pgd_at"}, **config}, "point": point or {}}


def test_every_key_that_is_cited_is_an_entry_and_every_entry_may_be_cited() -> None:
    tables = (sources._OBJECTIVES, sources._OPTIMIZERS, sources._ATTACKS, sources._DATA, sources._EVALUATIONS)
    keys = {key for known in tables for key in known.values()} | {*sources._ALWAYS, *sources.PUBLISHED}
    keys |= {sources.IMPORTANCE, sources._OPTUNA, *re.findall(r'yield "(\w+)"', Path(sources.__file__).read_text())}
    assert keys == set(entries())


@pytest.mark.parametrize("key", entries())
def test_an_entry_has_author_title_year_and_balanced_braces(key: str) -> None:
    entry = entries()[key]
    assert entry.count("{") == entry.count("}")
    for field in ("author", "title", "year"):
        assert re.search(rf"^  {field} = \{{.+\}},?$", entry, re.MULTILINE)
    year = re.search(r"year = \{(\d{4})\}", entry)
    assert year is not None
    assert year[1] in key


@pytest.mark.parametrize("name", PRESETS)
def test_the_paper_of_every_preset_is_cited_with_its_year(name: str) -> None:
    values = {key: value for key, (value, _) in PRESETS[name].values.items()}
    config: dict[str, object] = {}
    for key, value in values.items():
        inner = config
        *parents, last = key.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})  # type: ignore[assignment]
        inner[last] = value
    found = cited([{"record": "trial", "config": config, "point": {"preset": name}}])
    first, year = re.match(r"(?:de )?(\w+).* (\d{4})$", PRESETS[name].paper).groups()  # type: ignore[union-attr]
    papers = [entries()[key] for key in found]
    assert any(first in paper and f"year = {{{year}}}" in paper for paper in papers)


def test_a_run_cites_its_methods_once_and_what_was_not_used_never() -> None:
    found = cited([trial(optimizer={"name": "deat"}), trial(optimizer={"name": "sgd"}), trial()])
    assert found == ["madry2018towards", "sun2023enhance", "paszke2019pytorch", "liaw2018tune", "holm1979simple"]
    asked = {"record": "launch", "size": 9, "wanted": ["a"]}
    assert "akiba2019optuna" in cited([asked])
    evaluated = {"record": "evaluation", "attack": "autoattack"}
    assert "croce2020autoattack" in cited([trial(), evaluated])


def test_a_paper_is_listed_in_words_with_its_bibtex_below() -> None:
    said = references(["dejorge2022nfgsm", "holm1979simple"])
    assert "Pau de Jorge and others. " in said
    assert "Sture Holm. A Simple Sequentially Rejective Multiple Test Procedure. " in said
    assert 'href="https://arxiv.org/abs/2202.01181"' in said
    assert "@article{holm1979simple," in said
