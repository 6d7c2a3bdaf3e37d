"""Reservoirs: equal to reservoirpy's with equal matrices; spectra; sparse and dense products; forgetting."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from reservoirpy.nodes import Reservoir as Reference
from scipy.signal import lfilter
from torch import nn

from gradflow.models import activations, reservoir
from gradflow.models.reservoir import Reservoir, remaining_distance, spectral_radius
from gradflow.rng import stream

needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="CSR products need MKL")
TOPOLOGIES = ("random", "ring", "orthogonal")


def drawn(
    features: int = 3, units: int = 40, seed: int = 0, activation: nn.Module | None = None, **keys: Any
) -> Reservoir:
    made = Reservoir(features, units, activation or activations.tanh(), **keys).double()
    made.reset(stream(seed, "init"))
    return made


def normal(*shape: int, name: str = "x") -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def reference(mine: Reservoir, x_TF: torch.Tensor) -> np.ndarray:
    node = Reference(
        W=mine.recurrent.numpy(), Win=mine.input_weight.numpy(), bias=mine.bias.numpy(), lr=mine.leak, activation="tanh"
    )
    return node.run(x_TF.numpy())


@pytest.mark.parametrize(
    "keys",
    [
        {"units": 40},
        {"units": 40, "leak": 0.3, "bias": 0.7, "input_scaling": 0.4, "connectivity": 1.0},
        {"units": 300, "leak": 0.6, "bias": 0.2},  # sparse product
        {"units": 300, "topology": "ring", "bias": 1.5, "spectral_radius": 1.1},
        {"units": 300, "topology": "orthogonal", "leak": 0.1},
    ],
)
def test_states_are_reservoirpy_s(keys: dict[str, Any]) -> None:
    mine, x = drawn(**keys), normal(4, 60, 3)
    together = mine(x)
    for one, states in zip(x, together, strict=True):
        wanted = reference(mine, one)
        assert np.abs(states.numpy() - wanted).max() < 1e-12
        assert np.abs(mine(one[None])[0].numpy() - wanted).max() < 1e-12  # a single sequence goes another way


def test_states_are_the_equation_s_step_by_step() -> None:
    """h_t = (1 − a) h_{t−1} + a φ(W h_{t−1} + W_in x_t + b), with a ReLU."""
    mine, x = drawn(units=7, leak=0.25, bias=1.0, activation=activations.relu()), normal(1, 5, 3)
    h, states = torch.zeros(7, dtype=torch.float64), mine(x)
    for t in range(5):
        h = 0.75 * h + 0.25 * torch.relu(mine.recurrent @ h + mine.input_weight @ x[0, t] + mine.bias)
        torch.testing.assert_close(states[0, t], h, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("units", [30, 300])
def test_a_sequence_can_be_run_in_parts(units: int) -> None:
    mine, x = drawn(units=units, leak=0.5), normal(2, 20, 3)
    first = mine(x[:, :13])
    parts = torch.cat([first, mine(x[:, 13:], first[:, -1])], dim=1)
    torch.testing.assert_close(parts, mine(x), rtol=1e-13, atol=1e-15)


@needs_mkl
@pytest.mark.parametrize(("batch", "dtype"), itertools.product([1, 3], [torch.float32, torch.float64]))
def test_sparse_and_dense_products_agree(batch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, x = drawn(units=260).to(dtype), normal(batch, 30, 3)
    assert mine._csr() is not None
    sparse = mine(x)
    monkeypatch.setattr(Reservoir, "_csr", lambda _: None)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    assert (sparse - mine(x)).abs().max() < tolerance
    assert sparse.dtype == dtype


@needs_mkl
def test_the_sparse_matrix_follows_the_weights() -> None:
    mine, x = drawn(units=260), normal(1, 5, 3)
    before = mine(x)
    twin = copy.deepcopy(mine)
    mine.recurrent.mul_(0.5)
    after = mine(x)
    assert (after - before).abs().max() > 1e-3
    assert np.abs(after[0].numpy() - reference(mine, x[0])).max() < 1e-12
    assert torch.equal(twin(x), before)
    assert drawn(units=260, connectivity=0.5)._csr() is None


def test_weights_are_zero_until_drawn_and_follow_the_generator_alone() -> None:
    empty = Reservoir(2, 9, activations.tanh(), bias=1.0)
    assert not any(buffer.any() for buffer in empty.buffers())
    state = torch.get_rng_state()
    first, again, other = drawn(seed=1, bias=1.0), drawn(seed=1, bias=1.0), drawn(seed=2, bias=1.0)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(first.buffers(), again.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert not list(first.parameters())


@pytest.mark.parametrize(("connectivity", "incoming"), [(0.1, 5), (1.0, 50), (0.001, 1)])
def test_every_unit_has_as_many_incoming_weights(connectivity: float, incoming: int) -> None:
    mine = drawn(units=50, connectivity=connectivity)
    assert (mine.recurrent != 0).sum(1).tolist() == [incoming] * 50


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("radius", [0.5, 0.9, 1.3])
def test_spectral_radius_is_that_of_w(topology: Any, radius: float) -> None:
    values = np.linalg.eigvals(drawn(units=60, topology=topology, spectral_radius=radius, leak=0.3).recurrent.numpy())
    assert np.abs(values).max() == pytest.approx(radius, rel=1e-10)


def test_arnoldi_iteration_finds_the_largest_eigenvalue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random matrices, whose spectrum has a crowded edge, sparse and dense, and of one shifted by the leak."""
    monkeypatch.setattr(reservoir, "DENSE_EIGENVALUES", 150)
    for seed, connectivity in itertools.product(range(4), (0.05, 1.0)):
        matrix = drawn(units=200, seed=seed, connectivity=connectivity).recurrent
        for each in (matrix, 0.7 * torch.eye(200) + 0.3 * matrix):
            exact = np.abs(np.linalg.eigvals(each.numpy())).max()
            assert spectral_radius(each) == pytest.approx(exact, rel=1e-9)


def test_spectral_radius_above_the_exact_limit() -> None:
    mine = drawn(units=600, connectivity=0.05, spectral_radius=0.95)
    assert np.abs(np.linalg.eigvals(mine.recurrent.numpy())).max() == pytest.approx(0.95, rel=1e-8)


@pytest.mark.parametrize("topology", ["ring", "orthogonal"])
def test_ring_and_orthogonal_have_equal_singular_values(topology: Any) -> None:
    singular = np.linalg.svd(drawn(units=50, topology=topology, spectral_radius=0.8).recurrent.numpy())[1]
    np.testing.assert_allclose(singular, 0.8, rtol=1e-12)


def test_ring_feeds_each_unit_s_neighbour() -> None:
    weight = drawn(units=5, topology="ring", spectral_radius=0.8).recurrent
    impulse = torch.eye(5, dtype=torch.float64)[0]
    assert (weight @ impulse).tolist() == [0, 0.8, 0, 0, 0]
    torch.testing.assert_close(torch.linalg.matrix_power(weight, 5), 0.8**5 * torch.eye(5, dtype=torch.float64))


def test_input_weights_and_biases_are_uniform() -> None:
    mine = drawn(features=50, units=200, input_scaling=0.3, bias=2.0)
    for weights, limit in ((mine.input_weight, 0.3), (mine.bias, 2.0)):
        assert limit * 0.95 < weights.abs().max() <= limit
        spread = 5 * 0.9 * limit**2 / 3 / weights.numel() ** 0.5  # a uniform square varies by 0.894 of its mean
        assert float(weights.square().mean()) == pytest.approx(limit**2 / 3, abs=spread)
    normed = drawn(features=50, input_scaling=0.3, input_norm=1.7)
    assert float(torch.linalg.matrix_norm(normed.input_weight, 2)) == pytest.approx(1.7, rel=1e-10)


def test_a_linear_reservoir_s_memory_capacity() -> None:
    """Σ_k r²_k ≤ N for i.i.d. input, and = N for linear reservoirs of full rank (Jaeger)."""
    units, steps = 12, 30_000
    for topology in ("ring", "orthogonal"):
        mine = drawn(features=1, units=units, topology=topology, spectral_radius=0.9, activation=activations.linear())
        u = 2 * torch.rand(steps, generator=stream(0, "u"), dtype=torch.float64) - 1
        states = mine(u.view(1, -1, 1))[0].numpy()[200:]
        states -= states.mean(0)
        capacity = 0.0
        for delay in range(4 * units):
            wanted = u.numpy()[200 - delay : steps - delay]
            wanted = wanted - wanted.mean()
            fitted = states @ np.linalg.lstsq(states, wanted, rcond=None)[0]
            capacity += float(fitted @ wanted / (wanted @ wanted))  # r² of a least-squares fit
        # together with delay 0, which the definition leaves out; each r² is too large by N / steps on average
        assert capacity == pytest.approx(units, abs=2 * 4 * units * units / steps)


def test_forgetting_of_a_linear_ring_is_exactly_its_radius_to_the_t() -> None:
    mine = drawn(topology="ring", spectral_radius=0.9, activation=activations.linear())
    assert remaining_distance(mine, normal(30, 3), stream(0)) == pytest.approx(0.9**30, rel=1e-10)


def test_a_reservoir_with_a_large_radius_does_not_forget() -> None:
    silence = torch.zeros(300, 3, dtype=torch.float64)
    calm, wild = drawn(units=100, spectral_radius=0.8), drawn(units=100, spectral_radius=3.0)
    assert remaining_distance(calm, silence, stream(1)) < 1e-20
    assert remaining_distance(wild, silence, stream(1)) > 0.1
    assert calm.doubts() == []
    assert len(wild.doubts()) == 1


def test_doubts_are_about_the_leaky_map() -> None:
    """Ring of four units: λ = ρ e^{iπk/2}, so that (1 − a) + a ρ is the largest of (1 − a) I + a W."""
    keys = {"units": 4, "topology": "ring", "leak": 0.5}
    assert drawn(**keys, spectral_radius=0.99).doubts() == []
    assert "is 1.1," in drawn(**keys, spectral_radius=1.2).doubts()[0]
    # eigenvalues ±iρ and −ρ alone: the leak pulls them inside the unit circle
    mine = drawn(**keys, spectral_radius=1.2)
    mine.recurrent.copy_(torch.diag(torch.tensor([-1.2, -1.2, -1.2, -1.2])))
    assert mine.doubts() == []


def test_no_gradient_flows_and_mixed_precision_changes_nothing() -> None:
    mine, x = drawn(), normal(2, 10, 3).requires_grad_()
    assert not mine(x).requires_grad
    assert "not trained" in mine.no_gradient
    plain = mine.float()(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mine(x), plain)


def test_on_the_meta_device_it_has_a_shape() -> None:
    with torch.device("meta"):
        mine = Reservoir(3, 10, activations.tanh())
        mine.reset(torch.Generator("cpu"))
        assert mine(torch.empty(2, 100_000, 3)).shape == (2, 100_000, 10)


def test_a_leak_is_a_low_pass_filter() -> None:
    """Without recurrence h is the exponential average of φ(W_in x), by SciPy's filter."""
    mine, x = drawn(features=1, units=3, spectral_radius=0.0, leak=0.2), normal(1, 50, 1)
    wanted = lfilter([0.2], [1, -0.8], np.tanh(x[0].numpy() @ mine.input_weight.numpy().T), axis=0)
    np.testing.assert_allclose(mine(x)[0].numpy(), wanted, rtol=1e-12, atol=1e-14)
