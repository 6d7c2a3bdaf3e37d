"""How far the optimiser moves the weights in one step, relative to their size."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gradflow.instruments import ranks
from gradflow.instruments.grad_norm import Norms, differences
from gradflow.instruments.instrument import ABSENT, Instrument, Part, Reading, Update


class UpdateRatio(Instrument):
    """‖Δw‖₂/‖w‖₂ (`update_ratio`, without a unit) of the step that the optimiser really took, per block and of all
    together: w is what the parameters were before the step, Δw what it added, by momentum, adaptive rates, clipping and
    weight decay together. About 1e-3 is usual (Karpathy, cs231n); blocks that differ by orders of magnitude do not
    learn together.

    There is no row where w is all zero. At a step that is measured a copy of the parameters is held until the
    optimiser is done; at one that a loss scaler skips nothing is reported.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[int, Tensor] = {}
        self._norms: WeakKeyDictionary[Part, Norms] = WeakKeyDictionary()

    @torch.no_grad()
    def before_clipping(self, update: Update) -> None:
        """Copy what the optimiser is about to change, over copies that a skipped step has left."""
        for parameter in update.part.parameters:
            self._before[id(parameter)] = ranks.local(parameter.detach()).clone()

    @torch.no_grad()
    def after_update(self, update: Update) -> Reading | None:
        part = update.part
        if part not in self._norms:
            self._norms[part] = Norms(part.blocks, (), part.sharded, "update_ratio")
        norms = self._norms[part]
        before = [self._before.pop(id(p)) for p in norms.parameters if id(p) in self._before]
        if len(before) < len(norms.parameters):
            return None
        after = [ranks.local(p.detach()) for p in norms.parameters]
        step = norms.combine(differences(before, after, norms.parameters[0].device))
        return Reading(norms.rows, ratio(step, norms(before)))


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """above ÷ below; `ABSENT` where below is 0 or nothing is known of either."""
    known = (above != ABSENT) & (below != ABSENT) & (below != 0)
    return torch.where(known, above / below, ABSENT)
