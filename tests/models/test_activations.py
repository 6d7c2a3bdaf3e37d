"""Activations and their slopes against closed forms, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from gradflow.models import activations

CLOSED = {
    "linear": (lambda z: z, lambda _: 1.0),
    "sigmoid": (lambda z: 1 / (1 + math.exp(-z)), lambda z: 1 / (2 + math.exp(z) + math.exp(-z))),
    "tanh": (math.tanh, lambda z: 1 / math.cosh(z) ** 2),
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_value_and_slope(name):
    z = torch.tensor([[-3.0, -0.5], [0.25, 2.0]], dtype=torch.float64, requires_grad=True)
    out = getattr(activations, name)()(z)
    (slope,) = torch.autograd.grad(out.sum(), z)
    for i, formula in enumerate(CLOSED[name]):
        expected = z.detach().clone().apply_(formula)
        torch.testing.assert_close((out, slope)[i].detach(), expected, rtol=1e-14, atol=0)


def test_slopes_are_bounded_as_their_docstrings_say():
    z = torch.linspace(-8, 8, 1601, dtype=torch.float64, requires_grad=True)
    for name, top in (("sigmoid", 0.25), ("tanh", 1.0)):
        (slope,) = torch.autograd.grad(getattr(activations, name)()(z).sum(), z)
        assert slope.max() == top == slope[800]
