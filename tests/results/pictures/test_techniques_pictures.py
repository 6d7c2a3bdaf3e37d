"""Profiles and ranks of techniques: the same numbers as their tables'."""

import numpy as np
import pytest

from gradflow.results.kinds.asked import Asked
from gradflow.results.kinds.profiles import make_profiles
from gradflow.results.pictures import profiles, ranks
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.runs.planfile import collect

GAIN = {"relu": 0.3, "tanh": 0.2, "sigmoid": 0.0}


@pytest.fixture
def collection(records):
    for depth in (2, 4, 8, 16, 32, 64):
        for seed in range(3):
            for activation, gain in GAIN.items():
                records.add(depth=depth, seed=seed, activation=activation, accuracy=0.5 + gain + 0.01 * seed)
    return collect(records.sweep())


def test_a_profile_is_the_table_s(collection):
    table = make_profiles(collection, Asked(by=("activation",)))
    (axis,) = profiles.draw(collection, by="activation").axes
    for line, name in zip(axis.lines, GAIN, strict=True):
        np.testing.assert_allclose(line.get_ydata(), [each.values[name].value for each in table.lines])
        np.testing.assert_allclose(line.get_xdata(), [each.labels["τ"] for each in table.lines])


def test_a_row_is_a_technique_s_mean_rank_and_its_bar_the_critical_difference(collection):
    (axis,) = ranks.draw(collection, by="activation").axes
    marks = [line for line in axis.lines if line.get_marker() in ("o", "s")]
    assert [float(np.ravel(mark.get_xdata())[0]) for mark in marks] == [1.0, 2.0, 3.0]
    assert [axis.yaxis.get_major_formatter()(row, 0) for row in range(3)] == list(GAIN)
    bars = [np.ptp(line.get_xdata()) for line in axis.lines if line.get_marker() == "None"]
    critical = 2.343 * np.sqrt(3 * 4 / (6 * 6))  # Demsar 2006, table 5: q of three techniques at 0.05
    np.testing.assert_allclose(bars, critical, rtol=1e-3)
    assert [mark.get_marker() for mark in marks] == ["o", "o", "s"]  # 1.35: the second is not told from the first
    assert axis.get_xlabel() == "mean rank over 6 settings (1: best)"


@pytest.mark.parametrize("draw", [profiles.draw, ranks.draw], ids=["profiles", "ranks"])
def test_techniques_that_share_no_setting_have_none(records, draw):
    records.add(activation="relu", depth=2)
    records.add(activation="tanh", depth=3)
    with pytest.raises(SaysNothing):
        draw(collect(records.sweep()), by="activation")


def test_so_many_profiles_cannot_be_told_apart(records):
    for i in range(20):
        records.add(activation=f"a{i}")
    with pytest.raises(SaysNothing, match="20 techniques"):
        profiles.draw(collect(records.sweep()))
