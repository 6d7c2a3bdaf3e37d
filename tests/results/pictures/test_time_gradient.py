"""The picture of the time axis: its lines are those of the record, and what is zero or absent is told, not drawn."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gradflow.results.pictures.heatmap import draw as draw_heatmap
from gradflow.results.pictures.lines import MOST_LINES
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.style import save
from gradflow.results.pictures.time_gradient import draw, profiles
from gradflow.runs.planfile import collect
from gradflow.runs.series import GRADFLOW, Series

WHY = {"no_gradient": "the reservoir is not trained: no gradient flows through time"}
FALLING = (0.9 ** np.arange(30)[::-1]).tolist()


def picture(records, name="hand"):
    return draw(collect(records.sweep(name)))


def drawn(axis) -> list[np.ndarray]:
    """Lines, without the marks beside them."""
    return [np.asarray(line.get_ydata()) for line in axis.lines if line.get_linestyle() != "None"]


def shown(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


def keys(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_profile_is_of_block_0_at_the_first_and_the_last_moment(recurrent):
    path = recurrent({0: (FALLING, [0.1] * 30, [2.0] * 30), 50: [3.0] * 30, 100: [1.0] * 30})
    first, last = profiles(path)
    assert (first.step, last.step) == (0, 100)
    np.testing.assert_array_equal(first.median, FALLING)
    np.testing.assert_array_equal([first.low[0], first.high[-1], last.median[7]], [0.1, 2.0, 1.0])
    assert np.isnan(last.low).all()


def test_a_line_is_the_geometric_mean_over_seeds(records, recurrent):
    rows = np.array([FALLING, (np.array(FALLING) * 16).tolist()])
    for seed, row in enumerate(rows):
        recurrent({0: row.tolist(), 9: [1.0] * 30}, seed=seed)
    before, after = shown(picture(records))
    np.testing.assert_allclose(drawn(before), [np.sqrt(rows.prod(0))], rtol=1e-12)
    np.testing.assert_allclose(drawn(after), [np.ones(30)])
    assert before.get_ylabel().startswith("as initialised")
    assert after.get_ylabel().startswith("after training")


def test_a_gradient_measured_at_some_steps_is_a_line_through_these(records, recurrent):
    sparse = recurrent({0: FALLING})
    table = pq.read_table(sparse / "gradflow.parquet")
    keep = [time is None or time % 7 == 1 for time in table["time"].to_pylist()]
    pq.write_table(table.filter(keep), sparse / "gradflow.parquet")
    recurrent({0: FALLING}, cell="gru")
    axis = shown(picture(records))[0]
    xs = [line.get_xdata().tolist() for line in axis.lines if line.get_linestyle() != "None"]
    assert xs == [[1, 8, 15, 22, 29], list(range(30))]


def test_of_two_directions_the_first_is_shown(recurrent):
    path = recurrent({0: FALLING})
    other = pq.read_table(path / "gradflow.parquet").to_pylist()
    series = Series(path / "gradflow.parquet", GRADFLOW, before=1)
    for row in other:
        series.add(**{**row, "name": "backward", "value": 7.0})
    series.write()
    np.testing.assert_array_equal(profiles(path)[0].median, FALLING)


def test_a_panel_per_length_a_line_per_network_and_a_row_per_moment(records, recurrent):
    for length in (40, 20):
        for cell in ("rnn", "lstm", None):
            profile = {0: [1.0] * length, 9: [0.5] * length} if cell else None
            recurrent(profile, result=None if cell else WHY, cell=cell, **{"task.length": length})
    figure = picture(records)
    assert [axis.get_title() for axis in shown(figure)] == ["T = 20", "T = 40", "", ""]
    assert [[len(y) for y in drawn(axis)] for axis in shown(figure)] == [[20] * 2, [40] * 2] * 2
    assert keys(figure) == ["rnn", "lstm", "esn: no gradient through time"]
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines if len(line.get_xdata())}
    assert len({colour for colour, _ in looks}) == len({dashes for _, dashes in looks}) == 2


def test_zeros_and_what_is_not_finite_are_gaps_and_a_cross_stands_beside_a_zero(records, recurrent):
    recurrent({0: [0.0, 0.0, 1e-3, np.nan, 1e-1, 1.0]})
    figure = picture(records)
    (axis,) = shown(figure)
    np.testing.assert_allclose(drawn(axis), [[np.nan, np.nan, 1e-3, np.nan, 1e-1, 1.0]], rtol=1e-12)
    crosses = [line for line in axis.lines if line.get_marker() == "x"]
    assert [list(zip(*line.get_data(), strict=True)) for line in crosses] == [[(2, pytest.approx(1e-3))]]
    assert keys(figure) == ["lstm", "zero beyond"]
    assert np.isfinite(axis.get_ylim()).all()


def test_a_gradient_that_is_zero_everywhere_has_a_picture_all_the_same(records, recurrent, tmp_path):
    recurrent({0: [0.0] * 5})
    assert all(file.stat().st_size > 1000 for file in save(picture(records), tmp_path / "t"))


def test_neither_an_explosion_nor_an_underflow_presses_the_others_flat(records, recurrent):
    lag = np.arange(300)[::-1]
    for rate, cell in ((-1.0, "rnn"), (0.0, "lstm"), (1.0, "gru")):
        recurrent({0: np.exp(rate * lag).tolist()}, cell=cell)
    low, high = np.log10(shown(picture(records))[0].get_ylim())
    assert low < -10
    assert high > 5
    assert high - low < 25


def test_the_band_is_of_the_batch_and_only_where_it_was_measured(records, recurrent):
    recurrent({0: (FALLING, (np.array(FALLING) / 2).tolist(), (np.array(FALLING) * 2).tolist())})
    figure = picture(records)
    assert keys(figure) == ["lstm", "10–90 % of a batch"]
    (band,) = shown(figure)[0].collections
    ys = band.get_paths()[0].vertices[:, 1]
    assert (ys.min(), ys.max()) == (pytest.approx(FALLING[0] / 2), pytest.approx(2.0))


def test_there_is_no_picture_without_a_time_axis_or_with_more_lines_than_can_be_told_apart(records, recurrent):
    records.add(norms={0: [1.0, 1.0]})
    recurrent(result=WHY, cell=None)
    with pytest.raises(SaysNothing):
        picture(records)
    for i in range(MOST_LINES + 1):
        recurrent({0: FALLING}, cell=f"cell_{i}")
    with pytest.raises(SaysNothing, match="lines"):
        picture(records)


def test_radii_take_their_colours_along_a_scale(records, recurrent):
    for radius in (1.5, 0.5, 1.0):
        recurrent({0: FALLING}, cell="rnn", **{"recurrent_init.radius": radius})
    assert keys(picture(records)) == ["ρ = 0.5", "ρ = 1.0", "ρ = 1.5"]


@pytest.mark.parametrize("word", ["cost $5 $6", "a_b^c", r"\frac{", "%", "<b>"])
def test_any_word_can_be_a_network(records, recurrent, tmp_path, word):
    recurrent({0: FALLING, 5: FALLING}, cell=word, **{"task.length": f"{word} 1"})
    recurrent({0: FALLING, 5: FALLING}, cell=word, **{"task.length": f"{word} 2"})
    recurrent({0: FALLING, 5: FALLING}, cell="lstm", **{"task.length": f"{word} 2"})
    png, _ = save(picture(records, word), tmp_path / "t")
    assert min(Image.open(png).size) > 300


def test_the_heat_map_is_left_to_networks_with_more_than_one_block(records, recurrent):
    recurrent({0: FALLING})
    collection = collect(records.sweep())
    with pytest.raises(SaysNothing):
        draw_heatmap(collection)
    records.add(norms={0: [1.0, 2.0]}, model="recurrent", cell="gru", depth=2)
    figure = draw_heatmap(collect(records.sweep()))
    assert figure.axes[0].get_ylim() == (1.5, -0.5)


def test_panels_of_the_heat_map_are_told_by_the_network(records):
    for cell in ("lstm", "gru"):
        records.add(norms={0: [1.0, 2.0]}, model="recurrent", cell=cell)
    figure = draw_heatmap(collect(records.sweep()))
    assert [axis.get_title() for axis in figure.axes[:2]] == ["lstm", "gru"]
