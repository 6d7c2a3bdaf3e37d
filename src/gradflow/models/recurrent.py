"""Recurrent networks: layers of one kind of cell, each layer a block.

Shapes: B batch, T time, F features, H hidden units.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gradflow.checked import BelowOne, Count, Pair
from gradflow.models.assemble import MeanOverPositions
from gradflow.models.layers import Branch, Linear, Map, acts_on_activations
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.recurrence import Bidirectional, Recurrence
from gradflow.models.units import Order, Position, Shortcut


def recurrent(
    input_shape: tuple[int, ...],
    outputs: int,
    parts: Parts,
    /,
    *,
    bidirectional: bool = False,
    readout: Literal["last", "mean"] = "last",
    encoder: bool | None = None,
    skip_time: Count = 0,
    zoneout: BelowOne | Pair = 0.0,
    norm_position: Position | None = None,
) -> Network:
    """`depth` recurrent layers of `width` units, each inside its skip, and a linear head.

    Args:
        input_shape: [steps, features] of one example.
        outputs: units of the head.
        parts: what blocks are made of. The norm acts on every step by itself, between layers; a norm inside the
            recurrence is a matter of the cell.
        bidirectional: whether every layer has a second cell that runs from the last step to the first, each with half
            of the units.
        readout: what the head sees where the task wants one output: the 'last' state (that of a backward cell is at
            the first step), or the 'mean' over all steps. Tasks that want an output at every step see every state.
        encoder: whether a linear map takes each step's features to `width` before block 0; null: where a skip needs
            it to have as many features before as after.
        skip_time: k of connections from the state of k steps ago; 0 for none. See `Recurrence`.
        zoneout: probability with which a unit keeps its value for a step while training; two numbers: of h and of the
            cell's memory c (Krueger et al. 2017 use 0.05 and 0.5 for LSTM's characters).
        norm_position: 'pre' (meant by null): before a layer, inside its skip; 'post': after it, and after the addition.

    Raises:
        ValueError: if an example is no sequence, there is no cell, or parts do not go together.
    """
    if len(input_shape) != 2:
        raise ValueError(
            f"model=recurrent needs sequences, but an example has shape {list(input_shape)}: "
            "set task.view=sequence, or choose a task of sequences, such as task=adding"
        )
    if parts.cell is None:
        raise ValueError("model=recurrent needs a cell: choose one, e.g. cell=lstm")
    widths, features = parts.widths(), input_shape[1]
    plain = getattr(parts.skip, "func", parts.skip).__name__ == "none"
    encoded = (not plain) if encoder is None else encoder
    stem: nn.Module = Linear(features, widths[0]) if encoded else nn.Identity()
    now = widths[0] if encoded else features
    blocks: list[nn.Module] = []
    for index, width in enumerate(widths):
        unit = _LayerUnit(parts, index, now, width, norm_position or "pre", bidirectional, skip_time, zoneout)
        blocks.append(parts.skip(unit))
        now = width
    if parts.every_step:
        pool: nn.Module = nn.Identity()
    elif readout == "mean":
        pool = MeanOverPositions()
    else:
        pool = LastStates(now // 2) if bidirectional else LastStates()
    network = Network(stem, blocks, nn.Sequential(pool, Linear(now, outputs)))
    network.any_length = True
    return network


class LastStates(nn.Module):
    """[B, T, H] to [B, H]: the last step's; the last `backward` features are those of the first step."""

    def __init__(self, backward: int = 0) -> None:
        super().__init__()
        self.backward = backward

    def forward(self, x_BTH: Tensor) -> Tensor:
        ahead = x_BTH.shape[-1] - self.backward
        return torch.cat([x_BTH[:, -1, :ahead], x_BTH[:, 0, ahead:]], -1)


class _LayerUnit:
    """A unit of one recurrent layer, in tokens [B, T, F]; see `gradflow.models.units.Unit`."""

    def __init__(
        self,
        parts: Parts,
        index: int,
        width_in: int,
        width_out: int,
        position: Position,
        bidirectional: bool,
        skip_time: int,
        zoneout: float | list[float],
    ) -> None:
        self.parts, self.index, self.count, self.position = parts, index, parts.depth, position
        self.width_in, self.width_out = width_in, width_out
        self.bidirectional, self.skip_time, self.zoneout = bidirectional, skip_time, zoneout

    @property
    def changes_shape(self) -> bool:
        return self.width_in != self.width_out

    def branch(self, order: Order, *, normalized: bool = True, scalar_biases: bool = False) -> Branch:
        if scalar_biases or order == "preactivation":
            raise ValueError(
                "a recurrent layer has no activation to put before it: use skip=residual (with "
                "model.norm_position=pre), highway or rezero"
            )
        norm = self._norm(self.width_in) if normalized and self.position == "pre" else None
        return Branch([norm, self._layer(), self.parts.drop()], ())

    def after_sum(self, order: Order) -> nn.Module:
        return (self._norm(self.width_out) if self.position == "post" else None) or nn.Identity()

    def norm_after(self) -> nn.Module:
        return self.parts.norm(self.width_out)

    def shortcut(self, kind: Shortcut, *, normalized: bool = True) -> nn.Module:
        if not self.changes_shape and kind != "projection_everywhere":
            return nn.Identity()
        if kind in ("projection", "projection_everywhere"):
            linear = Linear(self.width_in, self.width_out)
            linear.role = "shortcut"
            return linear
        raise ValueError(
            f"skip.shortcut={kind} cannot span a layer that goes from {self.width_in} to {self.width_out} units: use "
            "skip.shortcut=projection, model.encoder=true with one width for all layers, or skip=none"
        )

    def halve(self) -> nn.Module:
        return nn.Identity()

    def gate(self, *, pointwise: bool = False) -> Map:
        linear = Linear(self.width_in, self.width_out)
        linear.role = "gate"
        return linear

    def _norm(self, width: int) -> nn.Module | None:
        norm = self.parts.norm(width)
        if isinstance(norm, nn.Identity):
            return None
        if not acts_on_activations(norm):
            raise ValueError(
                "this norm acts on the weights of linear maps and convolutions, not on those of recurrent cells: "
                "use norm=layer, or a norm inside the cell, e.g. cell.recurrent_norm=layer"
            )
        return norm

    def _layer(self) -> nn.Module:
        if not self.bidirectional:
            return self._direction(self.width_out, reverse=False)
        if self.width_out % 2:
            raise ValueError(f"model.bidirectional=true halves width={self.width_out}: give an even number")
        half = self.width_out // 2
        return Bidirectional(self._direction(half, reverse=False), self._direction(half, reverse=True))

    def _direction(self, width: int, *, reverse: bool) -> Recurrence:
        assert self.parts.cell is not None
        cell = self.parts.cell(self.width_in, width, self.parts.activation)
        parts_of_state = len(cell.state_names)
        shares = self.zoneout if isinstance(self.zoneout, list) else [self.zoneout] * parts_of_state
        if any(shares) and len(shares) != parts_of_state:
            raise ValueError(
                f"model.zoneout={shares} has {len(shares)} numbers, but the cell's state has {parts_of_state} "
                f"({', '.join(cell.state_names)}): give one number, or one for each"
            )
        return Recurrence(cell, shares, self.skip_time, reverse)
