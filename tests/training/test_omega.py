"""Ω against its definition written out and differentiated by autograd, and by finite differences."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import sequences
import torch
from torch import Tensor, nn

from gradflow.models import activations
from gradflow.models.network import Network
from gradflow.tasks.adding import adding
from gradflow.tasks.copying import copying
from gradflow.training import remedies

pytestmark = pytest.mark.filterwarnings("ignore")
PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softplus": nn.functional.softplus,
}


def squares(every_step: bool) -> SimpleNamespace:
    return SimpleNamespace(every_step=every_step, washout=0, loss=lambda outputs, y: (outputs - y).square().mean())


def parts(net: Network, task: Any, x: Tensor, y: Tensor, alpha: float = 4.0) -> tuple[float, list[dict[str, Tensor]]]:
    """The penalty's value, and the gradients of the main loss and of the penalty."""
    remedy = remedies.omega(0, alpha=alpha)
    remedy.prepare(net, task, 10)
    value, gradients = 0.0, []
    for part in remedy.losses(net, task, x, y):
        net.zero_grad()
        part.backward()
        value = part.item()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
    return value, gradients


def unrolled(
    net: Network, phi: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, every_step: bool
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """For each layer the pre-activations x_k [B, H] of all steps and ∂E/∂x_k, by autograd on the equations."""
    pre: list[list[Tensor]] = []
    inputs = list(x.unbind(1))
    for layer in sequences.layers(net):
        cell: Any = layer.cell
        state = torch.zeros(len(x), cell.width, dtype=x.dtype)
        pre.append([])
        for t, u in enumerate(inputs):
            pre[-1].append(u @ cell.input_weight.T + state @ cell.recurrent_weight.T + cell.bias)
            state = inputs[t] = phi(pre[-1][t])
    out = torch.stack(inputs, 1) if every_step else inputs[-1]
    loss = (net.head[1](out) - y).square().mean()
    flat = torch.autograd.grad(loss, [each for layer in pre for each in layer])
    steps = x.shape[1]
    return [([z.detach() for z in layer], list(flat[i * steps : (i + 1) * steps])) for i, layer in enumerate(pre)]


def omega(U: Tensor, phi: Callable[[Tensor], Tensor], states: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Pascanu et al. 2013, eq. 9, one sequence and one step after another, as a mean: only U is not a constant."""
    terms = []
    for k in range(len(states) - 1):
        for z, later in zip(states[k], gradients[k + 1], strict=True):
            if later.norm() > 0:
                jacobian = torch.autograd.functional.jacobian(lambda state: U.detach() @ phi(state), z)
                slopes = torch.diagonal(torch.autograd.functional.jacobian(phi, z))
                torch.testing.assert_close(jacobian, U.detach() * slopes)  # ∂x_{k+1}/∂x_k
                terms.append(((later @ (U * slopes)).norm() / later.norm() - 1) ** 2)
    return torch.stack(terms).mean()


def made(
    activation: str = "tanh", cell: str = "rnn", every_step: bool = True, **keys: Any
) -> tuple[Network, SimpleNamespace, Tensor, Tensor]:
    net = sequences.network(cell, every_step=every_step, activation=getattr(activations, activation), **keys)
    return net, squares(every_step), *sequences.data(2, 6, every_step=every_step)


@pytest.mark.parametrize("every_step", [False, True], ids=["one output", "every step"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("activation", PHI)
def test_value_and_derivative(activation, depth, every_step):
    """To 1e-10, by autograd through the definition; and only the recurrent weights get a gradient of Ω."""
    net, task, x, y = made(activation, every_step=every_step, depth=depth)
    value, (main, penalty) = parts(net, task, x, y, alpha=3.0)
    expected = 0.0
    for layer, (states, gradients) in zip(
        sequences.layers(net), unrolled(net, PHI[activation], x, y, every_step), strict=True
    ):
        cell: Any = layer.cell
        U = cell.recurrent_weight.detach().clone().requires_grad_()
        term = 3.0 * omega(U, PHI[activation], states, gradients)
        (slope,) = torch.autograd.grad(term, U)
        expected += term.item()
        (name,) = (name for name, p in net.named_parameters() if p is cell.recurrent_weight)
        torch.testing.assert_close(penalty.pop(name), slope, rtol=1e-10, atol=1e-13)
        assert slope.norm() > 1e-3
    assert value == pytest.approx(expected, rel=1e-10)
    assert penalty == {}
    net.zero_grad()
    task.loss(net(x), y).backward()
    torch.testing.assert_close(main, {name: p.grad for name, p in net.named_parameters()}, rtol=0, atol=0)


def test_finite_differences():
    """Of Ω as a function of U, with the states and ∂E/∂x of the weights as they are."""
    net, task, x, y = made()
    _, (_, penalty) = parts(net, task, x, y, alpha=1.0)
    (states, gradients) = unrolled(net, torch.tanh, x, y, True)[0]
    cell: Any = sequences.layers(net)[0].cell
    U, eps = cell.recurrent_weight.detach(), 1e-6
    for i, j in ((0, 0), (1, 3), (4, 2)):
        at = []
        for sign in (1, -1):
            moved = U.clone()
            moved[i, j] += sign * eps
            at.append(omega(moved, torch.tanh, states, gradients).item())
        name = "blocks.0.branch.0.cell.recurrent_weight"
        assert penalty[name][i, j].item() == pytest.approx((at[0] - at[1]) / (2 * eps), rel=1e-6, abs=1e-9)


def test_backward_layers_of_bidirectional_networks_have_their_own_order():
    """The penalty of a backward cell is that of a forward one that reads the sequence from its end."""
    net, task, x, y = made(width=8, bidirectional=True, every_step=False, readout="mean")
    swapped = copy.deepcopy(net)
    ahead, back = sequences.layers(swapped)
    ahead.load_state_dict(sequences.layers(net)[1].state_dict())
    back.load_state_dict(sequences.layers(net)[0].state_dict())
    with torch.no_grad():
        weight = net.head[1].weight
        swapped.head[1].weight.copy_(torch.cat([weight[:, 4:], weight[:, :4]], 1))
    value, (_, penalty) = parts(net, task, x, y)
    other_value, (_, other) = parts(swapped, task, x.flip(1), y)
    assert value == pytest.approx(other_value, rel=1e-12)
    assert len(penalty) == 2
    torch.testing.assert_close(list(penalty.values()), list(other.values())[::-1], rtol=1e-10, atol=1e-14)


# --- gradients of every size ----------------------------------------------------------------------------------


def test_steps_without_gradient_do_not_count():
    """The loss reads step 2 of 6: nothing goes back from later ones, and the mean is over the pairs (0,1), (1,2)."""
    net, _, x, y = made()
    task = SimpleNamespace(every_step=True, washout=0, loss=lambda out, y: (out[:, 2] - y[:, 2]).square().mean())
    value, _ = parts(net, task, x, y, alpha=1.0)
    short = SimpleNamespace(every_step=True, washout=0, loss=lambda out, y: (out[:, -1] - y[:, 2]).square().mean())
    assert value == pytest.approx(parts(net, short, x[:, :3], y, alpha=1.0)[0], rel=1e-12)


def test_a_network_through_which_no_gradient_flows_has_no_penalty():
    """Of ReLUs that are all off; and of weights that are 0, where the norm is 0 and its slope is taken as 0."""
    net, task, x, y = made("relu")
    cell: Any = sequences.layers(net)[0].cell
    with torch.no_grad():
        cell.bias.fill_(-100.0)
    value, (_, penalty) = parts(net, task, x, y)
    assert value == 0
    assert all(torch.equal(g, torch.zeros_like(g)) for g in penalty.values())
    net, task, x, y = made()
    cell = sequences.layers(net)[0].cell
    with torch.no_grad():
        cell.recurrent_weight.zero_()
    value, (_, penalty) = parts(net, task, x, y, alpha=4.0)
    assert value == 4.0  # (0 − 1)² at every step
    assert all(torch.equal(g, torch.zeros_like(g)) for g in penalty.values())


def test_gradients_below_what_float32_can_hold_still_have_a_direction():
    """200 steps of sigmoid units with small weights: ∂E/∂x falls about tenfold a step, and float32 ends at 1e-45."""
    net, task = sequences.network(activation=activations.sigmoid), squares(False)
    cell: Any = sequences.layers(net)[0].cell
    with torch.no_grad():
        cell.recurrent_weight.mul_(0.3)
    x, y = sequences.data(2, 200)
    value, (_, penalty) = parts(net, task, x, y)
    single = copy.deepcopy(net).float()
    found, (_, narrow) = parts(single, task, x.float(), y.float())
    (name,) = penalty
    assert found == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(narrow[name].double(), penalty[name], rtol=1e-4, atol=1e-6)
    _, gradients = unrolled(single, torch.sigmoid, x.float(), y.float(), False)[0]
    assert gradients[50].eq(0).all()  # autograd's own, in float32


def test_a_recurrence_that_keeps_the_norm_has_no_penalty():
    """Orthogonal weights and linear units, and the closed form of another matrix: (|c| − 1)² for U = c Q."""
    net, task, x, y = made("linear")
    cell: Any = sequences.layers(net)[0].cell
    q, _ = torch.linalg.qr(cell.recurrent_weight.detach())
    for scale, expected in ((1.0, 0.0), (0.5, 0.25), (1.5, 0.25)):
        with torch.no_grad():
            cell.recurrent_weight.copy_(scale * q)
        assert parts(net, task, x, y, alpha=1.0)[0] == pytest.approx(expected, abs=1e-12)


def test_gradient_descent_on_it_brings_the_norm_towards_one():
    net, task, x, y = made()
    cell: Any = sequences.layers(net)[0].cell
    with torch.no_grad():
        cell.recurrent_weight.mul_(0.1)
    first, _ = parts(net, task, x, y, alpha=1.0)
    for _ in range(200):
        value, (_, penalty) = parts(net, task, x, y, alpha=1.0)
        with torch.no_grad():
            (slope,) = penalty.values()
            cell.recurrent_weight.sub_(0.1 * slope)
    assert first > 0.8
    assert value < 0.1 * first


# --- under the learner ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", "irnn"])
@pytest.mark.parametrize(
    "task",
    [adding(length=9, batch_size=4, val_size=4, test_size=4), copying(length=3, batch_size=4, val_size=4, test_size=4)],
    ids=["one output", "every step"],
)
def test_a_step_of_training(tmp_path, task, cell):
    """U moves by lr times the gradient of the loss plus that of α Ω; the figure is E + α Ω."""
    net = sequences.network(cell, task.input_shape[1], task.outputs, every_step=task.every_step)
    other = copy.deepcopy(net)
    module = sequences.learn(net, task, [remedies.omega(0)], tmp_path)
    x, y = task.load(tmp_path, 0, torch.device("cpu")).train(0, torch.float64)
    value, (main, penalty) = parts(other, task, x, y)
    (found,) = sequences.losses(module)
    assert found == pytest.approx(task.loss(other(x), y).item() + value, rel=1e-9)
    for (name, p), old in zip(net.named_parameters(), other.parameters(), strict=True):
        slope = main[name] + penalty.get(name, torch.zeros(()))
        torch.testing.assert_close(p.detach(), old.detach() - 0.5 * slope, rtol=1e-12, atol=1e-15)
    assert value > 0.01
    assert len(penalty) == 1


# --- refusals -------------------------------------------------------------------------------------------------

REFUSED = {
    "no recurrent layer": (lambda: Network(nn.Flatten(), [nn.Linear(12, 4)], nn.Linear(4, 2)), "cell=rnn or cell=irnn"),
    "lstm": (lambda: sequences.network("lstm"), "cell=rnn or cell=irnn"),
    "norm": (lambda: sequences.network(cell_keys={"recurrent_norm": "layer"}), "use cell.recurrent_norm=none"),
    "skip_time": (lambda: sequences.network(skip_time=2), "use model.skip_time=0"),
    "zoneout": (lambda: sequences.network(zoneout=0.1), "use model.zoneout=0"),
    "maxout": (lambda: sequences.network(activation=activations.maxout), "use activation=tanh"),
    "rrelu": (lambda: sequences.network(activation=activations.rrelu), "use activation=tanh"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_another_jacobian_is_refused_in_a_line(name):
    make, way_out = REFUSED[name]
    with torch.device("meta"):
        net = make()
    with pytest.raises(ValueError) as error:
        remedies.omega(0).prepare(net, squares(False), 10)
    assert way_out in str(error.value)
    assert str(error.value).startswith("remedy.omega")
    assert "\n" not in str(error.value)
