"""Uploading what runs have logged to W&B offline, by W&B's own `wandb sync`.

W&B marks each offline folder that it has uploaded (`run-ID.wandb.synced`), and puts the attempts of one run, which
share its id, one after another into one W&B run. Two things it does not do are done here: it gives up on the file of an
attempt that was killed in the middle of a record, and with it on the attempts after; and it goes on for minutes and
days where nobody answers.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gradflow.runs.record import is_locked
from gradflow.runs.states import states

LOCK = ".wandb-sync.lock"  # in a folder of runs
AT_ONCE = 50  # files given to one `wandb sync`, whose start costs a second
# Enough to get over a hiccup; W&B's own numbers are made for a run that can wait, and are kept where a person set them.
RETRIES = {
    f"WANDB_X_{what}_RETRY_{name}": value
    for what in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
    for name, value in (("MAX", "3"), ("WAIT_MIN_SECONDS", "1"), ("WAIT_MAX_SECONDS", "10"))
}
# Of the log that a .wandb file is, after LevelDB's: https://github.com/google/leveldb/blob/main/doc/log_format.md
BLOCK, RECORD_HEADER, FILE_HEADER = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Pending:
    """What is to be uploaded from a folder of runs.

    Attributes:
        files: by run id, the .wandb files of its attempts that were not uploaded yet, the first attempt first.
        later: ids of runs that have such files and are running, or may be.
    """

    files: dict[str, list[Path]] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)


def pending(runs: Path, run_ids: list[str] | None = None) -> Pending:
    """What is to be uploaded of these runs, or of all in a folder."""
    found = Pending()
    seen = states(runs, run_ids)
    for run_id, glance in seen.runs.items():
        attempts = sorted((runs / run_id).glob("wandb/offline-run-*/*.wandb"))  # their names begin with the time
        files = [file for file in attempts if not is_uploaded(file)]
        if files and (glance.state in ("running", "stale") or is_locked(runs / run_id)):
            found.later.append(run_id)
        elif files:
            found.files[run_id] = files
    return found


def is_uploaded(file: Path) -> bool:
    return file.with_name(f"{file.name}.synced").exists()


@contextmanager
def alone(runs: Path) -> Iterator[bool]:
    """Be the only one that uploads from a folder of runs; yields False if another process does.

    Two at a time would send the same rows twice.
    """
    with open(runs / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # no locks on this file system
            pass
        yield True


def upload(
    files: dict[str, list[Path]], project: str | None, entity: str | None, tell: Callable[[str], None]
) -> list[str]:
    """Upload, and leave it to W&B to mark what arrived.

    Args:
        files: as `pending` finds them.
        project, entity: instead of those that a run was logged to.
        tell: given each line that W&B says, and what was mended.

    Returns:
        The ids of runs of which something has not arrived. Where a whole portion has not, the rest is not tried.
    """
    remaining = dict(files)
    for portion in _portions(files):
        for file in (file for run_id in portion for file in files[run_id]):
            if mend(file):
                tell(f"{file}: its process was killed in the middle of a record, which was cut off")
        words = [sys.executable, "-m", "wandb", "sync", "--yes"]
        words += ["--project", project] if project else []
        words += ["--entity", entity] if entity else []
        words += [str(file.parent) for run_id in portion for file in files[run_id]]
        _run(words, tell)
        arrived = [run_id for run_id in portion if all(is_uploaded(file) for file in files[run_id])]
        for run_id in arrived:
            remaining.pop(run_id)
        if not any(is_uploaded(file) for run_id in portion for file in files[run_id]):
            break
    return list(remaining)


def mend(file: Path) -> bool:
    """Cut a .wandb file back to its last whole record; True if that changed it.

    A process that is killed leaves half a record behind, which W&B takes for a file that is still being written.
    """
    size = file.stat().st_size
    whole = _whole(file.read_bytes())
    if whole == size or whole <= FILE_HEADER:  # of one without a single record W&B says itself what is wrong
        return False
    os.truncate(file, whole)
    return True


def _whole(log: bytes) -> int:
    """Where the last whole record ends."""
    at, end = FILE_HEADER, FILE_HEADER
    while True:
        left = BLOCK - at % BLOCK
        if left < RECORD_HEADER:  # too little for a header: the rest of the block is filled with zeros
            at += left
            continue
        if at + RECORD_HEADER > len(log):
            return min(end, len(log))
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        if kind not in (FULL, FIRST, MIDDLE, LAST):  # zeros to the end, of a machine that went down, or damage
            return len(log) if log[at:].strip(b"\0") else end
        at += RECORD_HEADER + length
        if at > len(log):
            return end
        if kind in (FULL, LAST):
            end = at


def _portions(files: dict[str, list[Path]]) -> Iterator[list[str]]:
    """Runs whose files together are enough for one call; those of one run stay together."""
    portion: list[str] = []
    for run_id in files:
        portion.append(run_id)
        if sum(len(files[each]) for each in portion) >= AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


def _run(words: list[str], tell: Callable[[str], None]) -> None:
    """Its exit code says nothing of single runs; the marks do."""
    environment = {**RETRIES, **os.environ}
    environment.pop("WANDB_MODE", None)  # 'offline' is how the runs were trained, not how they are uploaded
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    with process:
        try:
            for line in process.stdout:
                tell(line.rstrip())
        except BaseException:
            process.terminate()
            raise
