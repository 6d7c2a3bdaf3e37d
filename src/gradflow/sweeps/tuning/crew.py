"""The workers of a search on this machine."""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from gradflow.runs.stop import Stop
from gradflow.sweeps.allotment import Allotment
from gradflow.sweeps.forked import STOP_WAIT, crew, start
from gradflow.sweeps.tuning.desk import Tally, tallies
from gradflow.sweeps.tuning.journal import open_studies
from gradflow.sweeps.tuning.search import Search

LOOK = 1.0  # seconds between two looks at what other machines have done
FUTILE = 3  # workers in a row that may die without having begun a trial


class Broken(Exception):
    """What keeps workers from their work, whatever the trial: a disk that is full, a folder that is gone."""


@dataclass
class Doing:
    """What one worker is on."""

    technique: str
    number: int
    step: int = 0
    total: int = 0
    loss: float = float("nan")


@dataclass(frozen=True)
class Ended:
    """One trial that has ended here: 'complete', 'pruned', 'diverged', 'failed', or 'preempted' for a later one."""

    technique: str
    number: int
    state: str
    value: float | None
    why: str | None
    seconds: float


@dataclass
class Progress:
    """The state of a search.

    Attributes:
        trials: of each technique.
        tallies: by technique, of all machines together.
        before: trials that had ended when this process began.
        doing: by worker.
        ended: here, in the order of ending.
        deaths: of workers, a line each.
    """

    trials: int
    tallies: dict[str, Tally]
    before: int
    began: float = field(default_factory=time.monotonic)
    doing: dict[int, Doing] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.trials * len(self.tallies)

    @property
    def done(self) -> int:
        return sum(min(tally.ended, self.trials) for tally in self.tallies.values())


def _begin(orders: Connection, alive: Connection, gpu: str | None, folder: Path, max_attempts: int) -> None:
    """In the worker, whose server has imported this already; the search's own process does without torch."""
    from gradflow.sweeps.tuning.worker import work

    work(orders, alive, gpu, folder, max_attempts)


class _Worker:
    def __init__(self, gpu: str | None, folder: Path, max_attempts: int) -> None:
        self.says, theirs = mp.Pipe(duplex=False)
        alive, self._alive = mp.Pipe(duplex=False)
        self.process = start("gradflow.sweeps.tuning.worker", _begin, theirs, alive, gpu, folder, max_attempts)
        theirs.close()
        alive.close()
        self.began_any = self.is_over = False

    def ask_to_leave(self) -> None:
        """It checkpoints what it is on. No signal: with its server dead, the process would not be known any more."""
        self._alive.close()

    def close(self) -> None:
        self.says.close()
        self._alive.close()


def run_search(
    folder: Path, search: Search, allotment: Allotment, stop: Stop, show: Callable[[Progress], None]
) -> Progress:
    """Make trials in worker processes until every technique has had its budget.

    Workers on other machines may be at the same search. A worker that dies is replaced, and its trial goes on in the
    next one that asks. When `stop` is wished for, runs are checkpointed and their trials left for later.

    Args:
        folder: the sweep's, with the search written down.
        allotment: how many workers there are, and their GPUs.
        show: told about every change, and about four times a second.

    Raises:
        Broken: if no worker can do its work.
    """
    studies = open_studies(folder, search)
    seen = tallies(studies, search)
    progress = Progress(search.trials, seen, sum(tally.ended for tally in seen.values()))
    left = progress.total - progress.done
    if not left:
        return progress
    looked = time.monotonic()

    def hire(i: int) -> _Worker:
        return _Worker(allotment.gpu(i), folder, allotment.max_attempts)

    with crew(hire, min(allotment.jobs, left)) as (workers, replace):
        futile, asked = 0, 0.0
        while any(not worker.is_over for worker in workers):
            if stop.requested and not asked:
                asked = time.monotonic()
                for worker in workers:
                    worker.ask_to_leave()
            if asked and time.monotonic() - asked > STOP_WAIT:
                break
            for i in _listen(workers, progress):
                progress.doing.pop(i, None)
                code = workers[i].process.exitcode
                if code == 0 or asked:
                    continue
                progress.deaths.append(f"a worker process died ({_how(code)}); its trial goes on in the next one")
                futile = 0 if workers[i].began_any else futile + 1
                if futile >= FUTILE:
                    raise Broken(f"worker processes die before their first trial ({_how(code)})")
                replace(i)
            if time.monotonic() - looked > LOOK:
                looked, progress.tallies = time.monotonic(), tallies(studies, search)
            show(progress)
    progress.tallies = tallies(studies, search)
    show(progress)
    return progress


def _how(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _listen(workers: list[_Worker], progress: Progress) -> list[int]:
    """Take what workers say, for a quarter of a second or until one has said something; those that have left."""
    left = []
    speaking: dict[Any, int] = {worker.says: i for i, worker in enumerate(workers) if not worker.is_over}
    for source in wait(list(speaking), timeout=0.25):
        i = speaking[source]
        try:
            kind, *content = workers[i].says.recv()
        except (EOFError, OSError):
            workers[i].is_over = True
            workers[i].process.join(5)
            left.append(i)
            continue
        _hear(i, workers[i], kind, content, progress)
    return left


def _hear(i: int, worker: _Worker, kind: str, content: list[Any], progress: Progress) -> None:
    if kind == "broken":
        raise Broken(content[0])
    if kind == "began":
        worker.began_any = True
        progress.doing[i] = Doing(*content)
    elif kind == "ended":
        progress.doing.pop(i, None)
        progress.ended.append(Ended(*content))
    elif i in progress.doing:
        progress.doing[i].step, progress.doing[i].total, progress.doing[i].loss = content
