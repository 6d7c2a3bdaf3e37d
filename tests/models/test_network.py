"""What all models have in common: stem, blocks and head, and that building them draws nothing."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.convnet import convnet
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.network import InputNoise, Network
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.models.transformer_encoder import transformer_encoder
from gradflow.rng import stream

SHAPE = (2, 8, 8)
MODELS = {"mlp": mlp, "convnet": convnet, "resnet": resnet, "transformer_encoder": transformer_encoder}
NORMS = ["none", "batch", "layer", "group", "rms", "weight_norm", "spectral", "scaled_weight_standardization"]
SKIPS = ["none", "residual", "preact_residual", "scaled_residual", "rezero", "skipinit", "fixup_scalar"]
SKIPS += ["highway", "dense", "stochastic_depth", "deepnorm", "scaled_shortcut", "gated_shortcut"]
REFUSED = {("resnet", "highway"), ("transformer_encoder", "dense"), ("transformer_encoder", "fixup_scalar")}
BUILT = [(model, skip) for model in MODELS for skip in SKIPS if (model, skip) not in REFUSED]


def build(model: str, skip: str = "none", norm: str = "layer", **drop: float) -> Network:
    parts = Parts(3, 16, activations.relu, getattr(norms, norm), getattr(skips, skip), **drop)
    return MODELS[model](SHAPE, 5, parts)


def inputs(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=stream(0, "x"))


def initialized(*chosen: str, **drop: float) -> Network:
    network = build(*chosen, **drop)
    initialize(network, initializers.he_normal, stream(0, "init"))
    return network


@pytest.mark.parametrize(("model", "skip"), BUILT)
def test_building_and_initialising_draw_nothing_from_torch_s_generator(model, skip):
    before = torch.get_rng_state()
    for norm in NORMS if skip != "deepnorm" else ["batch", "layer", "group", "rms"]:
        initialized(model, skip, norm)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("model", "skip"), BUILT)
def test_has_its_blocks_and_its_outputs(model, skip):
    """`depth` blocks in order, each called once; every parameter reaches the output."""
    network = initialized(model, skip)
    called: list[nn.Module] = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, *_: called.append(module))
    out = network.eval()(inputs())
    assert out.shape == (4, 5)
    assert called == list(network.blocks)
    assert len(called) == 3
    out.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_forward_is_head_of_blocks_of_stem():
    stem, blocks, head = nn.Linear(3, 4), [nn.Linear(4, 4), nn.Tanh()], nn.Linear(4, 2)
    x = torch.randn(5, 3, generator=stream(0))
    assert torch.equal(Network(stem, blocks, head)(x), head(torch.tanh(blocks[0](stem(x)))))
    assert torch.equal(Network(stem, [], head)(x), head(stem(x)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("training", [True, False])
def test_forward_writes_nothing_but_running_statistics_and_draws_nothing(model, norm, training):
    network = initialized(model, "none", norm).train(training)
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    network(inputs())
    assert torch.equal(torch.get_rng_state(), random)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    kept = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert bool(kept) == (norm == "batch")
    assert changed == (kept if training else set())


@pytest.mark.parametrize("skip", ["none", "preact_residual", "rezero"])
@pytest.mark.parametrize("model", ["mlp", "convnet", "resnet"])
def test_dropout_comes_right_after_the_activations(model, skip):
    """Of stem and branches (Srivastava et al. 2014, section 4): M N φ drop M N φ drop …"""
    with_it, without = build(model, skip, dropout=0.25), build(model, skip)
    branches = [block.branch for block in with_it.blocks]
    if skip != "preact_residual":
        branches.append(next(m for m in with_it.stem.modules() if type(m).__name__ == "Branch"))
    for branch in branches:
        kinds = [type(module).__name__ for module in branch]
        after = [kinds[i + 1] for i, kind in enumerate(kinds) if kind == "Elementwise"]
        assert after == ["Dropout"] * kinds.count("Dropout")
        assert after
    assert not any(isinstance(m, nn.Dropout) for m in without.modules())


@pytest.mark.parametrize(("key", "kind"), [("dropout", nn.Dropout), ("alpha_dropout", nn.AlphaDropout)])
@pytest.mark.parametrize("model", MODELS)
def test_dropout_is_absent_at_evaluation(model, key, kind):
    """The evaluated network is the one without; in training its outputs are random."""
    network, without = initialized(model, "none", **{key: 0.25}), build(model)
    assert all(m.p == 0.25 for m in network.modules() if isinstance(m, kind))
    named = dict(zip(without.state_dict(), network.state_dict().values(), strict=True))
    without.load_state_dict(named)
    x = inputs()
    before = torch.get_rng_state()
    torch.testing.assert_close(network.eval()(x), without.eval()(x), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.allclose(network.train()(x), network(x), atol=1e-3)


def test_a_layer_with_dropout_drops_its_share():
    """And makes up for it: of 40,000 units a quarter is 0, the others are 4/3 of what they were."""
    layer = initialized("mlp", dropout=0.25).blocks[0].branch
    x = torch.randn(2500, 16, generator=stream(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropped = layer(x)
    whole = layer.eval()(x)
    alive = whole != 0
    kept = dropped[alive] != 0
    n, p = int(alive.sum()), 0.75
    assert n > 10_000
    assert abs(kept.float().mean() - p) < 5 * math.sqrt(p * (1 - p) / n)
    torch.testing.assert_close(dropped[alive][kept], whole[alive][kept] / p)


def test_alpha_dropout_keeps_selu_s_fixed_point():
    """Klambauer et al. 2017, section 3: mean 0 and variance 1 within 5 standard errors, which dropout does not."""
    parts = Parts(1, 8, activations.selu, norms.none, skips.none, alpha_dropout=0.1)
    other = Parts(1, 8, activations.selu, norms.none, skips.none, dropout=0.1)
    x = activations.selu()(torch.randn(400_000, generator=stream(0)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept, moved = parts.drop()(x), other.drop()(x)
    error = 5 / math.sqrt(len(x))
    assert abs(kept.mean()) < error
    assert abs(kept.var() - 1) < 3 * error
    assert abs(moved.var() - 1 / 0.9) < 3 * error


def test_input_noise():
    """x + N(0, σ²) in training: mean 0 and variance σ² within 5 standard errors; nothing at evaluation."""
    noise, x = InputNoise(0.3), torch.full((200_000,), 2.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        added = noise(x) - x
    assert abs(added.mean()) < 5 * 0.3 / math.sqrt(len(x))
    assert abs(added.var() / 0.3**2 - 1) < 5 * math.sqrt(2 / len(x))
    assert noise.eval()(x) is x
