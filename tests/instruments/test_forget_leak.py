"""Products of forget gates against gates written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from through_time import noise, own_layers, torch_layer, unrolled
from torch import nn

from gradflow.instruments.forget_leak import forget_leak


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_constant_gate(kind):
    """All weights 0 and a bias b: every step keeps σ(b)."""
    module = torch_layer(kind, width=4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.bias_ih_l0[4:8] = 1.5
        module.bias_hh_l0[4:8] = 0.5
    (found,) = forget_leak(module, lambda: module(noise(2, 30, 3)))
    assert found.times.tolist() == list(range(30))
    np.testing.assert_allclose(found.log10, np.arange(30, 0, -1) * math.log10(1 / (1 + math.exp(-2))), rtol=1e-12)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_by_hand_in_both_directions(kind):
    module, x = torch_layer(kind, bidirectional=True), noise(3, 8, 3)
    found = forget_leak(module, lambda: module(x))
    _, states = unrolled(module, x)
    for each, suffix in zip(found, ("_l0", "_l0_reverse"), strict=True):
        w, u, a, b = (getattr(module, f"{n}{suffix}")[5:10] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        hidden = states[suffix][0]
        before = [*hidden[1:], 0 * hidden[0]] if "reverse" in suffix else [0 * hidden[0], *hidden[:-1]]
        gates = torch.stack([torch.sigmoid(x[:, t] @ w.T + a + before[t] @ u.T + b) for t in range(8)])
        for t in range(8):
            rest = gates[: t + 1] if "reverse" in suffix else gates[t:]
            assert each.log10[t] == pytest.approx(rest.prod(0).log10().flatten().quantile(0.5).item(), rel=1e-10)


def test_where_a_gru_only_keeps_its_share_is_the_derivative():
    """Reset gate, candidate and gates off: ∂h_t/∂h_{t−1} is the update gate alone."""
    module, x = torch_layer(nn.GRU), noise(1, 6, 3)
    with torch.no_grad():
        module.weight_hh_l0.zero_()
    start = torch.zeros(1, 1, 5, dtype=torch.float64, requires_grad=True)
    last = module(x, start)[0][:, -1]
    (slope,) = torch.autograd.grad(last.sum(), start)
    (found,) = forget_leak(module, lambda: module(x))
    assert found.log10[0] == pytest.approx(slope.log10().median().item(), rel=1e-10)


def test_gradflows_own_cells_and_those_without_a_gate():
    net, x = own_layers("lstm", False, True), noise(3, 8, 3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for layer in net:
            layer.cell.bias[6:12] = 1.0
    found = forget_leak(net, lambda: net(x))
    sigma = math.log10(1 / (1 + math.exp(-1)))
    np.testing.assert_allclose(found[0].log10, sigma * np.arange(8, 0, -1), rtol=1e-10)
    np.testing.assert_allclose(found[1].log10, sigma * np.arange(1, 9), rtol=1e-10)
    assert "begin" not in vars(net[0].cell)
    plain = own_layers("rnn", False)
    assert forget_leak(plain, lambda: plain(x)) == []
