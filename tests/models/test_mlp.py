"""The multi-layer perceptron against a loop written by hand, alone and vmapped over seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.rng import stream

SHAPE = (2, 3, 3)
NORMS = {"none": norms.none, "batch": norms.batch, "layer": norms.layer}
SKIPS = {"none": skips.none, "residual": skips.residual, "preact_residual": skips.preact_residual}


def build(
    seed: int = 0,
    depth: int = 3,
    width: int | tuple[int, ...] = 8,
    norm: Callable = norms.none,
    skip: Callable = skips.none,
    activation: Callable = activations.tanh,
    **keys,
) -> Network:
    """A float64 network, its biases and norm parameters not at their starting values either."""
    network = mlp(SHAPE, 4, Parts(depth, width, activation, norm, skip), **keys).double()
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
    """h ← tanh(N(W h + b)), tanh(h + N(W h + b)) or h + W tanh(N(h)) + b, in numpy."""
    network = build(norm=NORMS[norm], skip=SKIPS[skip])
    x = inputs()

    def affine(h: np.ndarray, linear: nn.Module) -> np.ndarray:
        return h @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()

    def normalize(z: np.ndarray, within: nn.Module) -> np.ndarray:
        if norm == "none":
            return z
        (m,) = (m for m in within.modules() if isinstance(m, norms.BatchNorm | norms.GroupNorm))
        axis = 0 if norm == "batch" else 1
        z = (z - z.mean(axis, keepdims=True)) / np.sqrt(z.var(axis, keepdims=True) + 1e-5)
        return z * m.weight.detach().numpy() + m.bias.detach().numpy()

    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    h = affine(x.numpy().reshape(6, -1), linears[0])
    if skip != "preact_residual":
        h = np.tanh(normalize(h, network.stem))
    for block, linear in zip(network.blocks, linears[1:-1], strict=True):
        if skip == "preact_residual":
            h = h + affine(np.tanh(normalize(h, block)), linear)
        else:
            z = normalize(affine(h, linear), block)
            h = np.tanh(h + z if skip == "residual" else z)
    if skip == "preact_residual":
        h = np.tanh(normalize(h, network.head))
    np.testing.assert_allclose(network(x).detach().numpy(), affine(h, linears[-1]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_is_torch_s_sequential(norm):
    """Weights, gradients and running statistics of the plain network are those of modules in a row."""
    network = build(norm=NORMS[norm])
    norm_of = {"none": nn.Identity, "batch": lambda: nn.BatchNorm1d(8), "layer": lambda: nn.LayerNorm(8)}[norm]
    rows = [m for i in range(4) for m in (nn.Linear(18 if i == 0 else 8, 8), norm_of(), nn.Tanh())]
    theirs = nn.Sequential(nn.Flatten(), *rows, nn.Linear(8, 4)).double()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), network.state_dict().values(), strict=True)))
    for net in (network, theirs):
        net(inputs()).square().sum().backward()
    torch.testing.assert_close(network(inputs()), theirs(inputs()), rtol=1e-12, atol=1e-12)
    for ours, other in zip(network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-9, atol=1e-12)
    for ours, other in zip(network.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)


def test_pre_activated_gradient_passes_undiminished_where_the_branch_is_dead():
    """∂L/∂x = ∂L/∂y (1 + …): with every weight 0 the gradient of 50 blocks is exactly that of none."""
    network = mlp(SHAPE, 4, Parts(50, 8, activations.tanh, norms.none, skips.preact_residual))
    x = torch.randn(2, 8, generator=stream(0)).requires_grad_()
    h = x
    for block in network.blocks:
        h = block(h)
    (gradient,) = torch.autograd.grad(h.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_widths():
    """A profile gives each block its own width; the stem has that of block 0, the head reads that of the last."""
    network = build(width=(7, 5, 3))
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(18, 7), (7, 7), (7, 5), (5, 3), (3, 4)]
    assert network(inputs()).shape == (6, 4)


# activation: pre-activations of a layer of 8, outputs that 8 pre-activations give
COUNTS = {"relu": (8, 8), "crelu": (4, 16), "maxout": (16, 4), "swiglu": (16, 4)}


@pytest.mark.parametrize("name", COUNTS)
def test_widths_around_activations_that_change_them(name):
    """Layers have `width` outputs; in a pre-activated block it is the sums that have `width` features."""
    before, after = COUNTS[name]
    plain = build(activation=getattr(activations, name), norm=norms.batch)
    linears = [m for m in plain.modules() if isinstance(m, nn.Linear)]
    expected = [(18, before), *[(8, before)] * 3, (8, 4)]
    assert [(m.in_features, m.out_features) for m in linears] == expected
    assert [m.num_features for m in plain.modules() if isinstance(m, nn.BatchNorm1d | norms.BatchNorm)] == [before] * 4
    sums = build(activation=getattr(activations, name), norm=norms.batch, skip=skips.preact_residual)
    linears = [m for m in sums.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(18, 8), *[(after, 8)] * 3, (after, 4)]
    assert [m.num_features for m in sums.modules() if isinstance(m, norms.BatchNorm)] == [8] * 4
    assert plain(inputs()).shape == sums(inputs()).shape == (6, 4)


def test_parameter_count():
    """18·8+8 stem, depth·(8·8+8) blocks, 8·4+4 head; without biases the products, and the head's."""
    assert sum(p.numel() for p in build(depth=5).parameters()) == 152 + 5 * 72 + 36
    assert sum(p.numel() for p in build(depth=5, bias=False).parameters()) == 144 + 5 * 64 + 36


def test_wrong_number_of_widths():
    with pytest.raises(ValueError, match=r"width lists 2 numbers for depth=3 blocks"):
        build(width=(8, 8))


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
