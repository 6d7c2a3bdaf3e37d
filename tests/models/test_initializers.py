"""Initialisers, one weight at a time, against their papers' variances, torch.nn.init and the definitions of algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.models import activations, initializers
from gradflow.models.weights import Weight
from gradflow.resources import conf_dir
from gradflow.rng import stream

SHAPES = [(400, 300), (64, 1024), (32, 16, 5, 5)]  # tall, wide, kernel
SIGMAS = 5  # a chance of 6e-7 per assertion, were the seed not fixed
UNIFORM, NORMAL = 9 / 5, 3.0  # kurtoses
# E z⁸ − 4 κ E z⁶ + 4 κ³ − κ² for z of variance 1: n times the variance of the sample kurtosis of n draws
SPREAD_OF_KURTOSIS = {UNIFORM: 9 - 4 * 9 / 5 * 27 / 7 + 4 * (9 / 5) ** 3 - (9 / 5) ** 2, NORMAL: 24.0}

# id: name, keys, variance from (fan_in, fan_out), kurtosis
RANDOM = {
    "fan_in_uniform": ("fan_in_uniform", {}, lambda i, _: 1 / (3 * i), UNIFORM),
    "uniform": ("uniform", {}, lambda *_: 0.01 / 3, UNIFORM),
    "uniform 0.5": ("uniform", {"bound": 0.5}, lambda *_: 0.25 / 3, UNIFORM),
    "gaussian": ("gaussian", {}, lambda *_: 1e-4, NORMAL),
    "gaussian 0.3": ("gaussian", {"std": 0.3}, lambda *_: 0.09, NORMAL),
    "lecun_normal": ("lecun_normal", {}, lambda i, _: 1 / i, NORMAL),
    "glorot_uniform": ("glorot_uniform", {}, lambda i, o: 2 / (i + o), UNIFORM),
    "glorot_normal": ("glorot_normal", {}, lambda i, o: 2 / (i + o), NORMAL),
    "he_uniform": ("he_uniform", {}, lambda i, _: 2 / i, UNIFORM),
    "he_uniform out": ("he_uniform", {"fan": "out"}, lambda _, o: 2 / o, UNIFORM),
    "he_uniform gain 1": ("he_uniform", {"gain": 1.0}, lambda i, _: 1 / i, UNIFORM),
    "he_normal": ("he_normal", {}, lambda i, _: 2 / i, NORMAL),
    "he_normal out": ("he_normal", {"fan": "out"}, lambda _, o: 2 / o, NORMAL),
    "he_normal gain 0.5": ("he_normal", {"gain": 0.5}, lambda i, _: 0.25 / i, NORMAL),
    "mean_field": ("mean_field", {}, lambda i, _: 1 / i, NORMAL),
    "mean_field 1.761": ("mean_field", {"sigma_w2": 1.761, "sigma_b2": 0.05}, lambda i, _: 1.761 / i, NORMAL),
    "fixup": ("fixup", {}, lambda i, _: 2 / i, NORMAL),
    "zero_last": ("zero_last", {}, lambda i, _: 2 / i, NORMAL),
}
TORCH = {
    "fan_in_uniform": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
    "glorot_uniform": nn.init.xavier_uniform_,
    "glorot_normal": nn.init.xavier_normal_,
    "he_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "he_uniform out": lambda w: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
    "he_normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "he_normal out": lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
    "lecun_normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"),
}


def weight(shape: tuple[int, ...], **attributes: object) -> Weight:
    return Weight(torch.full(shape, torch.nan, dtype=torch.float64), **attributes)


def fill(name: str, shape: tuple[int, ...], seed: int = 0, **options: object) -> Tensor:
    each = weight(shape)
    getattr(initializers, name)(each, stream(seed, "test"), **options)
    return each.tensor


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    positions = math.prod(shape[2:])
    return shape[1] * positions, shape[0] * positions


def assert_orthonormal(matrix: Tensor, gain: float = 1.0) -> None:
    """The fewer of rows and columns."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=1e-12)


# distributions


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", RANDOM)
def test_mean_variance_and_kurtosis(case, shape):
    """Within 5 standard errors: σ/√n of the mean, σ²√((κ−1)/n) of the variance, see above of the kurtosis κ."""
    name, options, of_fans, kurtosis = RANDOM[case]
    drawn, expected = fill(name, shape, **options), of_fans(*fans(shape))
    n = drawn.numel()
    assert abs(drawn.mean()) < SIGMAS * math.sqrt(expected / n)
    assert abs(drawn.var() / expected - 1) < SIGMAS * math.sqrt((kurtosis - 1) / n)
    sample_kurtosis = drawn.pow(4).mean() / drawn.square().mean() ** 2
    assert abs(sample_kurtosis - kurtosis) < SIGMAS * math.sqrt(SPREAD_OF_KURTOSIS[kurtosis] / n)
    assert drawn.unique().numel() == n


@pytest.mark.parametrize("case", RANDOM)
def test_units_and_inputs_are_uncorrelated(case):
    """For n independent columns, a sample correlation has standard error 1/√n; 40·39/2 pairs of each kind are seen."""
    name, options, *_ = RANDOM[case]
    drawn = fill(name, (400, 400), **options)
    for rows in (drawn[:40], drawn.T[:40]):
        off = torch.corrcoef(rows) - torch.eye(40, dtype=torch.float64)
        assert off.abs().max() < 6 / math.sqrt(400)
        assert off.square().sum() / (40 * 39) == pytest.approx(1 / 400, rel=0.3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", TORCH)
def test_variance_of_torch(case, shape):
    """The same variance as torch.nn.init's sample, within the sampling error of both."""
    name, options, _, kurtosis = RANDOM[case]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = TORCH[case](torch.empty(shape))
    ratio = fill(name, shape, **options).var() / other.var()
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
@pytest.mark.parametrize("case", [case for case, (*_, kurtosis) in RANDOM.items() if kurtosis == UNIFORM])
def test_uniforms_fill_their_bounds_on_both_sides(case, shape):
    """±√3 σ; the largest of n ≥ 12,800 draws is within 1e-3 of the bound with probability 1 − e⁻⁶."""
    name, options, of_fans, _ = RANDOM[case]
    bound = math.sqrt(3 * of_fans(*fans(shape)))
    drawn = fill(name, shape, **options)
    assert 0.999 * bound < drawn.max() <= bound
    assert -bound <= drawn.min() < -0.999 * bound


# E φ(z)² for z ~ N(0, 1): He et al. 2015, eq. 15, and adaptive quadrature (tanh: 0.39429, GELU: 0.42522)
SQUARES = {
    "linear": (activations.linear, 1.0),
    "relu": (activations.relu, 0.5),
    "leaky_relu": (lambda: activations.leaky_relu(slope=0.3), (1 + 0.09) / 2),
    "tanh": (activations.tanh, 0.394294490398),
    "gelu": (activations.gelu, 0.425221482570),
    "selu": (activations.selu, 1.0),
}


@pytest.mark.parametrize("name", ["he_normal", "he_uniform", "orthogonal", "delta_orthogonal"])
@pytest.mark.parametrize("activation", SQUARES)
def test_gain_of_the_activation_is_a_factor(name, activation):
    """'activation' draws what gain=1/√E φ² draws."""
    make, square = SQUARES[activation]
    ours = weight((32, 16, 3, 3), activation=make)
    getattr(initializers, name)(ours, stream(0, "test"), gain="activation")
    unit = fill(name, (32, 16, 3, 3), gain=1.0)
    torch.testing.assert_close(ours.tensor, unit / math.sqrt(square), rtol=1e-10, atol=0)


# biases


def with_bias(role: str = "block", bias: float = 0.0, units: int = 5000) -> Weight:
    return weight((units, 4), bias=torch.full((units,), bias, dtype=torch.float64), role=role)


@pytest.mark.parametrize("role", ["stem", "block"])
def test_mean_field_biases(role):
    """N(0, σ_b²), independent of the weights (Schoenholz et al. 2017, section 2)."""
    each = with_bias(role)
    initializers.mean_field(each, stream(0, "test"), sigma_w2=2.0, sigma_b2=0.05)
    n = each.bias.numel()
    assert abs(each.bias.mean()) < SIGMAS * math.sqrt(0.05 / n)
    assert abs(each.bias.var() / 0.05 - 1) < SIGMAS * math.sqrt(2 / n)
    assert torch.corrcoef(torch.stack([each.bias, *each.tensor.T]))[0, 1:].abs().max() < SIGMAS / math.sqrt(n)


@pytest.mark.parametrize("role", ["gate", "head", "query_key", "shortcut"])
def test_mean_field_leaves_other_biases(role):
    each = with_bias(role, bias=-2.0)
    initializers.mean_field(each, stream(0, "test"), sigma_b2=0.05)
    assert torch.equal(each.bias, torch.full_like(each.bias, -2.0))
    assert each.tensor.isfinite().all()


def test_mean_field_without_biases():
    """σ_b² = 0 leaves them, and a map may have none."""
    each = with_bias(bias=0.0)
    initializers.mean_field(each, stream(0, "test"), sigma_b2=0.0)
    assert torch.equal(each.bias, torch.zeros_like(each.bias))
    bare = weight((5000, 4))
    initializers.mean_field(bare, stream(0, "test"), sigma_b2=0.05)
    assert torch.equal(bare.tensor, each.tensor)


WORDS = sorted(file.stem for file in (conf_dir() / "init").glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in WORDS if name != "mean_field"])
@pytest.mark.parametrize("role", ["stem", "block", "query_key", "gate", "shortcut", "head"])
def test_all_others_leave_biases(name, role):
    each = with_bias(role, bias=-2.0, units=8)
    getattr(initializers, name)(each, stream(0, "test"))
    assert torch.equal(each.bias, torch.full_like(each.bias, -2.0))
    assert each.tensor.isfinite().all()


# orthogonality


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
@pytest.mark.parametrize("shape", [(20, 7), (7, 20), (9, 9), (1, 5), (5, 1), (6, 4, 3, 3), (40, 4, 3, 3)], ids=str)
@pytest.mark.parametrize("name", ["orthogonal", "lsuv"])
def test_orthogonal(name, shape, gain):
    """The fewer of rows and columns of [units, fan_in] are orthonormal, times the gain (Saxe et al. 2014)."""
    if name == "lsuv":
        assert_orthonormal(fill(name, shape).flatten(1))
    else:
        assert_orthonormal(fill(name, shape, gain=gain).flatten(1), gain)


def test_orthogonal_is_uniform_on_the_group():
    """Haar measure: each entry has mean 0 and variance 1/n, and det = ±1 equally often; a QR without Mezzadri's signs
    has Q₀₀ ≤ 0 always."""
    draws = torch.stack([fill("orthogonal", (3, 3), seed) for seed in range(1000)])
    assert (draws.mean(0).abs() < SIGMAS * math.sqrt(1 / 3 / 1000)).all()
    torch.testing.assert_close(draws.square().mean(0), torch.full((3, 3), 1 / 3).double(), rtol=0, atol=0.05)
    assert abs(torch.linalg.det(draws).mean()) < SIGMAS / math.sqrt(1000)
    # E tr(Q)² = 1 and E Q₀₀⁴ = 3/(n(n+2)) on O(n)
    assert draws.diagonal(dim1=1, dim2=2).sum(1).square().mean() == pytest.approx(1, abs=0.25)
    assert draws[:, 0, 0].pow(4).mean() == pytest.approx(3 / 15, abs=0.04)


CHANNELS = [(8, 8), (12, 5), (5, 12), (1, 4), (4, 1)]


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (3, 5), (3,), (3, 3, 3)], ids=str)
@pytest.mark.parametrize("channels", CHANNELS, ids=str)
def test_delta_orthogonal_is_orthogonal_at_the_centre_and_zero_around_it(channels, kernel):
    """Xiao et al. 2018, algorithm 1 and eq. 9: K[β] = 0 except at β = 0."""
    drawn = fill("delta_orthogonal", (*channels, *kernel), gain=1.5)
    middle = tuple(size // 2 for size in kernel)
    assert_orthonormal(drawn[(slice(None), slice(None), *middle)], 1.5)
    rest = drawn.clone()
    rest[(slice(None), slice(None), *middle)] = 0
    assert (rest == 0).all()


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5)], ids=str)
def test_delta_orthogonal_of_a_matrix_is_orthogonal(shape):
    assert torch.equal(fill("delta_orthogonal", shape), fill("orthogonal", shape))


def convolved(kernel: Tensor, image: Tensor) -> Tensor:
    """With circular padding, by definition: Σ_β K[β] x[α + β], one shift for each position of the kernel."""
    out = torch.zeros(image.shape[0], kernel.shape[0], *image.shape[2:], dtype=image.dtype)
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            moved = torch.roll(image, (kernel.shape[2] // 2 - i, kernel.shape[3] // 2 - j), (2, 3))
            out += torch.einsum("oc,bchw->bohw", kernel[:, :, i, j], moved)
    return out


@pytest.mark.parametrize("channels", [(8, 8), (12, 8)], ids=str)
def test_delta_orthogonal_convolution_keeps_the_norm_of_every_image(channels):
    """Xiao et al. 2018, section 3.1: with no fewer channels out than in ‖K ∗ x‖ = ‖x‖, at every position; an orthogonal
    matrix [units, fan_in] as a kernel does not."""
    image = torch.randn(3, channels[1], 7, 6, generator=stream(0, "image"), dtype=torch.float64)
    out = convolved(fill("delta_orthogonal", (*channels, 3, 3)), image)
    torch.testing.assert_close(out.norm(dim=1), image.norm(dim=1), rtol=1e-12, atol=0)
    matrix = fill("orthogonal", (*channels, 3, 3))
    theirs = functional.conv2d(functional.pad(image, (1, 1, 1, 1), "circular"), matrix)
    other = convolved(matrix, image)
    torch.testing.assert_close(theirs, other, rtol=1e-12, atol=1e-12)
    assert ((other.flatten(1).norm(dim=1) / image.flatten(1).norm(dim=1) - 1).abs() > 0.01).all()


def test_delta_orthogonal_convolution_to_fewer_channels_projects():
    """Rows are orthonormal: K ∗ (Kᵀ ∗ y) = y, and no image becomes longer."""
    kernel = fill("delta_orthogonal", (5, 12, 3, 3))
    y = torch.randn(2, 5, 4, 4, generator=stream(0, "y"), dtype=torch.float64)
    torch.testing.assert_close(convolved(kernel, convolved(kernel.transpose(0, 1), y)), y, rtol=0, atol=1e-12)
    x = torch.randn(2, 12, 4, 4, generator=stream(0, "x"), dtype=torch.float64)
    assert (convolved(kernel, x).norm(dim=1) < x.norm(dim=1)).all()


# identity


@pytest.mark.parametrize("role", ["block", "query_key", "gate", "shortcut"])
@pytest.mark.parametrize("gain", [1.0, 0.9])
@pytest.mark.parametrize("shape", [(4, 4), (6, 4), (4, 6)], ids=str)
def test_identity_on_rectangles(shape, gain, role):
    """As much of gain · I as fits: what goes in comes out, cut off or filled up with zeros."""
    each = weight(shape, role=role)
    initializers.identity(each, stream(0, "test"), gain=gain)
    x = torch.arange(1.0, shape[1] + 1, dtype=torch.float64)
    expected = [gain * (j + 1) if j < shape[1] else 0.0 for j in range(shape[0])]
    assert (each.tensor @ x).tolist() == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 1)], ids=str)
def test_identity_convolution_gives_the_image_back(kernel):
    image = torch.randn(2, 4, 6, 6, generator=stream(0, "image"), dtype=torch.float64)
    assert torch.equal(convolved(fill("identity", (4, 4, *kernel)), image), image)


@pytest.mark.parametrize("role", ["stem", "head"])
def test_identity_fills_stem_and_head_like_glorot(role):
    each = weight((300, 400), role=role)
    initializers.identity(each, stream(0, "test"), gain=0.5)
    assert torch.equal(each.tensor, fill("glorot_uniform", (300, 400)))


# sparse


@pytest.mark.parametrize(("shape", "k"), [((400, 300), 15), ((64, 1024), 15), ((32, 16, 5, 5), 7), ((50, 9), 1)])
def test_sparse_has_exactly_k_connections_per_unit(shape, k):
    """Martens 2010, section 5; k = 15 unless given."""
    drawn = fill("sparse", shape) if k == 15 else fill("sparse", shape, connections=k)
    assert ((drawn != 0).flatten(1).sum(1) == k).all()


def test_sparse_is_dense_where_there_are_fewer_inputs():
    assert (fill("sparse", (500, 9)) != 0).all()
    assert (fill("sparse", (500, 15)) != 0).all()
    assert ((fill("sparse", (500, 16)) != 0).sum(1) == 15).all()


def test_sparse_chooses_every_set_of_inputs_equally_often():
    """3 of 6: each of 20 sets for 1/20 of the units; χ² with 19 degrees of freedom exceeds 56 with p = 1.6e-5."""
    chosen = fill("sparse", (20_000, 6), connections=3) != 0
    codes = (chosen.long() * 2 ** torch.arange(6)).sum(1)
    counts = codes.bincount(minlength=64)
    counts = counts[counts > 0]
    assert len(counts) == 20
    assert ((counts - 1000) ** 2 / 1000).sum() < 56


@pytest.mark.parametrize("std", [1.0, 0.2])
def test_sparse_values_are_gaussian(std):
    """N(0, σ²) (Sutskever et al. 2013, section 3.1)."""
    drawn = fill("sparse", (4000, 100), **({} if std == 1 else {"std": std}))
    values = drawn[drawn != 0]
    n = values.numel()
    assert n == 60_000
    assert abs(values.mean()) < SIGMAS * std / math.sqrt(n)
    assert abs(values.var() / std**2 - 1) < SIGMAS * math.sqrt(2 / n)
    assert abs(values.pow(4).mean() / std**4 - 3) < SIGMAS * math.sqrt(96 / n)  # Var z⁴ = 105 − 9


def test_a_unit_s_sparse_input_has_a_variance_that_does_not_depend_on_fan_in():
    """k σ² E x², whatever the number of inputs: Martens' reason."""
    for width in (20, 100, 1000):
        x = torch.randn(width, generator=stream(width, "x"), dtype=torch.float64).sign()
        z = fill("sparse", (4000, width)) @ x
        assert z.var() == pytest.approx(15, rel=SIGMAS * math.sqrt(2 / 4000))


# what papers do by place


@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("branches", [1, 9, 54])
def test_fixup_scales_the_first_layers_of_branches(branches, layers):
    """L^(−1/(2m−2)) (Zhang et al. 2019, rule 2): for m = 2 it is L^(−1/2)."""
    inside = weight((30, 20, 3, 3), branches=branches, layers=layers)
    initializers.fixup(inside, stream(0, "test"))
    expected = fill("he_normal", (30, 20, 3, 3)) * branches ** (-1 / (2 * layers - 2))
    torch.testing.assert_close(inside.tensor, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("role", ["stem", "gate", "shortcut"])
def test_fixup_is_he_s_outside_of_branches(role):
    """Rule 2 scales "only the weight layers inside residual branches"."""
    outside = weight((30, 20), role=role, branches=9)
    initializers.fixup(outside, stream(0, "test"))
    assert torch.equal(outside.tensor, fill("he_normal", (30, 20)))


@pytest.mark.parametrize("attributes", [{"role": "head"}, {"last": True, "layers": 2}, {"last": True}], ids=str)
def test_fixup_zeroes_the_last_layer_of_a_branch_and_the_head(attributes):
    """Rule 1; a branch of one layer (m = 1), for which rule 2 has no number, is zero altogether."""
    each = weight((30, 20), branches=9, **attributes)
    initializers.fixup(each, stream(0, "test"))
    assert (each.tensor == 0).all()


def test_zero_last_zeroes_the_norm_s_scale_where_there_is_one():
    """Goyal et al. 2017, section 5.1: γ = 0; the weight before it stays He's."""
    gamma = torch.ones(30)
    each = weight((30, 20), last=True, scale=gamma)
    initializers.zero_last(each, stream(0, "test"))
    assert (gamma == 0).all()
    assert torch.equal(each.tensor, fill("he_normal", (30, 20)))


def test_zero_last_zeroes_the_last_weight_otherwise_and_no_other():
    last, head = weight((30, 20), last=True), weight((30, 20), role="head")
    for each in (last, head):
        initializers.zero_last(each, stream(0, "test"))
    assert (last.tensor == 0).all()
    assert torch.equal(head.tensor, fill("he_normal", (30, 20)))


@pytest.mark.parametrize("layers", [1, 6, 100])
def test_deepnorm_scales_what_carries_the_signal(layers):
    """β = (8N)^(−1/4) times xavier_normal for N encoder layers, 2N branches (Wang et al. 2022, figure 2); queries and
    keys, and all outside of branches, have gain 1."""
    glorot = fill("glorot_normal", (30, 20))
    for role, beta in {"block": (8 * layers) ** -0.25, "query_key": 1, "stem": 1, "head": 1}.items():
        each = weight((30, 20), role=role, branches=2 * layers)
        initializers.deepnorm(each, stream(0, "test"))
        torch.testing.assert_close(each.tensor, beta * glorot, rtol=1e-14, atol=0)


# generators


@pytest.mark.parametrize("name", WORDS)
def test_the_generator_decides_and_nothing_else(name):
    """Same stream, same weights; another, others; torch's own generator is neither read nor moved."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fill(name, (6, 5, 3, 3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(fill(name, (6, 5, 3, 3)), first)
    if name != "identity":
        assert not torch.equal(fill(name, (6, 5, 3, 3), seed=1), first)
    assert first.isfinite().all()


@pytest.mark.parametrize("name", [name for name in WORDS if name != "identity"])
def test_the_next_weight_from_the_same_generator_is_another(name):
    generator, drawn = stream(0, "test"), [weight((6, 5)), weight((6, 5))]
    for each in drawn:
        getattr(initializers, name)(each, generator)
    assert not torch.equal(drawn[0].tensor, drawn[1].tensor)


@pytest.mark.parametrize("name", ["orthogonal", "delta_orthogonal", "lsuv"])
def test_orthogonality_does_not_suffer_from_float32(name):
    """Drawn in float64 and rounded once: each of n products of a Gram entry is off by 2⁻²⁴ relative at most."""
    each = Weight(torch.empty(64, 64))
    getattr(initializers, name)(each, stream(0, "test"))
    gram = each.tensor.double() @ each.tensor.double().T
    assert (gram - torch.eye(64)).abs().max() < 2 * 2**-24
    exact = fill(name, (64, 64))
    assert np.array_equal(each.tensor.numpy(), exact.float().numpy())
