"""The law of every kind of block against random networks of width 384 with autograd, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from wide import Maps, agrees, measure

from gradflow.theory.law import Signal
from gradflow.theory.laws import DeepNorm, Highway, Linear, Plain, PreactResidual, Residual, ReZero, stem
from gradflow.theory.norms import BatchNorm, LayerNorm
from gradflow.theory.profile import propagate

relu, tanh, elu = torch.relu, torch.tanh, functional.elu
DEPTH = 5


def standardized(x: Tensor, axis: int, *, mean: bool = True) -> Tensor:
    off = x - x.mean(axis, keepdim=True) if mean else x
    return off * off.square().mean(axis, keepdim=True).rsqrt()


over_batch, over_features = partial(standardized, axis=0), partial(standardized, axis=1)
root_mean_square = partial(standardized, axis=1, mean=False)


def plain(maps: Maps, x: Tensor, phi: Any, w2: float, b2: float = 0.0, norm: Any = lambda z: z, **keys: Any) -> Tensor:
    return phi(norm(maps(x, w2, b2, **keys)))


def dropped(maps: Maps, x: Tensor, keep: float, phi: Any, w2: float, b2: float) -> Tensor:
    h = phi(maps(x, w2, b2))
    return h * (maps.uniform(*h.shape) < keep) / keep


def twice(maps: Maps, x: Tensor) -> Tensor:
    return tanh(maps(relu(maps(x, 1.5, 0.1)), 2.5, 0.1))


def preactivated(
    maps: Maps, x: Tensor, phi: Any, variances: tuple[float, ...], scale: float, shortcut: float, norm: Any
) -> Tensor:
    h = x
    for variance in variances:
        h = maps(phi(norm(h)), variance, 0.05)
    return shortcut * x + scale * h


def residual(
    maps: Maps, x: Tensor, phi: Any, variances: tuple[float, ...], scale: float, norm: Any, shortcut: float = 1.0
) -> Tensor:
    h = x
    for index, variance in enumerate(variances):
        h = norm(maps(h if index == 0 else phi(h), variance, 0.05))
    return phi(shortcut * x + scale * h)


def rezero(maps: Maps, x: Tensor, alpha: float) -> Tensor:
    return x + alpha * relu(maps(x, 2.0, 0.05))


def highway(maps: Maps, x: Tensor, phi: Any, bias: float) -> Tensor:
    t = torch.sigmoid(maps(x, 1.3, 0.0) + bias)
    return t * phi(maps(x, 2.0, 0.05)) + (1 - t) * x


def deepnorm(maps: Maps, x: Tensor, alpha: float, norm: Any) -> Tensor:
    return norm(alpha * x + relu(maps(x, 2.0, 0.05)))


@dataclass
class Case:
    law: Any
    block: Callable[[Maps, Tensor], Tensor]
    p: float = 1.2
    c: float = 0.4
    kappa: float = 0.3
    start: Any = None
    examples: int = 4
    keys: dict[str, Any] = field(default_factory=dict)


def identity(z: Tensor) -> Tensor:
    return z


CASES = {
    "relu": Case(Plain(relu, 2.0, 0.05), partial(plain, phi=relu, w2=2.0, b2=0.05)),
    "tanh": Case(Plain(tanh, 2.5, 0.05), partial(plain, phi=tanh, w2=2.5, b2=0.05)),
    "elu": Case(Plain(elu, 1.5), partial(plain, phi=elu, w2=1.5)),
    "orthogonal tanh": Case(Plain(tanh, 2.5, 0.05), partial(plain, phi=tanh, w2=2.5, b2=0.05, weights="orthogonal")),
    "centred relu": Case(Plain(relu, 2.9, centred=True), partial(plain, phi=relu, w2=2.9, weights="centred")),
    "dropout": Case(Plain(tanh, 2.5, 0.05, keep=0.7), partial(dropped, keep=0.7, phi=tanh, w2=2.5, b2=0.05)),
    "layer norm": Case(
        Plain(elu, 5.0, 0.3, norm=LayerNorm()), partial(plain, phi=elu, w2=5.0, b2=0.3, norm=over_features)
    ),
    "rms norm": Case(Plain(relu, 0.2, norm=LayerNorm()), partial(plain, phi=relu, w2=0.2, norm=root_mean_square)),
    "batch norm relu": Case(
        Plain(relu, 2.0, norm=BatchNorm(12)), partial(plain, phi=relu, w2=2.0, norm=over_batch), examples=12
    ),
    "batch norm tanh": Case(
        Plain(tanh, 0.7, norm=BatchNorm(8)), partial(plain, phi=tanh, w2=0.7, norm=over_batch), examples=8
    ),
    "batch norm linear": Case(
        Plain(identity, 1.0, norm=BatchNorm(8)), partial(plain, phi=identity, w2=1.0, norm=over_batch), examples=8
    ),
    "pre-activated": Case(
        PreactResidual(relu, 2.0, 0.05),
        partial(preactivated, phi=relu, variances=(2.0,), scale=1, shortcut=1, norm=identity),
    ),
    "pre-activated, scaled, two maps": Case(
        PreactResidual(elu, (2.0, 1.0), 0.05, maps=2, branch_scale=0.6, shortcut_scale=0.9),
        partial(preactivated, phi=elu, variances=(2.0, 1.0), scale=0.6, shortcut=0.9, norm=identity),
    ),
    "pre-activated, batch norm": Case(
        PreactResidual(relu, 2.0, 0.05, norm=BatchNorm(12)),
        partial(preactivated, phi=relu, variances=(2.0,), scale=1, shortcut=1, norm=over_batch),
        examples=12,
    ),
    "pre-activated, layer norm": Case(
        PreactResidual(relu, 2.0, 0.05, norm=LayerNorm()),
        partial(preactivated, phi=relu, variances=(2.0,), scale=1, shortcut=1, norm=over_features),
    ),
    "rezero": Case(ReZero(relu, 2.0, 0.05, alpha=0.7), partial(rezero, alpha=0.7)),
    "highway relu": Case(
        Highway(relu, 2.0, 0.05, gate_bias=-1.0, gate_sigma_w2=1.3), partial(highway, phi=relu, bias=-1.0)
    ),
    "highway tanh": Case(
        Highway(tanh, 2.0, 0.05, gate_bias=1.0, gate_sigma_w2=1.3), partial(highway, phi=tanh, bias=1.0)
    ),
    "deepnorm": Case(DeepNorm(relu, 2.0, 0.05, alpha=1.5), partial(deepnorm, alpha=1.5, norm=over_features)),
    "deepnorm rms": Case(
        DeepNorm(relu, 2.0, 0.05, alpha=1.5, subtract_mean=False), partial(deepnorm, alpha=1.5, norm=root_mean_square)
    ),
    "residual relu": Case(
        Residual(relu, 1.0, 0.05), partial(residual, phi=relu, variances=(1.0,), scale=1.0, norm=identity), start=relu
    ),
    "residual tanh": Case(
        Residual(tanh, 1.5, 0.05, shortcut_scale=0.8),
        partial(residual, phi=tanh, variances=(1.5,), scale=1.0, norm=identity, shortcut=0.8),
        start=tanh,
    ),
    "residual, two maps": Case(
        Residual(relu, (2.0, 1.0), 0.05, maps=2, branch_scale=0.5),
        partial(residual, phi=relu, variances=(2.0, 1.0), scale=0.5, norm=identity),
        start=relu,
    ),
    "residual, layer norm": Case(
        Residual(relu, 2.0, 0.05, norm=LayerNorm()),
        partial(residual, phi=relu, variances=(2.0,), scale=1.0, norm=over_features),
        start=relu,
    ),
    "residual, batch norm": Case(
        Residual(relu, 2.0, 0.05, norm=BatchNorm(16)),
        partial(residual, phi=relu, variances=(2.0,), scale=1.0, norm=over_batch),
        start=relu,
        examples=16,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_signals_and_gradients_of_random_networks(name):
    case = CASES[name]
    found = measure(
        case.block, case.p, case.c, DEPTH, kappa=case.kappa, examples=case.examples, start=case.start or identity
    )
    signal = Signal(case.p, case.c)
    if case.start is not None:
        signal = Plain(case.start, 1.0).step(signal).signal
    profile = propagate([case.law] * DEPTH, signal, 192, biases=False, gradient_correlation=case.kappa)
    assert agrees(profile.p, found.p)
    assert agrees(profile.c + 1, found.c + 1)  # of a range of 2
    assert agrees(np.array([10**profile.log10_delta_stem, *profile.delta]) ** 2, found.squared)
    assert agrees(profile.grad**2, found.weight / found.weight.mean(0)[-1])
    last = propagate([case.law], signal, gradient_correlation=case.kappa)
    assert last.chi[0] > 0


@pytest.mark.parametrize("name", [name for name in CASES if "batch" not in name])
def test_gradients_of_weights_and_biases_in_absolute_terms(name):
    case = CASES[name]
    found = measure(case.block, case.p, case.c, 1, networks=24, start=case.start or identity)
    signal = Signal(case.p, case.c)
    if case.start is not None:
        signal = Plain(case.start, 1.0).step(signal).signal
    step = case.law.step(signal)
    assert agrees(np.array([step.chi]), found.squared[:, :1])
    assert agrees(np.array([step.weight_gradient]), found.weight)
    assert agrees(np.array([step.bias_gradient]), found.bias)


def test_gradients_averaged_over_a_batch():
    """‖Σ δ_b x_bᵀ‖²/B² = Σ (δ_b·δ_b′)(x_b·x_b′)/B²: inner products of examples count by theirs."""
    kappa, batch = 0.5, 4
    law, signal = Plain(tanh, 2.5, 0.05), Signal(0.8, 0.6)
    profile = propagate([law] * 3, signal, 100, biases=False, batch=batch, gradient_correlation=kappa)
    now, steps = signal, []
    for _ in range(3):
        steps.append(law.step(now))
        now = steps[-1].signal
    entering = [signal, steps[0].signal, steps[1].signal]
    norm, inner, expected = 1.0, kappa, []
    for step, x in zip(reversed(steps), reversed(entering), strict=True):
        own, other = norm * step.chi / 2.5, inner * step.chi_pair / 2.5  # at the pre-activations
        expected.append(own * x.p + (batch - 1) * other * x.p * x.c)
        norm, inner = norm * step.chi, inner * step.chi_pair
    assert profile.grad[::-1] == pytest.approx(np.sqrt(np.array(expected) / expected[0]))


def test_a_shortcut_through_relu_keeps_active_units_active():
    """Following units, the gradient of φ(x + F(x)) grows faster than the product of the blocks' own χ."""
    law = Residual(relu, 1.0)
    profile = propagate([law] * 10, Plain(relu, 2.0).step(Signal(1.0, 0.2)).signal)
    step = law.step(Signal(1.0, 0.2))
    assert profile.log10_delta[0] > 1.2 * 9 * np.log10(step.chi) / 2
    assert step.rate == pytest.approx(step.chi)


def test_a_linear_residual_network_has_no_such_memory():
    """φ = identity: χ = 1 + σ_w² and p ↦ (1 + σ_w²) p, exactly."""
    profile = propagate([Residual(identity, 0.5)] * 6, Signal(1.0, 0.3))
    assert profile.chi == pytest.approx(1.5, rel=1e-9)
    assert profile.p == pytest.approx(1.5 ** np.arange(1, 7), rel=1e-6)
    assert profile.c == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize(("p", "c"), [(2.0, 0.3), (0.3, -0.9), (0.0, 0.0)])
def test_a_signal_that_no_stem_could_give_is_taken_as_near_as_can_be(p, c):
    """tanh gives no p of 1 or more: Gaussian then. Sigmoid gives no negative correlation."""
    step = Residual(tanh if p > 1 else torch.sigmoid, 0.0, branch_scale=0.0).step(Signal(p, c))
    assert 0 < step.signal.p < 1
    assert step.signal.population.values.shape == (2, 4096)


@pytest.mark.parametrize("depth", [1, 10, 50])
def test_growth_of_residual_networks(depth):
    """De & Smith 2020: 2^ℓ without normalisation; with it, the second moment grows by 1 per block, and the batch's
    variance p(1 − c) by 1 − 1/π; the λ of shortcuts alone gives ∏ λ (He et al. 2016b, eq. 8)."""
    bare = propagate([PreactResidual(relu, 2.0)] * depth, Signal(1.0))
    assert bare.log10_p[-1] == pytest.approx(depth * np.log10(2), rel=1e-12)
    assert bare.log10_delta_stem == pytest.approx(depth * np.log10(2) / 2, rel=1e-12)
    normed = propagate([PreactResidual(relu, 2.0, norm=BatchNorm(10**6))] * depth, Signal(1.0))
    assert normed.p[-1] == pytest.approx(1 + depth, rel=1e-5)
    assert (normed.p * (1 - normed.c))[-1] == pytest.approx(1 + depth * (1 - 1 / np.pi), rel=1e-5)
    scaled = propagate([PreactResidual(relu, 2.0, branch_scale=depth**-0.5)] * depth, Signal(1.0))
    assert scaled.p[-1] == pytest.approx((1 + 1 / depth) ** depth, rel=1e-12)
    shortcuts = propagate([PreactResidual(relu, 0.0, shortcut_scale=0.5)] * depth, Signal(1.0))
    assert shortcuts.log10_delta_stem == pytest.approx(depth * np.log10(0.5), rel=1e-12)


def test_published_rates_of_batch_normalisation():
    """Yang et al. 2019: π/(π − 1) = 1.467 for ReLU and large batches, (B − 2)/(B − 3) for linear networks; and whatever
    the weights' variance."""
    for sigma_w2 in (0.1, 2.0, 50.0):
        for batch in (4, 5, 16, 256):
            linear = propagate([Plain(identity, sigma_w2, norm=BatchNorm(batch))] * 12, Signal(1.0, 0.3))
            assert linear.chi[1:6] == pytest.approx((batch - 2) / (batch - 3), rel=1e-9)
            step = Plain(identity, sigma_w2, norm=BatchNorm(batch)).step(Signal(1.0, -1 / (batch - 1)))
            assert step.rate == pytest.approx((batch - 2) / (batch - 3), rel=1e-9)
    after = Plain(relu, 2.0, norm=BatchNorm(10**6)).step(Signal(1.0))
    assert Plain(relu, 2.0, norm=BatchNorm(10**6)).step(after.signal).rate == pytest.approx(1.46694, abs=1e-4)
    assert after.signal.c == pytest.approx(1 / np.pi, abs=1e-5)


def test_dropout_bounds_the_correlation_below_one():
    """Schoenholz et al. 2017, section 4: equal inputs decorrelate to c* < 1, even where χ₁ < 1."""
    free = propagate([Plain(tanh, 1.3, 0.05)] * 400, Signal(1.0, 0.2))
    masked = propagate([Plain(tanh, 1.3, 0.05, keep=0.9)] * 400, Signal(1.0, 1.0))
    assert free.c[-1] == pytest.approx(1.0, abs=1e-6)
    assert 0.3 < masked.c[-1] < 0.9


def test_layer_norm_makes_the_weights_variance_irrelevant():
    one, other = (propagate([Plain(elu, w, norm=LayerNorm(0.0))] * 4, Signal(1.0, 0.5)) for w in (0.01, 100.0))
    assert one.p == pytest.approx(other.p, rel=1e-12)
    assert one.delta == pytest.approx(other.delta, rel=1e-12)


def test_rezero_begins_as_the_identity():
    profile = propagate([ReZero(relu, 2.0)] * 8, Signal(1.3, 0.5))
    assert profile.p == pytest.approx(1.3)
    assert profile.delta == pytest.approx(1.0)
    assert np.isnan(profile.grad).all()


def test_a_closed_highway_carries():
    """b_T → −∞: x_l = x_{l−1}."""
    profile = propagate([Highway(tanh, 2.0, gate_bias=-60.0)] * 8, Signal(1.3, 0.5))
    assert profile.p == pytest.approx(1.3)
    assert profile.delta == pytest.approx(1.0)
    opened = propagate([Highway(tanh, 2.0, gate_bias=60.0, gate_sigma_w2=0.0)] * 8, Signal(1.3, 0.5))
    bare = propagate([Plain(tanh, 2.0)] * 8, Signal(1.3, 0.5))
    assert opened.p == pytest.approx(bare.p)
    assert opened.delta == pytest.approx(bare.delta)


def test_stems():
    assert stem(Linear(2.0, 0.1), 0.5, 0.3) == Signal(1.1, (2 * 0.15 + 0.1) / 1.1)
    assert stem(Plain(relu, 2.0), 0.5).p == pytest.approx(0.5)
    step = Linear(2.0, 0.1).step(Signal(0.5, 0.3))
    assert (step.chi, step.chi_pair, step.weight_gradient, step.bias_gradient) == (2.0, 2.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plain(relu, -1.0), "variances must be at least 0"),
        (lambda: Plain(relu, 2.0, keep=0.0), "must lie in"),
        (lambda: Plain(relu, (1.0, 2.0)), "one for each map"),
        (lambda: BatchNorm(3), "at least 4"),
        (lambda: Plain(relu, 2.0, norm=BatchNorm(8)).step(Signal(1.0, 1.0)), "all alike"),
        (lambda: Signal(-1.0), "second moment"),
        (lambda: Signal(1.0, 2.0), "correlation"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
