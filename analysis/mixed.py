"""Mixed models: seeds, and networks, as random effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import linalg, optimize, stats

from analysis.blocks import NO_SPREAD
from analysis.budgets import one_budget
from analysis.cells import codes, measured, several, varying
from analysis.differences import t_test
from analysis.ratio_layouts import BATCH, LR, RATIO
from analysis.seeds import NO_ESTIMATE, Estimate

Array = NDArray[np.float64]

#: A standard deviation below this share of the residual one counts as 0.
_NOTHING = 1e-3


@dataclass(frozen=True, eq=False)
class InterceptFit:
    """A linear model with a random intercept a group, by maximum likelihood."""

    coefficients: Array
    """(columns,) of the fixed effects."""
    log_likelihood: float
    """At its maximum (nat); NaN where nothing is left to explain."""
    variance: float
    """Of the noise."""
    group_variance: float
    """Of the groups' intercepts; 0 where there are no groups, or the likelihood is greatest there."""


def random_intercept(design: Array, y: Array, groups: NDArray[np.int64] | None) -> InterceptFit:
    """y = design @ coefficients + intercept[group] + noise, intercepts and noise normal, by maximum likelihood.

    Given theta = group variance / noise variance the rest is least squares of y_i - c_g mean_g(y) on the columns
    treated alike, c_g = 1 - 1 / sqrt(1 + theta n_g); theta maximises the profile likelihood [Pinheiro, Bates,
    Mixed-Effects Models in S and S-PLUS, 2000, section 2.2]. It is the model of statsmodels' MixedLM, a hundred
    times as fast, and cannot fail to converge.

    Args:
        design: (n, columns), which may depend on each other.
        y: (n,).
        groups: (n,) from 0; none: ordinary least squares.
    """
    plain = _given(0.0, design, y, np.arange(len(y)))
    if groups is None or np.isnan(plain.log_likelihood):
        return plain

    def loss(share: float) -> float:
        return -_given(share / (1 - share), design, y, groups).log_likelihood

    found = float(optimize.minimize_scalar(loss, bounds=(0, 1 - 1e-9), method="bounded", options={"xatol": 1e-7}).x)
    return max(_given(found / (1 - found), design, y, groups), plain, key=lambda fit: fit.log_likelihood)


def _given(theta: float, design: Array, y: Array, groups: NDArray[np.int64]) -> InterceptFit:
    """The fit at this ratio of variances."""
    sizes = np.bincount(groups)
    pull = (1 - 1 / np.sqrt(1 + theta * sizes))[groups]
    both = np.column_stack([design, y])
    sums = np.zeros((len(sizes), both.shape[1]))
    np.add.at(sums, groups, both)
    both = both - pull[:, None] * (sums / sizes[:, None])[groups]
    coefficients = np.linalg.lstsq(both[:, :-1], both[:, -1], rcond=None)[0]
    rest = both[:, -1] - both[:, :-1] @ coefficients
    n, variance = len(y), float(rest @ rest) / len(y)
    likelihood = np.nan
    if variance > (NO_SPREAD * float(np.abs(y).max())) ** 2:
        likelihood = -n / 2 * (np.log(2 * np.pi * variance) + 1) - np.log1p(theta * sizes).sum() / 2
    return InterceptFit(coefficients, float(likelihood), variance, theta * variance)


@dataclass(frozen=True)
class NetworkEffects:
    """y ~ s(log10(lr / batch)) [+ log10 lr] + method, with networks, seeds and cells as random effects."""

    y: str
    treatment: str
    control: str
    difference: Estimate
    """Treatment minus control, in y's own unit: Wald interval of the mixed model, for these networks."""
    p: float
    difference_over_networks: Estimate
    """The same, with the t interval over the networks' own mean gains at equal settings: for networks like these."""
    p_over_networks: float
    along: Estimate
    """Change of y per decade of lr at one lr / batch, with its Wald interval; NaN where the batch size is one."""
    deviations: dict[str, float]
    """Standard deviation of each random effect and of the `noise`, in y's own unit."""
    n_networks: int
    n_seeds: int
    n_cells: int
    """Settings of network, lr and batch size."""
    n_trials: int
    degree: int
    """Of the polynomial s."""
    notes: tuple[str, ...]
    """What could not be told, or is not seen; a reason alone where there is no fit."""


def network_effects(
    trials: DataFrame,
    y: str = "last_test_robust",
    treatment: str = "DEAT",
    control: str = "PGD-AT",
    *,
    degree: int = 3,
    confidence: float = 0.95,
) -> NetworkEffects:
    """How two methods differ over networks, learning rates and batch sizes, by restricted maximum likelihood.

    Random effects, each left out where the frame has one value of it: the network's intercept; the seed's within its
    network, for a seed means other first weights in another network; the cell's (network, lr, batch), which both
    methods share; the method's in its cell, where a cell holds several seeds. Wald intervals are normal ones: they
    hold for many cells, not for few.

    Args:
        trials: as `analysis.frame.load_trials` gives them; `analysis.budgets.one_budget` is taken of them.
        y: a metric's column.
        treatment: a method's name.
        control: another one's.
        degree: of the polynomial in log10(lr / batch), at most the number of ratios minus 1.
        confidence: of the intervals, in (0, 1).

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(one_budget(trials)[0], y)
    rows = usable[usable["method"].isin([treatment, control])].reset_index(drop=True)
    rows = rows.assign(cell=codes(rows, ["model.name", LR, BATCH]))
    names = (treatment, control)
    counts = (rows["model.name"].nunique(), rows["seed"].nunique(), rows["cell"].nunique(), len(rows))
    # Ratios of equal cells may differ in their last digit: 0.3 / 96 and 0.1 / 32.
    degree = min(degree, rows[RATIO].map(np.log10).round(9).nunique() - 1)
    pooled = {axis for _, part in rows.groupby("method") for axis in varying(part)} - {"model.name", LR, BATCH}
    if pooled or rows["method"].nunique() < 2 or rows["cell"].nunique() < degree + 4:
        why = (
            f"settings of {', '.join(sorted(pooled))} would be pooled: choose one of each"
            if pooled
            else f"needs trials of {treatment} and {control} in at least {max(degree, 0) + 4} cells"
        )
        nan = float("nan")
        return NetworkEffects(
            y, *names, NO_ESTIMATE, nan, NO_ESTIMATE, nan, NO_ESTIMATE, {}, *counts, degree=0, notes=(why,)
        )
    design, columns, notes = _design(rows, treatment, degree)
    effects, missing = _random_effects(rows)
    fit = variance_components(design, rows[y].to_numpy(dtype=np.float64), effects)
    deviations = {name: float(np.sqrt(variance)) for name, variance in {**fit.variances, "noise": fit.variance}.items()}
    unseen = [name for name in effects if deviations[name] < _NOTHING * deviations["noise"]]
    wald = {name: _wald(fit, columns.index(name), confidence) for name in ("method", "lr") if name in columns}
    over, p_over = _over_networks(rows, y, names, confidence)
    difference, p = wald["method"]
    along = wald["lr"][0] if "lr" in wald else NO_ESTIMATE
    told = (*notes, *missing, *(f"no spread by {name} is seen" for name in unseen))
    return NetworkEffects(y, *names, difference, p, over, p_over, along, deviations, *counts, degree, told)


def _design(rows: DataFrame, treatment: str, degree: int) -> tuple[Array, list[str], list[str]]:
    """The fixed effects, their names, and what had to be left out."""
    x, lr = (np.log10(rows[column].to_numpy(dtype=np.float64)) for column in (RATIO, LR))
    x = (x - x.mean()) / max(float(np.ptp(x)), 1e-12)
    columns = {f"x^{power}": x**power for power in range(degree + 1)}
    columns["method"] = (rows["method"] == treatment).to_numpy(dtype=np.float64)
    notes = []
    if several(rows[BATCH]) and several(rows[LR]):
        columns["lr"] = lr - lr.mean()
    else:
        one = "batch size" if not several(rows[BATCH]) else "learning rate"
        notes.append(f"one {one}: the ratio cannot be told from the learning rate and the batch size apart")
    return np.column_stack(list(columns.values())), list(columns), notes


@dataclass(frozen=True, eq=False)
class ComponentsFit:
    """A linear model with crossed random intercepts, by restricted maximum likelihood."""

    coefficients: Array
    """(columns,) of the fixed effects."""
    errors: Array
    """(columns,) their standard errors, the variances taken for known."""
    log_likelihood: float
    """Restricted, at its maximum (nat)."""
    variance: float
    """Of the noise."""
    variances: dict[str, float]
    """Of each random effect."""


def variance_components(design: Array, y: Array, effects: dict[str, NDArray[np.int64]]) -> ComponentsFit:
    """y = design @ coefficients + sum of intercepts, one for each level of each effect, + noise; all normal.

    With V = 1 + sum_k theta_k Z_k Z_k' the noise's variance and the coefficients are generalised least squares given
    theta, the ratios of variances, which maximise the restricted likelihood [Searle, Casella, McCulloch, Variance
    Components, 1992, section 6.6]. The model is that of statsmodels' MixedLM, whose optimisers may stop short of a
    variance of 0.

    Args:
        design: (n, columns), independent.
        y: (n,).
        effects: (n,) levels from 0, by the effect's name; none at all: ordinary least squares.
    """
    same = [(levels[:, None] == levels).astype(np.float64) for levels in effects.values()]

    def loss(theta: Array) -> float:
        return -_restricted(theta, same, design, y)[0]

    theta = np.zeros(0)
    if same:
        start, bounds = np.full(len(same), 0.5), [(0.0, 1e4)] * len(same)
        theta = optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12}).x
    likelihood, coefficients, variance, inverse = _restricted(theta, same, design, y)
    errors = np.sqrt(variance * np.diag(inverse))
    known = dict(zip(effects, (variance * float(value) for value in theta), strict=True))
    return ComponentsFit(coefficients, errors, likelihood, variance, known)


def _restricted(theta: Array, same: Sequence[Array], design: Array, y: Array) -> tuple[float, Array, float, Array]:
    """Restricted log-likelihood, coefficients, noise variance and (X' V^-1 X)^-1 at these ratios of variances."""
    covariance = np.eye(len(y)) + sum(value * matrix for value, matrix in zip(theta, same, strict=True))
    factor = np.linalg.cholesky(covariance)
    both = linalg.solve_triangular(factor, np.column_stack([design, y]), lower=True)
    inverse = np.linalg.inv(both[:, :-1].T @ both[:, :-1])
    coefficients = inverse @ both[:, :-1].T @ both[:, -1]
    rest = both[:, -1] - both[:, :-1] @ coefficients
    free = len(y) - design.shape[1]
    variance = float(rest @ rest) / free
    determinants = 2 * np.log(np.diag(factor)).sum() - np.linalg.slogdet(inverse)[1]
    likelihood = -(free * (np.log(2 * np.pi * variance) + 1) + determinants) / 2
    return float(likelihood), coefficients, variance, inverse


def _random_effects(rows: DataFrame) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """The level of each trial in every random effect that the frame can tell; what it cannot."""
    levels = {
        "network": codes(rows, ["model.name"]),
        "seed": codes(rows, ["model.name", "seed"]),
        "cell": codes(rows, ["cell"]),
        "method in a cell": codes(rows, ["cell", "method"]),
    }
    one = [name for name, key in (("network", "model.name"), ("seed", "seed")) if not several(rows[key])]
    known = {name: of for name, of in levels.items() if name not in one and 1 < of.max() + 1 < len(rows)}
    return known, [f"one {name}: its own effect cannot be told" for name in one]


def _wald(fit: ComponentsFit, at: int, confidence: float) -> tuple[Estimate, float]:
    value, error = float(fit.coefficients[at]), float(fit.errors[at])
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Estimate(value, value - half, value + half), float(2 * stats.norm.sf(abs(value) / error))


def _over_networks(rows: DataFrame, y: str, names: tuple[str, str], confidence: float) -> tuple[Estimate, float]:
    """The t interval over the networks' mean differences at equal settings."""
    cells = rows.pivot_table(index=["model.name", "cell"], columns="method", values=y)[list(names)].dropna()
    gains = (cells[names[0]] - cells[names[1]]).groupby(level="model.name").mean()
    value, low, high, p = map(float, t_test(gains.to_numpy(dtype=np.float64), confidence))
    return Estimate(value, low, high), p
