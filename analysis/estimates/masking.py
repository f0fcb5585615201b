"""Do a network's gradients mask what breaks it? A verdict of each check, by which chance alone seldom fails one."""

from __future__ import annotations

import numpy as np
from pandas import DataFrame
from scipy.stats import binom

#: How often chance alone may fail any of the checks of one network, all together.
LEVEL = 0.05

#: Of the images right when clean, which share may speak against it; None: no more than speak in its favour. That
#: nothing is right at any distance, and that each loss grows, is what the checks ask [Athalye et al., ICML 2018, 3.1;
#: Pintor et al., NeurIPS 2022]: 1 % and 5 % are left to images at which fp32 rounds a gradient to 0 or a step is cut
#: off at the end of the pixels' range. Where logits were masked, restarts broke tens of percent more [Mosbach et al.,
#: arXiv:1810.12042].
TOLERATED: dict[str, float | None] = {
    "steps": None,
    "single_step": None,
    "black_box": None,
    "restarts": 0.05,
    "unbounded": 0.01,
    "ascent": 0.05,
}

PASSED, FAILED, TOO_FEW = "passed", "failed", "too few"


def judged(checks: DataFrame) -> DataFrame:
    """The checks with a verdict each.

    Where two attacks are compared, the images that one alone breaks are counted, and whether those that speak against
    honest gradients are the more is McNemar's test, exact and one-sided [Psychometrika 1947]; else it is the binomial
    test of a share no larger than tolerated. Bonferroni's level for the six checks of a network, so that one whose
    gradients are honest fails any of them by chance in 5 % of networks at most. Images are taken as independent.

    Args:
        checks: of `analysis.frames.checks.load_checks`.

    Returns:
        The same rows with p, of the one-sided test; fails_from, the smallest `against` that fails with as many in
        favour; verdict, passed, failed, or too few (images right when clean: the check could not fail).
    """
    level = LEVEL / len(TOLERATED)
    counts = zip(*(checks[name] for name in ("check", "against", "in_favour", "clean_correct")), strict=True)
    p, fails_from, verdicts = [], [], []
    for check, against, in_favour, images in counts:
        share = TOLERATED[check]
        p.append(float(_p(np.array([against]), in_favour, images, share)[0]))
        fails_from.append(_fails_from(in_favour, images, share, level))
        can_fail = _fails_from(0, images, share, level) <= images
        verdicts.append(TOO_FEW if not can_fail else FAILED if against >= fails_from[-1] else PASSED)
    return checks.assign(p=p, fails_from=fails_from, verdict=verdicts)


def _p(against: np.ndarray, in_favour: int, images: int, tolerated: float | None) -> np.ndarray:
    """How often chance gives as many against or more, (k,)."""
    if tolerated is None:
        return np.asarray(binom.sf(against - 1, against + in_favour, 0.5))
    return np.asarray(binom.sf(against - 1, images, tolerated))


def _fails_from(in_favour: int, images: int, tolerated: float | None, level: float) -> int:
    """The smallest number against that fails; images + 1: none does."""
    numbers = np.arange(images + 1)
    failing = np.flatnonzero(_p(numbers, in_favour, images, tolerated) <= level)
    return int(failing[0]) if len(failing) else int(images) + 1
