"""The studies of a search, one per technique, in a journal that many processes on many machines append to.

The lock is a file made with O_EXCL, which NFS has honoured since its version 3. Optuna's other kind, a symbolic link,
stands for a relative path that does not lead anywhere, and then waits for ever for the lock of a dead process.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study

from gradflow.sweeps.tuning.search import FOLDER, Search

JOURNAL = "journal.log"
GRACE = 30  # seconds after which the lock of a dead process is broken
REDUCTION = 3  # of successive halving: a third of the trials goes on, three times as far


class Journal(JournalFileBackend):
    """Optuna's, which a power cut or a full disk in the middle of an entry would make unreadable for good: what is
    left of such an entry, which nobody has been told of, is cut off before the next one."""

    def __init__(self, file: Path) -> None:
        self._file, self._own_lock = file, JournalFileOpenLock(str(file), GRACE)
        super().__init__(str(file), self._own_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with locked(self._own_lock), open(self._file, "ab+", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            end = _end_of_last_line(file.fileno(), size)
            if end < size:
                file.truncate(end)
            try:
                file.write(text.encode())
                os.fsync(file.fileno())
            except OSError as error:
                error.filename = error.filename or str(self._file)
                raise


def _end_of_last_line(file: int, size: int) -> int:
    start = size
    if size and os.pread(file, 1, size - 1) == b"\n":
        return size
    while start > 0:
        start = max(0, start - 65536)
        before, found, _ = os.pread(file, 65536, start).rpartition(b"\n")
        if found:
            return start + len(before) + 1
    return 0


@contextmanager
def locked(lock: JournalFileOpenLock) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def turn(folder: Path) -> JournalFileOpenLock:
    """Whose turn it is to take a trial. One at a time, so that no two take the last one of a budget, and each sampler
    sees what the others have taken."""
    return JournalFileOpenLock(str(folder / FOLDER / "turn"), GRACE)


def open_studies(folder: Path, search: Search) -> dict[str, Study]:
    """Each technique's study, made unless it is there."""
    quieten()
    storage = JournalStorage(Journal(folder / FOLDER / JOURNAL))
    directions = [metric.direction for metric in search.metrics]
    return {
        technique.name: optuna.create_study(
            storage=storage,
            study_name=technique.name,
            directions=directions,
            load_if_exists=True,
            sampler=sampler_for(search, 0),
            pruner=pruner_for(search),
        )
        for technique in search.techniques
    }


def sampler_for(search: Search, number: int) -> BaseSampler:
    """The sampler of trial `number` of any technique.

    Each trial has its own, seeded by its number: whoever makes it, and however often the search is interrupted, one
    worker makes the same trials. Techniques draw the same random numbers, so that luck is the same for all. A grid and
    a quasi-random sequence are the same for all trials.
    """
    digest = hashlib.sha256(f"{search.seed} {number}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    if search.sampler == "cmaes":
        return CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    if search.sampler == "grid":
        return _Grid({d.key: d.points() or [] for d in search.dimensions}, seed=search.seed)
    if search.sampler == "qmc":
        return QMCSampler(scramble=True, seed=search.seed, warn_independent_sampling=False)
    return TPESampler(seed=seed)


class _Grid(GridSampler):
    """Optuna's would stop `Study.optimize` after its last point, which is not what makes trials here."""

    def after_trial(self, *_: Any) -> None:
        pass


def pruner_for(search: Search) -> BasePruner:
    """Steps are those of training; of several seeds one comes after the other."""
    whole = search.needs.steps * len(search.seeds)
    if search.pruner == "median":
        return MedianPruner()
    if search.pruner == "hyperband":
        return HyperbandPruner(min_resource=search.needs.first, max_resource=whole, reduction_factor=REDUCTION)
    if search.pruner == "asha":
        return SuccessiveHalvingPruner(min_resource=search.needs.first, reduction_factor=REDUCTION)
    return NopPruner()


def quieten() -> None:
    """What Optuna has to say is said by gradflow."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module=r"optuna\..*")
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
