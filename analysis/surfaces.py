"""A metric on the grid of two hyperparameters; diverged cells are part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.cells import GROUP, measured


@dataclass(frozen=True, eq=False)
class Surface:
    """Mean of `value` at each pair of x and y; every other axis, the seed included, is pooled."""

    x: str
    y: str
    value: str
    x_values: NDArray[Any]
    """(X,) rising."""
    y_values: NDArray[Any]
    """(Y,) rising."""
    mean: NDArray[np.float64]
    """(Y, X) over completed trials; NaN where there is none."""
    sd: NDArray[np.float64]
    """(Y, X) sample standard deviation over them; NaN for fewer than 2."""
    n: NDArray[np.int64]
    """(Y, X) completed trials with the value measured."""
    diverged: NDArray[np.int64]
    """(Y, X) diverged trials."""

    def table(self) -> DataFrame:
        """One row a grid point: x, y, mean, sd, n, diverged."""
        y, x = np.meshgrid(self.y_values, self.x_values, indexing="ij")
        arrays = {"mean": self.mean, "sd": self.sd, "n": self.n, "diverged": self.diverged}
        return DataFrame({self.x: x.ravel(), self.y: y.ravel(), **{k: a.ravel() for k, a in arrays.items()}})


def surface(frame: DataFrame, x: str, y: str, value: str = "last_test_robust") -> Surface:
    """The mean of `value` on the grid of x and y.

    Args:
        frame: trials of one model and one method, else those are pooled too.
        x: a hyperparameter's column, the grid's columns.
        y: another one, the grid's rows.
        value: a metric's column.

    Raises:
        UserError: the frame has no column `value`.
    """
    rows = frame[frame[x].notna() & frame[y].notna()]
    x_values, y_values = np.unique(rows[x].to_numpy()), np.unique(rows[y].to_numpy())
    shape = (len(y_values), len(x_values))

    def place(part: DataFrame) -> NDArray[np.int64]:
        row, column = (
            np.searchsorted(y_values, part[y].to_numpy()),
            np.searchsorted(x_values, part[x].to_numpy()),
        )
        return np.asarray(row * len(x_values) + column, dtype=np.int64)

    def total(cells: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        return np.bincount(cells, weights, minlength=shape[0] * shape[1])

    usable = measured(rows, value)
    cells, values = place(usable), usable[value].to_numpy(dtype=np.float64)
    n = total(cells)
    mean = np.where(n > 0, total(cells, values) / np.maximum(n, 1), np.nan)
    squares = total(cells, (values - mean[cells]) ** 2)
    sd = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)
    diverged = total(place(rows[rows["outcome"] == "diverged"]))
    grids = (array.reshape(shape) for array in (mean, sd, n, diverged))
    return Surface(x, y, value, x_values, y_values, *grids)


def surfaces(
    frame: DataFrame, x: str, y: str, value: str = "last_test_robust", by: Sequence[str] = GROUP
) -> dict[tuple[Any, ...], Surface]:
    """One surface for each combination of the columns `by`, in order of appearance; else as `surface`."""
    groups = frame.groupby(list(by), sort=False)
    return {key: surface(part, x, y, value) for key, part in groups}
