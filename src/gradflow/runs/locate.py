"""Where records and sweeps are unless a person says otherwise, and which run an id means."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from gradflow.errors import ConfigError
from gradflow.runs.record import Unreadable

MOST = 5  # ids that are named in a message


def runs_dir() -> Path:
    return Path(os.environ.get("GRADFLOW_RUNS_DIR", "runs"))


def sweeps_dir() -> Path:
    return Path(os.environ.get("GRADFLOW_SWEEPS_DIR", "sweeps"))


def runs_of(folder: Path) -> Path:
    """Where the records of a folder are: a sweep's are those of its plan, a folder of runs has its own.

    Raises:
        ConfigError: if there is no such folder, or its plan cannot be read.
    """
    from gradflow.runs.planfile import read_plan

    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a sweep's (sweeps/NAME) or a folder of runs")
    try:
        plan = read_plan(folder)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    return folder if plan is None else plan.runs_dir


def folder_of(asked: Path, runs: Path | None = None) -> Path:
    """The folder that is meant by a path, or by the id of a run, or by as much of its beginning as no other run has.

    Args:
        runs: where ids are looked for; the default folder of runs unless given.

    Raises:
        ConfigError: if there is none, or several.
    """
    where = runs_dir() if runs is None else runs
    for folder in (asked, where / asked):
        if folder.is_dir():
            return folder
    names = sorted(entry.name for entry in where.iterdir() if entry.name[0] != ".") if where.is_dir() else []
    begun = [name for name in names if name.startswith(str(asked))]
    if len(begun) == 1:
        return where / begun[0]
    if begun:
        told = ", ".join(begun[:MOST]) + (", …" if len(begun) > MOST else "")
        raise ConfigError(f"{asked}: {len(begun)} runs in {where} begin like this: {told}")
    near = get_close_matches(str(asked), names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "give a run's, e.g. runs/RUN_ID"
    raise ConfigError(f"{asked}: no such folder, and no run in {where} has this id; {hint}")
