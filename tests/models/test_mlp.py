"""The multi-layer perceptron against a loop written by hand, alone and vmapped over seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initializers import initialize
from gradflow.models.mlp import mlp
from gradflow.models.network import Network
from gradflow.rng import stream

SHAPE = (2, 3, 3)
NORMS = {"none": norms.none, "batch": norms.batch, "layer": norms.layer}
SKIPS = {"none": skips.none, "residual": skips.residual}


def build(
    seed: int = 0,
    depth: int = 3,
    width: int | list[int] = 8,
    norm: Callable = norms.none,
    skip: Callable = skips.none,
    bias: bool = True,
) -> Network:
    """A float64 tanh network, its biases and norm parameters not at their starting values either."""
    network = mlp(SHAPE, 4, depth, width, activations.tanh, norm, skip, bias=bias).double()
    initialize(network, initializers.he_normal, stream(seed, "init"))
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim < 2:
                p.add_(0.3 * torch.randn(p.shape, generator=stream(seed, "bias"), dtype=p.dtype))
    return network


def inputs(batch: int = 6) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=stream(0, "x"), dtype=torch.float64)


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("norm", NORMS)
def test_forward_is_the_loop_written_by_hand(norm, skip):
    """h ← tanh(norm(W h + b)), plus h where there is a skip; the stem has none, the head is linear."""
    network = build(norm=NORMS[norm], skip=SKIPS[skip])
    x = inputs()
    p = {name: value.numpy() for name, value in network.state_dict().items()}

    def layer(h: np.ndarray, path: str) -> np.ndarray:
        z = h @ p[f"{path}.linear.weight"].T + p[f"{path}.linear.bias"]
        if norm != "none":
            axis = 0 if norm == "batch" else 1
            z = (z - z.mean(axis, keepdims=True)) / np.sqrt(z.var(axis, keepdims=True) + 1e-5)
            z = z * p[f"{path}.norm.weight"] + p[f"{path}.norm.bias"]
        return np.tanh(z)

    h = layer(x.numpy().reshape(6, -1), "stem.1")
    for i in range(3):
        h = layer(h, f"blocks.{i}") if skip == "none" else h + layer(h, f"blocks.{i}.layer")
    expected = h @ p["head.weight"].T + p["head.bias"]
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_residual_block_is_x_plus_layer_of_x():
    block = build(skip=skips.residual).blocks[1]
    x = torch.randn(5, 8, dtype=torch.float64)
    assert torch.equal(block(x), x + block.layer(x))


def test_residual_gradient_passes_undiminished_where_the_layer_is_dead():
    """∂L/∂x = ∂L/∂y (1 + …): with every weight 0 the gradient of 50 blocks is exactly that of none."""
    network = mlp(SHAPE, 4, 50, 8, activations.tanh, norms.none, skips.residual)
    x = torch.randn(2, 8, requires_grad=True)
    h = x
    for block in network.blocks:
        h = block(h)
    (gradient,) = torch.autograd.grad(h.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_widths():
    """A profile gives each block its own width; the stem has that of block 0, the head reads that of the last."""
    network = build(width=[7, 5, 3])
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(18, 7), (7, 7), (7, 5), (5, 3), (3, 4)]
    assert network(inputs()).shape == (6, 4)


def test_parameter_count():
    """18·8+8 stem, depth·(8·8+8) blocks, 8·4+4 head; without biases the products alone."""
    assert sum(p.numel() for p in build(depth=5).parameters()) == 152 + 5 * 72 + 36
    assert sum(p.numel() for p in build(depth=5, bias=False).parameters()) == 144 + 5 * 64 + 32


def test_wrong_number_of_widths():
    with pytest.raises(ValueError, match=r"width lists 2 numbers for depth=3 blocks"):
        build(width=[8, 8])


def test_residual_across_a_change_of_width():
    with pytest.raises(ValueError, match=r"skip=residual needs equal widths, but a block goes from 8 to 4"):
        build(width=[8, 4, 4], skip=skips.residual)


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("norm", NORMS)
def test_functional_and_vmapped_over_seeds(norm, skip):
    """Three networks as one stack give what each gives alone, running statistics included."""
    networks = [build(seed, norm=NORMS[norm], skip=SKIPS[skip]) for seed in range(3)]
    x = inputs()
    parameters, buffers = torch.func.stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")

    def call(parameters: dict, buffers: dict) -> torch.Tensor:
        return torch.func.functional_call(skeleton, (parameters, buffers), (x,))

    together = torch.vmap(call)(parameters, buffers)
    alone = torch.stack([network(x) for network in networks])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, torch.stack([n.get_buffer(name) for n in networks]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_forward_writes_nothing_but_running_statistics_and_draws_nothing(norm, training):
    network = build(norm=NORMS[norm]).train(training)
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    network(inputs())
    assert torch.equal(torch.get_rng_state(), random)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    written = {name for name, _ in network.named_buffers()} if training and norm == "batch" else set()
    assert changed == written


def test_building_draws_nothing():
    before = torch.get_rng_state()
    mlp(SHAPE, 4, 3, 8, activations.relu, partial(norms.batch, eps=1e-3), skips.none)
    assert torch.equal(torch.get_rng_state(), before)
