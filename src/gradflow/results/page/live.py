"""The page's data of a sweep that is under way: looked at when somebody asks, made when it is first needed.

Of runs that are done nothing is read twice. Details are made for the runs that somebody opens, and in full.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradflow.errors import ConfigError
from gradflow.results.page import parts, thin
from gradflow.results.page.details import details
from gradflow.results.page.document import PLOTLY, document, plotly
from gradflow.results.page.pack import content, encoded, stamp
from gradflow.results.page.parts import DETAILS, Tasks
from gradflow.results.table import Table, make_table
from gradflow.runs.planfile import PLAN, Collection, collect
from gradflow.runs.record import DONE, Found, Record, Unreadable, read
from gradflow.runs.states import Glance, Seen, look_again

EVERY = 1.0  # seconds from one look at the records to the next, however many ask
REST = 4.0  # times as long as a look takes: of many thousands of runs each takes a while
MOST_CHUNKS = 1000  # parts with details: the stamp of each is told at every change
KEPT = 200  # parts that are not made again while nothing has changed


@dataclass(frozen=True)
class _Now:
    """What parts are made of; it stays as it is while the next look goes on.

    Attributes:
        per_chunk: runs whose details are in one part.
    """

    collection: Collection
    table: Table
    tasks: Tasks
    per_chunk: int


class Live:
    """The data of a folder as it is now. Threads may share it.

    Raises:
        ConfigError: if the folder holds neither a plan nor runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._making = threading.RLock(), threading.Lock()
        self._made: dict[tuple[str, str], bytes] = {}
        self._take(collect(folder))
        self._look()

    def boot(self) -> bytes:
        """The boot data, as JSON; `stamp` in it changes when anything does."""
        with self._lock:
            if time.monotonic() > self._next:
                self._look()
            return self._boot

    def page(self) -> bytes:
        """The page, which asks for boot and parts by itself."""
        return document(json.loads(self.boot()), {}).encode()

    def part(self, name: str) -> tuple[str, bytes] | None:
        """(stamp, content) of a part as it is now; None if there is none of this name."""
        if name == PLOTLY:
            return stamp(plotly()), plotly()
        with self._lock:
            self.boot()
            if name not in self._stamps:
                return None
            key, now = (name, self._stamps[name]), self._now
        with self._making:  # which may take a while, and keeps nobody from looking
            if key not in self._made:
                while len(self._made) >= KEPT:
                    self._made.pop(next(iter(self._made)))
                self._made[key] = content(_make(name, now))
            return key[1], self._made[key]

    # --- looking ----------------------------------------------------------------------------------------------

    def _take(self, collection: Collection) -> None:
        """Begin with what is there, and with the plan as it is."""
        self._collection, self._plan_changed = collection, _changed(self.folder / PLAN)
        self._plan = parts.plan_of(collection)
        single = (self.folder / "status.json").exists() and self._plan is None
        self._wanted = list(collection.planned) if single or self._plan is not None else None  # None: all there are
        self._runs_dir = self.folder if self._plan is None else self._plan.runs_dir
        self._runs_dir = self.folder.resolve().parent if single else self._runs_dir
        self._seen, self._places = Seen(), dict[str, int]()
        self._states: dict[str, list[Any]] | None = None
        self._outcomes: list[Any] | None = None

    def _look(self) -> None:
        """Read what has changed, and tell it by stamps."""
        began = time.monotonic()
        if _changed(self.folder / PLAN) != self._plan_changed:
            with suppress(ConfigError):  # one that is not readable now is read when it is
                self._take(collect(self.folder))
        look_again(self._seen, self._runs_dir, self._wanted)
        found = Found({}, list(self._seen.problems.values()))
        for run_id, glance in self._seen.runs.items():
            try:
                found.records[run_id] = self._record(run_id, glance)
            except Unreadable as error:
                found.problems.append(str(error))
        planned = self._collection.planned
        if self._wanted is None:
            planned = {run_id: record.labels for run_id, record in found.records.items()}
        problems, self._places = self._collection.found.problems, dict(self._seen.places)
        self._collection = replace(self._collection, planned=planned, found=found)
        states = {run_id: _state(found.records.get(run_id), self._places.get(run_id)) for run_id in planned}
        if states != self._states or problems != found.problems:
            self._tell(states)
        now = time.monotonic()
        self._next = now + max(EVERY, REST * (now - began))

    def _record(self, run_id: str, glance: Glance) -> Record:
        """Read whole when it is done, and then never again."""
        known = self._collection.found.records.get(run_id)
        place = self._seen.places.get(run_id)
        same = self._places.get(run_id, place) == place
        if glance.state in DONE and known is not None and known.state == glance.state and same:
            return known
        path = self._runs_dir / run_id
        if glance.state in DONE and (record := read(path)) is not None:
            return record
        return Record(run_id, path, glance.state, glance.status, glance.status["labels"])

    def _tell(self, states: dict[str, list[Any]]) -> None:
        """Table, figures and comparisons change when a run begins or ends, and not while it trains. So do a run's own
        details, among them the cures that its neighbours showed when somebody opened it."""
        outcomes = [[run_id, *state[:2]] for run_id, state in states.items()]
        if outcomes != self._outcomes:
            self._table = make_table(self._collection)
            self._names = parts.names(self._collection)
        self._states, self._outcomes = states, outcomes
        run_ids = list(states)
        per_chunk = -(-len(run_ids) // MOST_CHUNKS) or 1
        tasks = Tasks(self._collection, self._plan, thin.in_bytes(thin.LIVE))
        self._now = _Now(self._collection, self._table, tasks, per_chunk)
        self._stamps = dict.fromkeys(self._names, stamp(encoded(outcomes).encode()))
        self._stamps["runs"] = stamp(encoded(states).encode())
        for chunk, first in enumerate(range(0, len(run_ids), per_chunk)):
            own = [[run_id, *states[run_id]] for run_id in run_ids[first : first + per_chunk]]
            self._stamps[f"{DETAILS}{chunk}"] = stamp(encoded(own).encode())
        boot: dict[str, Any] = parts.boot(self._collection, self._table, [], live=True) | {"parts": self._stamps}
        boot["stamp"] = stamp(encoded(boot).encode())
        self._boot = encoded(boot).encode()


def _make(name: str, now: _Now) -> Any:
    run_ids = list(now.collection.planned)
    if name.startswith(DETAILS):
        first = int(name.removeprefix(DETAILS)) * now.per_chunk
        return {run_id: details(*now.tasks.of(run_id)) for run_id in run_ids[first : first + now.per_chunk]}
    chunks = [place // now.per_chunk for place in range(len(run_ids))]
    return parts.part(name, now.collection, now.table, chunks)


def _state(record: Record | None, place: int | None) -> list[Any]:
    """What tells that a run has changed: its state, which folder it is, and of one that is not done how far it is."""
    if record is None:
        return ["missing", None]
    if record.state in DONE:
        return [record.state, place]
    series = [_changed(record.path / f"{name}.parquet") for name in ("metrics", "gradflow")]
    return [record.state, place, record.status.get("step"), record.status.get("attempt"), *series]


def _changed(file: Path) -> int | None:
    """When a file was written, in nanoseconds; None where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
