"""Norm, change and near-zero share of weights against torch on whole tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from watched import batches, network, numbers, of, sgd, train

from gradflow.instruments.flow import Flow
from gradflow.instruments.weight_norm import WeightNorm


def flat(tensors) -> torch.Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def expected(model: nn.Sequential, start: nn.Sequential) -> dict[tuple[str, str], float]:
    wanted = {}
    for name, now, then in (
        *((n, model.get_submodule(n), start.get_submodule(n)) for n in ("0", "3", "5")),
        ("all", model, start),
    ):
        w, w0 = flat(now.parameters()), flat(then.parameters())
        wanted[name, "weight_norm"] = w.norm().item()
        wanted[name, "weight_change"] = ((w - w0).norm() / w0.norm()).item()
    near, count = 0, 0
    for name in ("0", "3", "5"):
        limit = 1e-3 * start.get_submodule(name).weight.square().mean().sqrt()
        small = (model.get_submodule(name).weight.abs() < limit).sum().item()
        near, count = near + small, count + model.get_submodule(name).weight.numel()
        wanted[name, "weight_near_zero"] = small / model.get_submodule(name).weight.numel()
    return wanted | {("all", "weight_near_zero"): near / count}


def test_against_torch():
    """At each step, before it is taken; a third of the weights is set to zero on the way."""
    model, data = network(), batches(3)
    flow = Flow(model, instruments=["weight_norm"])
    start, optimizer = copy.deepcopy(model), sgd(model)
    for step, (x, y) in enumerate(data):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        if step == 1:
            model[3].weight.data.view(-1)[::3] = 1e-4 * start[3].weight.data.std()
        flow.measure(step)
        found = {key[1:]: value for key, value in numbers(flow).items() if key[0] == step}
        assert found == pytest.approx(expected(model, start), rel=1e-12, abs=1e-15)
        optimizer.step()
    assert of(numbers(flow), "weight_change", 0) == {"0": 0, "3": 0, "5": 0, "all": 0}
    assert of(numbers(flow), "weight_near_zero", 1)["3"] == pytest.approx(1 / 3)


def test_limits_themselves():
    """An element at the limit is not below it, in every type; the weights' rms is 1."""
    for dtype in (torch.float32, torch.float64):
        model = nn.Linear(4, 4, bias=False, dtype=dtype)
        nn.init.ones_(model.weight)
        flow = Flow(model, instruments=["weight_norm"])
        limit = torch.tensor(1e-3, dtype=torch.float64).to(dtype)
        small = [limit, -limit, torch.nextafter(limit, limit * 0), -torch.nextafter(limit, limit * 0), limit * 0]
        model.weight.data.view(-1)[:5] = torch.stack(small)
        flow.measure(0)
        assert of(numbers(flow), "weight_near_zero")["model"] == 3 / 16


def test_weights_that_start_at_zero_have_neither_change_nor_near_zero():
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)).double()
    for p in model[2].parameters():
        nn.init.zeros_(p)
    found = numbers(train(model, ["weight_norm"], batches(2)))
    assert set(of(found, "weight_norm")) == {"0", "1", "2", "all"}
    assert set(of(found, "weight_change")) == {"0", "1", "all"}
    assert set(of(found, "weight_near_zero")) == {"0", "all"}
    assert of(found, "weight_near_zero")["all"] == of(found, "weight_near_zero")["0"]


def test_it_starts_where_watching_starts_and_stays_there_when_blocks_are_numbered_anew():
    class Backwards(nn.Module):
        """The last module of the source runs first."""

        def __init__(self) -> None:
            super().__init__()
            self.head, self.stem = nn.Linear(4, 3), nn.Linear(5, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.stem(x)))

    model = Backwards().double()
    start = copy.deepcopy(model)
    flow = train(model, ["weight_norm"], batches(3))
    assert [block.name for block in flow.blocks] == ["stem", "head"]
    assert of(numbers(flow), "weight_change", 2)["all"] > 0
    flow.measure(3)
    change = (flat(model.parameters()) - flat(start.parameters())).norm() / flat(start.parameters()).norm()
    assert of(numbers(flow), "weight_change", 3)["all"] == pytest.approx(change.item(), rel=1e-12)


def test_a_restart_goes_on_from_the_same_beginning():
    """The state is what a checkpoint holds: through a file, tensors and plain values only."""
    model = network()
    first = WeightNorm()
    train(model, [first], batches(3))
    state, resumed = copy.deepcopy(first.state_dict()), WeightNorm()
    again = Flow(copy.deepcopy(model), instruments=[resumed])
    resumed.load_state_dict(state)
    again.measure(3)
    whole = Flow(model, instruments=[first])
    whole.measure(3)
    assert numbers(again) == numbers(whole)
    assert of(numbers(again), "weight_change", 3)["all"] > 0.01
