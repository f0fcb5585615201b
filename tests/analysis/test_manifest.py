"""What figures were made from, and whether they would come out the same again."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import figures, manifest
from analysis.frames.trials import load_trials
from analysis.paper.parts import published_data
from analysis.plots.plan import Product
from analysis.tables.export import csv_text
from trainers.errors import UserError


@pytest.fixture(scope="module")
def whole(new_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six trials, and in `out` their tables and figures; pictures are left out, for time."""
    folder = tmp_path_factory.mktemp("whole")
    run = new_run(folder)
    for name in ("sgd", "deat"):
        for lr in (0.1, 0.2, 0.4):
            run.whole(f"{name}{lr}", [0.3, 0.4 + 0.1 * lr], optimizer__name=name, optimizer__lr=lr)
    run.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_paint", lambda *given: [])
        figures.draw(folder, folder / "out")
    return folder


@pytest.fixture
def run(whole: Path, new_run: Any, tmp_path: Path) -> Iterator[Any]:
    """A copy of those trials."""
    copy = new_run(shutil.copytree(whole, tmp_path / "run"))
    yield copy
    copy.close()


@pytest.fixture
def drawn(run: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their figures, where no picture is painted."""
    monkeypatch.setattr(figures, "_paint", lambda *given: [])
    return Path(run.directory / "out")


def test_manifest_says_what_each_figure_came_from(drawn: Path) -> None:
    known = json.loads((drawn / "manifest.json").read_text())
    own = known["sources"]["own"]
    assert list(known["sources"]) == ["own"]
    assert (own["file"], own["trials"], len(own["sha256"])) == ("records.jsonl", 6, 64)
    assert set(known["versions"]) == set(manifest.PACKAGES)
    assert known["code_version"] == manifest.code_version()
    assert known["metric"] == "last_test_robust"
    csvs = {path.name for path in drawn.glob("*.csv")}
    assert {file for files in known["figures"].values() for file in files if file.endswith("csv")} == csvs


def test_of_a_run_of_several_files_the_manifest_names_all_and_checks_all(run: Any, drawn: Path) -> None:
    run.close()
    path = run.directory / "records.jsonl"
    first, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"".join(lines[::2]))
    other = path.with_name("records.1of2.jsonl")
    other.write_bytes(b"".join(lines[1::2]))
    figures.draw(run.directory, drawn)
    own = json.loads((drawn / "manifest.json").read_text())["sources"]["own"]
    assert own["files"] == ["records.jsonl", "records.1of2.jsonl"]
    assert set(figures.check(run.directory, drawn).values()) == {"same"}
    other.write_bytes(other.read_bytes() + b"\n")
    again = manifest.described(figures.load(run.directory), run.directory, [])["sources"]["own"]
    assert again["sha256"] != own["sha256"]
    assert {**again, "sha256": own["sha256"]} == own


def test_code_version_is_of_every_source_and_published_number_and_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version() -> str:
        manifest.code_version.cache_clear()
        return manifest.code_version()

    files = ["manifest.py", "theory/deat.py", "published_numbers/table4.csv"]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    (tmp_path / "theory" / "left.pyc").write_text("1")
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "__file__", str(tmp_path / "manifest.py"))
        versions = [version()]
        for name in files:
            (tmp_path / name).write_text("2")
            versions.append(version())
        (tmp_path / "theory" / "deat.py").rename(tmp_path / "theory" / "sde.py")
        versions.append(version())
        (tmp_path / "theory" / "left.pyc").write_text("2")
        assert version() == versions[-1]
        known = manifest.described(published_data(), None, [])["sources"]["published"]
        (tmp_path / "published_numbers" / "table4.csv").write_text("3")
        fresh = manifest.described(published_data(), None, [])["sources"]["published"]
    assert len(set(versions)) == 5
    assert (fresh["trials_sha256"], fresh["trials"]) == (known["trials_sha256"], known["trials"])
    assert fresh["sha256"] != known["sha256"]
    manifest.code_version.cache_clear()


def test_nothing_changed_is_the_same_in_every_figure(run: Any, drawn: Path) -> None:
    before = {path: path.read_bytes() for path in drawn.iterdir()}
    answers = figures.check(run.directory, drawn)
    assert set(answers.values()) == {"same"}
    assert {"figure4", "table2", "correlations", "accuracy_lr"} <= set(answers)
    assert {path: path.read_bytes() for path in drawn.iterdir()} == before


def test_an_edited_csv_and_one_that_is_gone_are_told_apart_from_the_others(run: Any, drawn: Path) -> None:
    (drawn / "table2.csv").write_text((drawn / "table2.csv").read_text().replace("0.4", "0.5", 1))
    (drawn / "shift.md").unlink()
    answers = figures.check(run.directory, drawn)
    assert answers.pop("table2") == "edited by hand: table2.csv"
    assert answers.pop("shift") == "missing: shift.md"
    assert set(answers.values()) == {"same"}


def test_a_picture_that_is_gone_or_painted_over_is_told(run: Any, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(product: Any, output: Path, page: Any) -> list[Path]:
        path = output / f"{product.name}.png"
        path.write_bytes(b"a picture")
        return [path]

    monkeypatch.setattr(figures, "_paint", paint)
    figures.draw(run.directory, drawn)
    assert set(figures.check(run.directory, drawn).values()) == {"same"}
    (drawn / "figure4.png").unlink()
    (drawn / "figure5.png").write_bytes(b"another picture")
    answers = figures.check(run.directory, drawn)
    assert (answers["figure4"], answers["figure5"]) == ("missing: figure4.png", "edited by hand: figure5.png")


def test_new_trials_are_counted_and_figures_they_do_not_touch_stay_the_same(run: Any, drawn: Path) -> None:
    run.whole("more", [0.3, 0.5], optimizer__name="trades_like", optimizer__lr=0.1)
    run.whole("sgd0.8", [0.3, 0.4], optimizer__name="sgd", optimizer__lr=0.8)
    assert len(load_trials(run.directory)) == 8
    answers = figures.check(run.directory, drawn)
    assert answers["table2"] == "differs: its trials changed, +1"
    assert answers["accuracy_lr"] == "differs: its trials changed, +2"
    assert answers["table4"] == "same"


def test_a_figure_whose_trials_are_the_same_says_so_where_their_records_changed(run: Any, drawn: Path) -> None:
    run.epoch("sgd0.1", 2, 0.35)
    answers = figures.check(run.directory, drawn)
    assert answers["table2"] == "differs: records changed, its trials are the same"


def test_a_trial_in_the_place_of_another_is_told(run: Any, drawn: Path) -> None:
    run.whole("again", [0.3, 0.5], optimizer__name="sgd", optimizer__lr=0.1, config={"precision": "fp32"})
    answers = figures.check(run.directory, drawn)
    assert answers["table2"] == "differs: its trials are others, as many"
    assert answers["table4"] == "differs: its trials are others, as many"


def test_the_manifest_of_an_earlier_version_without_each_figures_trials_is_read(run: Any, drawn: Path) -> None:
    known = manifest.read(drawn)
    del known["trials"]
    manifest.write(known, {}, drawn)
    assert set(figures.check(run.directory, drawn).values()) == {"same"}
    run.whole("sgd0.8", [0.3, 0.4], optimizer__name="sgd", optimizer__lr=0.8)
    assert figures.check(run.directory, drawn)["table2"] == "differs: records changed"


def test_each_figure_and_table_names_as_many_trials_as_its_numbers_are_of(ratio_run: Any) -> None:
    made, _ = figures.products(figures.load(ratio_run.directory))
    rows = {one.name: pd.read_csv(io.StringIO(one.texts[f"{one.name}.csv"])) for one in made}
    first = rows["accuracy_epoch"].groupby("method")["n"].max().sum()
    expected = {
        "accuracy_lr": 54,
        "accuracy_ratio": 51,
        "surface_lr_batch": int(rows["surface_lr_batch"][["n", "diverged"]].to_numpy().sum()),
        "accuracy_epoch": int(first),
        "correlations": int(rows["correlations"].query("method == 'all'")["n"].max()),
        "table2": int(rows["table2"][["pgd_at_n", "deat_n"]].to_numpy().sum()),
        "table3": int(rows["table3"].groupby(["batch_size", "method"])["n"].max().sum()),
        "table4": int(rows["table4"]["n_trials"].sum()),
        "own_best": int(rows["own_best"][["pgd_at_n", "deat_n"]].to_numpy().sum()),
        "figure2": int(rows["figure2"].groupby("batch_size")["n"].max().sum()),
        "figure5": int(rows["figure5"].groupby(["batch_size", "method"])["n"].max().sum()),
        "ratio_surface": int(rows["ratio_surface"].groupby("of")["n_trials"].first().sum()),
    }
    assert {
        name: len(trials) for name, trials in ((one.name, one.trials) for one in made) if name in expected
    } == expected
    assert all(one.trials for one in made)
    known = manifest.described(figures.load(ratio_run.directory), ratio_run.directory, made)
    assert {name: entry["trials"] for name, entry in known["trials"].items() if name in expected} == expected
    assert len(json.dumps(known["trials"])) < 150 * len(made)


def test_records_that_change_no_number_leave_all_the_same(run: Any, drawn: Path) -> None:
    run.launch()
    assert set(figures.check(run.directory, drawn).values()) == {"same"}


def test_other_code_is_named_where_a_number_differs(run: Any, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "code_version", lambda: "another")
    assert set(figures.check(run.directory, drawn).values()) == {"same"}
    monkeypatch.setattr(figures, "csv_text", lambda table: table.to_csv(index=False, sep=";"))
    assert figures.check(run.directory, drawn)["figure4"] == "differs: code version"


@pytest.mark.parametrize(("off", "answer"), [(1 + 1e-13, "same"), (1 + 1e-4, "differs: code version")])
def test_the_last_digits_of_another_processor_are_no_difference(
    off: float, answer: str, run: Any, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "code_version", lambda: "another")

    def elsewhere(table: pd.DataFrame) -> str:
        fractions = table.select_dtypes("float") * off
        return csv_text(table.assign(**fractions))

    monkeypatch.setattr(figures, "csv_text", elsewhere)
    assert figures.check(run.directory, drawn)["figure4"] == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0.0,a", "1e-17,a", True),
        ("| 0.30000000000000004 |", "| 0.3 |", True),
        ("-0.5,1e-05", "-0.5000000001,1.0000000001e-05", True),
        ("10000001,0.5", "10000002,0.5", False),  # a number of trials
        ("0.5", "0.5,0.5", False),
        ("0.5", "", False),
        ("3f2a1.5", "3f2a1.5000000001", False),  # no number
    ],
)
def test_texts_are_alike_whose_fractions_are(one: str, other: str, same: bool) -> None:
    assert manifest.alike(one, other) is same
    assert manifest.alike(other, one) is same


def test_another_version_of_a_package_is_named(run: Any, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = manifest.read(drawn)
    known["versions"]["scipy"] = "0.1"
    manifest.write(known, {}, drawn)
    monkeypatch.setattr(figures, "csv_text", lambda table: table.to_csv(index=False, sep=";"))
    assert figures.check(run.directory, drawn)["figure4"].startswith("differs: scipy 0.1, now ")


def test_what_cannot_be_drawn_any_more_or_was_not_yet_is_said(run: Any, drawn: Path) -> None:
    known = manifest.read(drawn)
    known["figures"]["surface_k1_k2"] = {}
    del known["figures"]["table4"]
    manifest.write(known, {}, drawn)
    answers = figures.check(run.directory, drawn)
    assert answers["surface_k1_k2"].startswith("differs: cannot be drawn any more: needs completed trials of deat")
    assert answers["table4"].startswith("missing: not drawn yet")


def test_where_the_disk_is_full_the_figures_of_before_stay_whole(run: Any, drawn: Path, full_disk: Any) -> None:
    before = {path: path.read_bytes() for path in drawn.iterdir()}
    run.whole("sgd0.8", [0.3, 0.4], optimizer__name="sgd", optimizer__lr=0.8)
    figures.draw(run.directory, run.directory / "new")
    after = {drawn / path.name: path.read_bytes() for path in (run.directory / "new").iterdir()}
    for size in (100, len(before[drawn / "manifest.json"]) - 1):
        said = r"cannot be written: File too large \(\w+\.\w+\); give a folder"
        with full_disk(after=size), pytest.raises(UserError, match=said):
            figures.draw(run.directory, drawn)
        now = {path: path.read_bytes() for path in drawn.iterdir()}
        assert set(now) == set(before)
        assert all(content in (before[path], after.get(path)) for path, content in now.items())
    assert now[drawn / "manifest.json"] == before[drawn / "manifest.json"]


def test_where_the_disk_is_full_a_picture_of_before_stays_whole(tmp_path: Path, full_disk: Any) -> None:
    product = Product("surface", {}, lambda page: Figure())
    before = {path: path.read_bytes() for path in figures._paint(product, tmp_path)}
    with full_disk(after=100), pytest.raises(OSError, match="File too large"):
        figures._paint(product, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


HALF = '{"metric": "m", "code_version": "c", "versions": {}, "sources": {"published": null}, "figures": {}}'
NO_TRIALS = '{"metric": "m", "code_version": "c", "versions": {}, "sources": {}, "figures": {}, "trials": []}'


@pytest.mark.parametrize(("content", "message"), [(None, "no such file; draw the figures first"), ("[]", "is damaged"),
                                                  ("{", "is damaged"), (HALF, "is damaged"),
                                                  (NO_TRIALS, "is damaged")])  # fmt: skip
def test_no_manifest_or_a_damaged_one_is_a_user_error(
    ratio_run: Any, tmp_path: Path, content: str | None, message: str
) -> None:
    (tmp_path / "out").mkdir()
    if content is not None:
        (tmp_path / "out" / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message):
        figures.check(ratio_run.directory, tmp_path / "out")


def test_figures_of_a_run_are_not_checked_without_it_nor_published_ones_against_a_run(run: Any, drawn: Path) -> None:
    with pytest.raises(UserError, match="drawn from a run; give its DIR"):
        figures.check(None, drawn)
    known = manifest.read(drawn)
    manifest.write(known | {"sources": {"published": known["sources"]["own"]}}, {}, drawn)
    with pytest.raises(UserError, match="of the published study alone; leave DIR out"):
        figures.check(run.directory, drawn)
