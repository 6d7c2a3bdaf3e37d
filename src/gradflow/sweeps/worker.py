"""One worker process: trains one run after another.

What a run needs is imported here, once, in the server that workers are forked from.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from gradflow.runs.config import Config, validate
from gradflow.runs.execute import Outcome, execute
from gradflow.runs.identity import run_id
from gradflow.runs.record import Unreadable, is_locked, load_json
from gradflow.runs.stop import Stop
from gradflow.sweeps.forked import SIGNALS, hear

LOG = "log.txt"  # in a record: what its attempts said, tracebacks included


def work(orders: Connection, alive: Connection, gpu: str | None = None) -> None:
    """Train what comes through `orders` until it closes.

    Messages in: [(config, overrides), …], of several runs where they are trained at once. Messages out: ('progress',
    run id, step, total, loss), ('outcome', run id, state, error). The state of a run of several processes one of which
    was killed is 'died'.

    Args:
        orders: both ways.
        alive: never written to; it ends when the sweep's process does, however it does, and then the run under way
            is checkpointed and the worker leaves.
        gpu: the GPUs that its runs see; None leaves that to the environment.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # the server that forked this process has not asked for GPUs yet
    os.setsid()  # a terminal's Ctrl-C is for the sweep, which tells its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    stop = Stop()
    threading.Thread(target=_wait_for_the_end, args=(alive, stop), daemon=True).start()
    with stop.on_signals(*SIGNALS):
        hear()
        while not stop.requested:
            try:
                jobs = [(validate(config), overrides) for config, overrides in orders.recv()]
            except (EOFError, OSError):
                break
            if len(jobs) > 1:
                _train_pack(jobs, stop, orders)
            else:
                _train(*jobs[0], stop, orders)


def _train(config: Config, overrides: list[str], stop: Stop, orders: Connection) -> None:
    name = run_id(config)
    with logged(config) as path:
        outcome = execute(
            config, overrides, stop, lambda step, total, loss: _send(orders, "progress", name, step, total, loss)
        )
        _say_why(outcome, path)
    _send(orders, "outcome", name, "died" if outcome.died else outcome.state, outcome.error)


def _train_pack(jobs: list[tuple[Config, list[str]]], stop: Stop, orders: Connection) -> None:
    """Of each run what the process says while it is on it goes to the run's own log."""
    from gradflow.runs.packed import train_pack

    with ExitStack() as logs:
        numbers = {run_id(config): logs.enter_context(_log_of(config)) for config, _ in jobs}
        logs.enter_context(_redirected())

        def entering(config: Config) -> None:
            for number in (1, 2):
                os.dup2(numbers[run_id(config)], number)

        def ended(config: Config, outcome: Outcome) -> None:
            _say_why(outcome, Path(config.paths.runs) / outcome.run_id)
            _send(orders, "outcome", outcome.run_id, outcome.state, outcome.error)

        train_pack(jobs, stop, ended, lambda *told: _send(orders, "progress", *told), entering)


def _say_why(outcome: Outcome, path: Path) -> None:
    if outcome.state == "failed":
        with suppress(OSError, Unreadable):
            os.write(2, str((load_json(path / "status.json") or {}).get("error")).encode())


@contextmanager
def _log_of(config: Config) -> Iterator[int]:
    """The number of a run's open log; of nothing where there can be none."""
    log = _open_log(Path(config.paths.runs) / run_id(config))
    number = os.open(os.devnull, os.O_WRONLY) if log is None else log
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def _redirected() -> Iterator[None]:
    """What the process says may go elsewhere until the block ends."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        faulthandler.enable(file=2)
        yield
    finally:
        for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
            with suppress(OSError, ValueError):
                stream.flush()
        for number, before in kept:
            os.dup2(before, number)
            os.close(before)


@contextmanager
def logged(config: Config) -> Iterator[Path]:
    """Send what the process says, down to a crash of native code, to the log of the run's record until the block ends.

    A log that cannot be written is done without. Yields the record's folder.
    """
    path = Path(config.paths.runs) / run_id(config)
    log = _open_log(path)
    if log is None:
        yield path
        return
    with _redirected():
        for number in (1, 2):
            os.dup2(log, number)
        os.close(log)
        yield path


def _open_log(path: Path) -> int | None:
    if is_locked(path):  # another process is on the run, and it is that one's log
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
        log = os.open(path / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        job = os.environ.get("SLURM_JOB_ID")
        where = f"{os.uname().nodename} pid {os.getpid()}" + (f" job {job}" if job else "")
        os.write(log, f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {where}\n".encode())
    except OSError:
        return None
    return log


def _send(orders: Connection, *message: Any) -> None:
    with suppress(OSError):  # the sweep is gone; `alive` says so too, and the record holds the outcome
        orders.send(message)


def _wait_for_the_end(alive: Connection, stop: Stop) -> None:
    try:
        alive.recv()
    except (EOFError, OSError):
        stop.request()
