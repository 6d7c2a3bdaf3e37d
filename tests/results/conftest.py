"""Records with a series of validations, and with stages of training, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gradflow.runs.record import write_json
from gradflow.runs.series import METRICS, Series

ABSENT = -123.0  # stands for a norm that is not there


@pytest.fixture
def validated(records) -> Callable[..., Path]:
    """`records.add` with validations: step → (seconds since training began, accuracy). It took `seconds` in all;
    `result` holds more for result.json."""

    def add(
        curve: dict[int, tuple[float, float]], seconds: float, result: dict[str, Any] | None = None, **labels: Any
    ) -> Path:
        path = records.add(**labels)
        series = Series(path / "metrics.parquet", METRICS)
        for step, (_, accuracy) in curve.items():
            series.add(step=step, epoch=0, split="train", name="accuracy", value=-1.0)
            series.add(step=step, epoch=0, split="val", name="loss", value=-2.0)
            series.add(step=step, epoch=0, split="val", name="accuracy", value=accuracy)
        series.write()
        known = json.loads((path / "result.json").read_text())
        cost = {**known["cost"], "train_seconds": seconds, "clock": [[step, at] for step, (at, _) in curve.items()]}
        write_json(path / "result.json", {**known, "steps": max(curve), "cost": cost, **(result or {})})
        return path

    return add


@pytest.fixture
def staged(records) -> Callable[..., Path]:
    """`records.add` for a run with stages (name, start, stop); step → norms, None where a block is not trained."""

    def add(stages: Sequence[tuple[str, int, int]], norms: dict[int, Sequence[float | None]], **labels: Any) -> Path:
        path = records.add(norms={s: [ABSENT if n is None else n for n in row] for s, row in norms.items()}, **labels)
        table = pq.read_table(path / "gradflow.parquet")
        pq.write_table(table.filter(pc.not_equal(table["value"], ABSENT)), path / "gradflow.parquet")
        told = [{"name": name, "start": start, "stop": stop} for name, start, stop in stages]
        known = json.loads((path / "result.json").read_text())
        write_json(path / "result.json", {**known, "stages": told})
        return path

    return add
