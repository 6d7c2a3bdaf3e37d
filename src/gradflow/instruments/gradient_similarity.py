"""How alike the gradients of different examples are, and those of successive steps.

P parameters of one optimiser, R rows: its blocks, and all together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.grams import Grams, mean_cosine
from gradflow.instruments.instrument import ABSENT, Instrument, Reading, Row, Update
from gradflow.instruments.wide import wide


class GradientSimilarity(Instrument):
    """`gradient_correlation` between examples and `gradient_cosine` between steps, per block; both between −1 and 1.

    - `gradient_correlation`: mean over pairs i ≠ j of the cosine between ∂ℓ_i/∂(block output) and ∂ℓ_j/∂(block output).
      In a plain ReLU network it decays towards 0 with the distance from the loss: the gradient of one example then
      tells nothing of that of another, it is 'shattered' (Balduzzi et al. 2017). They differentiate by the network's
      input; the stem's or first block's output stands for it here, since an input need not carry a gradient. Of the
      first `examples` (32) of a batch along axis 0; those whose gradient is exactly 0 form no pair. Mean over the
      batches of an update, the calls of a block and over processes.
    - `gradient_cosine`: between the gradient by a block's parameters at the step before and at this one, and of all
      together: near 1 while the descent goes straight, negative where it bounces between the walls of a valley. Before
      clipping, which scales all by one factor. Measured at every step that is due except the first of a run; the
      gradient of the step before is kept for it, also across a restart, at the cost of one copy of the gradients.

    Both are independent of the gradients' scale, down to the smallest numbers of their type. Under batch normalisation
    ∂L/∂(output of example i) holds what it does to other examples' losses too.

    Absent: without two examples whose gradient is not 0; `gradient_cosine` where either gradient is 0, of sparse
    gradients, and of what other optimisers update. Under FSDP a run that is restarted begins anew, one pair late.
    """

    def __init__(self) -> None:
        super().__init__()
        self._deltas = Grams()
        self._before: dict[str, _Unit] = {}
        self._sharded = False

    def due(self, step: int) -> bool:
        """At the steps it reports, and at the one before each."""
        return super().due(step) or super().due(step + 1)

    def sees(self, step: int) -> bool:
        return super().due(step)

    def delta(self, block: Block, gradient: Tensor) -> None:
        self._deltas.add(block.name, gradient, self.examples)

    @torch.no_grad()
    def inside(self, scale: Tensor | float) -> Reading | None:
        if not self._deltas:
            return None
        values = self._deltas.take([block.name for block in self.blocks], mean_cosine, 1)
        rows = [Row(block.name, block.index, "gradient_correlation") for block in self.blocks]
        return Reading(rows, ranks.mean(values.flatten()))

    @torch.no_grad()
    def before_clipping(self, update: Update) -> Reading | None:
        part, step = update.part, update.step
        self._sharded = part.sharded
        names = {id(p): f"{block.name}/{i}" for block in self.blocks for i, p in enumerate(block.parameters)}
        keys = [names[id(p)] for p in part.parameters]
        before = [self._before.pop(key, None) for key in keys]
        before = [each if each is not None and each.step == step - 1 else None for each in before]
        now = [_real(update.gradient(p)) for p in part.parameters]
        there = [g for g in now if g is not None]
        kind = wide(part.parameters[0].device)
        norms = iter(torch._foreach_norm(there, 2, dtype=kind) if there else ())
        units = [None if g is None else _Unit(step, g, next(norms)) for g in now]
        reading = None
        if super().due(step) and any(each is not None for each in before):
            reading = self._compare(update, list(zip(before, units, strict=True)))
        if super().due(step + 1):
            self._before.update((key, each.kept()) for key, each in zip(keys, units, strict=True) if each is not None)
        return reading

    def _compare(self, update: Update, pairs: list[tuple[_Unit | None, _Unit | None]]) -> Reading:
        """Cosines [R], of sums over parameters of inner products and of the squares before and now."""
        blocks, device = update.part.blocks, update.part.parameters[0].device
        found = {i: _products(a, b) for i, (a, b) in enumerate(pairs) if a is not None or b is not None}
        values_P3 = torch.zeros(len(pairs), 3, dtype=wide(device), device=device)  # cosine, norm before, norm now
        values_P3[torch.tensor(list(found), device=device)] = torch.stack([v.to(values_P3) for v in found.values()])
        cosine_P, norms_P2 = values_P3[:, 0], values_P3[:, 1:]
        top_2 = norms_P2.amax(0)
        top_2 = ranks.largest(top_2) if update.part.sharded else top_2
        norms_P2 = norms_P2 / torch.where(top_2 == 0, 1.0, top_2)
        sums_P3 = torch.cat([(cosine_P * norms_P2.prod(1))[:, None], norms_P2.square()], 1)
        if update.part.sharded:
            sums_P3 = ranks.total(sums_P3)
        row = torch.tensor([r for r, block in enumerate(blocks) for _ in block.parameters], device=device)
        sums_R3 = sums_P3.new_zeros(len(blocks), 3).index_add_(0, row, sums_P3)
        sums_R3 = torch.cat([sums_R3, sums_R3.sum(0, keepdim=True)])
        length_R = sums_R3[:, 1].sqrt() * sums_R3[:, 2].sqrt()
        places = [*((block.name, block.index) for block in blocks), ("all", None)]
        values_R = torch.where(length_R == 0, ABSENT, sums_R3[:, 0] / length_R)
        return Reading([Row(*place, "gradient_cosine") for place in places], values_R)

    def state_dict(self) -> dict[str, Any]:
        if self._sharded or not self._before:
            return {}
        return {"before": {key: (each.step, each.gradient, each.norm) for key, each in self._before.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._before = {key: _Unit(*each) for key, each in state.get("before", {}).items()}


@dataclass
class _Unit:
    """A gradient and its norm; once `kept`, the gradient is one of norm 1 and `norm` that which it had."""

    step: int
    gradient: Tensor
    norm: Tensor

    def kept(self) -> _Unit:
        return _Unit(self.step, _scaled(self.gradient, self.norm), self.norm)


def _scaled(gradient: Tensor, norm: Tensor) -> Tensor:
    """Of norm 1; in float32 at least, so that products of small numbers do not vanish."""
    narrow = torch.promote_types(gradient.dtype, torch.float32)
    return gradient.to(narrow) / torch.where(norm == 0, 1.0, norm).to(narrow)


def _products(before: _Unit | None, now: _Unit | None) -> Tensor:
    """[3]: the cosine of one parameter's two gradients, and their norms; one that is missing is 0."""
    if before is None or now is None:
        one = before or now
        assert one is not None
        zero = torch.zeros_like(one.norm)
        return torch.stack([zero, zero, one.norm] if before is None else [zero, one.norm, zero])
    scaled = _scaled(now.gradient, now.norm).flatten()
    norm = before.norm.to(now.norm)
    return torch.stack([torch.dot(before.gradient.to(scaled).flatten(), scaled).to(norm), norm, now.norm])


def _real(gradient: Tensor | None) -> Tensor | None:
    if gradient is None or gradient.is_sparse:
        return None
    gradient = ranks.local(gradient.detach())
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient
