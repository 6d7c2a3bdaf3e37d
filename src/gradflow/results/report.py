"""The page: one HTML file with the table, the picture and every run. It opens from disk and needs no network."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import gradflow
from gradflow.results.estimate import Estimate
from gradflow.results.formats import text
from gradflow.results.status import summary
from gradflow.results.table import Table, Value, varying
from gradflow.runs.diagnosis import VERDICTS
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record, write_bytes


@dataclass(frozen=True)
class Header:
    text: str
    word: bool


@dataclass(frozen=True)
class Cell:
    """What is shown, what it is sorted by, its colour's name and a hint."""

    text: str
    value: Any
    css: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Sortable:
    headers: list[Header]
    rows: list[list[Cell]]


def render(collection: Collection, table: Table, picture: Path | None) -> str:
    """The page's HTML; every word from a config or a record is escaped."""
    environment = Environment(
        loader=PackageLoader("gradflow.results"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    image = base64.b64encode(picture.read_bytes()).decode() if picture is not None and picture.exists() else None
    return environment.get_template("report.html.j2").render(
        title=table.title,
        summary=summary(collection),
        command=collection.command,
        results=_results(table),
        runs=_runs(collection),
        notes=table.notes,
        picture=image,
        problems=collection.found.problems,
        version=gradflow.__version__,
    )


def write(file: Path, collection: Collection, table: Table, picture: Path | None) -> None:
    write_bytes(file, render(collection, table, picture).encode())


def _results(table: Table) -> Sortable:
    headers = [Header(row, any(isinstance(line.labels[row], str) for line in table.lines)) for row in table.rows]
    headers += [Header(table.header(column), column in ("verdict", "runs")) for column in table.columns]
    rows = []
    for line in table.lines:
        cells = [Cell(str(line.labels[row]), _sort_value(line.labels[row])) for row in table.rows]
        cells += [_cell(line.values[column]) for column in table.columns]
        rows.append(cells)
    return Sortable(headers, rows)


def _runs(collection: Collection) -> Sortable:
    names = [*varying(collection.planned.values()), "seed"]
    words = {name for name in names for labels in collection.planned.values() if isinstance(labels.get(name), str)}
    headers = [Header("run", True), *(Header(name, name in words) for name in names)]
    headers += [Header("state", True), Header("metric", False), Header("gradient ratio", False)]
    headers += [Header("verdict", True), Header("seconds", False)]
    rows = []
    for run_id, labels in collection.planned.items():
        record = collection.found.records.get(run_id)
        cells = [Cell(run_id, run_id)]
        cells += [Cell(str(labels.get(name, "")), _sort_value(labels.get(name))) for name in names]
        rows.append([*cells, *_outcome(record)])
    return Sortable(headers, rows)


def _outcome(record: Record | None) -> list[Cell]:
    if record is None:
        return [Cell("missing", "missing"), *(Cell("–", "") for _ in range(4))]
    error = str(record.status.get("error") or "").strip()
    state = Cell(record.state, record.state, record.state, error.splitlines()[-1] if error else "")
    if record.result is None:
        return [state, *(Cell("–", "") for _ in range(4))]
    result = record.result
    metric = result["metrics"].get(result["metric"])
    ratio = (result.get("gradient") or {}).get("ratio")
    seconds = float(result["cost"]["train_seconds"])
    return [
        state,
        _cell(None if metric is None else Estimate(metric, None, 1)),
        _cell(ratio),
        replace(_cell(result["verdict"]), hint=_signs(result)),
        Cell(f"{seconds:.1f}", seconds),
    ]


def _signs(result: dict[str, Any]) -> str:
    """The numbers and thresholds behind a verdict."""
    return "; ".join(
        f"{sign['what']} {sign['value']:.3g}, threshold {sign['threshold']:.3g}" for sign in result["signs"]
    )


def _cell(value: Value) -> Cell:
    if isinstance(value, Estimate):
        return Cell(text(value), value.mean)
    if isinstance(value, float):
        return Cell(text(value), value)
    return Cell(text(value), value or "", value if value in VERDICTS else "")


def _sort_value(label: Any) -> Any:
    return "" if label is None else label
