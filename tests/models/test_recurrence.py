"""Driving a cell through time: observers, zoneout, skips through time, direction, carried states."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gradflow.models import activations, initializers
from gradflow.models.cell import Cell
from gradflow.models.cells.gru import gru
from gradflow.models.cells.irnn import irnn
from gradflow.models.cells.lstm import lstm
from gradflow.models.cells.rnn import rnn
from gradflow.models.initialize import initialize
from gradflow.models.recurrence import Bidirectional, Recurrence, carrying
from gradflow.rng import stream

B, T, F, H = 3, 12, 4, 5
CELLS = {"rnn": rnn, "irnn": irnn, "lstm": lstm, "gru": gru}


def drawn(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, generator=stream(0, name, *shape), dtype=torch.float64)


def make(name: str = "lstm", zoneout=(), skip_time: int = 0, reverse: bool = False) -> Recurrence:
    layer = Recurrence(CELLS[name](F, H, activations.tanh), zoneout, skip_time, reverse).double()
    with torch.no_grad():
        for path, parameter in layer.named_parameters():
            parameter.copy_(0.6 * drawn(*parameter.shape, name=path))
    return layer


def gradients(out: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((out * drawn(*out.shape, name="weights of the loss")).sum(), of))


class Observer:
    """Notes when it is called, and with what; may change states."""

    def __init__(self, every: int = 1, change=lambda _, state: state) -> None:
        self.every, self.change = every, change
        self.times: list[int] = []
        self.states: list[tuple[Tensor, ...]] = []

    def __call__(self, time, state):
        self.times.append(time)
        self.states.append(state)
        return self.change(time, state)


# observers


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("every", [1, 3, 5, 12, 50])
@pytest.mark.parametrize("name", CELLS)
def test_looking_changes_nothing(name, every, reverse):
    """Neither outputs nor gradients, whatever the way through the sequence."""
    layer, x = make(name, reverse=reverse), drawn(B, T, F).requires_grad_()
    of = (x, *layer.parameters())
    out = layer(x)
    layer.observer = Observer(every)
    observed = layer(x)
    torch.testing.assert_close(observed, out, rtol=0, atol=1e-12)
    for mine, other in zip(gradients(observed, *of), gradients(out, *of), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("skip_time", [0, 2], ids=["segments", "step by step"])
@pytest.mark.parametrize("every", [1, 3, 5, 12, 50])
def test_times_and_states_of_looks(every, skip_time):
    """After every k-th step and the last one; in the sequence's own order when it runs backwards."""
    places = [t for t in range(T) if (t + 1) % every == 0 or t == T - 1]
    x = drawn(B, T, F)
    for reverse in (False, True):
        layer = make("lstm", skip_time=skip_time, reverse=reverse)
        layer.observer = observer = Observer(every)
        out = layer(x)
        assert observer.times == [T - 1 - t if reverse else t for t in places]
        for time, state in zip(observer.times, observer.states, strict=True):
            assert len(state) == 2
            torch.testing.assert_close(out[:, time], state[0], rtol=0, atol=0)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_what_an_observer_returns_is_used(every, reverse):
    """In the output of that step and in all that follow: here a reset to constants at one step."""
    constants = (torch.full((B, H), 0.3, dtype=torch.float64), torch.full((B, H), -0.7, dtype=torch.float64))
    at = 4 if reverse else 7  # the eighth step either way
    layer, x = make("lstm", reverse=reverse), drawn(B, T, F)
    plain = layer(x)
    layer.observer = Observer(every, lambda time, state: constants if time == at else state)
    out = layer(x)
    before, after = (slice(at + 1, T), slice(0, at)) if reverse else (slice(0, at), slice(at + 1, T))
    torch.testing.assert_close(out[:, before], plain[:, before], rtol=0, atol=1e-12)
    assert torch.equal(out[:, at], constants[0])
    rest = x[:, after].flip(1) if reverse else x[:, after]
    expected, _ = layer.cell.fast(rest, constants)
    torch.testing.assert_close(out[:, after], expected.flip(1) if reverse else expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("every", [1, 3])
def test_total_gradients_at_the_looks(every):
    """∂L/∂h_t over h_t's own output and all later states: that of the loss as a function of a shift of the state."""
    layer, x = make("lstm"), drawn(B, T, F)
    weights = drawn(B, T, H, name="weights of the loss")

    def loss(shift: Tensor | None, at: int) -> Tensor:
        layer.observer = Observer(every, lambda t, s: (s[0] + shift, s[1]) if shift is not None and t == at else s)
        return (layer(x) * weights).sum()

    layer.observer = observer = Observer(every)
    total = (layer(x) * weights).sum()
    found = torch.autograd.grad(total, [state[0] for state in observer.states])
    times = list(observer.times)
    for t, gradient in zip(times, found, strict=True):
        step = 1e-5 * drawn(B, H, name=f"direction {t}")
        difference = (loss(step, t) - loss(-step, t)) / 2
        torch.testing.assert_close((gradient * step).sum(), difference, rtol=1e-6, atol=1e-12)


# zoneout


def test_zoneout_keeps_the_given_shares_while_training():
    """Of h and of c by themselves, anew at every step; what is not kept is the step's own."""
    layer, x = make("lstm", (0.2, 0.6)), drawn(400, T, F)
    layer.observer = observer = Observer()
    torch.manual_seed(0)
    layer(x)
    z, step = layer.cell.begin(x)
    kept, before = [], layer.cell.start(x)
    for t, state in enumerate(observer.states):
        new = step(z[:, t], before, t)
        shares = [old == now for old, now in zip(before, state, strict=True)]
        for mask, now, fresh in zip(shares, state, new, strict=True):
            torch.testing.assert_close(now[~mask], fresh[~mask], rtol=0, atol=1e-14)
        kept.append(torch.stack(shares))
        before = state
    kept_TPBH = torch.stack(kept).double()
    count = 400 * T * H
    for index, share in enumerate((0.2, 0.6)):
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(float(kept_TPBH[:, index].mean()) - share) < 5 * deviation
    h, c = kept_TPBH[:, 0], kept_TPBH[:, 1]
    assert abs(float(((h - 0.2) * (c - 0.6)).mean())) < 5 * (0.2 * 0.8 * 0.6 * 0.4 / count) ** 0.5
    assert abs(float(((h[1:] - 0.2) * (h[:-1] - 0.2)).mean())) < 5 * 0.2 * 0.8 / (count * (T - 1) / T) ** 0.5


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_zoneout_is_its_expectation_at_evaluation(name):
    shares = (0.2, 0.6)[: 2 if name == "lstm" else 1]
    layer, x = make(name, shares).eval(), drawn(B, T, F)
    z, step = layer.cell.begin(x)
    state, states = layer.cell.start(x), []
    for t in range(T):
        new = step(z[:, t], state, t)
        state = tuple(p * old + (1 - p) * now for p, old, now in zip(shares, state, new, strict=True))
        states.append(state[0])
    torch.testing.assert_close(layer(x), torch.stack(states, 1), rtol=0, atol=1e-12)


def test_no_zoneout_is_no_loop():
    """And draws nothing."""
    layer, x = make("lstm", (0.0, 0.0)), drawn(B, T, F)
    layer.cell.begin = None  # only the fast way is left
    before = torch.get_rng_state()
    torch.testing.assert_close(layer(x), make("lstm")(x), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


# skips through time


@pytest.mark.parametrize("k", [1, 3, 11])
@pytest.mark.parametrize("name", CELLS)
def test_skips_through_time(name, k):
    """W_k h_{t−k} added to the input's part, written out; outputs and gradients."""
    layer, x = make(name, skip_time=k), drawn(B, T, F).requires_grad_()
    cell = layer.cell
    z, step = cell.begin(x)
    state, states = cell.start(x), []
    for t in range(T):
        now = z[:, t] if t < k else z[:, t] + states[t - k] @ layer.skip_weight.T
        state = step(now, state, t)
        states.append(state[0])
    expected, out = torch.stack(states, 1), layer(x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    of = (x, *layer.parameters())
    for mine, other in zip(gradients(out, *of), gradients(expected, *of), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
    plain = make(name)(x)
    torch.testing.assert_close(out[:, :k], plain[:, :k], rtol=0, atol=1e-12)
    assert (out[:, k] - plain[:, k]).abs().max() > 1e-3


def test_a_skip_is_a_short_way_for_the_gradient():
    """With zero recurrent weights ∂h_t/∂h_s reaches back by multiples of k alone, and so does ∂h_t/∂x_s."""
    layer, x = make("rnn", skip_time=4), drawn(1, T, F).requires_grad_()
    with torch.no_grad():
        layer.cell.recurrent_weight.zero_()
    reached = torch.autograd.grad(layer(x)[:, 10].sum(), x)[0].abs().sum((0, 2)) > 0
    assert reached.nonzero().flatten().tolist() == [2, 6, 10]


def test_a_skip_through_time_is_offered_to_the_initialiser_gate_by_gate():
    layer = Recurrence(lstm(F, H, activations.tanh), skip_time=2).double()
    assert [matrix.role for matrix in layer.matrices()] == ["recurrent"] * 4
    initialize(layer, initializers.glorot_uniform, stream(0, "init"), recurrent_init=initializers.orthogonal)
    eye = torch.eye(H, dtype=torch.float64)
    for gate in layer.skip_weight.detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, eye, rtol=0, atol=1e-12)
    assert list(make("lstm").matrices()) == []


class Linear(Cell):
    linear = True


def test_a_linear_recurrence_takes_no_skip():
    message = (
        r"model\.skip_time=3 does not go with cell=linear, whose linear recurrence has a lag of one step: "
        r"use model\.skip_time=0, or another cell"
    )
    with pytest.raises(ValueError, match=message):
        Recurrence(Linear(F, H), skip_time=3)


# direction


@pytest.mark.parametrize("name", CELLS)
def test_reverse_is_the_sequence_turned_round(name):
    x = drawn(B, T, F)
    torch.testing.assert_close(make(name, reverse=True)(x), make(name)(x.flip(1)).flip(1), rtol=0, atol=0)


def test_bidirectional_is_that_of_torch():
    both = Bidirectional(make("lstm"), make("lstm", reverse=True))
    with torch.no_grad():
        for parameter in both.back.parameters():
            parameter.add_(0.1)
    theirs = nn.LSTM(F, H, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for cell, suffix in ((both.ahead.cell, ""), (both.back.cell, "_reverse")):
            getattr(theirs, f"weight_ih_l0{suffix}").copy_(cell.input_weight)
            getattr(theirs, f"weight_hh_l0{suffix}").copy_(cell.recurrent_weight)
            getattr(theirs, f"bias_ih_l0{suffix}").copy_(cell.bias)
            getattr(theirs, f"bias_hh_l0{suffix}").zero_()
    x = drawn(B, T, F)
    torch.testing.assert_close(both(x), theirs(x)[0], rtol=0, atol=1e-12)


# carried states


@pytest.mark.parametrize("cut", [1, 5, 11])
@pytest.mark.parametrize("name", CELLS)
def test_two_parts_are_the_whole(name, cut):
    layer, x = make(name), drawn(B, T, F)
    whole = layer(x)
    with carrying(layer):
        parts = [layer(x[:, :cut]), layer(x[:, cut:])]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x), whole, rtol=0, atol=0)  # outside every call begins anew


def test_no_gradient_goes_from_one_call_to_the_one_before():
    """Of the second part it is that of a sequence which begins with a constant state."""
    layer, x = make("lstm"), drawn(B, T, F).requires_grad_()
    with carrying(layer) as carries:
        layer(x[:, :5])
        state = carries[0].state
        assert [part.requires_grad for part in state] == [False, False]
        out = layer(x[:, 5:])
    found = gradients(out, x, *layer.cell.parameters())
    assert not found[0][:, :5].any()
    expected = gradients(layer.cell.fast(x[:, 5:], state)[0], x, *layer.cell.parameters())
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_a_state_can_be_put_aside_and_back():
    layers = nn.Sequential(make("rnn"), Recurrence(gru(H, H, activations.tanh)).double())
    x = drawn(B, T, F)
    whole = layers(x)
    with carrying(layers) as carries:
        assert [carry.state for carry in carries] == [None, None]
        layers(x[:, :5])
        kept = [carry.state for carry in carries]
        first = layers(x[:, 5:])
        for carry, state in zip(carries, kept, strict=True):
            carry.state = state
        again = layers(x[:, 5:])
    assert torch.equal(first, again)
    torch.testing.assert_close(first, whole[:, 5:], rtol=0, atol=1e-12)
    assert all(module.carry is None for module in layers.modules() if isinstance(module, Recurrence))


def test_carrying_ends_with_an_exception_too():
    layer = make("rnn")
    with pytest.raises(RuntimeError, match="stop"), carrying(layer):
        raise RuntimeError("stop")
    assert layer.carry is None


def test_a_layer_can_be_copied():
    layer, x = make("lstm", (0.1, 0.1), skip_time=2).eval(), drawn(B, T, F)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
