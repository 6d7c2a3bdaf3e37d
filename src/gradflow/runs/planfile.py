"""The plan of a sweep on disk: every run, resolved and checked, written down before the first one starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradflow.errors import ConfigError
from gradflow.runs.compact import pack, unpack
from gradflow.runs.record import FORMAT, Found, Unreadable, load_json, read_all, write_json

PLAN = "plan.json"
RECIPE = ("cell", "activation", "recurrent_init", "init", "norm", "skip")  # choices that tables join in one word


@dataclass(frozen=True)
class PlannedRun:
    """One cell of a sweep, frozen: editing a config file afterwards changes nothing in it.

    Attributes:
        labels, config: runs of one plan share what is equal in them: change nothing in place.
        estimate: what it will cost, as `gradflow.sweeps.estimate` has it; None where it is not known.
    """

    run_id: str
    overrides: list[str]
    labels: dict[str, Any]
    config: dict[str, Any]
    estimate: dict[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """A sweep.

    Attributes:
        name: of the sweep; its folder's name and the W&B group.
        command: what was typed.
        runs_dir: where the records are.
        runs: in the order in which they start.
        words: what was asked for, in canonical order; the same words find the same plan again.
        made: when it was planned, in seconds since 1970.
        source: a hash of all that the config files said then, and gradflow's version.
    """

    name: str
    command: str
    runs_dir: Path
    runs: list[PlannedRun]
    words: list[str] = field(default_factory=list)
    made: float | None = None
    source: str | None = None


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
    """Write `plan.json`, in one piece; one that says the same but for its time is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = plan.runs
    values = {
        "name": plan.name,
        "command": plan.command,
        "words": plan.words,
        "source": plan.source,
        "made": plan.made,
        "runs_dir": os.path.relpath(plan.runs_dir, folder),
        "ids": [run.run_id for run in runs],
        "overrides": pack([dict(_places(run.overrides)) for run in runs]),
        "labels": pack([run.labels for run in runs]),
        "config": pack([run.config for run in runs]),
        "estimate": pack([{} if run.estimate is None else run.estimate for run in runs]),
    }
    with suppress(Unreadable):  # one that cannot be read is replaced
        earlier = load_json(folder / PLAN)
        if earlier is not None and {**earlier, "made": None} == {"format": FORMAT, **values, "made": None}:
            return  # its time says since when the sweep is what it is
    write_json(folder / PLAN, values)


def _places(words: list[str]) -> Iterator[tuple[str, str]]:
    """A list as a mapping from its places."""
    return ((str(place), word) for place, word in enumerate(words))


def read_plan(folder: Path) -> Plan | None:
    """The plan in a folder, or None.

    Raises:
        Unreadable: if there is one that cannot be read.
    """
    values = load_json(folder / PLAN)
    if values is None:
        return None
    try:
        overrides, labels, configs, estimates = (
            unpack(values[name]) for name in ("overrides", "labels", "config", "estimate")
        )
        runs = [
            PlannedRun(run_id, list(words.values()), known, config, estimate or None)
            for run_id, words, known, config, estimate in zip(
                values["ids"], overrides, labels, configs, estimates, strict=True
            )
        ]
        runs_dir = Path(os.path.normpath(folder / values["runs_dir"]))
        return Plan(
            values["name"], values["command"], runs_dir, runs, values["words"], values["made"], values["source"]
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
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
