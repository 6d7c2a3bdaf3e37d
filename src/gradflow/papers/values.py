"""What runs show of a paper's cells: each run's number, and their mean or share with an interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gradflow.papers.arithmetic import Arithmetic
from gradflow.papers.claims import Term
from gradflow.papers.paper import Key, Measure, Paper
from gradflow.results.estimate import mean_interval
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.runs import figure
from gradflow.runs.record import DONE, Record


class Values:
    """The measures of a paper's cells.

    Args:
        runs: ids of each cell's runs, a seed each.
        records: those there are.
    """

    def __init__(self, paper: Paper, runs: Mapping[Key, Sequence[str]], records: Mapping[str, Record]) -> None:
        self.paper, self.runs, self.records = paper, runs, records
        self.absent: dict[str, Counter[str]] = {}  # of each measure: why a run did not enter it
        self._number = cache(self._read)

    def __call__(self, term: Term) -> Interval | None:
        """A measure of a cell with its 95 % interval: Student's t over seeds, Clopper and Pearson's of a share. None
        without runs that count."""
        name, key = term
        measure = self.paper.measures[name]
        done = [i for i in self.runs.get(key, ()) if i in self.records and self.records[i].state in DONE]
        if measure.share is not None:
            holds = Arithmetic(measure.share, "share")
            numbers = [self._number(name, run_id) for run_id in done]
            return exact_share(sum(number is not None and bool(holds(number)) for number in numbers), len(numbers))
        found = [number for run_id in done if (number := self._number(name, run_id)) is not None]
        if len(found) < len(done):
            counted = self.absent.setdefault(name, Counter())
            counted.update(self.records[i].state for i in done if self._number(name, i) is None)
        return mean_interval(found) if found else None

    def done(self, key: Key) -> int:
        """Runs of a cell that came to their end, or diverged."""
        return sum(i in self.records and self.records[i].state in DONE for i in self.runs.get(key, ()))

    def _read(self, name: str, run_id: str) -> float | None:
        """A run's converted number."""
        measure, record = self.paper.measures[name], self.records[run_id]
        assert record.result is not None  # it is done
        x = raw(measure, record.result, record.path)
        if x is None:
            return None
        if measure.convert is not None:
            x = float(Arithmetic(measure.convert)(x))
        return x if math.isfinite(x) else None


def raw(measure: Measure, result: dict[str, Any], path: Path) -> float | None:
    """A run's number before it is converted. A run that diverged has learned nothing: where the measure is the task's
    own metric at the end of training it scores chance, else it has none."""
    if measure.quantity is not None:
        return _of_blocks(measure, path)
    name = result["metric"] if measure.figure == "metric" else str(measure.figure)
    if measure.of_series:
        return _of_metrics(measure, name, path)
    if name == "solved":
        step = (result.get("solved") or {}).get("step")
        return None if step is None else float(step)
    if name == "gradient_ratio":
        ratio = (result.get("gradient") or {}).get("ratio")
        return None if ratio is None else float(ratio)
    if result["state"] != "completed" and name != "steps" and not name.startswith("cost/"):
        headline = name.rpartition("/")[2] == result["metric"].rpartition("/")[2]
        chance = result.get("chance") if headline else None
        return None if chance is None else float(chance)
    return figure(result, name)


def exact_share(successes: int, count: int) -> Interval | None:
    """A share and its exact 95 % interval (Clopper & Pearson 1934), which never covers less than it says, as an
    approximation does with three or four runs; None of nothing.

    >>> round(exact_share(0, 5).high, 6)
    0.521824
    """
    from scipy.special import betaincinv

    if not count:
        return None
    low = 0.0 if successes == 0 else float(betaincinv(successes, count - successes + 1, 0.025))
    high = 1.0 if successes == count else float(betaincinv(successes + 1, count - successes, 0.975))
    return Interval(successes / count, low, high, count)


def _of_metrics(measure: Measure, name: str, path: Path) -> float | None:
    """From metrics.parquet, 'train/loss' being the rows of split 'train' with name 'loss'."""
    import pyarrow.compute as pc

    split, _, metric = name.rpartition("/")
    rows = _table(path / "metrics.parquet")
    if rows is None:
        return None
    rows = rows.filter(pc.and_(pc.equal(rows["split"], split), pc.equal(rows["name"], metric)))
    steps, values = rows["step"].to_pylist(), rows["value"].to_pylist()
    if measure.at is not None:
        values = [value for step, value in zip(steps, values, strict=True) if step <= measure.at][-1:]
    elif measure.last is not None and steps:
        after = max(steps) - measure.last
        values = [value for step, value in zip(steps, values, strict=True) if step > after]
    if not values:
        return None
    if measure.least or measure.most:
        return float(min(values) if measure.least else max(values))
    return float(sum(values) / len(values))


def _of_blocks(measure: Measure, path: Path) -> float | None:
    """From gradflow.parquet."""
    import pyarrow.compute as pc

    rows = _table(path / "gradflow.parquet")
    if rows is None:
        return None
    rows = rows.filter(pc.and_(pc.equal(rows["quantity"], measure.quantity), pc.is_valid(rows["block"])))
    if not rows.num_rows:
        return None
    steps = rows["step"].to_pylist()
    step = min(steps) if measure.step == "first" else max(steps)
    blocks = sorted(
        (block, value)
        for at, block, value in zip(steps, rows["block"].to_pylist(), rows["value"].to_pylist(), strict=True)
        if at == step
    )
    first, last = blocks[0][1], blocks[-1][1]
    if measure.block in ("first", "last"):
        return float(first if measure.block == "first" else last)
    if measure.block == "mean":
        return float(sum(value for _, value in blocks) / len(blocks))
    if not last or first / last < 0:
        return None
    ratio = first / last
    return float(ratio if measure.block == "ratio" else ratio ** (1 / max(1, len(blocks) - 1)))


def _table(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(file) if file.exists() else None
