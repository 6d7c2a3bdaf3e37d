"""Normalisations against torch.nn, torch.nn.utils.parametrizations, their papers' equations, and one another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import two_processes_of_batch_norm as processes
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from gradflow.models import norms
from gradflow.models.layers import Conv2d, Linear, Map, acts_on_activations, attach, effective_weight
from gradflow.rng import stream

WIDTH = 6
SHAPES = {"vectors": (7, WIDTH), "tokens": (4, 5, WIDTH), "images": (4, WIDTH, 3, 5)}


def inputs(layout: str, seed: int = 0) -> Tensor:
    """Features of very different means, none of them 0."""
    x = 3 * torch.randn(SHAPES[layout], generator=stream(seed, layout), dtype=torch.float64)
    shift = torch.arange(1.0, WIDTH + 1)
    return (x + (shift[:, None, None] if layout == "images" else shift)).requires_grad_()


def features_second(x: Tensor) -> Tensor:
    """As torch.nn's normalisations of one kind want it: tokens [B, T, F] as [B, F, T]."""
    return x.transpose(1, 2) if x.ndim == 3 else x


def drawn(norm: nn.Module, seed: int = 1) -> nn.Module:
    """In float64, its scale and shift not at their starting values."""
    for p in norm.double().parameters():
        nn.init.normal_(p, 1, 0.5, generator=stream(seed, "affine"))
    return norm


def test_none_is_the_identity():
    x = inputs("vectors")
    assert norms.none(WIDTH)(x) is x


# --- against torch.nn -----------------------------------------------------------------------------------------


def by_layer(x: Tensor, norm: nn.Module) -> Tensor:
    if x.ndim == 4:  # one mean for all features and positions, scale and shift per feature
        flat = functional.layer_norm(x, x.shape[1:], eps=norm.eps)
        return flat * norm.weight[:, None, None] + norm.bias[:, None, None]
    return functional.layer_norm(x, (WIDTH,), norm.weight, norm.bias, norm.eps)


def by_group(x: Tensor, norm: nn.Module) -> Tensor:
    flat = x.reshape(-1, WIDTH) if x.ndim == 3 else x  # each token for itself
    return functional.group_norm(flat, 3, norm.weight, norm.bias, norm.eps).view_as(x)


def by_instance(x: Tensor, norm: nn.Module) -> Tensor:
    normalized = functional.instance_norm(features_second(x), weight=norm.weight, bias=norm.bias, eps=norm.eps)
    return features_second(normalized)


def by_rms(x: Tensor, norm: nn.Module) -> Tensor:
    if x.ndim == 4:
        return functional.rms_norm(x, x.shape[1:], eps=norm.eps) * norm.weight[:, None, None]
    return functional.rms_norm(x, (WIDTH,), norm.weight, norm.eps)


def by_batch(x: Tensor, norm: nn.Module) -> Tensor:
    normalized = functional.batch_norm(
        features_second(x), None, None, norm.weight, norm.bias, training=True, eps=norm.eps
    )
    return features_second(normalized)


OURS: dict[str, Callable[..., nn.Module]] = {
    "batch": norms.batch,
    "layer": norms.layer,
    "group": lambda width, **keys: norms.group(width, groups=3, **keys),
    "instance": norms.instance,
    "rms": norms.rms,
}
THEIRS = {"batch": by_batch, "layer": by_layer, "group": by_group, "instance": by_instance, "rms": by_rms}


NORMALIZABLE = [(name, layout) for name in OURS for layout in SHAPES if (name, layout) != ("instance", "vectors")]


@pytest.mark.parametrize(("name", "layout"), NORMALIZABLE)
def test_is_torch_s_with_its_gradients(name, layout):
    norm, x = drawn(OURS[name](WIDTH, eps=1e-2)), inputs(layout)
    found, expected = norm(x), THEIRS[name](x, norm)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    probe = torch.randn(found.shape, generator=stream(2), dtype=torch.float64)
    wrt = [x, *norm.parameters()]
    pairs = zip(torch.autograd.grad(found, wrt, probe), torch.autograd.grad(expected, wrt, probe), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["layer", "group", "instance", "rms"])
def test_what_looks_at_one_example_is_the_same_at_evaluation(name):
    norm, x = drawn(OURS[name](WIDTH)), inputs("images")
    assert torch.equal(norm.train()(x), norm.eval()(x))
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["layer", "group", "rms"])
def test_each_token_is_normalised_for_itself(name):
    """Changing the last token leaves what becomes of the others as it was."""
    norm, x = drawn(OURS[name](WIDTH)), inputs("tokens").detach()
    other = x.clone()
    other[:, -1] *= -5
    assert torch.equal(norm(x)[:, :-1], norm(other)[:, :-1])
    assert not torch.allclose(norm(x)[:, -1], norm(other)[:, -1])


@pytest.mark.parametrize(("name", "eps"), [("batch", 1e-5), ("layer", 1e-5), ("group", 1e-5), ("rms", 1e-6)])
def test_default_eps(name, eps):
    """The one of torch.nn, and for rms one that float32 hardly notices: small inputs show it."""
    x = 1e-3 * inputs("vectors").detach()
    norm = OURS[name](WIDTH).double()
    assert norm.eps == eps
    torch.testing.assert_close(norm(x), THEIRS[name](x, norm), rtol=1e-12, atol=0)


def test_group_norm_between_layer_and_instance_norm():
    """One group is layer norm, as many groups as features instance norm (Wu & He 2018, section 3)."""
    x = inputs("images")
    assert torch.equal(norms.group(WIDTH, groups=1).double()(x), norms.layer(WIDTH).double()(x))
    assert torch.equal(norms.group(WIDTH, groups=WIDTH).double()(x), norms.instance(WIDTH).double()(x))


# --- batch normalisation's two faces ----------------------------------------------------------------------------


def torch_s_batch_norm(layout: str, **keys: float) -> nn.Module:
    return (nn.BatchNorm2d if layout == "images" else nn.BatchNorm1d)(WIDTH, **keys).double()


@pytest.mark.parametrize("layout", SHAPES)
def test_batch_norm_s_running_statistics_and_evaluation(layout):
    """After three batches the statistics are torch's, and those of the equation; evaluation uses and keeps them."""
    ours = drawn(norms.batch(WIDTH, eps=1e-3, momentum=0.25))
    theirs = torch_s_batch_norm(layout, eps=1e-3, momentum=0.25)
    theirs.load_state_dict(ours.state_dict())
    mean, variance = torch.zeros(WIDTH).double(), torch.ones(WIDTH).double()
    for seed in range(3):
        x = inputs(layout, seed).detach()
        ours(x)
        theirs(features_second(x))
        rows = features_second(x).movedim(1, -1).reshape(-1, WIDTH)
        mean, variance = 0.75 * mean + 0.25 * rows.mean(0), 0.75 * variance + 0.25 * rows.var(0)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.running_mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.running_var, variance, rtol=1e-12, atol=1e-12)
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    found = ours.eval()(x)
    torch.testing.assert_close(found, features_second(theirs.eval()(features_second(x))), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, ours.train()(x), atol=0.1)
    ours.load_state_dict(before, strict=False)
    ours.eval()(x)
    assert all(torch.equal(buffer, before[name]) for name, buffer in ours.named_buffers())


# --- of weights -------------------------------------------------------------------------------------------------


def linear_and_convolution(seed: int = 0) -> list[Map]:
    maps: list[Map] = [Linear(5, 4).double(), Conv2d(3, 4).double()]
    with torch.no_grad():
        for each in maps:
            each.weight.normal_(generator=stream(seed, "weight"))
            each.bias.normal_(generator=stream(seed, "bias"))
    return maps


def x_of(linear: Map, seed: int = 0) -> Tensor:
    shape = (6, 5) if isinstance(linear, Linear) else (2, 3, 4, 4)
    return torch.randn(shape, generator=stream(seed, "x"), dtype=torch.float64)


def normalized(linear: Map, norm: nn.Module) -> nn.Module:
    """The norm, once it is on the map and has seen its weight."""
    assert not acts_on_activations(norm)
    assert attach(norm, linear) is None
    norm.double()
    with torch.no_grad():
        norm.reset(linear.weight)
    return norm


def twin(linear: Map) -> nn.Module:
    """torch's own map with the same weights."""
    if isinstance(linear, Linear):
        made: nn.Module = nn.Linear(5, 4, dtype=torch.float64)
    else:
        made = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64)
    made.load_state_dict({name: linear.state_dict()[name] for name in ("weight", "bias")})
    return made


@pytest.mark.parametrize("which", [0, 1], ids=["linear", "convolution"])
def test_weight_norm_is_torch_s_with_its_gradients(which):
    """Salimans & Kingma 2016, eq. 2; at first the map is what it was, then g and v are learnt apart."""
    linear = linear_and_convolution()[which]
    theirs, x = twin(linear), x_of(linear)
    norm = normalized(linear, norms.weight_norm(4))
    torch.testing.assert_close(linear(x), theirs(x), rtol=1e-12, atol=1e-12)
    parametrizations.weight_norm(theirs)
    gain, direction = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
    with torch.no_grad():
        norm.gain.mul_(torch.tensor([2.0, -1.0, 0.5, 3.0]))
        gain.copy_(norm.gain.view_as(gain))
    found, expected = linear(x), theirs(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(found.square().sum(), [norm.gain, linear.weight, linear.bias])
    other = torch.autograd.grad(expected.square().sum(), [gain, direction, theirs.bias])
    for a, b in zip(ours, other, strict=True):
        torch.testing.assert_close(a, b.view_as(a), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("which", [0, 1], ids=["linear", "convolution"])
def test_scaled_weight_standardisation_is_the_paper_s_equation(which):
    """Brock et al. 2021, eq. 1: Ŵ = γ (W − μ)/(σ √N) has mean 0 and N · variance γ² for every unit, times g."""
    linear = linear_and_convolution()[which]
    norm = normalized(linear, norms.scaled_weight_standardization(4, gain=1.7))
    rows, used = linear.weight.flatten(1), effective_weight(linear).flatten(1)
    fan_in = rows.shape[1]
    torch.testing.assert_close(used.mean(1), torch.zeros(4).double(), rtol=0, atol=1e-15)
    torch.testing.assert_close(
        fan_in * used.var(1, correction=0), torch.full((4,), 1.7**2, dtype=torch.float64), rtol=1e-12, atol=0
    )
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([2.0, -1.0, 0.5, 3.0]))
    mean, deviation = rows.mean(1, keepdim=True), rows.std(1, correction=0, keepdim=True)
    expected = 1.7 * norm.gain[:, None] * (rows - mean) / (deviation * math.sqrt(fan_in))
    torch.testing.assert_close(effective_weight(linear).flatten(1), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1], ids=["linear", "convolution"])
def test_scaled_weight_standardisation_s_gradient(which):
    """With Z = (W − μ)/σ and G = ∂L/∂Ŵ: ∂L/∂W = γ g/(σ√N) (G − mean G − Z mean(G Z)), ∂L/∂g = γ/√N Σ G Z."""
    linear = linear_and_convolution()[which]
    norm = normalized(linear, norms.scaled_weight_standardization(4))
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([2.0, -1.0, 0.5, 3.0]))
    probe = torch.randn(linear.weight.shape, generator=stream(3), dtype=torch.float64)
    of_weight, of_gain = torch.autograd.grad(effective_weight(linear), [linear.weight, norm.gain], probe)
    rows, grads = linear.weight.detach().flatten(1), probe.flatten(1)
    deviation = rows.std(1, correction=0, keepdim=True)
    z = (rows - rows.mean(1, keepdim=True)) / deviation
    scale = math.sqrt(2 / (1 - 1 / math.pi)) / math.sqrt(rows.shape[1])
    inside = grads - grads.mean(1, keepdim=True) - z * (grads * z).mean(1, keepdim=True)
    expected = scale * norm.gain.detach()[:, None] / deviation * inside
    torch.testing.assert_close(of_weight.flatten(1), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(of_gain, scale * (grads * z).sum(1), rtol=1e-10, atol=1e-12)


def test_scaled_weight_standardisation_divides_by_no_less_than_eps():
    """Appendix D of the paper: the smallest N σ² is 1e-4, below which weights shrink with their deviation."""
    linear = linear_and_convolution()[0]
    normalized(linear, norms.scaled_weight_standardization(4, gain=1.0))
    with torch.no_grad():
        linear.weight.mul_(1e-5)
    rows = linear.weight - linear.weight.mean(1, keepdim=True)
    torch.testing.assert_close(effective_weight(linear), rows / math.sqrt(1e-4), rtol=1e-12, atol=0)


def test_the_gain_for_relu_keeps_the_variance():
    """γ = 1/√Var max(z, 0), z ~ N(0, 1), whose mean is 1/√(2π) and second moment ½ (Brock et al. 2021, section 3)."""
    assert math.isclose(norms.GAIN_RELU**-2, 1 / 2 - 1 / (2 * math.pi), rel_tol=1e-15)


def by_hand(rows: Tensor, u: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Miyato et al. 2018, algorithm 1."""
    for _ in range(iterations):
        v = rows.T @ u
        v = v / v.norm()
        u = rows @ v
        u = u / u.norm()
    return u, v


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("which", [0, 1], ids=["linear", "convolution"])
def test_spectral_norm_iterates_as_the_paper_s_algorithm_while_training(which, iterations):
    """From W·1, 15 times at the start and `iterations` times a step; never at evaluation."""
    linear = linear_and_convolution()[which]
    norm = normalized(linear, norms.spectral(4, iterations=iterations))
    rows = linear.weight.detach().flatten(1)
    u, _ = by_hand(rows, rows.sum(1) / rows.sum(1).norm(), 15)
    torch.testing.assert_close(norm.u, u, rtol=1e-12, atol=1e-12)
    for _ in range(2):
        used = effective_weight(linear).flatten(1)
        u, v = by_hand(rows, u, iterations)
        torch.testing.assert_close(used, rows / (u @ rows @ v), rtol=1e-12, atol=1e-12)
    linear.eval()
    with torch.no_grad():
        linear.weight.mul_(torch.rand(linear.weight.shape, generator=stream(4)))
    rows = linear.weight.detach().flatten(1)
    torch.testing.assert_close(effective_weight(linear).flatten(1), rows / (u @ rows @ v), rtol=1e-12, atol=1e-12)
    assert torch.equal(effective_weight(linear), effective_weight(linear))


@pytest.mark.parametrize("which", [0, 1], ids=["linear", "convolution"])
def test_spectral_norm_is_torch_s_with_its_gradient_given_the_same_u_and_v(which):
    """u and v count as constants (Miyato et al. 2018, eqs. 10 to 12)."""
    linear = linear_and_convolution()[which]
    theirs, x = twin(linear), x_of(linear)
    norm = normalized(linear, norms.spectral(4))
    parametrizations.spectral_norm(theirs)
    inner = theirs.parametrizations.weight[0]
    inner._u.copy_(norm.u)
    inner._v.copy_(norm.v)
    found, expected = linear.eval()(x), theirs.eval()(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (ours,) = torch.autograd.grad(found.square().sum(), linear.weight)
    (other,) = torch.autograd.grad(expected.square().sum(), theirs.parametrizations.weight.original)
    torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("which", [0, 1], ids=["linear", "convolution"])
def test_spectral_norm_s_largest_singular_value_goes_to_1(which):
    linear = linear_and_convolution()[which]
    normalized(linear, norms.spectral(4, iterations=100))
    with torch.no_grad():
        linear.weight.mul_(torch.rand(linear.weight.shape, generator=stream(4)))
        used = [effective_weight(linear).flatten(1) for _ in range(5)][-1]
    assert torch.linalg.matrix_norm(used, 2).item() == pytest.approx(1, rel=1e-10)


def test_spectral_norm_can_be_differentiated_after_its_next_step():
    """Each pass keeps the u and v it was made with."""
    linear = linear_and_convolution()[0]
    norm = normalized(linear, norms.spectral(4))
    with torch.no_grad():
        linear.weight.mul_(torch.rand(linear.weight.shape, generator=stream(4)))
    first = effective_weight(linear)
    u, v = norm.u.clone(), norm.v.clone()
    effective_weight(linear)
    assert not torch.allclose(u, norm.u, atol=1e-6)
    (found,) = torch.autograd.grad(first.sum(), linear.weight)
    rows = linear.weight.detach().requires_grad_()
    (expected,) = torch.autograd.grad((rows / (u @ rows @ v)).sum(), rows)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["weight_norm", "spectral", "scaled_weight_standardization"])
def test_a_norm_of_weights_makes_the_scale_of_the_weight_irrelevant(name):
    """Ten times the weight gives the same map, unless weight norm is told of it by its gain."""
    linear = linear_and_convolution()[0]
    normalized(linear, getattr(norms, name)(4))
    x = x_of(linear)
    before = linear.eval()(x)
    with torch.no_grad():
        linear.weight.mul_(10)
    torch.testing.assert_close(linear(x), before, rtol=1e-12, atol=1e-12)


# --- refusals ---------------------------------------------------------------------------------------------------

REFUSED = {
    "groups": (lambda: norms.group(6, groups=4), "norm.groups=4 does not divide 6 features: choose a divisor"),
    "one value per group": (lambda: norms.group(6, groups=6)(torch.zeros(2, 6)), "choose fewer norm.groups"),
    "one pixel per group": (lambda: norms.group(6, groups=6)(torch.zeros(2, 6, 1, 1)), "choose fewer norm.groups"),
    "one value per token": (lambda: norms.group(6, groups=6)(torch.zeros(2, 3, 6)), "choose fewer norm.groups"),
    "instance of vectors": (lambda: norms.instance(6)(torch.zeros(2, 6)), "norm=instance needs several positions"),
    "instance of a pixel": (
        lambda: norms.instance(6)(torch.zeros(2, 6, 1, 1)),
        "norm=instance needs several positions",
    ),
    "instance of a token": (lambda: norms.instance(6)(torch.zeros(2, 1, 6)), "norm=instance needs several positions"),
    "a batch of one": (lambda: norms.batch(6)(torch.zeros(1, 6)), "needs task.batch_size of at least 2"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_one_line(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_one_example_of_several_positions_is_a_batch():
    """A feature of one image has a variance; one vector has one at evaluation only."""
    norms.batch(6)(torch.randn(1, 6, 2, 2, generator=stream(0)))
    assert norms.batch(6).eval()(torch.ones(1, 6)).isfinite().all()


# --- batch normalisation over two processes -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, in_two_processes: Callable[..., list[Any]]
) -> list[dict[str, dict[str, Any]]]:
    """What rank 0 and rank 1 found."""
    return in_two_processes(processes.__file__, tmp_path_factory.mktemp("pair"), 120)


class Theirs(nn.Module):
    """torch's own batch norm, which wants features second."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.SyncBatchNorm(WIDTH)  # any layout with features second; alone it is plain batch norm

    def forward(self, x: Tensor) -> Tensor:
        return features_second(self.norm(features_second(x)))


@pytest.mark.parametrize("case", processes.CASES)
def test_two_processes_are_one_with_the_whole_batch(pair, case):
    """Outputs, running statistics, and the gradients that DDP averages, as torch's batch norm has them alone."""
    layout, _ = processes.CASES[case]
    expected = processes.pass_through(processes.network(layout, Theirs), processes.batch(case), share=1.0)
    outputs = torch.cat([found[case]["output"] for found in pair])
    torch.testing.assert_close(outputs, expected["output"], rtol=1e-10, atol=1e-10)
    inputs = torch.cat([found[case]["input"] for found in pair])
    torch.testing.assert_close(inputs / 2, expected["input"], rtol=1e-10, atol=1e-10)  # DDP averages parameters only
    assert max(abs(x).max() for x in expected["gradients"]) > 1e-2
    for rank in range(2):
        for what in ("gradients", "statistics"):
            for found, whole in zip(pair[rank][case][what], expected[what], strict=True):
                torch.testing.assert_close(found, whole.view_as(found), rtol=1e-10, atol=1e-10)


def test_without_sync_each_process_has_its_own_statistics(pair):
    mine, other = (found["apart"]["statistics"] for found in pair)
    assert all(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(mine, other, strict=True) if a.ndim)


def test_evaluation_waits_for_no_other_process(pair):
    """Rank 0 evaluated alone; had it communicated, it would still be waiting."""
    assert pair[0]["evaluated alone"]["done"]
    assert pair[1]["evaluated alone"] == {}


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_under_autocast(pair, rank):
    """bfloat16 comes in and goes out, the statistics are float32 ones."""
    found = pair[rank]["autocast"]
    assert found["output"].dtype == torch.bfloat16
    rows = torch.cat([each["autocast"]["input"] for each in pair]).float()
    torch.testing.assert_close(found["mean"], 0.1 * rows.mean(0), rtol=1e-5, atol=1e-6)
    expected = (pair[rank]["autocast"]["input"].float() - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(found["output"].float(), expected, rtol=2**-7, atol=2**-7)
