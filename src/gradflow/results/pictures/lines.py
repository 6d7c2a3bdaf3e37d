"""Which runs share a line of a picture, and which lines share a panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradflow.errors import ConfigError, choose_from
from gradflow.results.choices import PARTS, follows, network, planned, varying
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

MOST_LINES = 14  # in one panel; more cannot be told apart
MOST_PANELS = 12
MOST_SEEDS = 10  # of one line whose series are read: more would not be seen to change it
SIGNS = {
    **{"task.length": "T =", "recurrent_init.radius": "ρ ="},
    **{"init.sigma_w2": "σ_w² =", "init.sigma_b2": "σ_b² ="},
}

Labels = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """Runs that are alike but for the choice that tells lines apart, the one along the axis, and their seeds.

    Attributes:
        title: the other choices, e.g. 'T = 100'; empty if there are none.
        lines: runs by the name of their line.
        task: its name.
    """

    title: str
    lines: dict[str, list[Record]]
    task: str = ""


@dataclass(frozen=True)
class Arranged:
    """Panels in the order of the plan, numbers ascending.

    Attributes:
        names: of all lines of any panel, in order.
        ordered: whether the names are those of a number.
        panels: as many as are shown.
        left_out: how many more there would be.
        notes: what else is left out.
    """

    names: list[str]
    ordered: bool
    panels: list[Panel]
    left_out: int
    notes: list[str]


def arrange(
    collection: Collection,
    has: Callable[[Record], bool],
    apart: tuple[str, ...] = (),
    *,
    by: str | None = None,
    along: Mapping[str, str] | None = None,
    most: int = MOST_PANELS,
    seeds: int | None = None,
) -> Arranged:
    """The runs that have what a picture shows, as lines of panels.

    Lines are told by the network or the recipe where these vary, by one part of the recipe where it has too many
    values, else by the last choice that does vary; panels by what else varies. A task is never a line among others:
    its figures would not compare, and each chooses its lines for itself.

    Args:
        has: whether a run is shown at all.
        apart: choices that tell panels apart even where nothing else varies, e.g. the length of a sequence where it
            is the axis.
        by: the choice that tells lines apart.
        along: by task, the choice along the axis, which tells neither lines nor panels apart.
        most: panels.
        seeds: of a line, at most.

    Raises:
        SaysNothing: if no run has it, or too many lines would share a panel.
        ConfigError: if no run has the choice `by`.
    """
    labels = planned(collection)
    known = sorted({key for each in labels.values() for key in each})
    if by is not None and by not in known:
        raise ConfigError(f"--by {by}: unknown; {choose_from(by, known)}")
    records = collection.found.records
    shown = {run_id: labels[run_id] for run_id in labels if run_id in records and has(records[run_id])}
    if not shown:
        raise SaysNothing("no run has it on record")
    tasks: dict[str, dict[str, Labels]] = {}
    for run_id, each in shown.items():
        tasks.setdefault(str(each.get("task")), {})[run_id] = each
    panels: list[Panel] = []
    values: list[tuple[str | None, Any]] = []
    for task, runs in tasks.items():
        found, line, own = _of_task(runs, records, apart, by, (along or {}).get(task))
        prefix = [task] if len(tasks) > 1 else []
        panels += [Panel(" · ".join([*prefix, *words]), lines, task) for words, lines in found]
        values += [(line, value) for value in own]
    values = list(dict.fromkeys(values))
    names = list(dict.fromkeys(_name(line, value) for line, value in values))
    notes = []
    longest = max(len(runs) for panel in panels for runs in panel.lines.values())
    if seeds is not None and longest > seeds:
        notes.append(f"the first {seeds} of {longest} seeds of a line")
        panels = [Panel(p.title, {name: runs[:seeds] for name, runs in p.lines.items()}, p.task) for p in panels]
    is_number = len(names) > 1 and all(_is_number(value) for _, value in values)
    return Arranged(names, is_number, panels[:most], len(panels[most:]), notes)


Cell = tuple[list[str], dict[str, list[Record]]]


def _of_task(
    shown: dict[str, Labels], records: dict[str, Record], apart: tuple[str, ...], by: str | None, along: str | None
) -> tuple[list[Cell], str | None, list[Any]]:
    """(panels as words of a title and lines, the choice that tells lines apart, its values) of one task's runs."""
    runs = list(shown.values())
    choices = [key for key in varying(runs) if key not in (along, "task") and _varies(key, runs)]
    if "recipe" in choices and (by in PARTS or along in PARTS):
        choices = _in_parts(choices, runs, along)
    line = by if by is not None else _line([key for key in choices if key not in apart])
    if by is None and line == "recipe" and len(in_order([each.get("recipe") for each in runs])) > MOST_LINES:
        choices = _in_parts(choices, runs, along)
        parts = [key for key in choices if key in PARTS and len({each.get(key) for each in runs}) <= MOST_LINES]
        line = max(parts, key=lambda key: len({each.get(key) for each in runs}), default="recipe")
    others = [key for key in choices if key != line and _tells_panels(key, line, apart, runs)]
    cells: dict[tuple[Any, ...], dict[Any, list[Record]]] = {}
    for run_id, each in shown.items():
        group = cells.setdefault(tuple(each.get(key) for key in others), {})
        group.setdefault(_only(each) if line is None else each.get(line), []).append(records[run_id])
    values = in_order([value for group in cells.values() for value in group])
    if len(values) > MOST_LINES:
        raise SaysNothing(f"{len(values)} lines of '{line}' in one panel cannot be told apart (at most {MOST_LINES})")
    columns = [in_order([cell[i] for cell in cells]) for i in range(len(others))]
    ordered = sorted(cells, key=lambda cell: [column.index(v) for column, v in zip(columns, cell, strict=True)])
    panels = [
        (
            [_title(key, value) for key, value in zip(others, cell, strict=True)],
            {_name(line, value): cells[cell][value] for value in values if value in cells[cell]},
        )
        for cell in ordered
    ]
    return panels, line, values


def in_order(values: list[Any]) -> list[Any]:
    """Each once: numbers ascending, words in the order in which they come."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(map(_is_number, distinct)) else distinct


def numbers(runs: list[Labels]) -> list[str]:
    """Choices that vary and are numbers, 'depth' first, other than the seed and what follows from another choice."""
    keys = varying(runs)
    return [key for key in keys if _varies(key, runs) and all(_is_number(each.get(key)) for each in runs)]


def technique(by: str, name: str) -> str:
    """A technique's name; a number with its choice before it, as alone it says nothing."""
    return f"{sign(by)} {name}" if name.replace(".", "", 1).lstrip("-").isdigit() else name


def _varies(key: str, runs: list[Labels]) -> bool:
    return len({each.get(key) for each in runs}) > 1


def _in_parts(choices: list[str], runs: list[Labels], along: str | None) -> list[str]:
    """The choices with the recipe's parts, those that vary, in its place."""
    parts = [key for key in runs[0] if key in PARTS and key != along and _varies(key, runs)]
    return [key for key in choices if key != "recipe"] + parts


def _line(choices: list[str]) -> str | None:
    return next((key for key in ("network", "recipe") if key in choices), choices[-1] if choices else None)


def _tells_panels(key: str, line: str | None, apart: tuple[str, ...], runs: list[Labels]) -> bool:
    """Not where the line says it already."""
    return key in apart or line is None or not follows(key, line, runs)


def _only(labels: Labels) -> str:
    return network(labels) if labels.get("cell") else str(labels["recipe"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(key: str | None, value: Any) -> str:
    return str(value) if key in (None, "network", "recipe") else _title(str(key), value)


def _title(key: str, value: Any) -> str:
    if key in ("task", "network", "recipe", "cell", "model"):
        return str(value)
    return f"{sign(key)} {value}"


def sign(key: str) -> str:
    """What stands before a choice's value."""
    return SIGNS.get(key, key.rpartition(".")[2])
