"""Initialisers against their papers' variances, torch.nn.init, and the definition of orthogonality."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initializers import initialize
from gradflow.models.layers import Linear
from gradflow.models.mlp import mlp
from gradflow.rng import stream

SHAPES = [(400, 300), (64, 1024), (32, 16, 5, 5)]
# name: variance from (fan_in, fan_out), kurtosis, torch's word for it
RANDOM = {
    "fan_in_uniform": (lambda i, _: 1 / (3 * i), 9 / 5, lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5))),
    "glorot_uniform": (lambda i, o: 2 / (i + o), 9 / 5, nn.init.xavier_uniform_),
    "glorot_normal": (lambda i, o: 2 / (i + o), 3, nn.init.xavier_normal_),
    "he_uniform": (lambda i, _: 2 / i, 9 / 5, lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu")),
    "he_normal": (lambda i, _: 2 / i, 3, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
}
SIGMAS = 5  # a chance of 6e-7 per assertion, were the seed not fixed


def fill(name: str, shape: tuple[int, ...], seed: int = 0, **options: float) -> torch.Tensor:
    weight = torch.full(shape, torch.nan, dtype=torch.float64)
    getattr(initializers, name)(weight, stream(seed, "test"), **options)
    return weight


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    positions = math.prod(shape[2:])
    return shape[1] * positions, shape[0] * positions


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", RANDOM)
def test_mean_and_variance(name, shape):
    """Within 5 standard errors: σ/√n of the mean, σ²·√((κ−1)/n) of the variance of n draws of kurtosis κ."""
    of_fans, kurtosis, _ = RANDOM[name]
    weight, expected = fill(name, shape), of_fans(*fans(shape))
    n = weight.numel()
    assert abs(weight.mean()) < SIGMAS * math.sqrt(expected / n)
    assert abs(weight.var() / expected - 1) < SIGMAS * math.sqrt((kurtosis - 1) / n)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", RANDOM)
def test_variance_of_torch(name, shape):
    """The same variance as torch.nn.init's sample, within the sampling error of both."""
    _, kurtosis, theirs = RANDOM[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = theirs(torch.empty(shape))
    ratio = fill(name, shape).var() / other.var()
    assert abs(ratio - 1) < SIGMAS * math.sqrt(2 * (kurtosis - 1) / other.numel())


@pytest.mark.parametrize("make", [lambda: nn.Linear(300, 400), lambda: nn.Conv2d(16, 32, 5)], ids=["linear", "conv"])
def test_fan_in_uniform_is_torch_s_default(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        default = make().weight.detach()
    ours = fill("fan_in_uniform", tuple(default.shape))
    assert ours.abs().max() == pytest.approx(default.abs().max().item(), rel=1e-3)
    assert ours.std() == pytest.approx(default.std().item(), rel=1e-2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [name for name, (_, kurtosis, _) in RANDOM.items() if kurtosis < 3])
def test_uniforms_fill_their_bounds(name, shape):
    bound = math.sqrt(3 * RANDOM[name][0](*fans(shape)))
    largest = fill(name, shape).abs().max()
    assert 0.999 * bound < largest <= bound


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (9, 9), (6, 4, 3, 3), (40, 4, 3, 3)], ids=str)
def test_orthogonal(shape, gain):
    """The fewer of rows and columns are orthonormal, times the gain."""
    matrix = fill("orthogonal", shape, gain=gain).flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, gain**2 * torch.eye(min(matrix.shape), dtype=gram.dtype), rtol=0, atol=1e-12)


def test_orthogonal_is_uniform_on_the_group():
    """Haar measure: each entry has mean 0 and variance 1/n; a QR without Mezzadri's signs has Q₀₀ ≤ 0 always."""
    draws = torch.stack([fill("orthogonal", (3, 3), seed) for seed in range(1000)])
    assert (draws.mean(0).abs() < SIGMAS * math.sqrt(1 / 3 / 1000)).all()
    torch.testing.assert_close(draws.square().mean(0), torch.full((3, 3), 1 / 3).double(), rtol=0, atol=0.05)


def network() -> nn.Module:
    return mlp((1, 4, 4), 10, 3, 8, activations.relu, norms.layer, skips.residual)


@pytest.mark.parametrize("name", [*RANDOM, "orthogonal"])
def test_initialize(name):
    """Same generator, same weights; another seed, others; biases stay 0, norm scales 1; torch's generator unmoved."""
    before = torch.get_rng_state()
    a, b, other = network(), network(), network()
    for each, seed in ((a, 0), (b, 0), (other, 1)):
        initialize(each, getattr(initializers, name), stream(seed, "init"))
    assert torch.equal(torch.get_rng_state(), before)
    for (path, p), q, r in zip(a.named_parameters(), b.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        if p.ndim >= 2:
            assert not torch.equal(p, r)
            assert (p != 0).any()
        else:
            assert torch.equal(p, torch.full_like(p, 1.0 if path.endswith("norm.weight") else 0.0)), path


def test_every_weight_is_drawn_anew():
    """No two blocks share their weights."""
    net = network()
    initialize(net, initializers.he_normal, stream(0, "init"))
    matrices = [block.layer.linear.weight for block in net.blocks]
    assert all(not torch.equal(matrices[i], matrices[j]) for i in range(3) for j in range(i))


def test_an_initializer_from_elsewhere_gets_weight_and_generator():
    def constant(weight: torch.Tensor, generator: torch.Generator) -> None:
        weight.fill_(0.5)

    linear = Linear(3, 2)
    initialize(linear, constant, stream(0))
    assert linear.weight.tolist() == [[0.5] * 3] * 2
    assert linear.bias.tolist() == [0.0] * 2
