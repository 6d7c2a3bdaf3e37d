"""Optimisers against torch.optim, the papers' algorithms, and: weight decay acts on weights alone."""

from __future__ import annotations

import copy
from functools import partial

import plain
import pytest
import torch
from torch import nn

from gradflow.rng import stream
from gradflow.training.optimizers import adam, adamw, parameter_groups, sgd

CASES = {
    "sgd": (sgd, torch.optim.SGD, {"lr": 0.1}),
    "sgd decayed": (sgd, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (adam, torch.optim.Adam, {"lr": 0.01, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": (adamw, torch.optim.AdamW, {"lr": 0.01, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.1}),
}


def network() -> nn.Module:
    return plain.network(5, 3, 3, 6, nn.Tanh, nn.LayerNorm, gain=1.0).double()


def loss(net: nn.Module, step: int) -> torch.Tensor:
    return net(torch.randn(8, 5, generator=stream(step, "x"), dtype=torch.float64)).square().mean()


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 10) -> list[torch.Tensor]:
    for step in range(steps):
        optimizer.zero_grad()
        loss(net, step).backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


@pytest.mark.parametrize("case", CASES)
def test_against_torch(case):
    """Ten steps with the same settings; torch's plain loop over parameters, its decay taken off the vectors by hand."""
    ours, theirs, options = CASES[case]
    net = network()
    other = copy.deepcopy(net)
    groups = [
        {"params": [p for p in other.parameters() if p.ndim >= 2]},
        {"params": [p for p in other.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    found = train(net, ours(parameter_groups(net), **options))
    expected = train(other, theirs(groups, foreach=False, fused=False, **options))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("make", "theirs"), [(adam, torch.optim.Adam), (adamw, torch.optim.AdamW)])
def test_defaults_are_torch_s(make, theirs):
    parameter = nn.Parameter(torch.zeros(1, 1))
    (ours,) = make([{"name": "weights", "params": [parameter]}]).param_groups
    (reference,) = theirs([parameter]).param_groups
    for key in ("lr", "betas", "eps", "weight_decay"):
        assert ours[key] == reference[key]


DECAYED = {
    "sgd": (partial(sgd, lr=0.1, weight_decay=0.5), 1 - 0.1 * 0.5),
    "adamw": (partial(adamw, lr=0.1, weight_decay=0.5), 1 - 0.1 * 0.5),
    "adamw by default": (partial(adamw, lr=0.1), 1 - 0.1 * 0.01),
}


@pytest.mark.parametrize("name", DECAYED)
def test_without_a_gradient_only_weights_decay(name):
    """By 1 − lr·λ per step, in closed form; biases, norm scales and shifts stay."""
    make, factor = DECAYED[name]
    net = network()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1.0)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = make(parameter_groups(net))
    for _ in range(3):
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for p, old in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old * (factor**3 if p.ndim >= 2 else 1), rtol=1e-12, atol=0)


def test_adam_s_decay_is_a_gradient():
    """Adam's first step is lr·sign of the gradient, and with a gradient of λw it is lr·sign(w)."""
    weight, bias = nn.Parameter(torch.tensor([[2.0, -3.0]])), nn.Parameter(torch.tensor([2.0]))
    for p in (weight, bias):
        p.grad = torch.zeros_like(p)
    adam(parameter_groups(nn.ParameterList([weight, bias])), lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[1.9, -2.9]]))
    assert bias.item() == 2.0


def test_momentum_by_hand():
    """v ← μv + g, w ← w − lr·v; Nesterov's w ← w − lr·(g + μv) (Sutskever et al. 2013, in torch's form)."""
    for nesterov in (False, True):
        p = nn.Parameter(torch.tensor([[1.0]], dtype=torch.float64))
        optimizer = sgd([{"name": "weights", "params": [p]}], lr=0.5, momentum=0.9, nesterov=nesterov)
        w, v = 1.0, 0.0
        for g in (0.3, -0.2, 0.7):
            p.grad = torch.tensor([[g]], dtype=torch.float64)
            optimizer.step()
            v = 0.9 * v + g
            w -= 0.5 * (g + 0.9 * v if nesterov else v)
        assert p.item() == pytest.approx(w, rel=1e-14)


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match=r"optimizer\.nesterov=true needs optimizer\.momentum above 0"):
        sgd(parameter_groups(network()), lr=0.1, nesterov=True)


def test_groups():
    """Matrices and kernels, vectors, each parameter once; frozen ones and empty groups left out."""
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2, bias=False))
    groups = {group["name"]: group["params"] for group in parameter_groups(net)}
    assert [tuple(p.shape) for p in groups["weights"]] == [(3, 2, 3, 3), (2, 3)]
    assert [tuple(p.shape) for p in groups["vectors"]] == [(3,), (3,), (3,)]
    net[0].weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(net)) == 4
    assert [group["name"] for group in parameter_groups(nn.Linear(2, 2, bias=False))] == ["weights"]


def test_what_is_auxiliary_is_a_group_of_its_own_and_never_decays():
    net, maps = nn.Linear(2, 3), nn.ModuleList([nn.Linear(3, 2), nn.Linear(2, 2)])
    groups = {group["name"]: group["params"] for group in parameter_groups(net, maps)}
    assert list(groups) == ["weights", "vectors", "auxiliary"]
    assert [tuple(p.shape) for p in groups["auxiliary"]] == [(2, 3), (2,), (2, 2), (2,)]
    before = [p.detach().clone() for p in maps.parameters()]
    optimizer = sgd(parameter_groups(net, maps), lr=0.1, weight_decay=0.5)
    for p in maps.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(maps.parameters(), before, strict=True))
