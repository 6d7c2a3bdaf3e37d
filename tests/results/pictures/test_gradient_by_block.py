"""Measured and predicted gradients by block: the lines are the record's, and where there is no theory it says why."""

import math
from pathlib import Path

import numpy as np
import pytest

from gradflow.results import predicted
from gradflow.results.pictures import heatmap
from gradflow.results.pictures.gradient_by_block import CAPTION, MOST_PANELS, draw, panels
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.publish import draw_picture
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json
from gradflow.runs.series import GRADFLOW, Series

WHY = (
    "attention mixes tokens by weights that depend on the tokens themselves, and of attention much more could be said "
    "than three lines of a panel hold"
)


def foretell(path: Path, log10: list[float] | None, band: list[float] | None = None) -> None:
    found = {"applies": log10 is not None, "why_not": None if log10 else WHY, "band": band}
    write_json(path / "prediction.json", {**found, "log10_delta": log10, "log10_grad": log10})


def add_deltas(path: Path, norms: dict[int, list[float]]) -> None:
    series = Series(path / "gradflow.parquet", GRADFLOW, before=10**9)
    for step, row in norms.items():
        for block, value in enumerate(row):
            series.add(step=step, block=block, name=f"blocks.{block}", quantity="delta_norm", value=value)
    series.write()


def test_a_panel_has_the_seeds_at_the_first_and_the_last_step(records):
    for seed in (0, 1):
        norms = {0: [1e-3 * 10**seed, 1.0], 10: [5.0, 5.0], 20: [1e-1, 2.0]}
        foretell(records.add(seed=seed, norms=norms), [-2.0, 0.0])
    (panel,) = panels(collect(records.sweep()))
    assert (panel.title, panel.quantity, panel.steps) == ("relu · he_normal", "grad_norm", (0, 20))
    np.testing.assert_array_equal(panel.start, [[1e-3, 1.0], [1e-2, 1.0]])
    np.testing.assert_array_equal(panel.end, [[1e-1, 2.0], [1e-1, 2.0]])


def test_what_flows_back_is_shown_rather_than_the_parameters_gradient_where_all_seeds_have_it(records):
    first, second = (records.add(seed=seed, norms={0: [1.0, 1.0]}) for seed in (0, 1))
    add_deltas(first, {0: [0.5, 2.0]})
    (panel,) = panels(collect(records.sweep()))
    assert panel.quantity == "grad_norm"
    add_deltas(second, {0: [0.25, 2.0]})
    (panel,) = panels(collect(records.sweep()))
    assert (panel.quantity, panel.end) == ("delta_norm", None)
    np.testing.assert_array_equal(panel.start, [[0.5, 2.0], [0.25, 2.0]])


def test_the_prediction_agrees_with_the_mean_at_the_last_block(records):
    for seed, last in enumerate((1.0, 100.0)):
        foretell(records.add(seed=seed, depth=3, norms={0: [1e-2 * last, 1e-1 * last, last]}), [-2.0, -1.3, 0.0])
    (panel,) = panels(collect(records.sweep()))
    np.testing.assert_allclose(panel.log10_predicted, [-1.0, -0.3, 1.0])
    assert panel.deviation.block == 1
    assert panel.deviation.factor == pytest.approx(10**0.3)
    assert str(panel.deviation) == "×2.00 at block 1"


@pytest.mark.parametrize(
    ("measured", "told"), [(0.004, "÷2.50 at block 0"), (1.0, "×100 at block 0"), (1e-300, "÷1e+298 at block 0")]
)
def test_a_deviation_is_a_factor_in_either_direction(measured, told):
    assert str(predicted.deviation(np.array([-2.0, 0.0]), np.log10([measured, 1.0]))) == told


def test_without_a_finite_norm_there_is_nothing_to_compare(records):
    foretell(records.add(norms={0: [0.0, 0.0]}), [-2.0, 0.0])
    (panel,) = panels(collect(records.sweep()))
    assert panel.log10_predicted is None
    assert panel.deviation is None


def test_the_picture_shows_measurement_prediction_and_band(records):
    norms = {0: [1e-3, 1.0], 10: [1e-2, 1.0]}
    foretell(records.add(norms=norms), [-2.5, 0.0], band=[0.4, 0.0])
    figure = draw(collect(records.sweep()))
    (axis,) = figure.axes
    start, _, end, _, prediction = axis.lines
    np.testing.assert_allclose(start.get_ydata(), norms[0])
    np.testing.assert_allclose(end.get_ydata(), norms[10])
    np.testing.assert_allclose(prediction.get_ydata(), [10**-2.5, 1.0])
    (band,) = axis.collections
    edges = band.get_paths()[0].vertices
    assert edges[:, 1].min() == pytest.approx(10**-2.5 * math.exp(-0.4))
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == [
        "measured as initialised",
        "measured at step 10",
        "predicted",
        "± one standard deviation over weights",
    ]
    assert [text.get_text() for text in axis.texts] == ["largest deviation ÷3.16 at block 0"]


def test_where_theory_does_not_apply_it_says_why(records):
    foretell(records.add(norms={0: [1e-3, 1.0]}), None)
    figure = draw(collect(records.sweep()))
    (text,) = figure.axes[0].texts
    words = text.get_text().split("\n")
    assert " ".join(words).startswith("no theory: attention mixes tokens")
    assert words[-1].endswith("…")
    assert all(len(line) <= CAPTION for line in words)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["measured as initialised"]


@pytest.mark.parametrize("content", [None, '{"format": 99}', "{"])
def test_a_record_without_a_prediction_that_can_be_read_is_shown_without_one(records, content):
    path = records.add(norms={0: [1e-3, 1.0]})
    if content is not None:
        (path / "prediction.json").write_text(content)
    figure = draw(collect(records.sweep()))
    assert list(figure.axes[0].texts) == []


def test_an_exact_zero_is_a_cross_and_no_line(records):
    records.add(norms={0: [0.0, 0.0, 1e-3, 1.0]}, depth=4)
    figure = draw(collect(records.sweep()))
    line, crosses = figure.axes[0].lines
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [True, True, False, False])
    assert list(crosses.get_xdata()) == [0, 1]
    assert "exactly zero" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_first_step_that_is_not_the_first_is_named_so(records):
    records.add(norms={30: [1e-3, 1.0]})
    figure = draw(collect(records.sweep()))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["measured first logged step"]


def test_without_gradients_of_several_blocks_there_is_no_picture(records):
    records.add()
    records.add(seed=1, depth=1, norms={0: [1.0]})
    with pytest.raises(SaysNothing, match="more than one block"):
        draw(collect(records.sweep()))


def test_too_many_cells_are_cut_and_counted(records):
    for rate in range(MOST_PANELS + 2):
        records.add(norms={0: [1e-3, 1.0]}, **{"optimizer.lr": rate})
    figure = draw(collect(records.sweep()))
    assert f"the first {MOST_PANELS} of {MOST_PANELS + 2} cells" in figure.get_suptitle()


def test_it_is_drawn_again_when_a_prediction_changes(records, tmp_path):
    path = records.add(norms={0: [1e-3, 1.0]})
    (png, _) = draw_picture("gradient_by_block", collect(records.sweep()), tmp_path)
    before = png.read_bytes()
    foretell(path, [-3.0, 0.0])
    draw_picture("gradient_by_block", collect(records.sweep()), tmp_path)
    assert png.read_bytes() != before


# --- the heat map's strip -----------------------------------------------------------------------------------------


def test_the_heat_map_has_the_prediction_left_of_the_first_step(records):
    foretell(records.add(norms={0: [1e-3, 1e-1], 10: [1e-2, 1.0]}), [-4.0, 0.0])
    records.add(norms={0: [1.0, 1.0], 10: [1.0, 1.0]}, activation="tanh")
    collection = collect(records.sweep())
    _, (relu, tanh) = heatmap.panels(collection)
    np.testing.assert_allclose(relu.theory, [-5.0, -1.0])
    assert tanh.theory is None
    figure = heatmap.draw(collection)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left of step 0: predicted"]
    strip = figure.axes[0].collections[-1]
    np.testing.assert_allclose(np.asarray(strip.get_array()).ravel(), [-5.0, -1.0])
    assert strip.get_coordinates()[0, :, 0].max() < 0
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert strip.norm.vmin <= -5


def test_the_heat_map_says_where_theory_does_not_apply(records):
    foretell(records.add(norms={0: [1e-3, 1e-1]}), None)
    figure = heatmap.draw(collect(records.sweep()))
    (text,) = figure.axes[0].texts
    assert text.get_text().startswith("no theory: attention")
    assert figure.legends == []
