"""How large the weights are, how far they have come, and how many are close to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.grad_norm import Norms, Room, dense, differences
from gradflow.instruments.instrument import Instrument, Part, Reading, Update
from gradflow.instruments.update_ratio import ratio

SMALL = 1e-3  # of the root mean square of a block's initial weights


class WeightNorm(Instrument):
    """Of the parameters w before the step, per block and of all together: `weight_norm` ‖w‖₂, `weight_change`
    ‖w − w₀‖₂/‖w₀‖₂, and `weight_near_zero`, the share of weights with |w| below a thousandth of the root mean square of
    the block's initial ones (0.08 % of Gaussian ones at the start). When late layers change a lot and early ones
    barely, the gradient does not reach them; weights that collapse towards zero no longer carry the signal.

    w₀ is a copy made when watching begins, on the same device, and kept in checkpoints, so that a run that goes on
    after a restart still compares with its own beginning; under FSDP of the first kind, which has no whole tensors to
    keep, with the restart. Near zero can only be said of weights with at least two axes: biases start there, and those
    of normalisation start at 1. A row is absent where its denominator is 0, as for weights that start at 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self._initial: dict[int, Tensor] = {}
        self._can_keep = True
        self._of: WeakKeyDictionary[Part, _Weights] = WeakKeyDictionary()

    def bind(self, model: nn.Module, blocks: list[Block]) -> None:
        watched = [p for block in blocks for p in block.parameters]
        known = self._initial  # by ids of parameters that self.blocks keeps alive
        self._initial = {id(p): known[id(p)] if id(p) in known else p.detach().clone() for p in watched}
        self._can_keep = not ranks.is_sharded(model) or all(callable(getattr(p, "to_local", None)) for p in watched)
        super().bind(model, blocks)
        self._of.clear()

    @torch.no_grad()
    def before_clipping(self, update: Update) -> Reading:
        part = update.part
        if part not in self._of:
            self._of[part] = _Weights(part, self._initial)
        return self._of[part].read()

    def state_dict(self) -> dict[str, Any]:
        """w₀ by block; under FSDP2 whole tensors, for which every process must call this."""
        if not self._can_keep:
            return {}
        return {"initial": {b.name: [_whole(self._initial[id(p)]) for p in b.parameters] for b in self.blocks}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for block in self.blocks if self._can_keep else ():
            for parameter, tensor in zip(block.parameters, state["initial"][block.name], strict=True):
                self._initial[id(parameter)] = _share(tensor, parameter)
        self._of.clear()


class _Weights:
    """What one optimiser updates, and what its measurements are compared with."""

    def __init__(self, part: Part, initial: dict[int, Tensor]) -> None:
        self.sharded = part.sharded
        self.norms = Norms(part.blocks, (), part.sharded, "weight_norm")
        self.initial = [ranks.local(initial[id(p)]) for p in self.norms.parameters]
        self.initial_norms = self.norms(self.initial)
        self.matrices = [replace(b, parameters=tuple(p for p in b.parameters if p.ndim >= 2)) for b in part.blocks]
        self.matrices = [block for block in self.matrices if block.parameters]
        self.rows = [*self.norms.rows, *(replace(row, quantity="weight_change") for row in self.norms.rows)]
        if self.matrices:
            norms = Norms(self.matrices, (), part.sharded, "weight_near_zero")
            start = [ranks.local(initial[id(p)]) for p in norms.parameters]
            rms, _ = norms.by_element(norms(start), start)
            self.rows += norms.rows
            self.limits = SMALL * rms[:-1]
            places = [i for i, block in enumerate(self.matrices) for _ in block.parameters]
            self.limit_of = [self.limits[i].to(dense(t)) for i, t in zip(places, start, strict=True)]
            self.place = torch.tensor(
                [i for i, block in enumerate(self.matrices) for _ in block.parameters], device=rms.device
            )
            self.sizes = self._by_block([torch.tensor(float(dense(t).numel())) for t in start])

    def read(self) -> Reading:
        now = [ranks.local(p.detach()) for p in self.norms.parameters]
        device = self.initial_norms.device
        change = ratio(self.norms.combine(differences(now, self.initial, device)), self.initial_norms)
        values = [self.norms(now), change]
        if self.matrices:
            weights = [dense(ranks.local(p.detach())) for block in self.matrices for p in block.parameters]
            values.append(ratio(self._by_block(_below(weights, self.limit_of)), self.sizes))
        return Reading(self.rows, torch.cat(values))

    def _by_block(self, counts: Sequence[Tensor]) -> Tensor:
        """[blocks + 1] counts of each block that has weights, and of all; 0 where they all started at 0."""
        device = self.limits.device
        here = torch.stack([count.to(device, self.limits.dtype) for count in counts])
        each = torch.zeros_like(self.limits).index_add_(0, self.place, here)
        each = torch.where(self.limits > 0, each, 0.0)
        both = torch.cat([each, each.sum(0, keepdim=True)])
        return ranks.total(both) if self.sharded else both


def _below(weights: list[Tensor], limits: list[Tensor]) -> list[Tensor]:
    """How many elements of each are smaller than its limit."""
    room, found = Room(), []
    for weight, limit in zip(weights, limits, strict=True):
        sizes = torch.abs(weight, out=room.like(weight))
        found.append(torch.count_nonzero(torch.lt(sizes, limit, out=room.like(weight, torch.bool))))
    return found


def _whole(tensor: Tensor) -> Tensor:
    """What all processes hold of a tensor together."""
    gather = getattr(tensor, "full_tensor", None)
    return gather() if callable(gather) else tensor


def _share(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor in the way in which a parameter is spread over processes."""
    tensor = tensor.to(parameter.device, parameter.dtype, copy=True)
    if not callable(getattr(parameter, "to_local", None)):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
