"""The states of thousands of runs at a glance, from `status.json` alone wherever that is enough.

`gradflow.runs.record.read` reads a run whole. Here a run that says it is done costs two files opened, of which the
result is only looked at from behind: it is committed in one piece, so that one that ends well is whole.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json  # three times as fast as json, which is what most of the time goes to

from gradflow.runs.record import DONE, FORMAT, STALE_AFTER, STATES, Unreadable, is_locked, read

END = b"\n}\n"  # of every file that `record.write_json` has written whole
AT_ONCE = 64  # runs read by one thread in a turn
SLOW = 0.002  # seconds for one run: a file system on the network, which answers many at a time as fast as one
THREADS = 16
PIECE = 16384  # bytes; a status.json has a few thousand

# Given Slurm's job ids, the state of each of their tasks, '12_3': 'RUNNING', or None where Slurm does not answer.
Ask = Callable[[set[str]], Mapping[str, str] | None]


@dataclass(frozen=True, slots=True)
class Glance:
    """One run.

    Attributes:
        state: one of `record.STATES`, or 'stale'.
        status: what `status.json` holds.
    """

    state: str
    status: dict[str, Any]

    @property
    def heartbeat(self) -> float:
        """Seconds since 1970; of a run that has ended, when it did."""
        beat = self.status.get("heartbeat")
        return float(beat) if isinstance(beat, int | float) else 0.0


@dataclass
class Seen:
    """What is known of the runs of a folder, kept so that what cannot change is not read again.

    Attributes:
        runs: by run id; one without a record is not in it.
        problems: one line by run id for a record that cannot be read.
        places: the number of each folder in its file system: one that is made anew has another.
    """

    runs: dict[str, Glance] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)


def states(runs_dir: Path, run_ids: Collection[str] | None = None, ask: Ask | None = None) -> Seen:
    """Look at the runs with these ids, or at all of a folder; see `look_again`.

    >>> import tempfile
    >>> states(Path(tempfile.mkdtemp()), ["0123456789ab"]).runs
    {}
    """
    seen = Seen()
    look_again(seen, runs_dir, run_ids, ask)
    return seen


def look_again(seen: Seen, runs_dir: Path, run_ids: Collection[str] | None = None, ask: Ask | None = None) -> None:
    """Bring `seen` up to date. Runs that are done are not read again, unless their folder is another by now.

    Args:
        seen: of the same folder and ids.
        runs_dir: where the records are.
        run_ids: which; None for all.
        ask: asked once for the jobs of all runs that say they are running on another machine: one whose job is not in
            Slurm's queue, or waits there to start again, is stale. Others are by their heartbeat.
    """
    places = _places(runs_dir)
    names = sorted(places) if run_ids is None else [run_id for run_id in run_ids if run_id in places]
    for kept in (seen.runs, seen.problems):
        for name in set(kept).difference(names):
            kept.pop(name)
    changed = [n for n in names if not _stays(seen.runs.get(n)) or seen.places.get(n) != places[n]]
    running = {}
    for name, found in zip(changed, _read_all(runs_dir, changed), strict=True):
        seen.runs.pop(name, None)
        seen.problems.pop(name, None)
        seen.places[name] = places[name]
        if isinstance(found, str):
            seen.problems[name] = found
        elif found is not None:
            seen.runs[name] = found
            if found.state == "running":
                running[name] = found
    host = socket.gethostname()
    jobs = {job(glance) for glance in running.values() if glance.status.get("host") != host} - {""}
    queue = ask(jobs) if ask is not None and jobs else None
    for name, glance in running.items():
        if not _lives(runs_dir / name, glance, host, queue):
            seen.runs[name] = Glance("stale", glance.status)


def job(glance: Glance) -> str:
    """The id of the Slurm job that a run is trained in, without its task's number; '' where there is none."""
    return str(glance.status.get("job_id") or "").partition("_")[0]


def _stays(glance: Glance | None) -> bool:
    return glance is not None and glance.state in DONE


def _places(runs_dir: Path) -> dict[str, int]:
    try:
        with os.scandir(runs_dir) as entries:
            return {entry.name: entry.inode() for entry in entries if entry.name[0] != "." and entry.is_dir()}
    except FileNotFoundError:
        return {}


def _read_all(runs_dir: Path, names: list[str]) -> Iterable[Glance | str | None]:
    """One after another where files are near, which Python does fastest; many at a time where each takes its time."""
    began = time.perf_counter()
    found = [_glance(runs_dir, name) for name in names[:AT_ONCE]]
    rest = names[AT_ONCE:]
    if not rest or time.perf_counter() - began < SLOW * AT_ONCE:
        return found + [_glance(runs_dir, name) for name in rest]
    with ThreadPoolExecutor(THREADS) as pool:
        return found + list(pool.map(lambda name: _glance(runs_dir, name), rest))


def _glance(runs_dir: Path, name: str) -> Glance | str | None:
    """A run as its files say; a line if they cannot be read, None if there are none."""
    folder = f"{runs_dir}/{name}"
    try:
        status = from_json(_content(f"{folder}/status.json"))
        state = status["state"]
        if state in STATES and status["format"] <= FORMAT and isinstance(status["labels"], dict):
            if state in DONE and _ends_well(f"{folder}/result.json"):
                return Glance(state, status)
            if state not in DONE and not os.path.exists(f"{folder}/result.json"):
                return Glance(state, status)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # what is wrong with it is found below
    try:
        record = read(runs_dir / name)
    except Unreadable as error:
        return str(error)
    return None if record is None else Glance(record.state, record.status)


def _content(file: str) -> bytes:
    handle = os.open(file, os.O_RDONLY)
    try:
        pieces = [os.read(handle, PIECE)]
        while len(pieces[-1]) == PIECE:
            pieces.append(os.read(handle, PIECE))
    finally:
        os.close(handle)
    return b"".join(pieces)


def _ends_well(file: str) -> bool:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.lseek(handle, -len(END), os.SEEK_END)
        return os.read(handle, len(END)) == END
    finally:
        os.close(handle)


def _lives(path: Path, glance: Glance, host: str, queue: Mapping[str, str] | None) -> bool:
    """Whether somebody is on a run that says it is running."""
    if glance.status.get("host") == host:
        return is_locked(path)
    task = str(glance.status.get("job_id") or "")
    if queue is not None and task:
        found = {name: state for name, state in queue.items() if name == task or name.partition("_")[0] == task}
        if all(state == "PENDING" for state in found.values()):
            return False
    return time.time() - glance.heartbeat <= STALE_AFTER  # one in the future comes from a clock that goes wrong
