"""The forest of effects: its points are those of the statistics, the largest on top."""

import numpy as np
import pytest

from gradflow.results.pictures.effects import MOST, draw
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.statistics.effects import effects
from gradflow.runs.planfile import collect


@pytest.fixture
def collection(records):
    for seed in range(4):
        for norm, gain in (("none", 0.0), ("batch", 0.3)):
            for depth in (2, 9):
                records.add(seed=seed, norm=norm, depth=depth, accuracy=0.5 + gain + (seed - depth) / 100)
    return collect(records.sweep())


def test_points_and_bars_are_the_paired_differences(collection):
    found = effects(collection)
    figure = draw(collection)
    (axis,) = figure.axes
    marks = [line for line in axis.lines if line.get_marker() in ("o", "s")]
    assert [float(np.ravel(mark.get_xdata())[0]) for mark in marks] == [each.difference.value for each in found]
    assert [float(np.ravel(mark.get_ydata())[0]) for mark in marks] == list(range(len(found)))
    assert found[0].difference.value == pytest.approx(0.3)
    name = axis.yaxis.get_major_formatter()(0, 0)
    assert name == "norm batch vs none"
    assert [mark.get_marker() for mark in marks] == ["o" if each.better else "s" for each in found]
    assert axis.get_xlabel() == "change of test accuracy"


def test_the_largest_are_shown_and_the_rest_counted(records):
    for i in range(MOST + 3):
        records.add(accuracy=0.3 + 0.01 * i, **{"optimizer.lr": float(i)})
    figure = draw(collect(records.sweep()))
    assert figure.notes == [f"the {MOST} largest of {MOST + 2} effects"]


def test_without_two_runs_to_compare_there_is_none(records):
    records.add()
    with pytest.raises(SaysNothing):
        draw(collect(records.sweep()))
