"""The picture of a spectral radius: points are those of the records, the line is y = ln(radius)."""

import math

import numpy as np
import pytest

from gradflow.results.pictures.decay import draw, points
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.runs.planfile import collect


@pytest.fixture
def swept(records, recurrent, remembered):
    """Radii × lengths; each decay is a little off the logarithm, with an interval of ± 0.01."""
    for radius in (0.5, 1.0, 1.5):
        for length in (50, 200):
            slope = math.log(radius) - 0.03
            interval = {"jacobian_decay_low": slope - 0.01, "jacobian_decay_high": slope + 0.01}
            probe = {"time_decay": 99.0, "jacobian_decay": slope, **interval}
            words = {"recurrent_init.radius": radius, "task.length": length}
            recurrent(result=remembered(None, **probe), cell="rnn", recurrent_init="spectral_radius", **words)
    return collect(records.sweep())


def test_points_are_the_jacobian_s_with_its_interval(swept):
    found = points(swept)
    assert len(found) == 12
    for point in found:
        assert point.decay == pytest.approx(math.log(point.radius) - 0.03)
        assert (point.low, point.high) == (pytest.approx(point.decay - 0.01), pytest.approx(point.decay + 0.01))
    assert {(point.length, point.moment) for point in found} == {(n, m) for n in (50, 200) for m in ("first", "last")}


def test_the_picture_has_a_panel_per_moment_a_marker_per_length_and_the_line_of_a_linear_network(swept):
    figure = draw(swept)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["T = 50", "T = 200", "linear network: ln ρ", "95 % interval"]
    assert len(figure.axes) == 2
    assert figure.get_supxlabel() == r"$\ln\,\rho$"
    for axis in figure.axes:
        marked = [line for line in axis.lines if line.get_marker() in ("o", "s")]
        xs, ys = (
            np.array([float(np.ravel(data)[0]) for data in (line.get_data()[i] for line in marked)]) for i in (0, 1)
        )
        assert len(marked) == 6
        np.testing.assert_allclose(ys, xs - 0.03, atol=0.01)  # markers of two lengths stand beside each other
        (theory,) = [line for line in axis.lines if line.get_linestyle() == "--"]
        np.testing.assert_array_equal(*theory.get_data())
        assert "ln" in axis.get_ylabel() or axis is not figure.axes[0]


def test_without_a_jacobian_the_gradient_s_decay_is_shown_and_no_interval(records, recurrent, remembered):
    for radius in (0.5, 2.0):
        recurrent(result=remembered(9, time_decay=-radius), **{"recurrent_init.radius": radius})
    collection = collect(records.sweep())
    assert sorted(point.decay for point in points(collection)) == [-2.0, -2.0, -0.5, -0.5]
    figure = draw(collection)
    assert "95 % interval" not in [text.get_text() for text in figure.legends[0].get_texts()]
    assert r"\partial L" in figure.axes[0].get_ylabel()


def test_one_radius_or_none_says_nothing(records, recurrent, remembered):
    recurrent(result=remembered(9, time_decay=-0.1), **{"recurrent_init.radius": 0.5})
    recurrent(result=remembered(9, time_decay=None), **{"recurrent_init.radius": 0.7})
    recurrent(result=remembered(9, time_decay=-0.1))
    records.add()
    recurrent(state="missing", **{"recurrent_init.radius": 0.9})
    collection = collect(records.sweep())
    assert [point.radius for point in points(collection)] == [0.5, 0.5]
    with pytest.raises(SaysNothing):
        draw(collection)
