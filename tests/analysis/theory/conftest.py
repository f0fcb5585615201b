from __future__ import annotations

import numpy as np
import pytest

#: Two-sided, a normal value lies outside with probability 7e-6: about 1 in 500 for all entries of all cases here.
STANDARD_ERRORS = 4.5


def _spd(seed, dimensions=3, low=0.3, high=1.5, basis=None):
    """A random symmetric matrix with eigenvalues in [low, high], in a random eigenbasis or that of `basis`."""
    rng = np.random.default_rng(seed)
    if basis is None:
        vectors = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0]
    else:
        vectors = np.linalg.eigh(basis)[1]
    return (vectors * rng.uniform(low, high, dimensions)) @ vectors.T


@pytest.fixture
def spd():
    return _spd


@pytest.fixture(params=["commuting", "not commuting"])
def pair(request):
    """seed -> a Hessian and a covariance that share their eigenvectors, or do not."""

    def made(seed, dimensions=3):
        hessian = _spd(seed, dimensions)
        return hessian, _spd(1000 + seed, dimensions, basis=hessian if request.param == "commuting" else None)

    return made


@pytest.fixture
def assert_agrees():
    """Holds the second moments of independent rows, about a known mean of zero, against a covariance."""

    def check(rows, covariance):
        found = rows.T @ rows / len(rows)
        variances = np.diag(covariance)
        error = np.sqrt((np.outer(variances, variances) + covariance**2) / len(rows))
        np.testing.assert_array_less(np.abs(found - covariance), STANDARD_ERRORS * error)

    return check


@pytest.fixture
def slope():
    """Of log |error| against log lr, by least squares."""
    return lambda lrs, errors: np.polyfit(np.log(lrs), np.log(errors), 1)[0]


@pytest.fixture
def relative():
    """Frobenius norm of the difference over that of the second."""
    return lambda found, exact: np.linalg.norm(found - exact) / np.linalg.norm(exact)
