"""The gradient's Euclidean norm, per block and per parameter group, without false zeros.

In float32 a norm reads exactly 0 once the elements fall below about 1e-22, because their squares underflow: in a
sigmoid network of 50 blocks with Glorot's variance 16 read 0, whose true norms go down to 4e-32. Here squares are
summed in float64, whose smallest number (1e-308) is below the square of float32's smallest (1e-45), so that a zero
means that every element is zero.

P watched parameters, R rows of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradflow.instruments.blocks import Block


@dataclass(frozen=True)
class Row:
    """What one number of a measurement is about: a block, or a parameter group, or a group within a block."""

    name: str
    block: int | None
    quantity: str


class GradNorm:
    """‖∂L/∂θ‖₂ of every block, of all together, and of every parameter group where there is more than one.

    One fused norm over all gradients, then a few operations on vectors of P numbers; nothing is copied to the host.

    Args:
        blocks: from `find_blocks`.
        groups: parameter groups as an optimiser has them; a group's "name", or its place, names its rows.
            A block's rows per group appear as 'grad_norm/<group>', a whole group's under the name 'group.<group>'.
    """

    def __init__(self, blocks: Sequence[Block], groups: Sequence[dict[str, object]] = ()) -> None:
        self.parameters = [p for block in blocks for p in block.parameters]
        place = {id(p): i for i, p in enumerate(self.parameters)}
        self.rows: list[Row] = []
        self._members: list[list[int]] = []

        def add(row: Row, members: list[int]) -> None:
            if members:
                self.rows.append(row)
                self._members.append(members)

        for block in blocks:
            add(Row(block.name, block.index, "grad_norm"), [place[id(p)] for p in block.parameters])
        add(Row("all", None, "grad_norm"), list(place.values()))
        if len(groups) > 1:
            for number, group in enumerate(groups):
                name = str(group.get("name", number))
                inside = {id(p) for p in group["params"]}  # type: ignore[attr-defined]
                for block in blocks:
                    members = [place[id(p)] for p in block.parameters if id(p) in inside]
                    add(Row(block.name, block.index, f"grad_norm/{name}"), members)
                add(Row(f"group.{name}", None, "grad_norm"), [i for key, i in place.items() if key in inside])
        self._index: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def __call__(self, gradients: Sequence[Tensor | None] | None = None) -> Tensor:
        """Norms [R] in float64 on the gradients' device.

        Args:
            gradients: one per watched parameter; `parameter.grad` unless given. A parameter without a gradient adds
                nothing; a row none of whose parameters has one reads −1, which no norm can be.
        """
        grads = [p.grad for p in self.parameters] if gradients is None else list(gradients)
        here = [i for i, g in enumerate(grads) if g is not None]
        device = self.parameters[0].device
        norms = _norms([g for g in grads if g is not None], device)
        if len(here) < len(grads):
            absent = torch.full((len(grads),), -1.0, dtype=norms.dtype, device=device)
            norms = absent.index_copy_(0, torch.tensor(here, dtype=torch.long, device=device), norms)
        return self._combine(norms)

    def _combine(self, norms_P: Tensor) -> Tensor:
        """√Σ n² over the members of each row, scaled by the largest so that no square underflows or overflows."""
        if self._index is None:
            flat = [p for members in self._members for p in members]
            row = [r for r, members in enumerate(self._members) for _ in members]
            self._index = torch.tensor(flat, device=norms_P.device), torch.tensor(row, device=norms_P.device)
        flat_index, row_index = self._index
        n = norms_P[flat_index]
        top = torch.full((len(self.rows),), -1.0, dtype=n.dtype, device=n.device)
        top.scatter_reduce_(0, row_index, n, "amax")
        unit = torch.where((top > 0) & top.isfinite(), top, 1.0)
        squares = torch.zeros_like(top).scatter_add_(0, row_index, (n.clamp(min=0) / unit[row_index]).square())
        return torch.where(top > 0, unit * squares.sqrt(), top)


def _norms(gradients: list[Tensor], device: torch.device) -> Tensor:
    """The norm of each tensor, accumulated where no square of an element can underflow."""
    wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    if not gradients:
        return torch.empty(0, dtype=wide, device=device)
    dense = [_dense(g) for g in gradients]
    narrow = [g for g in dense if g.dtype != wide and wide == torch.float64]
    fused = iter(torch._foreach_norm(narrow, 2, dtype=wide) if narrow else ())
    return torch.stack(
        [
            (next(fused) if g.dtype != wide and wide == torch.float64 else _scaled_norm(g)).to(device, wide)
            for g in dense
        ]
    )


def _scaled_norm(gradient: Tensor) -> Tensor:
    """For a type that has no wider one to sum in: divide by the largest element first."""
    largest = gradient.abs().amax()
    unit = torch.where((largest > 0) & largest.isfinite(), largest, torch.ones_like(largest))
    norm: Tensor = torch.linalg.vector_norm(gradient / unit) * unit
    return norm


def _dense(gradient: Tensor) -> Tensor:
    """The numbers of a sparse gradient, a complex one's real and imaginary parts."""
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient
