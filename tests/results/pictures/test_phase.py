"""Order and chaos with the runs: a mark stands where a run began, and says what became of it."""

import numpy as np
import pytest

from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.phase import MARKS, dots, draw
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json


def diagram(_: str) -> dict:
    w, b = np.linspace(0.1, 4, 9), np.linspace(0, 0.5, 7)
    factor = np.tile(np.log10(w / 2) / 2, (7, 1))
    return {
        **{"sigma_w2": w, "sigma_b2": b, "log10_factor": factor, "unbounded": factor > 0.14},
        "critical": np.full(7, 2.0),
    }


@pytest.fixture
def swept(records):
    for sigma_w2, verdict in ((1.0, "vanishing"), (3.0, "exploding")):
        for depth, told in ((2, "healthy"), (30, verdict)):
            path = records.add(verdict=told, depth=depth, activation="tanh", **{"init.sigma_w2": sigma_w2})
            write_json(path / "prediction.json", {"phase": "ordered", "sigma_w2": sigma_w2, "sigma_b2": 0.05})
    path = records.add(activation="tanh", norm="batch")  # whose signal does not settle at a fixed point
    write_json(path / "prediction.json", {"phase": "ordered", "sigma_w2": 2.0, "sigma_b2": 0.0})
    return collect(records.sweep())


def test_a_dot_is_the_deepest_plain_network_of_a_beginning(swept):
    (found,) = dots(swept).values()
    assert [(dot.sigma_w2, dot.sigma_b2, dot.depth, dot.verdict) for dot in found] == [
        (1.0, 0.05, 30, "vanishing"),
        (3.0, 0.05, 30, "exploding"),
    ]


def test_marks_stand_on_the_diagram(swept):
    figure = draw(swept, diagram=diagram)
    axis = figure.axes[0]
    marks = {
        line.get_marker(): np.ravel(line.get_xydata()).tolist() for line in axis.lines if line.get_marker() != "None"
    }
    assert marks == {MARKS["vanishing"]: [1.0, 0.05], MARKS["exploding"]: [3.0, 0.05]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *(r"critical line, $\chi_1=1$", "signal grows without bound"),
        *("vanishing at depth 30", "exploding at depth 30"),
    ]


@pytest.mark.parametrize("known", [None, lambda _: None], ids=["nobody computes", "not covered"])
def test_without_theory_there_is_no_diagram(swept, known):
    with pytest.raises(SaysNothing, match="plain network"):
        draw(swept, diagram=known)
