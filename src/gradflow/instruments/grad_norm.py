"""The gradient's Euclidean norm, root mean square and largest element, per block and group, without false zeros.

In float32 a norm reads exactly 0 once the elements fall below about 1e-22, because their squares underflow: in a
sigmoid network of 50 blocks with Glorot's variance 16 read 0, whose true norms go down to 4e-32. Here squares are
summed in float64, whose smallest number (1e-308) is below the square of float32's smallest (1e-45), so that a zero
means that every element is zero.

P watched parameters, R rows of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.instrument import ABSENT, Instrument, Part, Reading, Row, Update


class GradNorm(Instrument):
    """‖∂L/∂θ‖₂ (`grad_norm`), its root mean square (`grad_rms`) and largest magnitude (`grad_max`), per block, of all
    together, and the norm per parameter group where there is more than one. After clipping the quantities end in
    `_clipped`.

    Args:
        clipped: whether to measure after clipping too.
        by_element: whether to measure `grad_rms` and `grad_max`; the latter passes over all gradients once more.
    """

    def __init__(self, clipped: bool = False, by_element: bool = True) -> None:
        super().__init__()
        self.clipped, self.by_element = clipped, by_element
        self._norms: WeakKeyDictionary[Part, Norms] = WeakKeyDictionary()

    def before_clipping(self, update: Update) -> Reading:
        return self.read(update)

    def after_clipping(self, update: Update) -> Reading | None:
        if not self.clipped:
            return None
        return self.read(Update(update.step, update.part), "_clipped")

    def read(self, update: Update, suffix: str = "") -> Reading:
        """The gradient as it is at this moment."""
        norms = self._norms_of(update.part)
        values = self._values(norms, [update.gradient(p) for p in norms.parameters])
        if isinstance(update.scale, Tensor) or update.scale != 1:
            values = values / update.scale
        return Reading(self.rows(update.part, suffix), values)

    def rows(self, part: Part, suffix: str = "") -> list[Row]:
        """What the numbers of a part are about."""
        norms = self._norms_of(part)
        rows = norms.rows + norms.element_rows if self.by_element else norms.rows
        return [Row(row.name, row.block, _suffixed(row.quantity, suffix)) for row in rows] if suffix else rows

    def of_members(self, part: Part, gradients: dict[int, Tensor]) -> Tensor:
        """The numbers [K, R] of K models at once that differ from this one in their numbers alone.

        Args:
            part: of this model.
            gradients: [K, …] by the id of this model's parameter.
        """
        norms = self._norms_of(part)
        return self._values(norms, [gradients.get(id(p)) for p in norms.parameters], members=True)

    def _norms_of(self, part: Part) -> Norms:
        if part not in self._norms:
            self._norms[part] = Norms(part.blocks, part.groups, part.sharded)
        return self._norms[part]

    def _values(self, norms: Norms, gradients: list[Tensor | None], members: bool = False) -> Tensor:
        values = norms(gradients, members)
        return torch.cat([values, *norms.by_element(values, gradients)], -1) if self.by_element else values


def _suffixed(quantity: str, suffix: str) -> str:
    word, slash, group = quantity.partition("/")
    return f"{word}{suffix}{slash}{group}"


class Norms:
    """The norm of every block, of all together, and of every parameter group where there is more than one.

    One fused norm over all gradients, then a few operations on vectors of P numbers; nothing is copied to the host.

    Args:
        blocks: from `find_blocks`.
        groups: parameter groups as an optimiser has them; a group's "name", or its place, names its rows.
            A block's rows per group appear as '<quantity>/<group>', a whole group's under the name 'group.<group>'.
        sharded: whether the tensors are shares, to be put together with those of other processes.
        quantity: what the rows are called.

    Attributes:
        parameters: P of them, in the order in which `__call__` expects tensors.
        rows: what the numbers are about.
        element_rows: those of `by_element`.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        groups: Sequence[dict[str, object]] = (),
        sharded: bool = False,
        quantity: str = "grad_norm",
    ) -> None:
        self.parameters = [p for block in blocks for p in block.parameters]
        self.sharded = sharded
        place = {id(p): i for i, p in enumerate(self.parameters)}
        self.rows: list[Row] = []
        self._members: list[list[int]] = []

        def add(row: Row, members: list[int]) -> None:
            if members:
                self.rows.append(row)
                self._members.append(members)

        for block in blocks:
            add(Row(block.name, block.index, quantity), [place[id(p)] for p in block.parameters])
        add(Row("all", None, quantity), list(place.values()))
        self.whole = len(self.rows)
        if len(groups) > 1:
            for number, group in enumerate(groups):
                name = str(group.get("name", number))
                inside = {id(p) for p in group["params"]}  # type: ignore[attr-defined]
                for block in blocks:
                    members = [place[id(p)] for p in block.parameters if id(p) in inside]
                    add(Row(block.name, block.index, f"{quantity}/{name}"), members)
                add(Row(f"group.{name}", None, quantity), [i for key, i in place.items() if key in inside])
        self.element_rows = [
            Row(row.name, row.block, kind) for kind in ("grad_rms", "grad_max") for row in self.rows[: self.whole]
        ]
        self._index: tuple[Tensor, Tensor] | None = None
        self._sizes: Tensor | None = None

    @torch.no_grad()
    def __call__(self, tensors: Sequence[Tensor | None] | None = None, members: bool = False) -> Tensor:
        """Norms [R] in float64 on the tensors' device.

        Args:
            tensors: one per watched parameter; `parameter.grad` unless given. A parameter without one adds nothing; a
                row none of whose parameters has one is `ABSENT`.
            members: whether the tensors are [K, …], of K models each; the norms are then [K, R].
        """
        found = [p.grad for p in self.parameters] if tensors is None else list(tensors)
        device = self.parameters[0].device
        there = [t for t in found if t is not None]
        return self.combine(_placed(found, norms_of_members(there) if members else norms_of(there, device)))

    @torch.no_grad()
    def by_element(self, norms: Tensor, tensors: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """(root mean square, largest magnitude), each [blocks + 1]: of every block, and of all together.

        Args:
            norms: what `__call__` gave for the same tensors; [K, R] of K models, and so is what comes of it.
            tensors: one per watched parameter.
        """
        device = norms.device
        flat_index, row_index = self._indices(device)
        sizes = self._counts(device)
        whole = norms[..., : self.whole]
        rms = torch.where(whole == ABSENT, whole, whole / sizes.sqrt())
        there = [dense(t) for t in tensors if t is not None]
        peaks = _peaks_of_members(there, norms) if norms.ndim > 1 else _peaks(there, norms)
        n = _placed(list(tensors), peaks)[..., flat_index]
        top = torch.full_like(norms, ABSENT).scatter_reduce_(-1, row_index.expand_as(n), n, "amax")
        return rms, (ranks.largest(top) if self.sharded else top)[..., : self.whole]

    def combine(self, norms_P: Tensor) -> Tensor:
        """√Σ n² over the members of each row, scaled by the largest so that no square underflows or overflows.

        [P] or, of K models, [K, P].
        """
        flat_index, row_index = self._indices(norms_P.device)
        n = norms_P[..., flat_index]
        row = row_index.expand_as(n)
        top = torch.full((*n.shape[:-1], len(self.rows)), ABSENT, dtype=n.dtype, device=n.device)
        top.scatter_reduce_(-1, row, n, "amax")
        if self.sharded:
            top = ranks.largest(top)
        unit = torch.where((top > 0) & top.isfinite(), top, 1.0)
        squares = torch.zeros_like(top).scatter_add_(-1, row, (n.clamp(min=0) / unit[..., row_index]).square())
        if self.sharded:
            squares = ranks.total(squares)
        return torch.where(top > 0, unit * squares.sqrt(), top)

    def _indices(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._index is None:
            flat = [p for members in self._members for p in members]
            row = [r for r, members in enumerate(self._members) for _ in members]
            self._index = torch.tensor(flat, device=device), torch.tensor(row, device=device)
        return self._index

    def _counts(self, device: torch.device) -> Tensor:
        """Elements of each block, and of all together, in all processes."""
        if self._sizes is None:
            wide = torch.float32 if device.type == "mps" else torch.float64
            sizes = torch.tensor(
                [sum(ranks.local(self.parameters[i]).numel() for i in m) for m in self._members[: self.whole]],
                dtype=wide,
                device=device,
            )
            self._sizes = ranks.total(sizes) if self.sharded else sizes
        return self._sizes


def _placed(tensors: list[Tensor | None], found: Tensor) -> Tensor:
    """Numbers of those tensors that are there, `ABSENT` in the place of the others."""
    here = [i for i, t in enumerate(tensors) if t is not None]
    if len(here) == len(tensors):
        return found
    everywhere = torch.full((*found.shape[:-1], len(tensors)), ABSENT, dtype=found.dtype, device=found.device)
    return everywhere.index_copy_(-1, torch.tensor(here, dtype=torch.long, device=found.device), found)


def norms_of(tensors: list[Tensor], device: torch.device) -> Tensor:
    """The norm of each tensor, accumulated where no square of an element can underflow."""
    wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    shares = [dense(t) for t in tensors]
    narrow = [t for t in shares if t.dtype != wide and wide == torch.float64]
    fused = list(torch._foreach_norm(narrow, 2, dtype=wide)) if narrow else []
    if len(fused) == len(shares):
        return _stacked(fused, device, wide)
    waiting = iter(fused)
    each = [next(waiting) if t.dtype != wide and wide == torch.float64 else _scaled_norm(t) for t in shares]
    return _stacked(each, device, wide)


def norms_of_members(tensors: list[Tensor]) -> Tensor:
    """[K, P]: the norms of P tensors [K, …] over all but their first axis, accumulated as `norms_of` does."""
    return torch.stack([_norm_of_members(dense(t).reshape(len(t), -1)) for t in tensors], -1)


def _norm_of_members(tensor_Kn: Tensor) -> Tensor:
    if tensor_Kn.dtype == torch.float64 or tensor_Kn.device.type == "mps":
        largest = tensor_Kn.abs().amax(1, keepdim=True)
        unit = torch.where((largest > 0) & largest.isfinite(), largest, torch.ones_like(largest))
        norm: Tensor = torch.linalg.vector_norm(tensor_Kn / unit, dim=1) * unit.squeeze(1)
        return norm
    found: Tensor = torch.linalg.vector_norm(tensor_Kn, dim=1, dtype=torch.float64)
    return found


def differences(these: Sequence[Tensor], those: Sequence[Tensor], device: torch.device) -> Tensor:
    """The norm of each this − that, as `norms_of` accumulates it; on a CPU one by one, in the same few pages."""
    if not these or these[0].device.type != "cpu":
        return norms_of(list(torch._foreach_sub(list(these), list(those))) if these else [], device)
    room = Room()
    apart = (torch.sub(a, b, out=room.like(a)) for a, b in zip(these, those, strict=True))
    narrow = (torch.float32, torch.float16, torch.bfloat16)
    return torch.stack(
        [
            torch.linalg.vector_norm(d, dtype=torch.float64) if d.dtype in narrow else norms_of([d], device)[0]
            for d in apart
        ]
    )


class Room:
    """Memory for one tensor at a time: to ask the system for new pages takes longer than to work on them."""

    def __init__(self) -> None:
        self._flat: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor of this shape, whose content is anything."""
        kind = dtype or tensor.dtype, tensor.device
        if kind not in self._flat or self._flat[kind].numel() < tensor.numel():
            self._flat[kind] = torch.empty(tensor.numel(), dtype=kind[0], device=kind[1])
        return self._flat[kind][: tensor.numel()].view(tensor.shape)


def _peaks(tensors: list[Tensor], like: Tensor) -> Tensor:
    """The largest magnitude of each tensor, in `like`'s type and on its device; NaN where an element is."""
    filled = [t if t.numel() else t.new_zeros(1) for t in tensors]
    if filled and filled[0].is_cuda:
        return _stacked(list(torch._foreach_norm(filled, float("inf"))), like.device, like.dtype)
    ends = [t.aminmax() for t in filled]  # on a CPU eight times as fast as a norm of infinite order
    low, high = (_stacked([end[i] for end in ends], like.device, like.dtype) for i in (0, 1))
    return torch.maximum(-low, high)


def _peaks_of_members(tensors: list[Tensor], like: Tensor) -> Tensor:
    """[K, P]: the largest magnitudes of P tensors [K, …] over all but their first axis; NaN where an element is."""
    ends = [dense(t).reshape(len(t), -1).aminmax(dim=1) for t in tensors]
    return torch.stack([torch.maximum(-low, high) for low, high in ends], -1).to(like)


def _stacked(numbers: list[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Scalars as one vector; those that differ in type or device are brought over one by one."""
    if not numbers:
        return torch.empty(0, dtype=dtype, device=device)
    if len({(n.dtype, n.device) for n in numbers}) > 1:
        numbers = [n.to(device, dtype) for n in numbers]
    return torch.stack(numbers).to(device, dtype)


def _scaled_norm(tensor: Tensor) -> Tensor:
    """For a type that has no wider one to sum in: divide by the largest element first."""
    if not tensor.numel():
        return tensor.new_zeros(())
    largest = tensor.abs().amax()
    unit = torch.where((largest > 0) & largest.isfinite(), largest, torch.ones_like(largest))
    norm: Tensor = torch.linalg.vector_norm(tensor / unit) * unit
    return norm


def dense(tensor: Tensor) -> Tensor:
    """The numbers of a tensor in this process: of a sparse one those that are there, of a complex one both parts."""
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor if type(tensor) is Tensor else ranks.local(tensor)
