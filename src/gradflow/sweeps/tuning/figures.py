"""What a finished run is worth to a search: figures of the validation split, and costs; never the test split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradflow.runs.record import read
from gradflow.sweeps.tuning.search import Metric


class NoFigure(Exception):
    """A finished run that has no finite value of what is asked for."""


def validations(path: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of a figure such as 'val/loss' at each validation that a record has kept."""
    file = path / "metrics.parquet"
    if not file.exists():
        return []
    split, _, figure = name.partition("/")
    table = pq.read_table(file)
    rows = table.filter(pc.and_(pc.equal(table["split"], split), pc.equal(table["name"], figure)))
    return sorted(zip(rows["step"].to_pylist(), rows["value"].to_pylist(), strict=True))


def values_of(path: Path, metrics: Sequence[Metric], at: str) -> list[float]:
    """Each metric of a completed run.

    Args:
        path: its record.
        metrics: what is asked for.
        at: 'best' of all validations, or the 'last'; for a cost it makes no difference.

    Raises:
        NoFigure: naming what there is not.
    """
    record = read(path)
    assert record is not None
    assert record.result is not None
    return [
        _cost(record.result["cost"], metric) if metric.name.startswith("cost/") else _validated(path, metric, at)
        for metric in metrics
    ]


def _cost(costs: dict[str, object], metric: Metric) -> float:
    value = costs.get(metric.name.partition("/")[2])
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise NoFigure(f"its record has no {metric.name}")
    return float(value)


def _validated(path: Path, metric: Metric, at: str) -> float:
    values = [value for _, value in validations(path, metric.name)]
    chosen = [value for value in (values if at == "best" else values[-1:]) if math.isfinite(value)]
    if not chosen:
        raise NoFigure(f"{metric.name} is not a finite number")
    return max(chosen) if metric.larger_is_better else min(chosen)
