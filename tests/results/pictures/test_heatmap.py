"""The picture: its numbers are those of the record, and what has no colour on the scale is marked."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from gradflow.results.pictures.heatmap import BROKEN, FINE_TUNING, ZERO, draw, panels
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.style import save
from gradflow.results.publish import draw_heatmap
from gradflow.runs.planfile import collect


def test_a_panel_is_the_logarithm_of_the_geometric_mean_over_seeds(records):
    norms = np.array([[[1e-30, 1e-2], [4e-28, 1e-1]], [[1e-34, 1e-4], [1e-28, 1e-3]]])  # [seed, step, block]
    for seed in (0, 1):
        records.add(seed=seed, norms=dict(zip((0, 10), norms[seed].tolist(), strict=True)))
    records.add(depth=1, norms={0: [1.0]})  # less deep
    records.add(activation="tanh", norms={0: [1.0, 10.0]})
    depth, (relu, tanh) = panels(collect(records.sweep()))
    assert (depth, relu.title, tanh.title) == (2, "relu · he_normal", "tanh · he_normal")
    assert relu.steps.tolist() == [0, 10]
    np.testing.assert_allclose(relu.values, np.log10(norms).mean(0).T, rtol=1e-12)
    np.testing.assert_allclose(relu.values, [[-32, (np.log10(4) - 56) / 2], [-3, -2]])
    np.testing.assert_array_equal(tanh.values, [[0.0], [1.0]])


def test_seeds_are_averaged_at_the_steps_they_have(records):
    records.add(norms={0: [1.0, 1.0], 10: [100.0, 1.0]})
    records.add(seed=1, state="diverged", norms={0: [1e-4, 1.0]})
    _, (panel,) = panels(collect(records.sweep()))
    np.testing.assert_array_equal(panel.values, [[-2, 2], [0, 0]])


def test_exact_zeros_and_non_finite_norms_are_kept_apart_from_all_numbers(records):
    records.add(norms={0: [0.0, 1e-300, 1.0], 10: [np.inf, np.nan, 1.0]}, depth=3)
    records.add(norms={0: [0.0, 1e-300, 1.0], 10: [1.0, 1.0, 1.0]}, depth=3, seed=1)
    _, (panel,) = panels(collect(records.sweep()))
    np.testing.assert_array_equal(panel.values, [[-np.inf, np.nan], [-300, np.nan], [0, 0]])


def test_the_marks_of_zero_and_non_finite_are_drawn_and_explained(records, tmp_path):
    records.add(norms={0: [0.0, 1e-3], 10: [1.0, np.nan]})
    figure = draw(collect(records.sweep()))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["exactly zero", "not finite"]
    png, _ = save(figure, tmp_path / "map")
    seen = {tuple(pixel[:3]) for pixel in np.asarray(Image.open(png)).reshape(-1, 4)}
    for colour in (ZERO, BROKEN):
        assert tuple(round(255 * part) for part in to_rgba(colour)[:3]) in seen


STAGES = [("layer 0", 0, 20), ("layer 1", 20, 40), ("fine-tuning", 40, 60)]
LAYER_WISE = {
    **{0: [1e-1, None], 10: [1e-2, None], 20: [None, 1e-3], 30: [None, 0.0]},
    **{40: [1e-6, 1e-1], 50: [1e-5, 1e-1]},
}


def test_a_block_that_is_not_trained_is_neither_zero_nor_broken(records, staged):
    for seed in (0, 1):
        staged(STAGES, LAYER_WISE, seed=seed)
    _, (panel,) = panels(collect(records.sweep()))
    np.testing.assert_array_equal(panel.trained, [[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]])
    np.testing.assert_allclose(panel.values[0][panel.trained[0]], [-1, -2, -6, -5])
    np.testing.assert_allclose(panel.values[1][panel.trained[1]], [-3, -np.inf, -1, -1])
    assert panel.fine_tuning == 40


def test_a_run_in_one_stage_has_no_fine_tuning(records, staged):
    staged([("training", 0, 20)], {0: [1.0, 1.0]})
    records.add(norms={0: [1.0, 1.0]}, activation="tanh")
    _, shown = panels(collect(records.sweep()))
    assert [panel.fine_tuning for panel in shown] == [None, None]
    assert draw(collect(records.sweep())).legends == []


def test_what_is_not_trained_stays_blank_and_a_line_marks_the_start_of_fine_tuning(records, staged, tmp_path):
    staged(STAGES, LAYER_WISE)
    figure = draw(collect(records.sweep()))
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["exactly zero", "not trained", "fine-tuning starts"]
    axis = figure.axes[0]
    (line,) = axis.lines
    assert set(line.get_xdata()) == {40}
    png, _ = save(figure, tmp_path / "map")
    pixels = np.asarray(Image.open(png).convert("RGB"))

    def colour_at(step: float, block: float) -> tuple[int, ...]:
        x, y = axis.transData.transform((step, block))
        return tuple(pixels[pixels.shape[0] - 1 - round(y), round(x)].tolist())

    def drawn(colour) -> tuple[int, ...]:
        return tuple(round(255 * part) for part in to_rgba(colour)[:3])

    assert {colour_at(step, 1) for step in (5, 15)} | {colour_at(step, 0) for step in (25, 35)} == {drawn("white")}
    assert colour_at(35, 1) == drawn(ZERO)
    assert drawn(FINE_TUNING) in {colour_at(40 + shift, block) for shift in (-0.2, 0, 0.2) for block in (0, 1)}
    assert drawn("white") not in {colour_at(step, block) for step in (45, 55) for block in (0, 1)}


def test_where_all_norms_are_numbers_there_is_nothing_to_explain(records):
    records.add(norms={0: [1e-5, 1.0]})
    assert draw(collect(records.sweep())).legends == []


def test_cells_that_differ_in_more_than_their_seed_are_not_averaged_into_one_panel(records):
    for rate in (0.1, 0.01):
        for seed in (0, 1):
            records.add(seed=seed, norms={0: [rate, 1.0]}, **{"optimizer.lr": rate})
    _, shown = panels(collect(records.sweep()))
    assert [panel.values[0, 0] for panel in shown] == pytest.approx([-1, -2])
    assert len({panel.title for panel in shown}) == 2


def test_without_gradients_on_record_there_is_no_picture(records):
    records.add()
    records.add(state="missing", seed=1)
    collection = collect(records.sweep())
    assert panels(collection) == (0, [])
    with pytest.raises(SaysNothing, match="more than one block"):
        draw(collection)
    assert draw_heatmap(collection, collection.folder) == []


def test_the_pictures_of_a_real_sweep_show_its_records(baseline):
    collection = collect(baseline.folder)
    depth, (panel,) = panels(collection)
    logs = []
    for run_id in baseline.run_ids:
        rows = pq.read_table(baseline.shell.runs / run_id / "gradflow.parquet")
        rows = rows.filter(pc.and_(pc.equal(rows["quantity"], "grad_norm"), pc.is_valid(rows["block"])))
        norm = {(row["block"], row["step"]): row["value"] for row in rows.to_pylist()}
        logs.append([[np.log10(norm[block, step]) for step in range(0, 60, 5)] for block in (0, 1)])
    assert depth == 2
    assert panel.steps.tolist() == list(range(0, 60, 5))
    np.testing.assert_allclose(panel.values, np.mean(logs, axis=0), rtol=1e-12)

    image = Image.open(baseline.folder / "heatmap.png")
    image.load()
    assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    svg = ElementTree.parse(baseline.folder / "heatmap.svg").getroot()
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(svg.findall(".//{*}image")) >= 1


def test_the_same_figure_is_the_same_file(records, tmp_path):
    records.add(norms={0: [1e-5, 1.0]})
    files = [save(draw(collect(records.sweep())), tmp_path / name) for name in "ab"]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


@pytest.mark.parametrize("name", ["cost $5 $6", "a_b^c", r"\frac{", "$", "%", "<b>"])
def test_any_word_can_be_a_title(records, tmp_path, name):
    records.add(activation=name, norms={0: [1e-5, 1.0]})
    assert all(file.stat().st_size > 1000 for file in save(draw(collect(records.sweep(name))), tmp_path / "map"))


def test_a_panel_that_ends_early_says_why(records):
    """'diverged' only where the runs did; a run that was stopped is unfinished."""
    long = {step: [0.1, 1.0] for step in range(0, 100, 10)}
    records.add(norms=long, activation="tanh")
    records.add(norms={0: [0.1, 1.0], 10: [0.1, 1.0]}, activation="relu", state="diverged")
    records.add(norms={0: [0.1, 1.0], 10: [0.1, 1.0]}, activation="sigmoid", state="preempted")
    _, shown = panels(collect(records.sweep()))
    assert [panel.ended for panel in shown] == ["", "diverged", "unfinished"]
    figure = draw(collect(records.sweep()))
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes[:3]] == [[], ["diverged"], ["unfinished"]]


def test_another_sweep_in_the_same_folder_gets_its_own_picture(records, tmp_path):
    records.add(norms={0: [1e-5, 1.0]})
    sweep = collect(records.sweep())
    (png, _) = draw_heatmap(sweep, tmp_path)
    first = png.read_bytes()
    assert draw_heatmap(sweep, tmp_path)[0].read_bytes() == first
    records.add(norms={0: [1e-9, 1.0]}, seed=1)
    assert draw_heatmap(collect(records.sweep()), tmp_path)[0].read_bytes() != first


def test_a_panel_s_title_leaves_out_what_its_words_imply(records):
    """'norm.eps' comes with 'batch'; the learning rate does not."""
    for rate in (0.1, 0.01):
        records.add(norms={0: [0.1, 1.0]}, **{"norm": "batch", "norm.eps": 1e-5, "optimizer.lr": rate})
        records.add(norms={0: [0.1, 1.0]}, **{"optimizer.lr": rate})
    _, shown = panels(collect(records.sweep()))
    assert [panel.title for panel in shown] == [
        "relu · he_normal · batch · lr 0.1",
        "relu · he_normal · lr 0.1",
        "relu · he_normal · batch · lr 0.01",
        "relu · he_normal · lr 0.01",
    ]


def test_a_picture_holds_so_many_panels_and_says_what_it_leaves_out(records, monkeypatch):
    for activation in ("tanh", "relu", "sigmoid"):
        records.add(norms={0: [0.1, 1.0]}, activation=activation)
    whole = draw(collect(records.sweep()))
    assert "of 3 cells" not in whole.get_suptitle()
    monkeypatch.setattr("gradflow.results.pictures.heatmap.MOST_PANELS", 2)
    cut = draw(collect(records.sweep()))
    assert "the first 2 of 3 cells" in cut.get_suptitle().replace("\n", " ")
    assert cut.notes == ["the first 2 of 3 cells"]
    assert [axis.get_title() for axis in cut.axes if axis.get_title()] == [
        axis.get_title() for axis in whole.axes if axis.get_title()
    ][:2]
