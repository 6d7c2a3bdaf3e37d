"""`gradflow plot`: files by kind and format, one line where there is nothing to draw."""

import pytest


@pytest.fixture
def swept(records):
    for depth in (2, 9):
        for seed in range(2):
            norms = {0: [1e-3, 1.0], 10: [1e-2, 1.0]}
            records.add(depth=depth, seed=seed, accuracy=0.5 + 0.1 * seed, norms=norms)
    return records.sweep()


def test_all_that_say_something_are_written_and_named(typed, swept):
    said = typed("plot", swept)
    names = ["metric", "effects", "profiles", "ranks", "gradient_by_block", "heatmap"]
    assert (said.code, said.out.splitlines()) == (0, [str(swept / "figures" / f"{name}.pdf") for name in names])
    assert all((swept / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in names)
    assert b"curves" not in b"".join(file.name.encode() for file in (swept / "figures").iterdir())


def test_kinds_formats_width_and_place_can_be_chosen(typed, swept, tmp_path):
    said = typed("plot", swept, "metric", "--format", "svg,png", "--columns", "2", "--out", tmp_path / "out")
    assert said.out.splitlines() == [str(tmp_path / "out" / f"metric.{each}") for each in ("svg", "png")]
    head = (tmp_path / "out" / "metric.svg").read_text()[:1500]
    assert 'width="486pt"' in head  # 6.75 inches


@pytest.mark.parametrize(
    ("name", "begins"), [("fig2.pdf", b"%PDF"), ("fig2.png", b"\x89PNG"), ("new/a.b.svg", b"<?xml")]
)
def test_one_figure_can_be_a_file_of_a_name_of_ones_own(typed, swept, tmp_path, name, begins):
    said = typed("plot", swept, "metric", "--out", tmp_path / name)
    assert (said.code, said.out) == (0, f"{tmp_path / name}\n")
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_kind_that_says_nothing_says_why_and_keeps_no_other_back(typed, swept):
    said = typed("plot", swept, "time_gradient", "metric")
    assert said.code == 2
    assert said.out.splitlines() == [str(swept / "figures" / "metric.pdf")]
    (line,) = said.err.splitlines()
    assert line.startswith(f"gradflow: time_gradient: nothing to draw of {swept}: no run has")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["heatmp"], "did you mean 'heatmap'"),
        (["--format", "pfd"], "did you mean 'pdf'"),
        (["--value", "test/acuracy"], "did you mean 'test/accuracy'"),
        (["--by", "activaton"], "did you mean 'activation'"),
        (["heatmap", "--x", "width"], "--x: none of heatmap has it; those that do: metric"),
        (["metric", "ranks", "--out", "fig.pdf"], "--out fig.pdf: is one file; name one KIND, or a folder"),
        (["--out", "fig.pdf"], "--out fig.pdf: is one file; name one KIND, or a folder"),
        (["metric", "--out", "fig.pdf", "--format", "svg"], "--out fig.pdf: says pdf, but --format svg"),
        (["--where", "depht=2"], "did you mean 'depth'"),
        (["--where", "depth > 99"], "wants none of the 4 runs"),
    ],
)
def test_mistakes_are_told_in_one_line(typed, swept, words, told):
    said = typed("plot", swept, *words)
    assert said.code == 2
    assert told in said.err
    assert len(said.err.splitlines()) == 1
    assert not (swept / "figures").exists()


@pytest.mark.parametrize("condition", ["depth=9", "depth == 9 and seed >= 0"])
def test_some_of_the_runs_can_be_asked_for(typed, swept, condition):
    said = typed("plot", swept, "metric", "--x", "seed", "--where", condition)
    assert said.code == 0, said.err


def test_a_folder_of_nothing_has_no_pictures(typed, records):
    records.add(state="missing")
    records.add(seed=1, state="failed")
    said = typed("plot", records.sweep())
    assert (said.code, said.out) == (2, "")
    assert "no picture says anything" in said.err
