"""What a unit gives a skip: branches in three orders, shortcuts, gates, scalars; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradflow.models import activations, norms, skips
from gradflow.models.layers import Conv2d, Linear
from gradflow.models.parts import Parts
from gradflow.models.units import LayerUnit, ScalarBias, ZeroPad, layer
from gradflow.rng import stream

KINDS = {
    "Linear": "M",
    "Conv2d": "M",
    "GroupNorm": "N",
    "Elementwise": "φ",
    "CReLU": "φ",
    "Maxout": "φ",
    "Dropout": "d",
    "ScalarBias": "b",
}


def unit(
    maps: int = 2,
    width_in: int = 4,
    width_out: int = 4,
    stride: int = 1,
    position: str = "pre",
    norm: Callable = norms.layer,
    activation: Callable = activations.relu,
    make: Callable = Conv2d,
    **drop: float,
) -> LayerUnit:
    parts = Parts(1, 4, activation, norm, skips.none, **drop)
    if stride == 1:
        return LayerUnit(parts, 0, 1, width_in, width_out, [make] * maps, make, position=position)
    strided, project = partial(make, stride=stride), partial(make, stride=stride, kernel_size=1)
    return LayerUnit(parts, 0, 1, width_in, width_out, [strided] + [make] * (maps - 1), project, stride, position)


def word(branch: nn.Sequential) -> str:
    return " ".join(KINDS[type(module).__name__] for module in branch)


ORDERS = {
    ("layer", 1): "M N φ",
    ("layer", 2): "M N φ M N φ",
    ("bare", 1): "M N",
    ("bare", 2): "M N φ M N",
    ("bare", 3): "M N φ M N φ M N",
    ("preactivation", 1): "N φ M",
    ("preactivation", 2): "N φ M N φ M",
}


@pytest.mark.parametrize(("order", "maps"), ORDERS)
def test_order_of_a_branch(order, maps):
    """As the module's table has it, with and without norm; dropout follows every activation and ends a bare branch."""
    expected = ORDERS[order, maps]
    assert word(unit(maps).branch(order)) == expected
    assert word(unit(maps, norm=norms.none).branch(order)) == expected.replace("N ", "").replace(" N", "")
    assert word(unit(maps).branch(order, normalized=False)) == expected.replace("N ", "").replace(" N", "")
    assert word(unit(maps, dropout=0.5).branch(order)) == expected.replace("φ", "φ d") + " d" * (order == "bare")


def test_a_norm_after_the_activation():
    assert word(unit(2, position="post").branch("layer")) == "M φ N M φ N"
    assert word(unit(2, position="post", dropout=0.5).branch("layer")) == "M φ d N M φ d N"


@pytest.mark.parametrize(("maps", "expected"), [(1, "b M N"), (2, "b M N b φ b M N")])
def test_scalars_come_before_every_map_and_every_activation(maps, expected):
    """Zhang et al. 2019, figure 1, right."""
    assert word(unit(maps).branch("bare", scalar_biases=True)) == expected


def test_every_map_and_activation_of_a_branch_is_its_own():
    branch = unit(2, activation=activations.prelu).branch("layer")
    assert len({id(module) for module in branch}) == len(branch) == 6
    assert len({id(p) for p in branch.parameters()}) == 2 + 2 + 2 + 4


@pytest.mark.parametrize("order", ["layer", "bare", "preactivation"])
def test_the_maps_of_a_branch_in_order(order):
    """The first reads the unit's input and brings the stride, the last gives its output."""
    branch = unit(3, 4, 6, stride=2).branch(order)
    assert [m for m in branch if isinstance(m, Conv2d)] == list(branch.maps)
    assert [(m.in_channels, m.out_channels, m.stride[0]) for m in branch.maps] == [(4, 6, 2), (6, 6, 1), (6, 6, 1)]
    assert branch(torch.zeros(1, 4, 7, 7)).shape == (1, 6, 4, 4)


def test_the_scale_that_starts_a_branch_at_zero():
    """γ of the norm right after the last map (Goyal et al. 2017, section 5.1), where one follows it."""
    for order in ("layer", "bare"):
        branch = unit(2).branch(order)
        assert branch.scale() is [m for m in branch if isinstance(m, norms.GroupNorm)][-1].weight
    assert unit(2).branch("preactivation").scale() is None
    assert unit(2, position="post").branch("layer").scale() is None
    assert unit(2, norm=norms.none).branch("bare").scale() is None
    assert unit(2, norm=norms.weight_norm).branch("bare").scale() is None


@pytest.mark.parametrize(
    ("activation", "before", "after"), [(activations.crelu, 3, 12), (activations.maxout, 12, 3), (nn.ReLU, 6, 6)]
)
def test_units_around_activations_that_change_their_number(activation, before, after):
    """Whole layers have the unit's width behind the activation, pre-activated ones behind the map."""
    whole = unit(2, 4, 6, activation=activation, make=Linear).branch("layer")
    assert [(m.in_features, m.out_features) for m in whole.maps] == [(4, before), (6, before)]
    assert [m.num_channels for m in whole if isinstance(m, norms.GroupNorm)] == [before] * 2
    first = {3: 8, 12: 2, 6: 4}[before]
    sums = unit(2, 4, 6, activation=activation, make=Linear).branch("preactivation")
    assert [(m.in_features, m.out_features) for m in sums.maps] == [(first, 6), (after, 6)]
    assert [m.num_channels for m in sums if isinstance(m, norms.GroupNorm)] == [4, 6]
    x = torch.zeros(2, 4)
    assert whole(x).shape == sums(x).shape == (2, 6)


def test_after_the_sum():
    """The activation where the branch lacks its last one, else nothing."""
    x = torch.tensor([[-1.0, 2.0]])
    assert torch.equal(unit().after_sum("bare")(x), torch.relu(x))
    assert torch.equal(unit().after_sum("layer")(x), x)
    assert torch.equal(unit().after_sum("preactivation")(x), x)


def test_shapes_that_change():
    assert not unit().changes_shape
    assert unit(width_out=5).changes_shape
    assert unit(stride=2).changes_shape


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1)])
def test_all_ways_around_a_strided_branch_end_at_its_size(size):
    here = unit(2, 4, 6, stride=2)
    x = torch.randn(2, 4, *size, generator=stream(0))
    wanted = here.branch("layer")(x).shape
    assert wanted == (2, 6, -(-size[0] // 2), -(-size[1] // 2))
    assert here.shortcut("zero_pad")(x).shape == here.shortcut("projection")(x).shape == wanted
    assert here.halve()(x).shape == (2, 4, *wanted[2:])


def test_zero_pad_s_gradient_reaches_what_it_took_and_no_more():
    x = torch.randn(1, 2, 5, 4, generator=stream(0)).requires_grad_()
    ZeroPad(3, 2)(x).sum().backward()
    expected = torch.zeros(1, 2, 5, 4)
    expected[:, :, ::2, ::2] = 1
    assert torch.equal(x.grad, expected)


def test_zero_pad_of_a_size_alone():
    """As many channels, half the positions."""
    x = torch.randn(1, 4, 6, 6, generator=stream(0))
    assert torch.equal(unit(stride=2).shortcut("zero_pad")(x), x[:, :, ::2, ::2])


def test_a_gate_is_a_map_like_the_branch_s():
    gate = unit(1, position="pre").gate()
    assert isinstance(gate, Conv2d)
    assert gate.role == "gate"
    assert gate.weight.shape == (4, 4, 3, 3)
    assert unit(1, norm=norms.weight_norm).gate().reparametrization is None


def test_scalar_bias():
    """One number, 0 at first."""
    bias = ScalarBias()
    x = torch.randn(2, 3, generator=stream(0))
    assert torch.equal(bias(x), x)
    assert [tuple(p.shape) for p in bias.parameters()] == [()]
    nn.init.constant_(bias.bias, 0.5)
    assert torch.equal(bias(x), x + 0.5)


@pytest.mark.parametrize("position", ["pre", "post"])
def test_one_ordinary_layer(position):
    """φ(N(W x + b)), or N(φ(W x + b)), for a stem."""
    made = layer(Parts(1, 4, activations.tanh, norms.layer, skips.none), Linear, 3, 4, position)
    nn.init.normal_(made[0].weight, generator=stream(0))
    x = torch.randn(5, 3, generator=stream(1))
    z = x @ made[0].weight.T
    expected = torch.tanh(functional.layer_norm(z, (4,)))
    if position == "post":
        expected = functional.layer_norm(torch.tanh(z), (4,))
    torch.testing.assert_close(made(x), expected)


REFUSED = {
    "post bare": (lambda: unit(position="post").branch("bare"), "model.norm_position=post goes with whole layers"),
    "post preact": (lambda: unit(position="post").branch("preactivation"), "leave model.norm_position=null"),
    "identity": (lambda: unit(width_out=6).shortcut("identity"), "from 4 to 6 units: use skip.shortcut=projection"),
    "identity in size": (lambda: unit(stride=2).shortcut("identity"), "a block that goes in size: use skip.shortcut="),
    "narrower": (lambda: unit(width_out=3).shortcut("zero_pad"), "from 4 to 3 units: use skip.shortcut=projection"),
    "crelu": (
        lambda: unit(activation=activations.crelu).branch("bare"),
        "activation=crelu changes the number of units",
    ),
    "odd crelu": (lambda: unit(width_out=5, activation=activations.crelu).branch("layer"), "must be even"),
    "odd swiglu": (
        lambda: unit(width_in=5, activation=activations.swiglu).branch("preactivation"),
        "activation=swiglu cannot act on 5 units: the width must divide by 2",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_one_line_that_says_what_to_change(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
