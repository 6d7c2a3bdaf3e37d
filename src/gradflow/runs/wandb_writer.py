"""The process that speaks with Weights & Biases, so that no run ever waits for it.

A training process starts it (`gradflow.runs.wandb_logger`) and writes pickled lists of messages to its standard input:
`(method, *arguments)` of `Writing`. It answers each 'close' with a line of JSON on its standard output, and ends with
its input: when the training process is gone, however it went. Imports neither torch nor Lightning.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.runs import wandb_keys as keys
from gradflow.runs.wandb_agent import agent_run, parameters, without
from gradflow.runs.wandb_file import attempts, held, wandb_id
from gradflow.runs.wandb_history import HeatMap, Histogram, History
from gradflow.runs.wandb_marks import Destination, mark_as_uploaded

ONLINE_START = 20.0  # seconds in which a server must have answered, or the run is logged offline
TRIES = 90  # half a second apart, to log offline instead
SENDING, ASKING = 0.6, 0.2  # shares of the time that the end may take: for sending the rest, for asking what arrived
FLUSH = "x_transaction_log_flush_interval"  # wandb drops what it has not written when it is killed: a second's worth


class Writing:
    """One W&B run, from 'open' to 'close'. Its methods are the messages; what goes wrong in one ends the logging of the
    run, and is told in the answer to 'close'."""

    def __init__(self) -> None:
        self._run: Any = None
        self._trouble: str | None = None
        self._reachable = True  # until a server was waited for in vain: later runs are not to wait as well
        self._layouts: dict[int, tuple[list[tuple[str, int | None, str]], float]] = {}

    def open(self, path: str, keywords: dict[str, Any], pictures: int, wait: float) -> None:
        """Begin an attempt.

        Args:
            path: of the record.
            keywords: of `wandb.init`.
            pictures: see `History`.
            wait: seconds that the end may take.
        """
        self._run = self._trouble = None
        self._wait = wait
        self._layouts.clear()
        self._history, self._skip, self._last = History(pictures), -1, -1
        self._path = Path(path)
        agent = agent_run()
        self._id = agent or keywords["id"]  # which is W&B's own rule
        keywords["config"] = without(parameters() if agent else [], keywords["config"])
        earlier = _files(self._path, self._id)
        last = held(earlier).last
        earlier = earlier if last >= 0 else []  # W&B has nothing of them to go on from
        # W&B takes an attempt that may resume for the continuation of what it has, and any other for the whole: so a
        # first attempt that has arrived in part is put in its place when it is sent again.
        keywords |= {"dir": path, "resume": "allow" if earlier else None}
        self._run = self._started(keywords)
        if self._run.offline:
            self._skip = last
        elif self._run.resumed:
            self._skip = self._run.starting_step - 1
        else:  # nothing of them has arrived, and this one has it all
            _mark(earlier, self._run)
        self._run.summary.update({keys.STATE: "running"})

    def figure(self, step: int, named: dict[str, float]) -> None:
        self._history.figure(step, named)

    def layout(self, number: int, rows: list[tuple[str, int | None, str]], absent: float) -> None:
        """What the values of a measurement are about; `absent` stands for one that is not there."""
        self._layouts[number] = rows, absent

    def values(self, number: int, step: int, values: np.ndarray) -> None:
        rows, absent = self._layouts[number]
        for row, value in zip(rows, values.tolist(), strict=True):
            if value != absent:
                self._history.measured(step, row, value)

    def through_time(self, rows: list[dict[str, Any]]) -> None:
        self._history.through_time(rows)

    def recorded(self, metrics: list[dict[str, Any]], gradflow: list[dict[str, Any]]) -> None:
        self._history.recorded(metrics, gradflow)

    def reached(self, steps: float, done: float) -> None:
        """Everything of the steps below `steps` is here; `done` is the share of the run."""
        for step, row in self._history.rows(steps, done):
            if step > self._skip:
                self._run.log({key: _shown(value) for key, value in row.items()}, step=step)
                self._last = step

    def close(self, exit_code: int, summary: dict[str, Any]) -> dict[str, Any]:
        """End the run. The answer says whether everything has arrived ('arrived', where it was sent at all), and what
        went wrong, in a line ('trouble')."""
        arrived = None
        if self._run is not None:
            run, self._run = self._run, None
            run.summary.update(summary)
            run.finish(exit_code=exit_code)
            if not run.offline:
                arrived = self._trouble is None and _has_arrived(run.path, summary, self._last, self._wait)
                if arrived:  # with what earlier attempts had not sent
                    _mark(_files(self._path, self._id), run)
        return {"arrived": arrived, "trouble": self._trouble}

    def give_up(self, error: Exception) -> None:
        said = str(error).strip().splitlines()
        self._trouble = f"{type(error).__name__}: {said[0] if said else ''}"[:300]

    @property
    def is_lost(self) -> bool:
        return self._trouble is not None

    def _started(self, keywords: dict[str, Any]) -> Any:
        import wandb

        quiet = {"console": "off", "silent": True, "save_code": False, "disable_git": True, "disable_code": True}
        # What the machine does all day is not what a run showed, and asking costs time. The environment's facts are in
        # the summary.
        light = {"x_disable_stats": True, "x_disable_meta": True, "x_save_requirements": False}
        own = {name: value for name, value in {**light, FLUSH: 1.0}.items() if name in wandb.Settings.model_fields}
        made: dict[str, Any] = {**quiet, **own}
        if not self._reachable:
            keywords["mode"] = "offline"
        if keywords["mode"] == "online":
            made |= {"init_timeout": ONLINE_START, "finish_timeout": SENDING * self._wait}
        before = set(Path(keywords["dir"]).glob("wandb/run-*"))
        try:
            return wandb.init(**keywords, settings=wandb.Settings(**made))
        except Exception:  # whatever keeps W&B's server away, the run goes on and is kept on disk
            if keywords["mode"] != "online":
                raise
            self._reachable = False
        offline = {**keywords, "mode": "offline"}
        settings = wandb.Settings(**{**made, "finish_timeout": 0.0})
        for left in reversed(range(TRIES)):
            wandb.teardown()  # which still holds the id, and may do so for a while
            for empty in set(Path(keywords["dir"]).glob("wandb/run-*")) - before:
                shutil.rmtree(empty)
            try:
                return wandb.init(**offline, settings=settings)
            except Exception as error:
                if not left or "in use" not in str(error):
                    raise
                time.sleep(0.5)
        raise AssertionError("the last try returns or raises")


def _files(path: Path, name: str) -> list[Path]:
    """Those of all attempts of a W&B run."""
    return [file for file in attempts(path) if wandb_id(file) == name]


def _mark(files: Iterable[Path], run: Any) -> None:
    """Say of files that a run which is logged online has arrived with what they hold."""
    for file in files:
        mark_as_uploaded(file, Destination(str(run.settings.base_url).rstrip("/"), run.entity, run.project))


def _shown(value: Any) -> Any:
    """A number as it is, a picture as wandb's own."""
    import wandb

    if isinstance(value, HeatMap):
        from gradflow.runs.wandb_images import caption, draw

        return wandb.Image(draw(value), caption=caption(value))
    if isinstance(value, Histogram):
        return wandb.Histogram(np_histogram=(value.counts, value.edges))
    return value


def _has_arrived(path: str, summary: dict[str, Any], last: int, wait: float) -> bool:
    """Whether the server, asked anew, knows how the run ended, and its last row."""
    import wandb

    try:
        found: Any = wandb.Api(timeout=max(1, int(ASKING * wait))).run(path)
        return bool(found.summary.get(keys.STATE) == summary.get(keys.STATE) and found.lastHistoryStep >= last)
    except Exception:  # noqa: BLE001 - whatever keeps it from answering, it has not said so
        return False


def main(messages: Any, answers: Any) -> None:
    """Do what the messages say until they end."""
    writing = Writing()
    while True:
        try:
            portion: Sequence[tuple[Any, ...]] = pickle.load(messages)
        except (EOFError, pickle.UnpicklingError, ConnectionError):  # whoever sent them is gone
            with contextlib.suppress(Exception):
                writing.close(1, {})
            return
        for method, *arguments in portion:
            if writing.is_lost and method not in ("open", "close"):
                continue
            answer: dict[str, Any] | None = None
            try:
                answer = getattr(writing, method)(*arguments)
            except Exception as error:  # noqa: BLE001 - W&B's fault must not keep a run from ending
                writing.give_up(error)
                answer = {"arrived": False, "trouble": writing._trouble} if method == "close" else None
            if answer is not None:
                answers.write(json.dumps(answer).encode() + b"\n")
                answers.flush()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the run, with which this process ends
    sys.modules["pandas"] = None  # type: ignore[assignment] # wandb would import it, to see that pictures are no tables
    os.environ.pop("WANDB_SERVICE", None)  # of a process that uses wandb itself: that service may hold ids of ours
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    main(os.fdopen(0, "rb"), replies)
