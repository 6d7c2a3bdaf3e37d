"""The processes of one run on this machine: `train` starts and watches them, `serve` is what each of them does.

They are fresh ones of `python -m gradflow rank`, told by a pipe what to train: no command line, environment or config
file is read a second time, and the process that starts them, a sweep's worker perhaps, stays as it is.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from gradflow.runs.claim import mark_failed
from gradflow.runs.config import Config, validate
from gradflow.runs.execute import OnProgress, Outcome, attempt
from gradflow.runs.hardware import device_of
from gradflow.runs.identity import run_id
from gradflow.runs.lockstep import Judge
from gradflow.runs.ranks import processes
from gradflow.runs.record import Unreadable, is_done
from gradflow.runs.stop import Stop
from gradflow.runs.together import joined

HERE = "127.0.0.1"
GRACE = 30.0  # seconds that the others have to write what they must once one has ended
LAST_LINES = 5
ENDED = ("completed", "diverged", "done", "busy", "pruned", "preempted")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # those of `Stop`


@dataclass(frozen=True)
class Order:
    """What a rank is told first. `port` is that of the store in which all meet."""

    config: dict[str, Any]
    overrides: list[str]
    rank: int
    world: int
    port: int
    judged: bool


# --- the process that was asked for the run ---------------------------------------------------------------------


class _Rank:
    """One process, whose output is appended to a file of the record.

    Messages to it: an `Order`, then ('stop', signal), ('verdict', bool or a traceback). Messages from it:
    ('progress', step, total, loss), ('judge', step, figures), ('outcome', Outcome). The pipe's end tells it that
    nobody watches any more.
    """

    def __init__(self, order: Order, log: Path) -> None:
        self.outcome: Outcome | None = None
        self.number, self._log = order.rank, log
        self.pipe, theirs = Pipe()
        with open(log, "ab") as file, _signals_held():
            self._begin = file.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gradflow", "rank", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=_environment(order.config["hardware"]["threads"]),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's Ctrl-C is for whoever was asked for the run
            )
        theirs.close()
        self.tell(order)

    def tell(self, message: object) -> None:
        with suppress(OSError):  # it is gone
            self.pipe.send(message)

    @property
    def ended(self) -> bool:
        return self.outcome is not None or self.process.poll() is not None

    @property
    def died(self) -> bool:
        return self.outcome is None and self.process.poll() is not None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()

    def how(self) -> str:
        code = self.process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def last_lines(self) -> list[str]:
        """Of what it has said."""
        with open(self._log, "rb") as file:
            file.seek(self._begin)
            return file.read()[-20_000:].decode(errors="replace").strip().splitlines()[-LAST_LINES:]


def train(
    config: Config, overrides: list[str], stop: Stop, on_progress: OnProgress | None, judge: Judge | None
) -> Outcome:
    """Train a run in `trainer.devices` processes on this machine. Never raises; see `execute`."""
    name, world, began = run_id(config), processes(config), time.monotonic()
    path = Path(config.paths.runs) / name
    if is_done(path):
        return Outcome(name, "done")
    ranks: list[_Rank] = []
    try:
        store = TCPStore(HERE, 0, None, is_master=True, wait_for_workers=False)
        path.mkdir(parents=True, exist_ok=True)
        for rank in range(world):
            order = Order(config.model_dump(), overrides, rank, world, store.port, judge is not None)
            ranks.append(_Rank(order, path / ("log.txt" if rank == 0 else f"log-rank-{rank}.txt")))
        _watch(ranks, stop, on_progress, judge)
        died = [rank for rank in ranks if rank.died]
    except OSError as fault:
        error = f"{path}: {fault.strerror or fault}"
        return Outcome(name, "failed", error, time.monotonic() - began, recorded=False)
    finally:
        for each in ranks:
            each.end()
    return _outcome(path, ranks, died, time.monotonic() - began)


def _watch(ranks: list[_Rank], stop: Stop, on_progress: OnProgress | None, judge: Judge | None) -> None:
    """Until all have ended; once one has, the others have a while to follow."""
    told, deadline = False, float("inf")
    while any(rank.process.poll() is None for rank in ranks) and time.monotonic() < deadline:
        _hear(ranks, 0.25, on_progress, judge)
        if stop.requested and not told:
            told = True
            for rank in ranks:
                rank.tell(("stop", stop.signal))
        if deadline == float("inf") and any(rank.ended for rank in ranks):
            deadline = time.monotonic() + GRACE
    while _hear(ranks, 0.0, on_progress, judge):
        pass  # what they said last


def _hear(ranks: list[_Rank], seconds: float, on_progress: OnProgress | None, judge: Judge | None) -> bool:
    """Take a message of each process that has one; whether there was any."""
    speaking = {rank.pipe: rank for rank in ranks if not rank.pipe.closed}
    if not speaking:
        time.sleep(seconds)
        return False
    heard = False
    for pipe in wait(list(speaking), seconds):
        rank = speaking[pipe]  # type: ignore[index]
        try:
            kind, *content = rank.pipe.recv()
        except (EOFError, OSError):
            rank.pipe.close()
            continue
        heard = True
        if kind == "outcome":
            (rank.outcome,) = content
        elif kind == "progress" and on_progress is not None:
            on_progress(*content)
        elif kind == "judge" and judge is not None:
            rank.tell(("verdict", _asked(judge, *content)))
    return heard


def _asked(judge: Judge, step: int, figures: dict[str, float]) -> bool | str:
    """The verdict; the traceback of a judge that fails, which is then the run's."""
    try:
        return judge(step, figures)
    except Exception as fault:  # noqa: BLE001 - it must not leave processes without an answer
        return "".join(traceback.format_exception(fault))


def _outcome(path: Path, ranks: list[_Rank], died: list[_Rank], seconds: float) -> Outcome:
    """What rank 0 says, unless one has died, or rank 0 had to be ended."""
    leader = ranks[0].outcome
    if leader is not None and (leader.state in ENDED or not died):
        return Outcome(leader.run_id, leader.state, leader.error, seconds, leader.recorded)
    if died:
        lines = died[0].last_lines()
        error = f"rank {died[0].number} of {len(ranks)} died ({died[0].how()})" + (f": {lines[-1]}" if lines else "")
        text = "\n".join([*lines, error])
    else:
        said = [f"rank {rank.number}: {rank.outcome.error}" for rank in ranks if rank.outcome and rank.outcome.error]
        text = error = said[0] if said else f"rank 0 of {len(ranks)} did not end, and was ended"
    with suppress(OSError, Unreadable):  # where the record cannot be written, the outcome still tells
        mark_failed(path, text)
    recorded = (path / "status.json").exists()
    return Outcome(path.name, "failed", error, seconds, recorded, died=bool(died))


def _environment(threads: int) -> dict[str, str]:
    """This process's, with the folders in which it finds modules: a `_target_` may be in any of them."""
    folders = dict.fromkeys(folder or os.getcwd() for folder in sys.path)
    return {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": os.pathsep.join(folders)}


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process started inside has signals wait until it says that it can take them: a stop that comes while it still
    imports must not kill it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- one of the processes ---------------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Train one's share of what the pipe says, and tell how it ended."""
    pipe: Connection[Any, Any] = Connection(descriptor)
    order: Order = pipe.recv()
    stop, verdicts = Stop(), queue.SimpleQueue[bool | str]()
    threading.Thread(target=_listen, args=(pipe, stop, verdicts), daemon=True).start()

    def tell(*message: Any) -> None:
        with suppress(OSError):  # nobody watches; the record holds the outcome
            pipe.send(message)

    def judge(step: int, figures: dict[str, float]) -> bool:
        tell("judge", step, figures)
        verdict = verdicts.get()
        if isinstance(verdict, str):
            raise RuntimeError(verdict)
        return verdict

    with stop.on_signals():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        config = validate(order.config)
        store = TCPStore(HERE, order.port, None, is_master=False)
        on_gpus = device_of(config.hardware) == "cuda"
        with joined(store, order.rank, order.world, order.rank, on_gpus) as together:
            progress = (lambda *figures: tell("progress", *figures)) if together.leads else None
            asked = judge if together.leads and order.judged else None
            tell("outcome", attempt(config, order.overrides, stop, progress, asked, together))


def _listen(pipe: Connection[Any, Any], stop: Stop, verdicts: queue.SimpleQueue[bool | str]) -> None:
    """Pass on what comes until it ends, which is a wish to stop too: whoever wanted the run is gone."""
    try:
        while True:
            kind, value = pipe.recv()
            if kind == "stop":
                stop.request(value)
            else:
                verdicts.put(value)
    except (EOFError, OSError):
        stop.request()
        verdicts.put(False)
