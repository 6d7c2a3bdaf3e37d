"""Records with a series of validations, and with stages of training, made by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gradflow.runs.record import write_json
from gradflow.runs.series import GRADFLOW, METRICS, Series

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


@pytest.fixture
def recurrent(records) -> Callable[..., Path]:
    """`records.add` for a run on adding with a recurrent network, or an echo state network where `cell` is None.

    `profiles`: step → ‖∂L/∂h_t‖ over t, or (median, 10 %, 90 %); `curve`: step → validation mse; `result` holds more
    for result.json. Rows of block 1, of other quantities and of other splits are there to be left alone.
    """

    def add(
        profiles: dict[int, Any] | None = None,
        curve: dict[int, float] | None = None,
        result: dict[str, Any] | None = None,
        *,
        cell: str | None = "lstm",
        state: str = "completed",
        **labels: Any,
    ) -> Path:
        words: dict[str, Any] = {"task": "adding", "task.length": 100, "depth": 1, "activation": "tanh"}
        if cell is None:
            words |= {"model": "esn", "width": 500, "model.spectral_radius": 0.9}
        else:
            words |= {"model": "recurrent", "cell": cell, "recurrent_init": "orthogonal", "init": "glorot_uniform"}
            words |= {"cell.forget_bias": 1.0} if cell == "lstm" else {}
            words |= {"activation": "relu", "recurrent_init": "identity"} if cell == "irnn" else {}
        path = records.add(state=state, **{**words, **labels})
        if profiles:
            series = Series(path / "gradflow.parquet", GRADFLOW)
            for step, given in profiles.items():
                rows = dict(zip(("", "_q10", "_q90"), given if isinstance(given, tuple) else (given,), strict=False))
                for (suffix, row), block in itertools.product(rows.items(), (0, 1)):
                    for time, value in enumerate(row):
                        norm = value if block == 0 else 1e9
                        shared = {"step": step, "block": block, "name": f"blocks.{block}", "time": time}
                        series.add(**shared, quantity=f"time_grad_h{suffix}", value=norm)
                        series.add(**shared, quantity="time_grad_c", value=1e9)
                series.add(step=step, block=0, name="blocks.0", quantity="time_decay", value=1e9)
                series.add(step=step, block=0, name="blocks.0", quantity="grad_norm", value=1.0)
            series.write()
        if curve:
            series = Series(path / "metrics.parquet", METRICS)
            for step, value in curve.items():
                series.add(step=step, epoch=0, split="train", name="mse", value=9.0)
                series.add(step=step, epoch=0, split="val", name="mse", value=value)
            series.write()
        if state in ("completed", "diverged"):
            known = json.loads((path / "result.json").read_text())
            score = {"metric": "test/mse", "larger_is_better": False, "chance": 1 / 6, "gradient": None}
            figures = {"test/mse": list(curve.values())[-1]} if curve and state == "completed" else {}
            write_json(path / "result.json", {**known, **score, "metrics": figures, **(result or {})})
        return path

    return add


@pytest.fixture
def remembered() -> Callable[..., dict[str, Any]]:
    """What result.json says of a time axis: horizons before and after training, of T steps; None: never fell."""

    def say(last: float | None, first: float | None = 5, steps: int = 100, **probe: Any) -> dict[str, Any]:
        return {
            "time": {
                "steps": steps,
                "first": {"step": 0, "memory_horizon_1%": first, **probe},
                "last": {"step": 900, "memory_horizon_1%": last, **probe},
            }
        }

    return say
