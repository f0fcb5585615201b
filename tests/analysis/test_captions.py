"""A caption promises a band or a bar where one is drawn, and nowhere else."""

from __future__ import annotations

import doctest
import itertools
from typing import Any

import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from pandas import DataFrame

from analysis.estimates.methods import comparison
from analysis.figures import load, products
from analysis.frames import names
from analysis.tables.methods import notes
from sweep.search.optuna_importance import optuna_importance

#: Figures whose captions speak of bands or bars.
SPREAD = ("accuracy_lr", "accuracy_epoch", "figure2", "figure4", "figure5", "methods")


def sweep(run: Any, seeds: int) -> None:
    """Three methods, two learning rates, two batch sizes, of so many seeds."""
    methods = {"PGD-AT": ("sgd", "pgd_at"), "DEAT": ("deat", "pgd_at"), "TRADES": ("sgd", "trades")}
    for (name, (optimizer, loss)), lr, batch, seed in itertools.product(
        methods.items(), (0.1, 0.2), (64, 128), range(seeds)
    ):
        value = 0.5 + 0.1 * lr + 0.01 * seed + 0.001 * batch / 64 + 0.02 * (optimizer == "deat")
        point = {"optimizer__name": optimizer, "objective__name": loss, "optimizer__lr": lr, "batch_size": batch}
        run.whole(f"{name}{lr}{batch}{seed}", [value - 0.1, value], seed=seed, **point)


def has_spread(figure: Figure) -> bool:
    """Whether a filled band is wider than nothing somewhere, or a horizontal bar is there."""
    found = [c for axes in figure.axes for c in axes.collections if isinstance(c, PolyCollection)]
    corners = [DataFrame(path.vertices).groupby(0)[1] for band in found for path in band.get_paths()]
    bars = [line.get_xdata() for axes in figure.axes for line in axes.lines if line.get_alpha() == 0.6]
    wide = any((at_x.max() - at_x.min()).max() > 1e-9 for at_x in corners)
    return wide or any(len(ends) == 2 and ends[1] > ends[0] for ends in bars)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_caption_promises_a_band_or_a_bar_where_one_is_drawn(run: Any, seeds: int) -> None:
    sweep(run, seeds)
    made, _ = products(load(run.directory, evaluator=optuna_importance))
    drawn = {product.name: product for product in made if product.picture and product.name in SPREAD}
    assert set(drawn) == set(SPREAD)
    for name, product in drawn.items():
        assert product.picture is not None
        figure, text = product.picture(), product.caption
        promised = "band: " in text or "bars: " in text
        assert (promised, "no ba" in text) == (seeds > 1, seeds == 1), (name, text)
        assert has_spread(figure) == promised, name
        if promised and name in ("accuracy_lr", "figure4", "methods"):
            assert "variance pooled over " in text, (name, text)


def test_the_methods_table_speaks_of_brackets_where_there_are_any(run: Any) -> None:
    sweep(run, 1)
    lines = notes(comparison(load(run.directory).trials))
    assert "[n/a]: one seed, or seeds that do not differ, have no interval" in lines
    assert not [line for line in lines if line.startswith("brackets")]


def test_examples_hold() -> None:
    assert doctest.testmod(names).failed == 0
