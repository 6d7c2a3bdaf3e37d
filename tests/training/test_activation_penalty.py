"""λ Σ|h| of Glorot, Bordes & Bengio 2011 against the sum written out, in float64."""

from __future__ import annotations

from types import SimpleNamespace

import plain
import pytest
import torch
from torch.nn.functional import cross_entropy

from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.training import remedies
from gradflow.training.remedy import Remedy, the_loss

TASK = SimpleNamespace(loss=cross_entropy)
BATCH = 7


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = stream(0, "batch")
    return torch.randn(BATCH, 5, generator=generator, dtype=torch.float64), torch.arange(BATCH) % 3


def gradients(net: Network, remedy: Remedy) -> tuple[float, list[torch.Tensor]]:
    """The step's loss and what its parts add up to in every parameter."""
    net.zero_grad()
    parts = []
    for part in remedy.losses(net, TASK, *batch()):
        part.backward()
        parts.append(part.item())
    return sum(parts), [p.grad.clone() for p in net.parameters()]


def by_hand(net: Network, weight: float) -> tuple[float, list[torch.Tensor]]:
    """E + λ Σ_l |h_l| / B with the network's layers called one by one."""
    h, y = batch()
    net.zero_grad()
    size = torch.zeros((), dtype=torch.float64)
    for layer in (net.stem, *net.blocks):
        h = layer(h)
        for example in h:
            size = size + sum(abs(unit) for unit in example)
    loss = cross_entropy(net.head(h), y) + weight * size / BATCH
    loss.backward()
    return loss.item(), [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("weight", [0.0, 1e-3, 2.0])
def test_loss_and_gradients(weight):
    net = plain.network(5, 3, 2, 6, activation=torch.nn.Tanh).double()
    loss, found = gradients(net, remedies.activation_l1(0, weight=weight))
    expected, wanted = by_hand(net, weight)
    assert loss == pytest.approx(expected, rel=1e-12)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_no_hook_is_left_behind():
    net = plain.network(5, 3, 2, 6).double()
    gradients(net, remedies.activation_l1(0))
    assert not any(module._forward_hooks for module in net.modules())


def test_two_losses_are_refused():
    with pytest.raises(ValueError, match=r"gradient_flossing and activation_l1 each bring a loss"):
        the_loss([remedies.activation_l1(0), remedies.omega(0)])


def test_with_it_activations_are_sparser():
    """A hundred steps on random labels: the mean |h| of the last block falls below that of training without it."""
    size = {}
    for weight in (0.0, 0.05):
        net = plain.network(5, 3, 2, 32).double()
        optimizer, remedy = torch.optim.SGD(net.parameters(), 0.05), remedies.activation_l1(0, weight=weight)
        for _ in range(100):
            optimizer.zero_grad()
            for part in remedy.losses(net, TASK, *batch()):
                part.backward()
            optimizer.step()
        h = net.stem(batch()[0])
        for block in net.blocks:
            h = block(h)
        size[weight] = h.abs().mean().item()
    assert size[0.05] < size[0.0] / 2
