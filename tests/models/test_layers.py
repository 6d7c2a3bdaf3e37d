"""Linear maps and branches against torch.nn."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradflow.models import norms
from gradflow.models.layers import Branch, Conv2d, Linear, Reparametrization, acts_on_activations, attach
from gradflow.rng import stream


def filled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in module.double().parameters():
            p.normal_(generator=stream(p.numel(), "p"))
    return module


def images(channels: int = 3, height: int = 7, width: int = 6) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=stream(0, "x"), dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_torch_s(bias):
    """On vectors and on tokens; a state dict goes from one to the other."""
    ours, theirs = filled(Linear(5, 3, bias)), nn.Linear(5, 3, bias, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    for shape in ((4, 5), (4, 2, 5)):
        x = torch.randn(shape, generator=stream(1), dtype=torch.float64)
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("padding", ["zero", "circular"])
def test_convolution_is_the_sum_over_its_window(padding, kernel_size, stride, bias):
    """Σ W[o, i, a, b] x[i, s·p + a − k//2, s·q + b − k//2], indices beyond the edge read 0 or start again."""
    layer = filled(Conv2d(3, 4, kernel_size, stride, padding, bias))
    x, reach = images(), kernel_size // 2
    height, width = -(-7 // stride), -(-6 // stride)  # halved, rounding up
    expected = torch.zeros(2, 4, height, width, dtype=torch.float64)
    for a in range(kernel_size):
        for b in range(kernel_size):
            for p in range(height):
                for q in range(width):
                    i, j = stride * p + a - reach, stride * q + b - reach
                    if padding == "circular":
                        i, j = i % 7, j % 6
                    if 0 <= i < 7 and 0 <= j < 6:
                        expected[:, :, p, q] += x[:, :, i, j] @ layer.weight[:, :, a, b].detach().T
    if bias:
        expected += layer.bias.detach()[:, None, None]
    torch.testing.assert_close(layer(x).detach(), expected, rtol=1e-12, atol=1e-12)


def test_even_kernels_have_no_centre():
    with pytest.raises(ValueError, match=r"model\.kernel_size=4: must be odd"):
        Conv2d(3, 4, kernel_size=4)


@pytest.mark.parametrize("make", [lambda: Linear(5, 3), lambda: Conv2d(5, 3)], ids=["linear", "convolution"])
def test_maps_begin_as_zeros_and_draw_nothing(make):
    before = torch.get_rng_state()
    layer = make()
    assert torch.equal(torch.get_rng_state(), before)
    assert all((p == 0).all() for p in layer.parameters())
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    layer.reset_parameters()
    assert all((p == 0).all() for p in layer.parameters())
    assert torch.equal(torch.get_rng_state(), before)


class Halved(Reparametrization):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


def test_a_reparametrisation_stands_between_the_stored_weight_and_the_map():
    linear, convolution = filled(Linear(5, 3)), filled(Conv2d(3, 4))
    x, picture = torch.randn(4, 5, generator=stream(1), dtype=torch.float64), images()
    assert attach(Halved(), linear) is None
    assert attach(Halved(), convolution) is None
    assert torch.equal(linear(x), functional.linear(x, linear.weight / 2, linear.bias))
    expected = functional.conv2d(picture, convolution.weight / 2, convolution.bias, padding=1)
    assert torch.equal(convolution(picture), expected)


def test_attach_gives_back_what_acts_on_activations():
    linear, norm = Linear(5, 3), nn.LayerNorm(3)
    assert attach(norm, linear) is norm
    assert linear.reparametrization is None


@pytest.mark.parametrize("name", ["weight_norm", "scaled_weight_standardization"])
def test_the_parameters_of_a_norm_of_weights_are_the_map_s(name):
    """One number per unit, found by optimisers, checkpoints and `.to` as the map's own."""
    linear = Linear(5, 3)
    attach(getattr(norms, name)(3), linear)
    assert {path: tuple(p.shape) for path, p in linear.named_parameters()} == {
        "weight": (3, 5),
        "bias": (3,),
        "reparametrization.gain": (3,),
    }


def test_what_acts_on_activations():
    names = ["batch", "layer", "group", "instance", "rms"]
    assert all(acts_on_activations(getattr(norms, name)(8)) for name in names)
    others = ["none", "weight_norm", "spectral", "scaled_weight_standardization"]
    assert not any(acts_on_activations(getattr(norms, name)(8)) for name in others)


def test_branch_leaves_out_nothing_and_identities():
    first, second, norm = Linear(3, 4), Linear(4, 4), nn.LayerNorm(4)
    branch = Branch([None, first, nn.Identity(), nn.Tanh(), second, norm], [first, second], norm)
    assert [type(module) for module in branch] == [Linear, nn.Tanh, Linear, nn.LayerNorm]
    assert branch.maps == (first, second)
    assert branch.scale() is norm.weight
    assert set(branch.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"}


def test_branch_without_a_last_norm_has_no_scale():
    linear = Linear(3, 4)
    assert Branch([linear], [linear]).scale() is None
    assert Branch([linear], [linear], nn.Identity()).scale() is None
    without = nn.LayerNorm(4, elementwise_affine=False)
    assert Branch([linear, without], [linear], without).scale() is None


def test_a_copied_branch_knows_its_own_maps():
    """Not those of the branch it was copied from."""
    linear, norm = Linear(3, 4), nn.LayerNorm(4)
    copied = copy.deepcopy(Branch([linear, norm], [linear], norm))
    assert copied.maps == (copied[0],)
    assert copied.maps[0] is not linear
    assert copied.scale() is copied[1].weight
