"""The part `runs`: a column for everything that the page sorts, filters or groups runs by, and the results table.

Columns of few distinct values hold each once, and its place for every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradflow.diagnosis.verdicts import VERDICTS
from gradflow.results import choices, memory
from gradflow.results.cells import LETTERS
from gradflow.results.formats.document import DAGGER, Cell, document
from gradflow.results.formats.markdown import raised
from gradflow.results.marks import BEST, TIED
from gradflow.results.memory import Told
from gradflow.results.page.pack import rounded
from gradflow.results.statistics import effects
from gradflow.results.statistics.interval import Interval
from gradflow.results.table import Table
from gradflow.runs.identity import title
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

FEW = 64  # distinct numbers that are worth a dictionary
DIGITS = 6  # of a figure
MARKS = {BEST: "the best", TIED: "not shown to be worse than the best"}


def factors(runs: Sequence[dict[str, Any]]) -> list[str]:
    """What runs can be grouped by, other than the seed: the choices of the table, then every other one that differs,
    such as the parts of a recipe."""
    return list(dict.fromkeys([*choices.varying(runs), *effects.factors(runs)]))


def runs_part(collection: Collection, table: Table, chunks: Sequence[int]) -> dict[str, Any]:
    """The part `runs`, in the order of the plan.

    Args:
        chunks: in which part `details-…` each run's details are; −1 for none.
    """
    planned = choices.planned(collection)
    records = [collection.found.records.get(run_id) for run_id in planned]
    labels = list(planned.values())
    columns = [_coded(name, name, "factor", [run.get(name) for run in labels]) for name in (*factors(labels), "seed")]
    columns.append(_coded("title", "run", "title", [_title(*each) for each in zip(labels, records, strict=True)]))
    columns.append(_coded("state", "state", "state", ["missing" if r is None else r.state for r in records]))
    columns.append(_coded("verdict", "verdict", "state", [_of(r, lambda result: result["verdict"]) for r in records]))
    metric = _figure("metric", table.header("metric"), [_of(r, metric_of) for r in records], _better(records))
    columns += [metric, *_figures(records)]
    errors = [_error(record) for record in records]
    if any(errors):
        columns.append(_coded("error", "error", "note", errors))
    return {"id": list(planned), "chunk": list(chunks), "columns": columns}


def _figures(records: Sequence[Record | None]) -> list[dict[str, Any]]:
    costs = [_of(record, lambda result: result["cost"]) or {} for record in records]
    seconds, parameters = ([cost.get(name) for cost in costs] for name in ("train_seconds", "parameters"))
    found = [
        _figure("gradient_ratio", "gradient ratio", [_of(r, _ratio) for r in records]),
        _figure("train_seconds", "training", seconds, "smaller", "s"),
        _figure("steps", "steps", [_steps(record) for record in records]),
        _figure("parameters", "parameters", parameters),
    ]
    horizons = [_of(r, memory.horizon) for r in records]
    if any(horizons):
        found.append(_told("memory_horizon", "memory horizon", horizons, "larger", "time steps"))
    solved = [_of(r, lambda result: memory.solved([result])) for r in records]
    if any(solved):
        found.append(_told("solved", "solved", solved, "smaller", "steps"))
    return found


def metric_of(result: dict[str, Any]) -> float | None:
    """The headline figure of a run; None for one that diverged, whose figures are from before."""
    return result["metrics"].get(result["metric"]) if result["state"] == "completed" else None


def _ratio(result: dict[str, Any]) -> float | None:
    return (result.get("gradient") or {}).get("ratio")


def _of(record: Record | None, what: Callable[[dict[str, Any]], Any]) -> Any:
    return None if record is None or record.result is None else what(record.result)


def _steps(record: Record | None) -> int | None:
    """Made so far, by a run that is under way."""
    if record is None:
        return None
    steps = record.status.get("step") if record.result is None else record.result["steps"]
    return int(steps) if isinstance(steps, int | float) else None


def _title(labels: dict[str, Any], record: Record | None) -> str | None:
    if record is not None and record.status.get("title"):
        return str(record.status["title"])
    known = {"task", "model", "recipe", "depth", "seed"} <= set(labels)
    return title(labels) if known else None


def _error(record: Record | None) -> str | None:
    lines = str((record.status if record is not None else {}).get("error") or "").strip().splitlines()
    return lines[-1] if lines else None


def _better(records: Sequence[Record | None]) -> str | None:
    """'larger' or 'smaller' where all runs agree."""
    words = {_of(r, lambda result: bool(result.get("larger_is_better", True))) for r in records} - {None}
    return None if len(words) != 1 else "larger" if words == {True} else "smaller"


# --- columns --------------------------------------------------------------------------------------------------


def _coded(key: str, words: str, kind: str, values: Sequence[Any]) -> dict[str, Any]:
    """Words, or numbers: of many different ones the numbers themselves."""
    plain = [str(value).lower() if isinstance(value, bool) else value for value in values]
    distinct = [value for value in dict.fromkeys(plain) if value is not None]
    numbers = bool(distinct) and all(isinstance(value, int | float) for value in distinct)
    head: dict[str, Any] = {"key": key, "title": words, "kind": kind, "type": "number" if numbers else "word"}
    head |= {"unit": None, "better": None}
    if numbers:
        if len(distinct) > FEW:
            return head | {"data": rounded(plain, 12)}
        distinct.sort()
    elif kind == "factor":
        distinct = list(dict.fromkeys(str(value) for value in distinct))
        plain = [None if value is None else str(value) for value in plain]
    place = {value: i for i, value in enumerate(distinct)}
    return head | {"values": rounded(distinct, 12), "codes": [place.get(value, -1) for value in plain]}


def _figure(
    key: str, words: str, data: Sequence[float | None], better: str | None = None, unit: str | None = None
) -> dict[str, Any]:
    head = {"key": key, "title": words, "kind": "figure", "type": "number", "unit": unit, "better": better}
    return head | {"data": rounded(list(data), DIGITS)}


def _told(key: str, words: str, told: Sequence[Told | None], better: str, unit: str) -> dict[str, Any]:
    """Numbers with the words for them, such as '≥ 200'."""
    numbers = [None if each is None else each.value for each in told]
    return _figure(key, words, numbers, better, unit) | {
        "texts": [None if each is None else each.text for each in told]
    }


# --- the results table ----------------------------------------------------------------------------------------


def table_part(table: Table) -> dict[str, Any]:
    """The part `table`: what `gradflow table` shows, with what each cell is sorted by."""
    made = document(table)
    words = {row for row in table.rows if any(isinstance(line.labels[row], str) for line in table.lines)}
    headers = [
        {"text": shown, "key": row, "type": "word" if row in words else "number"}
        for row, shown in zip(table.rows, made.labels, strict=True)
    ]
    for column, number in zip(table.columns, made.numbers, strict=True):
        headers.append({"text": table.header(column), "key": column, "type": "number" if number else "word"})
    rows = []
    for line, row in zip(table.lines, made.rows, strict=True):
        labels = [(shown, line.labels[key]) for key, shown in zip(table.rows, row.labels, strict=True)]
        rows.append([*(_label(*label) for label in labels), *map(_cell, row.cells)])
    return {"headers": headers, "rows": rows, "notes": made.notes}


def _label(words: str, value: Any) -> dict[str, Any]:
    return _shown(words, words if isinstance(value, bool) else value)


def _cell(cell: Cell) -> dict[str, Any]:
    """With the marks of the best and what is tied with it, and raised, as in print, the runs that are not in it."""
    words = cell.text + raised(cell.lacking) + (f" {DAGGER}" if cell.mark == TIED else "")
    absent = ", ".join(f"{part[:-1]} {LETTERS[part[-1]]}" for part in cell.lacking.split())
    hints = cell.hint, MARKS.get(cell.mark), f"not in it: {absent}" if absent else ""
    value = cell.value.value if isinstance(cell.value, Interval | Told) else cell.value
    css = cell.mark or (str(value) if value in VERDICTS else "")
    return _shown(words, value, css, "; ".join(filter(None, hints)))


def _shown(words: str, value: Any, css: str = "", hint: str = "") -> dict[str, Any]:
    """`v` in full: what is shown is a rounding of it. One that is not finite is sorted as if it were not there."""
    return {"t": words, "v": rounded(value, 17), "c": css, "h": hint}
