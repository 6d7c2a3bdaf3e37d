"""What every cell promises: its contract, for each one that a config can name; and the few functions beside it."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from gradflow.models import activations, initializers
from gradflow.models.cell import Cell, Matrix, brings_its_own, gates, phi, zeros
from gradflow.models.initialize import initialize
from gradflow.models.recurrence import Recurrence
from gradflow.resources import conf_dir
from gradflow.rng import stream

B, T, F, H = 3, 6, 4, 8
CELLS = sorted(file.stem for file in (conf_dir() / "cell").glob("*.yaml"))


def make(name: str) -> Cell:
    """As its config file has it."""
    keys = OmegaConf.to_container(OmegaConf.load(conf_dir() / "cell" / f"{name}.yaml"))
    module, function = keys.pop("_target_").rsplit(".", 1)
    assert function == name
    return getattr(import_module(module), function)(F, H, activations.tanh, **keys)


def filled(name: str) -> Recurrence:
    layer = Recurrence(make(name)).double()
    initialize(
        layer,
        initializers.glorot_uniform,
        stream(0, "init"),
        activations.tanh,
        recurrent_init=initializers.orthogonal,
    )
    return layer


def x() -> Tensor:
    return torch.randn(B, T, F, generator=stream(0, "x"), dtype=torch.float64)


class Looker:
    every = 1

    def __call__(self, time, state):
        return state


# every cell


@pytest.mark.parametrize("name", CELLS)
def test_nothing_is_drawn_by_a_constructor_nor_outside_the_generator(name):
    before = torch.get_rng_state()
    first, second = filled(name), filled(name)
    first(x())
    assert torch.equal(torch.get_rng_state(), before)
    for (path, one), two in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two), path


@pytest.mark.parametrize("name", CELLS)
def test_shapes(name):
    cell = filled(name).cell
    state = cell.start(x())
    assert len(state) == len(cell.state_names)
    assert all(len(part) == B for part in state)
    z, step = cell.begin(x())
    numbers = torch.view_as_real(z).flatten(2) if z.is_complex() else z
    assert numbers.shape == (B, T, cell.inputs)
    assert cell.linear or not z.is_complex()  # to real ones a skip through time adds
    after = step(z[:, 0], state, 0)
    assert [part.shape for part in after] == [part.shape for part in state]
    assert [part.dtype for part in after] == [part.dtype for part in state]
    leak = cell.leak(z[:, 0], state, 0)
    assert leak is None or (leak.shape == state[0].shape and bool((leak >= 0).all() and (leak <= 1).all()))


@pytest.mark.parametrize("name", CELLS)
def test_a_step_can_be_taken_twice(name):
    cell = filled(name).cell
    z, step = cell.begin(x())
    state = step(z[:, 0], cell.start(x()), 0)
    for one, two in zip(step(z[:, 1], state, 1), step(z[:, 1], state, 1), strict=True):
        assert torch.equal(one, two)


# Those with a fused kernel or a scan; the others go step by step.
FAST = ("gru", "irnn", "latch_neuron", "lru", "lstm", "lstm1997", "mingru", "minlstm", "rnn", "s4d")


def test_which_cells_have_a_fast_way():
    has = [name for name in CELLS if (cell := filled(name).cell).fast(x(), cell.start(x())) is not None]
    assert sorted(has) == sorted(FAST)


@pytest.mark.parametrize("name", FAST)
def test_the_fast_way_is_the_steps(name):
    """From any state, outputs, last state and gradients."""
    layer, sequence = filled(name), x().requires_grad_()
    cell = layer.cell
    generator = stream(0, "state")
    start = tuple(0.3 * torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in cell.start(x()))
    found = cell.fast(sequence, start)
    assert found is not None
    z, step = cell.begin(sequence)
    state, states = start, []
    for time in range(T):
        state = step(z[:, time], state, time)
        states.append(state[0])
    expected = cell.read(torch.stack(states, 1), sequence)
    h = cell.read(found[0], sequence)
    torch.testing.assert_close(h, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1], state, rtol=1e-10, atol=1e-10)
    one, two = (torch.autograd.grad(each.square().sum(), sequence)[0] for each in (h, expected))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("observer", [None, Looker()], ids=["fast", "step by step"])
def test_on_the_meta_device(name, observer):
    with torch.device("meta"):
        layer = Recurrence(make(name))
        layer.observer = observer
        assert layer(torch.empty(2, T, F)).shape == (2, T, H)


@pytest.mark.parametrize("name", CELLS)
def test_in_single_precision_with_a_gradient_for_every_parameter(name):
    layer = filled(name).float()
    out = layer(x().float())
    assert out.shape == (B, T, H)
    assert out.dtype == torch.float32
    out.square().sum().backward()
    for path, parameter in layer.named_parameters():
        assert parameter.grad is not None, path
        assert torch.isfinite(parameter.grad).all(), path


@pytest.mark.parametrize("name", CELLS)
def test_matrices_are_views_of_parameters(name):
    """So that filling one fills the cell; no number is in two of them."""
    cell = make(name)
    filled_by_inits = 0
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        for matrix in cell.matrices():
            assert matrix.tensor.ndim == 2
            assert matrix.bias is None or matrix.bias.shape == matrix.tensor.shape[:1]
            matrix.tensor.add_(1)
            filled_by_inits += matrix.tensor.numel()
    counts = torch.cat([parameter.flatten() for parameter in cell.parameters()])
    assert set(counts.tolist()) <= {0.0, 1.0}
    assert counts.sum() == filled_by_inits


# what stands beside them


class Least(Cell):
    """h_t = h_{t−1} + z_t."""

    def begin(self, x_BTF):
        return x_BTF, lambda z, state, _: (state[0] + z,)


def test_what_a_cell_need_not_say():
    cell = Least(H, H)
    assert cell.inputs == cell.width == H
    assert cell.state_names == ("h",)
    assert not cell.linear
    ones = torch.ones(B, T, H)
    (start,) = cell.start(ones)
    assert torch.equal(start, torch.zeros(B, H))
    assert cell.fast(ones, (start,)) is None
    assert cell.leak(ones[:, 0], (start,), 0) is None
    assert cell.read(ones, ones) is ones
    assert list(cell.matrices()) == []
    assert torch.equal(Recurrence(cell)(ones)[0, :, 0], torch.arange(1.0, T + 1))
    with pytest.raises(NotImplementedError):
        Cell(H, H).begin(ones)


def test_gates_are_the_parts_of_a_parameter():
    weight, bias = zeros(6, 4), zeros(6)
    parts = list(gates(weight, bias, ("gate", "map", "recurrent")))
    assert [part.role for part in parts] == ["gate", "map", "recurrent"]
    for index, part in enumerate(parts):
        assert isinstance(part, Matrix)
        part.tensor.fill_(index + 1)
        part.bias.fill_(-index)
    assert weight[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert bias.tolist() == [0, 0, -1, -1, -2, -2]
    assert [part.bias for part in gates(weight, None, ("gate", "map"))] == [None, None]


def test_phi():
    assert phi(activations.tanh()) is torch.tanh
    assert phi(activations.relu()) is torch.relu
    assert phi(activations.crelu()) is None
    assert phi(nn.ReLU()) is None


def test_cells_with_their_own_nonlinearities_take_no_other():
    brings_its_own("lstm", activations.tanh)
    message = (
        "cell=lstm has its own non-linearities, so that another activation has no effect: "
        "use activation=tanh, which stands for them, or cell=rnn"
    )
    for other in (activations.relu, activations.maxout, nn.ReLU):
        with pytest.raises(ValueError, match=re.escape(message)):
            brings_its_own("lstm", other)
