"""Activations against formulas in `math`, torch.nn, finite differences, sampling and their papers' numbers."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from functools import partial
from itertools import pairwise
from typing import get_type_hints

import pytest
import torch
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError
from scipy import integrate
from torch import nn

from gradflow.models import activations
from gradflow.models.activation import Activation
from gradflow.resources import conf_dir

SIGMAS = 5  # a chance of 6e-7 per assertion, were the seed not fixed
POINTS = [-40.0, -7.0, -2.5, -0.5, -0.01, 0.02, 0.25, 1.0, 2.0, 5.0, 7.5, 40.0]
LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017


def sigma(z):
    return 1 / (1 + math.exp(-z))


def sigma_slope(z):
    return 1 / (2 + math.exp(z) + math.exp(-z))


def leaky(slope):
    return lambda z: z if z > 0 else slope * z, lambda z: 1.0 if z > 0 else slope


def exponential(scale, alpha, length=1.0):
    """scale·z above 0, scale·alpha·(exp(z/length) − 1) below."""
    return (
        lambda z: scale * z if z > 0 else scale * alpha * math.expm1(z / length),
        lambda z: scale if z > 0 else scale * alpha / length * math.exp(z / length),
    )


def normal_distribution(z):
    return math.erfc(-z / math.sqrt(2)) / 2


def normal_density(z):
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def gelu_tanh(z):
    u = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
    return z * sigma(2 * u) if u > -300 else 0.0  # (1 + tanh u)/2 = σ(2u)


def gelu_tanh_slope(z):
    u = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
    if abs(u) > 300:
        return float(u > 0)
    return sigma(2 * u) + z * 2 * sigma_slope(2 * u) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)


def softplus(z):
    return max(z, 0) + math.log1p(math.exp(-abs(z)))


# name and keys: φ, φ′
FORMULAS = {
    ("linear",): (lambda z: z, lambda _: 1.0),
    ("sigmoid",): (sigma, sigma_slope),
    ("hard_sigmoid",): (lambda z: min(max(z / 6 + 0.5, 0), 1), lambda z: float(abs(z) < 3) / 6),
    ("tanh",): (math.tanh, lambda z: 1 / math.cosh(z) ** 2),
    ("softsign",): (lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    ("softplus",): (softplus, sigma),
    ("relu",): leaky(0.0),
    ("leaky_relu",): leaky(0.01),
    ("leaky_relu", ("slope", 0.3)): leaky(0.3),
    ("leaky_relu", ("slope", 2)): leaky(2),
    ("prelu",): leaky(0.25),
    ("prelu", ("slope", 0)): leaky(0.0),
    ("rrelu",): leaky((1 / 8 + 1 / 3) / 2),  # not training
    ("rrelu", ("lower", 0), ("upper", 2)): leaky(1.0),
    ("elu",): exponential(1.0, 1.0),
    ("elu", ("alpha", 2)): exponential(1.0, 2.0),
    ("elu", ("alpha", 0.5)): exponential(1.0, 0.5),
    ("selu",): exponential(LAMBDA, ALPHA),
    ("celu",): exponential(1.0, 1.0),
    ("celu", ("alpha", 2)): exponential(1.0, 2.0, length=2.0),
    ("gelu",): (
        lambda z: z * normal_distribution(z),
        lambda z: normal_distribution(z) + z * normal_density(z),
    ),
    ("gelu", ("approximate", True)): (gelu_tanh, gelu_tanh_slope),
    ("silu",): (lambda z: z * sigma(z), lambda z: sigma(z) + z * sigma_slope(z)),
    ("mish",): (
        lambda z: z * math.tanh(softplus(z)),
        lambda z: math.tanh(softplus(z)) + z * sigma(z) / math.cosh(softplus(z)) ** 2,
    ),
    ("relu6",): (lambda z: min(max(z, 0), 6), lambda z: float(0 < z < 6)),
    ("squared_relu",): (lambda z: max(z, 0) ** 2, lambda z: 2 * max(z, 0)),
}
KINKS = {  # apart from 0
    "hard_sigmoid": (-3.0, 3.0),
    "relu6": (6.0,),
}
SEVERAL = [("crelu",), ("maxout",), ("maxout", ("pieces", 3)), ("swiglu",)]
ALL = [*FORMULAS, *SEVERAL]
TORCH = {
    ("sigmoid",): nn.Sigmoid(),
    ("hard_sigmoid",): nn.Hardsigmoid(),
    ("tanh",): nn.Tanh(),
    ("softsign",): nn.Softsign(),
    ("softplus",): nn.Softplus(threshold=700),
    ("relu",): nn.ReLU(),
    ("leaky_relu",): nn.LeakyReLU(),
    ("prelu",): nn.PReLU(),
    ("rrelu",): nn.RReLU().eval(),
    ("elu",): nn.ELU(),
    ("selu",): nn.SELU(),
    ("celu",): nn.CELU(),
    ("gelu",): nn.GELU(),
    ("gelu", ("approximate", True)): nn.GELU(approximate="tanh"),
    ("silu",): nn.SiLU(),
    ("mish",): nn.Mish(),
    ("relu6",): nn.ReLU6(),
}


def word(case):
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1:])])


each = partial(pytest.mark.parametrize, "case", ids=word)


def make(case) -> Activation:
    activation = getattr(activations, case[0])(**dict(case[1:])).double().eval()
    assert isinstance(activation, Activation)
    return activation


def value_and_slope(case, z):
    z = z.clone().requires_grad_()
    value = make(case)(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), slope


def sample(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_every_definition_has_a_file_and_is_tested_here():
    defined = {
        name
        for name, made in inspect.getmembers(activations, inspect.isfunction)
        if made.__module__ == activations.__name__ and not name.startswith("_")
    }
    assert defined == {file.stem for file in (conf_dir() / "activation").glob("*.yaml")} == {case[0] for case in ALL}


@pytest.mark.parametrize("name", sorted({case[0] for case in ALL}))
def test_a_file_names_every_key_with_its_default(name):
    node = OmegaConf.to_container(OmegaConf.load(conf_dir() / "activation" / f"{name}.yaml"))
    assert node.pop("_target_") == f"gradflow.models.activations.{name}"
    parameters = inspect.signature(getattr(activations, name)).parameters.values()
    assert {key: (value, type(value)) for key, value in node.items()} == {
        p.name: (p.default, type(p.default)) for p in parameters
    }
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)


@pytest.mark.parametrize(
    ("name", "key", "possible", "impossible"),
    [
        ("leaky_relu", "slope", [0, 0.2, 3.0], [-0.1, math.inf, math.nan, "abc"]),
        ("prelu", "slope", [0, 0.25], [-1]),
        ("rrelu", "lower", [0, 0.1], [-0.1]),
        ("elu", "alpha", [0.5, 2], [0, -1.0]),
        ("celu", "alpha", [0.5, 2], [0, -1.0]),
        ("gelu", "approximate", [True], ["tanh", 1]),
        ("maxout", "pieces", [2, 5], [1, 2.5, "two"]),
    ],
)
def test_the_hints_say_which_values_are_possible(name, key, possible, impossible):
    check = TypeAdapter(get_type_hints(getattr(activations, name), include_extras=True)[key]).validate_python
    assert [check(value, strict=True) for value in possible] == possible
    for value in impossible:
        with pytest.raises(ValidationError):
            check(value, strict=True)


@each(FORMULAS)
def test_value_and_slope(case):
    """To 14 digits; what a sum of larger numbers leaves (z·Φ(z) far out on the left …) to the rounding of 1."""
    z = torch.tensor(POINTS, dtype=torch.float64).reshape(3, 4)
    for found, formula in zip(value_and_slope(case, z), FORMULAS[case], strict=True):
        torch.testing.assert_close(found, z.clone().apply_(formula), rtol=1e-14, atol=1e-15)


@each(FORMULAS)
def test_slope_is_that_of_finite_differences(case):
    """Central, with h = 1e-5: an error of h²φ‴/6 + ε|φ|/h, below 1e-9; not where a kink is between the two."""
    step = 1e-5
    z = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    for kink in (0.0, *KINKS.get(case[0], ())):
        z = z[(z - kink).abs() > 2 * step]
    difference = (value_and_slope(case, z + step)[0] - value_and_slope(case, z - step)[0]) / (2 * step)
    torch.testing.assert_close(value_and_slope(case, z)[1], difference, rtol=0, atol=1e-9)


@each(TORCH)
def test_the_same_as_torch_s(case):
    z = sample(2, 3, 4, 5).mul(4).requires_grad_()
    theirs = TORCH[case].double()(z)
    (slope,) = torch.autograd.grad(theirs.sum(), z)
    tolerance = 6e-8 if case == ("hard_sigmoid",) else 1e-15  # torch's derivative is 1/6 in float32
    for found, expected in zip(value_and_slope(case, z.detach()), (theirs, slope), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=1e-15)


@each(FORMULAS)
def test_derivative_bound(case):
    """Never exceeded, and reached to the grid's 1e-4: a supremum at 0⁻ is approached, not attained."""
    activation = make(case).train()
    z = torch.linspace(-40, 40, 800_001, dtype=torch.float64, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (slope,) = torch.autograd.grad(activation(z).sum(), z)
    steepest, bound = slope.abs().max().item(), activation.derivative_bound
    if math.isinf(bound):
        assert case[0] == "squared_relu"
        assert steepest == 80  # 2z at the end of the grid
    else:
        assert bound * (1 - 1.01e-4) <= steepest <= bound * (1 + 1e-14)


@pytest.mark.parametrize(("name", "digits"), [("gelu", 1.12890), ("silu", 1.09984), ("mish", 1.08850)])
def test_smooth_bounds_are_attained_inside(name, digits):
    z = torch.linspace(1, 3, 2_000_001, dtype=torch.float64)
    steepest = value_and_slope((name,), z)[1].max().item()
    assert steepest == pytest.approx(getattr(activations, name)().derivative_bound, rel=1e-12)
    assert steepest == pytest.approx(digits, abs=5e-6)


def test_derivative_bounds_of_several_inputs():
    """One of CReLU's and of maxout's derivatives is ±1; a SwiGLU's grows with its gate."""
    for name in ("crelu", "maxout"):
        jacobian = torch.autograd.functional.jacobian(make((name,)), sample(8))
        assert jacobian.abs().max() == 1 == make((name,)).derivative_bound
    jacobian = torch.autograd.functional.jacobian(make(("swiglu",)), torch.tensor([1.0, 1000.0]))
    assert jacobian.max() > 900
    assert make(("swiglu",)).derivative_bound == math.inf


@pytest.mark.parametrize("shape", [(2, 12), (2, 3, 12), (2, 12, 3, 5)], ids=["vectors", "tokens", "images"])
def test_several_inputs_lie_on_the_feature_axis(shape):
    """Each example's, token's and pixel's features against the formula written with slices and `math`."""
    z = sample(*shape)
    axis = 1 if len(shape) == 4 else -1
    rows = z.movedim(axis, -1)
    expected = {
        ("crelu",): torch.cat([rows.clamp_min(0), (-rows).clamp_min(0)], -1),
        ("maxout",): rows[..., :6].maximum(rows[..., 6:]),
        ("maxout", ("pieces", 3)): rows[..., :4].maximum(rows[..., 4:8]).maximum(rows[..., 8:]),
        ("swiglu",): rows[..., :6].clone().apply_(FORMULAS[("silu",)][0]) * rows[..., 6:],
    }
    for case in SEVERAL:
        found = make(case)(z).movedim(axis, -1)
        torch.testing.assert_close(found, expected[case], rtol=1e-14, atol=0)
        assert make(case).units_in(found.shape[-1]) == 12


def test_units_in():
    assert {word(case): make(case).units_in(6) for case in SEVERAL} == {
        "crelu": 3,
        "maxout": 12,
        "maxout-pieces=3": 18,
        "swiglu": 12,
    }
    assert {make(case).units_in(7) for case in FORMULAS} == {7}


def test_crelu_needs_an_even_width():
    with pytest.raises(ValueError, match=r"^activation=crelu .* width 7 must be even, such as 8$"):
        make(("crelu",)).units_in(7)


def test_rrelu_needs_ordered_bounds():
    with pytest.raises(ValueError, match=r"^activation.lower=0.5 must not be above activation.upper=0.25"):
        activations.rrelu(lower=0.5, upper=0.25)


def test_rrelu_draws_slopes_while_training():
    """U[lower, upper]: never outside, mean and variance within sampling error; torch's seed decides them."""
    rrelu, z = activations.rrelu(lower=0.2, upper=0.6), torch.full((100_000,), -1.0, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        slopes = -rrelu(z)
        assert not torch.equal(slopes, -rrelu(z))
        torch.manual_seed(0)
        assert torch.equal(slopes, -rrelu(z))
    assert 0.2 <= slopes.min() < 0.2001
    assert 0.5999 < slopes.max() <= 0.6
    variance = 0.4**2 / 12
    assert abs(slopes.mean() - 0.4) < SIGMAS * math.sqrt(variance / len(z))
    assert abs(slopes.var() / variance - 1) < SIGMAS * math.sqrt(0.8 / len(z))  # kurtosis 9/5
    assert torch.equal(rrelu(-z), -z)


def test_prelu_learns_one_slope():
    """∂Σφ/∂a is the sum of the negative z (He et al. 2015, eq. 9)."""
    prelu, z = make(("prelu",)), sample(4, 5)
    (parameter,) = prelu.parameters()
    prelu(z).sum().backward()
    torch.testing.assert_close(parameter.grad, z.clamp_max(0).sum().reshape(1))
    with torch.no_grad():
        parameter.fill_(0.5)
    assert torch.equal(prelu(z), torch.where(z > 0, z, 0.5 * z))
    assert prelu.gain == activations.prelu().gain  # of the start


@each([case for case in ALL if case[0] != "prelu"])
def test_nothing_else_is_learnt(case):
    assert make(case).state_dict() == {}


@each(ALL)
@pytest.mark.parametrize("training", [False, True])
def test_in_place_free_and_shapes_without_memory(case, training):
    activation, z = make(case).train(training), sample(3, 12)
    before = z.clone()
    with torch.random.fork_rng():
        out = activation(z)
    assert torch.equal(z, before)
    assert out.dtype == torch.float64
    with torch.device("meta"):
        activation = getattr(activations, case[0])(**dict(case[1:])).train(training)
        z = torch.empty(3, 12, requires_grad=True)
        on_meta = activation(z)
        on_meta.sum().backward()
    assert on_meta.shape == out.shape
    assert z.grad.shape == (3, 12)


@each([case for case in ALL if case[0] != "rrelu"])
def test_under_vmap(case):
    """Mapped over members, as separate calls give; torch has no batching rule for rrelu."""
    z = sample(3, 4, 12)
    torch.testing.assert_close(torch.vmap(make(case))(z), make(case)(z), rtol=0, atol=0)


@each(ALL)
def test_copies_and_pickles(case):
    z = sample(3, 12)
    for other in (copy.deepcopy(make(case)), pickle.loads(pickle.dumps(make(case)))):
        assert torch.equal(other(z), make(case)(z))
        assert other.gain == make(case).gain


@pytest.mark.parametrize("variance", [0.01, 1.0, 30.0])
@each([case for case in FORMULAS if case[0] != "rrelu"])
def test_moments_are_the_formulas_integrals(case, variance):
    """By scipy's adaptive quadrature, cut at the kinks."""
    found = make(case).moments(variance)
    phi, slope = FORMULAS[case]
    deviation = math.sqrt(variance)
    ends = sorted(
        {-12 * deviation, 12 * deviation, 0.0, *(k for k in KINKS.get(case[0], ()) if abs(k) < 12 * deviation)}
    )

    def mean(f):
        def weighted(z):
            return f(z) * normal_density(z / deviation) / deviation

        return sum(integrate.quad(weighted, a, b, epsabs=1e-14, epsrel=1e-13, limit=400)[0] for a, b in pairwise(ends))

    expected = [mean(phi), mean(lambda z: phi(z) ** 2), mean(slope), mean(lambda z: slope(z) ** 2)]
    assert [found.mean, found.square, found.slope, found.slope_square] == pytest.approx(expected, rel=1e-11, abs=1e-13)
    assert found.error < 1e-13


@pytest.mark.parametrize("variance", [1.0, 4.0])
@each(ALL)
def test_moments_of_a_large_sample(case, variance):
    """What the module itself does to 400,000 rows, by autograd, within 5 standard errors.

    With J a row's Jacobian, 1ᵀJ1/n is the mean slope and E|Jᵀε|²/n = E‖J‖²/n for random signs ε.
    """
    count, width = 400_000, 2
    activation = make(case).train()
    z = (math.sqrt(variance) * sample(count, activation.units_in(width))).requires_grad_()
    signs = sample(count, width, seed=1).sign()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = activation(z)
    assert out.shape == (count, width)
    (slope,) = torch.autograd.grad(out.sum(), z, retain_graph=True)
    (signed,) = torch.autograd.grad(out, z, signs)
    found = activation.moments(variance)
    for rows, expected in (
        (out, found.mean),
        (out.square(), found.square),
        (slope, found.slope),
        (signed.square(), found.slope_square),
    ):
        means = rows.detach().sum(1) / width
        error = means.std().item() / math.sqrt(count)
        assert means.mean().item() == pytest.approx(expected, abs=SIGMAS * error + 1e-12)


@each([("tanh",), ("relu",), ("rrelu",), ("gelu",), *SEVERAL])
def test_what_two_wide_layers_do_to_the_gradient_and_the_signal(case):
    """z → h = activation(z) → Wh → activation → loss, W of variance gain²/fan_in: the pre-activations' second moment
    stays 1, and the gradient's squared norm is multiplied by gain² · slope_square.

    n = 1024 outputs and 64 examples; over examples the standard error is measured, what W adds is of order 1/n.
    """
    width, examples = 1024, 64
    activation = make(case).train()
    units = activation.units_in(width)
    z = sample(examples, units).requires_grad_()
    weight = sample(units, width, seed=1) * activation.gain / math.sqrt(width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        above = activation(z) @ weight.T
        above.retain_grad()
        out = activation(above)
        (out * sample(*out.shape, seed=2)).sum().backward()
    signal = above.detach().square().mean(1)
    gradient = z.grad.square().sum(1) / above.grad.square().sum(1)
    for rows, expected in ((signal, 1.0), (gradient, activation.gain**2 * activation.moments().slope_square)):
        error = math.hypot(rows.std().item() / math.sqrt(examples), 2 * expected / width)
        assert rows.mean().item() == pytest.approx(expected, abs=SIGMAS * error)


def test_gains_of_the_papers():
    """√2 and √(2/(1 + a²)) are He et al. 2015, eq. 15; a SELU's 1 is its fixed point."""
    gains = {
        ("linear",): 1.0,
        ("relu",): math.sqrt(2),
        ("leaky_relu",): math.sqrt(2 / (1 + 0.01**2)),
        ("prelu",): math.sqrt(2 / (1 + 0.25**2)),
        ("rrelu",): math.sqrt(2 / (1 + (1 / 64 + 1 / 24 + 1 / 9) / 3)),
        ("selu",): 1.0,
        ("crelu",): math.sqrt(2),
        ("maxout",): 1.0,
        ("squared_relu",): math.sqrt(2 / 3),  # E z⁴ = 3, half of it
    }
    for case, gain in gains.items():
        assert make(case).gain == pytest.approx(gain, rel=1e-14), case
    for name, squared in {"tanh": 2.536, "elu": 1.5505}.items():
        assert make((name,)).gain ** 2 == pytest.approx(squared, abs=5e-4)
    for name, square in {"tanh": 0.39429, "elu": 0.64495, "gelu": 0.42522, "silu": 0.35578}.items():
        assert make((name,)).moments().square == pytest.approx(square, abs=5e-6)


def test_selu_s_fixed_point():
    """Klambauer et al. 2017: (0, 1), where the gradient grows by χ₁ = 1.0716 per layer."""
    found = make(("selu",)).moments()
    assert found.mean == pytest.approx(0, abs=1e-14)
    assert found.square == pytest.approx(1, abs=1e-14)
    assert found.slope_square == pytest.approx(1.0716, abs=5e-5)
    assert found.slope == pytest.approx(0.9852, abs=5e-5)


def test_largest_of_normals():
    """Order statistics of 2 and 3 standard normals: means 1/√π, 3/(2√π), second moments 1 and 1 + √3/(2π)."""
    two, three = (make(("maxout", ("pieces", pieces))).moments(4.0) for pieces in (2, 3))
    assert [two.mean, two.square] == pytest.approx([2 / math.sqrt(math.pi), 4], rel=1e-14)
    assert [three.mean, three.square] == pytest.approx(
        [3 / math.sqrt(math.pi), 4 + 2 * math.sqrt(3) / math.pi], rel=1e-14
    )


def test_gains_do_not_depend_on_where_they_are_asked_for():
    """Keys that no other test uses, so that nothing is remembered from elsewhere."""
    with torch.device("meta"), torch.inference_mode():
        gain = activations.leaky_relu(slope=0.123).gain
    assert gain == pytest.approx(math.sqrt(2 / (1 + 0.123**2)), rel=1e-14)
