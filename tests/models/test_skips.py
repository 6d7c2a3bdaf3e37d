"""Skip connections against their equations, written by hand for branches of one linear map and of two convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.convnet import convnet
from gradflow.models.initialize import initialize
from gradflow.models.layers import Conv2d, Linear
from gradflow.models.mlp import mlp
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.models.skips import Block
from gradflow.models.transformer_encoder import transformer_encoder
from gradflow.models.units import LayerUnit, ScalarBias
from gradflow.rng import stream

WIDTH, COUNT = 4, 2
SIGMAS = 5  # a chance of 6e-7 per assertion, were the seed not fixed


def parts(depth: int = COUNT, width: int | tuple[int, ...] = WIDTH, skip: Callable = skips.none, **keys) -> Parts:
    chosen = {"activation": activations.tanh, "norm": norms.none, **keys}
    return Parts(depth=depth, width=width, skip=skip, **chosen)


def scrambled(module: nn.Module) -> nn.Module:
    """In float64, with no parameter at its starting value."""
    with torch.no_grad():
        for p in module.double().parameters():
            p.add_(0.5 * torch.randn(p.shape, generator=stream(p.numel(), "p"), dtype=p.dtype))
    return module


def blocks(maps: int, skip: Callable, norm: Callable = norms.layer) -> list[Block]:
    """The two of a network, of one linear map or of two convolutions each."""
    chosen = parts(norm=norm)
    make = Linear if maps == 1 else Conv2d
    units = [LayerUnit(chosen, index, COUNT, WIDTH, WIDTH, [make] * maps, make) for index in range(COUNT)]
    return [scrambled(skip(unit)) for unit in units]


def inputs(maps: int, batch: int = 3) -> Tensor:
    shape = (batch, WIDTH) if maps == 1 else (batch, WIDTH, 5, 5)
    return torch.randn(shape, generator=stream(0, "x"), dtype=torch.float64).requires_grad_()


# --- the equations ----------------------------------------------------------------------------------------------


class ByHand:
    """What the papers' equations make of a block's numbers, in plain functions."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.norms = [m for m in block.modules() if isinstance(m, nn.GroupNorm)]
        self.scalars = [m.bias for m in block.modules() if isinstance(m, ScalarBias)]

    def map(self, linear: nn.Module, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return x @ linear.weight.T + linear.bias
        return functional.conv2d(x, linear.weight, linear.bias, padding=1)

    def norm(self, index: int, x: Tensor) -> Tensor:
        axes = tuple(range(1, x.ndim))
        centred = x - x.mean(axes, keepdim=True)
        z = centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()
        per_feature = (-1,) + (1,) * (x.ndim - 2)
        return z * self.norms[index].weight.view(per_feature) + self.norms[index].bias.view(per_feature)

    def layers(self, x: Tensor) -> Tensor:
        for i, linear in enumerate(self.block.branch.maps):
            x = torch.tanh(self.norm(i, self.map(linear, x)))
        return x

    def bare(self, x: Tensor) -> Tensor:
        for i, linear in enumerate(self.block.branch.maps):
            x = self.norm(i, self.map(linear, torch.tanh(x) if i else x))
        return x

    def preactivated(self, x: Tensor) -> Tensor:
        for i, linear in enumerate(self.block.branch.maps):
            x = self.map(linear, torch.tanh(self.norm(i, x)))
        return x

    def without_norm(self, x: Tensor) -> Tensor:
        for linear in self.block.branch.maps:
            x = torch.tanh(self.map(linear, x))
        return x

    def with_scalars(self, x: Tensor) -> Tensor:
        """One before every map and every activation: b₁ W₁, then b₂ φ, b₃ W₂."""
        for i, linear in enumerate(self.block.branch.maps):
            x = torch.tanh(x + self.scalars[2 * i - 1]) if i else x
            x = self.norm(i, self.map(linear, x + self.scalars[2 * i]))
        return x

    def gate(self, x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-self.map(self.block.gate, x)))


Equation = Callable[[ByHand, Tensor, int], Tensor]
SURVIVAL = [0.7, 0.4]  # 1 − l/L (1 − p_L), l = 1, 2, for p_L = 0.4: Huang et al. 2016, eq. 4
EQUATIONS: dict[str, tuple[Callable, Equation]] = {
    "none": (skips.none, lambda b, x, _: b.layers(x)),
    "residual": (skips.residual, lambda b, x, _: torch.tanh(x + b.bare(x))),
    "preact_residual": (skips.preact_residual, lambda b, x, _: x + b.preactivated(x)),
    "scaled_residual": (skips.scaled_residual, lambda b, x, _: x + b.preactivated(x) / math.sqrt(2)),
    "scaled_residual 0.3 0.9": (
        partial(skips.scaled_residual, branch_scale=0.3, shortcut_scale=0.9),
        lambda b, x, _: 0.9 * x + 0.3 * b.preactivated(x),
    ),
    "rezero": (skips.rezero, lambda b, x, _: x + b.block.alpha * b.layers(x)),
    "skipinit": (skips.skipinit, lambda b, x, _: x + b.block.alpha * b.preactivated(x)),
    "fixup_scalar": (
        skips.fixup_scalar,
        lambda b, x, _: torch.tanh(x + b.block.scale * b.with_scalars(x) + b.block.bias.bias),
    ),
    "highway": (skips.highway, lambda b, x, _: b.gate(x) * b.layers(x) + (1 - b.gate(x)) * x),
    "stochastic_depth at evaluation": (
        partial(skips.stochastic_depth, survival=0.4),
        lambda b, x, i: torch.tanh(x + SURVIVAL[i] * b.bare(x)),
    ),
    "deepnorm": (skips.deepnorm, lambda b, x, _: b.norm(0, 2**0.25 * x + b.without_norm(x))),
    "scaled_shortcut": (skips.scaled_shortcut, lambda b, x, _: torch.tanh(0.5 * x + 0.5 * b.bare(x))),
    "scaled_shortcut 0.3 2 and dropout at evaluation": (
        partial(skips.scaled_shortcut, shortcut_scale=0.3, branch_scale=2, dropout=0.5),
        lambda b, x, _: torch.tanh(0.3 * x + 2 * b.bare(x)),
    ),
    "gated_shortcut": (
        skips.gated_shortcut,
        lambda b, x, _: torch.tanh(b.gate(x) * b.bare(x) + (1 - b.gate(x)) * x),
    ),
    "gated_shortcut shortcut_only": (
        partial(skips.gated_shortcut, gate="shortcut_only", gate_bias=0.0),
        lambda b, x, _: torch.tanh(b.bare(x) + (1 - b.gate(x)) * x),
    ),
}


@pytest.mark.parametrize("maps", [1, 2])
@pytest.mark.parametrize("name", EQUATIONS)
def test_two_blocks_are_the_equation_with_its_gradients(name, maps):
    """As the docstring of each cites it; M linear map, N layer norm, φ = tanh, all parameters scrambled."""
    skip, equation = EQUATIONS[name]
    pair = [block.eval() for block in blocks(maps, skip)]
    x = inputs(maps)
    found = expected = x
    for index, block in enumerate(pair):
        found, expected = block(found), equation(ByHand(block), expected, index)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    wrt = [x, *(p for block in pair for p in block.parameters())]
    ours, theirs = (torch.autograd.grad(out.square().sum(), wrt) for out in (found, expected))  # every one is used
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("maps", [1, 2])
def test_dense_gives_what_it_read_and_its_own_features(maps):
    """[x, F(x)] (Huang et al. 2017, eq. 2), F reading all that came before: norms of 4 and of 8 features."""
    chosen, make = parts(norm=norms.layer), Linear if maps == 1 else Conv2d
    units = [LayerUnit(chosen, i, COUNT, WIDTH * (i + 1), WIDTH, [make] * maps, make) for i in range(COUNT)]
    pair = [scrambled(skips.dense(unit)) for unit in units]
    x = inputs(maps)
    found = expected = x
    for block in pair:
        found, expected = block(found), torch.cat([expected, ByHand(block).preactivated(expected)], 1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(found[:, 2 * WIDTH :].square().sum(), x, retain_graph=True)
    assert (gradient.abs() > 1e-6).all(), "the second block reads what the stem gave, not the first block alone"
    assert torch.equal(found[:, :WIDTH], x)


PREACTIVATED = {"preact_residual", "scaled_residual", "skipinit", "dense"}
OTHERS = ["none", "residual", "fixup_scalar", "rezero", "highway", "deepnorm", "scaled_shortcut", "gated_shortcut"]


@pytest.mark.parametrize("name", [*OTHERS, *PREACTIVATED])
def test_stem_and_head_around_it(name):
    """Pre-activated blocks take the bare map of the stem and leave norm and activation to the head."""
    network = scrambled(mlp((3,), 2, parts(skip=getattr(skips, name), norm=norms.layer)))
    x = torch.randn(5, 3, generator=stream(1), dtype=torch.float64)
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    z = x @ linears[0].weight.T + linears[0].bias
    stem = [m for m in network.stem.modules() if isinstance(m, nn.GroupNorm)]
    ending = [m for m in network.head.modules() if isinstance(m, nn.GroupNorm)]
    assert (len(stem), len(ending)) == ((0, 1) if name in PREACTIVATED else (1, 0))

    def layer_norm(z: Tensor, m: nn.GroupNorm) -> Tensor:
        return functional.layer_norm(z, z.shape[1:], m.weight, m.bias, m.eps)

    h = z if name in PREACTIVATED else torch.tanh(layer_norm(z, stem[0]))
    torch.testing.assert_close(network.stem(x), h, rtol=1e-12, atol=1e-12)
    for block in network.blocks:
        h = block(h)
    h = torch.tanh(layer_norm(h, ending[0])) if name in PREACTIVATED else h
    expected = h @ linears[-1].weight.T + linears[-1].bias
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


# --- where blocks begin, and what they do at the ends of their range ----------------------------------------------


@pytest.mark.parametrize("maps", [1, 2])
@pytest.mark.parametrize("name", ["rezero", "skipinit"])
def test_a_learnt_scale_of_0_is_the_identity_and_learns(name, maps):
    """Bachlechner et al. 2021, section 3: the gradient passes whole, α has one of its own, the weights have none."""
    chosen, make = parts(), Linear if maps == 1 else Conv2d
    block = getattr(skips, name)(LayerUnit(chosen, 0, 1, WIDTH, WIDTH, [make] * maps, make)).double()
    for linear in block.branch.maps:
        nn.init.normal_(linear.weight, generator=stream(0))
    x = inputs(maps)
    out = block(x)
    assert torch.equal(out, x)
    out.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach(), rtol=1e-12, atol=1e-12)
    assert abs(block.alpha.grad) > 1e-3
    assert all((linear.weight.grad == 0).all() for linear in block.branch.maps)


@pytest.mark.parametrize("value", [1, 0, 0.5])
@pytest.mark.parametrize("name", ["rezero", "skipinit"])
def test_a_whole_number_starts_a_learnt_scale_too(name, value):
    """`skip.alpha=1` on the command line is an integer."""
    (block, _) = (getattr(skips, name)(unit, alpha=value) for unit in two_units())
    assert block.alpha.dtype == torch.get_default_dtype()
    assert block.alpha.item() == value


def two_units() -> list[LayerUnit]:
    return [LayerUnit(parts(), index, COUNT, WIDTH, WIDTH, [Linear], Linear) for index in range(COUNT)]


def test_skipinit_s_other_start_is_1_over_the_root_of_the_depth():
    for count in (2, 25):
        unit = LayerUnit(parts(), 0, count, WIDTH, WIDTH, [Linear], Linear)
        assert skips.skipinit(unit, alpha="1/sqrt(depth)").alpha.item() == pytest.approx(count**-0.5, rel=1e-7)


@pytest.mark.parametrize("model", [mlp, resnet], ids=["one map", "two maps"])
def test_fixup_begins_with_blocks_that_are_the_identity(model):
    """Zhang et al. 2019, rule 1: the last map is 0, so that φ(x + 0) = x where x ≥ 0, as it is behind a ReLU."""
    shape = (3,) if model is mlp else (3, 8, 8)
    network = model(shape, 2, parts(3, skip=skips.fixup_scalar, activation=activations.relu))
    initialize(network, initializers.fixup, stream(0, "init"), activations.relu)
    x = network.stem(torch.randn(5, *shape, generator=stream(1)))
    assert (x > 0).any()
    if model is mlp:
        for block in network.blocks:
            assert torch.equal(block(x), x)
        return
    assert torch.equal(network.blocks[0](x), x)
    padded = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, WIDTH))  # option A, where the shape changes
    assert torch.equal(network.blocks[1](x), padded)


@pytest.mark.parametrize("maps", [1, 2])
def test_highway_carries_or_transforms(maps):
    """T = 0 is the identity, T = 1 the plain layers (Srivastava et al. 2015, eqs. 3 and 4)."""
    closed, opened = (blocks(maps, partial(skips.highway, gate_bias=bias))[0] for bias in (-1e3, 1e3))
    x = inputs(maps)
    assert torch.equal(closed(x), x)
    torch.testing.assert_close(opened(x), ByHand(opened).layers(x), rtol=1e-12, atol=1e-12)


def test_highway_s_gate_begins_with_its_bias():
    block = mlp((3,), 2, parts(skip=partial(skips.highway, gate_bias=-3.0))).blocks[0]
    assert block.gate.bias.tolist() == [-3.0] * WIDTH
    assert block.gate.role == "gate"
    assert all(linear.bias.tolist() == [0.0] * WIDTH for linear in block.branch.maps)


@pytest.mark.parametrize("name", ["residual", "preact_residual", "highway", "rezero"])
def test_initialisers_leave_a_highway_s_bias_and_a_residual_s_scalars(name):
    """What a skip starts from is still there once the weights are drawn."""
    network = mlp((3,), 2, parts(skip=getattr(skips, name)))
    before = {n: p.clone() for n, p in network.named_parameters() if p.ndim < 2}
    initialize(network, initializers.he_normal, stream(0, "init"))
    after = {n: p for n, p in network.named_parameters() if p.ndim < 2}
    assert all(torch.equal(p, before[n]) for n, p in after.items())


# --- shortcuts that are no identities: He et al. 2016b, section 3.1 ---------------------------------------------


def of_resnet(skip: Callable, norm: Callable = norms.layer) -> Network:
    """Three blocks, the second and third of which double the channels and halve the size."""
    return scrambled(resnet((3, 8, 8), 2, parts(3, skip=skip, norm=norm)))


def option_a(block: Block, x: Tensor) -> Tensor:
    """By hand: every second position, and zeros for new channels."""
    if isinstance(block.shortcut, nn.Identity):
        return x
    return torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], dim=1)


@pytest.mark.parametrize("gate", ["exclusive", "shortcut_only"])
def test_a_gate_is_a_1_by_1_convolution_with_the_block_s_stride(gate):
    """Eqs. of figure 2 c and d, in a ResNet, across both changes of shape."""
    network = of_resnet(partial(skips.gated_shortcut, gate=gate))
    x = network.stem(torch.randn(2, 3, 8, 8, generator=stream(1), dtype=torch.float64))
    for block, (width, stride) in zip(network.blocks, [(4, 1), (8, 2), (16, 2)], strict=True):
        assert block.gate.weight.shape == (width, x.shape[1], 1, 1)
        assert block.gate.role == "gate"
        z = torch.einsum("oi,bihw->bohw", block.gate.weight[:, :, 0, 0], x[:, :, ::stride, ::stride])
        g = 1 / (1 + torch.exp(-z - block.gate.bias[:, None, None]))
        added = block.branch(x)
        out = (g * added if gate == "exclusive" else added) + (1 - g) * option_a(block, x)
        torch.testing.assert_close(block(x), torch.tanh(out), rtol=1e-12, atol=1e-12)
        x = block(x)


@pytest.mark.parametrize("gate", ["exclusive", "shortcut_only"])
@pytest.mark.parametrize("maps", [1, 2])
def test_a_gate_s_ends(maps, gate):
    """Open for x (g = 0): φ(x), or a residual block; closed (g = 1): φ(F(x)), which is a plain net, for both."""
    skip = partial(skips.gated_shortcut, gate=gate)
    opened, closed = (blocks(maps, partial(skip, gate_bias=bias))[0] for bias in (-1e3, 1e3))
    x = inputs(maps)
    f = ByHand(opened).bare(x)
    torch.testing.assert_close(opened(x), torch.tanh(x if gate == "exclusive" else x + f), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(closed(x), torch.tanh(ByHand(closed).bare(x)), rtol=1e-12, atol=1e-12)


def test_a_gate_begins_with_its_bias_also_where_other_maps_have_none():
    network = resnet((3, 8, 8), 2, parts(3, skip=skips.gated_shortcut))
    initialize(network, initializers.he_normal, stream(0, "init"))
    for block in network.blocks:
        assert (block.gate.bias == -6).all()
        assert block.gate.weight.abs().sum() > 0
        assert all(linear.bias is None for linear in block.branch.maps)


def test_scales_of_1_are_a_residual_block():
    ours, theirs = (
        of_resnet(skip)
        for skip in (partial(skips.scaled_shortcut, shortcut_scale=1.0, branch_scale=1.0), skips.residual)
    )
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, 8, generator=stream(1), dtype=torch.float64)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_constants_on_post_activated_shortcuts_multiply_the_gradient_by_their_power(scale):
    """Eq. 8 with F = 0 and no activation."""
    skip = partial(skips.scaled_shortcut, shortcut_scale=scale)
    network = mlp((3,), 2, parts(10, skip=skip, activation=activations.linear)).double()
    x = h = inputs(1)
    for block in network.blocks:
        h = block(h)
    (gradient,) = torch.autograd.grad(h.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, scale**10), rtol=1e-12, atol=0)


def test_dropout_on_the_shortcut_alone():
    """While training, each carried unit is 0 or λ/(1 − p) of itself, p of them 0; the branch is whole."""
    p, scale = 0.25, 0.75
    skip = partial(skips.scaled_shortcut, shortcut_scale=scale, branch_scale=1.0, dropout=p)
    chosen = parts(1, 2000, skip, activation=activations.linear)
    block = mlp((3,), 2, chosen).blocks[0].train()
    nn.init.ones_(block.branch.maps[0].bias)  # weights are 0: F = 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        carried = block(torch.full((3, 2000), 2.0)) - 1
    dropped = carried == 0
    assert torch.equal(carried[~dropped], torch.full_like(carried[~dropped], 2 * scale / (1 - p)))
    assert abs(dropped.double().mean() - p) < SIGMAS * math.sqrt(p * (1 - p) / carried.numel())


@pytest.mark.parametrize(("norm", "normalised"), [(norms.layer, True), (norms.none, False)])
def test_projections_everywhere_are_1_by_1_convolutions_in_every_block(norm, normalised):
    """Option C of He et al. 2016: φ(N(S x) + F(x)), S with the block's stride."""
    network = of_resnet(partial(skips.residual, shortcut="projection_everywhere"), norm)
    x = network.stem(torch.randn(2, 3, 8, 8, generator=stream(1), dtype=torch.float64))
    for block, stride in zip(network.blocks, [1, 2, 2], strict=True):
        (linear,) = (m for m in block.shortcut.modules() if isinstance(m, Conv2d))
        assert linear.role == "shortcut"
        carried = torch.einsum("oi,bihw->bohw", linear.weight[:, :, 0, 0], x[:, :, ::stride, ::stride])
        if normalised:
            own = block.shortcut[1]
            carried = functional.group_norm(carried, 1, own.weight, own.bias, own.eps)
        torch.testing.assert_close(block(x), torch.tanh(carried + block.branch(x)), rtol=1e-12, atol=1e-12)
        x = block(x)


# --- depth --------------------------------------------------------------------------------------------------------


def second_moments(skip: Callable, depth: int, seeds: int = 6, width: int = 256) -> float:
    """Mean over networks of log ‖x_L‖²/‖x_0‖² behind `depth` ReLU blocks with He's weights."""
    logs = []
    chosen = parts(depth, width, skip, activation=activations.relu)
    with torch.no_grad():
        for seed in range(seeds):
            network = mlp((1,), 1, chosen)
            initialize(network, initializers.he_normal, stream(seed, "init"))
            x = h = torch.randn(1, width, generator=stream(seed, "x"))
            for block in network.blocks:
                h = block(h)
            logs.append(math.log(h.square().sum() / x.square().sum()))
    return sum(logs) / seeds


def test_the_signal_doubles_per_pre_activated_block_and_1_over_root_depth_bounds_it():
    """E‖x_L‖² = 2^L ‖x_0‖² (De & Smith 2020, section 2), and (1 + 1/L)^L < e with β = 1/√L (Hayou et al. 2021)."""
    assert second_moments(skips.preact_residual, 8) == pytest.approx(8 * math.log(2), rel=0.05)
    for depth in (8, 32):
        expected = depth * math.log1p(1 / depth)
        assert second_moments(skips.scaled_residual, depth) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.2])
def test_shortcuts_scaled_by_lambda_multiply_the_gradient_by_its_power(scale):
    """He et al. 2016b, eq. 8, with F = 0: ∂L/∂x_0 = λ^L ∂L/∂x_L."""
    network = mlp((3,), 2, parts(10, skip=partial(skips.scaled_residual, shortcut_scale=scale))).double()
    x = inputs(1)
    h = x
    for block in network.blocks:
        h = block(h)
    (gradient,) = torch.autograd.grad(h.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, scale**10), rtol=1e-12, atol=0)


def test_deepnorm_s_alpha():
    """(2N)^¼ for an encoder of N layers, two skips each (Wang et al. 2022, figure 2); L^¼ for L skips elsewhere."""
    encoder = transformer_encoder((4, 2), 2, parts(3, norm=norms.layer, skip=skips.deepnorm), heads=2)
    alphas = [skip.alpha for block in encoder.blocks for skip in block]
    assert alphas == [pytest.approx(6**0.25, rel=1e-15)] * 6
    assert mlp((3,), 2, parts(7, norm=norms.layer, skip=skips.deepnorm)).blocks[0].alpha == pytest.approx(7**0.25)


def test_deepnorm_across_a_change_of_width_projects():
    """N(α S x + φ(W x + b)), S a linear map, since there is no x of the right width to carry."""
    chosen = parts(2, (4, 6), skips.deepnorm, norm=norms.layer)
    block = scrambled(mlp((3,), 2, chosen).blocks[1])
    x = inputs(1)
    carried = x @ block.shortcut.weight.T + block.shortcut.bias
    (linear,) = block.branch.maps
    z = 2**0.25 * carried + torch.tanh(x @ linear.weight.T + linear.bias)
    expected = functional.layer_norm(z, (6,), block.norm.weight, block.norm.bias, block.norm.eps)
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


# --- stochastic depth ---------------------------------------------------------------------------------------------


def drops(count: int = 4, survival: float = 0.4) -> list[Block]:
    units = (
        LayerUnit(parts(activation=activations.linear), i, count, WIDTH, WIDTH, [Linear], Linear) for i in range(4)
    )
    return [scrambled(skips.stochastic_depth(unit, survival=survival)) for unit in units]


def test_survival_falls_linearly_to_that_of_the_last_block():
    """p_l = 1 − l/L (1 − p_L) for l = 1 … L (Huang et al. 2016, eq. 4)."""
    assert [block.survival for block in drops()] == pytest.approx([0.85, 0.7, 0.55, 0.4], rel=1e-12)
    assert [block.survival for block in drops(survival=1.0)] == [1.0] * 4


def test_branches_survive_at_their_rate_for_a_whole_batch_and_evaluation_is_their_mean():
    """b ~ Bernoulli(p_l), one for all examples (eq. 2); with φ linear, evaluation (eq. 5) is the expectation."""
    x, n = inputs(1).detach(), 2000
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for block in drops():
            kept, dropped = x + block.branch(x), x
            outs = [block(x) for _ in range(n)]
            survived = sum(torch.allclose(out, kept, rtol=1e-12, atol=1e-12) for out in outs)
            assert survived + sum(torch.equal(out, dropped) for out in outs) == n
            p = block.survival
            assert abs(survived / n - p) < SIGMAS * math.sqrt(p * (1 - p) / n)
            torch.testing.assert_close(block.eval()(x), p * kept + (1 - p) * dropped, rtol=1e-12, atol=1e-12)


def test_evaluation_draws_nothing_and_training_draws_from_torch_s_generator():
    block = drops()[3]
    before = torch.get_rng_state()
    block.eval()(inputs(1))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        block.train()(inputs(1))
        assert not torch.equal(torch.get_rng_state(), before)


def test_a_branch_that_did_not_survive_has_gradients_of_0():
    block = drops(survival=0.0)[3]
    x = inputs(1)
    block(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in block.branch.parameters())


# --- shortcuts ----------------------------------------------------------------------------------------------------


def test_zero_pad_takes_every_second_position_and_adds_channels_of_zeros():
    """Option A of He et al. 2016, sections 3.3 and 4.2; with F = 0 it is all there is of a block."""
    network = convnet((3, 8, 8), 2, parts(2, (3, 5), skips.preact_residual), stages=2, stem_stride=1)
    x = torch.randn(2, 3, 7, 6, generator=stream(0))
    out = network.blocks[1](x)
    assert out.shape == (2, 5, 4, 3)
    for i in range(4):
        for j in range(3):
            assert torch.equal(out[:, :3, i, j], x[:, :, 2 * i, 2 * j])
    assert (out[:, 3:] == 0).all()
    assert sum(p.numel() for p in network.blocks[1].shortcut.parameters()) == 0


def test_zero_pad_of_vectors():
    network = mlp((3,), 2, parts(2, (3, 5), skips.preact_residual))
    x = torch.randn(4, 3, generator=stream(0))
    assert torch.equal(network.blocks[1](x), functional.pad(x, (0, 2)))


@pytest.mark.parametrize(("name", "normalised"), [("residual", True), ("preact_residual", False)])
def test_projection_is_a_1_by_1_convolution_with_a_norm_unless_pre_activated(name, normalised):
    """Option B: φ(N(S x) + F(x)) (He et al. 2016, eq. 2); S x + F(x) where nothing may follow the addition (2016b)."""
    skip = partial(getattr(skips, name), shortcut="projection")
    network = convnet((3, 8, 8), 2, parts(2, (3, 5), skip, norm=norms.layer), stages=2, stem_stride=1)
    block = scrambled(network.blocks[1])
    x = torch.randn(2, 3, 7, 6, generator=stream(0), dtype=torch.float64)
    linear = next(m for m in block.shortcut.modules() if isinstance(m, Conv2d))
    assert linear.role == "shortcut"
    carried = torch.einsum("oi,bihw->bohw", linear.weight[:, :, 0, 0], x[:, :, ::2, ::2])
    carried = carried + linear.bias[:, None, None]
    if normalised:
        norm = block.shortcut[1]
        carried = functional.group_norm(carried, 1, norm.weight, norm.bias, norm.eps)
    total = carried + block.branch(x)
    torch.testing.assert_close(block(x), torch.tanh(total) if normalised else total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["residual", "preact_residual", "rezero", "fixup_scalar"])
def test_no_shortcut_has_parameters_where_the_shape_stays(name):
    for shortcut in ("zero_pad", "projection", "identity"):
        block = mlp((3,), 2, parts(skip=partial(getattr(skips, name), shortcut=shortcut))).blocks[0]
        assert isinstance(block.shortcut, nn.Identity)


@pytest.mark.parametrize("norm", [norms.weight_norm, norms.spectral, norms.scaled_weight_standardization])
@pytest.mark.parametrize("name", ["none", "residual", "preact_residual", "dense", "rezero"])
def test_a_norm_of_weights_is_on_every_map_but_the_head(name, norm):
    """In whatever order the block is, on stem, branch and shortcut; it has no place of its own in the order."""
    network = mlp((3,), 2, parts(2, (4, 6) if name != "dense" else 4, shortcut_of(name), norm=norm))
    maps = {path: m for path, m in network.named_modules() if isinstance(m, Linear)}
    without = {path for path, m in maps.items() if m.reparametrization is None}
    assert without == {path for path in maps if path.startswith("head")}


def shortcut_of(name: str) -> Callable:
    skip = getattr(skips, name)
    return skip if name in ("none", "dense") else partial(skip, shortcut="projection")


# --- dense --------------------------------------------------------------------------------------------------------


def test_dense_widths():
    """The stem gives 4, every block adds 5, 6, 7: norms, maps and head read all of it."""
    network = mlp((3,), 2, parts(3, (5, 6, 7), skips.dense, norm=norms.layer))
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    shapes = [(m.in_features, m.out_features) for m in linears]
    assert shapes == [(3, 5), (5, 5), (10, 6), (16, 7), (23, 2)]
    assert [block.width_out for block in network.blocks] == [10, 16, 23]


def test_dense_halves_what_it_carries_by_the_mean_of_2_by_2():
    network = convnet((3, 8, 8), 2, parts(2, 3, skips.dense), stages=2, stem_stride=1)
    for size in (6, 7):
        x = torch.randn(2, 6, size, size, generator=stream(0))
        out = network.blocks[1](x)
        assert out.shape == (2, 9, (size + 1) // 2, (size + 1) // 2)
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                mean = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
                torch.testing.assert_close(out[:, :6, i, j], mean)


def test_dense_has_a_limit():
    """64 · 256 features are given by 255 blocks and the stem; one block more is refused."""
    with torch.device("meta"):
        assert mlp((3,), 2, parts(255, 64, skips.dense)).blocks[-1].width_out == 16_384
        with pytest.raises(ValueError, match=r"skip=dense: block 255 of 256 would give 16448 features.*use fewer"):
            mlp((3,), 2, parts(256, 64, skips.dense))


# --- refusals -----------------------------------------------------------------------------------------------------


def of_mlp(skip: Callable, width: int | tuple[int, ...] = WIDTH, **keys) -> Callable[[], Network]:
    options = {"bias": keys.pop("bias", True), "norm_position": keys.pop("norm_position", None)}
    return lambda: mlp((3,), 2, parts(2, width, skip, **keys), **options)


def identity(skip: Callable) -> Callable:
    return partial(skip, shortcut="identity")


REFUSED = {
    "identity across widths": (of_mlp(identity(skips.residual), (4, 6)), "from 4 to 6 units: use skip.shortcut=proj"),
    "zero_pad to fewer": (
        of_mlp(skips.residual, (6, 4)),
        "skip.shortcut=zero_pad cannot span a block that goes from 6",
    ),
    "identity across sizes": (
        lambda: convnet((3, 8, 8), 2, parts(2, skip=identity(skips.preact_residual)), stages=2),
        "that goes in size: use skip.shortcut=projection",
    ),
    "units after a sum": (of_mlp(skips.residual, activation=activations.crelu), "use skip=preact_residual"),
    "highway across widths": (
        of_mlp(skips.highway, (4, 6)),
        "goes from 4 to 6 units or changes size: choose one width",
    ),
    "highway across sizes": (
        lambda: convnet((3, 8, 8), 2, parts(2, skip=skips.highway), stages=2),
        "changes size: choose",
    ),
    "deepnorm without norm": (of_mlp(skips.deepnorm), "skip=deepnorm normalises the sum: choose norm=layer"),
    "deepnorm of weights": (of_mlp(skips.deepnorm, norm=norms.weight_norm), "skip=deepnorm normalises the sum"),
    "post with residual": (of_mlp(skips.residual, norm_position="post"), "leave model.norm_position=null"),
    "post with preact": (of_mlp(skips.preact_residual, norm_position="post"), "leave model.norm_position=null"),
}


def test_a_gate_has_a_bias_where_other_maps_have_none():
    (block,) = mlp((4,), 2, parts(1, skip=partial(skips.highway, gate_bias=-3.0)), bias=False).blocks
    assert torch.equal(block.gate.bias, torch.full_like(block.gate.bias, -3.0))
    assert all(linear.bias is None for linear in block.branch.maps)


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_one_line_that_says_what_to_change(what):
    build, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as raised:
        build()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["none", "highway", "rezero"])
def test_post_is_after_the_activation_in_whole_layers(name):
    """M φ N instead of M N φ, in the stem as in the blocks."""
    network = scrambled(mlp((3,), 2, parts(skip=getattr(skips, name), norm=norms.layer), norm_position="post"))
    layers = [network.stem[1], *(block.branch for block in network.blocks)]
    for layer, width in zip(layers, (3, WIDTH, WIDTH), strict=True):
        x = torch.randn(5, width, generator=stream(0), dtype=torch.float64)
        linear, norm = layer[0], layer[2]
        z = torch.tanh(x @ linear.weight.T + linear.bias)
        expected = functional.layer_norm(z, (WIDTH,), norm.weight, norm.bias, norm.eps)
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
