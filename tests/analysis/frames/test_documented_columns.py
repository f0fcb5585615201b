"""The page on the frames' columns names those that there are."""

from __future__ import annotations

from typing import Any

from reference_pages import TRIAL_COLUMNS

from analysis.frames.trials import axes, load_trials
from trainers.record import METRICS


def test_the_columns_of_the_frame_of_trials_are_those_that_the_page_names(run: Any) -> None:
    run.whole("a", [0.4, 0.5], seed=0, optimizer__lr=0.1)
    run.whole("b", [0.4, 0.6], seed=0, optimizer__lr=0.2)
    run.close()
    frame = load_trials(run.directory)
    named = [name for name in TRIAL_COLUMNS if name != "AXES"]
    expected = [name.replace("METRIC", one) for name in named for one in (METRICS if "METRIC" in name else [""])]
    assert [name for name in frame.columns if name not in axes(frame)] == expected
