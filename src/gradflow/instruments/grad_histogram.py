"""How large the elements of a gradient are: a histogram by octaves, through the exponent bits of floating point.

B blocks, E exponents that a type has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gradflow.instruments import ranks
from gradflow.instruments.grad_norm import dense
from gradflow.instruments.instrument import ABSENT, Instrument, Part, Reading, Row, Update
from gradflow.instruments.wide import wide

LOWEST, HIGHEST = -126, 127  # exponents of float32's normal numbers
LABELS = ("subnormal", *(str(e) for e in range(LOWEST, HIGHEST + 1)), "nonfinite", "zero")
CHUNKS = {"cpu": 2**18}  # elements that are counted at once: as fit into a cache
CHUNK = 2**24  # on other devices


class GradHistogram(Instrument):
    """Elements g of a block's gradient per octave: `grad_histogram/<e>` of them have 2^e ≤ |g| < 2^(e+1), for the 254
    exponents e = −126 … 127 of float32's normal numbers, whatever the type of the gradient. `grad_histogram/zero` are
    exactly 0, `grad_histogram/subnormal` below 2^−126 without being 0, `grad_histogram/nonfinite` infinite or NaN.
    Empty bins have no row. The bins are fixed, so that histograms of different steps, blocks and runs can be added;
    together they hold every element, of sparse gradients those that are stored.

    Exponents are read off the bits, which is exact and an order of magnitude cheaper than log2 (IEEE 754). Half types
    go through float32. Of float64 gradients, what lies below 2^−126 counts as subnormal and what is at or above 2^128
    into the bin 127. A scale that is still on the gradients is divided out first: exactly, if it is a power of two.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: WeakKeyDictionary[Part, list[Row]] = WeakKeyDictionary()

    @torch.no_grad()
    def before_clipping(self, update: Update) -> Reading:
        part = update.part
        if part not in self._rows:
            named = [(block.name, block.index) for block in part.blocks]
            self._rows[part] = [Row(*name, f"grad_histogram/{label}") for name in named for label in LABELS]
        device = part.parameters[0].device
        found = [(i, update.gradient(p)) for i, block in enumerate(part.blocks) for p in block.parameters]
        pieces = [(i, ranks.local(dense(g)).flatten()) for i, g in found if g is not None]
        counts = torch.zeros(len(part.blocks), len(LABELS), dtype=wide(device), device=device)
        shift = _exponent(update.scale)
        if shift is None:
            pieces, shift = [(i, g.double() / update.scale) for i, g in pieces], 0
        for kind in (_NARROW, _WIDE):
            mine = [(i, g) for i, g in pieces if (g.dtype == torch.float64) == (kind is _WIDE)]
            if mine:
                counts += kind.count(mine, len(part.blocks), shift).to(counts)
        if part.sharded:
            counts = ranks.total(counts)
        return Reading(self._rows[part], torch.where(counts > 0, counts, ABSENT).flatten())


class _Format:
    """A floating-point format: integers of its size, bits of its mantissa, the exponents' number E."""

    def __init__(self, floats: torch.dtype, integers: torch.dtype, mantissa: int, exponents: int) -> None:
        self.floats, self.integers, self.mantissa, self.exponents = floats, integers, mantissa, exponents

    def count(self, pieces: Sequence[tuple[int, Tensor]], blocks: int, shift: int) -> Tensor:
        """[B, labels]: elements of g · 2^−shift per bin; `shift` ≥ 0."""
        device = pieces[0][1].device
        found = torch.zeros(blocks * self.exponents, dtype=torch.int64, device=device)
        there: list[tuple[int, Tensor]] = []
        for chunk in _chunks(pieces, CHUNKS.get(device.type, CHUNK)):
            lengths = [g.numel() for _, g in chunk]
            flat = torch.cat([g.to(device, self.floats) for _, g in chunk])
            for (block, _), part in zip(chunk, torch.split(flat, lengths), strict=True):
                there.append((block, torch.count_nonzero(part)))
            bits = flat.view(self.integers) >> self.mantissa
            bits &= self.exponents - 1
            torch._foreach_add_(torch.split(bits, lengths), [self.exponents * block for block, _ in chunk])
            found += _occurrences(bits, len(found))
        found = found.view(blocks, self.exponents)
        counts = found.new_zeros(blocks, len(LABELS)).index_add_(1, self._bins(shift, device), found)
        if there:
            place = torch.tensor([block for block, _ in there], device=device)
            zeros = found.sum(1).index_add_(0, place, torch.stack([each for _, each in there]), alpha=-1)
            counts[:, 0] -= zeros
            counts[:, -1] += zeros
        return counts

    def _bins(self, shift: int, device: torch.device) -> Tensor:
        """[E] the bin of each exponent; that of zeros is the subnormal one."""
        e = torch.arange(self.exponents, device=device) - (self.exponents // 2 - 1) - shift
        bins = e.clamp(LOWEST - 1, HIGHEST) - LOWEST + 1
        bins[0] = 0
        bins[-1] = len(LABELS) - 2
        return bins


_NARROW = _Format(torch.float32, torch.int32, 23, 256)
_WIDE = _Format(torch.float64, torch.int64, 52, 2048)


def _chunks(pieces: Sequence[tuple[int, Tensor]], size: int) -> list[list[tuple[int, Tensor]]]:
    """Pieces put together, and cut, so that none of the lists has more than `size` elements."""
    chunks: list[list[tuple[int, Tensor]]] = []
    room = 0
    for block, whole in pieces:
        for piece in torch.split(whole, size):
            if not piece.numel():
                continue
            if piece.numel() > room:
                chunks.append([])
                room = size
            chunks[-1].append((block, piece))
            room -= piece.numel()
    return chunks


def _occurrences(bins: Tensor, count: int) -> Tensor:
    """[count] how often each number occurs; `bincount`, which on other devices waits for the device."""
    if bins.device.type == "cpu":
        return torch.bincount(bins, minlength=count)
    ones = torch.ones((), dtype=torch.int64, device=bins.device).expand_as(bins)
    return torch.zeros(count, dtype=torch.int64, device=bins.device).scatter_add_(0, bins.long(), ones)


def _exponent(scale: Tensor | float) -> int | None:
    """e ≥ 0 of a scale that is known to be 2^e; None otherwise."""
    if isinstance(scale, Tensor):
        return None
    mantissa, exponent = math.frexp(scale)
    return exponent - 1 if mantissa == 0.5 and exponent >= 1 else None
