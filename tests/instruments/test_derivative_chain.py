"""Slopes against closed forms, and the textbook's five layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched import batches, fill, network, numbers, of, train

from gradflow.instruments.derivative_chain import chain
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts
from gradflow.rng import stream

TEXTBOOK = [0.15, 0.11, 0.06, 0.11, 0.21]  # block 0 first


def sigmoid_slope(z: Tensor) -> Tensor:
    return torch.sigmoid(z) * (1 - torch.sigmoid(z))


def test_the_textbook_example():
    """A network whose sigmoid layers have exactly these slopes: 0.21 × 0.11 × 0.06 × 0.11 × 0.15 = 2.2869e-5."""
    layers = [nn.Linear(5, 4), *(nn.Linear(4, 4) for _ in range(4))]
    for layer, slope in zip(layers, TEXTBOOK, strict=True):
        nn.init.zeros_(layer.weight)
        root = math.sqrt(1 - 4 * slope)
        nn.init.constant_(layer.bias, math.log((1 + root) / (1 - root)))  # where σ(1 − σ) is the slope
    model = nn.Sequential(*[m for layer in layers for m in (layer, nn.Sigmoid())], nn.Linear(4, 3)).double()
    for layer, slope in zip(layers, TEXTBOOK, strict=True):
        root = math.sqrt(1 - 4 * slope)
        nn.init.constant_(layer.bias, math.log((1 + root) / (1 - root)))
    found = numbers(train(model, ["derivative_chain"], batches(1)))
    names = ["0", "2", "4", "6", "8"]
    assert of(found, "slope") == pytest.approx(dict(zip(names, TEXTBOOK, strict=True)), rel=1e-12)
    products = [math.prod(TEXTBOOK[i:]) for i in range(5)]
    assert of(found, "slope_chain") == pytest.approx(dict(zip(names, products, strict=True)), rel=1e-12)
    assert of(found, "slope_chain")["0"] == pytest.approx(2.2869e-5, rel=1e-4)


def test_against_closed_forms():
    """σ(1 − σ), and whether z > 0; a layer without an activation has no row."""
    data = batches(2)
    found = numbers(train(network(), ["derivative_chain"], data, accumulate=2))
    model = network()
    z = torch.cat([model[0](x) for x, _ in data])
    last = model[3](torch.sigmoid(z))
    wanted = {"0": sigmoid_slope(z).mean().item(), "3": (last > 0).double().mean().item()}
    assert of(found, "slope") == pytest.approx(wanted, rel=1e-12)
    products = {"0": wanted["0"] * wanted["3"], "3": wanted["3"]}
    assert of(found, "slope_chain") == pytest.approx(products, rel=1e-12)


def test_several_activations_of_a_block_multiply():
    inner = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.Sigmoid())
    model = nn.Sequential(inner, nn.Linear(4, 3)).double()
    fill(model)
    ((x, y),) = batches(1)
    one = inner[0](x)
    two = inner[2](torch.tanh(one))
    wanted = (1 - torch.tanh(one).square()).mean() * sigmoid_slope(two).mean()
    assert of(numbers(train(model, ["derivative_chain"], [(x, y)], blocks=["0"])), "slope") == pytest.approx(
        {"0": wanted.item()}, rel=1e-12
    )


def test_falling_activations_count_with_their_size():
    class Falling(nn.Module):
        derivative_bound = 2.0

        def forward(self, z: Tensor) -> Tensor:
            return -2 * z

    model = nn.Sequential(nn.Linear(5, 3), Falling()).double()
    assert of(numbers(train(model, ["derivative_chain"], batches(1))), "slope") == {"0": 2.0}


def test_stem_blocks_and_head_of_a_network():
    """The stem is furthest from the loss, the head has no activation."""
    model = mlp((5,), 3, Parts(3, 4, activations.tanh, norms.none, skips.none)).double()
    initialize(model, initializers.glorot_normal, stream(0, "init"))
    found = numbers(train(model, ["derivative_chain"], batches(1)))
    slopes, products = of(found, "slope"), of(found, "slope_chain")
    names = ["stem", "blocks.00", "blocks.01", "blocks.02"]
    assert list(slopes) == names
    for i, name in enumerate(names):
        assert products[name] == pytest.approx(math.prod(slopes[below] for below in names[i:]), rel=1e-12)


def test_chains_that_float32_could_not_hold():
    assert chain(torch.full((100,), 1e-3, dtype=torch.float64))[0].item() == pytest.approx(1e-300, rel=1e-9)
    assert chain(torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)).tolist() == [0.0, 0.0, 0.5]
    assert chain(torch.tensor([2.0, 3.0])).tolist() == pytest.approx([6.0, 3.0])


def test_a_dead_layer_ends_the_chain():
    model = network()
    model[3].bias.data.fill_(-100)
    found = numbers(train(model, ["derivative_chain"], batches(1)))
    assert of(found, "slope")["3"] == 0
    assert of(found, "slope_chain") == {"0": 0.0, "3": 0.0}
    assert functional.relu(model[3](torch.sigmoid(model[0](batches(1)[0][0])))).max() == 0
