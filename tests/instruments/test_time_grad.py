"""‖∂L/∂h_t‖ against hand-unrolled graphs, finite differences and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from through_time import (
    CELLS,
    LOSSES,
    Driven,
    every_step,
    gradient_norms,
    last,
    noise,
    own_layers,
    torch_layer,
    unrolled,
    unrolled_cells,
)
from torch import Tensor, nn

from gradflow.instruments.time_grad import TimeGradientHooks, time_gradient

KINDS = [nn.RNN, nn.LSTM, nn.GRU]
SHAPES = [{}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True, "bias": False}]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_torch_layers_against_their_cells_unrolled(kind, options, loss):
    module, x = torch_layer(kind, **options), noise(4, 11, 3)
    measured = time_gradient(module, lambda: loss(module(x)[0]))
    out, states = unrolled(module, x)
    torch.testing.assert_close(module(x)[0], out, rtol=1e-12, atol=1e-14)
    value, checked = loss(out), 0
    for suffix, parts in states.items():
        for part, tensors in zip(("h", "c"), parts, strict=False):
            curve = measured.curve("rnn" + (suffix if len(states) > 1 else ""), part)
            expected = gradient_norms(value, tensors)
            np.testing.assert_allclose(curve.norms, expected, rtol=1e-10, atol=1e-18)
            assert curve.times.tolist() == list(range(11))
            checked += 1
    assert checked == len(measured.curves) == len(states) * (2 if kind is nn.LSTM else 1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reverse", [(False, False), (True, False)], ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_of_gradflow_against_its_step_unrolled(name, reverse, loss):
    net, x = own_layers(name, *reverse), noise(3, 9, 3)
    measured = time_gradient(net, lambda: loss(net(x)))
    out, states = unrolled_cells(net, x)
    torch.testing.assert_close(net(x), out, rtol=1e-9, atol=1e-12)
    value = loss(out)
    for layer, parts in enumerate(states):
        for part, tensors in zip(net[layer].cell.state_names, parts, strict=True):
            if (name, part) == ("lstm1997", "gates"):  # it cuts all that would flow back by way of them
                assert not gradient_norms(value, tensors).any()
                assert part not in {curve.part for curve in measured.curves}
                continue
            curve = measured.curve(str(layer), part)
            np.testing.assert_allclose(curve.norms, gradient_norms(value, tensors), rtol=1e-9, atol=1e-18)
            assert (curve.norms > 0).any()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
def test_against_finite_differences_of_the_state(kind):
    """No automatic differentiation: what follows is run again from a state that is moved a little."""
    module, x, at, small = torch_layer(kind), noise(1, 8, 3), 3, 1e-5
    norms = time_gradient(module, lambda: every_step(module(x)[0])).curve("rnn").norms
    with torch.no_grad():
        before, h = module(x[:, : at + 1])
        gradient = []
        for unit in range(5):
            values = []
            for sign in (small, -small):
                moved = h.clone()
                moved[..., unit] += sign
                rest = module(x[:, at + 1 :], moved)[0]
                values.append(every_step(torch.cat([before[:, :-1], moved.transpose(0, 1), rest], 1)).item())
            gradient.append((values[0] - values[1]) / (2 * small))
    assert norms[at, 0] == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-7)


def test_a_gradient_with_respect_to_the_fused_outputs_is_not_it():
    module, x = torch_layer(nn.LSTM), noise(4, 11, 3)
    out = module(x)[0]
    (wrong,) = torch.autograd.grad(last(out), out)
    norms = time_gradient(module, lambda: last(module(x)[0])).curve("rnn").norms
    assert (wrong[:, :-1] == 0).all()
    assert (norms > 0).all()
    (wrong,) = torch.autograd.grad(every_step(out := module(x)[0]), out)
    norms = time_gradient(module, lambda: every_step(module(x)[0])).curve("rnn").norms
    np.testing.assert_allclose(norms[-1], wrong[:, -1].norm(dim=1), rtol=1e-12)
    assert (np.abs(norms[:-1] / wrong[:, :-1].norm(dim=2).T.numpy() - 1) > 0.01).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_segments_give_the_same_gradients_as_single_steps(kind):
    module, x = torch_layer(kind, num_layers=2, bidirectional=True), noise(4, 11, 3)
    steps = time_gradient(module, lambda: every_step(module(x)[0]))
    pieces = time_gradient(module, lambda: every_step(module(x)[0]), every=4)
    assert {curve.part for curve in pieces.curves} == {"h"}
    assert pieces.curve("rnn_l1").times.tolist() == [3, 7, 10]
    assert pieces.curve("rnn_l1_reverse").times.tolist() == [0, 3, 7]
    for curve in pieces.curves:
        whole = steps.curve(curve.layer.name)
        np.testing.assert_allclose(curve.norms, whole.norms[curve.times], rtol=1e-11)


@pytest.mark.parametrize("name", CELLS)
def test_segments_of_every_cell_of_gradflow(name):
    net, x = own_layers(name, False, True), noise(3, 9, 3)
    steps = time_gradient(net, lambda: every_step(net(x)))
    for curve in time_gradient(net, lambda: every_step(net(x)), every=4).curves:
        whole = steps.curve(curve.layer.name)
        np.testing.assert_allclose(curve.norms, whole.norms[curve.times], rtol=1e-8)


@pytest.mark.parametrize("every", [1, 4])
def test_hooks_in_a_training_step_see_the_same_and_change_nothing(every):
    module, x = torch_layer(nn.LSTM, num_layers=2, dropout=0.4), noise(4, 11, 3)
    torch.manual_seed(5)
    every_step(module(x)[0]).backward()
    plain = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    hooks = TimeGradientHooks(module, every)
    hooks.start()
    torch.manual_seed(5)
    (every_step(module(x)[0]) * 8).backward()
    found = hooks.finish(scale=torch.tensor(8.0))
    assert "forward" not in vars(module)
    for parameter, expected in zip(module.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad / 8, expected, rtol=1e-11, atol=1e-15)
    torch.manual_seed(5)
    probed = time_gradient(module, lambda: every_step(module(x)[0]), every=every)
    assert len(found.curves) == (4 if every == 1 else 2)
    for curve in found.curves:
        np.testing.assert_allclose(curve.norms, probed.curve(curve.layer.name, curve.part).norms, rtol=1e-11)


def test_a_layer_called_step_by_step_is_one_sequence():
    module, x = torch_layer(nn.GRU), noise(4, 7, 3)

    def decoded() -> Tensor:
        state, out = None, []
        for time in range(7):
            piece, state = module(x[:, time : time + 1], state)
            out.append(piece)
        return every_step(torch.cat(out, 1))

    one = time_gradient(module, lambda: every_step(module(x)[0])).curve("rnn")
    for every in (1, 16):
        many = time_gradient(module, decoded, every=every).curve("rnn")
        assert many.times.tolist() == list(range(7))
        np.testing.assert_allclose(many.norms, one.norms, rtol=1e-12)


def test_several_backward_passes_through_the_same_states_add_up_and_later_passes_do_not_count():
    module, x = torch_layer(nn.GRU), noise(4, 7, 3)
    hooks = TimeGradientHooks(module, every=1)
    hooks.start()
    out = module(x)[0]
    last(out).backward(retain_graph=True)
    every_step(out).backward()
    last(module(x)[0]).backward()  # the next of accumulated batches
    found = hooks.finish().curve("rnn")
    whole = time_gradient(module, lambda: last(module(x)[0]) + every_step(module(x)[0])).curve("rnn")
    one = time_gradient(module, lambda: last(o := module(x)[0]) + every_step(o)).curve("rnn")
    assert found.times.tolist() == list(range(7))
    assert whole.times.tolist() == list(range(14))
    np.testing.assert_allclose(found.norms, one.norms, rtol=1e-12)


def test_float32_does_not_make_false_zeros():
    """A linear decay by 0.3 a step: 0.3^99 = 2e-52 is far below float32's smallest number."""
    module = nn.RNN(1, 4, batch_first=True)
    with torch.no_grad():
        module.weight_hh_l0.copy_(0.3 * torch.eye(4))
        for parameter in (module.weight_ih_l0, module.bias_ih_l0, module.bias_hh_l0):
            parameter.zero_()
    x = torch.zeros(2, 100, 1)
    curve = time_gradient(module, lambda: module(x)[0][:, -1].sum()).curve("rnn")
    lags, norms = curve.backwards()
    np.testing.assert_allclose(norms, 2 * 0.3 ** lags[:, None].repeat(2, 1), rtol=1e-4)
    raw = unrolled_float32(module, x)
    assert (raw[:10] == 0).all()


def unrolled_float32(module: nn.RNN, x: Tensor) -> Tensor:
    h, states = torch.zeros(2, 4), []
    for time in range(x.shape[1]):
        h = torch.tanh(x[:, time] @ module.weight_ih_l0.T + h @ module.weight_hh_l0.T)
        states.append(h)
    return gradient_norms(h.sum(), states)


def test_complex_states_count_real_and_imaginary_parts():
    rotation = 0.8 * torch.exp(torch.tensor(0.7j, dtype=torch.complex128))
    module = Driven(lambda h, x: rotation * h + x, torch.zeros(2, dtype=torch.complex128))
    x = noise(3, 6, 2)
    curve = time_gradient(module, lambda: module(x)[:, -1].real.sum()).curve("model")
    lags, norms = curve.backwards()
    np.testing.assert_allclose(norms, np.sqrt(2) * 0.8 ** lags[:, None].repeat(3, 1), rtol=1e-12)


def test_a_probe_leaves_no_trace():
    net = nn.ModuleDict(
        {"norm": nn.BatchNorm1d(3), "rnn": nn.LSTM(3, 5, 2, dropout=0.5, batch_first=True), "drop": nn.Dropout(0.5)}
    )
    x = noise(4, 11, 3).float()

    def loss() -> Tensor:
        y = net["norm"](x.transpose(1, 2)).transpose(1, 2)
        return net["drop"](net["rnn"](y)[0]).square().mean()

    loss().backward()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    grads = [p.grad.clone() for p in net.parameters()]
    generator = torch.get_rng_state()
    found = time_gradient(net, loss)
    assert len(found.curves) == 4
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert torch.equal(generator, torch.get_rng_state())
    assert net.training
    assert "forward" not in vars(net["rnn"])


def test_also_where_gradients_are_off_and_after_an_error():
    module, x = torch_layer(nn.GRU), noise(4, 7, 3)
    with torch.no_grad():
        assert len(time_gradient(module, lambda: last(module(x)[0])).curves) == 1
    with pytest.raises(ZeroDivisionError):
        time_gradient(module, lambda: module(x)[0].sum() * (1 / 0))
    assert "forward" not in vars(module)


def test_why_there_is_no_gradient_is_said_in_words():
    class Reservoir(Driven):
        no_gradient = "not trained"

    net = nn.ModuleDict({"a": torch_layer(nn.GRU), "b": torch_layer(nn.GRU)})
    net["c"] = Reservoir(torch.add, torch.zeros(3))
    x = noise(4, 7, 3)
    found = time_gradient(net, lambda: last(net["a"](x)[0]) + 0 * net["b"](x)[0].detach().sum() + net["c"](x).sum())
    assert found.without["c"] == "not trained"
    assert "does not depend" in found.without["b"]
    assert [curve.layer.name for curve in found.curves] == ["a"]
    with pytest.raises(KeyError, match="not trained"):
        found.curve("c")
