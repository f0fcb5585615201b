"""The page as a file: one document that asks nobody for anything, in which nothing but its own scripts can run."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from analysis import figures
from analysis.frames import log
from analysis.report.origin import libraries
from analysis.report.page import page

VENDORED = files("analysis.report").joinpath("vendored")


class Reader(HTMLParser):
    """Elements with their attributes, and what stands in scripts and elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append((self.elements[-1][1].get("type"), data))
        elif self._inside != "style":
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures and tables, which take most of the time."""
    monkeypatch.setattr(figures, "products", lambda data: ([], {}))


@pytest.fixture
def small_run(run: Any) -> Path:
    """Two methods at two learning rates, three seeds; and one that failed, by a hostile reason."""
    run.launch(["a"], command="sweep launch </script><b>.yaml", commit="c0ffee", versions={"torch": "2.11"})
    for number, (optimizer, lr) in enumerate([(o, lr) for o in ("sgd", "deat") for lr in (0.1, 0.2)]):
        for seed in (0, 1, 2):
            point = {"optimizer__name": optimizer, "optimizer__lr": lr}
            values = [0.3 + lr, 0.35 + lr + 0.01 * seed + 0.02 * number]
            run.whole(f"t{number}{seed}", values, seed=seed, **point)
    run.trial("bad", optimizer__lr=0.1, seed=9)
    run.start("bad", host="<img src=x onerror=alert(1)>")
    run.outcome("bad", "failed", epochs=0, reason="</script><script>alert(1)</script>")
    run.close()
    directory: Path = run.directory
    return directory


def test_what_lies_in_the_folder_is_what_was_fetched_with_its_licence() -> None:
    known = {file: digest for one in libraries() for file, digest in one["sha256"].items()}
    there = {path.name: path.read_bytes() for path in VENDORED.iterdir() if path.name.endswith((".js", ".css"))}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in there.items()} == known
    for one in libraries():
        assert one["version"] in there[f"{one['name']}.min.js"].decode()
        assert len(VENDORED.joinpath(f"{one['name']}.LICENSE").read_text()) > 1000
    makefile = (Path(__file__).parents[3] / "Makefile").read_text()
    assert re.findall(r"^(?:ECHARTS|TABULATOR) \?= (.*)$", makefile, re.MULTILINE) == [
        one["version"] for one in libraries()
    ]


@pytest.mark.usefixtures("no_figures")
def test_every_script_is_named_by_its_hash_and_nothing_comes_from_elsewhere(small_run: Path) -> None:
    seen = Reader(page(small_run))
    (policy,) = [one["content"] or "" for one in seen.of("meta") if one.get("http-equiv")]
    named = set(re.findall(r"'sha256-([^']+)'", policy))
    run = [text for kind, text in seen.scripts if kind is None]
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run} == named
    assert len(run) == len(seen.of("script")) - 1 == 9
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe-eval" not in policy
    for tag, attributes in seen.elements:
        assert not [key for key in attributes if key.startswith("on")]
        if tag != "a":
            assert all((attributes.get(key) or "data:").startswith("data:") for key in ("src", "href", "action"))


@pytest.mark.usefixtures("no_figures")
def test_a_page_that_is_served_may_ask_for_its_version_and_no_other_page_may(small_run: Path) -> None:
    still, live = Reader(page(small_run)), Reader(page(small_run, live=True))
    policies = [one["content"] or "" for one in live.of("meta") if one.get("http-equiv")]
    assert "connect-src 'self'" in policies[0]
    assert "fetch(`version${location.search}`" in live.scripts[-1][1]
    assert "fetch(" not in "".join(text for kind, text in still.scripts[-5:] if kind is None)


@pytest.mark.usefixtures("no_figures")
def test_hostile_text_is_shown_and_makes_no_element(small_run: Path) -> None:
    text = page(small_run, question="<script>alert(2)</script>")
    seen = Reader(text)
    assert "<script>alert(2)</script>" in seen.words
    assert "sweep launch </script><b>.yaml" in seen.words
    assert not seen.of("b")
    values = json.loads(next(text for kind, text in seen.scripts if kind == "application/json"))
    (reasons,) = [one["values"] for one in values["columns"] if one["name"] == "reason"]
    assert "</script><script>alert(1)</script>" in reasons


@pytest.mark.usefixtures("no_figures")
def test_the_same_records_give_the_same_page(small_run: Path) -> None:
    assert page(small_run) == page(small_run)


@pytest.mark.slow
def test_figures_are_those_of_sweep_figures_with_their_captions(small_run: Path) -> None:
    made, skipped = figures.products(figures.load(small_run))
    seen = Reader(page(small_run))
    drawn = [one for one in made if one.picture is not None and one.name != "accuracy_lr"]  # figure4 has its curves
    assert {one["id"] for one in seen.of("figure")} == {f"figure-{one.name}" for one in drawn}
    assert [one["alt"] for one in seen.of("img") if not one["alt"]] == []
    said = "".join(seen.words)
    assert all(one.caption.replace("`", "") in said for one in drawn)
    assert skipped
    assert all(name in said and why in said for name, why in skipped.items())


@pytest.mark.usefixtures("no_figures")
def test_the_log_is_read_once(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    opened = log.read_records

    def told(directory: Path, **how: Any) -> Any:
        read.append(directory)
        return opened(directory, **how)

    monkeypatch.setattr(log, "read_records", told)
    page(small_run)
    assert read == [small_run]


@pytest.mark.usefixtures("no_figures")
def test_a_run_whose_first_trial_is_not_known_yet_has_a_page(run: Any) -> None:
    run.launch(["a"])
    assert "0 trials" in " ".join(Reader(page(run.directory, live=True)).words)


@pytest.mark.usefixtures("no_figures")
def test_a_run_of_which_nothing_is_completed_has_a_page_that_says_so(run: Any) -> None:
    run.launch(["a"])
    run.trial("a")
    run.start("a")
    words = " ".join(Reader(page(run.directory, live=True)).words)
    assert "No answers yet: needs a completed trial to judge" in words


@pytest.mark.slow
def test_the_published_study_has_a_page_of_its_own_and_stands_beside_a_run(small_run: Path) -> None:
    alone = Reader(page(None, published=True))
    assert {"figure-figure2", "figure-figure4", "figure-figure5"} == {one["id"] for one in alone.of("figure")}
    assert "Enhance Diffusion to Improve Robust Generalization" in " ".join(alone.words)
    beside = " ".join(Reader(page(small_run, published=True)).words)
    assert "The published study" in beside


@pytest.mark.slow
def test_a_page_of_a_thousand_trials_is_under_five_megabytes_and_has_each_of_them(
    tmp_path: Path, new_run: Callable[[Path], Any]
) -> None:
    run = new_run(tmp_path)
    methods = [("sgd", "none"), ("deat", "none"), ("sgd", "awp"), ("deat", "awp")]
    points = itertools.product(methods, [0.01, 0.02, 0.05, 0.1, 0.2], [32, 64, 128, 256, 512], range(10))
    run.launch()
    for number, ((optimizer, weights), lr, batch_size, seed) in enumerate(points):
        end = 0.45 + 0.03 * math.log10(lr / batch_size * 1e3) + 0.001 * (7 * number % 11)
        curve = [end * (1 - math.exp(-epoch / 8)) for epoch in range(1, 41)]
        point = {"optimizer__name": optimizer, "weights__name": weights, "optimizer__lr": lr, "batch_size": batch_size}
        run.whole(f"{number:012x}", curve, seed=seed, **point)
    run.close()
    text = page(tmp_path)
    seen = Reader(text)
    assert len(seen.of("figure")) >= 8
    values = json.loads(next(text for kind, text in seen.scripts if kind == "application/json"))
    assert len(values["ids"]) == 1000
    assert {len(one) for one in values["curves"]["values"]["test_robust"]} == {40}
    assert len(text.encode()) < 5e6
