"""The multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from gradflow.models.layers import Layer, Linear
from gradflow.models.network import Network


def mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    depth: int,
    width: int | Sequence[int],
    activation: Callable[[], nn.Module],
    norm: Callable[[int], nn.Module],
    skip: Callable[[nn.Module, int, int], nn.Module],
    /,
    *,
    bias: bool = True,
) -> Network:
    """A stem of one layer, `depth` blocks of one layer each inside its skip, a linear head.

    Args:
        input_shape: of one example; it is flattened.
        outputs: units of the head.
        depth: number of blocks.
        width: units of every block, or one number per block; the stem has as many as block 0.
        activation, norm, skip: make one block's parts (see `activations`, `norms`, `skips`).
        bias: whether linear maps have one; it starts at 0.

    Raises:
        ValueError: if there are not `depth` widths, or a skip cannot span a change of width.
    """
    widths = [width] * depth if isinstance(width, int) else list(width)
    if len(widths) != depth:
        raise ValueError(
            f"width lists {len(widths)} numbers for depth={depth} blocks: give one per block, or one number"
        )

    def layer(width_in: int, width_out: int) -> Layer:
        return Layer(Linear(width_in, width_out, bias=bias), norm(width_out), activation())

    stem = nn.Sequential(nn.Flatten(), layer(math.prod(input_shape), widths[0]))
    sizes = list(zip([widths[0], *widths], widths, strict=False))
    blocks = [skip(layer(width_in, width_out), width_in, width_out) for width_in, width_out in sizes]
    return Network(stem, blocks, Linear(widths[-1], outputs, bias=bias))
