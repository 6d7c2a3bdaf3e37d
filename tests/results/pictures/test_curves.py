"""The picture of learning: means over seeds at the steps they share, chance beside them, a loss on its own scale."""

import numpy as np
import pytest

from gradflow.results.pictures.curves import curve, draw
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.style import save
from gradflow.runs.planfile import collect


def runs_of(records):
    collection = collect(records.sweep())
    return [collection.found.records[run_id] for run_id in collection.planned]


def keys(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_line_is_the_mean_over_seeds_at_the_steps_that_all_have(records, recurrent):
    recurrent(curve={10: 0.2, 20: 0.1, 25: 0.3})
    recurrent(curve={10: 0.4, 20: 0.3, 30: 0.5}, seed=1)
    line = curve(runs_of(records))
    np.testing.assert_array_equal(line.steps, [10, 20])
    np.testing.assert_allclose([line.mean, line.low, line.high], [[0.3, 0.2], [0.2, 0.1], [0.4, 0.3]])
    assert not line.diverged


def test_a_seed_that_diverged_moves_no_mean_and_one_alone_ends_with_a_cross(records, recurrent):
    recurrent(curve={10: 0.2, 20: 0.1})
    recurrent(curve={10: 90.0, 20: float("nan")}, seed=1, state="diverged")
    np.testing.assert_allclose(curve(runs_of(records)).mean, [0.2, 0.1])
    recurrent(curve={10: 0.3, 20: float("inf")}, cell="rnn", state="diverged")
    figure = draw(collect(records.sweep()))
    crosses = [line.get_xydata().tolist() for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert crosses == [[[10, 0.3]]]
    assert "diverged" in keys(figure)


def test_panels_lines_scale_and_chance(records, recurrent):
    for length in (200, 50):
        for cell in ("lstm", "gru"):
            recurrent(curve={10: 0.2, 20: 0.01}, cell=cell, **{"task.length": length})
    figure = draw(collect(records.sweep()))
    assert [axis.get_title() for axis in figure.axes] == ["T = 50", "T = 200"]
    assert keys(figure) == ["lstm", "gru", "without memory (chance)"]
    for axis in figure.axes:
        assert axis.get_yscale() == "log"
        assert [line.get_ydata()[0] for line in axis.lines if set(line.get_ydata()) == {1 / 6}] == [1 / 6]
    assert figure.axes[0].get_ylabel() == "validation mse"


def test_an_accuracy_is_on_a_linear_scale_and_a_recipe_is_a_line(records, validated):
    for activation in ("relu", "tanh"):
        validated({10: (1.0, 0.5), 20: (2.0, 0.75)}, 2.0, activation=activation)
    figure = draw(collect(records.sweep()))
    (axis,) = figure.axes
    assert (axis.get_yscale(), axis.get_ylabel()) == ("linear", "validation accuracy")
    assert keys(figure) == ["activation relu", "activation tanh", "chance"]


def test_tasks_do_not_share_a_panel_nor_a_scale(records, recurrent, validated):
    recurrent(curve={10: 0.2, 20: 0.1})
    validated({10: (1.0, 0.5), 20: (2.0, 0.75)}, 2.0, cell="lstm", model="recurrent")
    figure = draw(collect(records.sweep()))
    assert [(axis.get_ylabel(), axis.get_yscale()) for axis in figure.axes] == [
        ("validation mse", "log"),
        ("validation accuracy", "linear"),
    ]


@pytest.mark.parametrize("curve_", [None, {10: 0.5}], ids=["none", "one point"])
def test_one_validation_is_no_curve(records, recurrent, curve_):
    recurrent(curve=curve_)
    with pytest.raises(SaysNothing):
        draw(collect(records.sweep()))


def test_more_lines_than_can_be_told_apart_are_not_drawn(records, recurrent):
    for i in range(40):
        recurrent(curve={10: 0.2, 20: 0.1}, cell=f"cell_{i}")
    with pytest.raises(SaysNothing, match="40 lines"):
        draw(collect(records.sweep()))


def test_the_same_records_make_the_same_files(records, recurrent, tmp_path):
    recurrent(curve={10: 0.2, 20: 0.1})
    files = [save(draw(collect(records.sweep())), tmp_path / name) for name in "ab"]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
