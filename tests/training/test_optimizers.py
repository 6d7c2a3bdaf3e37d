"""Optimisers against torch.optim, the papers' algorithms, and: weight decay acts on weights alone."""

from __future__ import annotations

import copy
import inspect
import math
from functools import partial
from pathlib import Path

import plain
import pytest
import torch
import yaml
from torch import nn

from gradflow.resources import conf_dir
from gradflow.rng import stream
from gradflow.training import optimizers
from gradflow.training.optimizers import adagrad, adam, adamw, parameter_groups, rmsprop, sgd

CASES = {
    "sgd": (sgd, torch.optim.SGD, {"lr": 0.1}),
    "sgd decayed": (sgd, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (sgd, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (adam, torch.optim.Adam, {"lr": 0.01, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": (adamw, torch.optim.AdamW, {"lr": 0.01, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.1}),
    "rmsprop": (rmsprop, torch.optim.RMSprop, {"lr": 0.01, "decay": 0.8, "eps": 1e-6, "weight_decay": 0.1}),
    "rmsprop, centred, with momentum": (
        rmsprop,
        torch.optim.RMSprop,
        {"lr": 0.01, "decay": 0.9, "momentum": 0.9, "centered": True},
    ),
    "adagrad": (adagrad, torch.optim.Adagrad, {"lr": 0.1, "eps": 1e-6, "weight_decay": 0.1}),
    "adagrad, begun": (adagrad, torch.optim.Adagrad, {"lr": 0.1, "initial_accumulator": 0.3}),
}
THEIR_WORDS = {"decay": "alpha", "initial_accumulator": "initial_accumulator_value"}


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
    plain_loop = {"foreach": False} if theirs is torch.optim.RMSprop else {"foreach": False, "fused": False}
    renamed = {THEIR_WORDS.get(key, key): value for key, value in options.items()}
    expected = train(other, theirs(groups, **plain_loop, **renamed))
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


def one(make, gradients: tuple[float, ...], w: float = 1.0, **options) -> float:
    """A number after updates with the given gradients."""
    p = nn.Parameter(torch.tensor([[w]], dtype=torch.float64))
    optimizer = make([{"name": "weights", "params": [p]}], **options)
    for g in gradients:
        p.grad = torch.tensor([[g]], dtype=torch.float64)
        optimizer.step()
    return p.item()


GRADIENTS = (0.3, -0.2, 0.7)


def test_rmsprop_by_hand():
    """v ← 0.9 v + 0.1 g², w ← w − lr g / (√v + ε): the decay of the papers is the default."""
    w, v = 1.0, 0.0
    for g in GRADIENTS:
        v = 0.9 * v + 0.1 * g**2
        w -= 0.05 * g / (math.sqrt(v) + 1e-8)
    assert one(rmsprop, GRADIENTS, lr=0.05) == pytest.approx(w, rel=1e-14)


def test_adagrad_by_hand():
    w, v = 1.0, 0.5
    for g in GRADIENTS:
        v += g**2
        w -= 0.01 * g / (math.sqrt(v) + 1e-10)
    assert one(adagrad, GRADIENTS, initial_accumulator=0.5) == pytest.approx(w, rel=1e-14)


@pytest.mark.parametrize("make", [partial(sgd, lr=0.1, momentum=0.9), adam, adamw, rmsprop, adagrad])
def test_with_its_state_cleared_an_optimiser_begins_anew(make):
    """As the learner clears it where training on the task itself begins."""
    cleared, fresh = network(), network()
    optimizer = make(parameter_groups(cleared))
    train(cleared, optimizer, 3)
    with torch.no_grad():
        for p, q in zip(cleared.parameters(), fresh.parameters(), strict=True):
            q.copy_(p)
    optimizer.state.clear()
    torch.testing.assert_close(
        train(cleared, optimizer, 3), train(fresh, make(parameter_groups(fresh)), 3), rtol=0, atol=0
    )


@pytest.mark.parametrize("make", [rmsprop, adagrad])
def test_a_saved_state_goes_on(make):
    """Three steps, saved and loaded into another optimiser, and three more are six."""
    net, other = network(), network()
    expected = train(net, make(parameter_groups(net)), 6)
    first = make(parameter_groups(other))
    for step in range(6):
        optimizer = first
        if step >= 3:
            optimizer = make(parameter_groups(other))
            optimizer.load_state_dict(copy.deepcopy(first.state_dict()))
            first = optimizer
        optimizer.zero_grad()
        loss(other, step).backward()
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in other.parameters()], expected, rtol=0, atol=0)


@pytest.mark.parametrize("file", sorted((Path(conf_dir()) / "optimizer").glob("*.yaml")), ids=lambda file: file.stem)
def test_config_files_have_every_key_with_its_default(file):
    """But for sgd, whose learning rate has no default and whose file names the usual momentum."""
    keys = yaml.safe_load(file.read_text())
    assert keys.pop("_target_") == f"{optimizers.__name__}.{file.stem}"
    parameters = inspect.signature(getattr(optimizers, file.stem)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    own = {"lr", "momentum"} if file.stem == "sgd" else set()
    assert set(keys) == set(defaults)
    assert all(keys[name] == value for name, value in defaults.items() if name not in own)


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
