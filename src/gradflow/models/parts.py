"""The parts that a model is put together from, as chosen by the config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from gradflow.models.cell import Cell
    from gradflow.models.skips import Block
    from gradflow.models.units import Unit


@dataclass(frozen=True)
class Parts:
    """What every model gets.

    Attributes:
        depth: number of blocks.
        width: units (channels) of every block, or one number per block.
        activation, norm, skip: make one block's parts (see `activations`, `norms`, `skips`).
        dropout: share of units set to zero after an activation while training (Srivastava et al. 2014).
        alpha_dropout: the same for SELU, whose fixed point it keeps (Klambauer et al. 2017, section 3).
        cell: makes a recurrent layer's cell from (features, width, activation); None for models without one.
        every_step: whether the task wants outputs [B, T, outputs] for every step of a sequence, not [B, outputs].
    """

    depth: int
    width: int | tuple[int, ...]
    activation: Callable[[], nn.Module]
    norm: Callable[[int], nn.Module]
    skip: Callable[[Unit], Block]
    dropout: float = 0.0
    alpha_dropout: float = 0.0
    cell: Callable[[int, int, Callable[[], nn.Module]], Cell] | None = None
    every_step: bool = False

    def widths(self) -> list[int]:
        """One number per block.

        Raises:
            ValueError: if there are not `depth` of them.
        """
        widths = [self.width] * self.depth if isinstance(self.width, int) else list(self.width)
        if len(widths) != self.depth:
            raise ValueError(
                f"width lists {len(widths)} numbers for depth={self.depth} blocks: give one per block, or one number"
            )
        return widths

    def drop(self) -> nn.Module | None:
        """What follows an activation, if anything is dropped."""
        if self.alpha_dropout:
            return nn.AlphaDropout(self.alpha_dropout)
        return nn.Dropout(self.dropout) if self.dropout else None


def units_in(activation: nn.Module, width: int) -> int:
    """Pre-activation units that a layer of `width` outputs must compute."""
    count = getattr(activation, "units_in", None)
    return int(count(width)) if callable(count) else width


def units_out(activation: nn.Module, units: int) -> int:
    """Outputs that an activation gives for so many pre-activation units.

    Raises:
        ValueError: if they do not divide.
    """
    per_two = units_in(activation, 2)
    if 2 * units % per_two:
        name = type(activation).__name__.lower()
        raise ValueError(f"activation={name} cannot act on {units} units: the width must divide by {per_two // 2}")
    return 2 * units // per_two
