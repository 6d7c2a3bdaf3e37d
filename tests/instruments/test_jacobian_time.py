"""‖∂h_T/∂h_t‖_F against matrix powers, whole Jacobians and known rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from through_time import Driven, noise, own_layers, torch_layer, unrolled
from torch import Tensor, nn

from gradflow.instruments.jacobian_time import time_jacobian
from gradflow.models import activations
from gradflow.models.cells.rnn import rnn
from gradflow.models.recurrence import Recurrence


def linear_layer(matrix: Tensor) -> Recurrence:
    width = len(matrix)
    layer = Recurrence(rnn(2, width, activations.linear)).double()
    with torch.no_grad():
        layer.cell.recurrent_weight.copy_(matrix)
        layer.cell.input_weight.copy_(noise(width, 2))
    return layer


def with_eigenvalues(*values: float) -> Tensor:
    basis = noise(len(values), len(values)) + 2 * torch.eye(len(values), dtype=torch.float64)
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ torch.linalg.inv(basis)


def test_a_linear_layer_against_powers_of_its_matrix():
    matrix = with_eigenvalues(0.95, 0.5, -0.4, 0.1)
    layer, x = linear_layer(matrix), noise(3, 80, 2)
    curve = time_jacobian(layer, lambda: layer(x), vectors=None).curve("model")
    expected = [torch.linalg.matrix_power(matrix, 79 - t).norm() for t in range(80)]
    np.testing.assert_allclose(curve.norms, np.array(expected)[:, None].repeat(3, 1), rtol=1e-10)
    found = curve.decay()
    assert found.rate == pytest.approx(math.log(0.95), abs=1e-4)
    assert found.high - found.low < 1e-12


@pytest.mark.parametrize("radius", [0.7, 1.2])
def test_the_rate_tends_to_the_logarithm_of_the_spectral_radius(radius):
    layer, x = linear_layer(radius / 0.9 * with_eigenvalues(0.9, 0.3, -0.2, 0.1)), noise(4, 100, 2)
    found = time_jacobian(layer, lambda: layer(x), generator=torch.Generator().manual_seed(1)).curve("model").decay()
    assert found.rate == pytest.approx(math.log(radius), abs=1e-3)


def test_an_orthogonal_layer_keeps_the_norm_exactly():
    matrix = torch.linalg.qr(noise(6, 6)).Q
    layer, x = linear_layer(matrix), noise(2, 50, 2)
    for vectors in (1, 4, None):
        curve = time_jacobian(layer, lambda: layer(x), vectors=vectors).curve("model")
        np.testing.assert_allclose(curve.norms, math.sqrt(6), rtol=1e-12)
        assert abs(curve.decay().rate) < 1e-14


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_whole_jacobian_by_autograd(kind):
    module, x = torch_layer(kind, num_layers=2), noise(2, 6, 3)
    found = time_jacobian(module, lambda: module(x), vectors=None)
    _, states = unrolled(module, x)
    top = states["_l1"][0][-1]
    for suffix, parts in states.items():
        for part, tensors in zip(("h", "c"), parts, strict=False):
            squares = np.zeros((6, 2))
            for unit in range(5):
                rows = torch.autograd.grad(top[:, unit].sum(), tensors, retain_graph=True, allow_unused=True)
                squares += np.array([(0 * top if g is None else g).square().sum(1).tolist() for g in rows])
            np.testing.assert_allclose(found.curve("rnn" + suffix, part).norms, np.sqrt(squares), rtol=1e-10)


def test_random_vectors_are_right_on_average():
    net, x = own_layers("lstm", False, width=12), noise(2, 8, 3)
    exact = time_jacobian(net, lambda: net(x), vectors=None).curve("0").norms
    square = np.zeros_like(exact)
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        square += time_jacobian(net, lambda: net(x), vectors=20, generator=draw).curve("0").norms ** 2 / 20
    np.testing.assert_allclose(np.sqrt(square), exact, rtol=0.05)


def test_a_reversed_layer_ends_at_the_first_step():
    module, x = torch_layer(nn.GRU, bidirectional=True), noise(2, 6, 3)
    found = time_jacobian(module, lambda: module(x), vectors=None)
    assert found.curve("rnn_l0").norms[-1] == pytest.approx([math.sqrt(5)] * 2)
    back = found.curve("rnn_l0_reverse")
    assert back.norms[0] == pytest.approx([math.sqrt(5)] * 2)
    assert (back.norms[-1] < back.norms[0]).all()
    assert back.backwards()[0].tolist() == list(range(6))


@pytest.mark.parametrize("vectors", [None, 3])
def test_complex_states(vectors):
    factor = 0.8 * torch.exp(1j * torch.arange(3, dtype=torch.float64))
    module = Driven(lambda h, x: factor * h + x, torch.zeros(3, dtype=torch.complex128))
    curve = time_jacobian(module, lambda: module(noise(2, 9, 3)), vectors=vectors).curve("model")
    lags, norms = curve.backwards()
    np.testing.assert_allclose(norms, math.sqrt(6) * 0.8 ** lags[:, None].repeat(2, 1), rtol=1e-12)


def test_no_vectors_are_refused():
    with pytest.raises(ValueError, match="vectors=0"):
        time_jacobian(nn.GRU(2, 2), lambda: None, vectors=0)
