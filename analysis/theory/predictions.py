"""What theory says of a sweep's update rules, each beside plain SGD: step, noise, stability, spread, bound.

Plain SGD is without momentum, at the same learning rate and batch size, on the same gradients. The theory is of a loss
that is its quadratic, with a curvature h in each direction, under noise that is independent from step to step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.theory import deat, learning_dynamics, pac_bayes
from analysis.theory.recursions import Array

#: What of a trial's config the theory reads, or says that it does not cover.
KEYS: tuple[str, ...] = (
    *("optimizer.name", "optimizer.lr", "batch_size", "optimizer.k1", "optimizer.k2", "optimizer.momentum"),
    *("optimizer.nesterov", "optimizer.weight_decay", "optimizer.decoupled_weight_decay"),
    *("weights.name", "averaging.name", "schedule.name"),
)

#: What changes the mean step, in words.
_KEYS_OF_STEP = {"optimizer.k1": "SGD -> DEAT with k1", "optimizer.momentum": "momentum 0 ->"}

#: Of more values than this only the ends are listed.
_MANY = 8


class Rule(NamedTuple):
    """An update rule: DEAT with its k1 and k2, or SGD, for which both are NaN, with its momentum mu."""

    k1: float = np.nan
    k2: float = np.nan
    momentum: float = 0.0

    @property
    def mean_step(self) -> float:
        """How far many steps move the mean, over plain SGD: 1 / sqrt((1 + k1)^2 + k1^2), or 1 / (1 - mu).

        It is the stationary covariance over plain SGD's, too, as lr h -> 0: `analysis.theory.deat.small_lr_ratio`.
        """
        return 1 / (1 - self.momentum) if np.isnan(self.k1) else deat.small_lr_ratio(self.k1)

    @property
    def step_noise(self) -> float:
        """Variance of one update over plain SGD's: (1 - k2) / (1 + k2), or 1 / (1 - mu^2)."""
        return 1 / (1 - self.momentum**2) if np.isnan(self.k1) else deat.update_noise(1.0, self.k2)

    @property
    def stability_limit(self) -> float:
        """What lr h must be below: 2 sqrt((1 + k1)^2 + k1^2) / (1 + 2 k1), or 2 (1 + mu)."""
        return 2 * (1 + self.momentum) if np.isnan(self.k1) else deat.stability_limit(self.k1)

    def stationary_variance(self, lr: float, curvatures: Array, noises: Array) -> Array:
        """How widely the weights scatter once they have settled, by direction; infinite beyond the limit.

        Args:
            lr: learning rate.
            curvatures: h_i, (i,).
            noises: c_i, (i,): variance of the mini-batch gradient along the direction.
        """
        if np.isnan(self.k1):
            regime = learning_dynamics.Regime(lr, curvatures, noises, self.momentum)
            return learning_dynamics.stationary_variance(regime)
        return deat.stationary_variance(lr, curvatures, noises, self.k1, self.k2)

    def spread(self, lr_curvature: float) -> float:
        """Stationary variance over plain SGD's, in a direction of this lr h in (0, 2)."""
        here = 1.0, np.array([lr_curvature]), np.ones(1)
        return float((self.stationary_variance(*here) / Rule().stationary_variance(*here))[0])


def predictions(settings: DataFrame) -> DataFrame:
    """What theory says of each setting of a sweep.

    Args:
        settings: with columns method and `KEYS`; NaN where a setting's optimizer does not read a key.

    Returns:
        The same rows with lr_batch_ratio, and, NaN where theory says nothing, over plain SGD's: mean_step; step_noise,
        the variance of one update; noise_at_equal_step, the same once the learning rate makes the mean steps equal;
        spread, the stationary covariance where lr h is small, and spread_at_1, where it is 1. Then stability_limit, of
        lr h without weight decay; effective_lr and effective_weight_decay, of the plain SGD whose mean moves alike;
        posterior_scale s = mean_step lr / batch size (1/image): where lr h is small the stationary variance is
        s c / 2h, c the variance of one image's gradient along the direction; and uncovered, in words, what of the
        setting theory does not cover.
    """
    derived = DataFrame([_predicted(row) for row in settings.to_dict("records")], index=settings.index)
    return pd.concat([settings, derived], axis=1)


def _predicted(row: Mapping[Any, Any]) -> dict[str, Any]:
    lr, decay = row["optimizer.lr"], row["optimizer.weight_decay"]
    rule = Rule(row["optimizer.k1"], row["optimizer.k2"], np.nan_to_num(row["optimizer.momentum"]))
    covered = row["optimizer.name"] in ("sgd", "deat") and row["optimizer.nesterov"] is not True
    on_its_loss = covered and row["weights.name"] == "none"
    step, noise = (rule.mean_step, rule.step_noise) if covered else (np.nan, np.nan)
    return {
        "lr_batch_ratio": lr / row["batch_size"],
        "mean_step": step,
        "step_noise": noise,
        "noise_at_equal_step": noise / step**2,
        "spread": step if on_its_loss else np.nan,
        "spread_at_1": rule.spread(1.0) if on_its_loss else np.nan,
        "stability_limit": rule.stability_limit if on_its_loss else np.nan,
        "effective_lr": step * lr,
        "effective_weight_decay": decay / (step if row["optimizer.decoupled_weight_decay"] is True else step / step),
        "posterior_scale": step * lr / row["batch_size"] if on_its_loss else np.nan,
        "uncovered": tuple(_uncovered(row)),
    }


def _uncovered(row: Mapping[Any, Any]) -> Iterator[str]:
    optimizer, averaging, schedule = row["optimizer.name"], row["averaging.name"], row["schedule.name"]
    if optimizer not in ("sgd", "deat"):
        yield f"theory here is of SGD and DEAT alone, and says nothing of {optimizer}"
    if row["optimizer.nesterov"] is True:
        yield "Nesterov's momentum has no recursion here: nothing is said of it"
    if row["weights.name"] != "none":
        yield (
            "AWP takes the gradient at other weights than it moves: one update is set beside that of SGD with AWP, and "
            "nothing is said of stability, spread and bound"
        )
    if averaging != "none":
        yield f"averaged weights ({averaging}) are not covered: the raw ones are meant"
    if schedule != "constant":
        yield f"the learning rate meant is that of the config, which the schedule ({schedule}) changes on the way"


def bound_moves(predicted: DataFrame) -> DataFrame:
    """How the PAC-Bayes bound's terms move with lr / batch size, momentum, k1 and k2, all else as it is.

    The bound is around the weights at the end, posterior and prior being Gaussian (`analysis.theory.pac_bayes`). A
    change that multiplies the stationary covariance S of d directions by f multiplies tr(H S) / 2, what the posterior's
    width costs in risk, by f, and changes KL by (f - 1) tr(S) / (2 lambda_0) - (d / 2) log f, lambda_0 being the
    prior's variance.

    Args:
        predicted: of `predictions`.

    Returns:
        One row a change: change, in words; factor, f, where lr h is small; kl_per_direction, what KL changes by in each
        direction (nats) as long as S is far narrower than the prior; turning_width, the tr(S) / (d lambda_0) before the
        change at which KL stays as it is, NaN for f = 1: narrower, and a larger f makes KL smaller.
    """
    known = predicted[predicted["posterior_scale"].notna()]
    rows = [
        (change, factor, pac_bayes.kl_change(factor, 0.0, 1, 1.0), _turn(factor)) for change, factor in _changes(known)
    ]
    return DataFrame(rows, columns=["change", "factor", "kl_per_direction", "turning_width"])


def _changes(known: DataFrame) -> Iterator[tuple[str, float]]:
    """Each change that the settings make, in words, and its factor; of many k1 the least and the greatest."""
    low, high = known["lr_batch_ratio"].min(), known["lr_batch_ratio"].max()
    if low < high:
        yield f"lr / batch size {low:.3g} -> {high:.3g}", high / low
    elif len(known):
        yield "lr / batch size doubled", 2.0
    for key, change in _KEYS_OF_STEP.items():
        steps = known[known[key].notna()].groupby(key)["mean_step"].first()
        for value, step in (steps if len(steps) <= _MANY else steps.iloc[[0, -1]]).items():
            if step != 1:
                yield f"{change} {value:.3g}, at equal lr", step
    if known["optimizer.k2"].notna().any():
        yield "k2, whatever it is", 1.0


def _turn(factor: float) -> float:
    return np.nan if factor == 1 else pac_bayes.widest_that_gains(factor)
