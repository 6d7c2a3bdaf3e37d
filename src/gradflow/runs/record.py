"""What a run leaves on disk. The record is the truth; everything shown elsewhere is a view of it.

This module needs neither torch nor Lightning. `result.json` is written last and its presence is the commit.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
STATES = ("completed", "diverged", "running", "preempted", "failed", "pruned")
STALE_AFTER = 120.0  # seconds without a heartbeat
RESULT = ("labels", "metrics", "metric", "steps", "verdict", "cost")  # what a table needs
DONE = ("completed", "diverged")  # a diverged run is a result


@dataclass(frozen=True)
class Record:
    """One run's record as read back.

    Attributes:
        state: one of `STATES`, or 'stale' if it says running but nobody has touched it for long, or holds its lock.
        labels: one word or number per choice, from `gradflow.runs.identity.labels`.
        result: what `result.json` holds, once the run is done.
    """

    run_id: str
    path: Path
    state: str
    status: dict[str, Any]
    labels: dict[str, Any]
    result: dict[str, Any] | None = None

    @property
    def imported(self) -> bool:
        """Whether it was made from a W&B run, which has not all that a run leaves."""
        return bool(self.status.get("imported"))


@dataclass
class Found:
    """Records of a folder, and what could not be read: one line each, by name."""

    records: dict[str, Record] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Unreadable(Exception):
    """A file of a record that is truncated, alien or from a newer gradflow."""


def read_all(runs: Path, run_ids: list[str] | None = None) -> Found:
    """The records below `runs`, or those of the ids given, that are there."""
    found = Found()
    if run_ids is None:
        run_ids = sorted(entry.name for entry in os.scandir(runs) if entry.is_dir() and not entry.name.startswith("."))
    for run_id in run_ids:
        try:
            record = read(runs / run_id)
        except Unreadable as error:
            found.problems.append(str(error))
        else:
            if record is not None:
                found.records[run_id] = record
    return found


def read(path: Path) -> Record | None:
    """One run's record; None if there is none.

    Raises:
        Unreadable: naming the file and what is wrong with it.
    """
    status = load_json(path / "status.json")
    if status is None:
        if (path / "result.json").exists():
            raise Unreadable(f"{path / 'status.json'}: missing, though the run has a result; skipped")
        return None
    result = load_json(path / "result.json")
    state = status.get("state")
    if state not in STATES or not isinstance(status.get("labels"), dict):
        raise Unreadable(f"{path / 'status.json'}: not a gradflow status; skipped")
    if result is not None:
        same = result.get("run_id") == status.get("run_id") and result.get("state") in DONE
        if not same or not all(key in result for key in RESULT):
            raise Unreadable(f"{path / 'result.json'}: not the result of this run; skipped")
        state = result["state"]
    elif state in DONE:
        raise Unreadable(f"{path / 'result.json'}: missing, though the run is {state}; skipped")
    elif state == "running" and _is_stale(path, status):
        state = "stale"
    return Record(str(status.get("run_id")), path, state, status, status["labels"], result)


def is_done(path: Path) -> bool:
    """Whether a run has a result that can be read."""
    try:
        record = read(path)
    except Unreadable:
        return False
    return record is not None and record.state in DONE


def _is_stale(path: Path, status: dict[str, Any]) -> bool:
    if status.get("host") == socket.gethostname():
        return not is_locked(path)
    heartbeat = status.get("heartbeat")
    return not isinstance(heartbeat, int | float) or time.time() - heartbeat > STALE_AFTER


def load_json(file: Path) -> dict[str, Any] | None:
    """A JSON object that says its format, or None if the file is not there."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{file}: cannot be read ({error}); skipped") from None
    try:
        values = json.loads(text)
    except ValueError:
        raise Unreadable(f"{file}: truncated or not JSON; skipped") from None
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise Unreadable(f"{file}: not a gradflow file; skipped")
    if values["format"] > FORMAT:
        raise Unreadable(
            f"{file}: written by a newer gradflow (format {values['format']}, this one reads {FORMAT}); skipped"
        )
    return values


# --- writing --------------------------------------------------------------------------------------------------


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write a JSON object, with its format, in one piece."""
    write_bytes(file, encoded(values))


def encoded(values: dict[str, Any]) -> bytes:
    """A JSON object with its format, as it is kept in a file."""
    text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file so that a reader, at any moment and after a crash, sees the old content or the new."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, file)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(file)  # a full disk names no file
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_locked(path: Path) -> bool:
    """Whether some process is working on a run at this moment."""
    try:
        with open(path / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False
