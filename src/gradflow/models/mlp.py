"""The multi-layer perceptron."""

from __future__ import annotations

import math
from functools import partial

from torch import nn

from gradflow.models.assemble import assemble
from gradflow.models.layers import Linear
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.units import LayerUnit, Position


def mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    parts: Parts,
    /,
    *,
    bias: bool = True,
    norm_position: Position | None = None,
) -> Network:
    """A stem of one layer, `depth` blocks of one layer each inside its skip, a linear head.

    Args:
        input_shape: of one example; it is flattened.
        outputs: units of the head.
        parts: what blocks are made of; the stem has as many units as block 0.
        bias: whether linear maps have one; it starts at 0.
        norm_position: of whole layers: before ('pre') the activation, as Ioffe & Szegedy 2015 have it and as is meant
            by null, or after it ('post').

    Raises:
        ValueError: if there are not `depth` widths, or parts do not go together.
    """
    linear = partial(Linear, bias=bias)
    widths = parts.widths()

    position: Position = norm_position or "pre"

    def unit(index: int, width_in: int) -> LayerUnit:
        return LayerUnit(parts, index, parts.depth, width_in, widths[index], [linear], linear, position=position)

    return assemble(parts, math.prod(input_shape), widths[0], outputs, linear, unit, [nn.Flatten()], [], position)
