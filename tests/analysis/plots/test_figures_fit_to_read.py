"""What would mislead or stop a reader of a figure, each kind once, over all figures that it could be in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator
from pandas import DataFrame

from analysis import figures
from analysis.figures import load, products
from analysis.paper import figures as paper_figures
from analysis.paper import sheets as paper_sheets
from analysis.paper.parts import published_data
from analysis.plots import accuracy_lr, dynamics, methods, ratio, robustness_radius, surface
from analysis.plots.page import WIDTHS, Page
from analysis.plots.plan import Data
from analysis.plots.style import in_order, in_rows

FIGURE4 = next(plan for plan in paper_figures.PLANS if plan.name == "figure4")

RATES, BATCHES = (0.006, 0.03, 0.15), (16, 32, 64)


@pytest.fixture(scope="module")
def swept(new_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods at three rates and batch sizes, two seeds; at the largest step one trial of each diverged."""
    run = new_run(tmp_path_factory.mktemp("swept"))
    slots = {"PGD-AT": ("sgd", "pgd_at"), "DEAT": ("deat", "pgd_at"), "TRADES": ("sgd", "trades")}
    for (name, (optimizer, objective)), lr, batch, seed in itertools.product(slots.items(), RATES, BATCHES, (0, 1)):
        value = 0.5 + lr - batch / 1000 + 0.01 * (seed and name != "DEAT")  # DEAT's seeds agree
        point = {"optimizer__name": optimizer, "objective__name": objective, "optimizer__lr": lr, "batch_size": batch}
        if (lr, batch, seed) == (0.15, 16, 1):
            run.trial(f"{name}lost", seed=seed, **point)
            run.start(f"{name}lost")
            run.outcome(f"{name}lost", "diverged", epochs=0, reason="loss is nan")
        else:
            run.whole(f"{name}{lr}{batch}{seed}", [value - 0.1, value - 0.05, value], seed=seed, **point)
    run.close()
    return Path(run.directory)


@pytest.fixture(scope="module")
def made(swept: Path) -> dict[str, Any]:
    """Of the run beside the published study, and of that alone."""
    with pytest.MonkeyPatch.context() as patch:  # of the tables none is looked at here, and they take most of the time
        patch.setattr(figures, "TABLES", ())
        patch.setattr(paper_sheets, "TABLES", ())
        own, _ = products(load(swept, published=True))
        alone, _ = products(published_data())
    return {one.name: one for one in own} | {f"published {one.name}": one for one in alone}


@pytest.fixture(scope="module")
def drawn(made: dict[str, Any]) -> dict[str, Figure]:
    return {name: one.picture() for name, one in made.items() if one.picture}


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]


def legends(figure: Figure) -> list[Legend]:
    inside = [legend for axes in figure.axes if (legend := axes.get_legend()) is not None]
    return [*figure.legends, *inside]


def ticks(axes: Axes) -> list[str]:
    locator = axes.xaxis.get_major_locator()
    return axes.xaxis.get_major_formatter().format_ticks(locator.locs) if isinstance(locator, FixedLocator) else []


def test_panels_of_one_data_set_share_their_axis_of_accuracies(drawn: dict[str, Figure]) -> None:
    for name in ("figure2", "figure4", "figure5", "published figure4"):
        by_data: dict[str, set[Any]] = {}
        for axes in panels(drawn[name]):
            data = "digits" if "(own)" in axes.get_title() else "CIFAR-10"
            by_data.setdefault(data, set()).add(axes.get_ylim())
        assert {len(limits) for limits in by_data.values()} == {1}, name


def test_every_tick_of_a_learning_rate_or_ratio_is_one_that_was_run(drawn: dict[str, Figure]) -> None:
    published = set(published_data().trials["optimizer.lr"])
    for name in ("accuracy_lr", "figure4", "published figure4", "ratio_surface"):
        known = {f"{rate:g}" for rate in {*RATES, *published}}
        shown = {text for axes in panels(drawn[name]) for text in ticks(axes)}
        assert shown, name
        assert shown <= known, name
    ratios = {lr / batch for lr in RATES for batch in BATCHES}
    shown = {float(text) for axes in panels(drawn["accuracy_ratio"]) for text in ticks(axes)}
    assert all(min(abs(np.log(tick / ratio)) for ratio in ratios) < 0.05 for tick in shown)


def test_no_tick_has_an_exponent(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        texts = [text.get_text() for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert not [text for text in texts if re.search(r"\de[-+]?\d|\^", text)], name


@pytest.mark.parametrize("name", ["accuracy_lr", "accuracy_ratio"])
def test_no_mark_hides_another_one(drawn: dict[str, Figure], name: str) -> None:
    for axes in panels(drawn[name]):
        marks = [tuple(xy) for line in axes.lines if line.get_linestyle() == "None" for xy in line.get_xydata()]
        marks = [mark for mark in marks if not np.isnan(mark).any()]
        assert len({x for x, _ in marks}) == len(marks) > 10


def look(handle: Any) -> tuple[Any, ...]:
    names = ("color", "linestyle", "marker", "markerfacecolor", "linewidth", "facecolor", "hatch")
    return tuple(str(getattr(handle, f"get_{name}", lambda: None)()) for name in names)


def test_no_two_entries_of_a_legend_look_alike(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        for legend in legends(figure):
            looks = [look(handle) for handle in legend.legend_handles]
            assert len(set(looks)) == len(looks), name


def test_lines_of_a_legend_are_as_even_as_can_be(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        for one in figure.legends:
            count, columns = len(one.get_texts()), one._ncols  # type: ignore[attr-defined]
            lines = -(-count // columns)
            assert count > (lines - 1) * columns, name
            assert columns == -(-count // lines), name


def test_methods_follow_each_other_in_one_order_in_all_figures(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        for legend in legends(figure):
            texts = [re.split(r"[:,(]", text.get_text())[0].strip() for text in legend.get_texts()]
            known = list(dict.fromkeys(text for text in texts if text in ("PGD-AT", "DEAT", "TRADES")))
            assert known == in_order(known), name
    titles = [axes.get_title().split(" (")[0] for axes in panels(drawn["surface_lr_batch"])]
    assert titles == ["PGD-AT", "DEAT", "TRADES"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_of_the_papers_panels_each_is_labelled_and_a_row_that_is_not_full_stands_in_the_middle(
    new_run: Any, tmp_path: Path, count: int
) -> None:
    run = new_run(tmp_path)
    for batch, lr, name in itertools.product(range(1, count + 1), (0.1, 0.2), ("sgd", "deat")):
        run.whole(f"{batch}{lr}{name}", [0.3, 0.4], batch_size=8 * batch, optimizer__lr=lr, optimizer__name=name)
    run.close()
    data = load(tmp_path)
    found = panels(FIGURE4.render(FIGURE4.frames(data), data.metric))
    assert len(found) == count
    assert {axes.get_xlabel() for axes in found} == {"learning rate"}
    assert np.ptp(middles(found[0].get_figure(root=True))) < 0.01


def middles(figure: Figure) -> list[float]:
    """Of each row of panels, before axes make room for their labels."""
    rows: dict[int, list[float]] = {}
    for axes in panels(figure):
        box = axes.get_position()
        rows.setdefault(round(100 * box.y0), []).extend((box.x0, box.x1))
    return [(min(ends) + max(ends)) / 2 for ends in rows.values()]


@pytest.mark.parametrize(("width", "rows"), [("column", 2), ("page", 1)])
def test_in_a_narrow_page_a_row_that_is_not_full_stands_in_the_middle(
    made: dict[str, Any], width: str, rows: int
) -> None:
    figure = made["accuracy_lr"].picture(page=Page(WIDTHS[width]))
    found = middles(figure)
    assert (len(panels(figure)), len(found)) == (3, rows)
    assert np.ptp(found) < 0.01
    assert {axes.get_xlabel() for axes in panels(figure)} == {"learning rate"}


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (3, (2, 2)), (4, (2, 2)), (5, (3, 2)), (6, (3, 2))])
def test_rows_of_panels_are_as_even_as_can_be(count: int, shape: tuple[int, int]) -> None:
    assert in_rows(count, 2.9, Page(WIDTHS["column"])) == shape
    assert in_rows(count, 2.9, Page()) == (1, count)


def test_settings_on_one_radius_curve_look_alike_in_all_panels_and_their_legend_lies_below() -> None:
    known = {"norm": "linf", "split": "test", "weights": "last", "averaged": False, "images": 100}
    cells = [("PGD-AT", 0.1, np.nan), ("PGD-AT", 0.2, np.nan), ("DEAT", 0.1, 0.0), ("DEAT", 0.1, 1.0)]
    rows = [
        {"model.name": "net", "method": method, "optimizer.lr": lr, "batch_size": 32, "optimizer.k1": k1}
        | {"attack": attack, **known, "radius": radius, "mean": 0.9 - radius, "low": 0.5, "high": 0.9, "n": n}
        for n, (method, lr, k1) in enumerate(cells, start=1)
        for attack in ("pgd", "fab")
        for radius in (0.0, 0.1, 0.2, 0.3)
        if (attack, lr) != ("fab", 0.2)
    ]
    figure = robustness_radius.robustness_radius(frame := DataFrame(rows))
    assert [axes for axes in figure.axes if axes.get_legend() is not None] == []
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "PGD-AT: lr 0.1, batch 32",
        "PGD-AT: lr 0.2, batch 32",
        "DEAT: lr 0.1, batch 32, k1 0",
        "DEAT: lr 0.1, batch 32, k1 1",
    ]
    entries = {look(handle)[:4] for handle in legend.legend_handles}
    curves = [[look(line)[:4] for line in axes.lines] for axes in panels(figure)]
    assert len(entries) == 4
    assert sorted(map(len, curves)) == [3, 4]
    assert set().union(*curves) == entries
    assert "mean over 1 to 4 seeds" in robustness_radius.caption(frame)


def test_a_caption_explains_crosses_hatches_and_c_only_where_they_are(made: dict[str, Any], swept: Path) -> None:
    whole = load(swept)
    whole = whole._replace(trials=whole.trials[whole.trials["outcome"] == "completed"])
    for plan, word in ((accuracy_lr.PLAN, "Crosses"), (surface.PLANS[0], "Hatched")):
        again = plan.captioned(whole, plan.frames(whole))
        assert (word in made[plan.name].caption, word in again) == (True, False)
    assert "c: DEAT(lr)" in made["published figure4"].caption


def test_a_caption_says_that_more_than_seeds_were_pooled_only_where_it_was(made: dict[str, Any], swept: Path) -> None:
    plan, pooled = accuracy_lr.PLAN, "and over what else was varied"
    assert pooled not in made["accuracy_lr"].caption
    whole = load(swept)
    batches = whole.trials["batch_size"].replace(BATCHES[0], BATCHES[1])
    again = whole._replace(trials=whole.trials.assign(batch_size=batches))  # as if something else told them apart
    assert pooled in plan.captioned(again, plan.frames(again))


def test_captions_list_methods_in_the_order_of_all_figures(made: dict[str, Any]) -> None:
    named = re.findall(r"([\w-]+) at learning rate", made["accuracy_epoch"].caption)
    assert named == in_order(named)
    assert len(named) == 3


def test_no_legend_lies_upon_the_curves(drawn: dict[str, Figure]) -> None:
    assert "proxy" in drawn
    assert not [name for name, figure in drawn.items() for axes in panels(figure) if axes.get_legend() is not None]


def test_no_line_runs_through_the_numbers_of_a_surface(drawn: dict[str, Figure]) -> None:
    for axes in panels(drawn["ratio_surface"])[::2]:
        assert axes.texts
        assert min(text.get_zorder() for text in axes.texts) > max(line.get_zorder() for line in axes.lines)


def test_captions_name_data_set_and_radius(made: dict[str, Any]) -> None:
    assert "Data: CIFAR-10; robust accuracy: under PGD-10, ℓ∞ radius 8/255." in made["published figure4"].caption
    assert "Published data: CIFAR-10;" in made["figure4"].caption
    assert all(one.caption for one in made.values())


def test_studies_that_share_no_panel_are_said_to_be_apart(made: dict[str, Any], drawn: dict[str, Figure]) -> None:
    assert "Published curves have panels of their own" in made["figure4"].caption
    assert not [
        line for axes in panels(drawn["figure4"]) for line in axes.lines if line.get_markerfacecolor() == "white"
    ]


def test_surfaces_share_their_scale_of_colours_and_no_line_of_equal_ratio_leaves_them(drawn: dict[str, Figure]) -> None:
    found = panels(drawn["ratio_surface"])
    for column in (found[::2], found[1::2]):
        assert len({tuple(axes.collections[0].get_clim()) for axes in column}) == 1
    bars = [axes for axes in drawn["ratio_surface"].axes if axes.get_label() == "<colorbar>"]
    assert len(bars) == 2
    for axes in found[::2]:
        ends = np.concatenate([line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"])
        assert (ends.min(), ends.max()) == pytest.approx((min(BATCHES), max(BATCHES)))


def test_no_line_runs_through_the_fields_of_a_surface_of_means(drawn: dict[str, Figure]) -> None:
    assert not [line for axes in panels(drawn["surface_lr_batch"]) for line in axes.lines]


@pytest.mark.parametrize("known", [True, False])
def test_whiskers_are_promised_where_they_are_drawn(known: bool) -> None:
    low = 0.1 if known else np.nan
    row = {"of": "net, DEAT", "model.name": "net", "method": "DEAT", "first": 0.5, "total": 0.4, "held_out_r2": 0.9}
    ends = {f"{name}_{end}": low + 0.5 * (end == "high") for name in ("first", "total") for end in ("low", "high")}
    counts = {"noise_share": np.nan, "n_points": 9, "n_trials": 18}
    rows = DataFrame([row | ends | counts | {"axis": axis} for axis in ("optimizer.lr", "batch_size")])
    caption = ratio.caption_of_variance(rows, "last_test_robust")
    assert ("whiskers: 95 %" in caption, "no whiskers" in caption) == (known, not known)
    assert "no interaction can be told from noise" in caption
    (axes,) = panels(ratio.variance(rows))
    segments = [segment for bars in axes.collections for segment in bars.get_segments()]
    drawn = [segment for segment in segments if len(segment) and np.isfinite(segment).all()]
    assert (len(drawn) == 4) == known
    (legend,) = axes.get_figure().legends  # type: ignore[union-attr]
    assert [text.get_text() for text in legend.get_texts()] == ["alone", "with its interactions"]


def test_many_methods_have_a_list_an_objective_in_dark_letters(new_run: Any, tmp_path: Path) -> None:
    run = new_run(tmp_path)
    choices = itertools.product(("trades", "mart", "pgd_at"), ("none", "awp"), (False, True), ("sgd", "deat"), (0, 1))
    for number, (objective, weights, s2o, optimizer, seed) in enumerate(choices):
        point = {"objective__name": objective, "weights__name": weights, "optimizer__name": optimizer}
        run.whole(f"t{number}", [0.3, 0.4 + 0.01 * number], seed=seed, objective__s2o__enabled=s2o, **point)
    run.close()
    data = load(tmp_path)
    rows = methods.methods(data)
    figure = methods.draw_methods(rows)
    robust = panels(figure)[::2]
    assert [axes.get_title() for axes in robust] == ["PGD-AT: robust", "TRADES: robust", "MART: robust"]
    assert sum(len(axes.get_yticks()) for axes in robust) == len(rows) == 24
    colours = {text.get_color() for axes in panels(figure) for text in axes.get_yticklabels()}
    assert colours == {"black"}
    assert all([line for line in axes.lines if line.get_linestyle() == ":"] for axes in robust)


def test_a_gap_in_dynamics_is_bridged_by_dots_and_methods_stand_beside_each_other(
    measured_run: Callable[..., Path],
) -> None:
    data: Data = load(measured_run({"sgd": 5.0, "deat": 500.0}))
    plan = dynamics.PLANS[0]
    frames = plan.frames(data)
    rows = frames["dynamics_decay"]
    gone = (rows["quantity"] == "posterior_trace") & (rows["epoch"] == 1)
    rows.loc[gone, ["mean", "low", "high"]] = np.nan
    figure = plan.render(frames, data.metric)
    axes = next(axes for axes in panels(figure) if "posterior" in axes.get_title())
    dotted = [line for line in axes.lines if line.get_linestyle() == ":" and len(line.get_xdata()) > 2]
    assert dotted
    assert all(np.isfinite(line.get_ydata()).all() for line in dotted)
    assert all("(" in axes.get_title() for axes in panels(figure))
    assert "Dotted curve" in plan.captioned(data, frames)
    points = [line.get_xdata() for line in panels(figure)[1].lines if line.get_marker() == "o"]
    assert len(points) == 2
    assert not set(points[0]) & set(points[1])
