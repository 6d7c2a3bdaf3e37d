"""Uploading what W&B has not got: of runs that logged offline, or online to a server that did not take it all.

It is done by W&B's own `wandb sync`, with pictures and all. W&B marks each folder that it has uploaded
(`run-ID.wandb.synced`); those of online runs are marked at their end, if the server says that it has everything
(`gradflow.runs.wandb_writer`). Three things that `wandb sync` does not do are done here. It gives up on the file of an
attempt that was killed in the middle of a record, and with it on the attempts after. It goes on for minutes and days
where nobody answers. And where an upload broke off, it would send again what has arrived: W&B puts a run's first
attempt in the place of all that it has, but the others, which share its id, behind one another; so after a later one
that may have arrived in part, all are sent again from the first on. (Where an online run was killed, went on, and again
did not arrive as a whole, both attempts hold some of its rows, and those are there twice.)
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
from gradflow.runs.wandb_file import mend

LOCK = ".wandb-sync.lock"  # in a folder of runs
AT_ONCE = 50  # files given to one `wandb sync`, whose start costs a second
# Enough to get over a hiccup; W&B's own numbers are made for a run that can wait, and are kept where a person set them.
RETRIES = {
    f"WANDB_X_{what}_RETRY_{name}": value
    for what in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
    for name, value in (("MAX", "3"), ("WAIT_MIN_SECONDS", "1"), ("WAIT_MAX_SECONDS", "10"))
}


@dataclass
class Pending:
    """What is to be uploaded from a folder of runs.

    Attributes:
        files: by run id, the .wandb files of its attempts that are to be uploaded, the first attempt first.
        later: ids of runs that have such files and are running, or may be.
    """

    files: dict[str, list[Path]] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)


def pending(runs: Path, run_ids: list[str] | None = None) -> Pending:
    """What is to be uploaded of these runs, or of all in a folder."""
    found = Pending()
    seen = states(runs, run_ids)
    for run_id, glance in seen.runs.items():
        files = _to_be_sent(attempts(runs / run_id))
        if files and (glance.state in ("running", "stale") or is_locked(runs / run_id)):
            found.later.append(run_id)
        elif files:
            found.files[run_id] = files
    return found


def attempts(path: Path) -> list[Path]:
    """The .wandb files of a run, the first attempt first; those of online runs lie in `run-…`, others in
    `offline-run-…`, and the time follows."""
    return sorted(path.glob("wandb/*run-*/*.wandb"), key=lambda file: file.parent.name.removeprefix("offline-"))


def is_uploaded(file: Path) -> bool:
    return _mark(file, "synced").exists()


def _mark(file: Path, word: str) -> Path:
    return file.with_name(f"{file.name}.{word}")


def _to_be_sent(files: list[Path]) -> list[Path]:
    """Those from the first on that has not arrived; or all, if that one may have arrived in part."""
    new = next((i for i, file in enumerate(files) if not is_uploaded(file)), len(files))
    if new < len(files) and (_mark(files[new], "sending").exists() or files[new].parent.name.startswith("run-")):
        new = 0
    return files[new:]


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
            _mark(file, "synced").unlink(missing_ok=True)
            _mark(file, "sending").touch()
        words = [sys.executable, "-m", "wandb", "sync", "--include-online", "--yes"]
        words += ["--project", project] if project else []
        words += ["--entity", entity] if entity else []
        words += [str(file.parent) for run_id in portion for file in files[run_id]]
        _run(words, tell)
        arrived = [run_id for run_id in portion if all(is_uploaded(file) for file in files[run_id])]
        for file in (file for run_id in portion for file in files[run_id] if is_uploaded(file)):
            _mark(file, "sending").unlink(missing_ok=True)
        for run_id in arrived:
            remaining.pop(run_id)
        if not any(is_uploaded(file) for run_id in portion for file in files[run_id]):
            break
    return list(remaining)


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
