"""The plain convolutional network: the symmetry that mean-field theory rests on, sizes, and great depth."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.convnet import convnet
from gradflow.models.initialize import initialize
from gradflow.models.layers import Conv2d
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.rng import stream


def build(
    depth: int = 3,
    width: int | tuple[int, ...] = 5,
    skip: Callable = skips.none,
    norm: Callable = norms.layer,
    activation: Callable = activations.tanh,
    init: Callable = initializers.he_normal,
    shape: tuple[int, ...] = (2, 8, 6),
    **keys,
) -> Network:
    network = convnet(shape, 4, Parts(depth, width, activation, norm, skip), **keys)
    initialize(network, init, stream(0, "init"))
    with torch.no_grad():
        for p in network.double().parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn(p.shape, generator=stream(1), dtype=p.dtype))
    return network


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(2, *(shape or (2, 8, 6)), generator=stream(0, "x"), dtype=torch.float64)


def features(network: Network, x: torch.Tensor) -> torch.Tensor:
    """What the blocks give, before the mean over positions."""
    x = network.stem(x)
    for block in network.blocks:
        x = block(x)
    return x


def test_forward_is_convolutions_in_a_row():
    """φ(N(W ∗ h + b)) for stem and blocks, the mean over positions, a linear head; circular, stem stride 2."""
    network = build()
    x = h = inputs()
    convolutions = [m for m in network.modules() if isinstance(m, Conv2d)]
    normalisations = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    for i, (c, n) in enumerate(zip(convolutions, normalisations, strict=True)):
        wrapped = functional.pad(h, (1, 1, 1, 1), mode="circular")
        z = functional.conv2d(wrapped, c.weight, c.bias, stride=2 if i == 0 else 1)
        h = torch.tanh(functional.group_norm(z, 1, n.weight, n.bias, n.eps))
    head = network.head[-1]
    expected = h.mean((2, 3)) @ head.weight.T + head.bias
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skip", [skips.none, skips.residual, skips.preact_residual, skips.highway, skips.dense])
@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (3, -2)])
def test_circular_padding_is_equivariant_to_every_shift(skip, shift):
    """All positions are alike (Xiao et al. 2018, section 2.1): shifted inputs give shifted features, equal outputs."""
    network, x = build(skip=skip, stem_stride=1), inputs()
    moved = features(network, x.roll(shift, (2, 3)))
    torch.testing.assert_close(moved, features(network, x).roll(shift, (2, 3)), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network(x.roll(shift, (2, 3))), network(x), rtol=1e-10, atol=1e-10)


def test_a_stem_of_stride_2_is_equivariant_to_shifts_by_2():
    network, x = build(), inputs()
    moved = features(network, x.roll(2, 3))
    torch.testing.assert_close(moved, features(network, x).roll(1, 3), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(network(x.roll(1, 3)), network(x), rtol=1e-3)


def test_zero_padding_is_not_equivariant():
    """Otherwise the tests above would say nothing of the padding."""
    network, x = build(stem_stride=1, padding="zero"), inputs()
    assert not torch.allclose(network(x.roll(1, 3)), network(x), rtol=1e-3)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_kernel_and_padding_reach_every_convolution(kernel_size, padding):
    network = build(kernel_size=kernel_size, padding=padding)
    convolutions = [m for m in network.modules() if isinstance(m, Conv2d)]
    assert {c.kernel_size for c in convolutions} == {(kernel_size,) * 2}
    assert {c.padding_mode for c in convolutions} == {"zeros" if padding == "zero" else "circular"}
    assert features(network, inputs()).shape == (2, 5, 4, 3)


@pytest.mark.parametrize("skip", [skips.none, skips.residual, skips.preact_residual, skips.dense])
@pytest.mark.parametrize(
    ("depth", "stages", "stem_stride", "sizes"),
    [
        (6, 3, 2, [16, 16, 16, 8, 8, 4, 4]),
        (6, 3, 1, [32, 32, 32, 16, 16, 8, 8]),
        (6, 1, 2, [16] * 7),
        (4, 4, 1, [32, 32, 16, 8, 4]),
        (5, 2, 1, [32, 32, 32, 32, 16, 16]),
        (1, 1, 2, [16, 16]),
    ],
)
def test_sizes_of_stem_and_blocks(skip, depth, stages, stem_stride, sizes):
    """The stem divides by its stride; the first block of every stage after the first halves, rounding up."""
    with torch.device("meta"):
        parts = Parts(depth, 4, activations.tanh, norms.none, skip)
        network = convnet((3, 32, 30), 4, parts, stages=stages, stem_stride=stem_stride)
        x = network.stem(torch.empty(1, 3, 32, 30))
        shapes = [x.shape[2:]]
        for block in network.blocks:
            x = block(x)
            shapes.append(x.shape[2:])
    assert [shape[0] for shape in shapes] == sizes
    assert [shape[1] for shape in shapes] == [-(-30 * size // 32) for size in sizes]


@pytest.mark.parametrize("depth", range(1, 12))
def test_stages_are_equally_long(depth):
    """To a block, whatever the depth."""
    for stages in range(1, depth + 1):
        with torch.device("meta"):
            network = convnet((1, 8, 8), 4, Parts(depth, 2, activations.tanh, norms.none, skips.none), stages=stages)
        starts = [0, *(i for i, block in enumerate(network.blocks) if block.branch.maps[0].stride == (2, 2)), depth]
        lengths = {b - a for a, b in itertools.pairwise(starts)}
        assert len(starts) == stages + 1
        assert max(lengths) - min(lengths) <= 1


def test_ten_thousand_blocks_can_be_built():
    """Xiao et al. 2018 trained as many."""
    with torch.device("meta"):
        network = convnet((1, 28, 28), 10, Parts(10_000, 8, activations.tanh, norms.none, skips.none))
    assert len(network.blocks) == 10_000
    assert sum(p.numel() for p in network.parameters()) == 80 + 10_000 * (8 * 8 * 9 + 8) + 90


def test_a_thousand_delta_orthogonal_linear_layers_keep_every_norm():
    """Each position by itself is turned by an orthogonal matrix (Xiao et al. 2018, algorithm 1), and so is each
    gradient: after 1,000 layers the norms are those at the start."""
    parts = Parts(1000, 4, activations.linear, norms.none, skips.none)
    network = convnet((4, 3, 3), 2, parts, stem_stride=1).double()
    initialize(network, initializers.delta_orthogonal, stream(0, "init"))
    x = inputs(4, 3, 3).requires_grad_()
    out = features(network, x)
    torch.testing.assert_close(out.norm(dim=1), x.norm(dim=1), rtol=1e-9, atol=0)
    probe = torch.randn(out.shape, generator=stream(1), dtype=out.dtype)
    (gradient,) = torch.autograd.grad(out, x, probe)
    torch.testing.assert_close(gradient.norm(dim=1), probe.norm(dim=1), rtol=1e-9, atol=0)
    assert not torch.allclose(out, x, atol=0.1)


REFUSED = {
    "vectors": ({"shape": (8,)}, r"model=convnet needs images, but an example has shape \[8\]: set task.view=image"),
    "sequences": ({"shape": (8, 2)}, r"model=convnet needs images, but an example has shape \[8, 2\]"),
    "stages": ({"depth": 3, "stages": 4}, "model.stages=4 exceeds depth=3"),
    "kernel": ({"kernel_size": 4}, "model.kernel_size=4: must be odd"),
    "post": ({"skip": skips.residual, "norm_position": "post"}, "leave model.norm_position=null"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_one_line(what):
    keys, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as raised:
        build(**keys)
    assert "\n" not in str(raised.value)
