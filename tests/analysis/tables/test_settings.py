import numpy as np
import pytest

from analysis.frames.trials import axes, load_epochs, load_trials
from analysis.tables.settings import preset_of_each, presets, with_settings
from trainers.record import read

DECAY = "optimizer.weight_decay"


@pytest.fixture
def decays(run):
    """DEAT with the one weight decay of its preset, TRADES with two; each with what it alone reads."""
    deat = {"optimizer.name": "deat", "optimizer.k1": 1.0, DECAY: 5e-4, "objective.name": "pgd_at"}
    run.whole("d", [0.1, 0.2], preset="deat", config=deat)
    for name, decay in (("s", 0.0), ("t", 1e-4)):
        own = {"optimizer.name": "sgd", "objective.name": "trades", "objective.beta": 6.0 + decay}
        run.whole(name, [0.1, 0.2], preset="trades", optimizer__weight_decay=decay, config=own)
    return run


@pytest.mark.parametrize("load", [load_trials, load_epochs])
def test_an_axis_is_shown_in_each_trial_that_reads_the_key_and_in_no_other(decays, load):
    frame = load(decays.directory)
    shown = with_settings(frame, read(decays.directory)).groupby("trial_id").first()
    assert frame.groupby("trial_id")[DECAY].first().tolist() == pytest.approx([np.nan, 0.0, 1e-4], nan_ok=True)
    assert shown[DECAY].tolist() == [5e-4, 0.0, 1e-4]
    assert shown["objective.beta"].tolist() == pytest.approx([np.nan, 6.0, 6.0001], nan_ok=True)


def test_what_is_shown_leaves_the_frame_that_is_analysed_as_it_is(decays):
    frame = load_trials(decays.directory)
    before = frame.copy()
    shown = with_settings(frame, read(decays.directory))
    assert frame.equals(before)
    assert axes(shown) == axes(frame)
    others = [name for name in frame if name not in (DECAY, "objective.beta")]
    assert shown[others].equals(frame[others])


def test_presets_stand_behind_the_method_and_nowhere_without_any(decays):
    shown = with_settings(load_trials(decays.directory), read(decays.directory))
    assert list(shown.columns[3:5]) == ["method", "preset"]
    assert shown["preset"].tolist() == ["deat", "trades", "trades"]
    records = [record | {"point": {}} if record["record"] == "trial" else record for record in read(decays.directory)]
    assert "preset" not in with_settings(load_trials(decays.directory), records)


def test_a_preset_of_all_trials_is_told_though_no_axis_names_it():
    trial = {"record": "trial", "trial_id": "a", "point": {}}
    assert presets([trial | {"preset": "mart"}, trial | {"trial_id": "b"}]) == {"a": "mart"}


def test_each_method_has_its_preset_only_if_all_have_one(decays):
    records = read(decays.directory)
    assert preset_of_each(load_trials(decays.directory), records) == {"DEAT": "deat", "TRADES": "trades"}
    decays.whole("u", [0.1], config={"optimizer.name": "sgd", "objective.name": "trades"})
    assert preset_of_each(load_trials(decays.directory), read(decays.directory)) == {}
