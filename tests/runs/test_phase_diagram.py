"""Order and chaos: the colours are those of the fixed point, the line is the critical one."""

import math

import numpy as np
import pytest
import torch

from gradflow.runs.phase_diagram import phase_diagram
from gradflow.theory.critical import critical_sigma_w2
from gradflow.theory.fixed_point import fixed_point


def test_tanh(compose):
    found = phase_diagram(compose.config(["activation=tanh", "init=mean_field", "init.sigma_w2=1.3"]))
    w, b = found["sigma_w2"], found["sigma_b2"]
    for i, j in ((3, 10), (20, 40), (30, 70)):
        chi = fixed_point(torch.tanh, float(w[j]), float(b[i])).chi
        assert found["log10_factor"][i, j] == pytest.approx(0.5 * math.log10(chi), abs=1e-4)
    assert found["critical"][0] == pytest.approx(1.0)
    assert found["critical"][20] == pytest.approx(critical_sigma_w2(torch.tanh, float(b[20])))
    assert found["chosen"] == (1.3, 0.0)
    assert not found["unbounded"].any()


def test_relu_is_critical_at_two_whatever_the_biases(compose):
    found = phase_diagram(compose.config(["activation=relu", "init=he_normal"]))
    np.testing.assert_allclose(found["critical"], 2.0)
    assert found["marks"]["he (this config)"] == (pytest.approx(2.0), 0.0)
    assert found["chosen"] is None
    right = found["sigma_w2"] > 2.1
    assert found["unbounded"][:, right].all()
    np.testing.assert_allclose(found["log10_factor"][5], 0.5 * np.log10(found["sigma_w2"] / 2), atol=1e-6)


def test_the_axis_goes_as_far_as_the_critical_line(compose):
    found = phase_diagram(compose.config(["activation=sigmoid"]))
    assert found["sigma_w2"][-1] > found["critical"][0] > 50


def test_an_activation_of_two_numbers_has_none(compose):
    with pytest.raises(ValueError, match="swiglu is not a function of one number"):
        phase_diagram(compose.config(["activation=swiglu"]))
