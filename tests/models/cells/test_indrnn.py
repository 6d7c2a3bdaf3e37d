"""IndRNN against the paper's equation."""

from __future__ import annotations

import pytest
import torch
from by_hand import WIDTH, agrees_with, begun, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells.indrnn import indrnn
from gradflow.models.recurrence import Recurrence


def loop(cell, x, state):
    (h,) = state
    out = []
    for t in range(x.shape[1]):
        h = cell.activation(x[:, t] @ cell.input_weight.T + cell.recurrent_weight * h + cell.bias)
        out.append(h)
    return torch.stack(out, 1)


@pytest.mark.parametrize("activation", [activations.relu, activations.tanh, activations.linear])
def test_its_equation_and_its_gradients(activation):
    agrees_with(loop, moved(indrnn, activation))


def test_what_every_cell_owes():
    is_a_cell(indrnn)


def test_recurrent_weights_begin_uniformly_between_0_and_1():
    u = begun(indrnn, width=4000).recurrent_weight
    assert 0 <= u.min() < 0.01
    assert 0.99 < u.max() <= 1
    assert float(u.detach().mean()) == pytest.approx(0.5, abs=4 / (12 * 4000) ** 0.5)


def test_a_weight_beyond_the_bound_is_put_back_and_learns_on():
    """|u| ≤ 2^(1/T), by clipping u itself, so that its derivative stays."""
    cell = moved(indrnn, activations.linear)
    with torch.no_grad():
        cell.recurrent_weight.copy_(torch.tensor([1.5, -1.5, 1.0, 0.2]))
    Recurrence(cell)(sequence(10)).sum().backward()
    limit = 2 ** (1 / 10)
    assert cell.recurrent_weight.tolist() == pytest.approx([limit, -limit, 1.0, 0.2])
    assert (cell.recurrent_weight.grad != 0).all()


def test_the_bound_holds_at_evaluation_without_touching_the_weight():
    cell = moved(indrnn, activations.linear).eval()
    bounded = moved(indrnn, activations.linear)
    with torch.no_grad():
        cell.recurrent_weight.fill_(3.0)
        bounded.recurrent_weight.fill_(2 ** (1 / 10))
    x = sequence(10)
    torch.testing.assert_close(Recurrence(cell)(x), Recurrence(bounded)(x))
    assert (cell.recurrent_weight == 3).all()


def test_the_gradient_through_t_steps_is_at_most_the_bound():
    """∂h_T/∂h_0 = u^T ≤ 2 for a linear unit; 3^T without the bound."""
    for bound, most in ((2.0, 2.0), (None, 3.0**20)):
        cell = moved(indrnn, activations.linear, bound=bound)
        with torch.no_grad():
            cell.recurrent_weight.fill_(3.0)
        h = torch.zeros(1, WIDTH, dtype=torch.float64, requires_grad=True)
        z, step = cell.begin(sequence(20, batch=1))
        state = (h,)
        for t in range(20):
            state = step(z[:, t], state, t)
        (grad,) = torch.autograd.grad(state[0].sum(), h)
        torch.testing.assert_close(grad, torch.full_like(grad, most))


def test_two_passes_before_one_backward():
    """Clipping in between does not disturb what the first pass has saved."""
    cell = moved(indrnn)
    x = sequence(8)
    (Recurrence(cell)(x).sum() + Recurrence(cell)(2 * x).sum()).backward()
    assert torch.isfinite(cell.recurrent_weight.grad).all()


def test_activations_with_more_pre_activations_are_refused():
    with pytest.raises(ValueError, match=r"cell=indrnn has one pre-activation .* takes 8: use .*activation=tanh"):
        indrnn(3, 4, activations.swiglu)
