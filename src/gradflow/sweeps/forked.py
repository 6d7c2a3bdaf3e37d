"""Starting workers: forked from a server that has imported what a run needs, once."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# gradflow.lightning first, since it is quick; then what most tasks read their data with
PRELOADED = ("gradflow.lightning", "sklearn.datasets", "sklearn.model_selection")
STOP_WAIT = 60.0  # seconds for workers to reach a step boundary and checkpoint


class Closable(Protocol):
    """A worker as its pool sees it."""

    process: BaseProcess

    def close(self) -> None:
        """Close its pipes, by which it is asked to leave."""


W = TypeVar("W", bound=Closable)


@contextmanager
def crew(hire: Callable[[int], W], count: int) -> Iterator[tuple[list[W], Callable[[int], None]]]:
    """Workers, and what puts a new one in the place of one that has died; all have left when the block ends.

    Args:
        hire: starts worker number i.
    """
    workers = [hire(i) for i in range(count)]

    def replace(i: int) -> None:
        workers[i].close()
        workers[i] = hire(i)

    try:
        yield workers, replace
    except KeyboardInterrupt:  # the second Ctrl-C: at once
        for worker in workers:
            worker.process.kill()
        raise
    finally:
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.process.join(STOP_WAIT)
            if worker.process.is_alive():
                worker.process.kill()


def warm(preload: str) -> None:
    """Start the server that workers are forked from, which imports what they need while this process does other things.

    A scheduler sends its signals to every process of a job. The server, and a worker before it calls `hear`, have them
    wait: a server that died of one while it still imports would take the whole task down with it.

    Args:
        preload: the module that the server imports.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.get_context("forkserver").set_forkserver_preload([*PRELOADED, preload])
    resource_tracker.ensure_running()  # where it does not run yet, this unblocks SIGTERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()  # inherits what is blocked, and hands it on
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(preload: str, target: Callable[..., None], *args: Any) -> BaseProcess:
    """A process that runs `target(*args)`, forked from the server of `warm`.

    Args:
        preload: see `warm`; of a server that runs already it is not asked.
        target: from a module that is quick to import, since this process imports it too.
    """
    warm(preload)
    process = mp.get_context("forkserver").Process(target=target, args=args)
    process.start()
    return process


def hear() -> None:
    """Let a worker's signals through, once it has handlers for them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
