"""The results table: runs that differ only in their seed share a row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection as Collected
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradflow.diagnosis.verdict import VERDICTS
from gradflow.errors import ConfigError, choose_from
from gradflow.results import choices, memory
from gradflow.results.estimate import Estimate, geometric_mean, mean_interval
from gradflow.results.memory import Told
from gradflow.runs.planfile import Collection
from gradflow.runs.record import DONE, Record

if TYPE_CHECKING:
    from gradflow.results.equal import Equal

DEFAULT_COLUMNS = ("metric", "gradient_ratio", "verdict", "runs")
EQUAL = ("metric@steps", "metric@time")  # at an equal number of steps, and at an equal time
BUDGET_COLUMNS = ("metric", *EQUAL, "steps", "cost/train_seconds", *DEFAULT_COLUMNS[1:])

Value = Estimate | Told | float | str | None


@dataclass(frozen=True)
class Line:
    """One row: the choices it stands for, and a value per column."""

    labels: dict[str, Any]
    values: dict[str, Value]


@dataclass(frozen=True)
class Table:
    """What is shown in every format.

    Attributes:
        title: of the sweep.
        rows: choices that tell the lines apart.
        columns: what is shown of each.
        metric: what 'metric' stands for, e.g. 'test/accuracy'.
        lines: in the order of the plan, numbers ascending.
        notes: what a reader must know of the figures.
        points: headers of the columns of `EQUAL`, which name the step or the seconds.
    """

    title: str
    rows: list[str]
    columns: list[str]
    metric: str
    lines: list[Line]
    notes: list[str]
    points: dict[str, str] = field(default_factory=dict)

    def header(self, column: str) -> str:
        words = {name: name.replace("_", " ") for name in ("gradient_ratio", "memory_horizon")}
        return {"metric": self.metric.replace("/", " "), **words, **self.points}.get(column, column)


def make_table(
    collection: Collection, rows: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> Table:
    """The table of a folder's runs.

    Args:
        collection: from `collect`.
        rows: choices that tell lines apart; those that vary, other than the seed, unless given. Where several of
            activation, init, norm and skip vary they appear together as 'recipe'; recurrent networks of several kinds
            as 'network', with all that goes with each kind.
        columns: 'metric' (the task's headline figure), 'metric@steps' and 'metric@time' (the same on the validation
            split, where all runs have made equally many steps, or had equally many seconds), 'gradient_ratio' (first
            block ÷ last block, geometric mean over training and seeds), 'chance', 'solved' and 'memory_horizon' (see
            `memory`), 'verdict', 'runs' (done of planned), 'steps', or any figure of a result, such as 'val/loss' or
            'cost/train_seconds'. Unless given, those of `default_columns`.

    Raises:
        ConfigError: for a row or column that no run has.
    """
    planned = choices.planned(collection)
    known = sorted({key for labels in planned.values() for key in labels})
    chosen_rows = list(rows) if rows else choices.varying(planned.values())
    records = collection.found.records
    results = [record.result for record in records.values() if record.result]
    chosen_columns = list(columns) if columns else default_columns(planned.values(), results)
    figures = sorted({name for record in records.values() for name in _figures(record)})
    faults = [f"--rows {row}: unknown; {choose_from(row, known)}" for row in chosen_rows if row not in known]
    allowed = sorted({*BUDGET_COLUMNS, *memory.COLUMNS, *figures})
    faults += [f"--cols {c}: unknown; {choose_from(c, allowed)}" for c in chosen_columns if c not in allowed]
    if faults:
        raise ConfigError(*faults)
    groups: dict[tuple[Any, ...], list[str]] = {}
    for run_id, labels in planned.items():
        groups.setdefault(tuple(labels.get(row) for row in chosen_rows), []).append(run_id)
    equal = _equal(collection, groups.values()) if set(EQUAL) & set(chosen_columns) else None
    lines = [
        Line(
            dict(zip(chosen_rows, key, strict=True)),
            {column: _value(column, [records.get(run_id) for run_id in run_ids], equal) for column in chosen_columns},
        )
        for key, run_ids in _ordered(groups)
    ]
    metrics = sorted({result["metric"] for result in results})
    metric = metrics[0] if len(metrics) == 1 else "metric"
    notes = [*_notes(collection, chosen_columns), *memory.notes(chosen_columns, results)]
    if "network" in chosen_rows:
        notes += choices.with_the_network(planned.values())
    if equal is not None:
        notes += [note for column, note in equal.notes().items() if column in chosen_columns]
    pooled = choices.pooled([[planned[run_id] for run_id in g] for g in groups.values()], planned.values())
    if pooled:
        notes.append(f"a row pools runs that differ in {', '.join(pooled)}: its interval is not over seeds alone")
    points = {} if equal is None else equal.headers(metric)
    return Table(collection.name, chosen_rows, chosen_columns, metric, lines, notes, points)


def default_columns(runs: Collected[dict[str, Any]], results: Sequence[dict[str, Any]]) -> list[str]:
    """`DEFAULT_COLUMNS`; `BUDGET_COLUMNS` where runs can end after different numbers of steps for want of time.

    With them stand those of `memory.COLUMNS` that say something. The gradient ratio of the last block to the first is
    left out of a table of recurrent networks that all have one block.
    """
    hardware = {tuple(v for k, v in sorted(labels.items()) if k.partition(".")[0] == "hardware") for labels in runs}
    timed = any(labels.get("trainer.max_time") is not None for labels in runs)
    columns = list(BUDGET_COLUMNS if timed or len(hardware) > 1 else DEFAULT_COLUMNS)
    remembered = memory.shown_columns(runs, results)
    if "memory_horizon" in remembered:
        place = columns.index("gradient_ratio")
        columns[place : place + 1] = ["memory_horizon", *(["gradient_ratio"] if _deep(runs) else [])]
    return ["metric", *(column for column in remembered if column != "memory_horizon"), *columns[1:]]


def _deep(runs: Collected[dict[str, Any]]) -> bool:
    return any(int(labels["depth"]) > 1 for labels in runs)


def _ordered(groups: dict[tuple[Any, ...], list[str]]) -> list[tuple[tuple[Any, ...], list[str]]]:
    """Numbers ascending, words in the order in which the plan first names them."""
    place: list[dict[Any, int]] = []
    for column in zip(*groups, strict=True):
        distinct = list(dict.fromkeys(column))
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct):
            distinct.sort()
        place.append({value: i for i, value in enumerate(distinct)})
    return sorted(groups.items(), key=lambda item: [order[v] for order, v in zip(place, item[0], strict=True)])


def _value(column: str, records: list[Record | None], equal: Equal | None) -> Value:
    results = [record.result for record in records if record is not None and record.result]
    if column == "verdict":
        return _verdicts(records)
    if column == "runs":
        done = sum(record is not None and record.state in DONE for record in records)
        return f"{done}/{len(records)}"
    if column == "gradient_ratio":
        ratios = [result["gradient"]["ratio"] for result in results if result.get("gradient")]
        return geometric_mean([ratio for ratio in ratios if ratio is not None])
    if column in memory.COLUMNS:
        return memory.value(column, results)
    if equal is not None and column in EQUAL:
        at = equal.at_step if column == "metric@steps" else equal.at_time
        return mean_interval([value for r in records if r is not None and (value := at(r.run_id)) is not None])
    if column != "steps" and not column.startswith("cost/"):  # those of a diverged run are from before it diverged
        results = [result for result in results if result["state"] == "completed"]
    values = [_figures_of(result).get(result["metric"] if column == "metric" else column) for result in results]
    return mean_interval([value for value in values if value is not None])


def _equal(collection: Collection, groups: Iterable[list[str]]) -> Equal:
    from gradflow.results.equal import compare  # pyarrow takes a while to import, and the series to read

    records = collection.found.records
    return compare([records[run_id] for run_id in group if run_id in records] for group in groups)


def _verdicts(records: list[Record | None]) -> str:
    """'healthy', or with several kinds 'healthy 2/3, failed 1/3': runs without a result are told, not dropped."""
    words = Counter(_verdict(record) for record in records)
    if len(words) == 1:
        return next(iter(words))
    order = {word: i for i, word in enumerate((*VERDICTS, "running", "preempted", "stale", "failed", "missing"))}
    return ", ".join(f"{w} {words[w]}/{len(records)}" for w in sorted(words, key=lambda w: order.get(w, 99)))


def _verdict(record: Record | None) -> str:
    if record is None:
        return "missing"
    return str(record.result["verdict"]) if record.result else record.state


def _figures(record: Record) -> dict[str, float]:
    return _figures_of(record.result) if record.result else {}


def _figures_of(result: dict[str, Any]) -> dict[str, float]:
    """Every number of a result under one name."""
    flat = {**result["metrics"], "steps": result["steps"]}
    flat |= {f"cost/{name}": value for name, value in result["cost"].items()}
    return {
        name: float(value)
        for name, value in flat.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _notes(collection: Collection, columns: list[str]) -> list[str]:
    states = Counter(record.state for record in collection.found.records.values())
    notes = []
    if any(column not in ("gradient_ratio", "verdict", "runs") for column in columns):
        notes.append("mean ± half-width of the 95 % Student t interval over the seeds of a row")
    if "gradient_ratio" in columns:
        notes.append(
            "gradient ratio: norm of the first block's gradient ÷ the last block's, "
            "geometric mean over training and seeds"
        )
    smaller = sorted(
        {
            record.result["metric"].replace("/", " ")
            for record in collection.found.records.values()
            if record.result and not record.result.get("larger_is_better", True)
        }
    )
    if smaller:
        notes.append(f"{', '.join(smaller)}: smaller is better")
    if states["diverged"]:
        notes.append(f"{states['diverged']} diverged (non-finite loss): no metric of theirs enters a mean")
    lacking = len(collection.planned) - sum(states[state] for state in DONE)
    if lacking:
        notes.append(f"{lacking} of {len(collection.planned)} runs have no result and enter no mean")
    return notes
