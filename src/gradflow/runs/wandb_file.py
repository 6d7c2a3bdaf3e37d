"""W&B's own file of a run, `run-ID.wandb`: a log of records in LevelDB's format, after a header of 7 bytes.

https://github.com/google/leveldb/blob/main/doc/log_format.md; each record is a protobuf message of wandb's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK, RECORD_HEADER, FILE_HEADER = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def attempts(path: Path) -> list[Path]:
    """The .wandb files of a record, the first attempt first; those of online runs lie in `run-…`, others in
    `offline-run-…`, and the time follows."""
    return sorted(path.glob("wandb/*run-*/*.wandb"), key=lambda file: file.parent.name.removeprefix("offline-"))


def wandb_id(file: Path) -> str:
    """The id of the W&B run that a file belongs to: the run's own, or that of a W&B sweep's agent.

    >>> wandb_id(Path("wandb/offline-run-20261231_235959-abc/run-abc.wandb"))
    'abc'
    """
    return file.stem.removeprefix("run-")


def records(log: bytes) -> Iterator[tuple[int, bytes]]:
    """(where it ends, content) of each whole record, up to the first that is not."""
    at, content = FILE_HEADER, b""
    while True:
        left = BLOCK - at % BLOCK
        if left < RECORD_HEADER:  # too little for a header: the rest of the block is filled with zeros
            at += left
            continue
        if at + RECORD_HEADER > len(log):
            return
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        start, at = at + RECORD_HEADER, at + RECORD_HEADER + length
        if kind not in (FULL, FIRST, MIDDLE, LAST) or at > len(log):
            return
        content += log[start:at]
        if kind in (FULL, LAST):
            yield at, content
            content = b""


def mend(file: Path) -> bool:
    """Cut a file back to its last whole record; True if that changed it.

    A process that is killed leaves half a record behind, which W&B takes for a file that is still being written.
    """
    log = file.read_bytes()
    end = FILE_HEADER
    for end, _ in records(log):  # noqa: B007 - the last one is wanted
        pass
    damaged = _goes_on(log, end)
    if end in (len(log), FILE_HEADER) or damaged:  # of what is damaged W&B says itself what is wrong
        return False
    os.truncate(file, end)
    return True


def _goes_on(log: bytes, end: int) -> bool:
    """Whether something follows the last whole record that is neither half a record nor zeros, as of a machine that
    went down."""
    at = end
    while at + RECORD_HEADER <= len(log):
        if BLOCK - at % BLOCK < RECORD_HEADER:
            at += BLOCK - at % BLOCK
            continue
        if log[at + 6] not in (FULL, FIRST, MIDDLE, LAST):
            return bool(log[at:].strip(b"\0"))
        at += RECORD_HEADER + int.from_bytes(log[at + 4 : at + 6], "little")
    return False


def messages(file: Path) -> Iterator[Any]:
    """W&B's messages in a file, up to the first that cannot be read."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto import wandb_internal_pb2

    kind: Any = wandb_internal_pb2
    for _, content in records(file.read_bytes()):
        message = kind.Record()
        try:
            message.ParseFromString(content)
        except DecodeError:
            return
        yield message


def logged_to(file: Path) -> tuple[str | None, str | None]:
    """Entity and project that a run was logged to; None where the file does not say."""
    for message in messages(file):
        if message.WhichOneof("record_type") == "run":
            return message.run.entity or None, message.run.project or None
    return None, None


@dataclass(frozen=True)
class Held:
    """What the files of one W&B run hold.

    Attributes:
        last: the step of the last row of history; -1 if there is none.
        ended: whether the last file says how the run ended, which one that was killed has not got to.
    """

    last: int = -1
    ended: bool = False


def held(files: Iterable[Path]) -> Held:
    """What the files of one W&B run hold, the first attempt first."""
    last, ended = -1, False
    for file in files:
        ended = False
        for message in messages(file):
            kind = message.WhichOneof("record_type")
            ended |= kind == "exit"
            for item in message.history.item if kind == "history" else ():
                if (item.key or ".".join(item.nested_key)) == "_step":
                    last = max(last, int(json.loads(item.value_json)))
    return Held(last, ended)
