"""From a record to W&B, of a run that has ended: what the process that speaks with W&B was killed over, or had no time
for, the record has. The record is the truth; a log that is shorter is filled up from it before it is uploaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gradflow.errors import ConfigError
from gradflow.runs.config import Config, validate
from gradflow.runs.record import DONE, Record, Unreadable, is_locked, load_json, read
from gradflow.runs.series import GRADFLOW, METRICS, Series
from gradflow.runs.wandb_file import attempts, held, wandb_id
from gradflow.runs.wandb_logger import WandbLog, the_writer
from gradflow.runs.wandb_summary import summary

ALL = 2**62  # steps
PATIENCE = 600.0  # seconds for W&B's client to write or send one run


class NotReplayed(Exception):
    """What of a record W&B's client was not given, in a line."""


def lacking(path: Path, state: str, status: dict[str, Any]) -> list[str]:
    """The ids of W&B runs whose logs do not hold all that a record has; none where nothing was to be logged.

    A run that is done has told W&B how it ended; of every other its last row is enough.

    Args:
        path: the record.
        state: of the run, which is not running.
        status: what `status.json` holds.
    """
    logs: dict[str, list[Path]] = {}
    for file in attempts(path):
        logs.setdefault(wandb_id(file), []).append(file)
    if not logs:  # the folder is there from a run's start on; what `gradflow gc` removes leaves W&B's links behind
        folder = path / "wandb"
        there = list(folder.iterdir()) if folder.is_dir() else None
        begun = there is not None and any(each.is_dir() and not each.is_symlink() for each in there)
        return [path.name] if begun or there == [] else []
    last = _last_step(path, _end(state, status))
    short = []
    for name, files in logs.items():
        log = held(files)
        if log.last < last or (state in DONE and not log.ended):
            short.append(name)
    return short


def replay(path: Path, name: str, mode: str = "offline") -> None:
    """Log what a record has and W&B's files have not, as one more attempt of a W&B run.

    Args:
        path: the record of a run that is not running.
        name: the W&B run's id.
        mode: 'offline' or 'online'.

    Raises:
        NotReplayed: if that was not possible, or not all of it, or if the run goes on.
    """
    try:
        record = read(path)
        if record is None:
            raise NotReplayed(f"{path}: no record")
        config = validate(yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")))
        before = _end(record.state, record.status)
        metrics = Series(path / "metrics.parquet", METRICS, before)
        gradflow = Series(path / "gradflow.parquet", GRADFLOW, before)
        told = _summary(record, config, metrics)
    except (Unreadable, ConfigError, OSError, yaml.YAMLError, pa.ArrowException) as error:
        raise NotReplayed(f"{path}: {str(error).splitlines()[0]}") from None
    empty = [file for file in attempts(path) if wandb_id(file) == name and held([file]).last < 0]
    if is_locked(path):  # asked after them: none of them is one that goes on from now
        raise NotReplayed(f"{path}: it is being trained again")
    log = WandbLog(the_writer(), config, path, mode, name, PATIENCE)
    log.recorded(metrics, gradflow)
    log.all_is_here(record.state)
    log.summarize(told)
    fault = log.close(record.state)
    if fault is not None:
        raise NotReplayed(fault)
    for file in empty:  # the new one has it all, and is put in the place of what W&B has if it is the first
        shutil.rmtree(file.parent)


def _end(state: str, status: dict[str, Any]) -> int:
    """The step below which W&B gets all: of a run that was stopped the one at which it goes on."""
    return int(status.get("step") or 0) if state == "preempted" else ALL


def _last_step(path: Path, before: int) -> int:
    """Of the figures in a record: they reach as far as anything that W&B is shown."""
    try:
        steps = pq.read_table(path / "metrics.parquet", columns=["step"])["step"].to_pylist()
    except (OSError, pa.ArrowException):
        return -1
    return max((step for step in steps if step < before), default=-1)


def _summary(record: Record, config: Config, metrics: Series) -> dict[str, Any]:
    """What W&B's summary says of a run that is done, with the environment in which it was trained."""
    if record.result is None:
        return {}
    result = {name: value for name, value in record.result.items() if name != "format"}
    made = load_json(record.path / "environment.json") or {}
    return summary(result, config, steps_per_epoch(metrics.table().to_pylist()), made)


def steps_per_epoch(rows: Iterable[dict[str, Any]]) -> int | None:
    """The smallest number that gives each row of a record's figures its epoch; None where there is one epoch.

    >>> steps_per_epoch([{"step": 40, "epoch": 1}, {"step": 45, "epoch": 2}])
    20
    """
    at = [(int(row["step"]), int(row["epoch"])) for row in rows]
    return max((step - 1) // (epoch + 1) for step, epoch in at) + 1 if any(epoch for _, epoch in at) else None
