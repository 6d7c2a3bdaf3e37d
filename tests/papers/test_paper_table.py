"""What a paper's table shows, in every format."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from gradflow.papers.documents import to_csv, to_md, to_tex
from gradflow.papers.paper import Paper
from gradflow.papers.pictures import draw, told_by_cell
from gradflow.papers.runs import PaperRuns, Ran
from gradflow.papers.table import make_paper_table
from gradflow.results.choices import varying
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Found, Record

ACCURACIES = {
    ("sigmoid", "2"): (0.88, 0.89),
    ("sigmoid", "10"): (0.1, 0.1),
    ("relu", "2"): (0.93, 0.92),
    ("relu", "10"): (0.91, 0.9),
}


@pytest.fixture
def ran():
    same = {"trainer.max_steps": (100, 300)}
    cells = [
        Ran(key, [f"{'-'.join(key)}-{seed}" for seed in range(2)], {} if key == ("sigmoid", "10") else same)
        for key in ACCURACIES
    ]
    return PaperRuns("birch2001", "small", 2, cells)


@pytest.fixture
def records():
    found = {}
    for key, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            name = f"{'-'.join(key)}-{seed}"
            result = {
                "state": "completed",
                "metric": "test/accuracy",
                "metrics": {"test/accuracy": accuracy},
                "cost": {},
            }
            found[name] = Record(name, None, "completed", {}, {}, {**result, "steps": 100, "chance": 0.1})
    return found


@pytest.fixture
def made(paper, ran, records):
    return make_paper_table("birch2001", paper, ran, records)


def rows(made, measure=0):
    table = made.cells[measure]
    return {
        tuple(line.labels.values()): tuple(str(line.values[c]) for c in ("published", "source", "verdict"))
        for line in table.lines
    }


def test_every_published_figure_and_every_run_has_a_line(made):
    assert rows(made) == {
        ("sigmoid", "2"): ("11.5", "V", "run at reduced scale"),
        ("sigmoid", "10"): ("90", "V", "agrees"),  # its runs are by the paper's own protocol
        ("relu", "2"): ("7 unverified", "M", "run at reduced scale"),
        ("relu", "10"): ("None", "None", "run at reduced scale"),
        ("maxmin", "2"): ("2.5", "V", "quoted only"),
    }
    ours = made.cells[0].lines[0].values["ours"]
    assert (ours.value, ours.count) == (pytest.approx(11.5), 2)
    assert list(rows(made, 1)) == list(ACCURACIES)  # nothing was published of this measure


def test_without_runs_nothing_was_run(paper):
    made = make_paper_table("birch2001", paper, None, {})
    verdicts = {key: told for key, (_, _, told) in rows(made).items()}
    assert verdicts == {
        ("sigmoid", "2"): "not run",
        ("sigmoid", "10"): "not run",
        ("relu", "2"): "not run",
        ("maxmin", "2"): "quoted only",
    }
    assert [finding.verdict for _, finding in made.claims] == ["not run"] * 3
    assert made.deviations == paper.deviations


def test_a_measure_without_figures_and_runs_is_told_in_a_line(paper):
    made = make_paper_table("birch2001", paper, None, {})
    assert made.cells[1].lines == []
    assert "## share that learns\n\nNo figure was published of it, and nothing has been run.\n" in to_md(made)
    assert "share that learns" not in to_tex(made)
    assert "learned," not in to_csv(made)


def test_claims_are_judged_on_these_runs(made):
    assert [finding.verdict for _, finding in made.claims] == ["supported", "undecided", "not run"]
    table = made.claims_table()
    assert [line.values["verdict"] for line in table.lines] == ["supported", "undecided", "not run"]
    assert table.lines[0].values["difference"].value == pytest.approx(80.5)


def test_every_departure_from_the_protocol_is_told(made):
    assert made.deviations == [
        "The digits are scikit-learn's.",
        "reduced scale: The order shows after 100 updates.",
        "1 of the paper's 5 cells are not run at this scale",
        "seeds: 2 instead of 3",
        "trainer.max_steps: 100 instead of 300 (3 of 4 cells)",
    ]


def test_runs_that_are_missing_are_told(paper, ran, records):
    del records["relu-2-0"], records["relu-2-1"]
    made = make_paper_table("birch2001", paper, ran, records)
    assert rows(made)["relu", "2"] == ("7 unverified", "M", "not run")
    assert made.deviations[-1] == "1 of 4 cells lack runs that were planned"
    assert [finding.verdict for _, finding in made.claims] == ["supported", "not run", "not run"]


def test_all_formats_say_the_same(made):
    page, tex = to_md(made, [("birch2001.png", "published beside ours")]), to_tex(made)
    lines = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert [line["verdict"] for line in lines if line["measure"] == "error"] == [
        told for _, _, told in rows(made).values()
    ]
    assert float(lines[0]["ours"]) == pytest.approx(11.5)
    assert lines[-3]["verdict"] == "supported"
    for text in (page, tex):
        assert "11.5" in text
        assert "run at reduced scale" in text
        assert "supported" in text
        assert "unverified" in text
    assert page.startswith("# Ash and Birch 2001, Table 1\n")
    assert "![published beside ours](birch2001.png)" in page
    assert "- seeds: 2 instead of 3" in page
    assert "- The batch size is not stated; 64 is used." in page


def test_what_a_file_says_is_escaped(content, ran, records):
    content |= {"authors": "<script>alert(1)</script>", "about": "50 % & more_of $x$"}
    content["measures"]["error"]["label"] = "error_of <b>"
    made = make_paper_table("birch2001", Paper.model_validate(content), ran, records)
    assert "<script>" not in to_md(made)
    assert "\\<script\\>" in to_md(made)
    assert "error\\_of" in to_tex(made)


def test_the_published_figure_stands_beside_ours(made, paper):
    figure = draw(made)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["published", "ours (small scale)"]
    published, ours = (
        {line.get_color(): line for line in axis.lines if line.get_marker() != "None"} for axis in figure.axes
    )
    drawn = sorted(tuple(map(tuple, line.get_xydata())) for line in published.values())
    assert drawn == [((2.0, 2.5),), ((2.0, 7.0),), ((2.0, 11.5), (10.0, 90.0))]
    assert sorted(len(line.get_xydata()) for line in ours.values()) == [0, 2, 2]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    bare = make_paper_table("birch2001", paper.model_copy(update={"figure": None}), None, {})
    assert draw(bare) is None


def test_curves_are_told_in_the_papers_words(made, records, paper):
    """Whatever the configs of its cells differ in; of one cell only the seed does."""
    labels = {
        f"{'-'.join(key)}-{seed}": {"task": "digits", "activation": key[0], "gain": i, "seed": seed}
        for i, key in enumerate(ACCURACIES)
        for seed in range(2)
    }
    told = told_by_cell(made, Collection("paper", None, labels, Found(records), Path()))
    assert list(told.planned) == list(labels)
    for key, ids in made.values.runs.items():
        for i in set(ids) & set(labels):
            assert {axis: told.planned[i][axis] for axis in paper.axes} == paper.look(key)
    assert set(varying(list(told.planned.values()))) == {"net", "depth"}


def test_a_full_scale_cut_short_is_not_called_full(made, paper, ran, records):
    assert made.told_scale == "small scale"
    full = replace(ran, scale="full")
    assert make_paper_table("birch2001", paper, full, records).told_scale == "full scale, reduced"
    own = replace(full, cells=[replace(each, differs={}) for each in full.cells])
    assert make_paper_table("birch2001", paper, own, records).told_scale == "full scale"
    assert make_paper_table("birch2001", paper, None, {}).told_scale == ""
