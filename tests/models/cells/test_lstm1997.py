"""The LSTM of 1997 against its equations written out gate by gate; its gradient with the paper's cuts."""

from __future__ import annotations

import math

import pytest
import torch
from by_hand import drawn, filled, gradients, is_a_cell
from torch import Tensor

from gradflow.models import activations
from gradflow.models.cells.lstm1997 import lstm1997
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream

B, T, F, H = 3, 9, 4, 6
VARIANTS = [(size, truncated) for size in (1, 2, 3) for truncated in (True, False)]


def make(width: int = H, **keys):
    """Every parameter is drawn, those that begin at 0 too."""
    return filled(lstm1997(F, width, activations.tanh, **keys).double())


def start(blocks: int) -> tuple[Tensor, ...]:
    return drawn(B, H, name="h"), drawn(B, H, name="c"), drawn(B, 2 * blocks, name="gates").sigmoid()


def run(cell, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    z, step = cell.begin(x)
    states = []
    for t in range(x.shape[1]):
        state = step(z[:, t], state, t)
        states.append(state[0])
    return torch.stack(states, 1), state


def by_hand(cell, x: Tensor, state: tuple[Tensor, ...], size: int, cut: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Unit by unit, with the paper's exponentials: net = Σ w y(t−1) + Σ w x(t) + bias, cell j in block j // size."""
    h, c, gates = state
    blocks = H // size
    outputs = []
    for t in range(x.shape[1]):
        y = torch.cat([gates, h], 1)
        y = y.detach() if cut else y

        def net(unit: int, t: int = t, y: Tensor = y) -> Tensor:
            return y @ cell.recurrent_weight[unit] + x[:, t] @ cell.input_weight[unit] + cell.bias[unit]

        y_in = [1 / (1 + torch.exp(-net(block))) for block in range(blocks)]
        y_out = [1 / (1 + torch.exp(-net(blocks + block))) for block in range(blocks)]
        cs, hs = [], []
        for j in range(H):
            g = 4 / (1 + torch.exp(-net(2 * blocks + j))) - 2
            s = c[:, j] + y_in[j // size] * g
            cs.append(s)
            hs.append(y_out[j // size] * (2 / (1 + torch.exp(-s)) - 1))
        h, c, gates = torch.stack(hs, 1), torch.stack(cs, 1), torch.stack([*y_in, *y_out], 1)
        outputs.append(h)
    return torch.stack(outputs, 1), (h, c, gates)


@pytest.mark.parametrize(("size", "truncated"), VARIANTS)
def test_steps_and_the_fast_way_are_the_equations(size, truncated):
    """Outputs, last states, and gradients of both with respect to everything that enters."""
    cell = make(block_size=size, truncated=truncated)
    x = drawn(B, T, F).requires_grad_()
    state = tuple(part.requires_grad_() for part in start(H // size))
    of = (x, state[1], *cell.parameters())
    expected, last = by_hand(cell, x, state, size, truncated)
    wanted = gradients(torch.cat([expected.flatten(), *(part.flatten() for part in last)]), *of)
    ways = [run(cell, x, state), cell.fast(x, state)] if truncated else [run(cell, x, state)]
    for out, after in ways:
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(tuple(after), last, rtol=0, atol=1e-12)
        found = gradients(torch.cat([out.flatten(), *(part.flatten() for part in after)]), *of)
        for mine, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_only_the_cut_gradient_has_a_fast_way():
    cell = make(truncated=False)
    assert cell.fast(drawn(B, T, F), start(H // 2)) is None


def test_is_a_cell():
    is_a_cell(lstm1997)


@pytest.mark.parametrize("fast", [False, True], ids=["steps", "fast"])
def test_the_constant_error_carousel(fast):
    """∂c_T/∂c_0 is exactly the identity, whatever the gates do: the paths through them are cut."""
    cell, state = make(), list(start(H // 2))
    state[1] = state[1].requires_grad_()
    _, (_, last, _) = (cell.fast if fast else lambda x, s: run(cell, x, s))(drawn(B, T, F), tuple(state))
    for unit in range(H):
        (gradient,) = torch.autograd.grad(last[:, unit].sum(), state[1], retain_graph=True)
        wanted = torch.zeros(B, H, dtype=torch.float64)
        wanted[:, unit] = 1
        assert torch.equal(gradient, wanted)


def test_the_exact_gradient_also_goes_through_the_gates():
    cell, state = make(truncated=False), list(start(H // 2))
    state[1] = state[1].requires_grad_()
    _, (_, last, _) = run(cell, drawn(B, T, F), tuple(state))
    (gradient,) = torch.autograd.grad(last.sum(), state[1])
    assert (gradient - 1).abs().max() > 1e-3


def test_nothing_flows_back_by_way_of_outputs_and_gates():
    cell, state = make(), tuple(part.requires_grad_() for part in start(H // 2))
    out, _ = run(cell, drawn(B, T, F), state)
    found = torch.autograd.grad(out.sum(), state, allow_unused=True)
    assert found[0] is None
    assert found[2] is None
    assert found[1].abs().sum() > 0


@pytest.mark.parametrize(
    ("features", "outputs", "blocks", "weights"), [(2, 1, 2, 93), (8, 4, 2, 156), (8, 8, 3, 308)], ids=str
)
def test_the_paper_counts_as_many_weights(features, outputs, blocks, weights):
    """Experiments 4, 6a and 6b, with an output layer that sees the cells and a bias: so do gates see gates."""
    cell = lstm1997(features, 2 * blocks, activations.tanh)
    assert sum(parameter.numel() for parameter in cell.parameters()) + outputs * (2 * blocks + 1) == weights


def test_ranges():
    """g in (−2, 2) is reached from far inputs, h in (−1, 1) from full memories."""
    cell = lstm1997(1, 2, activations.tanh, block_size=1).double()
    with torch.no_grad():
        cell.input_weight.fill_(100)
    z, step = cell.begin(torch.ones(1, 1, 1, dtype=torch.float64))
    h, c, gates = step(z[:, 0], cell.start(torch.ones(1, 1, 1, dtype=torch.float64)), 0)
    assert torch.equal(gates, torch.ones_like(gates))
    assert torch.equal(c, 2 * torch.ones_like(c))
    torch.testing.assert_close(h, torch.full_like(h, math.tanh(1)), rtol=0, atol=1e-15)  # 2 σ(2) − 1


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, [0, 0, 0, 0, 0, 0]),
        ({"input_bias": [-3.0, -6.0, -9.0]}, [-3, -6, -9, 0, 0, 0]),
        ({"input_bias": -1.5, "output_bias": [1.0, 2.0, 3.0]}, [-1.5, -1.5, -1.5, 1, 2, 3]),
    ],
)
def test_biases_of_the_gates(keys, wanted):
    cell = lstm1997(F, H, activations.tanh, **keys)
    cell.reset(stream(0, "reset"))
    assert cell.bias.tolist() == [*wanted, *[0.0] * H]


def test_roles():
    """Gates' and cells' weights from the inputs apart; from states to states one square."""
    matrices = list(make().matrices())
    assert [matrix.role for matrix in matrices] == ["gate", "gate", "map", "recurrent"]
    assert [tuple(matrix.tensor.shape) for matrix in matrices] == [(3, F), (3, F), (H, F), (12, 12)]
    assert [matrix.bias is None for matrix in matrices] == [False, False, False, True]


def test_in_a_layer_that_carries_zoneout():
    layer = Recurrence(lstm1997(F, H, activations.tanh), (0.1, 0.2, 0.3)).eval()
    assert layer(drawn(B, T, F).float()).shape == (B, T, H)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"block_size": 4},
            "cell.block_size=4 does not divide the 6 cells of a layer: set width to a multiple of it, "
            "or cell.block_size=1",
        ),
        (
            {"input_bias": [-3.0, -6.0]},
            "cell.input_bias has 2 numbers, but a layer has 3 blocks: give one number, or one for each, "
            "or set width to 2 times cell.block_size",
        ),
        (
            {"output_bias": [0.0] * 4},
            "cell.output_bias has 4 numbers, but a layer has 3 blocks: give one number, or one for each, "
            "or set width to 4 times cell.block_size",
        ),
    ],
)
def test_refusals(keys, message):
    with pytest.raises(ValueError) as caught:
        lstm1997(F, H, activations.tanh, **keys)
    assert str(caught.value) == message


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match="cell=lstm1997 has its own non-linearities"):
        lstm1997(F, H, activations.relu)
