"""What stands around panels takes its room, whatever the words: no overlap, nothing cut off, exact widths."""

import re
import subprocess

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from gradflow.results.pictures import kinds
from gradflow.results.pictures.panels import Panels, wrap
from gradflow.results.pictures.sheet import COLUMN, PAGE, Shape, drawing, paper
from gradflow.runs.planfile import collect

SHOWN = ("metric", "effects", "curves", "gradient_by_block", "heatmap")


def test_long_names_neither_overlap_nor_leave_the_figure(long_names, faults):
    collection = collect(long_names)
    for columns in COLUMN:
        for kind in SHOWN:
            figure = kinds.draw(kind, collection, paper(columns))
            assert (kind, columns, faults(figure, paper(columns))) == (kind, columns, [])
            assert figure.get_figwidth() == COLUMN[columns]
            assert figure.get_figheight() < 9.5
            assert figure.get_suptitle() == ""


def test_on_the_page_as_well(long_names, faults):
    collection = collect(long_names)
    for kind in ("metric", "heatmap"):
        figure = kinds.draw(kind, collection, PAGE)
        assert (kind, [fault for fault in faults(figure) if "points" not in fault]) == (kind, [])
        assert "rather long name" in figure.get_suptitle().replace("\n", " ")


def test_the_eye_sees_what_it_must_see(faults):
    figure = Figure(figsize=(3, 3))
    axis = figure.subplots()
    axis.text(0.5, 0.5, "one word")
    axis.text(0.52, 0.5, "another")
    figure.text(0.95, 0.5, "far too long")
    found = " ".join(faults(figure))
    assert "overlap: 'one word' and 'another'" in found
    assert "leaves the figure: 'far too long'" in found
    handle = axis.plot([0, 1], label="key")[0]
    figure.legend(handles=[handle], loc="center")
    assert "a legend lies on a panel" in faults(figure)


def test_panels_of_a_paper_share_its_width_evenly():
    sheet = paper(2, "A title of its own")
    with drawing(sheet):
        made = Panels(sheet, Shape(), 6)
        figure = made.finish("the picture's own", "step")
    boxes = [axis.get_position() for axis in made.axes]
    assert made.across == 3  # 3 + 3 rather than 4 + 2
    assert len({round(box.width, 6) for box in boxes}) == len({round(box.height, 6) for box in boxes}) == 1
    assert figure.get_suptitle() == "A title of its own"
    assert min(box.width for box in boxes) * 6.75 > 1.1


def test_a_page_of_a_paper_holds_so_many_panels():
    assert paper(2).holds(Shape()) > paper(1).holds(Shape()) >= 8
    assert PAGE.holds(Shape()) > 1000


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("relu · he_normal · batch", ["relu · he_normal", "batch"]),
        ("an_activation_of_a_very_long_name · x", ["an_activation_of_a_v", "ery_long_name · x"]),
        ("", [""]),
    ],
)
def test_titles_break_between_choices(title, lines):
    assert wrap(title, 20) == lines


def test_the_same_records_make_the_same_files_without_dates_whatever_the_reader_s_own_settings(
    long_names, saved, tmp_path
):
    sheet = paper(1)
    one = saved(kinds.draw("heatmap", collect(long_names), sheet), tmp_path / "a", sheet.words)
    with rc_context({"pdf.fonttype": 3, "svg.fonttype": "none", "font.size": 12}):
        other = saved(kinds.draw("heatmap", collect(long_names), sheet), tmp_path / "b", sheet.words)
    assert one == other
    pdf, svg, png = one
    assert b"CreationDate" not in pdf
    assert b"<dc:date>" not in svg
    assert b"<text" not in svg  # letters are paths
    assert pdf.count(b"/Subtype /Image") >= 1  # the cells, and nothing else, are pixels
    assert png.startswith(b"\x89PNG")


def test_fonts_are_embedded_whole_words_of_true_type(long_names, tmp_path, required):
    from shutil import which

    from gradflow.results.pictures.style import save

    required(which("pdffonts") is not None, "pdffonts")
    sheet = paper(2)
    (file,) = save(kinds.draw("effects", collect(long_names), sheet), tmp_path / "m", "", ("pdf",), sheet.words)
    told = subprocess.run(["pdffonts", file], check=True, capture_output=True, text=True).stdout.splitlines()[2:]
    assert told
    for line in told:
        assert re.search(r"TrueType\s+\S+\s+yes", line), line
