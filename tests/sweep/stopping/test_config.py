"""`stopping` of a sweep: which options each rule has, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sweep.config import SweepConfig
from sweep.config_file import dump, load
from sweep.stopping.config import OPTIONS, StoppingConfig
from trainers.errors import UserError

Configs = Callable[..., SweepConfig]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "asha", "n_warmup_steps": 3},
            "n_warmup_steps: is of median or percentile, and name is asha, which reads min_resource, "
            "reduction_factor, min_early_stopping_rate, bootstrap_count",
        ),
        ({"name": "median", "max_resource": 3}, "max_resource: is of hyperband, and name is median"),
        (
            {"name": "hyperband", "min_resource": 3, "max_resource": 2},
            "max_resource: must be at least min_resource, 3, got 2",
        ),
        (
            {"name": "wilcoxon", "require_proxy": 0.8, "proxy_from": ["runs/pilot"]},
            "require_proxy: is of rules that end trials at early epochs, and wilcoxon ends none; leave it out",
        ),
        ({"name": "percentile"}, "percentile: needed: the best so many percent go on, such as 25"),
    ],
)
def test_options_of_another_rule_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StoppingConfig(**values)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", OPTIONS)
def test_each_rule_takes_its_own_options_and_comes_back_from_the_run_s_own_file(
    name: Any, tiny: Configs, tmp_path: Path
) -> None:
    given = {key: 0.5 if key == "p_threshold" else 2 for key in OPTIONS[name]}
    config = tiny(stopping={"name": name, **given}, seeds=[0, 1, 2])
    (tmp_path / "sweep.yaml").write_text(dump(config))
    again = load(tmp_path / "sweep.yaml")
    assert again == config
    assert again.stopping is not None
    assert again.stopping.options == given


def test_stopping_needs_the_validation_images(tiny: Configs) -> None:
    with pytest.raises(UserError, match="stopping: compares validation metrics; put val into"):
        tiny(stopping={"name": "asha"}, trial={"evaluation": {"splits": ["test"]}})
