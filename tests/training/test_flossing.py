"""Gradient flossing: exponents in closed form and by hand, the gradient by finite differences, and its effect."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sequences
import torch

from gradflow.instruments.lyapunov import lyapunov
from gradflow.models import activations
from gradflow.models.cells.rnn import RNN
from gradflow.models.network import Network
from gradflow.tasks.delayed_xor import delayed_xor
from gradflow.training import remedies
from gradflow.training.flossing import Flossing, FlossingThroughout, exponents_of

TASK: Any = SimpleNamespace(
    input_shape=(20, 3), shortest=None, loss=lambda outputs, y: (outputs - y).square().mean(), every_step=False
)


def batch(count: int = 2, steps: int = 20) -> torch.Tensor:
    return torch.randn(count, steps, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def eye(units: int, k: int) -> torch.Tensor:
    return torch.eye(units, k, dtype=torch.float64)


def linear_cell(weight: torch.Tensor) -> RNN:
    cell = RNN(3, len(weight), activations.linear()).double()
    with torch.no_grad():
        cell.recurrent_weight.copy_(weight)
        cell.input_weight.normal_()
    return cell


def test_a_diagonal_linear_network_has_the_logarithms_of_its_diagonal():
    rates = torch.tensor([0.9, -0.5, 0.2, 0.05], dtype=torch.float64)
    found = exponents_of(linear_cell(rates.diag()), batch(), eye(4, 3), 0.0)
    torch.testing.assert_close(found, rates[:3].abs().log().expand(2, 3), rtol=1e-12, atol=0)


def test_a_linear_network_s_exponents_tend_to_the_logarithms_of_its_eigenvalues():
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    rates = torch.tensor([1.1, 0.6, 0.3, 0.1], dtype=torch.float64)
    found = exponents_of(linear_cell(turned @ rates.diag() @ turned.T), batch(1, 300), eye(4, 4), 0.5)
    torch.testing.assert_close(found[0], rates.log(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", [activations.tanh, activations.sigmoid])
def test_a_driven_network_against_forward_mode_differentiation_of_the_cell_itself(activation):
    """Of two layers, the upper one driven by the lower; all exponents, whose sum does not depend on the first Q."""
    net = sequences.network(depth=2, activation=activation)
    flossing = Flossing(0, 5, 1, 2, None, 0.0)
    for ours, theirs in zip(flossing.of_layers(net, batch()), lyapunov(net, batch(), 5, warm_up=0), strict=True):
        # the instrument's first step has no tangent yet
        slopes = by_hand(net, theirs.layer.index, batch())
        sums = torch.stack([torch.linalg.slogdet(jacobian).logabsdet for jacobian in slopes]).view(20, 2)
        torch.testing.assert_close(ours.sum(1), sums.mean(0), rtol=1e-9, atol=1e-9)
        after = torch.tensor(theirs.values.sum(1))
        torch.testing.assert_close(after, sums[1:].mean(0), rtol=1e-9, atol=1e-9)


def by_hand(net: Network, index: int, x: torch.Tensor) -> list[torch.Tensor]:
    """∂h_t/∂h_{t−1} of each step and sequence of one layer, by autograd on its equation."""
    for layer in sequences.layers(net)[:index]:
        x = layer(x).detach()
    cell: Any = sequences.layers(net)[index].cell
    made, states = [], [torch.zeros(5, dtype=torch.float64) for _ in x]
    for inputs in x.unbind(1):
        for b, u in enumerate(inputs):

            def step(h: torch.Tensor, u: torch.Tensor = u) -> torch.Tensor:
                a = cell.input_weight @ u + cell.recurrent_weight @ h + cell.bias
                out: torch.Tensor = cell.activation(a)
                return out

            made.append(torch.autograd.functional.jacobian(step, states[b]).detach())
            states[b] = step(states[b]).detach()
    return made


def test_the_gradient_by_finite_differences():
    net, flossing = sequences.network(width=4), Flossing(0, 3, 1, 2, None, 0.2)
    parameters = [p for name, p in net.named_parameters() if "head" not in name]
    x = batch(2, 8)
    assert torch.autograd.gradcheck(lambda *_: flossing.penalty(net, x), parameters, atol=1e-6)
    head = torch.autograd.grad(flossing.penalty(net, x), list(net.head.parameters()), allow_unused=True)
    assert head == (None, None)


def test_it_drives_the_exponents_of_a_small_network_to_zero():
    net = sequences.network(width=8, activation=activations.tanh)
    flossing, x = Flossing(0, 6, 1, 1, None, 0.3), 0.3 * batch(1, 12)
    optimizer = torch.optim.Adam(net.blocks.parameters(), 0.03)
    before = next(flossing.of_layers(net, x))[0]
    assert before.abs().max() > 0.5
    for _ in range(60):
        optimizer.zero_grad()
        flossing.penalty(net, x).backward()
        optimizer.step()
    assert next(flossing.of_layers(net, x))[0].abs().max() < 0.1


def test_which_sequences_and_steps_are_followed():
    net, x = sequences.network(), batch(3, 20)
    whole = Flossing(0, 2, 1, 3, None, 0.0).penalty(net, x)
    each = torch.stack([Flossing(0, 2, 1, 1, None, 0.0).penalty(net, x[b : b + 1]) for b in range(3)])
    torch.testing.assert_close(whole, each.mean())
    cut = Flossing(0, 2, 1, 2, 7, 0.0).penalty(net, x)
    torch.testing.assert_close(cut, Flossing(0, 2, 1, 2, None, 0.0).penalty(net, x[:2, :7]))


def test_before_is_a_stage_of_its_own_and_afterwards_it_is_added_where_it_is_due(tmp_path: Path):
    task = delayed_xor(delay=2, length=12, batch_size=4, val_size=4, test_size=4)
    remedy = remedies.gradient_flossing(0, exponents=3, before=4, every=3, weight=0.5)
    assert isinstance(remedy, FlossingThroughout)
    net = sequences.network(inputs=1, every_step=True, dtype=torch.float32)
    head = [p.clone() for p in net.head.parameters()]
    cell = [p.clone() for p in net.blocks.parameters()]
    remedy.prepare(net, task, 10)
    assert [(s.name, s.start, s.stop) for s in remedy.pretraining.stages] == [("gradient flossing", 0, 4)]
    assert all(map(torch.equal, head, net.head.parameters()))
    x, y = task.load(Path(), 0, torch.device("cpu")).train(0)
    remedy.pretraining.loss(net, 0, x, y).backward()
    assert all(p.grad is None for p in net.head.parameters())
    assert all(p.grad is not None for p in net.blocks.parameters())
    assert all(map(torch.equal, cell, net.blocks.parameters()))
    for step in range(7):
        remedy.begins(step)
        parts = list(remedy.losses(net, task, x, y))
        torch.testing.assert_close(parts[0], task.loss(net(x), y))
        assert len(parts) == (2 if step % 3 == 0 else 1)
    torch.testing.assert_close(parts[1], 0.5 * remedy.penalty(net, x))


REFUSED = {
    "lstm": (lambda: sequences.network("lstm"), {}, "cell=rnn"),
    "norm": (lambda: sequences.network(cell_keys={"recurrent_norm": "layer"}), {}, "recurrent_norm=none"),
    "skip": (lambda: sequences.network(skip_time=2), {}, "skip_time=0"),
    "zoneout": (lambda: sequences.network(zoneout=0.1), {}, "zoneout=0"),
    "rrelu": (lambda: sequences.network(activation=activations.rrelu), {}, "activation=tanh"),
    "exponents": (lambda: sequences.network(), {"exponents": 6}, "exponents=6: a layer of 5 units"),
    "steps": (lambda: sequences.network(), {"exponents": 2, "steps": 1}, "steps=2 or more"),
    "total": (lambda: sequences.network(), {"exponents": 2, "before": 10}, "before=10 leaves none"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_such_exponents_is_refused_in_one_line(what):
    make, keys, said = REFUSED[what]
    with pytest.raises(ValueError, match=r"^remedy\.gradient_flossing") as caught:
        remedies.gradient_flossing(0, **{"exponents": 3, "before": 2, **keys}).prepare(make(), TASK, 10)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_to_do_nothing_is_refused():
    with pytest.raises(ValueError, match="together do nothing"):
        remedies.gradient_flossing(0, before=0)
    assert type(remedies.gradient_flossing(0)) is Flossing
