"""What stands in a cell of the results table: a value of the runs that share it, and which of them enter it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gradflow.diagnosis.verdicts import VERDICTS
from gradflow.results import choices, memory
from gradflow.results.estimate import estimate, geometric_mean
from gradflow.results.memory import Told
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.runs import figure
from gradflow.runs.planfile import Collection
from gradflow.runs.record import DONE, Record

if TYPE_CHECKING:
    from gradflow.results.equal import Equal
    from gradflow.results.table import Line, Value

EQUAL = ("metric@steps", "metric@time")  # at an equal number of steps, and at an equal time
SUMMED_UP = ("gradient_ratio", "verdict", "runs", *memory.COLUMNS)  # values that are no mean of a figure of each run
LETTERS = {"d": "diverged", "f": "failed", "m": "no result yet", "n": "no such figure"}


def is_figure(value: str) -> bool:
    """Whether each run has one of it, so that it has a statistic and an interval."""
    return value not in SUMMED_UP


class Source:
    """The values of any group of runs.

    Args:
        collection: the runs.
        groups: run ids of each cell of the table; decides where runs are compared 'at an equal time'.
        values: those that will be asked for.
    """

    def __init__(self, collection: Collection, groups: Sequence[Sequence[str]], values: Iterable[str]) -> None:
        self.collection = collection
        self.planned = choices.planned(collection)
        self.records = collection.found.records
        self.values = list(values)
        self.equal = self._equal(groups) if set(EQUAL) & set(self.values) else None
        varying = choices.differing(self.planned.values())
        self._pooled = [key for key in varying if key not in ("recipe", "network")]

    def of_run(self, value: str, run_id: str) -> float | None:
        """What one run says of a figure; None if nothing. A diverged run's metrics are from before it diverged: only
        what it did and cost counts."""
        record = self.records.get(run_id)
        if record is None or record.result is None:
            return None
        if self.equal is not None and value in EQUAL:
            return self.equal.at_step(run_id) if value == "metric@steps" else self.equal.at_time(run_id)
        if record.state != "completed" and value != "steps" and not value.startswith("cost/"):
            return None
        return figure(record.result, value)

    def value(self, value: str, statistic: str, run_ids: Sequence[str]) -> Value:
        """Of a cell: None where no run is planned or none has such a figure; in words, 'diverged 2/3, failed 1/3',
        where none came to one."""
        if not run_ids:
            return None
        if not is_figure(value):
            return self._summed_up(value, run_ids)
        strata: dict[tuple[Any, ...], list[float]] = {}
        for run_id in run_ids:
            number = self.of_run(value, run_id)
            if number is not None:
                labels = self.planned[run_id]
                key = () if statistic == "mean" else tuple(labels.get(key) for key in self._pooled)
                strata.setdefault(key, []).append(number)
        if strata:
            return estimate(statistic, list(strata.values()))
        states = self._states(run_ids)
        return None if states["completed"] else Told(_shares(states, len(run_ids)))

    def lacking(self, value: str, run_ids: Sequence[str]) -> str:
        """'1d 2f': runs of a cell that enter its figure not, where others do."""
        if not is_figure(value):
            return ""
        absent = [run_id for run_id in run_ids if self.of_run(value, run_id) is None]
        if not absent or len(absent) == len(run_ids):
            return ""
        counted = Counter(_letter(self.records.get(run_id)) for run_id in absent)
        return " ".join(f"{counted[letter]}{letter}" for letter in LETTERS if counted[letter])

    def headers(self, metric: str) -> dict[str, str]:
        """What to call values; 'metric/' is the metric in full."""
        words = {name: name.replace("_", " ") for name in ("gradient_ratio", "memory_horizon")}
        equal = {} if self.equal is None else self.equal.headers(metric)
        return {v: v for v in self.values} | {"metric": metric.replace("/", " "), "metric/": metric, **words, **equal}

    def notes(self, statistics: Sequence[str], lines: Sequence[Line]) -> list[str]:
        """What a reader must know of the figures."""
        notes = []
        if any(is_figure(value) for value in self.values):
            notes += [STATISTICS_TOLD[statistic] for statistic in statistics]
            notes += _counts(lines)
        if "gradient_ratio" in self.values:
            notes.append(
                "gradient ratio: norm of the first block's gradient ÷ the last block's, "
                "geometric mean over training and seeds"
            )
        results = [record.result for record in self.records.values() if record.result]
        smaller = sorted({r["metric"].replace("/", " ") for r in results if not r.get("larger_is_better", True)})
        if smaller:
            notes.append(f"{', '.join(smaller)}: smaller is better")
        if any(value.partition("@")[0] == "metric" for value in self.values):
            notes += self._unlike()
        notes += self._absent(lines) + memory.notes(self.values, results)
        if self.equal is not None:
            notes += [note for column, note in self.equal.notes().items() if column in self.values]
        return notes

    def _unlike(self) -> list[str]:
        """Where runs of one task call their headline figure by several names, as those of other software do."""
        named: dict[str, Counter[str]] = {}
        for record in self.records.values():
            if record.result:
                named.setdefault(str(record.labels["task"]), Counter())[record.result["metric"]] += 1
        return [
            f"{task}: the metric of {', of '.join(f'{_runs(count)} is {name}' for name, count in names.items())}"
            for task, names in named.items()
            if len(names) > 1
        ]

    def _absent(self, lines: Sequence[Line]) -> list[str]:
        states = self._states(self.planned)
        notes = []
        if states["diverged"]:
            notes.append(f"{states['diverged']} diverged (non-finite loss): no metric of theirs enters a mean")
        others = {state: count for state, count in states.items() if state not in DONE}
        if others:
            told = ", ".join(f"{count} {state}" for state, count in others.items())
            notes.append(f"{sum(others.values())} of {len(self.planned)} runs have no result and enter no mean: {told}")
        seen = {part[-1] for line in lines for told in line.lacking.values() for part in told.split()}
        if seen:
            letters = ", ".join(f"{letter}: {LETTERS[letter]}" for letter in LETTERS if letter in seen)
            notes.append(f"raised: runs of a cell that enter its figure not ({letters})")
        return notes

    def _summed_up(self, value: str, run_ids: Sequence[str]) -> Value:
        records = [self.records.get(run_id) for run_id in run_ids]
        results = [record.result for record in records if record is not None and record.result]
        if value == "verdict":
            return _verdicts(records)
        if value == "runs":
            return f"{sum(record is not None and record.state in DONE for record in records)}/{len(records)}"
        if value == "gradient_ratio":
            ratios = [result["gradient"]["ratio"] for result in results if result.get("gradient")]
            return geometric_mean([ratio for ratio in ratios if ratio is not None])
        return memory.value(value, results)

    def _states(self, run_ids: Iterable[str]) -> Counter[str]:
        found = (self.records.get(run_id) for run_id in run_ids)
        return Counter("missing" if record is None else record.state for record in found)

    def _equal(self, groups: Sequence[Sequence[str]]) -> Equal:
        from gradflow.results.equal import compare  # pyarrow takes a while to import, and the series to read

        return compare([self.records[run_id] for run_id in group if run_id in self.records] for group in groups)


STATISTICS_TOLD = {
    "mean": "mean ± half-width of the 95 % Student t interval over the seeds of a cell",
    "median": "median [95 % percentile interval of a bootstrap over seeds, within each setting]",
    "iqm": "iqm: mean of the middle half of the runs [95 % percentile interval of a bootstrap over seeds, within each "
    "setting]",
    "range": "range: mean [smallest, largest]",
}
FEW = 6  # runs; with fewer, the percentile interval of a median is no 95 % interval: 1 − 2·(½)ⁿ


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _counts(lines: Sequence[Line]) -> list[str]:
    """How many runs are behind the figures, and what so few can say."""
    shown = [value for line in lines for value in line.values.values() if isinstance(value, Interval)]
    counts = {value.count for value in shown}
    if not counts:
        return []
    few, many = min(counts), max(counts)
    notes = [f"n = {_runs(few) if few == many else f'{few} to {many} runs'} behind a figure"]
    drawn = [value.count for value in shown if not value.symmetric and value.low is not None]
    if drawn and min(drawn) < FEW:
        held = 100 * (1 - 2 * 0.5 ** min(drawn))
        notes.append(
            f"an interval of {min(drawn)} runs is hardly wider than their range, which holds the median in {held:.0f} "
            "of 100 experiments"
        )
    return notes


def _verdicts(records: Sequence[Record | None]) -> str:
    """'healthy', or with several kinds 'healthy 2/3, failed 1/3': runs without a result are told, not dropped."""
    words = Counter(_verdict(record) for record in records)
    return next(iter(words)) if len(words) == 1 else _shares(words, len(records))


def _shares(words: Counter[str], count: int) -> str:
    """'vanishing 2/3, failed 1/3'; of a single run its word."""
    if count == 1:
        return next(iter(words))
    order = {word: i for i, word in enumerate((*VERDICTS, "running", "preempted", "stale", "failed", "missing"))}
    return ", ".join(f"{w} {words[w]}/{count}" for w in sorted(words, key=lambda w: order.get(w, 99)))


def _verdict(record: Record | None) -> str:
    if record is None:
        return "missing"
    return str(record.result["verdict"]) if record.result else record.state


def _letter(record: Record | None) -> str:
    state = "missing" if record is None else record.state
    return {"diverged": "d", "failed": "f", "completed": "n"}.get(state, "m")
