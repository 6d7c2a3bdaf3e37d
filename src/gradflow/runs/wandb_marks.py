"""The marks that lie beside W&B's files of a run.

`run-ID.wandb.synced` is W&B's own: the file has arrived. It is empty then; here is added where it has arrived, once the
log has been compared with the record. `run-ID.wandb.sending` says that an upload began, which may have been killed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Destination:
    """Where runs are uploaded to.

    Attributes:
        server: its address.
        entity: the account or team; None: the account's own.
        project: None: the one that each run was logged to.
    """

    server: str
    entity: str | None = None
    project: str | None = None


def mark(file: Path, word: str) -> Path:
    """The mark of a .wandb file: 'synced' or 'sending'."""
    return file.with_name(f"{file.name}.{word}")


def is_uploaded(file: Path) -> bool:
    """Whether a file has arrived somewhere."""
    return mark(file, "synced").exists()


def is_compared(file: Path) -> bool:
    """Whether a file that has arrived was compared with the record before."""
    try:
        return mark(file, "synced").stat().st_size > 0
    except OSError:
        return False


def mark_as_uploaded(file: Path, to: Destination | None) -> None:
    """Say that a file has arrived, and holds what the record has; None for wherever an older gradflow, or a person, has
    sent it. A mark keeps its time, from which `gradflow gc` counts."""
    made = mark(file, "synced")
    time = made.stat().st_mtime if made.exists() else None
    made.write_text(json.dumps({} if to is None else asdict(to)), encoding="utf-8")
    if time is not None:
        os.utime(made, (time, time))


def is_elsewhere(file: Path, to: Destination) -> bool:
    """Whether a file is known to have arrived, and not where it is to be now."""
    try:
        known = json.loads(mark(file, "synced").read_text(encoding="utf-8") or "{}")
        there = Destination(**known) if known else None
    except (OSError, ValueError, TypeError):
        return False
    if there is None:
        return False
    entity, project = to.entity or there.entity, to.project or there.project
    return there != Destination(to.server, entity, project)
