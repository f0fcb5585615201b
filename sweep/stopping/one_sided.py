"""How strongly seeds speak for a mean above 0: a one-sided e-process, the half of `analysis.claims.evidence` above 0.

A ratio of densities like that one, but with the half of its prior above the null alone: the effect, in units of the
spread, is |N(0, c^2)|. Under an effect of 0 it is a martingale that begins at 1, so that it ever reaches 1 / alpha with
probability at most alpha [Ville 1939]. It rises with t, and an effect below 0 makes t smaller seed by seed: then it is
rarer still. So it holds for "no better", not only for "equal".
"""

from __future__ import annotations

import math
from functools import lru_cache

from scipy import optimize, special

from analysis.claims.evidence import SCALE, log_evidence

#: Beyond this t the evidence is at its limit.
_SURELY = 1e8


def log_evidence_above(t: float, n: int, freedom: float, scale: float = SCALE) -> float:
    """Logarithm of the evidence that the location under test is above the null value that `t` was formed with.

        2 P(effect > 0 | data) times the evidence of `log_evidence`,
        P = T(t sqrt((A - 1) / A) sqrt((v + 1) / (v + t^2 / A)); v + 1),  A = 1 + n c^2

    T is Student's distribution function: with this prior the effect's posterior is a t distribution.

    Args:
        t: (estimate - null) / standard error.
        n: replicates.
        freedom: v, of the standard error; 0: one replicate says nothing.
        scale: c, standard deviation of the prior of the effect in units of one replicate's spread.
    """
    if freedom <= 0:
        return 0.0
    weight = 1 + n * scale**2
    z = t * math.sqrt((weight - 1) / weight * (freedom + 1) / (freedom + t**2 / weight))
    above = float(special.stdtr(freedom + 1, z))
    return log_evidence(t, n, freedom, scale) + math.log(2) + (math.log(above) if above else -math.inf)


@lru_cache(maxsize=4096)
def critical(n: int, freedom: int, alpha: float) -> float:
    """The t at which the evidence is 1 / alpha; infinite where so few replicates never reach it.

    Args:
        n: replicates.
        freedom: of the standard error.
        alpha: in (0, 1).
    """
    needed = -math.log(alpha)
    if log_evidence_above(_SURELY, n, freedom) < needed:
        return math.inf
    return float(optimize.brentq(lambda t: log_evidence_above(t, n, freedom) - needed, 0.0, _SURELY, xtol=1e-9))
