"""A sweep from its plan to the end of its last run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow.errors import ConfigError
from gradflow.runs.cells import Validated
from gradflow.runs.compose import Composer
from gradflow.runs.config import Config, Paths
from gradflow.runs.credentials import check_logger
from gradflow.runs.pairs import questioned
from gradflow.runs.planfile import PLAN, Plan, PlannedRun, read_plan, write_plan
from gradflow.runs.record import DONE, Unreadable
from gradflow.runs.states import states
from gradflow.runs.stop import Stop
from gradflow.sweeps.allotment import Allotment
from gradflow.sweeps.forked import warm
from gradflow.sweeps.grid import Asked, ask
from gradflow.sweeps.launcher import Launcher, read_launcher
from gradflow.sweeps.plan import Planned, Refused, check, collector_at_rest, plan_of
from gradflow.sweeps.rerun import chosen, set_aside
from gradflow.sweeps.source import source
from gradflow.sweeps.way_out import way_out

if TYPE_CHECKING:
    from gradflow.sweeps.pool import Progress


@dataclass(frozen=True)
class Prepared:
    """A plan that can start: every cell checked, data in place, written down.

    Attributes:
        folder: the sweep's.
        cells: of the grid; more than runs where some differ only in what does not change a run.
        missing: the runs that have no result yet, in the plan's order.
        replaced: how many runs the folder's earlier plan had, if it was another.
        threads: CPU threads of each run, over all its processes on one machine.
        notes: what a person should know, a line each: pairs of choices that run, but seldom mean what they want;
            config files that have changed since.
        states: of each missing run, by run id: 'missing' if it was never begun, else one of
            `gradflow.runs.record.STATES`, 'stale', 'unreadable' or 'rerun'.
        launcher: where the runs are trained.
        frozen: whether the plan was there before and goes on as it is.
        devices: of each run, on one machine.
        wants_gpu: whether some run may train on a GPU.
    """

    plan: Plan
    folder: Path
    cells: int
    missing: list[PlannedRun]
    replaced: int | None
    threads: int
    notes: list[str]
    states: dict[str, str]
    launcher: Launcher
    frozen: bool = False
    devices: int = 1
    wants_gpu: bool = False

    def only(self, *states: str) -> Prepared:
        """The same with those of the missing runs that are in one of these states, e.g. 'failed'."""
        return replace(self, missing=[run for run in self.missing if self.states[run.run_id] in states])


@dataclass(frozen=True)
class _Missing:
    runs: list[PlannedRun]
    states: dict[str, str]
    configs: dict[str, Config] = field(default_factory=dict)


def prepare(
    composer: Composer,
    typed: Sequence[str],
    command: str,
    *,
    replan: bool = False,
    rerun: Sequence[str] = (),
    write: bool = True,
) -> Prepared:
    """Plan the sweep that a person's words ask for; see `prepare_asked`."""
    return prepare_asked(composer, ask(composer, typed), command, replan=replan, rerun=rerun, write=write)


def prepare_asked(
    composer: Composer,
    asked: Asked,
    command: str,
    *,
    replan: bool = False,
    rerun: Sequence[str] = (),
    write: bool = True,
) -> Prepared:
    """Plan a sweep, or find its plan again; check the runs that are still to be trained, and write the plan.

    A plan is frozen. Where the same words were planned before, that plan goes on: at once where no config file has
    changed since, and with a note where some have, unless all of its runs are done. Only where files lie (`paths`) is
    always as it is now: records that were moved are found again, and runs whose records are not there are missing.

    Args:
        replan: whether to plan anew what was planned before.
        rerun: ids of runs that are to be trained anew; in state 'rerun', their records having been moved aside.
        write: whether the plan is written down, and records are moved.

    Raises:
        ConfigError: for words that cannot be read, missing data, and a plan of another version that cannot go on.
        Refused: for impossible cells; nothing is written then.
        OSError: if the sweep's folder cannot be written.
    """
    launcher = read_launcher(composer, asked.launcher)
    now, paths = source(composer.config_dir), _paths(composer, asked)
    folder = Path(paths.sweeps) / asked.name
    earlier = _read(folder)
    if earlier is not None and earlier.words == asked.words and not replan:
        missing = _missing(earlier.runs, Path(paths.runs), rerun)
        if missing.runs or earlier.source == now:
            if missing.runs and write:
                _warm(launcher)
            plan = _moved(earlier, paths)
            prepared = _go_on(plan, folder, missing, launcher, earlier.source == now)
            return _written(prepared, plan is not earlier) if write else prepared
    if write:
        _warm(launcher)
    prepared = _begin(plan_of(composer, asked, command), launcher, earlier, now, rerun)
    return _written(prepared) if write else prepared


def train(prepared: Prepared, allotment: Allotment, stop: Stop, show: Callable[..., None]) -> Progress:
    """Train what is missing; see `gradflow.sweeps.pool.run_all`."""
    from gradflow.sweeps.pool import run_all

    done_before = len(prepared.plan.runs) - len(prepared.missing)
    return run_all(prepared.missing, allotment, prepared.plan.runs_dir, done_before, stop, show)


def _begin(planned: Planned, launcher: Launcher, earlier: Plan | None, now: str, rerun: Sequence[str]) -> Prepared:
    """Check a new plan."""
    plan, configs, folder, cells = planned
    missing = _missing(plan.runs, plan.runs_dir, rerun)
    missing.configs.update({run.run_id: configs[run.run_id] for run in missing.runs})
    if missing.runs:
        import gradflow.lightning  # noqa: F401 - before anything that imports torch: it is quick
        from gradflow.runs.preflight import Preflight
        from gradflow.sweeps.estimate import Estimator

        preflight = Preflight(here=launcher.kind == "local")
        with collector_at_rest():
            named = [(_cell(run), configs[run.run_id]) for run in missing.runs]
            faults = check(named, preflight.check, preflight.structure)
            if faults:
                places = {cell: place for place, (cell, _) in enumerate(named)}
                where = [[places[cell] for cell in fault.cells] for fault in faults]
                raise Refused(faults, len(plan.runs), way_out(_choices(missing.runs), where))
            estimate = Estimator(preflight)
            runs = sorted(plan.runs, key=lambda run: preflight.structure(configs[run.run_id]))
            costs = {run.run_id: estimate(configs[run.run_id]) for run in runs}
        plan = replace(plan, runs=[replace(run, estimate=costs[run.run_id]) for run in plan.runs])
        missing = replace(missing, runs=[run for run in plan.runs if run.run_id in missing.states])
    plan = replace(plan, made=time.time(), source=now)
    doubts = check(((_cell(run), configs[run.run_id]) for run in missing.runs), questioned)
    notes = [f"{doubt.line} ({len(doubt.cells)} of {len(plan.runs)} runs)" for doubt in doubts]
    same = earlier is None or {run.run_id for run in earlier.runs} == {run.run_id for run in plan.runs}
    replaced = None if same or earlier is None else len(earlier.runs)
    return _ready(plan, folder, cells, missing, replaced, False, notes, launcher)


def _go_on(plan: Plan, folder: Path, missing: _Missing, launcher: Launcher, unchanged: bool) -> Prepared:
    """Take a plan as it is. What the machine must have is looked at again: it may be another one."""
    validated = Validated()
    ids = set(missing.states)
    runs = [run for run in plan.runs if run.run_id in ids]
    try:
        configs = {run.run_id: validated(run.config) for run in runs}
    except ConfigError as error:
        raise ConfigError(
            f"{folder / PLAN}: planned by a gradflow that knew other keys ({error.lines[0]}); --replan plans it anew"
        ) from None
    if runs:
        import gradflow.lightning  # noqa: F401 - before anything that imports torch: it is quick
        from gradflow.runs.preflight import Preflight

        hardware = Preflight(here=launcher.kind == "local").hardware
        asks = {(id(c.hardware), id(c.trainer), c.task.get("batch_size")): c for c in configs.values()}
        if any(map(hardware, asks.values())):
            raise Refused(check(((_cell(run), configs[run.run_id]) for run in runs), hardware), len(plan.runs))
    notes = []
    if not unchanged:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(plan.made))
        notes = [
            f"config files have changed since this plan was written on {day}; it goes on as planned; --replan takes "
            "the changes"
        ]
    missing = _Missing(runs, missing.states, configs)
    return _ready(plan, folder, len(plan.runs), missing, None, True, notes, launcher)


def _warm(launcher: Launcher) -> None:
    """Have what workers need imported on another core, while this one composes and checks."""
    if launcher.kind == "local":
        warm("gradflow.sweeps.worker")


def _ready(
    plan: Plan,
    folder: Path,
    cells: int,
    missing: _Missing,
    replaced: int | None,
    frozen: bool,
    notes: list[str],
    launcher: Launcher,
) -> Prepared:
    """See to accounts and data."""
    configs = missing.configs.values()
    for config in {config.logger.mode: config for config in configs}.values():
        check_logger(config)
    if missing.runs:
        from gradflow.runs.build import prepare_data

        absent = prepare_data(configs)
        if absent:
            raise ConfigError(*absent)
    return Prepared(
        plan,
        folder,
        cells,
        missing.runs,
        replaced,
        max((config.hardware.threads * config.trainer.devices for config in configs), default=1),
        notes,
        missing.states,
        launcher,
        frozen,
        max((config.trainer.devices for config in configs), default=1),
        any(config.hardware.device in ("auto", "cuda") for config in configs),
    )


def _written(prepared: Prepared, anew: bool = True) -> Prepared:
    """Write the plan, and move the records of what is trained anew."""
    plan = prepared.plan
    for run in prepared.missing:
        if prepared.states[run.run_id] == "rerun":
            set_aside(plan.runs_dir, run.run_id)
    if anew:
        write_plan(prepared.folder, plan)
    plan.runs_dir.mkdir(parents=True, exist_ok=True)
    return prepared


def _missing(runs: Sequence[PlannedRun], runs_dir: Path, rerun: Sequence[str]) -> _Missing:
    again = chosen(runs, rerun)
    seen = states(runs_dir, [run.run_id for run in runs])
    found = {run_id: glance.state for run_id, glance in seen.runs.items()} | dict.fromkeys(seen.problems, "unreadable")
    found |= dict.fromkeys(again, "rerun")
    left = [run for run in runs if found.get(run.run_id) not in DONE]
    return _Missing(left, {run.run_id: found.get(run.run_id, "missing") for run in left})


def _paths(composer: Composer, asked: Asked) -> Paths:
    """Where files lie now. A cell may be impossible, and still its plan be found again."""
    try:
        return composer.config(asked.cells[0].overrides).paths
    except ConfigError:
        return composer.config(asked.paths).paths


def _moved(plan: Plan, paths: Paths) -> Plan:
    """A plan whose records lie where they are looked for now."""
    now = paths.model_dump()
    same_place = plan.runs_dir.resolve() == Path(paths.runs).resolve()
    if same_place and all(run.config.get("paths") == now for run in plan.runs):
        return plan
    runs = [
        run if run.config.get("paths") == now else replace(run, config={**run.config, "paths": now})
        for run in plan.runs
    ]
    return replace(plan, runs_dir=Path(paths.runs), runs=runs)


def _read(folder: Path) -> Plan | None:
    try:
        return read_plan(folder)
    except Unreadable:
        return None  # it is replaced


def _choices(runs: Sequence[PlannedRun]) -> list[dict[str, object]]:
    """What tells the cells of a grid apart, by the names that a condition would use."""
    keys = [[text.partition("=")[0].lstrip("+~") for text in run.overrides] for run in runs]
    return [{key: run.labels[key] for key in those if key in run.labels} for run, those in zip(runs, keys, strict=True)]


def _cell(run: PlannedRun) -> str:
    return " ".join(run.overrides)
