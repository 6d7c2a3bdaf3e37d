"""Singular values of Jacobians, and the scatter of gradients of networks of finite width, against random networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from gradflow.theory.finite_width import finite_width
from gradflow.theory.fixed_point import fixed_point
from gradflow.theory.jacobian import jacobian_moments, slopes
from gradflow.theory.response import values_and_slopes


def identity(z):
    return z


def networks(phi, sigma_w2, sigma_b2, width, depth, count, weights="gaussian", q=None):
    """Weights [L][count, n, n] and slopes [L][count, n] of random networks that begin at the fixed point."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    q = fixed_point(phi, sigma_w2, sigma_b2).q if q is None else q
    x = torch.nn.functional.normalize(normal(count, width), dim=1) * math.sqrt(width * (q - sigma_b2) / sigma_w2)
    maps, steep = [], []
    for _ in range(depth):
        w = normal(count, width, width) / math.sqrt(width)
        if weights == "orthogonal":
            w = torch.linalg.qr(w)[0]
        maps.append(math.sqrt(sigma_w2) * w)
        z = (maps[-1] @ x[:, :, None])[:, :, 0] + math.sqrt(sigma_b2) * normal(count, width)
        value, slope = values_and_slopes(phi, z.flatten())
        x = value.view_as(z)
        steep.append(slope.view_as(z))
    return maps, steep, normal(count, width)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("phi", "sigma_w2", "sigma_b2"), [(torch.tanh, 1.761, 0.05), (torch.relu, 2.0, 0.0)])
def test_squared_singular_values(phi, sigma_w2, sigma_b2, weights):
    width, depth = 300, 4
    q = 1.0 if phi is torch.relu else None
    maps, steep, _ = networks(phi, sigma_w2, sigma_b2, width, depth, 6, weights, q)
    jacobian = torch.eye(width, dtype=torch.float64)
    for w, slope in zip(maps, steep, strict=True):
        jacobian = slope[:, :, None] * (w @ jacobian)
    squares = torch.linalg.svdvals(jacobian).square()
    found = jacobian_moments(phi, sigma_w2, sigma_b2, depth, weights)
    assert found.mean == pytest.approx(squares.mean().item(), rel=0.06)
    relative = (squares.var(1) / squares.mean(1) ** 2).mean().item()
    assert found.relative_variance == pytest.approx(relative, rel=0.08)


def test_published_formulas_of_singular_values():
    """Pennington, Schoenholz & Ganguli 2018, eq. 21: χ^{2L} L (μ₂/μ₁² − 1 − s₁); ReLU has μ₂/μ₁² = 2, and linear
    orthogonal networks are isometries."""
    second, fourth = slopes(torch.tanh, 0.7)
    assert fourth > second**2
    for weights, s1 in (("gaussian", -1), ("orthogonal", 0)):
        found = jacobian_moments(torch.tanh, 2.0, 0.05, 10, weights)
        at = fixed_point(torch.tanh, 2.0, 0.05)
        second, fourth = slopes(torch.tanh, at.q)
        assert found.mean == pytest.approx(at.chi**10)
        assert found.variance == pytest.approx(at.chi**20 * 10 * (fourth / second**2 - 1 - s1))
        relu = jacobian_moments(torch.relu, 2.0, 0.0, 7, weights)
        assert (relu.mean, relu.variance) == (pytest.approx(1.0), pytest.approx(7 * (1 - s1)))
    isometry = jacobian_moments(identity, 1.0, 0.0, 1000, "orthogonal")
    assert (isometry.mean, isometry.variance) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
    deep = jacobian_moments(torch.tanh, 4.0, 0.05, 10_000)
    assert deep.mean == math.inf
    assert math.isfinite(deep.log_mean)
    away = jacobian_moments(torch.tanh, 2.0, 0.05, 3, q=3.0)
    assert away.log_mean < jacobian_moments(torch.tanh, 2.0, 0.05, 3).log_mean
    for keys, message in (({"depth": 0}, "depth=0"), ({"depth": 1, "weights": "sparse"}, "weights=sparse")):
        with pytest.raises(ValueError, match=message):
            jacobian_moments(torch.tanh, 2.0, 0.05, **keys)
    with pytest.raises(ValueError, match="without bound"):
        jacobian_moments(torch.relu, 3.0, 0.0, 5)


@pytest.mark.parametrize(
    ("phi", "sigma_w2", "sigma_b2", "q"),
    [
        (torch.relu, 2.0, 0.0, 1.0),
        (identity, 1.0, 0.0, 1.0),
        (torch.tanh, 1.761, 0.05, None),
        (torch.tanh, 3.0, 0.05, None),
        (functional.elu, 1.2, 0.3, None),
    ],
    ids=["relu", "linear", "critical tanh", "chaotic tanh", "elu"],
)
def test_scatter_of_gradients(phi, sigma_w2, sigma_b2, q):
    """500 networks of width 64 and depth 8: the standard error of a standard deviation is 3 %."""
    width, depth, count = 64, 8, 500
    maps, steep, g = networks(phi, sigma_w2, sigma_b2, width, depth, count, q=q)
    start = g.square().sum(1).log()
    logs = [torch.zeros(count, dtype=torch.float64)]
    for w, slope in zip(reversed(maps[1:]), reversed(steep[1:]), strict=True):
        g = (w.transpose(1, 2) @ (slope * g)[:, :, None])[:, :, 0]
        logs.append(g.square().sum(1).log() - start)
    measured = torch.stack(logs[::-1]).numpy()
    found = finite_width(phi, sigma_w2, sigma_b2, [width] * (depth + 1), q=q)
    assert found.std == pytest.approx(measured.std(1), rel=0.13, abs=1e-12)
    error = found.std / math.sqrt(count)
    assert (np.abs(found.mean - measured.mean(1)) <= 4 * error + 0.1 * found.std + 0.01).all()


def test_published_scatter():
    """Hanin & Nica 2019: variance Σ 5/n for ReLU, mean minus half of it; 2/n for linear networks."""
    widths = [50, 100, 200, 400]
    found = finite_width(torch.relu, 2.0, 0.0, widths)
    assert found.std**2 == pytest.approx([2 / 100 + 3 / 200 + 2 / 200 + 3 / 400, 2 / 200 + 3 / 400, 0.0])
    assert found.mean == pytest.approx(-(found.std**2) / 2)
    linear = finite_width(identity, 1.0, 0.0, [100] * 11)
    assert linear.std[0] ** 2 == pytest.approx(9 * 2 / 100)
    lower, upper = linear.log10_band(2.0)
    assert upper[0] - lower[0] == pytest.approx(2 * 2 * linear.std[0] / (2 * math.log(10)))
    with pytest.raises(ValueError, match="widths"):
        finite_width(torch.relu, 2.0, 0.0, [100])
    with pytest.raises(ValueError, match="without bound"):
        finite_width(torch.relu, 2.5, 0.0, [100] * 3)
