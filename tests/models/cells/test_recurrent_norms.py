"""Normalisation inside a recurrence against the papers' equations, with torch's functions step by step and by hand."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from by_hand import drawn, gradients
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from gradflow.models import activations, initializers
from gradflow.models.cells import recurrent_norms
from gradflow.models.cells.gru import gru
from gradflow.models.cells.janet import janet
from gradflow.models.cells.lstm import lstm
from gradflow.models.cells.minimal_gated_unit import minimal_gated_unit
from gradflow.models.cells.recurrent_norms import step_norm
from gradflow.models.cells.rnn import rnn
from gradflow.models.initialize import initialize
from gradflow.models.layers import Linear
from gradflow.models.network import Network
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream

B, T, F, H = 5, 7, 4, 6
CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru, "minimal_gated_unit": minimal_gated_unit, "janet": janet}
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "minimal_gated_unit": 2, "janet": 2}


def make(name: str, norm: str, **keys) -> Recurrence:
    """Every parameter is drawn, those that begin at 0 or alike too."""
    layer = Recurrence(CELLS[name](F, H, activations.tanh, recurrent_norm=norm, **keys)).double()
    with torch.no_grad():
        for path, parameter in layer.named_parameters():
            parameter.add_(0.6 * drawn(*parameter.shape, name=path))
    return layer


def over_units(z: Tensor, scale: Tensor) -> Tensor:
    """Ba et al. 2016, eq. 3, without shift."""
    mean = z.mean(1, keepdim=True)
    return scale * (z - mean) / ((z - mean).square().mean(1, keepdim=True) + 1e-5).sqrt()


def over_batch(z: Tensor, scale: Tensor) -> Tensor:
    """Cooijmans et al. 2017, eq. 6 (batch normalisation), without shift."""
    mean = z.mean(0)
    return scale * (z - mean) / ((z - mean).square().mean(0) + 1e-5).sqrt()


def by_hand(name: str, norm: str, cell: nn.Module, x: Tensor) -> Tensor:
    """N(W x) + N(U h) + b, with layer normalisation over the parts that the papers put into one vector."""
    N = over_units if norm == "layer" else over_batch
    W, U, b = cell.input_weight, cell.recurrent_weight, cell.bias
    h = c = x.new_zeros(len(x), H)
    states = []
    for t in range(x.shape[1]):
        z = x[:, t] @ W.T
        if name == "minimal_gated_unit":
            g, k = slice(0, H), slice(H, 2 * H)
            scales = cell.input_norm.weight
            f = torch.sigmoid(N(z[:, g], scales[g]) + N(h @ U[g].T, cell.gate_norm.weight) + b[g])
            new = torch.tanh(N(z[:, k], scales[k]) + N((f * h) @ U[k].T, cell.candidate_norm.weight) + b[k])
            h = (1 - f) * h + f * new
        elif name == "gru":
            g, k = slice(0, 2 * H), slice(2 * H, 3 * H)
            scale_x, scale_h, u = cell.input_norm.weight, cell.state_norm.weight, h @ U.T
            gates = torch.sigmoid(N(z[:, g], scale_x[g]) + N(u[:, g], scale_h[g]) + b[g])
            r, keep = gates[:, :H], gates[:, H:]
            new = torch.tanh(N(z[:, k], scale_x[k]) + b[k] + r * (N(u[:, k], scale_h[k]) + cell.candidate_bias))
            h = keep * h + (1 - keep) * new
        else:
            sums = N(z, cell.input_norm.weight) + N(h @ U.T, cell.state_norm.weight) + b
            if name == "rnn":
                h = torch.tanh(sums)
            elif name == "janet":
                s, new = sums.chunk(2, 1)
                h = torch.sigmoid(s) * h + (1 - torch.sigmoid(s - 1)) * torch.tanh(new)
            else:
                i, f, g, o = sums.chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(N(c, cell.memory_norm.weight) + cell.memory_bias)
        states.append(h)
    return torch.stack(states, 1)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("name", CELLS)
def test_cells_are_their_equations(name, norm):
    """In training; outputs, and gradients with respect to inputs and every parameter."""
    layer, x = make(name, norm), drawn(B, T, F).requires_grad_()
    out, expected = layer(x), by_hand(name, norm, layer.cell, x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-11)
    of = (x, *layer.parameters())
    for mine, other in zip(gradients(out, *of), gradients(expected, *of), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-8)  # ×1/√ε where the first state's variance is 0


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("keys", [{"peephole": True}, {"coupled": True}, {"forget_gate": False}], ids=str)
def test_variants_of_lstm_take_norms(norm, keys):
    """Whose peepholes see the memory as it is."""
    layer, x = make("lstm", norm, **keys), drawn(B, T, F)
    cell, N = layer.cell, over_units if norm == "layer" else over_batch
    h = c = x.new_zeros(B, H)
    for t in range(T):
        sums = N(x[:, t] @ cell.input_weight.T, cell.input_norm.weight)
        sums = sums + N(h @ cell.recurrent_weight.T, cell.state_norm.weight) + cell.bias
        part = dict(zip(cell.names, sums.chunk(len(cell.names), 1), strict=True))
        w_i, w_f, w_o = cell.peephole_weight if cell.peephole_weight is not None else (0.0, 0.0, 0.0)
        f = torch.sigmoid(part["f"] + w_f * c) if "f" in part else 1.0
        i = torch.sigmoid(part["i"] + w_i * c) if "i" in part else 1 - f
        c = f * c + i * torch.tanh(part["g"])
        h = torch.sigmoid(part["o"] + w_o * c) * torch.tanh(N(c, cell.memory_norm.weight) + cell.memory_bias)
    torch.testing.assert_close(layer(x)[:, -1], h, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CELLS)
def test_beginnings(name):
    """Scale 1 with layer, 0.1 with batch normalisation; no shift but the cell's bias, and the memory's."""
    for norm, scale in (("layer", 1.0), ("batch", 0.1)):
        cell = CELLS[name](F, H, activations.tanh, recurrent_norm=norm)
        parameters = dict(cell.named_parameters())
        scales = {path: p for path, p in parameters.items() if path.endswith("norm.weight")}
        assert sum(p.numel() for p in scales.values()) == 2 * GATES[name] * H + (H if name == "lstm" else 0)
        assert all((p == scale).all() for p in scales.values())
        plain = dict(CELLS[name](F, H, activations.tanh).named_parameters())
        assert parameters.keys() - plain.keys() == scales.keys() | ({"memory_bias"} if name == "lstm" else set())
        assert plain.keys() <= parameters.keys()


# statistics of batch normalisation


def states_of(norm: nn.Module, times: range, seed: int) -> list[Tensor]:
    generator = stream(seed, "z")
    z = [torch.randn(B, H, generator=generator, dtype=torch.float64) * (t + 1) + t for t in times]
    for t, each in zip(times, z, strict=True):
        norm(each, t)
    return z


def test_every_step_has_running_statistics_of_its_own():
    """Those of torch.nn.functional.batch_norm with one pair of buffers per step."""
    norm = step_norm("batch", H).double()
    mean, variance = torch.zeros(T, H, dtype=torch.float64), torch.ones(T, H, dtype=torch.float64)
    for seed in range(3):
        for t, z in enumerate(states_of(norm, range(T), seed)):
            out = batch_norm(z, mean[t], variance[t], norm.weight, None, True, 0.1)
            torch.testing.assert_close(norm(z, t, None, False), out, rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_mean, mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_var, variance, rtol=0, atol=1e-12)
    norm.eval()
    shift = drawn(H, name="shift")
    for t in range(T + 3):
        row = min(t, T - 1)  # beyond what has been seen: the last
        z = drawn(B, H, name=f"z{t}")
        expected = norm.weight * (z - mean[row]) / (variance[row] + 1e-5).sqrt() + shift
        torch.testing.assert_close(norm(z, t, shift), expected, rtol=0, atol=1e-12)


def test_shorter_sequences_leave_later_steps_alone_and_longer_ones_add_theirs():
    norm = step_norm("batch", H).double()
    states_of(norm, range(4), 0)
    four = norm.running_mean.clone()
    states_of(norm, range(2), 1)
    assert torch.equal(norm.running_mean[2:], four[2:])
    assert not torch.equal(norm.running_mean[:2], four[:2])
    two = norm.running_mean[:4].clone()
    z = states_of(norm, range(4, 6), 2)
    assert torch.equal(norm.running_mean[:4], two)
    torch.testing.assert_close(norm.running_mean[5], 0.1 * z[1].mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_var[5], 0.9 + 0.1 * z[1].var(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_evaluation_of_a_cell_uses_each_steps_statistics(name, monkeypatch):
    """Of a layer whose statistics are those of its one batch, evaluation is training; later steps use the last ones."""
    monkeypatch.setattr(recurrent_norms, "MOMENTUM", 1.0)
    layer, x = make(name, "batch"), drawn(64, T, F)
    trained = layer(x)
    for part in layer.modules():
        if hasattr(part, "running_var"):
            assert len(part.running_var) == T
            part.running_var.mul_(63 / 64)  # training divides by the variance of the batch, with divisor 64
    layer.eval()
    torch.testing.assert_close(layer(x), trained, rtol=0, atol=1e-9)
    longer = torch.cat([x, x[:, -1:]], 1)
    out = layer(longer)
    assert torch.equal(out[:, :T], layer(x))
    early = copy.deepcopy(layer)
    for part in early.modules():
        if hasattr(part, "running_var"):
            part.running_mean, part.running_var = part.running_mean[:-1], part.running_var[:-1]
    assert torch.equal(early(x)[:, : T - 1], out[:, : T - 1])
    assert not torch.equal(early(x)[:, T - 1], out[:, T - 1])


@pytest.mark.parametrize("name", [name for name in CELLS if name != "rnn"])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_look_at_the_leak_counts_nothing(name, norm):
    layer, x = make(name, norm), drawn(B, T, F)
    layer(x)
    cell, before = layer.cell, copy.deepcopy(layer.state_dict())
    z, step = cell.begin(x)
    state = tuple(drawn(B, H, name=part) for part in cell.state_names)
    leak = cell.leak(z[:, 2], state, 2)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])
    assert leak.shape == (B, H)
    if name == "lstm":
        moved = step(z[:, 2], (state[0], state[1] + 1), 2)[1] - step(z[:, 2], state, 2)[1]
        torch.testing.assert_close(leak, moved, rtol=0, atol=1e-12)


def test_a_state_dict_carries_as_many_steps_as_were_seen():
    """Into a layer that has seen fewer, or more."""
    trained, x = make("lstm", "batch"), drawn(B, T, F)
    trained(x)
    for steps in (1, T + 4):
        other = make("lstm", "batch")
        other(drawn(B, steps, F, name="other"))
        other.load_state_dict(trained.state_dict())
        assert torch.equal(other.eval()(x), trained.eval()(x))
        trained.train()


@pytest.mark.parametrize("seen", [0, 3])
def test_what_was_counted_can_be_undone(seen):
    """By putting back the buffers with their values, as a probe does, also where steps were added."""
    layer, x = make("gru", "batch"), drawn(B, T, F)
    if seen:
        layer(x[:, :seen])
    before = copy.deepcopy(layer.state_dict())
    kept = [(m, n, b, b.clone()) for m in layer.modules() for n, b in m.named_buffers(recurse=False)]
    layer(x)
    assert any(len(b) == T for n, b in layer.named_buffers() if n.endswith("running_var"))
    for module, name, buffer, values in kept:
        setattr(module, name, buffer.copy_(values))
    after = layer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_steps_may_be_added_between_forward_and_backward():
    """Two forward passes, the second longer, then one backward pass through both."""
    layer, x = make("rnn", "batch"), drawn(B, T, F).requires_grad_()
    short = layer(x[:, :3])
    long = layer(x)
    (short.sum() + long.square().sum()).backward()
    assert torch.isfinite(x.grad).all()


def test_lsuv_takes_the_batchs_own_statistics():
    """As training will: the head's output then has the variance 1 in training."""
    layer = Recurrence(rnn(F, H, activations.tanh, recurrent_norm="batch"))
    network = Network(Linear(F, F), [layer], Linear(H, 2)).double()
    x = 3 * drawn(B, T, F)
    tolerance = 1e-9
    initialize(network, partial(initializers.lsuv, tolerance=tolerance), stream(0, "init"), activations.tanh, lambda: x)
    assert float(network.train()(x).detach().var()) == pytest.approx(1, abs=1e-8)
    assert float(network.eval()(x).detach().var()) != pytest.approx(1, abs=1e-2)


# refusals and the rest


def test_layer_norm_by_groups():
    norm = step_norm("layer", 2, 3).double()
    with torch.no_grad():
        norm.weight.copy_(drawn(5, name="scale"))
    z, shift = drawn(B, 5), drawn(5, name="shift")
    for given, added in ((None, 0.0), (shift, shift)):
        expected = torch.cat([over_units(z[:, :2], norm.weight[:2]), over_units(z[:, 2:], norm.weight[2:])], 1)
        torch.testing.assert_close(norm(z, 3, given), expected + added, rtol=0, atol=1e-12)


def test_none_is_the_sum_itself():
    z = drawn(B, H)
    assert step_norm("none", H)(z, 3, drawn(H)) is z
    assert not list(step_norm("none", H).parameters())


def test_refusals():
    with pytest.raises(ValueError) as caught:
        step_norm("batch", H)(torch.ones(1, H), 0)
    assert str(caught.value) == (
        "cell.recurrent_norm=batch needs task.batch_size of at least 2, but it is 1: one value has no variance; "
        "use cell.recurrent_norm=layer"
    )
    assert step_norm("batch", H).eval()(torch.ones(1, H), 0).shape == (1, H)
    for make_one in (partial(step_norm, "layer", 1), partial(step_norm, "layer", 4, 1)):
        with pytest.raises(ValueError, match=r"cell\.recurrent_norm=layer of 1 unit would leave nothing of it"):
            make_one()


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("name", CELLS)
def test_on_the_meta_device(name, norm):
    with torch.device("meta"):
        layer = Recurrence(CELLS[name](F, H, activations.tanh, recurrent_norm=norm))
        assert layer(torch.empty(2, T, F)).shape == (2, T, H)
        assert layer.eval()(torch.empty(2, T + 2, F)).shape == (2, T + 2, H)
