"""From words to a plan: every cell composed, checked and given its id before anything trains."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from gradflow.errors import ConfigError
from gradflow.runs.cells import Cells
from gradflow.runs.compose import Composer
from gradflow.runs.config import Config
from gradflow.runs.identity import labels, run_id
from gradflow.runs.planfile import Plan, PlannedRun
from gradflow.sweeps.grid import Asked, Cell, ask
from gradflow.sweeps.where import Wanted

MOST_SHOWN = 20  # faults listed one by one


@dataclass(frozen=True)
class Faults:
    """What is wrong with some cells of a sweep, in one line, and which."""

    line: str
    cells: list[str]


class Refused(Exception):
    """A plan with impossible cells; nothing has been trained.

    Attributes:
        way_out: words that leave the impossible cells out, where some choices tell them from all others.
    """

    def __init__(self, faults: list[Faults], total: int, way_out: str | None = None) -> None:
        super().__init__(f"{sum(len(f.cells) for f in faults)} of {total} cells cannot run")
        self.faults, self.total, self.way_out = faults, total, way_out


class Planned(NamedTuple):
    """A plan and what it was made of.

    Attributes:
        configs: by run id.
        folder: the sweep's.
        cells: how many were wanted; more than runs where some differ only in what does not change a run.
    """

    plan: Plan
    configs: dict[str, Config]
    folder: Path
    cells: int


def make_plan(composer: Composer, typed: Sequence[str], command: str) -> Planned:
    """The plan that a person's words ask for: see `gradflow.sweeps.grid`.

    Args:
        typed: overrides; `+sweep=NAME` takes a named sweep, whose keys later words replace.
        command: what to type to go on.

    Raises:
        ConfigError: for words that cannot be read.
        Refused: for cells whose config is impossible.
    """
    return plan_of(composer, ask(composer, typed), command)


def plan_of(composer: Composer, asked: Asked, command: str) -> Planned:
    """Compose every cell that is wanted. Cells that differ only in what does not change a run, such as logging, are
    one run.

    Raises:
        ConfigError: for conditions that mean nothing, or leave no cell.
        Refused: for cells whose config is impossible.
    """
    with collector_at_rest():
        return _plan_of(composer, asked, command)


def _plan_of(composer: Composer, asked: Asked, command: str) -> Planned:
    cells, wanted, dumped = Cells(composer), Wanted(), _Dumped(asked.name)
    runs: dict[str, PlannedRun] = {}
    configs: dict[str, Config] = {}
    refused: dict[str, list[str]] = {}
    count = 0
    for cell in asked.cells:
        try:
            config = cells.config(cell.overrides)
        except ConfigError as error:
            if cell.where and _is_unwanted(composer, cell):
                continue
            count += 1
            for line in error.lines:
                refused.setdefault(line, []).append(" ".join(cell.overrides))
            continue
        known = labels(config)
        if cell.where and not wanted.keeps(cell.where, known, _keys_of(config)):
            continue
        count += 1
        key = run_id(config)
        if key not in runs:
            configs[key] = config = dumped.named(config)
            runs[key] = PlannedRun(key, cell.overrides, known, dumped.values(config))
    wanted.finish()
    if refused:
        raise Refused([Faults(line, where) for line, where in refused.items()], count)
    if not runs:
        told = " and ".join(dict.fromkeys(where.text for cell in asked.cells for where in cell.where))
        raise ConfigError(f"sweep.where={told}: leaves none of {len(asked.cells)} cells")
    paths = next(iter(configs.values())).paths
    plan = Plan(asked.name, command, Path(paths.runs), list(runs.values()), asked.words)
    return Planned(plan, configs, Path(paths.sweeps) / asked.name, count)


def check(
    configs: Iterable[tuple[str, Config]],
    preflight: Callable[[Config], list[str]],
    alike: Callable[[Config], str] | None = None,
) -> list[Faults]:
    """Preflight every config; cells that differ only in their seed are looked at once.

    Args:
        configs: what a cell is called, and its config.
        preflight: the lines that say what is wrong with one.
        alike: the same for configs that had better come one after another.
    """
    listed = list(configs)
    order = sorted(range(len(listed)), key=lambda i: alike(listed[i][1])) if alike is not None else range(len(listed))
    known: dict[Any, list[str]] = {}
    found: dict[int, list[str]] = {}
    texts: dict[int, str] = {}
    for i in order:
        config = listed[i][1]
        key = _structure(config, texts)
        if key not in known:
            known[key] = preflight(config)
        found[i] = known[key]
    faults: dict[str, list[str]] = {}
    for i, (cell, _) in enumerate(listed):
        for line in found[i]:
            faults.setdefault(line, []).append(cell)
    return [Faults(line, cells) for line, cells in faults.items()]


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Python's search for cycles would go through everything that lives again and again, while thousands of things are
    made that have none."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _structure(config: Config, texts: dict[int, str]) -> tuple[Any, ...]:
    """All of a config but for seeds, and where files lie.

    Args:
        texts: of parts by their identity, which many configs share.
    """
    found: list[Any] = []
    for key, part in config:
        if key in ("seed", "paths", "logger"):
            continue
        if isinstance(part, dict | list | BaseModel):
            if id(part) not in texts:
                seedless = key == "task" and {k: v for k, v in config.task.items() if k != "split_seed"}
                texts[id(part)] = repr(seedless or part)
            part = texts[id(part)]
        found.append(part)
    return tuple(found)


def _keys_of(config: Config) -> Callable[[str], Any]:
    def key(name: str) -> Any:
        """The value at a dotted key of the config."""
        found: Any = config
        for part in name.split("."):
            if isinstance(found, BaseModel) and part in type(found).model_fields:
                found = getattr(found, part)
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise LookupError(name)
        if isinstance(found, dict | BaseModel):
            raise LookupError(name)
        return ",".join(map(str, found)) if isinstance(found, list) else found

    return key


def _is_unwanted(composer: Composer, cell: Cell) -> bool:
    """Whether what was typed of a cell that cannot be composed is enough to leave it out."""
    typed = {override.key_or_group: override.value() for override in composer.parse(cell.overrides)}
    for where in cell.where:
        with suppress(ConfigError):
            if set(where.names) <= set(typed) and not where(typed.__getitem__):
                return True
    return False


class _Dumped:
    """Configs as plain values, of which runs share what they have in common."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._known: dict[int, tuple[Any, Any]] = {}  # by identity: the part, kept alive, and what is made of it

    def named(self, config: Config) -> Config:
        """With the sweep's name as the W&B group, unless it has one."""
        logger = config.logger
        if logger.group:
            return config
        if id(logger) not in self._known:
            self._known[id(logger)] = logger, logger.model_copy(update={"group": self._group})
        return config.model_copy(update={"logger": self._known[id(logger)][1]})

    def values(self, config: Config) -> dict[str, Any]:
        """What `config.model_dump()` gives."""
        values = {}
        for key, part in config:
            if isinstance(part, dict | list | BaseModel):
                if id(part) not in self._known:
                    self._known[id(part)] = part, config.model_dump(include={key})[key]
                part = self._known[id(part)][1]
            values[key] = part
        return values
