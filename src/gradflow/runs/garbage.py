"""What may be deleted below a folder of runs: what nobody needs, or what a person says that nobody needs.

Nothing here is of a run that some process is working on, at the time of looking or at the time of deleting.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gradflow.errors import ConfigError
from gradflow.runs.claim import claim
from gradflow.runs.planfile import PLAN, read_plan
from gradflow.runs.record import DONE, Unreadable, is_locked
from gradflow.runs.states import Seen, states

REPLACED = ".replaced"  # below a folder of runs: records that `--rerun` has moved aside
SEARCH = "tune"  # in the folder of a search, whose trials are in no plan
# As `record.write_bytes` and `recorder` name what they have not finished: .status.json.k3j9x_2a, .1234.ckpt
KINDS = "json|parquet|yaml|csv|md|tex|html|png|svg|sbatch|unreadable"
UNFINISHED = re.compile(rf"\.+[\w-]+(\.({KINDS}))+(\.[a-z0-9_]{{8}})+|\.+owner\.[a-z0-9_]{{8}}|\.\d+\.ckpt")
GROWN_UP = 3600.0  # seconds after which nobody is still writing a temporary file
DAY = 86400.0
MOVED_ASIDE = "records moved aside by --rerun"
TEMPORARY = "temporary files of writers that were killed"
CHECKPOINTS = "checkpoints of runs that are done"
UPLOADED = "W&B's offline folders that were uploaded"
ORPHANS = "records that are in no plan"
CATEGORIES = (MOVED_ASIDE, TEMPORARY, CHECKPOINTS, UPLOADED, ORPHANS)


@dataclass(frozen=True)
class Item:
    """A file or folder that may go.

    Attributes:
        category: one of `CATEGORIES`.
        run: the folder of the run it belongs to; None if it belongs to none.
        size: in bytes, of all files below it.
    """

    category: str
    path: Path
    run: Path | None
    size: int


def garbage(runs: Path, sweeps: Path, uploaded_days: float | None = None, orphans: bool = False) -> list[Item]:
    """What may be deleted, category by category.

    Args:
        runs: a folder of runs.
        sweeps: where the plans are.
        uploaded_days: take in W&B's offline folders of runs of which all was uploaded before so many days.
        orphans: take in whole records that are in no plan below `sweeps` and are no trials of a search there.

    Raises:
        ConfigError: if there is no such folder of runs; for orphans, if there is no plan, or one cannot be read.
    """
    if not runs.is_dir():
        raise ConfigError(f"{runs}: no such folder; give a folder of runs")
    planned = _planned(runs, sweeps) if orphans else None
    searches = {folder.parent.name for folder in sweeps.glob(f"*/{SEARCH}")}
    seen = states(runs)
    found = [*_moved_aside(runs), *_temporary_of_sweeps(sweeps)]
    for path in sorted(path for path in runs.iterdir() if path.name[0] != "." and path.is_dir()):
        if not _is_busy(path, seen):
            glance = seen.runs.get(path.name)
            searched = glance is not None and glance.status.get("group") in searches
            if planned is not None and glance is not None and path.name not in planned and not searched:
                found.append(Item(ORPHANS, path, path, _size(path)))
            else:
                found += _of_run(path, seen, uploaded_days)
    return sorted(found, key=lambda item: CATEGORIES.index(item.category))


def delete(item: Item) -> int:
    """Delete it; the bytes that were freed, 0 where its run is being worked on by now.

    Raises:
        OSError: if it cannot be deleted.
    """
    if item.run is None:
        return _remove(item)
    if not item.run.is_dir():
        return 0
    with claim(item.run) as mine:
        return 0 if mine is None else _remove(item)


def _remove(item: Item) -> int:
    if not item.path.is_dir():
        item.path.unlink(missing_ok=True)
        return item.size
    aside = item.path
    if item.path == item.run:  # a record goes in one piece, so that a kill in between leaves no half of one
        (item.path.parent / REPLACED).mkdir(exist_ok=True)
        aside = item.path.parent / REPLACED / f"{item.path.name}-deleted-{os.getpid()}"
        os.rename(item.path, aside)
    shutil.rmtree(aside)
    return item.size


def _moved_aside(runs: Path) -> Iterator[Item]:
    if (runs / REPLACED).is_dir():
        for path in sorted((runs / REPLACED).iterdir()):
            yield Item(MOVED_ASIDE, path, None, _size(path))


def _temporary_of_sweeps(sweeps: Path) -> Iterator[Item]:
    for pattern in ("*/.*", "*/*/.*"):
        for path in sorted(sweeps.glob(pattern)):
            if _is_unfinished(path):
                yield Item(TEMPORARY, path, None, _size(path))


def _of_run(path: Path, seen: Seen, uploaded_days: float | None) -> Iterator[Item]:
    glance = seen.runs.get(path.name)
    done = glance is not None and glance.state in DONE
    for file in sorted((*path.glob(".*"), *path.glob("checkpoints/.*"))):
        if _is_unfinished(file) and not (done and file.parent != path):
            yield Item(TEMPORARY, file, path, _size(file))
    if done and (path / "checkpoints").is_dir():
        yield Item(CHECKPOINTS, path / "checkpoints", path, _size(path / "checkpoints"))
    if uploaded_days is not None:
        folders = sorted(path.glob("wandb/*run-*"))
        if all(
            _is_uploaded_for(folder, uploaded_days) for folder in folders
        ):  # not half of what one may send elsewhere
            for folder in folders:
                yield Item(UPLOADED, folder, path, _size(folder))


def _is_uploaded_for(folder: Path, days: float) -> bool:
    marks = [mark.stat().st_mtime for mark in folder.glob("*.wandb.synced")]
    return bool(marks) and max(marks) < time.time() - days * DAY


def _is_unfinished(file: Path) -> bool:
    try:
        old = file.stat().st_mtime < time.time() - GROWN_UP
    except FileNotFoundError:
        return False
    return old and UNFINISHED.fullmatch(file.name) is not None and file.is_file()


def _is_busy(path: Path, seen: Seen) -> bool:
    glance = seen.runs.get(path.name)
    return is_locked(path) or (glance is not None and glance.state == "running")


def _planned(runs: Path, sweeps: Path) -> set[str]:
    """The ids of all plans below `sweeps` that have their records here.

    Without a single plan, or with one that cannot be read, every record would look like an orphan.
    """
    planned: set[str] = set()
    plans = sorted(sweeps.glob(f"*/{PLAN}"))
    if not plans:
        raise ConfigError(f"--orphans: {sweeps} holds no plan, so that every record would be one; give --sweeps DIR")
    for file in plans:
        try:
            plan = read_plan(file.parent)
        except Unreadable as error:
            raise ConfigError(f"--orphans: {error}") from None
        if plan is not None and plan.runs_dir.resolve() == runs.resolve():
            planned.update(run.run_id for run in plan.runs)
    return planned


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(path) for name in names)
