"""Which runs share a line of a picture, and which lines share a panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradflow.results.choices import follows, network, planned, varying
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

MOST_LINES = 14  # in one panel; more cannot be told apart
MOST_PANELS = 12
SIGNS = {"task.length": "T =", "recurrent_init.radius": "ρ ="}


@dataclass(frozen=True)
class Panel:
    """Runs that are alike but for the choice that tells lines apart, and but for their seeds.

    Attributes:
        title: the other choices, e.g. 'T = 100'; empty if there are none.
        lines: runs by the name of their line.
    """

    title: str
    lines: dict[str, list[Record]]


@dataclass(frozen=True)
class Arranged:
    """Panels in the order of the plan, numbers ascending.

    Attributes:
        names: of all lines of any panel, in order.
        ordered: whether the names are those of a number.
        panels: not more than `MOST_PANELS`.
        left_out: how many more there would be.
    """

    names: list[str]
    ordered: bool
    panels: list[Panel]
    left_out: int


def arrange(collection: Collection, has: Callable[[Record], bool], apart: tuple[str, ...] = ()) -> Arranged | None:
    """The runs that have what a picture shows, as lines of panels; None if there are none, or too many to tell apart.

    Lines are told by the network or the recipe where these vary, else by the last choice that does; panels by what
    else varies. A task is never a line among others: its figures would not compare.

    Args:
        has: whether a run is shown at all.
        apart: choices that tell panels apart even where nothing else varies, e.g. the length of a sequence where it
            is the axis.
    """
    labels = planned(collection)
    records = collection.found.records
    shown = {run_id: labels[run_id] for run_id in labels if run_id in records and has(records[run_id])}
    if not shown:
        return None
    choices = [key for key in varying(shown.values()) if len({each.get(key) for each in shown.values()}) > 1]
    lined = [key for key in choices if key not in ("task", *apart)]
    line = next((key for key in ("network", "recipe") if key in lined), lined[-1] if lined else None)
    others = [key for key in choices if key != line and _tells_panels(key, line, apart, list(shown.values()))]
    cells: dict[tuple[Any, ...], dict[Any, list[Record]]] = {}
    for run_id, each in shown.items():
        group = cells.setdefault(tuple(each.get(key) for key in others), {})
        group.setdefault(_only(each) if line is None else each.get(line), []).append(records[run_id])
    values = in_order([value for group in cells.values() for value in group])
    if len(values) > MOST_LINES:
        return None
    names = {value: _name(line, value) for value in values}
    columns = [in_order([cell[i] for cell in cells]) for i in range(len(others))]
    ordered = sorted(cells, key=lambda cell: [column.index(v) for column, v in zip(columns, cell, strict=True)])
    panels = [
        Panel(
            " · ".join(_title(key, value) for key, value in zip(others, cell, strict=True)),
            {names[value]: cells[cell][value] for value in values if value in cells[cell]},
        )
        for cell in ordered
    ]
    is_number = len(values) > 1 and all(_is_number(value) for value in values)
    return Arranged(list(names.values()), is_number, panels[:MOST_PANELS], len(panels[MOST_PANELS:]))


def in_order(values: list[Any]) -> list[Any]:
    """Each once: numbers ascending, words in the order in which they come."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(map(_is_number, distinct)) else distinct


def _tells_panels(key: str, line: str | None, apart: tuple[str, ...], runs: list[dict[str, Any]]) -> bool:
    """Not where the line says it already."""
    return key in ("task", *apart) or line is None or not follows(key, line, runs)


def _only(labels: dict[str, Any]) -> str:
    return network(labels) if labels.get("cell") else str(labels["recipe"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(key: str | None, value: Any) -> str:
    return str(value) if key in (None, "network", "recipe") else _title(str(key), value)


def _title(key: str, value: Any) -> str:
    if key in ("task", "network", "recipe", "cell", "model"):
        return str(value)
    return f"{SIGNS.get(key, key.rpartition('.')[2])} {value}"
