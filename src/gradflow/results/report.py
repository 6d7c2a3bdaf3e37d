"""The page: one HTML file with the table, the pictures and every run. It opens from disk and needs no network."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import gradflow
from gradflow.diagnosis.verdict import VERDICTS
from gradflow.results import memory
from gradflow.results.choices import planned, varying
from gradflow.results.estimate import Estimate
from gradflow.results.formats import text
from gradflow.results.memory import Told
from gradflow.results.status import summary
from gradflow.results.table import Table, Value
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record, write_bytes

HEADINGS = {  # of a picture, and what to tell somebody who cannot see it
    "heatmap": (
        "Gradient norm by block and training step",
        "Heat map of the gradient norm of every block over training, one panel per recipe",
    ),
    "gradient_by_block": (
        "Gradient by block, measured and predicted",
        "Norm of the gradient in every block as initialised and at the end of training, with what theory predicts of "
        "the start, one panel per recipe",
    ),
    "time_gradient": (
        "Gradient at every time step",
        "Norm of the gradient with respect to the state of the first block at every step of a sequence, one line per "
        "network, as initialised and after training",
    ),
    "decay": (
        "Decay of the gradient by spectral radius",
        "Decay per time step of the gradient against the logarithm of the spectral radius of the recurrent weights",
    ),
    "curves": (
        "Learning curves",
        "Validation metric over training steps, one line per network or recipe, with the score without memory",
    ),
}
RECALL = {"solved": memory.solved, "memory_horizon": memory.memory_horizon}  # of every run, where the table has it


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


@dataclass(frozen=True)
class Picture:
    title: str
    alt: str
    png: str  # in base64


def render(collection: Collection, table: Table, pictures: dict[str, Path]) -> str:
    """The page's HTML; every word from a config or a record is escaped. `pictures` are PNG files by their names."""
    environment = Environment(
        loader=PackageLoader("gradflow.results"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    images = [Picture(*HEADINGS[name], base64.b64encode(file.read_bytes()).decode()) for name, file in pictures.items()]
    return environment.get_template("report.html.j2").render(
        title=table.title,
        summary=summary(collection),
        command=collection.command,
        results=_results(table),
        runs=_runs(collection, [column for column in table.columns if column in RECALL]),
        notes=table.notes,
        pictures=images,
        problems=collection.found.problems,
        version=gradflow.__version__,
    )


def write(file: Path, collection: Collection, table: Table, pictures: dict[str, Path]) -> None:
    write_bytes(file, render(collection, table, pictures).encode())


def _results(table: Table) -> Sortable:
    headers = [Header(row, any(isinstance(line.labels[row], str) for line in table.lines)) for row in table.rows]
    headers += [Header(table.header(column), column in ("verdict", "runs")) for column in table.columns]
    rows = []
    for line in table.lines:
        cells = [Cell(str(line.labels[row]), _sort_value(line.labels[row])) for row in table.rows]
        cells += [_cell(line.values[column]) for column in table.columns]
        rows.append(cells)
    return Sortable(headers, rows)


def _runs(collection: Collection, recall: list[str]) -> Sortable:
    runs = planned(collection)
    names = [*varying(runs.values()), "seed"]
    words = {name for name in names for labels in runs.values() if isinstance(labels.get(name), str)}
    headers = [Header("run", True), *(Header(name, name in words) for name in names)]
    headers += [Header("state", True), Header("metric", False)]
    headers += [Header(column.replace("_", " "), False) for column in recall]
    headers += [Header("gradient ratio", False), Header("verdict", True), Header("seconds", False)]
    rows = []
    for run_id, labels in runs.items():
        record = collection.found.records.get(run_id)
        cells = [Cell(run_id, run_id)]
        cells += [Cell(str(labels.get(name, "")), _sort_value(labels.get(name))) for name in names]
        rows.append([*cells, *_outcome(record, recall)])
    return Sortable(headers, rows)


def _outcome(record: Record | None, recall: list[str]) -> list[Cell]:
    nothing = [Cell("–", "") for _ in range(4 + len(recall))]
    if record is None:
        return [Cell("missing", "missing"), *nothing]
    error = str(record.status.get("error") or "").strip()
    state = Cell(record.state, record.state, record.state, error.splitlines()[-1] if error else "")
    if record.result is None:
        return [state, *nothing]
    result = record.result
    metric = result["metrics"].get(result["metric"])
    ratio = (result.get("gradient") or {}).get("ratio")
    seconds = float(result["cost"]["train_seconds"])
    return [
        state,
        _cell(None if metric is None else Estimate(metric, None, 1)),
        *(_cell(RECALL[column]([result])) for column in recall),
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
    if isinstance(value, Told):
        return Cell(value.text, "" if value.value is None else value.value)
    if isinstance(value, float):
        return Cell(text(value), value)
    return Cell(text(value), value or "", value if value in VERDICTS else "")


def _sort_value(label: Any) -> Any:
    return "" if label is None else label
