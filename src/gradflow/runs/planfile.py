"""The plan of a sweep on disk: every run, resolved and checked, written down before the first one starts."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradflow.errors import ConfigError
from gradflow.runs.record import FORMAT, Found, Unreadable, load_json, read_all, write_json

PLAN = "plan.json"
RECIPE = ("cell", "activation", "recurrent_init", "init", "norm", "skip")  # choices that tables join in one word


@dataclass(frozen=True)
class PlannedRun:
    """One cell of a sweep, frozen: editing a config file afterwards changes nothing in it."""

    run_id: str
    overrides: list[str]
    labels: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A sweep.

    Attributes:
        name: of the sweep; its folder's name and the W&B group.
        command: what was typed.
        runs_dir: where the records are.
        runs: in the order in which they start.
    """

    name: str
    command: str
    runs_dir: Path
    runs: list[PlannedRun]


@dataclass(frozen=True)
class Collection:
    """Planned runs and their records, for tables and pictures.

    Attributes:
        name: what to call it in a title.
        command: how to go on, if it was planned.
        planned: labels by run id, in order; of every record found where there is no plan.
        found: the records.
        folder: what was read.
    """

    name: str
    command: str | None
    planned: dict[str, dict[str, Any]]
    found: Found
    folder: Path


def write_plan(folder: Path, plan: Plan) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    runs = [
        {"run_id": run.run_id, "overrides": run.overrides, "labels": run.labels, "config": run.config}
        for run in plan.runs
    ]
    runs_dir = os.path.relpath(plan.runs_dir, folder)
    values = {"name": plan.name, "command": plan.command, "runs_dir": runs_dir, "runs": runs}
    with suppress(Unreadable):  # one that cannot be read is replaced
        if load_json(folder / PLAN) == {"format": FORMAT, **values}:
            return  # its time stamp says since when the sweep is what it is
    write_json(folder / PLAN, values)


def read_plan(folder: Path) -> Plan | None:
    """The plan in a folder, or None.

    Raises:
        Unreadable: if there is one that cannot be read.
    """
    values = load_json(folder / PLAN)
    if values is None:
        return None
    try:
        runs = [PlannedRun(r["run_id"], r["overrides"], r["labels"], r["config"]) for r in values["runs"]]
        runs_dir = Path(os.path.normpath(folder / values["runs_dir"]))
        return Plan(values["name"], values["command"], runs_dir, runs)
    except (KeyError, TypeError) as error:
        raise Unreadable(f"{folder / PLAN}: not a gradflow plan ({error!r})") from None


def collect(folder: Path) -> Collection:
    """What a folder holds: a sweep's folder, a folder of runs, or one run.

    Raises:
        ConfigError: if it is none of these.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a sweep's (sweeps/NAME), a folder of runs, or one run's")
    try:
        plan = read_plan(folder)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    if plan is not None:
        planned = {run.run_id: run.labels for run in plan.runs}
        found = read_all(plan.runs_dir, list(planned))
        return Collection(plan.name, plan.command, planned, found, folder)
    single = (folder / "status.json").exists()
    runs_dir = folder.resolve().parent if single else folder
    found = read_all(runs_dir, [folder.resolve().name] if single else None)
    if not found.records and not found.problems:
        raise ConfigError(f"{folder}: holds neither a {PLAN} nor runs; a sweep's folder is sweeps/NAME")
    planned = {run_id: record.labels for run_id, record in found.records.items()}
    return Collection(folder.resolve().name, None, planned, found, folder)
