"""Long short-term memory against torch.nn.LSTM, and its variants against their equations written out."""

from __future__ import annotations

import pytest
import torch
from by_hand import Looking, drawn, filled, gradients
from torch import Tensor, nn

from gradflow.models import activations
from gradflow.models.cells.lstm import lstm
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream

B, T, F, H = 3, 11, 4, 5
VARIANTS = {
    "plain": {},
    "peephole": {"peephole": True},
    "coupled": {"coupled": True},
    "coupled with peephole": {"coupled": True, "peephole": True},
    "1997": {"forget_gate": False},
    "1997 with peephole": {"forget_gate": False, "peephole": True},
}


def make(**keys):
    """Every parameter is drawn, those that begin at 0 too."""
    cell = lstm(F, H, activations.tanh, **keys).double()
    return filled(cell)


def start() -> tuple[Tensor, Tensor]:
    return drawn(B, H, name="h"), drawn(B, H, name="c")


def run(cell, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    z, step = cell.begin(x)
    states = []
    for t in range(x.shape[1]):
        state = step(z[:, t], state, t)
        states.append(state[0])
    return torch.stack(states, 1), state


def by_hand(cell, x: Tensor, state: tuple[Tensor, Tensor], variant: dict) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Each gate from its own rows of the weights, in the papers' order of operations."""
    order = [n for n in ("i", "f", "g", "o") if not (n == "i" and variant.get("coupled"))]
    order = [n for n in order if not (n == "f" and not variant.get("forget_gate", True))]
    gates = [n for n in order if n != "g"]

    def sums(name: str, x_t: Tensor, h: Tensor) -> Tensor:
        rows = slice(order.index(name) * H, (order.index(name) + 1) * H)
        return x_t @ cell.input_weight[rows].T + h @ cell.recurrent_weight[rows].T + cell.bias[rows]

    def peep(name: str, c: Tensor) -> Tensor | float:
        return cell.peephole_weight[gates.index(name)] * c if variant.get("peephole") else 0.0

    h, c = state
    outputs = []
    for t in range(x.shape[1]):
        g = torch.tanh(sums("g", x[:, t], h))
        f = torch.sigmoid(sums("f", x[:, t], h) + peep("f", c)) if "f" in order else 1.0
        i = torch.sigmoid(sums("i", x[:, t], h) + peep("i", c)) if "i" in order else 1 - f
        c = f * c + i * g
        o = torch.sigmoid(sums("o", x[:, t], h) + peep("o", c))
        h = o * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1), (h, c)


@pytest.mark.parametrize("every", [None, 1, 4], ids=["fast", "step by step", "segments"])
def test_is_that_of_torch(every):
    """Outputs, and gradients with respect to inputs and every weight."""
    cell = make()
    ours = Recurrence(cell)
    ours.observer = Looking(every) if every else None
    theirs = nn.LSTM(F, H, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(cell.input_weight)
        theirs.weight_hh_l0.copy_(cell.recurrent_weight)
        theirs.bias_ih_l0.copy_(cell.bias)
        theirs.bias_hh_l0.zero_()
    x = drawn(B, T, F).requires_grad_()
    out, expected = ours(x), theirs(x)[0]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    found = gradients(out, x, cell.input_weight, cell.recurrent_weight, cell.bias)
    wanted = gradients(expected, x, theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_the_fused_kernel_takes_and_gives_both_parts_of_the_state():
    cell, x, state = make(), drawn(B, T, F), start()
    h, last = cell.fast(x, state)
    expected, (h_T, c_T) = by_hand(cell, x, state, {})
    for found, wanted in ((h, expected), (last[0], h_T), (last[1], c_T)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_their_equations(variant):
    """Outputs, last states, and gradients with respect to everything that enters."""
    keys = VARIANTS[variant]
    cell, x, state = make(**keys), drawn(B, T, F).requires_grad_(), start()
    state = tuple(part.requires_grad_() for part in state)
    of = (x, *state, *cell.parameters())
    out, last = run(cell, x, state)
    expected, wanted = by_hand(cell, x, state, keys)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(last, wanted, rtol=0, atol=1e-12)
    for mine, other in zip(
        gradients(torch.cat([out.flatten(), last[1].flatten()]), *of),
        gradients(torch.cat([expected.flatten(), wanted[1].flatten()]), *of),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "plain"])
def test_only_the_plain_cell_has_a_kernel(variant):
    assert make(**VARIANTS[variant]).fast(drawn(B, T, F), start()) is None


def test_peepholes_begin_closed():
    cell = lstm(F, H, activations.tanh, peephole=True)
    cell.reset(stream(0, "reset"))
    assert cell.peephole_weight.shape == (3, H)
    assert not cell.peephole_weight.any()


def test_the_constant_error_carousel():
    """∂c_T/∂c_0 = 1 without forget gate, where the gates do not see the state; with it the product of its values."""
    x, state = drawn(B, T, F), start()
    for keys, factor in (({"forget_gate": False}, 1.0), ({}, torch.sigmoid(torch.tensor(0.4, dtype=torch.float64)))):
        cell = make(**keys)
        with torch.no_grad():
            cell.recurrent_weight.zero_()
            if keys == {}:
                cell.input_weight[H : 2 * H] = 0
                cell.bias[H : 2 * H] = 0.4
        c = state[1].clone().requires_grad_()
        _, (_, last) = run(cell, x, (state[0], c))
        gradient = torch.autograd.grad(last.sum(), c)[0]
        torch.testing.assert_close(gradient, torch.full_like(c, factor**T), rtol=1e-13, atol=0)


@pytest.mark.parametrize("variant", ["plain", "peephole", "coupled", "coupled with peephole"])
def test_leak_is_what_a_step_keeps_of_the_memory(variant):
    """∂c_t/∂c_{t−1} at constant gates: c_t of two memories with the gates of one."""
    cell, x, (h, c) = make(**VARIANTS[variant]), drawn(B, T, F), start()
    z, step = cell.begin(x)
    leak = cell.leak(z[:, 0], (h, c), 0)
    assert leak.shape == (B, H)
    if "peephole" in variant:  # the gate moves with the memory: take it out of the equation by hand
        rows = slice(0, H) if "coupled" in variant else slice(H, 2 * H)
        sums = x[:, 0] @ cell.input_weight[rows].T + h @ cell.recurrent_weight[rows].T + cell.bias[rows]
        expected = torch.sigmoid(sums + cell.peephole_weight[0 if "coupled" in variant else 1] * c)
    else:
        expected = step(z[:, 0], (h, c + 1), 0)[1] - step(z[:, 0], (h, c), 0)[1]
    torch.testing.assert_close(leak, expected, rtol=0, atol=1e-12)


def test_the_cell_of_1997_has_no_leak():
    cell = make(forget_gate=False)
    assert cell.leak(cell.begin(drawn(B, T, F))[0][:, 0], start(), 0) is None


# beginnings


def biases(cell) -> dict[str, Tensor]:
    return dict(zip(cell.names, cell.bias.detach().chunk(len(cell.names)), strict=True))


@pytest.mark.parametrize("keys", [{}, {"coupled": True}, {"peephole": True}])
@pytest.mark.parametrize("bias", [1.0, 0.0, -2.5])
def test_forget_bias(bias, keys):
    cell = lstm(F, H, activations.tanh, forget_bias=bias, **keys)
    cell.reset(stream(0, "reset"))
    for name, values in biases(cell).items():
        assert (values == (bias if name == "f" else 0.0)).all()


def test_without_forget_gate_all_biases_begin_at_0():
    cell = lstm(F, H, activations.tanh, forget_gate=False)
    cell.reset(stream(0, "reset"))
    assert not cell.bias.any()


def test_chrono_spreads_forget_and_input_gates():
    cell = lstm(1, 4000, activations.tanh, chrono=100).double()
    cell.reset(stream(0, "reset"))
    bias = biases(cell)
    times = bias["f"].exp().sort().values
    assert times[0] >= 1
    assert times[-1] <= 99
    uniform = 1 + 98 * (torch.arange(4000) + 0.5) / 4000
    assert (times - uniform).abs().max() / 98 < 1.95 / 4000**0.5  # Kolmogorov–Smirnov at 0.1 %
    assert (bias["i"] == -bias["f"]).all()
    assert not bias["g"].any()
    assert not bias["o"].any()


def test_chrono_of_coupled_gates():
    """1 − f lets in what b_i = −b_f would."""
    cell = lstm(F, H, activations.tanh, chrono=50, coupled=True)
    cell.reset(stream(0, "reset"))
    assert (biases(cell)["f"] > 0).all()
    assert not biases(cell)["g"].any()


def test_chrono_draws_from_its_generator_alone():
    def values(seed: int) -> Tensor:
        cell = lstm(F, H, activations.tanh, chrono=50)
        cell.reset(stream(seed, "reset"))
        return cell.bias.detach()

    before = torch.get_rng_state()
    assert torch.equal(values(1), values(1))
    assert not torch.equal(values(1), values(2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"coupled": True, "forget_gate": False},
            "cell.coupled=true is a matter of the forget gate, which cell.forget_gate=false leaves out: "
            "use cell.forget_gate=true, or leave cell.coupled as it is",
        ),
        (
            {"chrono": 10, "forget_gate": False},
            "cell.chrono=10 is a matter of the forget gate, which cell.forget_gate=false leaves out: "
            "use cell.forget_gate=true, or leave cell.chrono as it is",
        ),
        (
            {"forget_bias": 0.0, "forget_gate": False},
            "cell.forget_bias=0.0 is a matter of the forget gate, which cell.forget_gate=false leaves out: "
            "use cell.forget_gate=true, or leave cell.forget_bias as it is",
        ),
        (
            {"forget_bias": 2.0, "chrono": 10},
            "cell.chrono=10 draws the forget gate's biases, so that cell.forget_bias=2 has no effect: "
            "leave out one of them",
        ),
        (
            {"chrono": 1},
            "cell.chrono=1 leaves no time to remember: give the steps of the longest dependency, at least 2, "
            "or null to leave the gates' biases alone",
        ),
    ],
)
def test_refusals(keys, message):
    with pytest.raises(ValueError) as caught:
        lstm(F, H, activations.tanh, **keys)
    assert str(caught.value) == message


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match="cell=lstm has its own non-linearities"):
        lstm(F, H, activations.relu)


@pytest.mark.parametrize("variant", VARIANTS)
def test_roles(variant):
    """The candidate's input weights are a map, the gates' are gates; all weights from states are recurrent."""
    cell = make(**VARIANTS[variant])
    matrices = list(cell.matrices())
    count = len(cell.names)
    assert [m.role for m in matrices] == ["map" if n == "g" else "gate" for n in cell.names] + ["recurrent"] * count
    for index, matrix in enumerate(matrices):
        rows = slice(index % count * H, (index % count + 1) * H)
        if index < count:
            assert torch.equal(matrix.tensor, cell.input_weight[rows])
            assert torch.equal(matrix.bias, cell.bias[rows])
        else:
            assert torch.equal(matrix.tensor, cell.recurrent_weight[rows])
            assert matrix.bias is None
