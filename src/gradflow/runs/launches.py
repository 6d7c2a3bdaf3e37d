"""Processes of a sweep on this machine, announced in the sweep's folder while they live, so that another command can
find and end them.

A process may die without taking its announcement back, and its number may be given to another: a process is known by
its number and by when it started.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gradflow.runs.record import Unreadable, load_json, write_json

FOLDER = "launches"


@dataclass(frozen=True)
class Launch:
    """One process that works on a sweep.

    Attributes:
        host, space, pid: where it is; containers of one machine may share a host's name, but not a space of numbers.
        birth: when the process started, as its machine says it; None where it does not say.
        command: what was typed.
        began: when it was announced, in seconds since 1970.
    """

    host: str
    space: str
    pid: int
    birth: str | None
    command: str
    began: float

    @property
    def is_here(self) -> bool:
        return (self.host, self.space) == (socket.gethostname(), _space())

    def is_alive(self) -> bool | None:
        """None of one that is elsewhere, which cannot be asked from here."""
        if not self.is_here:
            return None
        return self.birth is not None and born(self.pid) == self.birth

    def terminate(self) -> bool:
        """Ask it to checkpoint and leave; False if it is not there any more.

        Raises:
            PermissionError: if it is another user's.
        """
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            return False
        return True


@contextmanager
def announced(folder: Path, command: str) -> Iterator[None]:
    """Announce this process in a sweep's folder for as long as the block lasts.

    Args:
        folder: the sweep's.
        command: what was typed.

    Raises:
        OSError: if the folder cannot be written.
    """
    here = folder / FOLDER
    here.mkdir(parents=True, exist_ok=True)
    launches(folder)  # of what died here without a word nothing remains
    mine = Launch(socket.gethostname(), _space(), os.getpid(), born(os.getpid()), command, time.time())
    file = _file(folder, mine)
    write_json(file, asdict(mine))
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()


def launches(folder: Path) -> list[Launch]:
    """What is announced in a sweep's folder, the oldest first; those that are seen to be dead are taken off."""
    found = []
    for file in sorted((folder / FOLDER).glob("*.json")):
        with suppress(Unreadable, KeyError, TypeError, ValueError):
            said = load_json(file)
            if said is None:
                continue
            where = str(said["host"]), str(said["space"]), int(said["pid"])
            launch = Launch(*where, said["birth"], str(said["command"]), float(said["began"]))
            if launch.is_alive() is False:
                with suppress(OSError):
                    file.unlink()
            else:
                found.append(launch)
    return sorted(found, key=lambda launch: launch.began)


def born(pid: int) -> str | None:
    """When a process started, in its machine's words; None if there is no such process, or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _asked(pid)
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in "ZX" else f"{boot} {fields[18]}"  # ticks since the boot


def _asked(pid: int) -> str | None:
    """The same where there is no /proc, such as on a Mac."""
    if not shutil.which("ps"):
        return None
    said = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return said.stdout.strip() or None


def _space() -> str:
    """Within which processes have numbers of their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _file(folder: Path, launch: Launch) -> Path:
    return folder / FOLDER / f"{launch.host}-{launch.pid}.json"
