"""Echo state networks: what the read-out sees, NARMA-10 as published, what is refused."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from reservoirpy import nodes
from torch import Tensor, nn

from gradflow.models import activations, initializers, norms, skips
from gradflow.models import esn as module
from gradflow.models.esn import EchoState, esn
from gradflow.models.initialize import initialize
from gradflow.models.layers import Linear
from gradflow.models.parts import Parts
from gradflow.models.reservoir import Reservoir
from gradflow.models.ridge import ReadOut
from gradflow.rng import stream

PLAIN = {"activation": activations.tanh, "norm": norms.none, "skip": skips.none}


def build(
    depth: int = 1, width: int | tuple[int, ...] = 12, every_step: bool = False, steps: int = 20, **keys: Any
) -> EchoState:
    own = {name: keys.pop(name) for name in ("activation", "norm", "skip", "dropout") if name in keys}
    made = esn((steps, 3), 2, Parts(depth, width, **{**PLAIN, **own}, every_step=every_step), **keys)
    initialize(made, initializers.glorot_normal, stream(0, "init"))
    return made.double()


def inputs(batch: int = 4, steps: int = 20) -> Tensor:
    return torch.randn(batch, steps, 3, generator=stream(0, "x"), dtype=torch.float64)


def states(network: EchoState, x: Tensor) -> list[np.ndarray]:
    """Of every reservoir [B, T, N], by reservoirpy."""
    below, found = x.numpy(), []
    for r in network.blocks:
        assert isinstance(r, Reservoir)
        weights = {"W": r.recurrent.numpy(), "Win": r.input_weight.numpy(), "bias": r.bias.numpy()}
        make = partial(nodes.Reservoir, **weights, lr=r.leak, activation="tanh")
        below = np.stack([make().run(each) for each in below])
        found.append(below)
    return found


def read_out(network: EchoState, seen: np.ndarray) -> np.ndarray:
    head = network.head
    assert isinstance(head, nn.Linear)
    return seen @ head.weight.detach().numpy().T + head.bias.detach().numpy()


@pytest.mark.parametrize("readout", ["ridge", "sgd"])
@pytest.mark.parametrize("depth", [1, 3])
def test_every_step_is_read_from_all_layers(depth: int, readout: Any) -> None:
    network = build(depth, (12, 8, 6)[:depth], every_step=True, leak=0.4, bias=0.5, readout=readout)
    wanted = read_out(network, np.concatenate(states(network, inputs()), axis=-1))
    assert np.abs(network(inputs()).detach().numpy() - wanted).max() < 1e-12


@pytest.mark.parametrize("reads_input", [False, True])
@pytest.mark.parametrize("read", ["last", "mean", "window"])
def test_one_output_per_sequence(read: Any, reads_input: bool) -> None:
    """Two layers; the window is joined, the oldest state first; the mean leaves out the washout."""
    network = build(2, read=read, window=4, washout=5, reads_input=reads_input)
    x = inputs()
    seen = np.concatenate([x.numpy()] * reads_input + states(network, x), axis=-1)
    reduced = {"last": seen[:, -1], "mean": seen[:, 5:].mean(1), "window": seen[:, -4:].reshape(4, -1)}[read]
    assert np.abs(network(x).detach().numpy() - read_out(network, reduced)).max() < 1e-12


@pytest.mark.parametrize("read", ["last", "mean", "window", "every step"])
def test_long_sequences_in_parts_give_the_same(read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading: dict[str, Any] = {"every_step": True} if read == "every step" else {"read": read}
    network = build(2, washout=9, window=11, reads_input=True, **reading)
    whole = network(inputs())
    monkeypatch.setattr(module, "AT_ONCE", 4 * 24 * 4)  # four sequences, 24 units, four steps
    assert len(list(network.read_states(inputs()))) == (5 if read == "every step" else 1)
    torch.testing.assert_close(network(inputs()), whole, rtol=1e-12, atol=1e-13)


def test_sequences_shorter_than_window_and_washout() -> None:
    """Before a sequence began the state was 0; of the mean at least the last state is left."""
    x = inputs(steps=3)
    window, mean = build(read="window", window=5), build(read="mean", washout=19)
    joined = np.concatenate([np.zeros((4, 2, 12)), states(window, x)[0]], axis=1)
    assert np.abs(window(x).detach().numpy() - read_out(window, joined.reshape(4, -1))).max() < 1e-12
    assert np.abs(mean(x).detach().numpy() - read_out(mean, states(mean, x)[0][:, -1])).max() < 1e-12


def test_answer_is_forward_with_other_weights() -> None:
    network = build(every_step=True)
    weight, bias = torch.randn(2, 12, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    answered = network.answer(inputs(), weight, bias)
    with torch.no_grad():
        network.head.weight.copy_(weight)  # type: ignore[operator]
        network.head.bias.copy_(bias)  # type: ignore[operator]
    assert torch.equal(network(inputs()), answered)


def test_only_the_read_out_is_trained() -> None:
    for readout, kind in (("ridge", ReadOut), ("sgd", Linear)):
        network = build(readout=readout)
        assert type(network.head) is kind
        assert [name for name, _ in network.named_parameters()] == ["head.weight", "head.bias"]
        assert (network.closed_form is None) == (readout == "sgd")
    network = build(readout="sgd", every_step=True)
    network(inputs()).square().mean().backward()
    assert network.head.weight.grad.abs().min() > 0  # type: ignore[union-attr]


def test_sizes_and_scales_of_several_layers() -> None:
    network = build(3, (12, 8, 6), reads_input=True, input_scaling=0.2, layer_scaling=1.7, topology="orthogonal")
    first, *above = network.blocks
    assert first.input_weight.abs().max() <= 0.2  # type: ignore[operator]
    assert [float(torch.linalg.matrix_norm(r.input_weight, 2)) for r in above] == pytest.approx([1.7, 1.7], rel=1e-6)
    assert network.head.weight.shape == (2, 3 + 12 + 8 + 6)  # type: ignore[union-attr]
    assert network.closed_form is not None
    assert network.closed_form.gram.shape == (29, 29)


def test_the_same_generator_draws_the_same_network() -> None:
    first, again = build(2).state_dict(), build(2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["blocks.0.recurrent"].abs().sum() > 0
    assert not torch.equal(first["blocks.0.recurrent"], first["blocks.1.recurrent"])


@pytest.mark.parametrize("every_step", [False, True])
def test_on_the_meta_device(every_step: bool) -> None:
    with torch.device("meta"):
        network = esn((10_000, 3), 2, Parts(2, 500, **PLAIN, every_step=every_step))
        assert network(torch.empty(2, 10_000, 3)).shape == ((2, 10_000, 2) if every_step else (2, 2))


@pytest.mark.parametrize("seed", [0, 1])
def test_narma10_as_in_echotorch_s_regression_test(seed: int) -> None:
    """N = 100, ρ = 0.99, leak 1, connectivity 0.1, λ = 1e-7, 5000 steps to learn from: NRMSE ≤ 0.5, MSE ≤ 0.01."""
    network = esn(
        (5000, 1),
        1,
        Parts(1, 100, **PLAIN, every_step=True),
        spectral_radius=0.99,
        connectivity=0.1,
        regularization=[1e-7],
    )
    initialize(network, initializers.glorot_normal, stream(seed, "init"))
    assert network.closed_form is not None
    (u, y), (v, w) = narma10(5000, seed), narma10(1000, seed + 100)
    for z in network.read_states(u):
        network.closed_form.add(z[0, 100:], y[0, 100:])
    weight, bias = network.closed_form.solve(1e-7)
    for x, target in ((u, y), (v, w)):
        mse = float((network.answer(x, weight, bias).double() - target)[:, 100:].square().mean())
        assert mse <= 0.01
        assert math.sqrt(mse / float(target[:, 100:].var())) <= 0.5
    # not because it is easy: without memory the best guess from the present input is the mean, to a few per cent
    now = np.hstack([u[0, 100:].numpy(), np.ones((4900, 1))])
    left = y[0, 100:].numpy() - now @ np.linalg.lstsq(now, y[0, 100:].numpy(), rcond=None)[0]
    assert left.std() / float(y[0, 100:].std()) > 0.9


def narma10(steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """y_{t+1} = .3 y_t + .05 y_t Σ_{i<10} y_{t−i} + 1.5 u_{t−9} u_t + .1 from u ~ U[0, .5]; y_t beside u_t."""
    u = 0.5 * torch.rand(steps, generator=stream(seed, "narma"), dtype=torch.float64).numpy()
    y = np.zeros(steps)
    for t in range(9, steps - 1):
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t - 9] * u[t] + 0.1
    return torch.from_numpy(u).view(1, -1, 1), torch.from_numpy(y).view(1, -1, 1)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"norm": norms.layer}, "set norm=none"),
        ({"skip": partial(skips.residual, shortcut="identity")}, "set skip=none"),
        ({"dropout": 0.1}, "set dropout="),
        ({"activation": activations.maxout}, "several units for one"),
        ({"activation": activations.prelu}, "prelu is trained"),
        ({"washout": 20}, "model.washout=20"),
        ({"read": "window", "window": 21}, "model.window=21"),
        ({"read": "mean", "every_step": True}, "set model.read=last"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        build(**keys)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(3, 8, 8), (64,)])
def test_inputs_without_time_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"task\.view=sequence"):
        esn(shape, 2, Parts(1, 10, **PLAIN))
