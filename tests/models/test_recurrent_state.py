"""Recurrent networks without a head: their answer is the last state, or every state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradflow.models import activations, norms, skips
from gradflow.models.cells.rnn import rnn
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.recurrent_state import recurrent_state
from gradflow.rng import stream

B, T, F = 3, 7, 4


def build(width: int | tuple[int, ...], outputs: int, every_step: bool = False) -> Network:
    depth = len(width) if isinstance(width, tuple) else 1
    parts = Parts(depth, width, activations.tanh, norms.none, skips.none, 0.0, cell=rnn, every_step=every_step)
    network = recurrent_state((T, F), outputs, parts).double()
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.normal_(0, 0.5, generator=stream(0, index))
    return network


def states(network: Network, x: Tensor) -> Tensor:
    for block in network.blocks:
        cell = next(module for module in block.modules() if hasattr(module, "recurrent_weight"))
        theirs = nn.RNN(cell.features, cell.width, batch_first=True).double()
        with torch.no_grad():
            theirs.weight_ih_l0.copy_(cell.input_weight)
            theirs.weight_hh_l0.copy_(cell.recurrent_weight)
            theirs.bias_ih_l0.copy_(cell.bias)
            theirs.bias_hh_l0.zero_()
        x = theirs(x)[0]
    return x


@pytest.mark.parametrize(("width", "outputs"), [(1, 1), (5, 5), ((6, 2), 2)], ids=str)
def test_the_answer_is_the_last_state_of_the_last_layer(width, outputs):
    network = build(width, outputs)
    x = torch.randn(B, T, F, generator=stream(0, "x"), dtype=torch.float64)
    torch.testing.assert_close(network(x), states(network, x)[:, -1], rtol=0, atol=1e-12)
    assert not list(network.head.parameters())
    assert network.any_length


def test_or_all_states_where_the_task_wants_them():
    network = build(3, 3, every_step=True)
    x = torch.randn(B, T, F, generator=stream(0, "x"), dtype=torch.float64)
    torch.testing.assert_close(network(x), states(network, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("outputs", "said"), [(1, "1 output: set width=1"), (2, "2 outputs: set width=2")])
def test_as_many_units_as_outputs(outputs, said):
    with pytest.raises(ValueError) as caught:
        build(3, outputs)
    assert str(caught.value) == (
        f"model=recurrent_state answers with its last layer's 3 states, but the task has {said}, or use model=recurrent"
    )
