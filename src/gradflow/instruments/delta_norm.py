"""The norm of the back-propagated signal itself: ∂L/∂(a block's output)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.grad_norm import norms_of, norms_of_members
from gradflow.instruments.instrument import ABSENT, Instrument, Reading, Row
from gradflow.instruments.wide import wide

HELD = 2**26  # bytes of gradients that may wait for being measured together


class DeltaNorm(Instrument):
    """δ_l = ‖∂L/∂h_l‖₂ (`delta_norm`), h_l being what block l gives for the whole batch; in units of the loss per unit
    of h. It is the signal whose growth or decay by a factor per layer Hochreiter 1991 and Bengio et al. 1994 describe,
    without the inputs' size that a parameter's gradient, δ_l h_{l−1}ᵀ, has in it.

    Squares are summed in float64, as for `grad_norm`, over examples, batches of one update, calls of a block that is
    called several times, and processes: the loss being the mean over W of them, δ² = Σ_r δ_r²/W².
    """

    looks_at_members = True

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._norms: dict[str, Tensor] = {}
        self._held: list[tuple[str, Tensor]] = []
        self._bytes = 0

    def bind(self, model: nn.Module, blocks: list[Block]) -> None:
        super().bind(model, blocks)
        self._rows = [Row(block.name, block.index, "delta_norm") for block in blocks if block.module is not None]

    def delta(self, block: Block, gradient: Tensor) -> None:
        self._held.append((block.name, gradient))
        self._bytes += gradient.numel() * gradient.element_size()
        if self._bytes > HELD:
            self._measure()

    def inside(self, scale: Tensor | float) -> Reading | None:
        self._measure()
        device = next((norm.device for norm in self._norms.values()), None)
        if device is None and ranks.world() == 1:
            return None
        device = device or self.blocks[0].parameters[0].device
        absent = torch.full((), ABSENT, dtype=wide(device), device=device)
        values = torch.stack([self._norms.get(row.name, absent).to(device) for row in self._rows])
        self._norms = {}
        return Reading(self._rows, _of_all_processes(values) / scale)

    @torch.no_grad()
    def of_members(self, deltas: Sequence[tuple[Block, Tensor]]) -> Reading | None:
        """The norms [K, R] of K models at once, of ∂L/∂(each call's output) [K, B, …]."""
        norms: dict[str, Tensor] = {}
        found = norms_of_members([gradient for _, gradient in deltas]).unbind(-1) if deltas else ()
        for (block, _), norm in zip(deltas, found, strict=True):
            norms[block.name] = torch.hypot(norms[block.name], norm) if block.name in norms else norm
        if not norms:
            return None
        absent = torch.full_like(next(iter(norms.values())), ABSENT)
        return Reading(self._rows, torch.stack([norms.get(row.name, absent) for row in self._rows], -1))

    @torch.no_grad()
    def _measure(self) -> None:
        """The norms of what is held, and let go of it."""
        held, self._held, self._bytes = self._held, [], 0
        if not held:
            return
        norms = norms_of([gradient for _, gradient in held], held[0][1].device)
        for (name, _), norm in zip(held, norms.unbind(), strict=True):
            before = self._norms.get(name)
            self._norms[name] = norm if before is None else torch.hypot(before, norm)


def _of_all_processes(norms: Tensor) -> Tensor:
    """√Σ_r n_r² / W, scaled by the largest so that no square underflows or overflows."""
    world = ranks.world()
    if world == 1:
        return norms
    top = ranks.largest(norms.clone())
    unit = torch.where((top > 0) & top.isfinite(), top, 1.0)
    squares = ranks.total((norms.clamp(min=0) / unit).square())
    return torch.where(top > 0, unit * squares.sqrt() / world, top)
