"""What a search found: pictures of its history, of what matters and of the best compromises, and the table of bests."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from gradflow.runs.record import write_bytes

COUNTS = ("complete", "pruned", "diverged", "failed")  # states of a trial that has ended


@dataclass(frozen=True)
class Trial:
    """One trial that has ended.

    Attributes:
        number: in the order in which they were taken.
        state: one of `COUNTS`.
        values: per metric; of a pruned one the last that was reported, None where there is none.
        params: by key, numbers or words.
        run_id: of its run, of the first seed where there are several.
    """

    number: int
    state: str
    values: list[float] | None
    params: dict[str, Any]
    run_id: str


@dataclass(frozen=True)
class Key:
    """One that was searched: a number, on a logarithmic scale or not, or one of some words."""

    name: str
    words: tuple[str, ...] = ()
    log: bool = False


@dataclass(frozen=True)
class Tuned:
    """One technique's trials.

    Attributes:
        importance: by key, in all 1; empty where too few trials are complete to tell.
    """

    name: str
    slug: str
    trials: list[Trial]
    importance: dict[str, float] = field(default_factory=dict)

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


@dataclass(frozen=True)
class Found:
    """A search and what it found.

    Attributes:
        metrics: (name, whether larger is better), the first of which names the best trial.
        trials: the budget of each technique.
    """

    name: str
    metrics: list[tuple[str, bool]]
    keys: list[Key]
    techniques: list[Tuned]
    trials: int


def best(found: Found, technique: Tuned) -> Trial | None:
    """By the first metric; of equals the one that was taken first. None if no trial is complete."""
    sign = -1 if found.metrics[0][1] else 1
    complete = [trial for trial in technique.trials if trial.state == "complete"]
    return min(complete, key=lambda trial: (sign * (trial.values or [math.inf])[0], trial.number), default=None)


def front(found: Found, trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials than which no other is as good in every metric and better in one; by the first metric.

    Of several with the same values the first one taken stands for all.
    """
    signs = [-1 if larger else 1 for _, larger in found.metrics]
    losses = {
        t.number: [s * v for s, v in zip(signs, t.values, strict=True)] for t in trials if _weighs(t) and t.values
    }
    distinct = {tuple(losses[trial.number]): trial for trial in reversed(trials) if trial.number in losses}
    kept = [
        (mine, trial)
        for mine, trial in distinct.items()
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in distinct)
    ]
    return [trial for _, trial in sorted(kept, key=lambda each: each[0])]


def publish(found: Found, folder: Path) -> list[Path]:
    """Write best.csv and .md, and as .png and .svg the history, what matters to each technique, and for two metrics
    the best compromises.

    Raises:
        OSError: if the folder cannot be written.
    """
    from gradflow.results.pictures import search as search_pictures
    from gradflow.results.pictures import style  # matplotlib: half a second to import

    folder.mkdir(parents=True, exist_ok=True)
    header, rows = _rows(found)
    files = [folder / "best.csv", folder / "best.md"]
    write_bytes(files[0], _csv(header, rows).encode())
    write_bytes(files[1], _markdown(header, [[_short(cell) for cell in row] for row in rows]).encode())
    drawn = {"history": search_pictures.history(found)}
    drawn |= {f"importance-{each.slug}": search_pictures.importance(found, each) for each in found.techniques}
    drawn |= {"pareto": search_pictures.pareto(found) if len(found.metrics) == 2 else None}
    for name, figure in drawn.items():
        if figure is not None:
            files += style.save(figure, folder / name, f"gradflow tune {found.name}")
    return files


def to_rich(found: Found) -> RichTable:
    """Each technique's best trial for a terminal; of several metrics, each technique's best compromises."""
    several = len(found.metrics) > 1
    title = (
        f"{found.name}: {'best compromises' if several else 'best trial'} of each technique, on the validation split"
    )
    shown = RichTable(title=Text(title, style="bold"), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    shown.padding = (0, 1, 0, 0)
    header, rows = _rows(found)
    for i, name in enumerate(header):
        numeric = any(isinstance(row[i], int | float) for row in rows)
        shown.add_column(Text(name), justify="right" if numeric else "left", no_wrap=True)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        ends = several and after is not None and after[0] != row[0]
        shown.add_row(*(Text(_short(cell)) for cell in row), end_section=ends)
    return shown


def _rows(found: Found) -> tuple[list[str], list[list[Any]]]:
    """Header and rows: technique, metrics, keys, which trial, and how all of them ended."""
    names = [name for name, _ in found.metrics]
    header = ["technique", *names, *(key.name for key in found.keys), "trial", "run", *COUNTS]
    rows: list[list[Any]] = []
    for technique in found.techniques:
        only = best(found, technique)
        shown = front(found, technique.trials) if len(names) > 1 else [only] if only else []
        ends = [technique.count(state) for state in COUNTS]
        for trial in shown:
            assert trial.values is not None
            params = [_number(trial.params.get(key.name)) for key in found.keys]
            rows.append([technique.name, *trial.values, *params, trial.number, trial.run_id, *ends])
        if not shown:
            rows.append([technique.name, *[None] * (len(names) + len(found.keys) + 2), *ends])
    return header, rows


def _weighs(trial: Trial) -> bool:
    return trial.state == "complete" and trial.values is not None


def _number(word: Any) -> Any:
    """A choice that is a number is shown as one."""
    if not isinstance(word, str):
        return word
    try:
        return int(word) if word.isdigit() else float(word)
    except ValueError:
        return word


def _short(cell: Any) -> str:
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e9 else f"{cell:.4g}"
    return "–" if cell is None else str(cell)


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return out.getvalue()


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def so_far(found: Found, technique: Tuned) -> list[tuple[int, float]]:
    """(number, best value until then) wherever a trial was better than all before."""
    steps: list[tuple[int, float]] = []
    for trial in (trial for trial in technique.trials if _weighs(trial)):
        value = best(found, replace(technique, trials=[t for t in technique.trials if t.number <= trial.number]))
        assert value is not None
        assert value.values is not None
        if not steps or steps[-1][1] != value.values[0]:
            steps.append((trial.number, value.values[0]))
    return steps
