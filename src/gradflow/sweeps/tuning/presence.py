"""Signs of life of the workers of a search, by which others tell a trial that is under way from an abandoned one."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradflow.runs.record import STALE_AFTER
from gradflow.sweeps.tuning.search import FOLDER

BEAT = 10.0  # seconds between two signs


@contextmanager
def present(folder: Path) -> Iterator[str]:
    """Be a worker of the search in a sweep's folder until the block ends; yields its name.

    Its file is locked, which the kernel ends when the process dies, and touched now and then for other machines, to
    which a lock may not reach.
    """
    name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    file = _file(folder, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    with open(file, "w") as held:
        with suppress(OSError):  # no locks on this file system: the touches must do
            fcntl.flock(held, fcntl.LOCK_EX)
        threading.Thread(target=_beat, args=(file, over), daemon=True).start()
        try:
            yield name
        finally:
            over.set()
            file.unlink(missing_ok=True)


def is_alive(folder: Path, name: str) -> bool:
    """Whether a worker of that name is at work."""
    file = _file(folder, name)
    try:
        with open(file) as held:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                pass
            else:
                if name.partition(":")[0] == socket.gethostname():
                    return False
            return _silent_for(file) < STALE_AFTER
    except FileNotFoundError:
        return False


def _silent_for(file: Path) -> float:
    """Seconds, by the file system's own clock: those of machines need not agree."""
    clock = file.with_name(".clock")
    clock.touch()
    return clock.stat().st_mtime - file.stat().st_mtime


def _beat(file: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):
            os.utime(file)


def _file(folder: Path, name: str) -> Path:
    return folder / FOLDER / "workers" / name
