"""The results table: runs that differ only in their seed share a row, or a cell where choices are pivoted across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Collected
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gradflow.errors import ConfigError, choose_from
from gradflow.results import cells, choices, memory
from gradflow.results.cells import EQUAL, Source
from gradflow.results.estimate import STATISTICS
from gradflow.results.memory import Told
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.runs import figures, in_order, word
from gradflow.runs.planfile import Collection

DEFAULT_COLUMNS = ("metric", "gradient_ratio", "verdict", "runs")
BUDGET_COLUMNS = ("metric", *EQUAL, "steps", "cost/train_seconds", *DEFAULT_COLUMNS[1:])
WORDS = ("verdict", "runs")  # columns that hold words

Value = Interval | Told | float | str | None


@dataclass(frozen=True)
class Head:
    """What stands above a column.

    Attributes:
        text: the lowest line of the header.
        above: the lines above it, outermost first, that neighbours may share.
        name: in full, for CSV.
        words: whether the column holds words rather than numbers.
    """

    text: str
    above: tuple[str, ...] = ()
    name: str = ""
    words: bool = False


@dataclass(frozen=True)
class Line:
    """One row: the choices it stands for, and a value per column.

    Attributes:
        marks: 'best' or 'tied' of columns where it is.
        lacking: of columns where runs of the cell enter no figure, how many and why: '1d 2f'; see `cells.LETTERS`.
    """

    labels: dict[str, Any]
    values: dict[str, Value]
    marks: dict[str, str] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """What is shown in every format.

    Attributes:
        title: of the sweep.
        rows: choices that tell the lines apart.
        columns: a key for each, of `Line.values`.
        metric: what 'metric' stands for, e.g. 'test/accuracy'.
        lines: in the order of the plan, numbers ascending.
        notes: what a reader must know of the figures.
        heads: of columns whose key does not say it all.
    """

    title: str
    rows: list[str]
    columns: list[str]
    metric: str
    lines: list[Line]
    notes: list[str]
    heads: dict[str, Head] = field(default_factory=dict)

    def head(self, column: str) -> Head:
        return self.heads.get(column) or Head(column, (), column, column in WORDS)

    def header(self, column: str) -> str:
        """All that stands above a column, in one line."""
        head = self.head(column)
        return " · ".join((*head.above, head.text))


@dataclass(frozen=True)
class Wanted:
    """What a person asks of the table.

    Attributes:
        rows: choices that tell lines apart; those that vary, other than the seed, unless given. Where several of
            activation, init, norm and skip vary they appear together as 'recipe'; recurrent networks of several kinds
            as 'network', with all that goes with each kind.
        cols: choices pivoted across, so that a cell stands where a row and a column meet.
        values: 'metric' (the task's headline figure), 'metric@steps' and 'metric@time' (the same on the validation
            split, where all runs have made equally many steps, or had equally many seconds), 'gradient_ratio' (first
            block ÷ last block, geometric mean over training and seeds), 'chance', 'solved' and 'memory_horizon' (see
            `memory`), 'verdict', 'runs' (done of planned), 'steps', or any figure of a result, such as 'val/loss' or
            'cost/train_seconds'. Unless given, 'metric' where choices are pivoted, else those of `default_columns`.
        statistics: of `estimate.STATISTICS`, for those values that are figures.
        by: which of the choices shown name a technique, for the marks of the best; those that are words unless given.
    """

    rows: Sequence[str] = ()
    cols: Sequence[str] = ()
    values: Sequence[str] = ()
    statistics: Sequence[str] = ("mean",)
    by: Sequence[str] = ()


def make_table(collection: Collection, rows: Sequence[str] | None = None, wanted: Wanted | None = None) -> Table:
    """The table of a folder's runs; `rows` is short for `Wanted(rows)`.

    Raises:
        ConfigError: for a choice, value or statistic that there is not.
    """
    from gradflow.results import marks

    wanted = wanted or Wanted(rows=rows or ())
    planned = choices.planned(collection)
    records = collection.found.records
    results = [record.result for record in records.values() if record.result]
    wanted = _completed(wanted, planned.values(), results)
    _check(wanted, planned.values(), results)
    groups, keys = _groups(planned, wanted)
    source = Source(collection, [run_ids for row in groups.values() for run_ids in row.values()], wanted.values)
    metrics = sorted({result["metric"] for result in results})
    metric = metrics[0] if len(metrics) == 1 else "metric"
    columns = _columns(wanted, keys, source.headers(metric))
    lines = []
    for key, row in groups.items():
        values: dict[str, Value] = {}
        lacking: dict[str, str] = {}
        for column, (across, value, statistic) in columns.items():
            run_ids = row.get(across, [])
            values[column] = source.value(value, statistic, run_ids)
            if "runs" not in wanted.values and (told := source.lacking(value, run_ids)):
                lacking[column] = told
        lines.append(Line(dict(zip(wanted.rows, key, strict=True)), values, {}, lacking))
    marked = marks.mark(source, wanted, list(groups.values()), columns)
    lines = [replace(line, marks=of) for line, of in zip(lines, marked.lines, strict=True)]
    heads = _heads(wanted, columns, source.headers(metric))
    title = collection.name
    if wanted.cols and len(wanted.values) == 1:
        title += f": {source.headers(metric)[wanted.values[0]]}"
    notes = [*source.notes(wanted.statistics, lines), *marked.notes, *_pooling(wanted, groups, planned)]
    if any(value is None for line in lines for value in line.values.values()) and wanted.cols:
        notes.append("–: no such run is planned, or it has no such figure")
    return Table(title, list(wanted.rows), list(columns), metric, lines, notes, heads)


def default_columns(runs: Collected[dict[str, Any]], results: Sequence[dict[str, Any]]) -> list[str]:
    """`DEFAULT_COLUMNS`; `BUDGET_COLUMNS` where runs can end after different numbers of steps for want of time.

    With them stand those of `memory.COLUMNS` that say something. The gradient ratio of the last block to the first is
    left out of a table of recurrent networks that all have one block.
    """
    hardware = any(key.partition(".")[0] == "hardware" for key in choices.differing(runs))
    timed = any(labels.get("trainer.max_time") is not None for labels in runs)
    columns = list(BUDGET_COLUMNS if timed or hardware else DEFAULT_COLUMNS)
    remembered = memory.shown_columns(runs, results)
    if "memory_horizon" in remembered:
        place = columns.index("gradient_ratio")
        columns[place : place + 1] = ["memory_horizon", *(["gradient_ratio"] if _deep(runs) else [])]
    return ["metric", *(column for column in remembered if column != "memory_horizon"), *columns[1:]]


def _deep(runs: Collected[dict[str, Any]]) -> bool:
    return any(int(labels["depth"]) > 1 for labels in runs)


def _completed(wanted: Wanted, runs: Collected[dict[str, Any]], results: Sequence[dict[str, Any]]) -> Wanted:
    """With what a person leaves to us."""
    rows = wanted.rows or _rest(choices.varying(runs), wanted.cols)
    values = wanted.values or (["metric"] if wanted.cols else default_columns(runs, results))
    return replace(wanted, rows=rows, values=values)


def _rest(varying: list[str], cols: Sequence[str]) -> list[str]:
    """What varies and is not pivoted; a recipe is more than the one part of it that is."""
    return [key for key in varying if key not in cols and not (key == "recipe" and set(cols) & choices.PARTS)] or [
        key for key in ("task",) if key not in cols
    ]


def _check(wanted: Wanted, runs: Collected[dict[str, Any]], results: Sequence[dict[str, Any]]) -> None:
    known = sorted(choices.keys(runs))
    allowed = {*BUDGET_COLUMNS, *memory.COLUMNS}
    if not allowed.issuperset(wanted.values):
        allowed.update(name for result in results for name in figures(result))
    options = (
        *(("--rows", wanted.rows, known), ("--cols", wanted.cols, known), ("--value", wanted.values, sorted(allowed))),
        *(("--stat", wanted.statistics, STATISTICS), ("--by", wanted.by, [*wanted.rows, *wanted.cols])),
    )
    faults = [
        f"{option} {name}: unknown; {choose_from(name, among)}"
        for option, names, among in options
        for name in names
        if name not in among
    ]
    faults += [f"--cols {name}: is among --rows already" for name in wanted.cols if name in wanted.rows]
    for option, names, _ in options:
        faults += [f"{option} {name}: given twice" for name, times in Counter(names).items() if times > 1]
    if faults:
        raise ConfigError(*faults)


Groups = dict[tuple[Any, ...], dict[tuple[Any, ...], list[str]]]  # row → column → run ids


def _groups(planned: Mapping[str, dict[str, Any]], wanted: Wanted) -> tuple[Groups, list[tuple[Any, ...]]]:
    """The runs of every cell, and the keys of the columns, both in order."""
    found: Groups = {}
    across: dict[tuple[Any, ...], None] = {}
    for run_id, labels in planned.items():
        row = tuple(labels.get(key) for key in wanted.rows)
        col = tuple(labels.get(key) for key in wanted.cols)
        across[col] = None
        found.setdefault(row, {}).setdefault(col, []).append(run_id)
    return {row: found[row] for row in in_order(list(found))}, in_order(list(across))


Columns = dict[str, tuple[tuple[Any, ...], str, str]]  # key → what is pivoted, the value, its statistic


def _columns(wanted: Wanted, keys: list[tuple[Any, ...]], headers: dict[str, str]) -> Columns:
    made: Columns = {}
    for across in keys:
        words = [word(key, value) for key, value in zip(wanted.cols, across, strict=True)]
        for value in wanted.values:
            statistics = wanted.statistics if cells.is_figure(value) else ["mean"]
            for statistic in statistics:
                name = value if len(wanted.statistics) == 1 or not cells.is_figure(value) else f"{value} {statistic}"
                made[" · ".join([*words, name])] = (across, value, statistic)
    return made


def _heads(wanted: Wanted, columns: Columns, headers: dict[str, str]) -> dict[str, Head]:
    """A line of the header for each choice pivoted, for the values if there are several, and for the statistics."""
    heads = {}
    for column, (across, value, statistic) in columns.items():
        words = [word(key, label) for key, label in zip(wanted.cols, across, strict=True)]
        shown = headers.get(value, value)
        exact = headers["metric/"] if value == "metric" else shown if value in EQUAL else value
        several = len(wanted.statistics) > 1 and cells.is_figure(value)
        lines = [*words, *([shown] if len(wanted.values) > 1 or not words else []), *([statistic] if several else [])]
        name = " · ".join([*words, f"{exact} {statistic}" if several else exact])
        heads[column] = Head(lines[-1], tuple(lines[:-1]), name, value in WORDS)
    return heads


def _pooling(wanted: Wanted, groups: Groups, planned: Mapping[str, dict[str, Any]]) -> list[str]:
    runs = planned.values()
    shown = [*wanted.rows, *wanted.cols]
    notes = choices.with_the_network(runs) if "network" in shown else []
    found = choices.pooled([[planned[i] for i in g] for row in groups.values() for g in row.values()], runs)
    if found:
        what = "cell" if wanted.cols else "row"
        notes.append(f"a {what} pools runs that differ in {', '.join(found)}: its interval is not over seeds alone")
    return notes
