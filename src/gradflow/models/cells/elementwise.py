"""Activations with one pre-activation per unit, which some cells need."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from gradflow.models.parts import units_in


def elementwise(name: str, activation: Callable[[], nn.Module], width: int) -> nn.Module:
    """The activation, for a cell whose recurrence is defined unit by unit.

    Raises:
        ValueError: if it takes more or fewer pre-activations than it gives outputs.
    """
    made = activation()
    units = units_in(made, width)
    if units != width:
        raise ValueError(
            f"cell={name} has one pre-activation for each of its {width} units, but this activation takes {units}: use "
            "an elementwise one, such as activation=tanh or relu, or cell=rnn"
        )
    return made
