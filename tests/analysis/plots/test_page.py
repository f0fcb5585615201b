"""Pictures for a paper: their width, their letters, their fonts, the names in them."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from analysis import figures
from analysis.figures import load, painted, products
from analysis.paper import sheets as paper_sheets
from analysis.plots.page import WIDTHS, Page
from analysis.plots.style import STYLE
from sweep.cli import main

INCH = 2.54

METRICS = ("last_test_robust", "last_test_clean")


@pytest.fixture(scope="module")
def swept(new_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two optimizers, three learning rates, three batch sizes, two seeds."""
    run = new_run(tmp_path_factory.mktemp("swept"))
    for name, lr, batch, seed in itertools.product(("sgd", "deat"), (0.005, 0.02, 0.08), (16, 32, 64), (0, 1)):
        value = 0.5 + 2 * lr - batch / 1000 + 0.01 * seed + 0.02 * (name == "deat")
        point = {"optimizer__name": name, "optimizer__lr": lr, "batch_size": batch}
        config = {"data.name": "digits", "evaluation.steps": 10, "evaluation.radius": 0.15}
        run.whole(f"{name}{lr}{batch}{seed}", [value - 0.2, value - 0.1, value], seed=seed, config=config, **point)
    run.close()
    return Path(run.directory)


@pytest.fixture(scope="module")
def drawable(swept: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:  # of the tables none is looked at here, and they take most of the time
        patch.setattr(figures, "TABLES", ())
        patch.setattr(paper_sheets, "TABLES", ())
        return {product.name: product for product in products(load(swept))[0] if product.picture}


def test_a_caption_names_the_attack_where_the_figure_is_of_robust_accuracy(swept: Path) -> None:
    captions = [products(load(swept, metric), ["accuracy_lr"])[0][0].caption for metric in METRICS]
    assert ["under PGD-10" in caption for caption in captions] == [True, False]
    assert captions[1].endswith("Data: digits.")


def laid_out(product: Any, page: Page) -> Figure:
    figure = product.picture(page=page)
    with mpl.rc_context(STYLE | {"font.size": page.font_size}):
        figure.draw_without_rendering()
    assert isinstance(figure, Figure)
    return figure


@pytest.mark.parametrize("width", [WIDTHS["column"], pytest.param(WIDTHS["page"], marks=pytest.mark.slow)])
def test_every_picture_is_as_wide_as_the_page_and_no_text_leaves_it(drawable: Any, width: float) -> None:
    for name, product in drawable.items():
        figure = laid_out(product, Page(width))
        assert figure.get_figwidth() == pytest.approx(width / INCH), name
        box = figure.get_tightbbox()
        assert box.x0 > -0.1, name  # a tick's label may stand out by so little, which a saved picture has room for
        assert box.x1 < figure.get_figwidth() + 0.1, name


def test_letters_have_the_size_that_was_asked_for_and_no_other_than_smaller_ones(drawable: Any) -> None:
    for name in ("accuracy_lr", "figure4", "ratio_surface"):
        figure = laid_out(drawable[name], Page(WIDTHS["page"], 7.0))
        sizes = {round(text.get_fontsize(), 2) for text in figure.findobj(Text) if text.get_text()}  # type: ignore[attr-defined]
        assert max(sizes) == 7.0, name
        assert min(sizes) >= 4.5, name


def test_fonts_of_a_pdf_are_embedded_as_truetype_and_the_bytes_are_the_same_each_time(drawable: Any) -> None:
    product = drawable["figure4"]
    (first,), (again,) = (painted(product, ["pdf"], Page(WIDTHS["column"])) for _ in range(2))
    assert first == again
    assert b"/FontFile2" in first
    assert b"/Type3" not in first


def test_a_width_leaves_the_caption_to_the_manifest_and_without_one_it_stands_below(drawable: Any) -> None:
    product = drawable["accuracy_lr"]
    tall, low = (Image.open(io.BytesIO(painted(product, ["png"], caption=c)[0])).size for c in (True, False))
    assert (tall[0], tall[1] > low[1]) == (low[0], True)
    figure = product.picture()
    assert not [text for text in figure.findobj(Text) if "95 % t interval" in text.get_text()]
    assert "95 % t interval" in product.caption


@pytest.mark.parametrize("width", [None, WIDTHS["column"], 6.0])
def test_labels_of_fields_do_not_run_into_each_other(drawable: Any, width: float | None) -> None:
    figure = laid_out(drawable["surface_lr_batch"], Page(width))
    labelled = [[text for text in axes.get_xticklabels() if text.get_text()] for axes in figure.axes[:2]]
    assert len(labelled[-1]) == 3
    for labels in labelled:
        boxes = [text.get_window_extent() for text in labels]
        leaning = {text.get_rotation() for text in labels} == {45.0}
        assert leaning or all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert {text.get_rotation() for text in labelled[-1]} == {45.0 if width == WIDTHS["column"] else 0.0}


def test_names_are_those_of_the_mapping_in_titles_legends_ticks_and_captions(drawable: Any) -> None:
    page = Page(names={"small_cnn": "Small CNN", "PGD-AT": "Madry", "digits": "Digits"})
    for name in ("accuracy_epoch", "figure5", "surface_lr_batch"):
        figure = laid_out(drawable[name], page)
        texts = [text.get_text() for text in figure.findobj(Text)]  # type: ignore[attr-defined]
        assert not [text for text in texts if any(name in text for name in page.names)]
    assert "PGD-AT" not in page.named(drawable["figure5"].caption)
    assert "Data: Digits;" in page.named(drawable["figure5"].caption)


def test_a_name_within_another_one_stays() -> None:
    page = Page(names={"PGD-AT": "Madry", "DEAT": "PGD-AT"})
    assert page.named("PGD-AT, PGD-AT-AWP, DEAT") == "Madry, PGD-AT-AWP, PGD-AT"


def test_the_command_draws_for_a_column_and_says_in_the_manifest_for_what(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Page] = []

    def paint(product: Any, output: Path, page: Page) -> list[Path]:
        asked.append(page)
        return []

    monkeypatch.setattr(figures, "_paint", paint)
    (tmp_path / "names.yaml").write_text("PGD-AT: Madry\nPGD: none of it\n")
    given = ["--width", "column", "--font-size", "7", "--names", str(tmp_path / "names.yaml")]
    ran = CliRunner().invoke(main, ["figures", str(swept), "--output", str(tmp_path / "out"), *given])
    assert ran.exit_code == 0, ran.output
    assert set(asked[0].names) == {"PGD-AT", "PGD"}
    assert (asked[0].width, asked[0].font_size) == (8.47, 7.0)
    assert "PGD stands in no figure or table; names must be whole ones" in ran.output
    known = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert known["page"] == {"width": 8.47, "font_size": 7.0, "names": {"PGD-AT": "Madry", "PGD": "none of it"}}
    assert set(known["captions"]) == set(known["figures"])
    assert "Madry (n = " in known["captions"]["accuracy_ratio"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--width", "wide"], "'wide' is neither column, page nor a number of centimetres from 4 to 100"),
        (["--width", "nan"], "'nan' is neither column, page nor a number of centimetres from 4 to 100"),
        (["--width", "1"], "'1' is neither column, page nor a number of centimetres from 4 to 100"),
        (["--font-size", "nan"], "'nan' is not a finite number; "),
        (["--font-size", "400"], "400.0 is not in the range 4<=x<=24"),
    ],
)
def test_a_width_or_size_that_is_none_is_refused(tmp_path: Path, given: list[str], said: str) -> None:
    ran = CliRunner().invoke(main, ["figures", "--published", "--output", str(tmp_path / "out"), *given])
    assert (ran.exit_code, said in ran.output) == (2, True), ran.output


@pytest.mark.parametrize("content", ["- a\n", "a: 1\n", "1: a\n", "a: ''\n", "{", "a: [b]\n", ""])
def test_a_file_of_names_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(content)
    ran = CliRunner().invoke(main, ["figures", "--published", "--output", str(tmp_path / "out"), "--names", str(path)])
    assert ran.exit_code == 2
    assert "must be a YAML mapping of names to names" in ran.output
    assert not (tmp_path / "out").exists()
