"""Lyapunov exponents against maps whose exponents are known, determinants, and mean-field theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from through_time import Driven, noise, own_layers, torch_layer
from torch import Tensor, nn

from gradflow.instruments.lyapunov import lyapunov
from gradflow.models import activations
from gradflow.models.cells.rnn import rnn
from gradflow.models.recurrence import Recurrence
from gradflow.theory.recurrent import mean_field


def test_a_linear_map_has_the_logarithms_of_its_eigenvalues():
    matrix = torch.tensor([[0.9, 5.0, -2.0], [0.0, -0.5, 3.0], [0.0, 0.0, 0.2]], dtype=torch.float64)
    module = Driven(lambda h, x: h @ matrix.T + x, torch.zeros(3, dtype=torch.float64))
    (found,) = lyapunov(module, noise(2, 400, 3), 3)
    np.testing.assert_allclose(found.values, np.log([[0.9, 0.5, 0.2]] * 2), atol=0.01)
    assert found.values.sum(1) == pytest.approx([math.log(0.09)] * 2, abs=1e-12)


def henon(h: Tensor, x: Tensor) -> Tensor:
    return torch.stack([1 - 1.4 * h[:, 0] ** 2 + h[:, 1] + x[:, 0], 0.3 * h[:, 0] + x[:, 1]], 1)


def test_the_henon_map():
    """λ₁ is known to be about 0.419; the determinant is −0.3 everywhere."""
    module = Driven(henon, torch.zeros(2, dtype=torch.float64))
    x = torch.zeros(16, 1500, 2, dtype=torch.float64)
    x[:, 0] = 0.1 * noise(16, 2)  # each example from another place
    (found,) = lyapunov(module, x, 2)
    error = found.values[:, 0].std(ddof=1) / 4
    assert error < 0.004
    assert found.mean()[0] == pytest.approx(0.419, abs=0.008)
    assert found.values.sum(1) == pytest.approx([math.log(0.3)] * 16, abs=1e-10)


def test_the_cat_map():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    module = Driven(lambda h, x: torch.remainder(h @ matrix.T + x, 1.0), torch.tensor([0.1, 0.7], dtype=torch.float64))
    (found,) = lyapunov(module, torch.zeros(1, 60, 1, dtype=torch.float64), 2)
    golden = math.log((3 + math.sqrt(5)) / 2)
    np.testing.assert_allclose(found.values, [[golden, -golden]], atol=1e-9)


def test_complex_states_turn_without_growing():
    factor = torch.polar(*torch.tensor([[0.9, 0.4], [1.0, 2.0]], dtype=torch.float64))
    module = Driven(lambda h, x: factor * h + x, torch.zeros(2, dtype=torch.complex128))
    (found,) = lyapunov(module, noise(2, 300, 2), 4)
    np.testing.assert_allclose(found.values, np.log([[0.9, 0.9, 0.4, 0.4]] * 2), atol=0.02)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_all_exponents_together_are_the_mean_logarithm_of_the_determinant(kind, batch_first):
    """Of the upper layer's whole state, from Jacobians of torch's own cells."""
    module, steps = torch_layer(kind, num_layers=2, width=3, batch_first=batch_first), 12
    x = noise(2, steps, 3) if batch_first else noise(steps, 2, 3)
    size = 6 if kind is nn.LSTM else 3
    found = lyapunov(module, x, size, warm_up=0.0)[1]
    below = kind(3, 3, batch_first=True).double()
    below.load_state_dict({name: value for name, value in module.state_dict().items() if "l0" in name})
    inputs = below(x if batch_first else x.transpose(0, 1))[0].detach()
    above = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}[kind](3, 3).double()
    weights = {n.removesuffix("_l1"): v for n, v in module.state_dict().items() if n.endswith("_l1")}
    above.load_state_dict(weights)
    for example in range(2):
        state, logs = torch.zeros(size, dtype=torch.float64), []
        for time in range(steps):

            def step(flat: Tensor, now: Tensor = inputs[example, time]) -> Tensor:
                new = above(now[None], flat.view(2, 1, 3).unbind(0) if kind is nn.LSTM else flat[None])
                return torch.cat([part.flatten() for part in new])

            logs.append(torch.linalg.slogdet(torch.autograd.functional.jacobian(step, state))[1].item())
            state = step(state).detach()
        assert found.values[example].sum() == pytest.approx(np.mean(logs[1:]), rel=1e-9)


@pytest.mark.parametrize(("gain", "tolerance"), [(0.5, 0.06), (1.5, 0.03), (2.0, 0.03)])
def test_a_wide_random_network_has_half_the_logarithm_of_chi(gain, tolerance):
    """An independent simulation of 500 units gave −0.67, 0.057 and 0.153."""
    width = 400
    layer = Recurrence(rnn(1, width, activations.tanh))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.cell.recurrent_weight.copy_(torch.randn(width, width, generator=generator) * gain / math.sqrt(width))
        layer.cell.input_weight.copy_(torch.randn(width, 1, generator=generator))
    x = torch.zeros(2, 400, 1)
    x[:, 0] = torch.randn(2, 1, generator=generator)  # a push; from there on it is left alone
    (found,) = lyapunov(layer, x, warm_up=0.3)
    assert found.mean()[0] == pytest.approx(mean_field(torch.tanh, gain).exponent, abs=tolerance)


def test_the_module_stays_as_it_was():
    module, x = torch_layer(nn.LSTM).float().train(), noise(2, 9, 3).float()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    lyapunov(module, x, 2)
    assert module.training
    assert "forward" not in vars(module)
    for name, value in module.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


def test_refusals():
    module, x = torch_layer(nn.GRU), noise(2, 9, 3)
    with pytest.raises(ValueError, match="k=6 exponents: the state of 'rnn' has only 5"):
        lyapunov(module, x, 6)
    with pytest.raises(ValueError, match="k=0"):
        lyapunov(module, x, 0)
    layer = Recurrence(rnn(3, 4, activations.tanh), skip_time=2).double()
    with pytest.raises(ValueError, match="skip_time=2"):
        lyapunov(layer, x)
    with pytest.raises(ValueError, match="two steps"):
        lyapunov(own_layers("rnn", False), x[:, :1])
