"""Stem, blocks and head of the models whose blocks are plain layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from gradflow.models.layers import Linear, acts_on_activations, attach
from gradflow.models.network import Network
from gradflow.models.parts import Parts, units_out
from gradflow.models.skips import Block
from gradflow.models.units import LayerUnit, MakeMap, Position, layer


def assemble(
    parts: Parts,
    features: int,
    width: int,
    outputs: int,
    make: MakeMap,
    unit: Callable[[int, int], LayerUnit],
    before: Sequence[nn.Module],
    pool: Sequence[nn.Module],
    position: Position = "pre",
) -> Network:
    """Put a model together.

    Pre-activated blocks want a stem that ends with its linear map and a head that begins with norm and activation;
    others a stem that is a whole layer and a head that is linear.

    Args:
        parts: of the blocks.
        features: of an input.
        width: of the stem.
        outputs: of the head.
        make: the stem's linear map.
        unit: from (index, width in) to what block `index` spans.
        before: what an input passes first.
        pool: what lies between the blocks and the head's linear map.
        position: of the stem's norm.
    """
    blocks: list[Block] = []
    now = width
    for index in range(parts.depth):
        blocks.append(parts.skip(unit(index, now)))
        now = getattr(blocks[-1], "width_out", now)
    ending: list[nn.Module | None] = []
    stem: nn.Module
    if getattr(blocks[0], "preactivated", False):
        stem = linear = make(features, width)
        attach(parts.norm(width), linear)  # a normalisation of weights; one of activations comes with block 0
        ending, now = closing(parts, now)
    else:
        stem = layer(parts, make, features, width, position)
    head = [module for module in (*ending, *pool, Linear(now, outputs)) if module is not None]
    return Network(nn.Sequential(*before, stem), blocks, nn.Sequential(*head))


def closing(parts: Parts, width: int) -> tuple[list[nn.Module | None], int]:
    """What the head of pre-activated blocks begins with: norm, activation and dropout; and the features it gives."""
    activation, norm = parts.activation(), parts.norm(width)
    return [norm if acts_on_activations(norm) else None, activation, parts.drop()], units_out(activation, width)


class MeanOverPositions(nn.Module):
    """Images [B, C, H, W] or tokens [B, T, F] to vectors [B, features]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.ndim == 4 else x.mean(1)
