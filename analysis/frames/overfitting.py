"""Catastrophic overfitting: a network that is right under the weak attack it was trained on, and under PGD never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.identity import at

#: Under PGD hardly any are right, and so many more under the training attack: thresholds of this project. A collapsed
#: network had 0 % under PGD [Wong, Rice, Kolter, ICLR 2020, Table 1: FGSM from the clean image]; networks that overfit
#: in the usual way keep far more [Rice, Wong, Kolter, ICML 2020].
NEAR_NONE, APART = 0.05, 0.25

#: Steps of training attacks that it befalls: FGSM and its kin, and PGD of two steps at large radii [Andriushchenko,
#: Flammarion, Section 3].
FEW_STEPS = 2


def with_overfitting(frame: DataFrame, records: Sequence[Mapping[str, Any]]) -> DataFrame:
    """The trials with a column `overfitting` behind `outcome`, `catastrophic` or none; without it where none is.

    A completed trial is so called whose training attack has `FEW_STEPS` at most, or is carried from update to update,
    if at its last evaluated epoch at most `NEAR_NONE` of the validation images (else of the test images) are right
    under the evaluation's PGD, of more steps and in no larger ball, and `APART` more of the training images under the
    training attack. Natural training attacks nothing, and is never so called.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        records: those that it is of.
    """
    configs = {record["trial_id"]: record["config"] for record in records if record["record"] == "trial"}
    weak = np.array([_weak(configs[name]) for name in frame["trial_id"]], dtype=bool)
    robust = frame["last_val_robust"].fillna(frame["last_test_robust"]).to_numpy(np.float64)
    own = frame["last_train_robust"].to_numpy(np.float64)
    lost: NDArray[np.bool_] = (robust <= NEAR_NONE) & (own - robust >= APART)
    flagged = weak & lost & (frame["outcome"] == "completed").to_numpy()
    if not flagged.any():
        return frame
    shown = frame.copy()
    shown.insert(
        list(frame.columns).index("outcome") + 1, "overfitting", ["catastrophic" if one else None for one in flagged]
    )
    return shown


def _weak(config: Mapping[str, Any]) -> bool:
    """Whether it was trained on a weak attack, and evaluated by a stronger one in no larger ball."""
    steps, replays = at(config, "attack.steps"), at(config, "attack.replays")
    carried = replays is not None and replays == replays
    few = carried or 0 < steps <= FEW_STEPS
    inside = at(config, "evaluation.radius") <= at(config, "attack.radius")
    stronger = carried or at(config, "evaluation.steps") > steps
    return bool(few and inside and stronger and at(config, "objective.name") != "natural")


def overfitting_line(frame: DataFrame) -> str:
    """What the column means, in one line; nothing where there is none.

    Args:
        frame: of `with_overfitting`.
    """
    if "overfitting" not in frame:
        return ""
    flagged = frame[frame["overfitting"].notna()]
    own, robust = flagged["last_train_robust"], flagged["last_val_robust"].fillna(flagged["last_test_robust"])
    return (
        f"catastrophic overfitting of {len(flagged)} of {len(frame)} trials: right under their own training attack "
        f"{_span(own)}, under PGD {_span(robust)} (at the last evaluated epoch). They learnt the weak attack "
        "alone [Wong et al., ICLR 2020]; take more attack.steps or a smaller radius"
    )


def _span(shares: Any) -> str:
    low, high = (f"{100 * end:.1f}" for end in (shares.min(), shares.max()))
    return f"{low} %" if low == high else f"{low} to {high} %"
