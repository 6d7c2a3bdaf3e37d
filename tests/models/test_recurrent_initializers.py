"""Initialisers of weights from states to states: orthogonal per gate, spectral radius, identity."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from gradflow.models import activations, initializers
from gradflow.models.cells.gru import gru
from gradflow.models.cells.janet import janet
from gradflow.models.cells.lstm import lstm
from gradflow.models.cells.minimal_gated_unit import minimal_gated_unit
from gradflow.models.cells.rnn import rnn
from gradflow.models.initialize import initialize
from gradflow.models.recurrence import Recurrence
from gradflow.models.weights import Weight
from gradflow.resources import conf_dir
from gradflow.rng import stream

F, H = 4, 24
CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru, "minimal_gated_unit": minimal_gated_unit, "janet": janet}
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "minimal_gated_unit": 2, "janet": 2}


def recurrent_weights(name: str, init, seed: int = 0, **keys) -> list[Tensor]:
    layer = Recurrence(CELLS[name](F, H, activations.tanh, **keys)).double()
    initialize(layer, initializers.glorot_uniform, stream(seed, "init"), activations.tanh, recurrent_init=init)
    return list(layer.cell.recurrent_weight.detach().chunk(GATES[name]))


def radius(matrix: Tensor) -> float:
    """ρ = lim ‖Wⁿ‖^(1/n) (Gelfand 1941) at n = 2⁴⁰, without any eigenvalue; 0 where a power vanishes."""
    power, log_size = matrix.double(), 0.0
    for doubling in range(41):
        size = float(torch.linalg.matrix_norm(power))
        if size == 0:
            return 0.0
        log_size += math.log(size) / 2**doubling  # of ‖Wⁿ‖^(1/n), n = 2^doubling, what this doubling adds
        power = power / size
        power = power @ power
    return math.exp(log_size)


def square(size: int = 60) -> Weight:
    return Weight(torch.full((size, size), torch.nan, dtype=torch.float64), role="recurrent")


@pytest.mark.parametrize("name", CELLS)
def test_orthogonal_gate_by_gate(name):
    """Each square by itself, and no two alike."""
    matrices = recurrent_weights(name, initializers.orthogonal)
    eye = torch.eye(H, dtype=torch.float64)
    for index, matrix in enumerate(matrices):
        torch.testing.assert_close(matrix @ matrix.T, eye, rtol=0, atol=1e-12)
        assert not any(torch.equal(matrix, other) for other in matrices[:index])


def test_the_gain_of_the_activation():
    """tanh: 1/√E tanh(z)² = 1.5925 for z ~ N(0, 1)."""
    (matrix,) = recurrent_weights("rnn", partial(initializers.orthogonal, gain="activation"))
    singular = torch.linalg.svdvals(matrix)
    torch.testing.assert_close(singular, torch.full_like(singular, 0.39429449**-0.5), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", CELLS)
def test_spectral_radius_gate_by_gate(name):
    for matrix in recurrent_weights(name, partial(initializers.spectral_radius, radius=0.95)):
        assert radius(matrix) == pytest.approx(0.95, abs=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("connections", [None, 3, 15, 200])
def test_spectral_radius_is_exact(rho, connections):
    weight = square()
    initializers.spectral_radius(weight, stream(0, "test"), radius=rho, connections=connections)
    assert radius(weight.tensor) == pytest.approx(rho, abs=1e-9)
    if rho:
        per_unit = (weight.tensor != 0).sum(1)
        assert (per_unit == min(connections or 60, 60)).all()
    else:
        assert not weight.tensor.any()


def test_spectral_radius_scales_a_gaussian():
    """Of which the circular law says that before it was 1, roughly."""
    weight = square(400)
    initializers.spectral_radius(weight, stream(0, "test"), radius=1.0)
    entries = weight.tensor * 400**0.5
    assert float(entries.square().mean()) == pytest.approx(1, abs=0.15)
    assert abs(float(entries.mean())) < 5 / 400
    normalised = entries / entries.square().mean().sqrt()
    assert float((normalised**4).mean()) == pytest.approx(3, abs=5 * (96 / 160_000) ** 0.5)


def test_spectral_radius_depends_on_its_generator_alone():
    def drawn(seed: int) -> Tensor:
        weight = square(10)
        initializers.spectral_radius(weight, stream(seed, "test"))
        return weight.tensor

    before = torch.get_rng_state()
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_spectral_radius_in_single_precision():
    weight = Weight(torch.empty(60, 60), role="recurrent")
    initializers.spectral_radius(weight, stream(0, "test"), radius=0.9)
    assert radius(weight.tensor) == pytest.approx(0.9, abs=1e-5)


def test_spectral_radius_refuses_what_is_not_square():
    for shape in ((3, 4), (3, 3, 5, 5)):
        weight = Weight(torch.zeros(shape), role="block")
        with pytest.raises(ValueError) as caught:
            initializers.spectral_radius(weight, stream(0, "test"))
        assert str(caught.value) == (
            f"init=spectral_radius needs a square matrix, but a block weight has shape {list(shape)}: "
            "use it as recurrent_init"
        )


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_one_connection_per_unit_is_enough_for_a_loop(size):
    """Whose product alone has a spectral radius, whatever hangs on it."""
    for seed in range(10):
        weight = square(size)
        initializers.spectral_radius(weight, stream(seed, "test"), radius=0.5, connections=1)
        unit, loop, product = 0, [], 1.0
        feeds = weight.tensor.abs().argmax(1).tolist()
        while unit not in loop:
            loop.append(unit)
            unit = feeds[unit]
        loop = loop[loop.index(unit) :]
        for unit in loop:
            product *= float(weight.tensor[unit, feeds[unit]].abs())
        assert product ** (1 / len(loop)) <= 0.5 + 1e-12  # other units may be on a loop of their own
        assert radius(weight.tensor) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_identity_gate_by_gate(name):
    for matrix in recurrent_weights(name, partial(initializers.identity, gain=0.5)):
        assert torch.equal(matrix, 0.5 * torch.eye(H, dtype=torch.float64))


def test_every_config_file_names_an_initialiser():
    names = sorted(file.stem for file in (conf_dir() / "recurrent_init").glob("*.yaml"))
    assert names
    for name in names:
        weight = square(20)
        getattr(initializers, name)(weight, stream(0, "test"))
        assert torch.isfinite(weight.tensor).all()
