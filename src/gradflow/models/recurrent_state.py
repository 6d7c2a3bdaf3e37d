"""Recurrent networks without a head: the states of the last layer are the answer."""

from __future__ import annotations

from torch import nn

from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.recurrent import recurrent


def recurrent_state(input_shape: tuple[int, ...], outputs: int, parts: Parts, /) -> Network:
    """`depth` recurrent layers, the last one with a unit for each output: its last states, or all of them where the
    task wants an output at every step, are what the loss sees.

    What a neuron by itself can learn and hold is seen here, without a linear map that may scale its state: the setting
    of Bengio, Simard & Frasconi 1994, section II.

    Args:
        input_shape: [steps, features] of one example.
        outputs: of the task.
        parts: what blocks are made of; see `recurrent`.

    Raises:
        ValueError: if the last layer has not as many units as the task has outputs, and what `recurrent` refuses.
    """
    if parts.widths()[-1] != outputs:
        raise ValueError(
            f"model=recurrent_state answers with its last layer's {parts.widths()[-1]} states, but the task has "
            f"{outputs} output{'s' * (outputs != 1)}: set width={outputs}, or use model=recurrent"
        )
    network = recurrent(input_shape, outputs, parts)
    assert isinstance(network.head, nn.Sequential)
    network.head = network.head[0]
    return network
