"""The page's data from a collection: what it needs at once, and its parts. Both the file and the server build on it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote

import gradflow
from gradflow.results.page import analysis, thin
from gradflow.results.page.about import command_without_secrets
from gradflow.results.page.columns import runs_part, table_part
from gradflow.results.page.details import Planned, details
from gradflow.results.page.pack import encoded
from gradflow.results.processes import processes
from gradflow.results.status import counts, summary
from gradflow.results.table import Table
from gradflow.runs.planfile import Collection, Plan, read_plan
from gradflow.runs.record import Record, Unreadable

FORMAT = 1
ANEW = 300  # runs: of more, the signs are those of their results, for looking anew takes 20 ms each
MANY = 500  # runs: of fewer, details are made faster than processes for it are started
CHUNK = 500_000  # characters of details that the page unpacks at once
AHEAD = 32  # runs handed to a process in one piece
COMPARISONS, DETAILS = "comparisons-", "details-"

Task = tuple[Record | None, Planned, int]
Told = Callable[[int, int], None]  # is told how many of how many runs are done


def boot(collection: Collection, table: Table, pictures: Sequence[dict[str, str]], *, live: bool) -> dict[str, Any]:
    """What the page needs before anything is unpacked; without the stamps of its parts.

    Args:
        pictures: 'title', 'alt' and 'png' in base64 of each.
        live: whether it is served, and asks for its parts.
    """
    states = counts(collection)
    return {
        "format": FORMAT,
        "version": gradflow.__version__,
        "title": table.title,
        "summary": summary(collection),
        "command": command_without_secrets(collection.command),
        "live": live,
        "notes": list(table.notes),
        "problems": list(collection.found.problems),
        "runs": len(collection.planned),
        "states": dict(states),
        "metric": table.header("metric"),
        "metrics": _metrics(collection),
        "sweep_over": not states["running"] and not states["missing"],
        "theme": None,
        "pictures": list(pictures),
    }


def _metrics(collection: Collection) -> dict[str, dict[str, Any]]:
    """Of each task, the headline figure's name and whether 'larger' or 'smaller' is better."""
    found: dict[str, dict[str, Any]] = {}
    for run_id, labels in collection.planned.items():
        record = collection.found.records.get(run_id)
        if record is not None and record.result is not None:
            better = "larger" if record.result.get("larger_is_better", True) else "smaller"
            found.setdefault(str(labels.get("task", "")), {"metric": record.result["metric"], "better": better})
    return found


def names(collection: Collection) -> list[str]:
    """All parts but the runs' details."""
    return ["runs", "table", "factors", "effects", *(COMPARISONS + quote(f, "") for f in analysis.compared(collection))]


def part(name: str, collection: Collection, table: Table, chunks: Sequence[int]) -> Any:
    """One of `names`.

    Args:
        chunks: of each planned run, the part that its details are in.
    """
    if name == "runs":
        return runs_part(collection, table, chunks)
    if name == "table":
        return table_part(table)
    if name == "factors":
        return analysis.factors_part(collection)
    if name == "effects":
        return analysis.effects_part(collection)
    return analysis.comparisons_part(collection, unquote(name.removeprefix(COMPARISONS)))


# --- details of runs ------------------------------------------------------------------------------------------


class Tasks:
    """What the details of a collection's runs are made of.

    Args:
        plan: that the collection is of; None where it is of records alone.
        most: numbers of a run's series; as many as fit into a page of that many runs unless given.
    """

    def __init__(self, collection: Collection, plan: Plan | None, most: int | None = None) -> None:
        count = len(collection.planned)
        self.collection, self.few = collection, count <= ANEW
        self.most = thin.numbers(count) if most is None else most
        self.planned = {} if plan is None else {run.run_id: run for run in plan.runs}
        self.more = _config_dir(collection.command)

    def of(self, run_id: str) -> Task:
        run, labels = self.planned.get(run_id), self.collection.planned[run_id]
        records = self.collection.found.records
        told = ([], {}) if run is None else (run.overrides, run.config)
        beside = records if self.few else {}  # every run is compared with every other
        where = "this sweep" if self.planned else "this folder of runs"
        return records.get(run_id), Planned(labels, *told, self.more, beside, where, self.few), self.most


def plan_of(collection: Collection) -> Plan | None:
    """The plan that a collection is of; None where it is of records alone."""
    with suppress(Unreadable):  # collected from it a moment ago
        return read_plan(collection.folder)
    return None


def _config_dir(command: str | None) -> list[str]:
    """['--config-dir', 'mine'], where a sweep was planned with a person's own configs, which its runs need too."""
    try:
        words = shlex.split(command or "")
    except ValueError:
        return []
    for word, following in pairwise([*words, ""]):
        if word == "--config-dir" and following:
            return [word, following]
        if word.startswith("--config-dir="):
            return [word]
    return []


def all_details(tasks: Tasks, workers: int = 1, told: Told | None = None) -> Iterator[str]:
    """Of every planned run, in order, its details as JSON.

    Args:
        workers: processes to share the work where it is much.
    """
    run_ids = list(tasks.collection.planned)
    if workers == 1 or len(run_ids) < MANY:
        yield from _counted(map(_encoded, map(tasks.of, run_ids)), len(run_ids), told)
        return
    with processes(workers) as pool:
        yield from _counted(pool.map(_encoded, map(tasks.of, run_ids), chunksize=AHEAD), len(run_ids), told)


def _encoded(task: Task) -> str:
    return encoded(details(*task))


def _counted(made: Iterable[str], count: int, told: Told | None) -> Iterator[str]:
    for done, each in enumerate(made, 1):
        if told is not None:
            told(done, count)
        yield each


def in_chunks(run_ids: Sequence[str], made: Iterable[str]) -> tuple[list[int], dict[str, bytes]]:
    """(the chunk of each run, the parts 'details-0', 'details-1' …), each part an object of runs by id."""
    chunks: list[int] = []
    parts: dict[str, bytes] = {}
    waiting: list[str] = []
    size = 0
    for run_id, text in zip(run_ids, made, strict=True):
        if waiting and size + len(text) > CHUNK:
            parts[f"{DETAILS}{len(parts)}"] = _joined(waiting)
            waiting, size = [], 0
        waiting.append(f"{encoded(run_id)}:{text}")
        size += len(text)
        chunks.append(len(parts))
    if waiting:
        parts[f"{DETAILS}{len(parts)}"] = _joined(waiting)
    return chunks, parts


def _joined(members: Sequence[str]) -> bytes:
    return ("{" + ",".join(members) + "}").encode()
