"""Worker processes on this machine, and what they are doing."""

from __future__ import annotations

import multiprocessing as mp
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from gradflow.runs.claim import mark_failed
from gradflow.runs.planfile import PlannedRun
from gradflow.runs.record import Unreadable
from gradflow.runs.stop import Stop
from gradflow.sweeps.allotment import Allotment
from gradflow.sweeps.forked import STOP_WAIT, crew, start
from gradflow.sweeps.packing import Packing, Queue

BUSY_WAIT = 1.0  # seconds before asking again for a run that another process is training


@dataclass
class Running:
    """A run under way."""

    run: PlannedRun
    began: float
    step: int = 0
    total: int = 0
    loss: float = float("nan")


@dataclass
class Progress:
    """The state of a sweep. `ended` holds (run, state, error, seconds) in the order of ending; `again` the runs that
    are to be tried once more, each time with what happened."""

    total: int
    done_before: int
    began: float = field(default_factory=time.monotonic)
    running: dict[str, Running] = field(default_factory=dict)
    ended: list[tuple[PlannedRun, str, str | None, float]] = field(default_factory=list)
    again: list[tuple[PlannedRun, str]] = field(default_factory=list)

    def count(self, *states: str) -> int:
        return sum(state in states for _, state, _, _ in self.ended)


def _begin(orders: Connection, alive: Connection, gpu: str | None) -> None:
    """In the worker, whose server has imported this already; the sweep's own process does without torch."""
    from gradflow.sweeps.worker import work

    work(orders, alive, gpu)


class _Worker:
    def __init__(self, gpu: str | None) -> None:
        self.orders, theirs = mp.Pipe()
        alive, self._alive = mp.Pipe(duplex=False)
        self.process = start("gradflow.sweeps.worker", _begin, theirs, alive, gpu)
        theirs.close()
        alive.close()
        self.running: dict[str, Running] = {}  # by run id

    def ask_to_leave(self) -> None:
        """It checkpoints what it is on. No signal: with its server dead, the process would not be known any more."""
        self._alive.close()

    def close(self) -> None:
        self.orders.close()
        self._alive.close()


def run_all(
    runs: list[PlannedRun],
    allotment: Allotment,
    runs_dir: Path,
    done_before: int,
    stop: Stop,
    show: Callable[[Progress], None],
) -> Progress:
    """Train `runs` in worker processes.

    A worker that dies takes what it is on down, and is replaced; each of these runs is tried again, from its last
    checkpoint, up to `max_attempts` times, and then recorded as failed. What was in a pack is tried again alone. When
    `stop` is wished for, no further run starts, and those under way are checkpointed.

    Args:
        runs: those that have no result yet.
        allotment: how many workers there are, and their GPUs.
        runs_dir: where their records are.
        done_before: how many of the sweep need not be trained.
        show: told about every change, and about four times a second.
    """
    progress = Progress(len(runs) + done_before, done_before)
    if not runs:
        return progress
    queue, packing = deque((0.0, run) for run in runs), Packing(runs, allotment)
    with crew(lambda i: _Worker(allotment.gpu(i)), min(allotment.jobs, len(runs))) as (workers, replace):
        while (queue or any(w.running for w in workers)) and not stop.requested:
            idle = [worker for worker in workers if not worker.running]
            for place, worker in enumerate(idle):
                died = [run.run_id for run, _ in progress.again]
                _give(worker, packing.take(queue, died, len(idle) - place), queue, progress)
            for i, buried in _listen(workers, progress, queue, runs_dir):
                if i is not None:
                    replace(i)
                for death in buried:
                    _mourn(death, progress, queue, runs_dir, allotment.max_attempts)
            show(progress)
        if stop.requested:
            _wind_down(workers, progress, queue, runs_dir, show)
    return progress


def _give(worker: _Worker, runs: list[PlannedRun], queue: Queue, progress: Progress) -> None:
    if not runs:
        return
    try:
        worker.orders.send([(run.config, run.overrides) for run in runs])
    except OSError:  # it has just died; its replacement will be asked
        queue.extendleft((0.0, run) for run in reversed(runs))
        return
    worker.running = {run.run_id: Running(run, time.monotonic()) for run in runs}
    progress.running |= worker.running


def _listen(
    workers: list[_Worker], progress: Progress, queue: Queue, runs_dir: Path
) -> list[tuple[int | None, list[_Death]]]:
    """Take what workers say, for a quarter of a second or until one has said something.

    Returns:
        The workers that have died; None for one that lives, while a process of its run is dead.
    """
    dead: list[tuple[int | None, list[_Death]]] = []
    speaking: dict[Any, int] = {worker.orders: i for i, worker in enumerate(workers) if not worker.orders.closed}
    for source in wait(list(speaking), timeout=0.25):
        i = speaking[source]
        try:
            kind, run_id, *content = workers[i].orders.recv()
        except (EOFError, OSError):  # the process is gone
            dead.append((i, _bury(workers[i], progress)))
            continue
        if kind == "outcome" and content[0] == "died":
            dead.append((None, [_Death(_dismiss(workers[i], run_id, progress), content[1])]))
        else:
            _hear(workers[i], kind, run_id, content, progress, queue)
    return dead


def _hear(
    worker: _Worker,
    kind: str,
    run_id: str,
    content: list[Any],
    progress: Progress,
    queue: Queue,
) -> None:
    running = worker.running.get(run_id)
    if running is None:
        return
    if kind == "progress":
        running.step, running.total, running.loss = content
    elif content[0] == "busy":
        queue.append((time.monotonic() + BUSY_WAIT, running.run))
        _dismiss(worker, run_id, progress)
    else:
        _end(worker, running, progress, *content)


@dataclass(frozen=True)
class _Death:
    """Of a worker, or of another process of the run it was on."""

    running: Running | None
    error: str


def _bury(worker: _Worker, progress: Progress) -> list[_Death]:
    worker.close()
    worker.process.join(5)
    code = worker.process.exitcode
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    told = f"its worker process died ({how})"
    return [_Death(_dismiss(worker, run_id, progress), told) for run_id in list(worker.running)]


def _dismiss(worker: _Worker, run_id: str, progress: Progress) -> Running | None:
    """Take a worker off a run."""
    progress.running.pop(run_id, None)
    return worker.running.pop(run_id, None)


def _mourn(death: _Death, progress: Progress, queue: Queue | None, runs_dir: Path, most: int) -> None:
    """The run of a dead worker failed; it is tried again while it may be."""
    if death.running is None:
        return
    run = death.running.run
    tried = 1 + sum(run.run_id == other.run_id for other, _ in progress.again)
    again = queue is not None and tried < most
    error = death.error if again or most == 1 else f"{death.error}, attempt {tried} of {most}"
    with suppress(OSError, Unreadable):  # where its record cannot be written, the sweep still tells
        mark_failed(runs_dir / run.run_id, error)
    if again:
        assert queue is not None
        progress.again.append((run, error))
        queue.appendleft((0.0, run))
    else:
        progress.ended.append((run, "failed", error, time.monotonic() - death.running.began))


def _end(worker: _Worker, running: Running, progress: Progress, state: str, error: str | None) -> None:
    progress.ended.append((running.run, state, error, time.monotonic() - running.began))
    _dismiss(worker, running.run.run_id, progress)


def _wind_down(
    workers: list[_Worker],
    progress: Progress,
    queue: Queue,
    runs_dir: Path,
    show: Callable[[Progress], None],
) -> None:
    """Ask every worker to checkpoint and leave."""
    for worker in workers:
        worker.ask_to_leave()
    deadline = time.monotonic() + STOP_WAIT
    while any(w.running for w in workers) and time.monotonic() < deadline:
        for _, deaths in _listen(workers, progress, queue, runs_dir):
            for death in deaths:
                _mourn(death, progress, None, runs_dir, 1)
        show(progress)
