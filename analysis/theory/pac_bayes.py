"""How far training and true risk can lie apart, by PAC-Bayes: against lr / batch, and by what a run measures.

[DEAT] Sun, Sinha, Zhang, KDD 2023, Lemma 2 and Theorems 1 and 2; [LD] Xu, Zhang, UAI 2026, arXiv 2410.07719.
Both posteriors are Gaussian: Q = N(mean, S), prior P = N(prior mean, prior_variance I). The loss lies in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.theory.recursions import Array


@dataclass(frozen=True)
class Bound:
    """A bound on the adversarial risk of the posterior, by its terms; it is their sum, `total`."""

    empirical_risk: float
    """At w*, where the expansion is made."""
    curvature: float
    """tr(H S) / 2: what the posterior's width costs in empirical risk."""
    displacement: float
    """m^T H m / 2: what its mean's distance from w* costs."""
    kl: float
    complexity: float
    """sqrt((KL + log(n / delta)) / 2n)."""

    @property
    def total(self) -> float:
        """The bound."""
        return self.empirical_risk + self.curvature + self.displacement + self.complexity


@dataclass(frozen=True)
class Complement:
    """All directions but the leading ones that were measured: a posterior of one variance there.

    No measurement says that variance. Equal to the prior's, it leaves KL alone and only costs curvature, which makes
    the bound one over the measured directions.
    """

    dimensions: int
    """Parameters less the measured directions."""
    curvature: float
    """Trace of the Hessian less the measured eigenvalues."""
    variance: float


def gaussian_kl(mean: Array, covariance: Array, prior_mean: Array, prior_variance: float) -> float:
    """How far a Gaussian posterior is from a prior of one variance l: their Kullback-Leibler divergence, in nats.

        KL(N(mean, S) || N(prior mean, l I)) = [tr(S) / l + |mean - prior mean|^2 / l - d + d log l - log det S] / 2

    [DEAT], after Lemma 2, prints this with mean 0; right as printed. Infinite for a singular S.

    Args:
        mean: (d,).
        covariance: S, (d, d).
        prior_mean: (d,).
        prior_variance: l > 0, of each coordinate.
    """
    sign, logdet = np.linalg.slogdet(covariance)
    distance = float(np.sum((np.asarray(mean) - prior_mean) ** 2))
    if sign <= 0:
        return math.inf
    d = len(covariance)
    traces = (float(np.trace(covariance)) + distance) / prior_variance
    return 0.5 * (traces - d + d * math.log(prior_variance) - float(logdet))


def spherical_kl(variances: ArrayLike, prior_variance: float) -> float:
    """The same of independent coordinates with the prior's means: sum of (v / l - 1 - log(v / l)) / 2, >= 0.

    Returns:
        In nats; 0 for no coordinates, infinite where a variance is 0.
    """
    ratio = np.asarray(variances, dtype=np.float64) / prior_variance
    with np.errstate(divide="ignore"):
        return 0.5 * float(np.sum(ratio - 1 - np.log(ratio)))


def gap(kl: float, n: int, epsilon: float) -> float:
    """How far training and true risk of a posterior Q can lie apart: |R(Q) - R_emp(Q)| <= G. [DEAT], Lemma 2.

    With probability 1 - epsilon over the n samples,

        G = sqrt((KL + log(1 / epsilon) + log n + 2) / (2n - 1))

    It bounds the gap alone: a wider posterior also raises R_emp(Q), by tr(A S) / 2, which no G shows.
    """
    return math.sqrt((kl - math.log(epsilon) + math.log(n) + 2) / (2 * n - 1))


def kl_of_ratio(ratio: float, shape: Array, prior_variance: float, prior_distance: float = 0.0) -> float:
    """How far settled weights are from the prior at a ratio r = lr / b: KL of the posterior S = (r / 2) E, in nats.

    Args:
        ratio: r > 0.
        shape: E, (d, d), of `analysis.theory.stationary`. It contains lr itself, so that it is held fixed only where r
            changes through the batch size; to leading order in lr it is A H.
        prior_variance: lambda_0.
        prior_distance: |theta_0| between the means.
    """
    mean = np.zeros(len(shape))
    mean[0] = prior_distance
    return gaussian_kl(mean, ratio / 2 * shape, np.zeros(len(shape)), prior_variance)


def kl_slope(ratio: float, shape_trace: float, dimensions: int, prior_variance: float) -> float:
    """How fast that divergence grows with the ratio: dKL / dr = tr(E) / (4 lambda_0) - d / (2r).

    What [DEAT] prints as the derivative is the part of KL that depends on r, r tr(E) / (4 lambda_0) - (d / 2) log r.
    """
    return shape_trace / (4 * prior_variance) - dimensions / (2 * ratio)


def tightest_ratio(shape_trace: float, dimensions: int, prior_variance: float) -> float:
    """The ratio lr / b at which the gap is least: r = 2 lambda_0 d / tr(E), where tr(S) = d lambda_0.

    Below it, which is where d > r tr(E) / (2 lambda_0), larger lr / batch makes G smaller; above it, larger.
    That is [DEAT]'s condition after Theorem 1, right as printed: the posterior is narrower than the prior, on average.
    """
    return 2 * prior_variance * dimensions / shape_trace


def kl_change(scale: float, covariance_trace: float, dimensions: int, prior_variance: float) -> float:
    """What a wider posterior changes KL by: that of the covariance scale * S less that of S, in nats.

        (scale - 1) tr(S) / (2 lambda_0) - (d / 2) log(scale)

    [DEAT], Theorem 2, with scale = (1 + k1)^2 + k1^2: the gap is tighter where this is negative, that is where
    tr(S) / (d lambda_0) < log(scale) / (scale - 1). For a scale above 1 the condition of `tightest_ratio` does not
    suffice at S; it does at scale * S.

    The theorem's scale is not that of the algorithm: at equal lr DEAT's stationary covariance is PGD-AT's times
    1 / sqrt((1 + k1)^2 + k1^2) to leading order (`analysis.theory.deat.small_lr_ratio`). So where a wider posterior
    has the smaller gap, DEAT at equal lr has the *larger* one.
    """
    return (scale - 1) * covariance_trace / (2 * prior_variance) - dimensions / 2 * math.log(scale)


def widest_that_gains(scale: float) -> float:
    """How wide a posterior may be for a wider one to have the smaller KL: log(scale) / (scale - 1).

    With tr(S) / (d lambda_0) below it `kl_change` is negative for scale > 1; for a scale below 1 it is so *above* it.
    0.402 at scale 5 (k1 = 1).
    """
    return math.log(scale) / (scale - 1)


def bound(
    empirical_risk: float,
    hessian: Array,
    covariance: Array,
    mean: Array,
    prior_mean: Array,
    prior_variance: float,
    n: int,
    delta: float,
) -> Bound:
    """A bound of the adversarial risk of weights drawn from Q = N(w* + m, S). [LD]

    With probability 1 - delta over n samples,

        E_Q R_adv <= R_emp(w*) + tr(H S) / 2 + m^T H m / 2 + sqrt((KL(Q || P) + log(n / delta)) / 2n)

    The first three terms are E_Q R_emp where the risk is quadratic. Maurer (2004) proves it with log(2 sqrt(n) /
    delta), which is smaller from n = 4 on.

    Args:
        empirical_risk: at w*.
        hessian: H, (d, d), at w*.
        covariance: S, (d, d).
        mean: m, (d,), from w*.
        prior_mean: w_P, (d,), from w*.
        prior_variance: s^2.
        n: training samples.
        delta: probability with which it may fail.
    """
    kl = gaussian_kl(mean, covariance, prior_mean, prior_variance)
    curvature = 0.5 * float(np.sum(hessian * covariance))
    return Bound(empirical_risk, curvature, 0.5 * float(mean @ hessian @ mean), kl, _complexity(kl, n, delta))


def diagonal_bound(
    empirical_risk: float,
    curvatures: Array,
    variances: Array,
    complement: Complement,
    prior_distance: float,
    prior_variance: float,
    n: int,
    delta: float,
    *,
    mean: Array | None = None,
) -> Bound:
    """`bound` from what a run measures: leading eigenvalues h_i, variances S_i along them, and the rest as one.

        tr(H S) / 2 = (sum h_i S_i + complement's trace * its variance) / 2
        KL = |w* + m - w_P|^2 / 2s^2 + sum over i, and d - k times for the complement, of (v - 1 - log v) / 2
        with v = S / s^2

    Args:
        empirical_risk: at w*.
        curvatures: h_i, (k,).
        variances: S_i, (k,).
        complement: the other directions.
        prior_distance: |w* + m - w_P|, over all parameters.
        prior_variance: s^2.
        n: training samples.
        delta: probability with which it may fail.
        mean: m_i, (k,), along the leading eigenvectors; none: zero. It is taken to be zero in the complement.
    """
    shifts = np.zeros_like(curvatures) if mean is None else mean
    rest = complement.dimensions * spherical_kl([complement.variance], prior_variance)
    kl = prior_distance**2 / (2 * prior_variance) + spherical_kl(variances, prior_variance) + rest
    curvature = 0.5 * (float(curvatures @ variances) + complement.curvature * complement.variance)
    return Bound(empirical_risk, curvature, 0.5 * float(curvatures @ shifts**2), kl, _complexity(kl, n, delta))


def _complexity(kl: float, n: int, delta: float) -> float:
    return math.sqrt((kl + math.log(n / delta)) / (2 * n))
