"""The transformer's encoder against torch.nn.TransformerEncoderLayer, and its embedding against the formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.transformer_encoder import Attention, FeedForward, Positions, transformer_encoder
from gradflow.rng import stream

WIDTH, HEADS, TOKENS = 8, 2, 5
IMAGE, SEQUENCE = (3, 8, 12), (TOKENS, 2)


def build(
    shape: tuple[int, ...] = SEQUENCE,
    depth: int = 2,
    width: int | tuple[int, ...] = WIDTH,
    skip: Callable = skips.residual,
    norm: Callable = norms.layer,
    activation: Callable = activations.relu,
    dropout: float = 0.0,
    **keys,
) -> Network:
    """In float64, no parameter at its starting value."""
    parts = Parts(depth, width, activation, norm, skip, dropout)
    network = transformer_encoder(shape, 4, parts, **{"heads": HEADS} | keys)
    initialize(network, initializers.glorot_uniform, stream(0, "init"))
    with torch.no_grad():
        for p in network.double().parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=stream(p.numel(), "p"), dtype=p.dtype))
    return network


def tokens(batch: int = 3) -> Tensor:
    return torch.randn(batch, TOKENS, WIDTH, generator=stream(0, "x"), dtype=torch.float64)


def only(module: nn.Module, kind: type) -> list:
    return [m for m in module.modules() if isinstance(m, kind)]


# --- one layer against torch's ----------------------------------------------------------------------------------


def correspondence(block: nn.Module, theirs: nn.TransformerEncoderLayer) -> list[tuple[Tensor, Callable]]:
    """Our parameters, each with how to find it among torch's, or among their gradients."""
    (attention,), (forward,) = only(block, Attention), only(block, FeedForward)
    first, second = only(block, norms.GroupNorm)
    pairs: list[tuple[Tensor, Callable]] = []
    for i, each in enumerate((attention.query, attention.key, attention.value)):
        rows = slice(WIDTH * i, WIDTH * (i + 1))
        pairs.append((each.weight, lambda of, rows=rows: of(theirs.self_attn.in_proj_weight)[rows]))
        pairs.append((each.bias, lambda of, rows=rows: of(theirs.self_attn.in_proj_bias)[rows]))
    for mine, other in (
        (attention.out, theirs.self_attn.out_proj),
        (forward.first, theirs.linear1),
        (forward.second, theirs.linear2),
        (first, theirs.norm1),
        (second, theirs.norm2),
    ):
        pairs.append((mine.weight, lambda of, other=other: of(other.weight)))
        pairs.append((mine.bias, lambda of, other=other: of(other.bias)))
    return pairs


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("position", ["pre", "post", None])
def test_a_block_is_torch_s_encoder_layer_with_its_gradients(position, activation):
    """Post-LN (Vaswani et al. 2017) and pre-LN (Xiong et al. 2020, figure 1), which null means."""
    network = build(norm_position=position, activation=getattr(activations, activation), expansion=3)
    block = network.blocks[1]
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 3 * WIDTH, 0.0, activation, batch_first=True, norm_first=position != "post", dtype=torch.float64
    )
    pairs = correspondence(block, theirs)
    assert sum(p.numel() for p, _ in pairs) == sum(p.numel() for p in theirs.parameters())
    assert {id(p) for p, _ in pairs} == {id(p) for p in block.parameters()}
    with torch.no_grad():
        for mine, find in pairs:
            find(lambda p: p).copy_(mine)
    x, y = tokens().requires_grad_(), tokens().requires_grad_()
    found, expected = block(x), theirs(y)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    found.pow(3).sum().backward()
    expected.pow(3).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-9)
    for mine, find in pairs:
        torch.testing.assert_close(mine.grad, find(lambda p: p.grad), rtol=1e-8, atol=1e-9)


def test_attention_is_its_equation():
    """softmax(Q Kᵀ/√d_k) V per head, heads side by side (Vaswani et al. 2017, eq. 1 and section 3.2.2)."""
    (attention, _) = only(build(depth=2), Attention)
    x = tokens(1)[0]
    q, k, v = (x @ m.weight.T + m.bias for m in (attention.query, attention.key, attention.value))
    heads = []
    for i in range(HEADS):
        at = slice(i * WIDTH // HEADS, (i + 1) * WIDTH // HEADS)
        scores = q[:, at] @ k[:, at].T / math.sqrt(WIDTH / HEADS)
        heads.append(scores.exp() / scores.exp().sum(1, keepdim=True) @ v[:, at])
    expected = torch.cat(heads, 1) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(x[None])[0], expected, rtol=1e-12, atol=1e-12)


def test_roles_of_the_maps():
    """Initialisers tell what makes queries and keys from what carries the signal."""
    (attention,) = only(build(depth=1), Attention)
    assert [m.role for m in (attention.query, attention.key, attention.value, attention.out)] == [
        "query_key",
        "query_key",
        "map",
        "map",
    ]
    assert attention.maps == (attention.value, attention.out)


def test_a_gated_feed_forward_network():
    """swiglu: silu(W₁ x) · W₂ x, then W₃ (Shazeer 2020, eq. 6); twice the pre-activations, the same hidden width."""
    (forward,) = only(build(depth=1, activation=activations.swiglu), FeedForward)
    x, hidden = tokens(), 4 * WIDTH
    assert forward.first.weight.shape == (2 * hidden, WIDTH)
    z = x @ forward.first.weight.T + forward.first.bias
    gated = functional.silu(z[..., :hidden]) * z[..., hidden:]
    expected = gated @ forward.second.weight.T + forward.second.bias
    torch.testing.assert_close(forward(x), expected, rtol=1e-12, atol=1e-12)


# --- where skips and norms go -------------------------------------------------------------------------------------


def layer_norm(x: Tensor, m: nn.Module) -> Tensor:
    return functional.layer_norm(x, (WIDTH,), m.weight, m.bias, m.eps)


# skip, position, norm: what a sub-layer s with its skip k and its norm n makes of x
SUBLAYERS: dict[str, tuple[Callable, str | None, Callable, Callable]] = {
    "none pre": (skips.none, "pre", norms.layer, lambda x, s, n, _k: s(n(x))),
    "none post": (skips.none, "post", norms.layer, lambda x, s, n, _k: n(s(x))),
    "residual none": (skips.residual, None, norms.none, lambda x, s, _n, _k: x + s(x)),
    "rezero": (skips.rezero, None, norms.none, lambda x, s, _n, k: x + k.alpha * s(x)),
    "rezero pre": (skips.rezero, "pre", norms.layer, lambda x, s, n, k: x + k.alpha * s(n(x))),
    "rezero post": (skips.rezero, "post", norms.layer, lambda x, s, n, k: n(x + k.alpha * s(x))),
    "scaled pre": (
        partial(skips.scaled_residual, shortcut_scale=0.9),
        "pre",
        norms.layer,
        lambda x, s, n, _k: 0.9 * x + s(n(x)) / math.sqrt(4),
    ),
    "deepnorm": (skips.deepnorm, None, norms.layer, lambda x, s, n, _k: n(4**0.25 * x + s(x))),
    "deepnorm post": (skips.deepnorm, "post", norms.layer, lambda x, s, n, _k: n(4**0.25 * x + s(x))),
    "highway pre": (
        skips.highway,
        "pre",
        norms.layer,
        lambda x, s, n, k: torch.sigmoid(k.gate(x)) * s(n(x)) + (1 - torch.sigmoid(k.gate(x))) * x,
    ),
    "shortcut-only gate pre": (
        partial(skips.gated_shortcut, gate="shortcut_only"),
        "pre",
        norms.layer,
        lambda x, s, n, k: s(n(x)) + (1 - torch.sigmoid(k.gate(x))) * x,
    ),
    "projection everywhere post": (
        partial(skips.residual, shortcut="projection_everywhere"),
        "post",
        norms.layer,
        lambda x, s, n, k: n(x @ k.shortcut.weight.T + k.shortcut.bias + s(x)),
    ),
}


@pytest.mark.parametrize("name", SUBLAYERS)
def test_skip_and_norm_of_each_sublayer(name):
    """Two layers have four skips, so that L = 4 in 1/√L and α = L^¼."""
    skip, position, norm, equation = SUBLAYERS[name]
    network = build(skip=skip, norm=norm, norm_position=position)
    x = found = expected = tokens()
    for block in network.blocks:
        found = block(found)
        for around in block:
            (sublayer,) = only(around, Attention | FeedForward)
            own = only(around, norms.GroupNorm)
            assert len(own) == (norm is norms.layer)
            expected = equation(expected, sublayer, lambda z, own=own: layer_norm(z, own[0]), around)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(found, x, rtol=1e-3)


@pytest.mark.parametrize(
    ("position", "skip", "norm", "normed"),
    [
        ("pre", skips.residual, norms.layer, True),
        (None, skips.residual, norms.layer, True),
        ("post", skips.residual, norms.layer, False),
        (None, skips.deepnorm, norms.layer, False),
        (None, skips.rezero, norms.none, False),
        (None, skips.residual, norms.weight_norm, False),
    ],
)
def test_the_head_is_linear_in_the_mean_token_with_one_more_norm_for_pre_ln(position, skip, norm, normed):
    """Xiong et al. 2020, table 1: LN of the last layer's output belongs to pre-LN."""
    head = build(skip=skip, norm=norm, norm_position=position).head
    x = tokens()
    final = only(head, norms.GroupNorm)
    assert len(final) == normed
    mean = (layer_norm(x, final[0]) if normed else x).mean(1)
    torch.testing.assert_close(head(x), mean @ head[-1].weight.T + head[-1].bias, rtol=1e-12, atol=1e-12)


def test_stochastic_depth_counts_both_sublayers():
    """p_l falls over the 2N skips of N layers."""
    network = build(skip=partial(skips.stochastic_depth, survival=0.6))
    assert [around.survival for block in network.blocks for around in block] == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_norms_of_weights_are_on_all_six_maps():
    network = build(norm=norms.weight_norm)
    for block in network.blocks:
        linears = only(block, nn.Linear)
        assert len(linears) == 6
        assert all(linear.reparametrization is not None for linear in linears)


def test_dropout_follows_the_activation_and_each_sublayer():
    """Vaswani et al. 2017, section 5.4, and torch's layer, but for the attention weights."""
    network = build(dropout=0.3)
    for block in network.blocks:
        assert [m.p for m in only(block, nn.Dropout)] == [0.3] * 3
        assert all(type(around.branch[-1]) is nn.Dropout for around in block)
    assert only(network.stem, nn.Dropout) == []


# --- the embedding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 4])
def test_patches_are_a_convolution_of_their_own_stride(side):
    """Row by row; a linear map of a flattened patch is a convolution whose kernel and stride are the patch."""
    stem = build(IMAGE, patch=side).stem
    x = torch.randn(2, *IMAGE, generator=stream(1), dtype=torch.float64)
    kernel = stem[1].weight.view(WIDTH, 3, side, side)
    expected = functional.conv2d(x, kernel, stem[1].bias, stride=side)
    assert expected.shape[2:] == (8 // side, 12 // side)
    torch.testing.assert_close(stem[:2](x), expected.flatten(2).transpose(1, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("count", "width"), [(5, 8), (784, 6), (3, 7)])
def test_positions_are_the_paper_s_sinusoids(count, width):
    """PE(pos, 2i) = sin(pos/10000^{2i/d}), PE(pos, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5)."""
    table = Positions(count, width)(torch.zeros(2, count, width))
    for pos in range(0, count, max(1, count // 7)):
        for feature in range(width):
            angle = pos / 10_000 ** (2 * (feature // 2) / width)
            expected = math.cos(angle) if feature % 2 else math.sin(angle)
            assert table[1, pos, feature].item() == pytest.approx(expected, abs=1e-6)


def test_sequences_are_taken_step_by_step():
    stem = build(SEQUENCE).stem
    x = torch.randn(3, *SEQUENCE, generator=stream(1), dtype=torch.float64)
    positions = Positions(TOKENS, WIDTH).table.double()
    torch.testing.assert_close(stem(x), x @ stem[0].weight.T + stem[0].bias + positions, rtol=1e-12, atol=1e-12)


def test_only_positions_tell_tokens_apart():
    """Blocks and head are invariant to the order of tokens, the whole network is not."""
    network = build(SEQUENCE)
    x = torch.randn(3, *SEQUENCE, generator=stream(1), dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    h = network.stem(x)
    rest = nn.Sequential(*network.blocks, network.head)
    torch.testing.assert_close(rest(h[:, order]), rest(h), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(network(x[:, order]), network(x), rtol=1e-3)


def test_positions_are_made_anew_and_not_saved():
    """They follow from the shape, so that a checkpoint has parameters only."""
    network = build()
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_parameter_count():
    """Attention 4(d² + d), feed-forward 2·4d² + 4d + d, two norms 4d; embedding, last norm, head."""
    d, layers = WIDTH, 3
    per_layer = 4 * (d * d + d) + 8 * d * d + 5 * d + 4 * d
    expected = layers * per_layer + (2 * d + d) + 2 * d + (4 * d + 4)
    assert sum(p.numel() for p in build(depth=layers).parameters()) == expected


# --- refusals -------------------------------------------------------------------------------------------------------

REFUSED = {
    "heads": ({"heads": 3}, "model.heads=3 does not divide width=8: choose a divisor"),
    "patch": ({"shape": IMAGE, "patch": 8}, "model.patch=8 does not divide an image of 8×12: choose a divisor"),
    "widths": ({"width": (8, 4)}, r"width=\[8, 4\]: model=transformer_encoder has one width for all blocks"),
    "number of widths": ({"width": (8, 8, 8)}, "width lists 3 numbers for depth=2 blocks"),
    "dense": ({"skip": skips.dense}, "skip=dense makes blocks wider.*use skip=residual"),
    "fixup": ({"skip": skips.fixup_scalar}, "skip=fixup_scalar is for layers of maps and activations: use skip=rezero"),
    "deepnorm alone": ({"skip": skips.deepnorm, "norm": norms.none}, "choose norm=layer"),
    "vectors": ({"shape": (8,)}, r"needs images or sequences, but an example has shape \[8\]: set task.view=image"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_one_line(what):
    keys, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as raised:
        build(**keys)
    assert "\n" not in str(raised.value)


def test_equal_widths_may_be_listed():
    assert only(build(width=(8, 8)), Attention)[0].query.weight.shape == (8, 8)
