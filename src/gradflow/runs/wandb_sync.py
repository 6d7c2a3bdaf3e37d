"""Uploading what W&B has not got: of runs that logged offline, or online to a server that did not take it all.

It is done by W&B's own `wandb sync`, with pictures and all. W&B marks each folder that it has uploaded
(`run-ID.wandb.synced`); those of online runs are marked at their end, if the server says that it has everything
(`gradflow.runs.wandb_writer`). Three things that `wandb sync` does not do are done here. It gives up on the file of an
attempt that was killed in the middle of a record, and with it on the attempts after. It goes on for minutes and days
where nobody answers. And where an upload broke off, it would send again what has arrived: W&B puts a run's first
attempt in the place of all that it has, but the others, which share its id, behind one another; so after a later one
that may have arrived in part, all are sent again from the first on. (Where an online run was killed, went on, and again
did not arrive as a whole, both attempts hold some of its rows, and those are there twice.)

What W&B's client did not get to write is filled up from the record before (`gradflow.runs.wandb_replay`), so that what
is said to have arrived is all that the record has.
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

from gradflow.runs.credentials import base_url
from gradflow.runs.record import is_locked
from gradflow.runs.states import states
from gradflow.runs.wandb_file import attempts, logged_to, mend
from gradflow.runs.wandb_marks import Destination, are_compared, is_elsewhere, is_uploaded, mark, mark_as_uploaded
from gradflow.runs.wandb_replay import NotReplayed, lacking, replay

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
        runs: the folder.
        to: where it is to be.
        files: by run id, the .wandb files of its attempts that are to be uploaded, the first attempt first.
        short: by run id, the ids of its W&B runs whose files lack something that the record has.
        later: ids of runs that have such files and are running, or may be.
        attempt: of each run that is not, the number of its last attempt.
        whole: the files that have arrived, of runs whose files were found to hold all that the record has.
    """

    runs: Path
    to: Destination
    files: dict[str, list[Path]] = field(default_factory=dict)
    short: dict[str, list[str]] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)
    attempt: dict[str, int] = field(default_factory=dict)
    whole: dict[str, list[Path]] = field(default_factory=dict)

    def remember(self) -> None:
        """So that what is whole is not compared with the record again, until the run goes on."""
        for run_id, files in self.whole.items():
            for file in files:
                mark_as_uploaded(file, attempt=self.attempt[run_id])


def pending(
    runs: Path, run_ids: list[str] | None = None, project: str | None = None, entity: str | None = None
) -> Pending:
    """What is to be uploaded of these runs, or of all in a folder. Writes nothing.

    Args:
        project, entity: instead of those that a run was logged to; what has arrived elsewhere is to be uploaded again.
    """
    found = Pending(runs, Destination(base_url(), entity, project))
    seen = states(runs, run_ids)
    for run_id, glance in seen.runs.items():
        path = runs / run_id
        logged = attempts(path)
        files = _to_be_sent(logged, found.to)
        if glance.state in ("running", "stale") or is_locked(path):
            found.later += [run_id] if files else []
            continue
        found.attempt[run_id] = int(glance.status.get("attempt") or 0)
        if not are_compared(logged, found.attempt[run_id]):
            if short := lacking(path, glance.state, glance.status):
                found.short[run_id] = short
            elif not files:
                found.whole[run_id] = logged
        if files or run_id in found.short:
            found.files[run_id] = files
    return found


def _to_be_sent(files: list[Path], to: Destination) -> list[Path]:
    """Those from the first on that has not arrived; or all, if it may have arrived in part, or if one is elsewhere."""
    new = next((i for i, file in enumerate(files) if not is_uploaded(file)), len(files))
    if new < len(files) and (mark(files[new], "sending").exists() or files[new].parent.name.startswith("run-")):
        new = 0
    return files if any(is_elsewhere(file, to) for file in files) else files[new:]


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


def upload(found: Pending, tell: Callable[[str], None]) -> list[str]:
    """Upload, and leave it to W&B to mark what arrived.

    Args:
        found: by `pending`.
        tell: given each line that W&B says, and what was mended.

    Returns:
        The ids of runs of which something has not arrived. Where a whole portion has not, the rest is not tried.
    """
    files, to, left = dict(found.files), found.to, list(found.files)
    for portion in _portions(files):
        whole = [run_id for run_id in portion if _is_filled_up(run_id, found, files, tell)]
        sent = [file for run_id in portion for file in files[run_id]]
        for file in sent:
            if mend(file):
                tell(f"{file}: its process was killed in the middle of a record, which was cut off")
            mark(file, "synced").unlink(missing_ok=True)
            mark(file, "sending").touch()
        words = [sys.executable, "-m", "wandb", "sync", "--include-online", "--yes"]
        words += ["--project", to.project] if to.project else []
        words += ["--entity", to.entity] if to.entity else []
        words += [str(file.parent) for file in sent]
        if sent:
            _run(words, tell)
        for file in filter(is_uploaded, sent):
            mark(file, "sending").unlink(missing_ok=True)
        for run_id in whole:
            if all(map(is_uploaded, files[run_id])):
                left.remove(run_id)
                for file in files[run_id]:
                    entity, project = logged_to(file)
                    there = Destination(to.server, to.entity or entity, to.project or project)
                    mark_as_uploaded(file, there, found.attempt[run_id])
        if sent and not any(map(is_uploaded, sent)):
            break
    return left


def _is_filled_up(run_id: str, found: Pending, files: dict[str, list[Path]], tell: Callable[[str], None]) -> bool:
    """Log what W&B's files of a run lack, and put that into `files`; False where that is not possible."""
    path = found.runs / run_id
    if run_id not in found.short:
        return True
    whole = True
    try:
        for name in found.short[run_id]:
            replay(path, name)
            tell(f"{path}: the log of W&B run {name} was not whole, and was filled up from the record")
    except NotReplayed as error:
        tell(f"ERROR {error}")
        whole = False
    logged = attempts(path)
    files[run_id] = [] if is_locked(path) else _to_be_sent(logged, found.to)  # it may have gone on meanwhile
    return whole and bool(files[run_id])


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
    environment.pop("WANDB_SERVICE", None)  # of a process that uses wandb itself
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
