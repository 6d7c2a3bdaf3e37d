"""One writer per run, on one machine or on several that share a file system.

A writer holds the run's file lock, which the kernel lets go of when the process dies, and has its name in `.owner`.
Where file locks do not reach other machines (some NFS mounts, Lustre without `flock`), a run whose owner is elsewhere
and whose heartbeat is fresh is left alone. An owner that was taken for dead, and was only asleep, sees at its next
write that the run is not its own any more; and a result is committed by a hard link, which one of two writers can make.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gradflow.runs.record import STALE_AFTER, Unreadable, encoded, is_done, load_json, write_bytes, write_json

OWNER = ".owner"
PATIENCE = 20  # twentieths of a second to wait for a lock: `record.is_locked` holds it for an instant
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Lost(Exception):
    """Another process has taken the run over."""


class Claim:
    """The right to write a run's record. Made by `claim`."""

    def __init__(self, path: Path) -> None:
        self.path, self.token = path, uuid.uuid4().hex
        name = {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token}
        write_bytes(path / OWNER, json.dumps(name).encode())

    def check(self) -> None:
        """Raises `Lost` once another process has the run."""
        if _owner(self.path).get("token") != self.token:
            raise Lost(f"{self.path}: another process has taken this run over")

    def commit(self, file: Path, values: dict[str, Any]) -> bool:
        """Write a JSON object that is not there yet; False where another process has written it first."""
        self.check()
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        os.close(handle)
        try:
            write_bytes(Path(temporary), encoded(values))
            try:
                os.link(temporary, file)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                os.replace(temporary, file)
        finally:
            Path(temporary).unlink(missing_ok=True)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def release(self) -> None:
        with suppress(Lost, OSError):
            self.check()
            (self.path / OWNER).unlink()


@contextmanager
def claim(path: Path) -> Iterator[Claim | None]:
    """Become a run's writer; yields None if another process is.

    Raises:
        OSError: if the record cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "a+") as file:
        if not _lock(file) or _is_alive_elsewhere(path, file):
            yield None
            return
        mine = Claim(path)
        try:
            yield mine
        finally:
            mine.release()


def mark_failed(path: Path, error: str) -> None:
    """Say that a run's process died, unless somebody else is on it already or it has ended."""
    with claim(path) as mine:
        if mine is not None and not is_done(path):
            status = load_json(path / "status.json")
            if status is not None:
                write_json(path / "status.json", {**status, "state": "failed", "error": error})


def _lock(file: IO[str]) -> bool:
    for _ in range(PATIENCE):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return True  # the owner's name and heartbeat decide
    return False


def _is_alive_elsewhere(path: Path, lock: IO[str]) -> bool:
    """Whether an owner on another machine has been heard of lately. Times are the file system's own, so that the clocks
    of machines need not agree."""
    owner = _owner(path)
    if not owner or owner.get("host") == socket.gethostname():
        return False
    os.utime(lock.fileno())
    try:
        silent_for = os.fstat(lock.fileno()).st_mtime - (path / "status.json").stat().st_mtime
        status = load_json(path / "status.json")
    except (FileNotFoundError, Unreadable):
        return False
    return status is not None and status.get("state") == "running" and abs(silent_for) < STALE_AFTER


def _owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads((path / OWNER).read_text())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}
