"""From overrides to a plan: every cell composed, checked and given its id before anything trains."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from pydantic import BaseModel, ConfigDict, ValidationError

from gradflow.errors import ConfigError, choose_from
from gradflow.runs.compose import Composer
from gradflow.runs.config import Config, explain
from gradflow.runs.identity import labels, run_id
from gradflow.runs.planfile import Plan, PlannedRun

Scalar = bool | int | float | str | None
MOST_SHOWN = 20  # faults listed one by one


class Sweep(BaseModel):
    """What a file in `conf/sweep` holds.

    Attributes:
        name: of the sweep's folder.
        overrides: the same for every run.
        grid: key → choices in Hydra's grammar ('2,10,30', 'range(3)', 'glob(*)'), or a list; all multiplied out.
        zip: key → list; the lists are equally long and walked together. The whole counts as one axis of the grid.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = None
    overrides: list[str] = []
    grid: dict[str, Scalar | list[Scalar]] = {}
    zip: dict[str, list[Scalar]] = {}


@dataclass(frozen=True)
class Faults:
    """What is wrong with some cells of a sweep, in one line, and which."""

    line: str
    cells: list[str]


class Refused(Exception):
    """A plan with impossible cells; nothing has been trained."""

    def __init__(self, faults: list[Faults], total: int) -> None:
        super().__init__(f"{sum(len(f.cells) for f in faults)} of {total} cells cannot run")
        self.faults, self.total = faults, total


def make_plan(composer: Composer, typed: Sequence[str], command: str) -> tuple[Plan, dict[str, Config], Path, int]:
    """The plan that a person's words ask for, its configs by run id, the sweep's folder, and how many cells its grid
    has: cells that differ only in what does not change a run, such as logging, are one run.

    Args:
        typed: overrides; `+sweep=NAME` takes a named sweep, whose keys later words replace.
        command: what to type to go on.

    Raises:
        ConfigError: for words that cannot be read.
        Refused: for cells whose config is impossible.
    """
    name, cells = cells_of(composer, typed)
    configs: dict[str, tuple[list[str], Config]] = {}
    refused: dict[str, list[str]] = {}
    for cell in cells:
        try:
            config = composer.config(cell)
        except ConfigError as error:
            for line in error.lines:
                refused.setdefault(line, []).append(" ".join(cell))
        else:
            configs.setdefault(run_id(config), (cell, config))
    if refused:
        raise Refused([Faults(line, where) for line, where in refused.items()], len(cells))
    any_config = next(iter(configs.values()))[1]
    name = name or "sweep-" + hashlib.sha256(" ".join(sorted(configs)).encode()).hexdigest()[:8]
    named = {
        key: config.model_copy(
            update={"logger": config.logger.model_copy(update={"group": config.logger.group or name})}
        )
        for key, (_, config) in configs.items()
    }
    runs = [PlannedRun(key, configs[key][0], labels(config), config.model_dump()) for key, config in named.items()]
    plan = Plan(name, command, Path(any_config.paths.runs), runs)
    return plan, named, Path(any_config.paths.sweeps) / name, len(cells)


def cells_of(composer: Composer, typed: Sequence[str]) -> tuple[str | None, list[list[str]]]:
    """The sweep's name, if it has one, and each cell's overrides."""
    sweep, own, name = Sweep(), [], None
    for override in composer.parse(typed):
        line, key = str(override.input_line), override.key_or_group
        if key == "sweep":
            sweep = _named(composer, _one_word(override))
        elif key == "sweep.name":
            name = _one_word(override)
        elif key.startswith("sweep."):
            raise ConfigError(f"{line}: unknown key; {choose_from(key, ['sweep.name'])}")
        else:
            own.append(line)
    replaced = {override.key_or_group for override in composer.parse(own)}
    axes = [[f"{key}={_word(value)}"] for key, value in sweep.grid.items() if key not in replaced]
    base = [o for o in sweep.overrides if composer.parse([o])[0].key_or_group not in replaced]
    zipped = {key: values for key, values in sweep.zip.items() if key not in replaced}
    together = [
        [f"{k}={_plain(v)}" for k, v in zip(zipped, column, strict=True)]
        for column in zip(*zipped.values(), strict=True)
    ]
    expanded = list(composer.expand([*base, *(axis[0] for axis in axes), *own]))
    cells = [[*cell, *column] for column, cell in itertools.product(together or [[]], expanded)]
    if not _is_safe(name or sweep.name or "sweep"):
        raise ConfigError(f"sweep.name={name or sweep.name}: must be a plain folder name")
    if name is None and sweep.name is not None and own:
        # A named sweep with other words is another sweep: it gets its own folder.
        name = f"{sweep.name}-{hashlib.sha256(' '.join(sorted(own)).encode()).hexdigest()[:6]}"
    return name or sweep.name, cells


def check(configs: Iterable[tuple[str, Config]], preflight: Callable[[Config], list[str]]) -> list[Faults]:
    """Preflight every config; cells that differ only in their seed are built once."""
    known: dict[str, list[str]] = {}
    faults: dict[str, list[str]] = {}
    for cell, config in configs:
        key = _structure(config)
        if key not in known:
            known[key] = preflight(config)
        for line in known[key]:
            faults.setdefault(line, []).append(cell)
    return [Faults(line, cells) for line, cells in faults.items()]


def _structure(config: Config) -> str:
    values = config.model_dump(exclude={"seed", "paths", "logger"})
    values["task"] = {key: value for key, value in values["task"].items() if key != "split_seed"}
    return repr(values)


def _named(composer: Composer, name: str) -> Sweep:
    content: dict[str, Any] = composer.file("sweep", name, f"+sweep={name}")
    try:
        sweep = Sweep.model_validate(content)
    except ValidationError as error:
        lines = explain(error, content, "sweep.", list(Sweep.model_fields))
        raise ConfigError(*(f"sweep/{name}.yaml: {line}" for line in lines)) from None
    if len({len(values) for values in sweep.zip.values()}) > 1:
        lengths = ", ".join(f"{key} {len(values)}" for key, values in sweep.zip.items())
        raise ConfigError(f"sweep/{name}.yaml: the lists of sweep.zip differ in length ({lengths})")
    return sweep


def _word(value: Scalar | list[Scalar]) -> str:
    """A grid's choices as Hydra writes them."""
    return ",".join(map(_plain, value)) if isinstance(value, list) else _plain(value)


def _plain(value: Scalar) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _one_word(override: Override) -> str:
    value = override.value()
    if override.is_sweep_override() or not isinstance(value, str | int):
        raise ConfigError(f"{override.input_line}: must be one name")
    return str(value)


def _is_safe(name: str) -> bool:
    return bool(name) and not name.startswith(".") and name.isprintable() and not set(name) & set("/\\")
