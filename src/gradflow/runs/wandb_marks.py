"""The marks that lie beside W&B's files of a run.

`run-ID.wandb.synced` is W&B's own: the file has arrived. It is empty then; here is added where it has arrived, and
after which attempt of the run all its logs were compared with the record. `run-ID.wandb.sending` says that an upload
began, which may have been killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


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


def are_compared(files: Iterable[Path], attempt: int) -> bool:
    """Whether the logs of a run were compared with its record after this attempt, and had all of it: one that went on
    since then may have logged nothing."""
    return any(_known(file).get("attempt") == attempt for file in files)


def mark_as_uploaded(file: Path, to: Destination | None = None, attempt: int | None = None) -> None:
    """Say that a file has arrived. A mark keeps its time, from which `gradflow gc` counts.

    Args:
        to: where; None leaves what is known of it, which of what an older gradflow, or a person, has sent is nothing.
        attempt: that of the run, once the logs are known to hold what the record has.
    """
    made = mark(file, "synced")
    time = made.stat().st_mtime if made.exists() else None
    known = {**_known(file), **({} if to is None else asdict(to)), **({} if attempt is None else {"attempt": attempt})}
    made.write_text(json.dumps(known), encoding="utf-8")
    if time is not None:
        os.utime(made, (time, time))


def is_elsewhere(file: Path, to: Destination) -> bool:
    """Whether a file is known to have arrived, and not where it is to be now."""
    known = _known(file)
    if "server" not in known:
        return False
    there = Destination(known["server"], known.get("entity"), known.get("project"))
    return there != Destination(to.server, to.entity or there.entity, to.project or there.project)


def _known(file: Path) -> dict[str, Any]:
    """What has been added to W&B's mark."""
    try:
        known = json.loads(mark(file, "synced").read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
