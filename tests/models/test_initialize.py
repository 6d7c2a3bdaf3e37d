"""Filling whole networks: what stays, what a seed decides, and what LSUV, Fixup, zero_last and DeepNorm promise."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Generator, Tensor, nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.convnet import convnet
from gradflow.models.initialize import initialize, unit_variance
from gradflow.models.layers import Conv2d, Linear, effective_weight
from gradflow.models.mlp import mlp
from gradflow.models.network import InputNoise, Network
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.models.transformer_encoder import transformer_encoder
from gradflow.models.weights import Weight, weights
from gradflow.resources import conf_dir
from gradflow.rng import stream

IMAGE, OUTPUTS = (3, 8, 8), 10
MODELS = {"mlp": mlp, "convnet": convnet, "resnet": resnet, "transformer_encoder": transformer_encoder}
INITS = sorted(file.stem for file in (conf_dir() / "init").glob("*.yaml"))


def build(
    model: str,
    skip: str = "none",
    norm: str = "none",
    *,
    depth: int = 3,
    width: int = 16,
    activation: object = activations.relu,
    dropout: float = 0.0,
    **options: object,
) -> Network:
    parts = Parts(depth, width, activation, getattr(norms, norm), getattr(skips, skip), dropout)
    return MODELS[model](IMAGE, OUTPUTS, parts, **options).double()


def images(count: int = 32, seed: int = 0) -> Tensor:
    """Not centred, as data are."""
    return 2 * torch.randn(count, *IMAGE, generator=stream(seed, "images"), dtype=torch.float64) + 1


def fill(network: Network, init: str, seed: int = 0, **keys: object) -> Network:
    initialize(network, partial(getattr(initializers, init), **keys), stream(seed, "init"), activations.relu, images)
    return network


def maps(network: nn.Module) -> dict[str, Linear | Conv2d]:
    return {path: module for path, module in network.named_modules() if isinstance(module, Linear | Conv2d)}


def blocks(network: Network) -> list[skips.Block]:
    return [module for module in network.modules() if isinstance(module, skips.Block)]


# every initialiser


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("init", INITS)
def test_the_seed_decides_and_nothing_else(init, model):
    """Same generator, same network; another, other weights; torch's own generator neither read nor moved."""
    skip, norm = ("fixup_scalar", "none") if init == "fixup" and model == "resnet" else ("residual", "layer")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fill(build(model, skip, norm), init)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = (fill(build(model, skip, norm), init, seed) for seed in (0, 1))
    for (path, p), q, r in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), path
        assert p.isfinite().all()
        if p.ndim >= 2 and (p != 0).any() and init != "identity":
            assert not torch.equal(p, r), path
    shapes = [p for p in first.parameters() if p.ndim >= 2 and (p != 0).any()]
    if init != "identity":
        assert not any(torch.equal(p, q) for i, p in enumerate(shapes) for q in shapes[:i] if p.shape == q.shape)


@pytest.mark.parametrize(
    ("model", "skip", "norm"),
    [
        ("mlp", "highway", "batch"),
        ("convnet", "dense", "group"),
        ("resnet", "residual", "rms"),
        ("transformer_encoder", "deepnorm", "layer"),
        ("mlp", "rezero", "instance"),
    ],
)
@pytest.mark.parametrize("init", [name for name in INITS if name not in ("zero_last", "fixup")])
def test_biases_are_zero_and_scales_one(init, model, skip, norm):
    """A gate's bias stays −2, ReZero's α 0."""
    if (model, norm) == ("mlp", "instance"):
        model = "convnet"
    network = fill(build(model, skip, norm), init)
    seen = set()
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2:
                assert (parameter != 0).any(), path
                continue
            kind = "gate" if path.endswith("gate") else "alpha" if name == "alpha" else name
            seen.add(kind)
            expected = {"gate": -2.0, "alpha": 0.0, "bias": 0.0, "weight": 1.0}[kind]
            assert (parameter == expected).all(), f"{path}.{name}"
    assert {"bias", "weight"} <= seen


def test_mean_field_biases_of_a_network():
    """N(0, σ_b²) in stem and blocks; gates keep −2, the head 0."""
    network = fill(build("mlp", "highway", width=400), "mean_field", sigma_w2=1.5, sigma_b2=0.04)
    for path, each in maps(network).items():
        if path.endswith("gate"):
            assert (each.bias == -2).all()
        elif path.startswith("head"):
            assert (each.bias == 0).all()
        else:
            assert each.bias.std().item() == pytest.approx(0.2, rel=5 / (2 * 400) ** 0.5)


def test_an_initializer_from_elsewhere_gets_weight_and_generator():
    seen = []

    def constant(weight: Weight, generator: Generator) -> None:
        seen.append((weight.role, generator))
        weight.tensor.fill_(0.5)

    generator, linear = stream(0), Linear(3, 2)
    initialize(linear, constant, generator)
    assert linear.weight.tolist() == [[0.5] * 3] * 2
    assert linear.bias.tolist() == [0.0] * 2
    assert seen == [("block", generator)]


@pytest.mark.parametrize("init", [name for name in INITS if name != "lsuv"])
def test_only_lsuv_looks_at_data(init):
    def sample() -> Tensor:
        raise AssertionError("data were loaded")

    initialize(build("mlp"), getattr(initializers, init), stream(0, "init"), activations.relu, sample)


def test_parameters_still_learn():
    network = fill(build("mlp", "residual", "weight_norm"), "lsuv")
    network(images()).square().sum().backward()
    assert all(p.requires_grad and p.is_leaf and p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("init", ["he_normal", "orthogonal", "sparse", "lsuv", "delta_orthogonal"])
@pytest.mark.parametrize("model", MODELS)
def test_weight_norm_begins_as_the_network_without(model, init):
    """g = ‖v‖ (Salimans & Kingma 2016, section 2): same seed, same function."""
    plain, normed = (fill(build(model, "none", norm), init) for norm in ("none", "weight_norm"))
    torch.testing.assert_close(normed(images()), plain(images()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_spectral_norm_sees_the_weights_that_were_drawn(model):
    """σ₁ of what is used is 1, by an SVD, the estimate being too low by no more than 15 iterations leave."""
    network = fill(build(model, "none", "spectral"), "he_normal").eval()
    for path, each in maps(network).items():
        if each.reparametrization is not None:
            largest = torch.linalg.svdvals(effective_weight(each).flatten(1))[0]
            assert 1 - 1e-9 < largest < 1.1, path


# LSUV

LSUV_CASES = [
    (model, skip, norm)
    for model in MODELS
    for skip in ("none", "residual", "preact_residual", "highway", "deepnorm", "rezero")
    for norm in ("none", "batch", "layer", "rms", "weight_norm")
    if not (skip == "highway" and model == "resnet") and not (skip == "deepnorm" and norm in ("none", "weight_norm"))
]


def variances(network: Network, x: Tensor) -> dict[str, float]:
    """Of each map's outputs, all together, in the network's present mode."""
    found: dict[str, float] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, path=path: found.__setitem__(path, float(out.var())))
        for path, module in maps(network).items()
    ]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(("model", "skip", "norm"), LSUV_CASES)
def test_lsuv_gives_every_map_unit_variance_on_the_batch(model, skip, norm):
    """|Var − 1| ≤ 0.1 (Mishkin & Matas 2016, algorithm 1), as the network is trained: batch normalisation by the
    batch's own statistics."""
    network = fill(build(model, skip, norm), "lsuv").train()
    found = variances(network, images())
    assert len(found) == sum(1 for _ in weights(network))
    for path, variance in found.items():
        assert abs(variance - 1) <= 0.1 + 1e-9, path


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "weight_norm"])
@pytest.mark.parametrize("model", MODELS)
def test_lsuv_weights_are_orthonormal_up_to_one_factor(model, norm):
    network = fill(build(model, "residual", norm), "lsuv")
    for path, each in maps(network).items():
        matrix = effective_weight(each).detach().flatten(1)
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        scale = gram.diagonal().mean()
        torch.testing.assert_close(
            gram / scale, torch.eye(len(gram)).double(), rtol=0, atol=1e-12, msg=f"{path} is not orthonormal"
        )


def algorithm_1(network: Network, x: Tensor, tolerance: float) -> int:
    """Mishkin & Matas 2016 to the letter: layer by layer, forward passes through the network until it is within."""
    passes = 0
    for path in variances(network, x):
        for _ in range(10):
            variance = variances(network, x)[path]
            passes += 1
            if abs(variance - 1) <= tolerance:
                break
            with torch.no_grad():
                maps(network)[path].weight.div_(variance**0.5)
    return passes


@pytest.mark.parametrize("tolerance", [0.1, 1e-6])
@pytest.mark.parametrize(
    ("model", "skip", "norm"),
    [
        ("mlp", "none", "none"),
        ("mlp", "highway", "batch"),
        ("convnet", "none", "layer"),
        ("convnet", "preact_residual", "batch"),
        ("resnet", "residual", "batch"),
        ("transformer_encoder", "residual", "layer"),
        ("transformer_encoder", "highway", "none"),
    ],
)
def test_lsuv_in_one_pass_is_the_paper_s_loop(model, skip, norm, tolerance):
    ours = fill(build(model, skip, norm), "lsuv", tolerance=tolerance)
    theirs = fill(build(model, skip, norm), "orthogonal").train()
    assert algorithm_1(theirs, images(), tolerance) > len(maps(theirs))  # or there was nothing to do
    for path, each in maps(ours).items():
        torch.testing.assert_close(each.weight, maps(theirs)[path].weight, rtol=1e-9, atol=0, msg=path)


def test_lsuv_leaves_what_is_within_the_tolerance():
    network, orthogonal = fill(build("mlp"), "lsuv", tolerance=1e6), fill(build("mlp"), "orthogonal")
    for each, other in zip(network.parameters(), orthogonal.parameters(), strict=True):
        assert torch.equal(each, other)


def test_lsuv_leaves_a_map_whose_output_is_constant():
    """Nothing but zeros comes in: no division by 0."""
    network = build("mlp")
    initialize(network, initializers.lsuv, stream(0, "init"), sample=lambda: torch.zeros(4, *IMAGE))
    for each, other in zip(network.parameters(), fill(build("mlp"), "orthogonal").parameters(), strict=True):
        assert torch.equal(each, other)


def test_lsuv_takes_one_batch_and_one_forward_pass():
    network, passes, samples = build("convnet", "residual", "batch"), [], []
    network.register_forward_hook(lambda *_: passes.append(1))

    def sample() -> Tensor:
        samples.append(1)
        return images().float()  # of the network's type it is made

    initialize(network, initializers.lsuv, stream(0, "init"), sample=sample)
    assert (passes, samples) == ([1], [1])
    assert all(not module._forward_hooks for module in maps(network).values())


def noisy() -> Network:
    """All that draws random numbers or counts while training."""
    network = build("mlp", "stochastic_depth", "batch", activation=activations.rrelu, dropout=0.5, width=32)
    network.stem = nn.Sequential(InputNoise(0.5), network.stem)
    return network


def test_lsuv_draws_nothing_and_counts_nothing():
    network = noisy().train()
    network.blocks[1].eval()
    modes = [module.training for module in network.modules()]
    buffers = [buffer.clone() for buffer in network.buffers()]
    assert len(buffers) == 3 * (1 + 3)
    before = torch.get_rng_state()
    fill(network, "lsuv")
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(buffer, was) for buffer, was in zip(network.buffers(), buffers, strict=True))


def test_lsuv_tidies_up_after_a_failure():
    network = noisy().train()
    buffers = [buffer.clone() for buffer in network.buffers()]
    with pytest.raises(RuntimeError), torch.no_grad():
        unit_variance(network, torch.ones(4, 5), 0.1)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(buffer, was) for buffer, was in zip(network.buffers(), buffers, strict=True))
    assert all(not module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("model", ["mlp", "convnet", "transformer_encoder"])
def test_lsuv_keeps_a_gate_s_bias_out_of_it(model):
    """W x has variance 1 and b_T stays −2; what follows the gate, see the paper's loop above."""
    network = fill(build(model, "highway"), "lsuv", tolerance=1e-9)
    found = variances(network, images())
    gates = {path: each for path, each in maps(network).items() if each.role == "gate"}
    assert len(gates) == len(blocks(network))
    for path, each in gates.items():
        assert (each.bias == -2).all()
        assert found[path] == pytest.approx(1, abs=1e-6)


def test_lsuv_without_data_is_refused():
    with pytest.raises(ValueError, match="init=lsuv needs a batch of data"):
        initialize(build("mlp"), initializers.lsuv, stream(0, "init"))


def test_lsuv_keeps_a_deep_network_s_signal_where_orthogonal_weights_lose_it():
    """50 ReLU layers: each halves the second moment of an orthogonal network, to 2⁻⁵⁰ and less of variance."""
    lsuv, orthogonal = (fill(build("mlp", depth=50, width=64), init) for init in ("lsuv", "orthogonal"))
    assert variances(lsuv, images())["blocks.49.branch.0"] == pytest.approx(1, abs=0.1)
    assert variances(orthogonal, images())["blocks.49.branch.0"] < 1e-10


# Fixup, zero_last, DeepNorm


def pooled(network: Network, chosen: object) -> tuple[float, int]:
    """Mean of fan_in/2 · w² over all chosen weights, which for He's is 1, and how many there are."""
    values = torch.cat([(w.tensor.detach().square() * w.fan_in / 2).flatten() for w in weights(network) if chosen(w)])
    return float(values.mean()), len(values)


@pytest.mark.parametrize("depth", [3, 9, 27])
def test_fixup_of_a_resnet(depth):
    """First layers He's times L^(−1/2), m = 2; last ones and the head 0; stem He's (Zhang et al. 2019)."""
    network = fill(build("resnet", "fixup_scalar", depth=depth), "fixup")
    ratio, count = pooled(network, lambda w: w.role == "block" and not w.last)
    assert ratio == pytest.approx(1 / depth, rel=5 * (2 / count) ** 0.5)
    stem, count = pooled(network, lambda w: w.role == "stem")
    assert stem == pytest.approx(1, rel=5 * (2 / count) ** 0.5)
    assert pooled(network, lambda w: w.last)[0] == 0
    assert pooled(network, lambda w: w.role == "head")[0] == 0
    assert sum(w.last for w in weights(network)) == depth
    assert (network(images()) == 0).all()


INPUTS = {"mlp": (2, 16), "convnet": (2, 16, 4, 4), "resnet": (2, 16, 8, 8), "transformer_encoder": (2, 4, 16)}


def block_input(model: str) -> Tensor:
    return torch.randn(INPUTS[model], generator=stream(0, "block"), dtype=torch.float64)


@pytest.mark.parametrize(
    ("init", "model", "skip", "norm"),
    [
        ("fixup", "resnet", "fixup_scalar", "none"),
        ("fixup", "mlp", "fixup_scalar", "none"),
        ("fixup", "resnet", "preact_residual", "none"),
        ("zero_last", "resnet", "residual", "batch"),
        ("zero_last", "resnet", "residual", "group"),
        ("zero_last", "resnet", "residual", "none"),
        ("zero_last", "resnet", "preact_residual", "batch"),
        ("zero_last", "convnet", "residual", "layer"),
        ("zero_last", "mlp", "stochastic_depth", "batch"),
        ("zero_last", "mlp", "scaled_residual", "none"),
        ("zero_last", "transformer_encoder", "residual", "layer"),
        ("zero_last", "transformer_encoder", "residual", "none"),
    ],
)
def test_blocks_begin_as_the_identity(init, model, skip, norm):
    """φ(x + 0), which ReLU leaves as it is where x ≥ 0; with nothing after the sum, of every x. The first block, whose
    shape does not change; with an input no other has."""
    network = fill(build(model, skip, norm), init)
    x = block_input(model)
    if skip in ("residual", "stochastic_depth", "fixup_scalar") and model != "transformer_encoder":
        x = x.abs()
    assert torch.equal(network.blocks[0](x), x)
    assert not torch.equal(fill(build(model, skip, norm), "he_normal").blocks[0](x), x)


@pytest.mark.parametrize("skip", ["residual", "stochastic_depth"])
def test_zero_last_zeroes_the_last_scale_and_no_other(skip):
    """γ = 0 of each block's second norm (Goyal et al. 2017, section 5.1); all weights are He's."""
    network = fill(build("resnet", skip, "batch"), "zero_last")
    scales = {path: p for path, p in network.named_parameters() if p.ndim == 1 and path.endswith("weight")}
    zero = {path for path, p in scales.items() if (p == 0).all()}
    assert zero == {f"blocks.{i}.branch.4.weight" for i in range(3)}
    assert all((p == 1).all() for path, p in scales.items() if path not in zero)
    ratio, count = pooled(network, lambda _: True)
    assert ratio == pytest.approx(1, rel=5 * (2 / count) ** 0.5)
    assert pooled(network, lambda w: w.last)[0] == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("skip", ["scaled_shortcut", "gated_shortcut"])
def test_a_branch_that_begins_as_zero_beside_an_altered_shortcut_learns(skip):
    """The last map has a gradient at once, through the sum; so its block is no longer without a branch."""
    network = fill(build("resnet", skip, "none"), "zero_last")
    network(images(2)).square().sum().backward()
    for block in network.blocks:
        assert (block.branch.maps[-1].weight == 0).all()
        assert block.branch.maps[-1].weight.grad.abs().sum() > 0


def test_zero_last_of_pre_activated_blocks_zeroes_the_last_weight():
    network = fill(build("resnet", "preact_residual", "batch"), "zero_last")
    assert pooled(network, lambda w: w.last)[0] == 0
    scales = [p for path, p in network.named_parameters() if p.ndim == 1 and path.endswith("weight")]
    assert scales
    assert all((p == 1).all() for p in scales)
    ratio, count = pooled(network, lambda w: not w.last)
    assert ratio == pytest.approx(1, rel=5 * (2 / count) ** 0.5)


def test_zero_last_lets_every_branch_learn():
    """Only the zeros have a gradient in the branch at first; after one step all have."""
    network = fill(build("resnet", "residual", "batch"), "zero_last").train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        network(images()).square().sum().backward()
        moving = [bool((w.tensor.grad != 0).any()) for w in weights(network) if w.role == "block"]
        assert moving == [step == 1] * 6
        optimizer.step()


@pytest.mark.parametrize("layers", [1, 6, 18])
def test_deepnorm_of_an_encoder(layers):
    """xavier_normal's draws, times β = (8N)^(−1/4) for value, output and both feed-forward maps, times 1 for queries,
    keys and what is outside of the layers (Wang et al. 2022, figure 2)."""
    scaled, glorot = (
        fill(build("transformer_encoder", "deepnorm", "layer", depth=layers), init)
        for init in ("deepnorm", "glorot_normal")
    )
    seen = []
    for path, each in maps(scaled).items():
        kind = path.split(".")[-1]
        beta = (8 * layers) ** -0.25 if kind in ("value", "out", "first", "second") else 1.0
        torch.testing.assert_close(each.weight, beta * maps(glorot)[path].weight, rtol=1e-12, atol=0, msg=path)
        seen.append(kind)
    assert all(seen.count(kind) == layers for kind in ("query", "key", "value", "out", "first", "second"))


def test_an_identity_network_of_any_depth_is_linear_algebra_s():
    """blocks(x) = x, so that stem and head are all there is (Bartlett et al. 2018)."""
    network = fill(build("mlp", depth=50, activation=activations.linear), "identity")
    x = images(2)
    stem, head = network.stem(x), network.head
    torch.testing.assert_close(network(x), head(stem), rtol=0, atol=0)


@pytest.mark.parametrize("skip", ["none", "residual"])
def test_initialisers_see_the_network_they_fill(skip):
    """`branches` is counted over the whole network: 9 blocks of a ResNet, 1 for its plain twin."""
    seen = set()
    network = build("resnet", skip, depth=9)
    initialize(network, lambda weight, _: seen.add(weight.branches), stream(0))
    assert seen == {9 if skip == "residual" else 1}
    assert len(blocks(network)) == 9
