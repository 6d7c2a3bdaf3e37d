"""Weights & Biases: one W&B run per gradflow run, under the same id. What it is shown: `gradflow.runs.wandb_keys`.

A run never waits for W&B while it trains. wandb's own `log` costs half a millisecond and more, which is a step of a
small network, and a server that does not answer costs as long as it likes; so a process of its own speaks with W&B
(`gradflow.runs.wandb_writer`), and here numbers are only put in line for it. A worker that trains many runs keeps that
process. The end of a run waits for it `logger.wait_seconds` at most; then it is dismissed.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import pickle
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow.runs.config import Config
from gradflow.runs.identity import labels, run_id, title
from gradflow.runs.record import DONE
from gradflow.runs.wandb_history import SUMMARIES
from gradflow.runs.wandb_keys import STATE, config_key

if TYPE_CHECKING:
    from gradflow.instruments.flow import Measurement
    from gradflow.runs.series import Series

DIED = "the process that speaks with W&B has died"
TOGETHER = 0.25  # seconds for which numbers are collected and then sent at once
_say = logging.getLogger("gradflow")
_writer: _Writer | None = None
# of this run: those of a pack are greenlets, each with a context of its own
_open: ContextVar[WandbLog | None] = ContextVar("open", default=None)
_many: ContextVar[bool] = ContextVar("many", default=False)


class WandbLog:
    """What a run tells W&B. Each method returns at once.

    Args:
        writer: the process that does it.
        config: of the run.
        path: its record.
        mode: 'offline' or 'online'.
        name: the W&B run's id; None for the run id.
        wait: seconds that the end may take; None for the config's.
    """

    def __init__(
        self,
        writer: _Writer | _Later,
        config: Config,
        path: Path,
        mode: str,
        name: str | None = None,
        wait: float | None = None,
    ) -> None:
        self._writer, self._path, self._mode = writer, path, mode
        self._wait = config.logger.wait_seconds if wait is None else wait
        self._layouts: dict[int, tuple[int, Any]] = {}
        self._summary: dict[str, Any] = {}
        self._news = False
        flat = labels(config)
        keywords = {
            "name": title(flat),
            "id": name or run_id(config),
            "mode": mode,
            "project": config.logger.project,
            "entity": config.logger.entity,
            "group": config.logger.group,
            "tags": config.logger.tags,
            "config": {config_key(label): value for label, value in flat.items()},
        }
        (path / "wandb").mkdir(exist_ok=True)  # says that there is something to upload, whatever W&B's client does
        writer.put("open", str(path), keywords, config.logger.images, self._wait)

    def figure(self, step: int, named: dict[str, float]) -> None:
        """Losses and metrics, '<split>/<name>', that were made after so many steps."""
        self._writer.put("figure", step, named)
        self._news = True

    def measured(self, measurement: Measurement) -> None:
        """An instrument's numbers. What they are about, which is the same list at each step, is sent once."""
        known = self._layouts.get(id(measurement.rows))
        if known is None:
            from gradflow.instruments.instrument import ABSENT

            known = self._layouts[id(measurement.rows)] = len(self._layouts), measurement.rows
            plain = [(row.name, row.block, row.quantity) for row in measurement.rows]
            self._writer.put("layout", known[0], plain, ABSENT)
        self._writer.put("values", known[0], measurement.step, measurement.values)
        self._news = True

    def through_time(self, rows: Iterable[dict[str, Any]]) -> None:
        """Rows of the time axis, as they are in gradflow.parquet."""
        shown = [row for row in rows if row["quantity"].startswith(("time_grad", *SUMMARIES))]
        if shown:
            self._writer.put("through_time", shown)
            self._news = True

    def recorded(self, metrics: Series, gradflow: Series) -> None:
        """What earlier attempts have left in the record: W&B gets of it what it has not, and none of it twice."""
        if len(metrics.table()) or len(gradflow.table()):
            self._writer.put("recorded", metrics.table().to_pylist(), gradflow.table().to_pylist())

    def reached(self, steps: int, total: int) -> None:
        """All that belongs to steps before this one is here."""
        if self._news:
            self._news = False
            self._writer.put("reached", steps, min(steps, total - 1) / total)  # the whole is done at the end

    def summarize(self, flat: dict[str, Any]) -> None:
        self._summary |= flat

    def all_is_here(self, state: str) -> None:
        """Nothing more will come, not even to the last step."""
        self._writer.put("reached", float("inf"), 1.0 if state in DONE else 0.0)

    def close(self, state: str) -> str | None:
        """End the W&B run, and wait for that, but not long. What is lost or late is the line that this gives.

        What W&B is shown of a run that was stopped ends before the step at which it goes on, of which the rest is still
        to come.
        """
        if state in (*DONE, "failed", "pruned"):
            self.all_is_here(state)
        answer = self._writer.ask(self._wait, "close", 0 if state in DONE else 1, {STATE: state, **self._summary})
        again = f"'gradflow wandb-sync {self._path}' uploads it; the record is whole"
        if answer is None:
            dismiss()
            return f"W&B did not end {self._path.name} within {self._wait:g} s: {again}"
        if answer["trouble"]:
            return f"W&B failed in run {self._path.name} ({answer['trouble']}): {again}"
        if self._mode == "online" and not answer["arrived"]:
            return f"not all of {self._path.name} has arrived at W&B: {again}"
        return None


def make_logger(config: Config, path: Path) -> WandbLog | None:
    """The log of a run, its files in the record's `wandb/`; None where `logger.mode` is 'disabled'.

    Offline needs no account and sends nothing. The W&B run has the run id, so that one that goes on after a kill is
    the same W&B run.
    """
    if config.logger.mode == "disabled":
        return None
    log = WandbLog(_Later() if _many.get() else the_writer(), config, path, config.logger.mode)
    _open.set(log)
    return log


@contextmanager
def many_at_once() -> Iterator[None]:
    """Of runs that are under way beside others of this process: the process that speaks with W&B has one at a time, and
    so gets all of a run at its end. What a kill takes with it, the record holds."""
    before = _many.set(True)
    try:
        yield
    finally:
        _many.reset(before)


def finish(state: str) -> None:
    """Close the W&B run, if one is open, so that the next run of this process gets its own."""
    log = _open.get()
    _open.set(None)
    fault = None if log is None else log.close(state)
    if fault is not None:
        _say.warning("%s", fault)


def dismiss() -> None:
    """End the process that speaks with W&B, if there is one; the next run gets another."""
    global _writer
    writer, _writer = _writer, None
    if writer is not None and writer.pid == os.getpid():
        writer.end()


def the_writer() -> _Writer:
    """The process that speaks with W&B for this one: not for the process that it was forked from, nor one that has
    ended."""
    global _writer
    if _writer is None or not _writer.is_usable():
        dismiss()
        _writer = _Writer()
        atexit.register(_writer.leave)
    return _writer


class _Later:
    """In place of `_Writer`: keeps what it is told until the run ends."""

    def __init__(self) -> None:
        self._messages: list[tuple[Any, ...]] = []

    def put(self, *message: Any) -> None:
        self._messages.append(message)

    def ask(self, wait: float, *message: Any) -> dict[str, Any] | None:
        writer = the_writer()
        for each in self._messages:
            writer.put(*each)
        return writer.ask(wait, *message)


class _Writer:
    """This end of the line to `gradflow.runs.wandb_writer`; what is put in line is sent by a thread."""

    def __init__(self) -> None:
        self.pid, self._environment = os.getpid(), _settings()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gradflow.runs.wandb_writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is meant for the run
        )
        self._line: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def is_usable(self) -> bool:
        return self.pid == os.getpid() and self._process.poll() is None and self._environment == _settings()

    def put(self, *message: Any) -> None:
        self._line.put(message)

    def ask(self, wait: float, *message: Any) -> dict[str, Any] | None:
        """The answer to a message, which is trouble if the process has died; None if there is none in so many
        seconds."""
        self.put(*message)
        self._hurry.set()
        assert self._process.stdout is not None
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self._process.stdout], [], [], min(left, 1.0))
            if readable:
                line = self._process.stdout.readline()
                return json.loads(line) if line else {"arrived": False, "trouble": DIED}
        return None

    def leave(self) -> None:
        """Let it end by itself."""
        if self.pid == os.getpid():
            self._line.put(("leave",))
            self._hurry.set()
            self._thread.join(1.0)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.leave()

    def _send(self) -> None:
        assert self._process.stdin is not None
        leaving = False
        with suppress(OSError), self._process.stdin as pipe:
            while not leaving:
                portion = [self._line.get()]
                self._hurry.wait(TOGETHER)
                self._hurry.clear()
                while not self._line.empty():
                    portion.append(self._line.get())
                leaving = any(message[0] == "leave" for message in portion)
                pickle.dump([message for message in portion if message[0] != "leave"], pipe, pickle.HIGHEST_PROTOCOL)
                pipe.flush()


def _settings() -> dict[str, str]:
    """What of the environment decides where W&B sends what, and as whom."""
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_") or name in ("HOME", "NETRC")}
