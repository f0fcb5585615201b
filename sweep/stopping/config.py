"""What a sweep says of the rule that ends trials early."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sweep.objectives import Metric
from trainers.fields import Frozen, Number, PathText, Whole

#: By rule, its options and their defaults, which are Optuna's; None: worked out from the trial's epochs.
OPTIONS: dict[str, dict[str, Any]] = {
    "asha": {"min_resource": None, "reduction_factor": 4, "min_early_stopping_rate": 0, "bootstrap_count": 0},
    "hyperband": {"min_resource": None, "max_resource": None, "reduction_factor": 3, "bootstrap_count": 0},
    "median": {"n_startup_trials": 5, "n_warmup_steps": 0, "interval_steps": 1, "n_min_trials": 1},
    "percentile": {
        **{"percentile": None, "n_startup_trials": 5, "n_warmup_steps": 0},
        **{"interval_steps": 1, "n_min_trials": 1},
    },
    "wilcoxon": {"p_threshold": 0.1, "n_startup_steps": 2},
}


class StoppingConfig(Frozen):
    """A rule that ends trials before all their epochs are trained; a resource, or a step, is an epoch."""

    name: Literal["asha", "hyperband", "median", "percentile", "wilcoxon"] = Field(
        description="asha: at each rung, epochs min_resource * reduction_factor^k, the best 1/reduction_factor of "
        "those that came so far go on [Li et al. 2020, MLSys]. hyperband: the same from several first rungs side by "
        "side [Li et al. 2018, JMLR 18]. median: ends what is at its best worse than the median of completed trials "
        "at that epoch [Golovin et al. 2017, KDD, 3.2.2]. percentile: the same with another share than half. wilcoxon: "
        "ends no trial; a point gets no more seeds that Wilcoxon's signed-rank test finds worse, over its seeds, than "
        "the best point that has all of them; a step is a seed."
    )
    metric: Metric | None = Field(
        None, description="What trials are compared by; none: the sweep's metric, or the first of several."
    )
    across: bool = Field(
        False,
        description="Whether trials of different combinations of the grid axes are compared: methods that learn slowly "
        "then lose to those that start fast. A grid search compares all its trials in any case.",
    )
    min_resource: Whole | None = Field(
        None,
        ge=1,
        description="asha, hyperband: epochs of the first rung. none: a hundredth of the longest trial's, as Optuna's "
        "auto, and no fewer than evaluation.every.",
    )
    max_resource: Whole | None = Field(
        None, ge=1, description="hyperband: epochs of a whole trial. none: the longest trial's."
    )
    reduction_factor: Whole | None = Field(
        None, ge=2, description="asha, hyperband: one of so many goes on at a rung. none: 4 of asha, 3 of hyperband."
    )
    min_early_stopping_rate: Whole | None = Field(
        None, ge=0, description="asha: so many of the first rungs are left out. none: 0."
    )
    bootstrap_count: Whole | None = Field(
        None,
        ge=0,
        description="asha, hyperband: the first so many trials that come to a rung end there; later ones are compared "
        "with them. none: 0.",
    )
    percentile: Number | None = Field(
        None, ge=0, le=100, description="percentile: the best so many percent go on; needed."
    )
    n_startup_trials: Whole | None = Field(
        None, ge=0, description="median, percentile: completed trials before any is ended. none: 5."
    )
    n_warmup_steps: Whole | None = Field(
        None, ge=0, description="median, percentile: epochs before which no trial is ended. none: 0."
    )
    interval_steps: Whole | None = Field(
        None, ge=1, description="median, percentile: epochs from one look to the next. none: 1."
    )
    n_min_trials: Whole | None = Field(
        None, ge=1, description="median, percentile: completed trials with the metric at that epoch, at least. none: 1."
    )

    p_threshold: Number | None = Field(None, gt=0, lt=1, description="wilcoxon: a p below this ends it. none: 0.1.")
    n_startup_steps: Whole | None = Field(
        None, ge=0, description="wilcoxon: seeds that a point has before it is tested, at least 2. none: 2."
    )

    require_proxy: Number | None = Field(
        None,
        gt=-1,
        le=1,
        description="Kendall's tau of an epoch's order of the points with the last one's: where its 95 % interval, in "
        "the runs of proxy_from, reaches below this, the launch is refused that may end trials there. none: not asked.",
    )
    proxy_from: tuple[PathText, ...] = Field(
        (), description="Runs with whole trials, by which require_proxy judges; none of their trials is taken over."
    )

    @property
    def races(self) -> bool:
        """Whether the rule ends no trial, but leaves further seeds out."""
        return self.name == "wilcoxon"

    @property
    def options(self) -> dict[str, Any]:
        """Those of the rule, defaults filled in; None: worked out from the trial's epochs."""
        given = {key: getattr(self, key) for key in OPTIONS[self.name]}
        return {key: OPTIONS[self.name][key] if value is None else value for key, value in given.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        every = {key for options in OPTIONS.values() for key in options}
        own = OPTIONS[self.name]
        foreign = [
            key for key in type(self).model_fields if key in every - own.keys() and getattr(self, key) is not None
        ]
        if foreign:
            owners = " or ".join(name for name, options in OPTIONS.items() if foreign[0] in options)
            raise ValueError(f"{foreign[0]}: is of {owners}, and name is {self.name}, which reads {', '.join(own)}")
        if (self.require_proxy is None) != (not self.proxy_from):
            given, missing = ("proxy_from", "require_proxy") if self.proxy_from else ("require_proxy", "proxy_from")
            more = "0.8, say" if self.proxy_from else "runs of such trials, whole, with the metric at early epochs"
            raise ValueError(f"{missing}: needed beside {given}: {more}")
        if self.require_proxy is not None and self.races:
            raise ValueError(
                f"require_proxy: is of rules that end trials at early epochs, and {self.name} ends none; leave it out"
            )
        if self.max_resource is not None and self.max_resource < (self.min_resource or 1):
            raise ValueError(
                f"max_resource: must be at least min_resource, {self.min_resource}, got {self.max_resource}"
            )
        if self.name == "percentile" and self.percentile is None:
            raise ValueError("percentile: needed: the best so many percent go on, such as 25")
        return self
