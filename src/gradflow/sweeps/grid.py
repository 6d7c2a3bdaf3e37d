"""From a person's words and files in `conf/sweep` to the cells of a grid, by Hydra's grammar."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override
from pydantic import BaseModel, ConfigDict, ValidationError

from gradflow.errors import ConfigError, choose_from
from gradflow.runs.compose import Composer
from gradflow.runs.config import explain
from gradflow.sweeps.where import Where

Scalar = bool | int | float | str | None
Choices = dict[str, Scalar | list[Scalar]]
Zip = dict[str, list[Scalar]]
Words = list[str]
KEYS = ("sweep.name", "sweep.where", "sweep.zip")


class Grid(BaseModel):
    """A grid.

    Attributes:
        overrides: the same for every run.
        grid: key → choices in Hydra's grammar ('2,10,30', 'range(3)', 'glob(*)'), or a list; all multiplied out.
        zip: key → list; the lists are equally long and walked together. The whole counts as one axis of the grid.
        where: which of the cells are wanted, e.g. "not (norm=='none' and depth>50)".
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    overrides: list[str] = []
    grid: Choices = {}
    zip: Zip = {}
    where: str | None = None


class Sweep(Grid):
    """What a file in `conf/sweep` holds.

    Attributes:
        name: of the sweep's folder.
        grids: further grids, whose cells follow; `overrides` and `where` of the sweep hold for them too.
    """

    name: str | None = None
    grids: list[Grid] = []


@dataclass(frozen=True)
class Cell:
    """One cell of a grid, before it is composed, and the conditions under which it is wanted."""

    overrides: Words
    where: tuple[Where, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a person's words ask for.

    Attributes:
        name: of the sweep: its own, or one made of its words.
        words: those that say which runs, in canonical order; not where they are trained and where files lie.
        launcher: 'launcher=…' and 'launcher.key=…'.
        paths: 'paths.key=…'.
        cells: in order, equal ones once.
    """

    name: str
    words: Words
    launcher: Words
    paths: Words
    cells: list[Cell]


@dataclass
class _Typed:
    sweeps: list[Sweep] = field(default_factory=list)
    name: str | None = None
    zips: list[list[str]] = field(default_factory=list)
    where: list[Where] = field(default_factory=list)
    own: Words = field(default_factory=list)
    launcher: Words = field(default_factory=list)
    words: Words = field(default_factory=list)  # beside `own`


def ask(composer: Composer, typed: Sequence[str]) -> Asked:
    """Read the words of a sweep.

    Raises:
        ConfigError: for words and sweep files that cannot be read.
    """
    said = _read(composer, typed)
    keys = {text: composer.parse([text])[0].key_or_group for text in said.own}
    paths = [text for text in said.own if keys[text].startswith("paths.")]
    of_runs = sorted((text for text in said.own if text not in paths), key=lambda text: keys[text])
    named = "+".join(sweep.name for sweep in said.sweeps if sweep.name) or None
    altered = [*of_runs, *sorted((word for word in said.words if _key(word) in KEYS[1:]), key=_key)]
    name = said.name or named
    if said.name is None and named is not None and altered:
        # A named sweep with other words is another sweep: it gets its own folder.
        name = f"{named}-{_digest(altered)[:6]}"
    if name is not None and not _is_safe(name):
        raise ConfigError(f"sweep.name={name}: must be a plain folder name")
    own_folder = [] if composer.config_dir is None else [f"--config-dir={composer.config_dir}"]
    words = [*sorted(said.words, key=_key), *of_runs, *own_folder]
    grids = [grid for sweep in said.sweeps or [Sweep()] for grid in _grids(sweep)]
    cells = {
        (tuple(cell), where): Cell(cell, where)
        for grid, source in grids
        for cell, where in _cells(composer, grid, source, said)
    }
    return Asked(name or f"sweep-{_digest(words)[:8]}", words, said.launcher, paths, list(cells.values()))


def _read(composer: Composer, typed: Sequence[str]) -> _Typed:
    """Sort a person's words by what they are for."""
    said, rest = _Typed(), []
    for text in typed:
        key, (_, equals, value) = _key(text), text.partition("=")
        if key == "sweep.where" and equals:  # not in Hydra's grammar, which would read its brackets as a function's
            said.where.append(Where(_unquoted(value)))
            said.words.append(f"sweep.where={_unquoted(value)}")
        elif key == "launcher" or key.startswith("launcher."):
            said.launcher.append(text)
        else:
            rest.append(text)
    for override in composer.parse(rest):
        line, key = str(override.input_line), override.key_or_group
        if key == "sweep":
            said.sweeps += [_named(composer, name) for name in _names(override)]
        elif key == "sweep.name":
            said.name = _one_word(override)
        elif key == "sweep.zip":
            said.zips += _zips(override)
        elif key.startswith("sweep."):
            raise ConfigError(f"{line}: unknown key; {choose_from(key, KEYS)}")
        else:
            said.own.append(line)
            continue
        said.words.append(line)
    return said


def _grids(sweep: Sweep) -> list[tuple[Grid, str]]:
    """The grids of a sweep, and what their conditions are called in messages."""
    where = f"sweep/{sweep.name or '…'}.yaml: where"
    whole = Grid(overrides=sweep.overrides, grid=sweep.grid, zip=sweep.zip, where=sweep.where)
    if not sweep.grids:
        return [(whole, where)]
    first = [(whole, where)] if sweep.grid or sweep.zip else []
    return first + [
        (
            Grid(
                overrides=[*sweep.overrides, *grid.overrides],
                grid=grid.grid,
                zip=grid.zip,
                where=" and ".join(f"({text})" for text in (sweep.where, grid.where) if text) or None,
            ),
            where,
        )
        for grid in sweep.grids
    ]


def _cells(composer: Composer, grid: Grid, source: str, said: _Typed) -> Iterable[tuple[Words, tuple[Where, ...]]]:
    """The cells of one grid, with a person's own words in place of those with the same key."""
    where = (*([Where(grid.where, source)] if grid.where else []), *said.where)
    replaced = {override.key_or_group for override in composer.parse(said.own)}
    axes = [f"{key}={_word(value)}" for key, value in grid.grid.items() if key not in replaced]
    within = replaced | {override.key_or_group for override in composer.parse(axes)} | set(grid.zip)
    base = [text for text in grid.overrides if composer.parse([text])[0].key_or_group not in within]
    zipped = {key: values for key, values in grid.zip.items() if key not in replaced}
    together = [
        [f"{k}={_plain(v)}" for k, v in zip(zipped, column, strict=True)]
        for column in zip(*zipped.values(), strict=True)
    ]
    expanded = _expanded(composer, [*base, *axes, *said.own], said.zips)
    for column, cell in itertools.product(together or [[]], list(expanded)):
        yield [*cell, *column], where


def _expanded(composer: Composer, words: Words, zips: list[list[str]]) -> Iterable[Words]:
    """Choices multiplied out, those of a zip walked together where the first of them stands."""
    keys = [override.key_or_group for override in composer.parse(words)]
    group_of = {key: number for number, group in enumerate(zips) for key in group}
    axes: list[list[Words]] = []
    places: dict[int, int] = {}
    lengths: dict[int, dict[str, int]] = {}
    for text, key in zip(words, keys, strict=True):
        choices = list(composer.expand([text]))
        number = group_of.get(key)
        if number is None:
            axes.append(choices)
            continue
        lengths.setdefault(number, {})[key] = len(choices)
        if number not in places:
            places[number] = len(axes)
            axes.append(choices)
        elif len(choices) == len(axes[places[number]]):
            before = axes[places[number]]
            axes[places[number]] = [[*one, *other] for one, other in zip(before, choices, strict=True)]
    for number, group in enumerate(zips):
        found = lengths.get(number, {})
        absent = [key for key in group if key not in found]
        if absent:
            raise ConfigError(f"sweep.zip: '{absent[0]}' has no choices here; {choose_from(absent[0], keys)}")
        if len(set(found.values())) > 1:
            told = ", ".join(f"{key} {length}" for key, length in found.items())
            raise ConfigError(f"sweep.zip=[{','.join(group)}]: the choices differ in number ({told})")
    return ([text for words in cell for text in words] for cell in itertools.product(*axes))


def _named(composer: Composer, name: str) -> Sweep:
    content: dict[str, Any] = composer.file("sweep", name, f"+sweep={name}")
    try:
        sweep = Sweep.model_validate(content)
    except ValidationError as error:
        lines = explain(error, content, "sweep.", list(Sweep.model_fields))
        raise ConfigError(*(f"sweep/{name}.yaml: {line}" for line in lines)) from None
    for grid in (sweep, *sweep.grids):
        if len({len(values) for values in grid.zip.values()}) > 1:
            lengths = ", ".join(f"{key} {len(values)}" for key, values in grid.zip.items())
            raise ConfigError(f"sweep/{name}.yaml: the lists of sweep.zip differ in length ({lengths})")
    return sweep


def _names(override: Override) -> list[str]:
    """Of the sweeps in '+sweep=a,b'."""
    if override.is_sweep_override():
        return [str(name) for name in override.sweep_string_iterator()]
    return [_one_word(override)]


def _zips(override: Override) -> list[list[str]]:
    value: Any = override.value()
    groups: list[Any] = value if isinstance(value, list) and all(isinstance(each, list) for each in value) else [value]
    for group in groups:
        if not isinstance(group, list) or len(group) < 2 or not all(isinstance(key, str) for key in group):
            raise ConfigError(
                f"{override.input_line}: must list keys that are walked together, e.g. sweep.zip=[activation,init], "
                "or several such lists"
            )
    named = [key for group in groups for key in group]
    twice = [key for key in named if named.count(key) > 1]
    if twice:
        raise ConfigError(f"{override.input_line}: '{twice[0]}' stands there twice")
    return groups


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


def _unquoted(text: str) -> str:
    """Without the quotes that Hydra's grammar would ask for around the whole."""
    text = text.strip()
    inner = text[1:-1]
    return inner if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in inner else text


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+")


def _digest(words: Words) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _is_safe(name: str) -> bool:
    return bool(name) and not name.startswith(".") and name.isprintable() and not set(name) & set("/\\")
