"""Which weights a network has, and what an initialiser is told of each: place, branches, layers, the last map, γ."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradflow.models import activations, norms, skips
from gradflow.models.convnet import convnet
from gradflow.models.layers import Conv2d, Linear
from gradflow.models.mlp import mlp
from gradflow.models.network import InputNoise, Network
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.models.transformer_encoder import transformer_encoder
from gradflow.models.weights import Weight, weights
from gradflow.resources import conf_dir

IMAGE, OUTPUTS, WIDTH = (3, 8, 8), 10, 16
MODELS = {"mlp": mlp, "convnet": convnet, "resnet": resnet, "transformer_encoder": transformer_encoder}
DEPTH = {"mlp": 4, "convnet": 4, "resnet": 6, "transformer_encoder": 3}
SKIPS = sorted(file.stem for file in (conf_dir() / "skip").glob("*.yaml"))
NORMS = sorted(file.stem for file in (conf_dir() / "norm").glob("*.yaml"))
IMPOSSIBLE = {  # the shapes forbid it
    ("resnet", "highway"),
    ("transformer_encoder", "dense"),
    ("transformer_encoder", "fixup_scalar"),
}
PAIRS = [(model, skip) for model in MODELS for skip in SKIPS if (model, skip) not in IMPOSSIBLE]


def build(model: str, skip: str, norm: str = "layer", depth: int | None = None, **options: object) -> Network:
    each = getattr(skips, skip)
    keys = {key: options.pop(key) for key in ("shortcut",) if key in options}
    parts = Parts(
        depth or DEPTH[model],
        WIDTH,
        activations.relu,
        getattr(norms, norm),
        lambda unit: each(unit, **keys),
    )
    return MODELS[model](IMAGE, OUTPUTS, parts, **options)


def described(network: nn.Module) -> dict[str, Weight]:
    """By the parameter's path."""
    paths = {id(parameter): path for path, parameter in network.named_parameters()}
    return {paths[id(weight.tensor)]: weight for weight in weights(network)}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_every_matrix_and_kernel_once_in_the_order_of_parameters(model, norm):
    """And nothing of one axis: no bias, no scale of a norm, no gain of a reparametrisation."""
    network = build(model, "residual", norm)
    expected = [id(p) for p in network.parameters() if p.ndim >= 2]
    assert [id(weight.tensor) for weight in weights(network)] == expected


@pytest.mark.parametrize(("model", "skip"), PAIRS)
def test_roles_branches_layers_and_last_maps(model, skip):
    """Counted by hand from the papers' block diagrams: blocks, sub-layers (2 per encoder layer), maps per branch."""
    depth = DEPTH[model]
    branches = 2 * depth if model == "transformer_encoder" else depth
    maps = {"mlp": 1, "convnet": 1, "resnet": 2, "transformer_encoder": 2}[model]
    found = described(build(model, skip))
    roles = [weight.role for weight in found.values()]
    assert roles.count("stem") == roles.count("head") == 1
    assert roles.count("block") == branches * maps
    assert roles.count("gate") == (branches if skip in ("highway", "gated_shortcut") else 0)
    assert roles.count("query_key") == (2 * depth if model == "transformer_encoder" else 0)
    assert roles.count("shortcut") == (2 if (model, skip) == ("resnet", "deepnorm") else 0)
    assert len(roles) == sum(roles.count(r) for r in ("stem", "head", "block", "gate", "query_key", "shortcut"))
    assert roles[0] == "stem"
    assert roles[-1] == "head"
    assert {weight.branches for weight in found.values()} == {1 if skip == "none" else branches}
    inside = [] if skip == "none" else [weight for weight in found.values() if weight.role == "block"]
    assert all(weight.layers == maps for weight in inside)
    assert sum(weight.layers for weight in found.values()) == len(found) + len(inside) * (maps - 1)
    assert [weight.last for weight in inside] == ([False] * (maps - 1) + [True]) * (len(inside) // maps)
    assert not any(weight.last for weight in found.values() if weight.role != "block")


@pytest.mark.parametrize("skip", ["residual", "preact_residual", "scaled_residual", "rezero", "skipinit"])
def test_projections_are_shortcuts_where_the_shape_changes(skip):
    """Two of a ResNet's blocks widen and halve (He et al. 2016, option B): 1×1 kernels."""
    found = described(build("resnet", skip, shortcut="projection"))
    shapes = [tuple(w.tensor.shape) for w in found.values() if w.role == "shortcut"]
    assert shapes == [(32, 16, 1, 1), (64, 32, 1, 1)]
    assert sum(w.last for w in found.values()) == 6


@pytest.mark.parametrize("model", MODELS)
def test_projections_everywhere_are_one_shortcut_a_branch(model):
    """Whatever the shapes; weights of a norm go onto them too."""
    found = described(build(model, "residual", "weight_norm", shortcut="projection_everywhere"))
    branches = 2 * DEPTH[model] if model == "transformer_encoder" else DEPTH[model]
    assert sum(w.role == "shortcut" for w in found.values()) == branches


def test_the_paths_of_an_encoder_layer():
    """All nine weights of an encoder of one layer, by name."""
    found = described(build("transformer_encoder", "residual", depth=1))
    told = {path: (w.role, w.branches, w.layers, w.last) for path, w in found.items()}
    assert told == {
        "stem.1.weight": ("stem", 2, 1, False),
        "blocks.0.0.branch.1.query.weight": ("query_key", 2, 1, False),
        "blocks.0.0.branch.1.key.weight": ("query_key", 2, 1, False),
        "blocks.0.0.branch.1.value.weight": ("block", 2, 2, False),
        "blocks.0.0.branch.1.out.weight": ("block", 2, 2, True),
        "blocks.0.1.branch.1.first.weight": ("block", 2, 2, False),
        "blocks.0.1.branch.1.second.weight": ("block", 2, 2, True),
        "head.2.weight": ("head", 2, 1, False),
    }


@pytest.mark.parametrize(("model", "skip"), PAIRS)
def test_the_last_map_is_the_last_that_runs(model, skip):
    """Of those within a branch, by the order of a forward pass."""
    network = build(model, skip)
    if skip == "none":
        assert not any(weight.last for weight in weights(network))
        return
    last = {id(weight.tensor) for weight in weights(network) if weight.last}
    ran: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, Linear | Conv2d):
            module.register_forward_hook(lambda module, *_: ran.append(module))
    network(torch.randn(2, *IMAGE))
    blocks = [module for module in network.modules() if isinstance(module, skips.Block)]
    expected = set()
    for block in blocks:
        inside = {id(module) for module in block.branch.modules()}
        expected.add(id([module for module in ran if id(module) in inside][-1].weight))
    assert last == expected
    assert len(last) == len(blocks)


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "rms"])
@pytest.mark.parametrize(
    ("model", "skip"),
    [
        ("resnet", "residual"),
        ("resnet", "stochastic_depth"),
        ("resnet", "gated_shortcut"),
        ("convnet", "residual"),
        ("mlp", "highway"),
        ("mlp", "rezero"),
    ],
)
def test_scale_is_that_of_the_norm_after_the_last_map(model, skip, norm):
    """It is: with that γ zero, a branch gives zeros, whatever its weights; every other weight has none."""
    network = build(model, skip, norm)
    with torch.no_grad():
        for weight in weights(network):
            weight.tensor.normal_(generator=torch.Generator().manual_seed(0))
    scaled = [weight for weight in weights(network) if weight.scale is not None]
    assert all(weight.last for weight in scaled)
    blocks = [module for module in network.modules() if isinstance(module, skips.Block)]
    seen: list[torch.Tensor] = []
    for block in blocks:
        block.branch.register_forward_hook(lambda _module, _input, out: seen.append(out))
    x = torch.randn(3, *IMAGE, generator=torch.Generator().manual_seed(1))
    network(x)
    assert all((out != 0).any() for out in seen)
    seen.clear()
    with torch.no_grad():
        for weight in scaled:
            assert torch.equal(weight.scale, torch.ones(len(weight.tensor)))
            weight.scale.zero_()
    network(x)
    assert len(seen) == DEPTH[model]
    assert all((out == 0).all() for out in seen)


@pytest.mark.parametrize(
    ("model", "skip", "norm"),
    [
        ("resnet", "residual", "none"),
        ("resnet", "residual", "weight_norm"),
        ("resnet", "residual", "spectral"),
        ("resnet", "preact_residual", "batch"),  # its norms come before the maps
        ("resnet", "scaled_residual", "batch"),
        ("resnet", "skipinit", "batch"),
        ("mlp", "dense", "layer"),
        ("mlp", "deepnorm", "layer"),  # its norm follows the sum
        ("mlp", "none", "layer"),
        ("transformer_encoder", "residual", "layer"),
    ],
)
def test_no_scale_where_no_norm_follows_within_the_branch(model, skip, norm):
    assert all(weight.scale is None for weight in weights(build(model, skip, norm)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("bias", [True, False])
def test_bias_is_that_of_the_same_map(model, bias):
    """The head always has one."""
    network = build(model, "residual", bias=bias)
    parameters = dict(network.named_parameters())
    for path, weight in described(network).items():
        if bias or weight.role == "head":
            assert weight.bias is parameters[path.removesuffix("weight") + "bias"]
        else:
            assert weight.bias is None


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"),
    [((5, 3), 3, 5), ((5, 3, 7), 21, 35), ((32, 16, 3, 5), 240, 480)],
)
def test_fans_are_torch_s(shape, fan_in, fan_out):
    """torch.nn.init counts the kernel's positions in both, too."""
    weight = Weight(torch.empty(shape))
    assert (weight.fan_in, weight.fan_out) == (fan_in, fan_out)
    assert nn.init._calculate_fan_in_and_fan_out(weight.tensor) == (fan_in, fan_out)


def test_fan_in_counts_what_reaches_a_unit():
    """All ones in, all ones as weights: a unit's pre-activation is its number of inputs."""
    for shape, x in (((5, 3), torch.ones(1, 3)), ((4, 3, 3, 3), torch.ones(1, 3, 3, 3))):
        ones = torch.ones(shape)
        z = x @ ones.T if ones.ndim == 2 else nn.functional.conv2d(x, ones)
        assert (z == Weight(ones).fan_in).all()


def test_input_noise_before_the_stem_changes_no_place():
    """As `build` wraps the stem."""
    network = build("mlp", "residual")
    before = [weight.role for weight in weights(network)]
    network.stem = nn.Sequential(InputNoise(0.1), network.stem)
    assert [weight.role for weight in weights(network)] == before


def test_a_network_from_elsewhere():
    """Any module: every weight is a block's, of no branch; recurrent ones, whose names differ, have no bias to fill."""
    found = list(weights(nn.Sequential(nn.Linear(3, 4), nn.RNN(4, 5), nn.Embedding(6, 7))))
    assert [tuple(w.tensor.shape) for w in found] == [(4, 3), (5, 4), (5, 5), (6, 7)]
    assert {(w.role, w.branches, w.layers, w.last) for w in found} == {("block", 1, 1, False)}
    assert [w.bias is None for w in found] == [False, True, True, True]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (nn.Identity, 1.0),
        (activations.linear, 1.0),
        (activations.relu, math.sqrt(2)),
        (lambda: activations.leaky_relu(slope=0.3), math.sqrt(2 / 1.09)),  # He et al. 2015, eq. 15
        (activations.tanh, 1 / math.sqrt(0.394294490398)),
        (activations.selu, 1.0),
        (lambda: activations.elu(alpha=1.0), 1 / math.sqrt(0.644945417493)),
    ],
    ids=["identity", "linear", "relu", "leaky_relu", "tanh", "selu", "elu"],
)
def test_gain_of_the_activation(make, expected):
    """1/√E φ(z)², z ~ N(0, 1)."""
    assert Weight(torch.empty(2, 2), activation=make).gain() == pytest.approx(expected, rel=1e-7)


def test_every_weight_knows_the_network_s_activation():
    assert all(weight.activation is activations.tanh for weight in weights(build("mlp", "none"), activations.tanh))
    assert all(weight.gain() == 1 for weight in weights(build("mlp", "none")))


def test_an_activation_that_does_not_know_its_gain_is_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"init.gain=activation: GELU .*; give init.gain as a number"):
        Weight(torch.empty(2, 2), activation=nn.GELU).gain()
