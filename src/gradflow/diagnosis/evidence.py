"""What is known of a run, from its record, from tables in memory, or from any rows: what the signs look at.

Shapes: S logged steps, L blocks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradflow.diagnosis.loss_curve import LossCurve, loss_curve
from gradflow.diagnosis.over_time import TimeAxis, time_axes
from gradflow.errors import ConfigError

COLUMNS = ("step", "block", "name", "time", "quantity", "value")


@dataclass(frozen=True)
class Series:
    """One quantity: `values` [S, L] at `steps` [S], NaN where it was not measured."""

    steps: np.ndarray
    values: np.ndarray

    def late(self) -> np.ndarray:
        """The median [L] over the second half of the logged steps; NaN where there is nothing."""
        half = self.values[len(self.steps) // 2 :]
        known = np.isfinite(half).any(axis=0)
        middle = np.full(half.shape[1], np.nan)
        middle[known] = np.nanmedian(np.where(np.isfinite(half), half, np.nan)[:, known], axis=0)
        return middle

    def ends(self) -> tuple[int, int] | None:
        """The first and the last block that were measured at all; None unless there are two."""
        known = np.flatnonzero((~np.isnan(self.values)).any(axis=0))
        return (int(known[0]), int(known[-1])) if len(known) > 1 else None

    def ratio(self) -> float | None:
        """First ÷ last block, geometric mean over the steps at which both are positive and finite."""
        ends = self.ends()
        if ends is None:
            return None
        return geometric_ratio(self.values[:, ends[0]], self.values[:, ends[1]])


@dataclass(frozen=True)
class Evidence:
    """What is known of a run; whatever is not has its default, and the signs that would look at it are not checked.

    Attributes:
        blocks: names, 0 nearest the input.
        quantities: of blocks, by name.
        whole: of the network as a whole, rows of the name 'all'; their `values` are [S, 1].
        time: what the probes of the time axis say, by recurrent layer.
        loss: steps and training losses.
        metric: the name of `figure`, such as 'test/accuracy'.
        figure: what was scored; None for a run that diverged or has not ended.
        chance, chance_error: what a guess scores, and its standard error; None: not known.
        solved: whether the task's own criterion was met; None: it has none.
        gradient: a summary (`ratio`, `steps`, `zero_steps`) for records that have lost their rows.
        no_gradient: why no gradient flows, where a network says so.
        diverged_at: step of the first loss that is not finite.
    """

    blocks: tuple[str, ...] = ()
    quantities: Mapping[str, Series] = field(default_factory=dict)
    whole: Mapping[str, Series] = field(default_factory=dict)
    time: tuple[TimeAxis, ...] = ()
    loss: tuple[np.ndarray, np.ndarray] | None = None
    metric: str = "metric"
    figure: float | None = None
    chance: float | None = None
    chance_error: float | None = None
    larger_is_better: bool = True
    solved: bool | None = None
    gradient: Mapping[str, Any] | None = None
    no_gradient: str | None = None
    diverged_at: int | None = None

    @cached_property
    def curve(self) -> LossCurve | None:
        """The shape of the training loss; None where too little of it is known."""
        return None if self.loss is None else loss_curve(*self.loss)

    def skill(self) -> float | None:
        """How far the figure has come from a guess's, 0, to a perfect one, 1: of a share such as an accuracy to 1, of
        an error to 0. None where figure or chance is not known."""
        perfect = 1.0 if self.larger_is_better else 0.0
        if self.figure is None or self.chance is None or self.chance == perfect:
            return None
        return (self.figure - self.chance) / (perfect - self.chance)

    def block(self, index: int) -> str:
        return self.blocks[index] if index < len(self.blocks) else f"block {index}"

    def watched(self) -> bool:
        """Whether the gradient was measured at any step at which it can be judged."""
        norms = self.quantities.get("grad_norm")
        if norms is None:
            return bool((self.gradient or {}).get("steps"))
        ends = norms.ends()
        if ends is None:
            return bool((~np.isnan(norms.values)).any())
        return bool((~np.isnan(norms.values[:, ends])).all(axis=1).any())


def from_record(path: Path) -> Evidence:
    """What a run's folder holds, finished or not.

    Raises:
        ConfigError: if it is no run's folder, or a file of it cannot be read.
    """
    result = _json(path / "result.json")
    status = _json(path / "status.json")
    if result is None and status is None:
        raise ConfigError(f"{path}: holds no run: neither status.json nor result.json")
    return from_tables(result or {}, _table(path / "gradflow.parquet"), _table(path / "metrics.parquet"))


def from_tables(result: Mapping[str, Any], gradflow: pa.Table | None, metrics: pa.Table | None) -> Evidence:
    """What a run's result and its two series say.

    Args:
        result: as result.json holds it; what it lacks is not known.
        gradflow, metrics: with the columns of the record's two files, or None.
    """
    said: dict[str, Any] = {}
    if gradflow is not None and gradflow.num_rows:
        said = _measured(gradflow)
    each_step = _whole_loss(said)
    logged = None if metrics is None else _losses(metrics)
    loss = each_step if logged is None or (each_step and len(each_step[0]) > len(logged[0])) else logged
    metric = str(result.get("metric", "metric"))
    solved = result.get("solved")
    return Evidence(
        **said,
        loss=loss,
        metric=metric,
        figure=(result.get("metrics") or {}).get(metric),
        chance=result.get("chance"),
        chance_error=result.get("chance_error"),
        larger_is_better=bool(result.get("larger_is_better", True)),
        solved=None if not solved else solved.get("step") is not None,
        gradient=result.get("gradient"),
        no_gradient=result.get("no_gradient"),
        diverged_at=result.get("diverged_at"),
    )


def from_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    losses: Sequence[float] | Mapping[int, float] | tuple[Sequence[int], Sequence[float]] | None = None,
    blocks: Sequence[str] = (),
    **known: Any,
) -> Evidence:
    """What rows say: each a step, block (index or None), name, quantity, value and, of a time axis, time.

    Args:
        rows: such as `Flow.rows()` gives; rows of the quantity 'loss' and the name 'all' are the training loss.
        losses: the training loss: one per step from step 0, {step: loss}, or (steps, losses).
        blocks: names, where the rows do not say them.
        known: further fields of `Evidence`, such as figure, chance and chance_error.
    """
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for row in rows:
        for name, values in columns.items():
            values.append(row.get(name))
    said = _measured(pa.table(columns)) if columns["step"] else {}
    curve = _given(losses) or _whole_loss(said)
    broken = [] if curve is None else curve[0][~np.isfinite(curve[1])]
    known = {"diverged_at": int(broken[0]) if len(broken) else None} | known
    said["blocks"] = said.get("blocks") or tuple(blocks)
    return Evidence(**said, loss=curve, **known)


def geometric_ratio(above: np.ndarray, below: np.ndarray) -> float | None:
    """Geometric mean of above ÷ below where both are positive and finite; 0 where above is exactly zero at every step
    at which below is not; None if neither can be said."""
    finite = np.isfinite(above) & np.isfinite(below)
    both = finite & (above > 0) & (below > 0)
    if both.any():
        return float(f"{10.0 ** np.mean(np.log10(above[both]) - np.log10(below[both])):.12g}")
    return 0.0 if (finite & (below > 0)).any() else None


def _measured(table: pa.Table) -> dict[str, Any]:
    """Rows as arrays: of blocks, of the whole, and over time."""
    column = {name: table[name].combine_chunks() for name in COLUMNS if name in table.column_names}
    step, value = _numbers(column["step"]).astype(np.int64), _numbers(column["value"])
    block = _numbers(column["block"])
    moment = _numbers(column["time"]) if "time" in column else np.full(len(step), np.nan)
    names, name = _words(column["name"])
    quantities, quantity = _words(column["quantity"])
    plain = np.isnan(moment)
    of_blocks, of_all = plain & ~np.isnan(block), plain & np.isnan(block) & (name == _place(names, "all"))
    count = int(block[~np.isnan(block)].max()) + 1 if (~np.isnan(block)).any() else 0
    indices, first = np.unique(block[of_blocks], return_index=True)
    titles = {int(b): names[n] for b, n in zip(indices, name[of_blocks][first], strict=True)}
    series = {"quantities": (of_blocks, count), "whole": (of_all, 1)}
    found: dict[str, Any] = {"blocks": tuple(titles.get(i, f"block {i}") for i in range(count))}
    for key, (chosen, width) in series.items():
        found[key] = {}
        for place in np.unique(quantity[chosen]):
            here = chosen & (quantity == place)
            steps, row = np.unique(step[here], return_inverse=True)
            values = np.full((len(steps), width), np.nan)
            values[row, block[here].astype(np.int64) if key == "quantities" else 0] = value[here]
            found[key][quantities[place]] = Series(steps, values)
    found["time"] = time_axes(names, quantities, step, name, moment, quantity, value)
    return found


def _numbers(column: pa.Array) -> np.ndarray:
    """float64 with NaN for null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _words(column: pa.Array) -> tuple[list[str], np.ndarray]:
    """The distinct words, and the place of each row's; −1 for null."""
    coded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    codes = coded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return [str(word) for word in coded.dictionary.to_pylist()], np.asarray(codes)


def _place(words: Sequence[str], word: str) -> int:
    return words.index(word) if word in words else -2


def _whole_loss(said: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Of an instrument that keeps the loss of every step."""
    series = said.get("whole", {}).get("loss")
    return None if series is None else (series.steps, series.values[:, 0])


def _losses(metrics: pa.Table) -> tuple[np.ndarray, np.ndarray] | None:
    table = metrics.to_pydict()
    points = {
        step: value
        for step, split, name, value in zip(table["step"], table["split"], table["name"], table["value"], strict=True)
        if (split, name) == ("train", "loss") and value is not None
    }
    return _given(points) if points else None


def _given(losses: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if losses is None:
        return None
    if isinstance(losses, Mapping):
        steps, values = list(losses), list(losses.values())
    elif isinstance(losses, tuple) and len(losses) == 2 and np.ndim(losses[0]) == 1:
        steps, values = list(losses[0]), list(losses[1])
    else:
        steps, values = list(range(len(losses))), list(losses)
    if len(steps) != len(values):
        raise ValueError(f"losses: {len(values)} for {len(steps)} steps; there must be one per step")
    order = np.argsort(np.asarray(steps, dtype=np.int64), kind="stable")
    return np.asarray(steps, dtype=np.int64)[order], np.asarray([float(each) for each in values])[order]


def _table(file: Path) -> pa.Table | None:
    if not file.exists():
        return None
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None


def _json(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: truncated or not JSON")
    return values
