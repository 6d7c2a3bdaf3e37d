"""The two series of a record as curves, grids of log10 and histograms.

Shapes: S training steps, L blocks, T time steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradflow.results.page.thin import evenly

ZERO, BROKEN = -999.0, 999.0  # in a grid of log10: an exact zero, and what was not finite
BY_BLOCK = {"grad_norm": "‖∂L/∂(W_l, b_l)‖", "delta_norm": "‖∂L/∂x_l‖"}
OVER_TIME = ("time_grad_", "time_jacobian", "forget_leak")
SPREAD = ("_q10", "_q90")  # quantiles over the examples of a batch, beside their median
LOGARITHMS = ("forget_leak",)  # which is recorded as log10
HISTOGRAM = "grad_histogram/"
MOST_ENDS = 6  # time steps that have a line over training
WHOLE = 0.5  # of the time steps measured at any training step: a step with so many of them has its column in the map
MOST_HISTOGRAMS = 6  # of a run: the first, the middle and the last block at the first and the last step


@dataclass(frozen=True)
class Curve:
    """`values` [S] at `steps` [S]."""

    name: str
    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Grid:
    """log10 [R, S] of a quantity at the places of `rows` [R], blocks or time steps, and of `steps` [S]; NaN where it
    was not measured, `ZERO` and `BROKEN` for what has no logarithm.

    Attributes:
        name: of the layer, for a grid over time; else ''.
    """

    quantity: str
    name: str
    rows: np.ndarray
    steps: np.ndarray
    log10: np.ndarray


@dataclass(frozen=True)
class Histogram:
    """Elements of a block's gradient by octaves: `counts` of 2^e ≤ |g| < 2^(e+1) for e from `lowest` on."""

    block: int
    step: int
    lowest: int
    counts: list[int]
    others: dict[str, int]  # zero, subnormal, nonfinite


@dataclass
class Measured:
    """What the series of one run hold.

    Attributes:
        times: over time, at the training steps at which the whole sequence was measured.
        ends: over time, at all training steps, for the few time steps that are measured at each: the ends of the
            segments that a fused kernel runs at a time. None where the whole sequence always is.
    """

    curves: list[Curve] = field(default_factory=list)
    blocks: list[Grid] = field(default_factory=list)
    times: list[Grid] = field(default_factory=list)
    ends: list[Grid] = field(default_factory=list)
    histograms: list[Histogram] = field(default_factory=list)


def read(file: Path) -> pa.Table | None:
    """A series; None where there is none.

    Raises:
        OSError, pa.ArrowException: where it cannot be read.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)


def measured(gradflow: pa.Table | None, metrics: pa.Table | None) -> Measured:
    """The series of a record."""
    found = Measured()
    if metrics is not None and metrics.num_rows:
        found.curves = _curves(metrics)
    if gradflow is not None and gradflow.num_rows:
        rows = _Rows(gradflow)
        found.blocks = [grid for quantity in BY_BLOCK if (grid := rows.by_block(quantity)) is not None]
        for grid in rows.over_time():
            found.times.append(_whole_columns(grid))
            found.ends += _ends(grid)
        found.histograms = rows.histograms()
    return found


def _whole_columns(grid: Grid) -> Grid:
    """Without the training steps at which little of the sequence was measured: a map of them is mostly blank."""
    there = ~np.isnan(grid.log10)
    columns = there.sum(0) >= WHOLE * there.sum(0).max()
    rows = there[:, columns].any(1)
    return replace(grid, rows=grid.rows[rows], steps=grid.steps[columns], log10=grid.log10[rows][:, columns])


def _ends(grid: Grid) -> list[Grid]:
    """The time steps that are measured at every training step, where the others are not."""
    there = ~np.isnan(grid.log10)
    rows = np.flatnonzero(there.all(1))
    if not len(rows) or len(rows) == len(grid.rows):
        return []
    rows = rows[evenly(len(rows), MOST_ENDS)]
    return [replace(grid, rows=grid.rows[rows], log10=grid.log10[rows])]


def _curves(metrics: pa.Table) -> list[Curve]:
    """Of every figure with more than one value, in the order in which they were first logged."""
    splits, split = _words(metrics["split"])
    names, name = _words(metrics["name"])
    step, value = _numbers(metrics["step"]), _numbers(metrics["value"])
    kinds, first, kind = np.unique(split * len(names) + name, return_index=True, return_inverse=True)
    found = []
    for place in np.argsort(first):
        here = kind == place
        if np.count_nonzero(here) > 1:
            title = f"{splits[int(kinds[place]) // len(names)]}/{names[int(kinds[place]) % len(names)]}"
            found.append(Curve(title, step[here], value[here]))
    return found


class _Rows:
    """gradflow.parquet as arrays; −1 stands for no block and for no time step."""

    def __init__(self, table: pa.Table) -> None:
        self.step, self.value = _numbers(table["step"]), _numbers(table["value"])
        self.block, self.time = (_numbers(table[name].fill_null(-1)) for name in ("block", "time"))
        self.names, self.name = _words(table["name"])
        self.quantities, self.quantity = _words(table["quantity"])

    def by_block(self, quantity: str) -> Grid | None:
        if quantity not in self.quantities:
            return None
        here = (self.quantity == self.quantities.index(quantity)) & (self.block >= 0) & (self.time < 0)
        return self._grid(quantity, "", self.block, here)

    def over_time(self) -> list[Grid]:
        """Of every layer and quantity, layers in the order of their blocks."""
        timed = self.time >= 0
        if not timed.any():
            return []
        found = []
        for code in np.unique(self.quantity[timed]):
            quantity = self.quantities[code]
            if not quantity.startswith(OVER_TIME) or quantity.endswith(SPREAD):
                continue
            of_it = timed & (self.quantity == code)
            for layer in np.unique(self.name[of_it]):
                grid = self._grid(quantity, self.names[layer], self.time, of_it & (self.name == layer))
                found += [] if grid is None else [grid]
        return sorted(found, key=lambda grid: (grid.name, not grid.quantity.startswith("time_grad"), grid.quantity))

    def _grid(self, quantity: str, name: str, places: np.ndarray, here: np.ndarray) -> Grid | None:
        if not here.any():
            return None
        rows, row = np.unique(places[here], return_inverse=True)
        steps, column = np.unique(self.step[here], return_inverse=True)
        value = self.value[here]
        with np.errstate(divide="ignore", invalid="ignore"):
            log10 = value if quantity in LOGARITHMS else np.where(value == 0, ZERO, np.log10(value))
        whole = np.full((len(rows), len(steps)), np.nan)
        whole[row, column] = np.where(np.isfinite(log10), log10, BROKEN)
        return Grid(quantity, name, rows, steps, whole)

    def histograms(self) -> list[Histogram]:
        kinds = {i: name.removeprefix(HISTOGRAM) for i, name in enumerate(self.quantities) if HISTOGRAM in name}
        here = np.isin(self.quantity, list(kinds)) & (self.block >= 0)
        if not here.any():
            return []
        steps, blocks = np.unique(self.step[here]), np.unique(self.block[here])
        found = []
        for step in dict.fromkeys((int(steps[0]), int(steps[-1]))):
            for block in dict.fromkeys((int(blocks[0]), int(blocks[len(blocks) // 2]), int(blocks[-1]))):
                mine = here & (self.step == step) & (self.block == block)
                pairs = zip(self.quantity[mine], self.value[mine], strict=True)
                counted = {kinds[int(kind)]: int(value) for kind, value in pairs}
                octaves = {int(kind): count for kind, count in counted.items() if kind.lstrip("-").isdigit()}
                others = {kind: count for kind, count in counted.items() if not kind.lstrip("-").isdigit()}
                if octaves:
                    lowest = min(octaves)
                    counts = [octaves.get(e, 0) for e in range(lowest, max(octaves) + 1)]
                    found.append(Histogram(block, step, lowest, counts, others))
        return found


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Whole numbers or floats, none of them null."""
    return np.asarray(column.to_numpy())


def _words(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The distinct words, and the place of each row's."""
    whole = column.combine_chunks()
    coded: Any = whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return [str(word) for word in coded.dictionary.to_pylist()], np.asarray(coded.indices.to_numpy()).astype(np.int64)
