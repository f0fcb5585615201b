"""What `sweep plan` forecast stands in the record of the launch that runs it, beside what it really took."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import launch, run, trials_of

from sweep.config import SweepConfig
from sweep.plan import forecast
from sweep.plan.plan import plan
from sweep.run.journal import Journal
from trainers.record import read

Tiny = Callable[..., SweepConfig]


@pytest.fixture(autouse=True)
def own_cache(launched_without_data: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTSWEEP_CACHE", str(tmp_path / "cache"))


def recorded(directory: Path, config: SweepConfig) -> object:
    """The forecast in the record of a launch that runs nothing."""
    directory.mkdir(exist_ok=True)
    with Journal(directory, plan(config, [], "abc")).open("test"):
        pass
    return next(record for record in read(directory) if record["record"] == "launch").get("forecast")


def test_a_launch_records_what_was_forecast_of_it(tiny: Tiny, tmp_path: Path) -> None:
    forecast.keep(tmp_path / "run", plan(tiny(), [], "abc"), 120.5)
    assert recorded(tmp_path / "run", tiny()) == {"trials": 4, "seconds": 120.5}


def test_a_forecast_of_another_run_or_another_config_is_not_its(tiny: Tiny, tmp_path: Path) -> None:
    forecast.keep(tmp_path / "run", plan(tiny(), [], "abc"), 120.5)
    assert recorded(tmp_path / "another", tiny()) is None
    assert recorded(tmp_path / "run", tiny(seeds=[0, 1])) is None


def test_a_forecast_is_taken_up_once(tiny: Tiny, tmp_path: Path) -> None:
    made = plan(tiny(), [], "abc")
    forecast.keep(tmp_path, made, 1.0)
    assert [forecast.taken(tmp_path, made) is None for _ in range(2)] == [False, True]


def test_where_epochs_were_measured_they_tell_without_a_plan_before(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    made = plan(tiny(), [*launch(trials), *(line for trial in trials[:3] for line in run(trial, 3))], "abc")
    assert made.trial_seconds is not None
    assert forecast.taken(tmp_path, made) == {"trials": 1, "seconds": made.trial_seconds}


def test_what_cannot_be_written_or_read_is_no_forecast(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUSTSWEEP_CACHE", str(tmp_path / "file"))
    made = plan(tiny(), [], "abc")
    forecast.keep(tmp_path, made, 1.0)
    assert forecast.taken(tmp_path, made) is None


@pytest.mark.parametrize("text", ["", "[]", '{"trials": 4}', '{"trials": 4, "seconds": "long"}'])
def test_what_is_kept_in_another_form_is_no_forecast(text: str, tiny: Tiny, tmp_path: Path) -> None:
    made = plan(tiny(), [], "abc")
    forecast.keep(tmp_path, made, 1.0)
    (kept,) = (tmp_path / "cache" / "forecasts").iterdir()
    kept.write_text(text)
    assert forecast.taken(tmp_path, made) is None
