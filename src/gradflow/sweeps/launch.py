"""A sweep from its plan to the end of its last run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow.errors import ConfigError
from gradflow.runs.compose import Composer
from gradflow.runs.credentials import check_logger
from gradflow.runs.pairs import questioned
from gradflow.runs.planfile import Plan, PlannedRun, read_plan, write_plan
from gradflow.runs.record import Unreadable, is_done
from gradflow.runs.stop import Stop
from gradflow.sweeps.allotment import Allotment
from gradflow.sweeps.plan import Refused, check, make_plan

if TYPE_CHECKING:
    from gradflow.sweeps.pool import Progress


@dataclass(frozen=True)
class Prepared:
    """A plan that can start: every cell checked, data in place, written down.

    Attributes:
        folder: the sweep's.
        cells: of the grid; more than runs where some differ only in what does not change a run.
        missing: the runs that have no result yet.
        replaced: how many runs the folder's earlier plan had, if it was another.
        threads: CPU threads of each run.
        notes: pairs of choices that run, but seldom mean what a person wants, a line each.
    """

    plan: Plan
    folder: Path
    cells: int
    missing: list[PlannedRun]
    replaced: int | None
    threads: int
    notes: list[str]


def prepare(composer: Composer, typed: Sequence[str], command: str) -> Prepared:
    """Plan a sweep, check the runs that are still to be trained, and write the plan.

    Raises:
        ConfigError: for words that cannot be read, and missing data.
        Refused: for impossible cells; nothing is written then.
        OSError: if the sweep's folder cannot be written.
    """
    plan, configs, folder, cells = make_plan(composer, typed, command)
    missing = [run for run in plan.runs if not is_done(plan.runs_dir / run.run_id)]
    for config in configs.values():
        check_logger(config)
    if missing:  # torch is needed from here on
        from gradflow.runs.build import preflight, prepare_data

        faults = check(((_cell(run), configs[run.run_id]) for run in missing), preflight)
        if faults:
            raise Refused(faults, len(plan.runs))
        absent = prepare_data(configs[run.run_id] for run in missing)
        if absent:
            raise ConfigError(*absent)
    replaced = _earlier(folder, plan)
    write_plan(folder, plan)
    plan.runs_dir.mkdir(parents=True, exist_ok=True)
    threads = max(config.hardware.threads for config in configs.values())
    doubts = check(((_cell(run), configs[run.run_id]) for run in missing), questioned)
    notes = [f"{doubt.line} ({len(doubt.cells)} of {len(plan.runs)} runs)" for doubt in doubts]
    return Prepared(plan, folder, cells, missing, replaced, threads, notes)


def train(prepared: Prepared, allotment: Allotment, stop: Stop, show: Callable[..., None]) -> Progress:
    """Train what is missing; see `gradflow.sweeps.pool.run_all`."""
    from gradflow.sweeps.pool import run_all

    done_before = len(prepared.plan.runs) - len(prepared.missing)
    return run_all(prepared.missing, allotment, prepared.plan.runs_dir, done_before, stop, show)


def _earlier(folder: Path, plan: Plan) -> int | None:
    """How many runs the plan had that this one takes the place of, if it was another."""
    try:
        earlier = read_plan(folder)
    except Unreadable:
        return None
    same = earlier is None or {run.run_id for run in earlier.runs} == {run.run_id for run in plan.runs}
    return None if same or earlier is None else len(earlier.runs)


def _cell(run: PlannedRun) -> str:
    return " ".join(run.overrides)
