"""Runs compared at an equal number of steps, and at an equal time.

A run on faster hardware, or under a budget in seconds, ends after another number of steps than its neighbours: its
final figure then says two things at once. Here it is compared twice: with what its neighbours showed after as many
steps, and after as many seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradflow.runs.record import Record


@dataclass(frozen=True)
class Validation:
    """The metric on the validation split after `step` steps, which took `seconds` of training.

    `seconds` is None in a record that does not say so.
    """

    step: int
    seconds: float | None
    value: float


@dataclass(frozen=True)
class Equal:
    """The two points at which the runs of a table are compared.

    Attributes:
        step: the largest step at which every completed run was validated; None if there is none.
        seconds: the time within which one row of the table, the quickest, had completed all its runs: seeds of one
            choice take a little more or less, and all of the quickest choice's are to be in; None without any.
        curves: the validations of each completed run, by run id, in the order of their steps.
    """

    step: int | None
    seconds: float | None
    curves: dict[str, list[Validation]]

    def at_step(self, run_id: str) -> float | None:
        """A run's metric at `step`."""
        return next((v.value for v in self.curves.get(run_id, []) if v.step == self.step), None)

    def at_time(self, run_id: str) -> float | None:
        """A run's metric at its last validation within `seconds`; None if its first came later."""
        within = [
            v.value
            for v in self.curves.get(run_id, [])
            if v.seconds is not None and self.seconds is not None and v.seconds <= self.seconds
        ]
        return within[-1] if within else None

    def headers(self, metric: str) -> dict[str, str]:
        """By column, e.g. 'val accuracy at step 400' and 'val accuracy at 12 s'; `metric` is 'test/accuracy'."""
        name = f"val {metric.rpartition('/')[2]}"
        step = "no common step" if self.step is None else f"step {self.step}"
        seconds = "an equal time" if self.seconds is None else f"{_shown(self.seconds)} s"
        return {"metric@steps": f"{name} at {step}", "metric@time": f"{name} at {seconds}"}

    def notes(self) -> dict[str, str]:
        """By column, how its point was found."""
        notes = {}
        if self.step is not None:
            notes["metric@steps"] = f"at step {self.step}: the largest at which every completed run was validated"
        if self.seconds is not None:
            late = sum(self.at_time(run_id) is None for run_id in self.curves)
            notes["metric@time"] = (
                f"at {_shown(self.seconds)} s: each run's last validation within the time in which the quickest row "
                "completed all its runs; validating and compiling count"
                + (f"; {late} of {len(self.curves)} had none by then and enter no mean" if late else "")
            )
        return notes


def compare(rows: Iterable[Sequence[Record]]) -> Equal:
    """Where the completed runs of a table's rows can be compared. A diverged run has no figure to compare, and ends so
    early that nobody else would have one by then."""
    done = [[record for record in row if record.result and record.state == "completed"] for row in rows]
    curves = {record.run_id: validations(record) for row in done for record in row}
    common = set.intersection(*({v.step for v in curve} for curve in curves.values())) if curves else set()
    seconds = [max(float(r.result["cost"]["train_seconds"]) for r in row if r.result) for row in done if row]
    return Equal(max(common, default=None), min(seconds, default=None), curves)


def validations(record: Record) -> list[Validation]:
    """A run's metric at each of its validations, in the order of steps; empty for a run that has no series of it."""
    file = record.path / "metrics.parquet"
    if record.result is None or not file.exists():
        return []
    metric = record.result["metric"].partition("/")[2]
    clock = {int(step): float(seconds) for step, seconds in record.result["cost"].get("clock", [])}
    table = pq.read_table(file)
    rows = table.filter(pc.and_(pc.equal(table["split"], "val"), pc.equal(table["name"], metric)))
    steps, values = rows["step"].to_pylist(), rows["value"].to_pylist()
    return [Validation(step, clock.get(step), value) for step, value in sorted(zip(steps, values, strict=True))]


def _shown(seconds: float) -> str:
    """Three digits, whole seconds from 100 on."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"
