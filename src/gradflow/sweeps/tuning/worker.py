"""One worker process of a search: takes trials, trains their runs, tells the studies.

What a run needs is imported here, once, in the server that workers are forked from.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from gradflow.runs.record import Unreadable
from gradflow.runs.stop import Stop
from gradflow.sweeps.forked import SIGNALS, hear
from gradflow.sweeps.tuning.attempt import Unwritable, attempt
from gradflow.sweeps.tuning.desk import Desk, Task
from gradflow.sweeps.tuning.presence import present
from gradflow.sweeps.tuning.search import read_search

IDLE = 1.0  # seconds between two looks for a trial, where others have them all


def work(orders: Connection, alive: Connection, gpu: str | None, folder: Path, max_attempts: int) -> None:
    """Take trials until every technique has had its budget.

    Messages out: ('began', technique, number), ('progress', step, total, loss), ('ended', technique, number, state,
    value, why, seconds), ('broken', why).

    Args:
        orders: where to.
        alive: never written to; it ends when the search's process does, and then the run under way is checkpointed
            and the worker leaves.
        gpu: the GPUs that its runs see; None leaves that to the environment.
        folder: the sweep's.
        max_attempts: see `Desk`.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # the server that forked this process has not asked for GPUs yet
    os.setsid()  # a terminal's Ctrl-C is for the search, which tells its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    stop = Stop()
    threading.Thread(target=_wait_for_the_end, args=(alive, stop), daemon=True).start()
    with stop.on_signals(*SIGNALS):
        hear()
        try:
            _work(orders, folder, max_attempts, stop)
        except (OSError, Unreadable, Unwritable) as error:
            _send(orders, "broken", str(error))


def _work(orders: Connection, folder: Path, max_attempts: int, stop: Stop) -> None:
    search = read_search(folder)
    assert search is not None
    with present(folder) as name:
        desk = Desk(folder, search, name, max_attempts)
        while not stop.requested and not desk.is_over():
            task = desk.take()
            if task is None:
                _wait(stop)
                continue
            _send(orders, "began", task.technique.name, task.trial.number)
            began = time.monotonic()
            state = attempt(desk, task, stop, lambda step, total, loss: _send(orders, "progress", step, total, loss))
            _send(orders, "ended", task.technique.name, task.trial.number, state, *_told(desk, task), _since(began))


def _told(desk: Desk, task: Task) -> tuple[float | None, str | None]:
    """The value of a trial that has ended, and why it has none."""
    trial = desk.studies[task.technique.name].get_trials(deepcopy=False)[task.trial.number]
    return trial.values[0] if trial.values else None, trial.user_attrs.get("why")


def _since(began: float) -> float:
    return time.monotonic() - began


def _wait(stop: Stop) -> None:
    end = time.monotonic() + IDLE
    while time.monotonic() < end and not stop.requested:
        time.sleep(0.05)


def _send(orders: Connection, *message: object) -> None:
    with suppress(OSError):  # the search's process is gone; `alive` says so too, and the study holds what came of it
        orders.send(message)


def _wait_for_the_end(alive: Connection, stop: Stop) -> None:
    try:
        alive.recv()
    except (EOFError, OSError):
        stop.request()
