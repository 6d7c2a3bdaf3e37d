"""The map of trainability: its cells are the records', its line theory's."""

import numpy as np
import pytest

from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.trainability import draw, maps
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json

DEPTHS, VARIANCES = (4, 16, 64), (0.5, 1.0, 2.0)


@pytest.fixture
def swept(records):
    for depth in DEPTHS:
        for sigma_w2 in VARIANCES:
            for seed in range(2):
                state = "diverged" if (depth, sigma_w2) == (64, 2.0) else "completed"
                words = {"depth": depth, "init": "mean_field", "init.sigma_w2": sigma_w2, "seed": seed}
                path = records.add(accuracy=sigma_w2 / depth + 0.1 * seed, state=state, **words)
                limit = None if sigma_w2 == 1.0 else 12 * sigma_w2
                said = {"applies": True, "phase": "ordered", "trainable_depth": limit}
                write_json(path / "prediction.json", said)
    records.add(depth=100, state="missing", init="mean_field", **{"init.sigma_w2": 0.5})
    return collect(records.sweep())


def test_a_cell_is_the_mean_over_seeds_and_the_line_the_records_prediction(swept):
    (found,) = maps(swept)
    assert (found.depths, found.sigma_w2) == ([4, 16, 64, 100], list(VARIANCES))
    expected = np.array([[sigma_w2 / depth + 0.05 for sigma_w2 in VARIANCES] for depth in DEPTHS])
    expected[2, 2] = np.nan
    np.testing.assert_allclose(found.values[:3], expected)
    assert np.isnan(found.values[3]).all()
    assert np.argwhere(found.diverged).tolist() == [[2, 2]]
    at, depth = found.curve
    np.testing.assert_array_equal([at, depth], [VARIANCES, [6.0, np.inf, 24.0]])


def test_the_picture_shows_them(swept):
    figure = draw(swept)
    axis, bar = figure.axes
    mesh = axis.collections[0]
    np.testing.assert_allclose(np.ma.filled(mesh.get_array(), np.nan), maps(swept)[0].values)
    edges = mesh.get_coordinates()
    np.testing.assert_allclose(edges[0, :, 0], [0.25, 0.75, 1.5, 2.5])
    np.testing.assert_allclose(edges[1:3, 0, 1], [8, 32])  # half way between depths on a logarithmic scale
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *(r"theory: $6\,\xi_c$", "diverged or failed", "no result yet"),
    ]
    assert bar.get_ylabel() == "test accuracy"


def test_a_finer_line_can_be_computed_between(swept):
    (found,) = maps(swept, theory=lambda _, grid: np.square(grid))
    at, depth = found.curve
    assert len(at) > 50
    np.testing.assert_allclose(depth, at**2)
    (found,) = maps(swept, theory=lambda *_: None)
    assert len(found.curve[0]) == 3


@pytest.mark.parametrize(("norm", "spoken_of"), [("none", True), ("batch", False)])
def test_of_runs_that_nobody_watched_theory_speaks_where_they_are_plain(records, norm, spoken_of):
    for depth in DEPTHS:
        for sigma_w2 in VARIANCES:
            records.add(depth=depth, init="mean_field", norm=norm, **{"init.sigma_w2": sigma_w2})
    swept = collect(records.sweep())
    (found,) = maps(swept, theory=lambda _, grid: np.square(grid))
    assert (found.curve is not None) == spoken_of
    assert maps(swept)[0].curve is None


def test_it_needs_two_depths_and_two_variances(records):
    records.add(init="mean_field", **{"init.sigma_w2": 1.0})
    records.add(init="mean_field", depth=9, **{"init.sigma_w2": 1.0})
    with pytest.raises(SaysNothing, match=r"init\.sigma_w2"):
        draw(collect(records.sweep()))
