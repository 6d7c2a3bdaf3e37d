"""The norm of ∂L/∂(block output) against plain autograd in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched import batches, fill, network, numbers, of, train

from gradflow.instruments import delta_norm


def expected(model: nn.Sequential, x: Tensor, y: Tensor, scale: float = 1.0) -> dict[str, float]:
    """By hand: every linear map's output kept in a list and differentiated with respect to."""
    outputs, h = {}, x
    for name, module in model.named_children():
        h = functional.relu(h) if isinstance(module, nn.ReLU) else module(h)
        if isinstance(module, nn.Linear):
            outputs[name] = h
    gradients = torch.autograd.grad(scale * functional.cross_entropy(h, y), list(outputs.values()))
    return {name: g.square().sum().sqrt().item() for name, g in zip(outputs, gradients, strict=True)}


@pytest.mark.parametrize("inplace", [False, True])
def test_against_autograd(inplace):
    """A ReLU that works in place does not change what is measured before it."""
    data, steps = batches(3), []
    found = numbers(train(network(inplace=inplace), ["delta_norm"], data))
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
    for x, y in data:
        steps.append(expected(model, x, y))
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    for step, wanted in enumerate(steps):
        assert of(found, "delta_norm", step) == pytest.approx(wanted, rel=1e-12)
    assert len(found) == 9


def test_batches_of_one_update_are_one_batch():
    data = batches(4)
    found = of(numbers(train(network(), ["delta_norm"], data, accumulate=4)), "delta_norm")
    each = [expected(network(), x, y, 1 / 4) for x, y in data]
    assert found == pytest.approx({name: sum(e[name] ** 2 for e in each) ** 0.5 for name in each[0]}, rel=1e-12)


def test_a_module_called_twice_counts_both_of_its_outputs():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.map(torch.tanh(self.map(x)))))

    model, ((x, y),) = Twice().double(), batches(1)
    fill(model)
    one = model.map(x)
    two = model.map(torch.tanh(one))
    gradients = torch.autograd.grad(functional.cross_entropy(model.head(torch.tanh(two)), y), [one, two])
    found = of(numbers(train(model, ["delta_norm"], [(x, y)])), "delta_norm")
    assert found["map"] == pytest.approx(sum(g.square().sum().item() for g in gradients) ** 0.5, rel=1e-12)


def test_what_waits_for_being_measured_is_bounded(monkeypatch):
    """With room for nothing, each gradient is measured as it comes, to the same numbers."""
    whole = numbers(train(network(), ["delta_norm"], batches(4), accumulate=2))
    monkeypatch.setattr(delta_norm, "HELD", 0)
    assert numbers(train(network(), ["delta_norm"], batches(4), accumulate=2)) == pytest.approx(whole, rel=1e-14)


def test_fifty_sigmoid_layers_in_float32_have_no_false_zero():
    """The first layers' signals are below 1e-23, whose squares float32 cannot hold."""

    def deep(dtype: torch.dtype) -> nn.Sequential:
        model = nn.Sequential(nn.Linear(5, 8), *[m for _ in range(49) for m in (nn.Sigmoid(), nn.Linear(8, 8))])
        fill(model)
        return model.to(dtype)

    found, exact = (
        of(numbers(train(deep(dtype), ["delta_norm"], batches(1, dtype=dtype))), "delta_norm")
        for dtype in (torch.float32, torch.float64)
    )
    assert 0 < exact["0"] < 1e-23
    assert found == pytest.approx(exact, rel=1e-3, abs=0)


def test_the_scaler_s_factor_is_divided_out():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13)
    found = numbers(train(network(torch.float32), ["delta_norm"], batches(2, dtype=torch.float32), scaler=scaler))
    assert found == numbers(train(network(torch.float32), ["delta_norm"], batches(2, dtype=torch.float32)))


def test_a_block_through_which_no_gradient_flows_has_no_row():
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aside, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x)
            return self.head(x)

    assert set(of(numbers(train(Detached().double(), ["delta_norm"], batches(1))), "delta_norm")) == {"head"}
