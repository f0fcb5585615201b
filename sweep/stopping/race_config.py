"""The keys of a race over seeds."""

from __future__ import annotations

from pydantic import Field

from trainers.fields import Frozen, Number, Whole


class RaceConfig(Frozen):
    """Points whose first seeds are clearly worse than another's get no more seeds; docs/stopping.md."""

    alpha: Number = Field(
        0.05,
        gt=0,
        lt=1,
        description="Probability, at most, that the best point of a stratum is dropped, over all looks. 0.05: as that "
        "of a claim.",
    )
    min_seeds: Whole = Field(2, ge=2, description="Seeds that a point has before it is dropped; 2: none is from one.")
    margin: Number = Field(
        0.0,
        ge=0,
        description="In the metric's unit, a fraction for an accuracy: points that are worse by no more are kept.",
    )
    across: bool = Field(False, description="Whether all points race, and not those of one stratum.")
