"""What of the figures is shown: of two with the same curves one, and why others are not."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from analysis.plots.plan import Product
from analysis.report.pictures import not_drawn, pictures


def product(name: str, *rows: str, inches: tuple[float, float] = (1, 1)) -> Product:
    """A figure of trials, each as `ID,BATCH`."""
    text = "\n".join(["trial_id,batch_size", *rows])
    return Product(name, {f"{name}.csv": text}, lambda page: Figure(figsize=inches), frozenset(rows), "caption")


def shown(*products: Product) -> list[str]:
    return [part.partition('"')[0] for part in pictures(products).split('id="figure-')[1:]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["a,16", "b,32"], ["figure4"]),
        (["a,16", "c,16"], ["accuracy_lr", "figure4"]),  # of a method that figure4 has not
        (["a,all", "b,all"], ["accuracy_lr", "figure4"]),  # one panel for all batch sizes
    ],
)
def test_accuracy_by_learning_rate_is_left_out_where_figure4_has_the_same_panels(
    rows: list[str], expected: list[str]
) -> None:
    assert shown(product("accuracy_lr", *rows), product("figure4", "a,16", "b,32")) == expected


@pytest.mark.parametrize(("inches", "wide"), [((10.5, 6), True), ((10.5, 3), True), ((7, 3), False)])
def test_a_figure_of_three_panels_across_has_the_whole_width(inches: tuple[float, float], wide: bool) -> None:
    assert ('class="wide"' in pictures([product("one", "a,1", inches=inches)])) == wide


def test_what_is_not_drawn_stands_there_by_what_it_lacks() -> None:
    said = not_drawn({"one": "needs <two> seeds", "two": "needs dynamics", "three": "needs <two> seeds"})
    assert said is not None
    assert "<strong>one, three</strong>: needs &lt;two&gt; seeds" in said
    assert "why (3)" in said
    assert not_drawn({}) is None
