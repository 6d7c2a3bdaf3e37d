"""What W&B is shown of a run's numbers: one row per training step, and at a few steps pictures of all so far.

Works on what a record's files hold, and needs neither torch nor wandb. L blocks, S steps, T time steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.runs import wandb_keys as keys

NOT_LOGGED = ("grad_rms", "grad_max", "loss", "weight_near_zero")  # they stay in the record
BINS = "grad_histogram/"
SUMMARIES = ("memory_horizon_1%", "memory_horizon_0.1%", "time_decay", "jacobian_decay", "lyapunov_", "forget_leak")
MOST_COLUMNS, MOST_ROWS = 512, 256  # that are kept for a heat map; more would not be seen


@dataclass(frozen=True)
class HeatMap:
    """values [L or T, S], rows' and columns' numbers, and what the rows are ('block', 'time step')."""

    values: np.ndarray
    rows: np.ndarray
    steps: np.ndarray
    what: str
    quantity: str


@dataclass(frozen=True)
class Histogram:
    """Counts [B] and edges [B + 1]."""

    counts: np.ndarray
    edges: np.ndarray


class History:
    """Collects the numbers of a run as they come, and gives the rows of steps to which nothing more will come.

    Args:
        pictures: how many times over the run heat maps and histograms are shown; 0 for never.
    """

    def __init__(self, pictures: int) -> None:
        self._pictures, self._shown = pictures, 0
        self._blocks = 0
        self._figures: dict[int, dict[str, float]] = {}
        self._by_block: dict[int, dict[str, dict[int, float]]] = {}
        self._of_time: dict[int, dict[tuple[str, str], dict[int, float]]] = {}  # summaries, of one direction each
        self._layers = 0
        self._norms, self._time, self._ends = _Columns(), _Columns(), _Columns()
        self._counts: dict[int, dict[int, float]] = {}  # of the latest step: block → exponent → elements
        self._counted_at = -1

    def figure(self, step: int, named: dict[str, float]) -> None:
        """Losses and metrics of a step."""
        self._figures.setdefault(step, {}).update(named)

    def measured(self, step: int, row: tuple[str, int | None, str], value: float) -> None:
        """One number of an instrument; `row` is (name, block, quantity)."""
        name, block, quantity = row
        if quantity.startswith(BINS) and block is not None:
            if step > self._counted_at:
                self._counts, self._counted_at = {}, step
            self._count(block, quantity.removeprefix(BINS), value)
        elif "/" in quantity or quantity.startswith(NOT_LOGGED):
            return
        elif block is not None:
            self._blocks = max(self._blocks, block + 1)
            self._by_block.setdefault(step, {}).setdefault(quantity, {})[block] = value
        elif name in keys.WHOLE and quantity in keys.MAIN:
            self.figure(step, {keys.quantity_key(quantity, name): value})

    def through_time(self, rows: Iterable[dict[str, Any]]) -> None:
        """Rows of the time axis, as gradflow.parquet has them: of the first layer's gradient all time steps; of each
        layer the summaries, which of `forget_leak` is what is left of the first step."""
        curves: dict[int, dict[int, float]] = {}
        for row in rows:
            quantity, block, name = row["quantity"], row["block"], row["name"]
            if quantity == "time_grad_h" and block == 0 and not name.endswith(".backward") and row["time"] is not None:
                curves.setdefault(row["step"], {})[row["time"]] = row["value"]
            elif row["time"] or not quantity.startswith(SUMMARIES):
                continue
            elif block is None:
                self.figure(row["step"], {keys.quantity_key(quantity, name): row["value"]})
            else:
                self._layers = max(self._layers, block + 1)
                of_step = self._of_time.setdefault(row["step"], {})
                of_step.setdefault((quantity, keys.direction(name)), {})[block] = row["value"]
        for step, curve in curves.items():  # of a probe all time steps; of a training step the ends of its segments
            (self._time if len(curve) == max(curve) + 1 else self._ends).add(step, curve)

    def recorded(self, metrics: Iterable[dict[str, Any]], gradflow: Sequence[dict[str, Any]]) -> None:
        """What earlier attempts have in the record: rows of its two files."""
        for row in metrics:
            self.figure(row["step"], {f"{row['split']}/{row['name']}": row["value"]})
        timed = ("time_grad", *SUMMARIES)
        self.through_time(row for row in gradflow if row["quantity"].startswith(timed))
        for row in gradflow:
            if row["time"] is None and not row["quantity"].startswith(timed):
                self.measured(row["step"], (row["name"], row["block"], row["quantity"]), row["value"])

    def rows(self, before: float, done: float) -> list[tuple[int, dict[str, Any]]]:
        """(step, key → number or picture) of each step below `before`, in the order of steps; they are forgotten here.

        Args:
            before: later steps may get more.
            done: share of the run that is done, 0 to 1, which decides whether pictures are due.
        """
        ready: list[tuple[int, dict[str, Any]]] = []
        for step in sorted(step for step in {*self._figures, *self._by_block, *self._of_time} if step < before):
            row: dict[str, Any] = self._figures.pop(step, {})
            for (quantity, direction), values in self._of_time.pop(step, {}).items():
                row |= _of_blocks(quantity, values, max(self._layers, self._blocks), direction)
            for quantity, values in self._by_block.pop(step, {}).items():
                row |= _of_blocks(quantity, values, self._blocks)
                if quantity == "grad_norm":
                    row |= self._ratio(values)
                    self._norms.add(step, values)
            if row:
                ready.append((step, row))
        due = math.floor(done * self._pictures)
        if ready and due > self._shown:
            self._shown = due
            ready[-1][1].update(self._show())
        return ready

    def _ratio(self, norms: dict[int, float]) -> dict[str, float]:
        first, last = norms.get(0), norms.get(self._blocks - 1)
        if self._blocks < 2 or first is None or last is None or not last > 0:
            return {}
        return {keys.GRADIENT_RATIO: first / last}

    def _count(self, block: int, label: str, value: float) -> None:
        if label not in ("zero", "subnormal", "nonfinite"):
            self._counts.setdefault(block, {})[int(label)] = value

    def _show(self) -> dict[str, HeatMap | Histogram]:
        shown: dict[str, HeatMap | Histogram] = {}
        if self._norms.steps and self._blocks > 1:
            shown[keys.HEAT_MAP] = self._norms.heat_map("block", "gradient norm")
            latest = self._norms.latest
            positive = np.log10(latest[np.isfinite(latest) & (latest > 0)])
            if positive.size:
                shown[keys.BLOCK_NORMS] = Histogram(*np.histogram(positive, bins=min(32, max(4, positive.size // 4))))
        if through_time := next((each for each in (self._time, self._ends) if each.steps), None):
            shown[keys.TIME_HEAT_MAP] = through_time.heat_map("time step", "gradient norm")
        counted = sorted(self._counts)
        places = np.unique(np.linspace(0, len(counted) - 1, min(keys.FEW_BLOCKS, len(counted))).round().astype(int))
        for block in (counted[i] for i in places) if counted else ():
            octaves = self._counts[block]
            low, high = min(octaves), max(octaves)
            counts = np.array([octaves.get(e, 0) for e in range(low, high + 1)])
            shown[keys.histogram(keys.block(block, self._blocks))] = Histogram(counts, np.arange(low, high + 2))
        return shown


def _of_blocks(quantity: str, values: dict[int, float], blocks: int, direction: str = "") -> dict[str, float]:
    """What a quantity of the blocks has keys for, of one direction of bidirectional layers."""
    if keys.per_block(quantity, blocks):
        return {keys.quantity_key(quantity, keys.block(i, blocks, direction)): value for i, value in values.items()}
    found = {}
    if there := sorted(value for value in values.values() if math.isfinite(value)):
        words = (keys.directed(word, direction) for word in keys.QUANTILES)
        levels = (_quantile(there, share) for share in keys.QUANTILES.values())
        found = {keys.quantity_key(quantity, w): value for w, value in zip(words, levels, strict=True)}
    ends = {i: values[i] for i in (0, blocks - 1) if i in values}
    return found | {keys.quantity_key(quantity, keys.block(i, blocks, direction)): value for i, value in ends.items()}


def _quantile(ordered: list[float], share: float) -> float:
    """Between two numbers it is interpolated, as numpy does, which takes twenty times as long for a few."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


class _Columns:
    """The columns of a heat map, one per step: thinned out evenly where they become too many."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.latest = np.zeros(0)
        self._columns: list[np.ndarray] = []
        self._stride, self._seen, self._length = 1, 0, 0

    def add(self, step: int, values: dict[int, float]) -> None:
        """`values`: row → number; what is missing is NaN."""
        self._length = max(self._length, max(values) + 1)
        self.latest = np.full(self._length, np.nan)
        self.latest[list(values)] = list(values.values())
        if self._seen % self._stride == 0:
            self.steps.append(step)
            self._columns.append(self.latest[self._places()].astype(np.float32))
        self._seen += 1
        if len(self.steps) > MOST_COLUMNS:
            self.steps, self._columns, self._stride = self.steps[::2], self._columns[::2], 2 * self._stride

    def heat_map(self, what: str, quantity: str) -> HeatMap:
        whole = np.full((len(self._places()), len(self.steps)), np.nan, dtype=np.float32)
        for i, column in enumerate(self._columns):
            whole[: len(column), i] = column
        there = ~np.isnan(whole).all(axis=1) if np.isfinite(whole).any() else slice(None)
        return HeatMap(whole[there], self._places()[there], np.array(self.steps), what, quantity)

    def _places(self) -> np.ndarray:
        """Which rows are kept."""
        if self._length <= MOST_ROWS:
            return np.arange(self._length)
        return np.linspace(0, self._length - 1, MOST_ROWS).round().astype(int)
