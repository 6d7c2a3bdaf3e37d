"""The metric along a choice: means and intervals are those of the records, and what did not end well is marked."""

import numpy as np
import pytest
from scipy import stats

from gradflow.errors import ConfigError
from gradflow.results.pictures.metric import draw
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.runs.planfile import collect

SCORES = {2: [0.5, 0.6, 0.9], 30: [0.1, 0.2, 0.15]}


@pytest.fixture
def swept(records):
    for depth, scores in SCORES.items():
        for seed, accuracy in enumerate(scores):
            records.add(depth=depth, seed=seed, accuracy=accuracy)
            records.add(depth=depth, seed=seed, accuracy=accuracy / 2, activation="tanh")
    return records


def lines(axis, marker="o"):
    return [line for line in axis.lines if line.get_marker() == marker and len(line.get_xdata())]


def test_a_line_has_means_at_depths_and_student_s_intervals(swept):
    (axis,) = draw(collect(swept.sweep())).axes
    (line,) = lines(axis)
    np.testing.assert_allclose(line.get_ydata(), [np.mean(scores) for scores in SCORES.values()])
    np.testing.assert_allclose(line.get_xdata(), list(SCORES), rtol=0.2)  # lines stand a little beside each other
    bars = [each.get_ydata() for each in axis.lines if each.get_marker() == "None" and each.get_color() == "#000000"]
    for bar, scores in zip(bars, SCORES.values(), strict=True):
        expected = stats.t.interval(0.95, 2, loc=np.mean(scores), scale=stats.sem(scores))
        np.testing.assert_allclose(bar, expected)
    assert axis.get_xscale() == "log"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("depth (blocks)", "test accuracy")


def test_the_keys_name_lines_intervals_and_chance(swept):
    figure = draw(collect(swept.sweep()))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("activation relu", "activation tanh", "chance", "95 % interval of the mean"),
    ]
    looks = [(look.get_color(), look.get_linestyle(), look.get_marker()) for look in figure.legends[0].get_lines()[:2]]
    assert all(one != other for one, other in zip(*looks, strict=True))


def test_what_diverged_or_failed_is_a_cross_and_enters_no_mean(swept):
    swept.add(depth=30, seed=3, state="diverged")
    swept.add(depth=2, seed=3, state="failed")
    figure = draw(collect(swept.sweep()))
    (line,) = lines(figure.axes[0])
    np.testing.assert_allclose(line.get_ydata(), [np.mean(scores) for scores in SCORES.values()])
    crosses = [len(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert sorted(crosses) == [0, 2]
    assert "some diverged or failed" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_any_choice_can_be_the_axis_and_any_figure_the_value(swept):
    figure = draw(collect(swept.sweep()), value="val/loss", x="activation")
    (axis,) = figure.axes
    assert axis.get_ylabel() == "validation loss"
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["depth 2", "depth 30"]
    assert [axis.xaxis.get_major_formatter()(at, 0) for at in (0.0, 1.0)] == ["relu", "tanh"]
    means = [line.get_ydata().tolist() for line in axis.lines if line.get_marker() in "os" and len(line.get_xdata())]
    np.testing.assert_allclose(means, [[2 * np.mean(s), np.mean(s)] for s in SCORES.values()])


def test_each_task_has_its_panel_its_axis_and_its_scale(swept, recurrent):
    for length in (10, 100):
        recurrent(curve={10: 0.2, 20: length / 1000}, **{"task.length": length})
    figure = draw(collect(swept.sweep()))
    digits, adding = figure.axes
    assert (adding.get_title(), adding.get_xlabel(), adding.get_ylabel()) == (
        *("adding", "length of a sequence T", "test mse"),
    )
    assert digits.get_ylim() != adding.get_ylim()


def test_what_is_not_there_is_told(records, swept):
    collection = collect(swept.sweep())
    with pytest.raises(ConfigError, match="did you mean 'depth'"):
        draw(collection, x="dept")
    with pytest.raises(SaysNothing, match="val/accuracy"):
        draw(collection, value="val/accuracy")


def test_one_place_is_no_axis(records):
    records.add()
    with pytest.raises(SaysNothing, match="--x"):
        draw(collect(records.sweep()))
    records.add(seed=1, state="missing", depth=9)
    records.planned = records.planned[1:]
    with pytest.raises(SaysNothing, match="no run is completed"):
        draw(collect(records.sweep()))
