"""How far a folder of runs has got."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from gradflow.runs.planfile import Collection
from gradflow.runs.record import DONE, Record

ORDER = ("completed", "diverged", "running", "stale", "preempted", "failed", "missing")
EXPLAINED = {
    "stale": "its process is gone without a word (killed?); starting the sweep again goes on from its checkpoint",
    "preempted": "stopped when asked; starting the sweep again goes on from its checkpoint",
    "failed": "starting the sweep again tries it once more",
}


def counts(collection: Collection) -> Counter[str]:
    """Planned runs by state; 'missing' have no record yet."""
    records = collection.found.records
    return Counter(records[run_id].state if run_id in records else "missing" for run_id in collection.planned)


def summary(collection: Collection) -> str:
    """One line, e.g. '30 runs: 28 completed, 2 diverged'."""
    found = counts(collection)
    told = ", ".join(f"{found[state]} {state}" for state in ORDER if found[state])
    return f"{len(collection.planned)} runs: {told}"


def is_complete(collection: Collection) -> bool:
    found = counts(collection)
    return sum(found[state] for state in DONE) == len(collection.planned)


def to_rich(collection: Collection) -> list[Any]:
    """What `gradflow status` prints: counts, every run that is not done, and what could not be read."""
    shown: list[Any] = [Text(summary(collection), style="bold")]
    open_runs = RichTable(box=box.SIMPLE_HEAD)
    for header in ("run", "state", "what", "step", "heartbeat", "error"):
        open_runs.add_column(Text(header), overflow="fold")
    for run_id in collection.planned:
        record = collection.found.records.get(run_id)
        if record is not None and record.state not in DONE:
            open_runs.add_row(*_row(record))
    if open_runs.row_count:
        shown.append(open_runs)
    found = counts(collection)
    shown += [Text(f"{state}: {why}") for state, why in EXPLAINED.items() if found[state]]
    shown += [Text(f"unreadable: {problem}", style="red") for problem in collection.found.problems]
    if collection.command and not is_complete(collection):
        shown.append(Text(f"to go on: {collection.command}"))
    return shown


def _row(record: Record) -> list[Text]:
    status = record.status
    error = str(status.get("error") or "").strip()
    age = max(0, int(time.time() - float(status.get("heartbeat", 0))))
    return [
        Text(record.run_id),
        Text(record.state),
        Text(str(status.get("title", ""))),
        Text(str(status.get("step", ""))),
        Text(f"{age} s ago"),
        Text(error.splitlines()[-1] if error else ""),
    ]
