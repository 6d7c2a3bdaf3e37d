"""The hand-batched way through plain networks is each member's own way."""

import pytest
import torch
from torch import nn

from gradflow.models.activation import Elementwise
from gradflow.models.layers import Linear
from gradflow.runs.build import build
from gradflow.runs.compose import composer
from gradflow.training.pack_forward import forward, is_plain

PLAIN = [
    ("depth=3",),
    ("depth=2", "activation=tanh", "width=7"),
    ("depth=2", "skip=residual", "activation=gelu"),
    ("depth=1", "activation=sigmoid", "init=orthogonal"),
]
NOT = [("norm=batch",), ("norm=layer",), ("activation=prelu",), ("activation=maxout",), ("skip=highway",)]
NOT += [
    ("skip=rezero",),
    ("norm=weight_norm",),
    ("dropout=0.1",),
    ("model=convnet",),
    ("model=convnet", "skip=residual"),
]


def networks(words, count=3):
    with composer(None) as compose:
        return [build(compose.config([*words, f"seed={k}"])).network.double() for k in range(count)]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_outputs_and_gradients_are_those_of_each_member(words):
    members = networks(words)
    first = members[0]
    assert is_plain(first)
    names = [name for name, _ in first.named_parameters()]
    stacked = {n: torch.stack([m.get_parameter(n).detach() for m in members]).requires_grad_() for n in names}
    of = {id(p): stacked[name] for name, p in first.named_parameters()}
    x = torch.randn(3, 5, 1, 8, 8, dtype=torch.float64)
    out = forward(first, x, lambda parameter: of[id(parameter)])
    out.square().sum().backward()
    for k, member in enumerate(members):
        own = member(x[k])
        torch.testing.assert_close(out[k], own, rtol=1e-12, atol=1e-12)
        own.square().sum().backward()
        for name in names:
            torch.testing.assert_close(stacked[name].grad[k], member.get_parameter(name).grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("words", NOT, ids=" ".join)
def test_what_it_does_not_know_is_left_to_vmap(words):
    assert not is_plain(networks(("depth=2", "width=8", *words), 1)[0])


def test_a_module_of_another_kind_anywhere_makes_it_unknown():
    assert is_plain(nn.Sequential(Linear(3, 3), nn.Identity(), Elementwise(torch.relu, 1.0)))
    assert not is_plain(nn.Sequential(Linear(3, 3), nn.Sequential(nn.Linear(3, 3))))
    assert not is_plain(nn.Sequential(Linear(3, 3, bias=False)))
    assert not is_plain(nn.Flatten(2))
