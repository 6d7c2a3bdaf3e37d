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
        self.running: Running | None = None

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

    A worker that dies takes its one run down, and is replaced; the run is tried again, from its last checkpoint, up to
    `max_attempts` times, and then recorded as failed. When `stop` is wished for, no further run starts, and those under
    way are checkpointed.

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
    queue = deque((0.0, run) for run in runs)
    with crew(lambda i: _Worker(allotment.gpu(i)), min(allotment.jobs, len(runs))) as (workers, replace):
        while (queue or any(w.running for w in workers)) and not stop.requested:
            for worker in workers:
                if worker.running is None:
                    _give(worker, queue, progress)
            for i, buried in _listen(workers, progress, queue, runs_dir):
                if i is not None:
                    replace(i)
                _mourn(buried, progress, queue, runs_dir, allotment.max_attempts)
            show(progress)
        if stop.requested:
            _wind_down(workers, progress, queue, runs_dir, show)
    return progress


def _give(worker: _Worker, queue: deque[tuple[float, PlannedRun]], progress: Progress) -> None:
    for _ in range(len(queue)):
        earliest, run = queue.popleft()
        if earliest > time.monotonic():
            queue.append((earliest, run))
            continue
        try:
            worker.orders.send((run.config, run.overrides))
        except OSError:  # it has just died; its replacement will be asked
            queue.appendleft((earliest, run))
            return
        worker.running = progress.running[run.run_id] = Running(run, time.monotonic())
        return


def _listen(
    workers: list[_Worker], progress: Progress, queue: deque[tuple[float, PlannedRun]], runs_dir: Path
) -> list[tuple[int | None, _Death]]:
    """Take what workers say, for a quarter of a second or until one has said something.

    Returns:
        The workers that have died; None for one that lives, while a process of its run is dead.
    """
    dead: list[tuple[int | None, _Death]] = []
    speaking: dict[Any, int] = {worker.orders: i for i, worker in enumerate(workers) if not worker.orders.closed}
    for source in wait(list(speaking), timeout=0.25):
        i = speaking[source]
        try:
            kind, *content = workers[i].orders.recv()
        except (EOFError, OSError):  # the process is gone
            dead.append((i, _bury(workers[i], progress)))
            continue
        if kind == "outcome" and content[0] == "died":
            dead.append((None, _Death(_dismiss(workers[i], progress), content[1])))
        else:
            _hear(workers[i], kind, content, progress, queue)
    return dead


def _hear(
    worker: _Worker, kind: str, content: list[Any], progress: Progress, queue: deque[tuple[float, PlannedRun]]
) -> None:
    running = worker.running
    if running is None:
        return
    if kind == "progress":
        running.step, running.total, running.loss = content
    elif content[0] == "busy":
        queue.append((time.monotonic() + BUSY_WAIT, running.run))
        _dismiss(worker, progress)
    else:
        _end(worker, progress, *content)


@dataclass(frozen=True)
class _Death:
    """Of a worker, or of another process of the run it was on."""

    running: Running | None
    error: str


def _bury(worker: _Worker, progress: Progress) -> _Death:
    worker.close()
    worker.process.join(5)
    code = worker.process.exitcode
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return _Death(_dismiss(worker, progress), f"its worker process died ({how})")


def _dismiss(worker: _Worker, progress: Progress) -> Running | None:
    """Take a worker off what it was on."""
    running, worker.running = worker.running, None
    if running is not None:
        progress.running.pop(running.run.run_id, None)
    return running


def _mourn(
    death: _Death, progress: Progress, queue: deque[tuple[float, PlannedRun]] | None, runs_dir: Path, most: int
) -> None:
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


def _end(worker: _Worker, progress: Progress, state: str, error: str | None) -> None:
    running = worker.running
    assert running is not None
    progress.running.pop(running.run.run_id, None)
    progress.ended.append((running.run, state, error, time.monotonic() - running.began))
    worker.running = None


def _wind_down(
    workers: list[_Worker],
    progress: Progress,
    queue: deque[tuple[float, PlannedRun]],
    runs_dir: Path,
    show: Callable[[Progress], None],
) -> None:
    """Ask every worker to checkpoint and leave."""
    for worker in workers:
        worker.ask_to_leave()
    deadline = time.monotonic() + STOP_WAIT
    while any(w.running for w in workers) and time.monotonic() < deadline:
        for _, death in _listen(workers, progress, queue, runs_dir):
            _mourn(death, progress, None, runs_dir, 1)
        show(progress)
