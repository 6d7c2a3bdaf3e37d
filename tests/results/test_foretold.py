"""A prediction as a person sees it."""

import numpy as np
import pytest
from rich.console import Console

from gradflow.results.foretold import draw, draw_diagram, to_rich

FOUND = {
    "applies": True,
    "why_not": None,
    "chi": 0.25,
    "q": 0.4,
    "c": 1.0,
    "xi_c": 0.72,
    "xi_q": 2.0,
    "xi_gradient": 0.72,
    "trainable_depth": 4.3,
    "phase": "ordered",
    "sigma_w2": 1.5,
    "sigma_b2": 0.05,
    "critical_sigma_w2": 1.761,
    "log10_delta": [-0.30103 * 2 * (999 - block) for block in range(1000)],
    "log10_grad": [-0.30103 * 2 * (999 - block) for block in range(1000)],
    "band": [0.1] * 1000,
    "through_time": None,
    "assumptions": ["layers are wide"],
    "cures": [{"key": "init", "value": "he_normal", "instead": "glorot_uniform", "chi": 1.0, "chi_instead": 0.25}],
}
NOT = {**FOUND, "applies": False, "why_not": "attention", "log10_delta": None, "log10_grad": None, "cures": []}


def told(found: dict) -> str:
    console = Console(width=100, record=True, quiet=True)
    console.quiet = False
    with console.capture() as capture:
        for each in to_rich(found, "mlp tanh depth 1000"):
            console.print(each)
    return capture.get()


def test_the_terminal_tells_all_there_is_to_tell():
    text = told(FOUND)
    for words in ("mlp tanh depth 1000", "ordered: gradients vanish", "0.25", "1.761", "to about depth 4 (6 ξ_c)"):
        assert words in text
    assert "init=he_normal" in text
    assert "assumed: layers are wide" in text


def test_a_handful_of_blocks_is_shown_and_none_underflows():
    rows = [line.split() for line in told(FOUND).splitlines() if "█" in line]
    assert [int(row[0]) for row in rows] == [0, 166, 333, 500, 666, 832, 999]
    assert rows[0][1] == "3.5e-602"
    assert rows[-1][1] == "1"
    lengths = [len(row[3]) for row in rows]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (1, 30)


def test_the_critical_phase_has_no_limit():
    text = told({**FOUND, "phase": "critical", "trainable_depth": None, "xi_c": None, "xi_gradient": None})
    assert "no exponential limit on depth" in text
    assert "∞" in text


def test_why_there_is_no_prediction():
    assert "no prediction over blocks: attention" in told(NOT)
    assert draw(NOT, "x") is None


def test_the_gradient_through_time_has_a_horizon():
    time = {"chi": 0.25, "exponent": -0.693, "q": 0.1, "sigma_w2": 0.25, "horizon_1%": 6.64}
    assert "about 6.64 steps back" in told({**NOT, "through_time": time})
    assert "no limit" in told({**NOT, "through_time": {**time, "horizon_1%": None}})


@pytest.mark.parametrize("missing", ["band", "log10_grad"])
def test_the_picture_does_without_what_is_not_known(missing):
    found = {**FOUND, missing: None, "log10_delta": FOUND["log10_delta"][-5:]}
    found |= {key: found[key][-5:] for key in ("band", "log10_grad") if found[key]}
    (axis,) = draw(found, "a title").axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), 10.0 ** np.array(found["log10_delta"]))
    assert len(axis.lines) == (1 if missing == "log10_grad" else 2)
    if missing == "log10_grad":
        assert "–" in told(found)


def test_a_phase_diagram_names_its_marks_and_hatches_what_has_no_bound():
    w, b = np.linspace(0.1, 4, 9), np.linspace(0, 0.5, 7)
    factor = np.tile(np.log10(w / 2) / 2, (7, 1))
    diagram = {
        "title": "relu: order and chaos",
        "sigma_w2": w,
        "sigma_b2": b,
        "log10_factor": factor,
        "unbounded": factor > 0,
        "critical": np.full(7, 2.0),
        "marks": {"he": (2.0, 0.0)},
        "chosen": (1.0, 0.1),
    }
    figure = draw_diagram(diagram)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[1:] == ["signal grows without bound", "he", "this config"]
    line = figure.axes[0].lines[0]
    assert set(line.get_xdata()) == {2.0}
