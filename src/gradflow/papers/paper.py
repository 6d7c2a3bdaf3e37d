"""What a file in `conf/paper` holds: one published table or figure, its protocol and its claims, and no code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from gradflow.errors import ConfigError, choose_from
from gradflow.papers.arithmetic import Arithmetic
from gradflow.papers.claims import Claimed, parse
from gradflow.resources import conf_dir
from gradflow.runs.config import explain
from gradflow.sweeps.where import Where

SCALES = ("full", "small")
PROVENANCE = {
    "V": "verified in the paper or its authors' code",
    "V2": "as quoted by another paper",
    "D": "digitised from a figure of the paper",
    "C": "computed, not published as a figure",
    "M": "from memory, unverified",
}
Key = tuple[str, ...]  # a cell: the value of each axis, in order
_VALUE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")


def _name(value: object) -> object:
    """YAML reads 20 as a number and `no` as false; coordinates are words."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


Name = Annotated[str, BeforeValidator(_name)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Adjust(_Part):
    """Further overrides of the cells of which a condition holds.

    Attributes:
        where: on the coordinates, e.g. "net == 'plain' and depth > 20"; see `gradflow.sweeps.where`.
    """

    where: str
    overrides: list[str]


class Measure(_Part):
    """What a cell shows: a number of each run, averaged over the seeds, or the share of runs that reach something.

    Attributes:
        figure: of a result ('test/accuracy', 'val/loss', 'steps', 'cost/parameters'), 'metric' for the task's headline
            figure, 'solved' for the update at which validation first met the task's criterion (none for runs that never
            did), or 'gradient_ratio', first block ÷ last block over training.
        quantity: or a quantity of `gradflow.parquet`, of the blocks.
        at: the figure as logged last at or before this update, instead of at the end.
        last: the figure's mean over the last so many updates.
        least, most: the smallest or largest that was logged.
        step: of a quantity: the first or the last that was logged.
        block: of a quantity: the first block's value, the last's, their mean, first ÷ last ('ratio'), or that ratio per
            block ('slope'): (first ÷ last)^(1 / (L − 1)).
        convert: arithmetic in x, applied to each run's number, e.g. '100 * (1 - x)' for an error in per cent.
        share: a condition on the converted x, e.g. 'x <= 0.05': the measure is the share of runs of which it holds.
            Runs that diverged, or have no such figure, count as runs of which it does not.
        unit, label: for people.
        better: whether smaller or larger is better; null where neither is.
    """

    label: str
    figure: str | None = None
    quantity: str | None = None
    at: int | None = None
    last: int | None = None
    least: bool = False
    most: bool = False
    step: Literal["first", "last"] = "first"
    block: Literal["first", "last", "mean", "ratio", "slope"] = "mean"
    convert: str | None = None
    share: str | None = None
    unit: str = ""
    better: Literal["smaller", "larger"] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Measure:
        if (self.figure is None) == (self.quantity is None):
            raise ValueError("needs either a figure or a quantity")
        if sum([self.at is not None, self.last is not None, self.least, self.most]) > 1:
            raise ValueError("at, last, least and most exclude each other")
        for key in ("convert", "share"):
            text = getattr(self, key)
            if text is not None:
                Arithmetic(text, key)
        return self

    @property
    def of_series(self) -> bool:
        """Whether it is read from what was logged on the way, not from the result."""
        return self.quantity is not None or self.at is not None or self.last is not None or self.least or self.most


Figures = dict[Name, Any]  # value of the first axis → value of the second → … → number


class Published(_Part):
    """Figures that were printed, all of one measure and one provenance.

    Attributes:
        provenance: of `PROVENANCE`; 'M' is shown as unverified.
        tolerance: how far the printed figure may be off, in the measure's unit: of digitising, or its own spread; half
            a unit of its last digit unless given.
        note: where it stands, or what is odd about it.
        figures: nested by the axes' values, in the order of the axes.
    """

    measure: str
    provenance: Literal["V", "V2", "D", "C", "M"]
    figures: Figures
    tolerance: float | None = None
    note: str | None = None


class Claim(_Part):
    """A sentence of the paper that a machine can check; see `gradflow.papers.claims`.

    Attributes:
        claim: e.g. 'error(plain,56) > error(plain,20)'.
        says: the same in words.
        source: the sentence's, figure's or table's place.
    """

    claim: str
    says: str
    source: str


class Scale(_Part):
    """How much of a paper is run.

    Attributes:
        seeds: of each cell; 0, 1, ….
        overrides, adjust: as the paper's own, after them.
        where: which of the cells are run.
        minutes: what it takes on two CPU cores.
        why: what a reduced protocol still tests.
    """

    seeds: int = Field(ge=1)
    overrides: list[str] = []
    adjust: list[Adjust] = []
    where: str | None = None
    minutes: float | None = None
    why: str | None = None


class Picture(_Part):
    """The published figures beside ours, over an axis of numbers.

    Attributes:
        x: that axis.
        lines: the axis whose values are lines; the remaining ones are panels.
        measure: the paper's first unless given.
        log_x, log_y: whether an axis is logarithmic.
    """

    x: str
    lines: str | None = None
    measure: str | None = None
    log_x: bool = False
    log_y: bool = False


class Paper(_Part):
    """One published table or figure.

    Attributes:
        shows: which table or figure.
        about: one line.
        protocol: the paper's, in sentences.
        ambiguities: what the paper leaves open, and what is done here.
        deviations: of gradflow's full scale from the protocol; those of a smaller scale are found by comparing configs.
        overrides: of every run.
        axes: name → value → overrides; null where gradflow has no such thing, and the cell is shown but never run.
        where: which combinations exist, a condition on the coordinates.
        adjust: further overrides of some cells.
        figure: null where there is nothing to draw against numbers.
        pictures: kinds of `gradflow plot` that show the runs.
    """

    title: str
    authors: str
    year: int
    venue: str
    link: str | None = None
    shows: str
    about: str
    protocol: list[str]
    ambiguities: list[str] = []
    deviations: list[str] = []
    overrides: list[str] = []
    axes: dict[str, dict[Name, list[str] | None]]
    where: str | None = None
    adjust: list[Adjust] = []
    measures: dict[str, Measure]
    published: list[Published] = []
    claims: list[Claim]
    full: Scale
    small: Scale
    figure: Picture | None = None
    pictures: list[str] = []

    @field_validator("axes")
    @classmethod
    def _are_words(cls, axes: dict[str, dict[str, list[str] | None]]) -> dict[str, dict[str, list[str] | None]]:
        for axis, values in axes.items():
            for value in values:
                if not _VALUE.fullmatch(value):
                    raise ValueError(f"{axis}: '{value}' must be a number or a plain word (letters, digits, _)")
        return axes

    @property
    def citation(self) -> str:
        """'He, Zhang, Ren and Sun 2016, Deep Residual Learning for Image Recognition, CVPR, arXiv:1512.03385'."""
        return ", ".join(filter(None, (f"{self.authors} {self.year}", self.title, self.venue, self.link)))

    def cells(self) -> list[Key]:
        """Every cell that exists, in the order of the axes."""
        condition = None if self.where is None else Where(self.where, "where")
        found = itertools.product(*self.axes.values())
        return [key for key in found if condition is None or condition(self.look(key).__getitem__)]

    def look(self, key: Key) -> dict[str, Any]:
        """The coordinates of a cell by axis; numbers where they are."""
        return {axis: _number(value) for axis, value in zip(self.axes, key, strict=True)}

    def has(self, key: Key) -> bool:
        """Whether gradflow has all that a cell needs."""
        return all(values[value] is not None for values, value in zip(self.axes.values(), key, strict=True))

    def scale(self, name: str) -> Scale:
        return self.full if name == "full" else self.small

    def wanted(self, scale: str) -> list[Key]:
        """The cells that are run at a scale."""
        where = self.scale(scale).where
        condition = None if where is None else Where(where, f"{scale}.where")
        keys = [key for key in self.cells() if self.has(key)]
        return [key for key in keys if condition is None or condition(self.look(key).__getitem__)]

    def overrides_of(self, key: Key, scale: str) -> list[str]:
        """Of one cell, without its seed; of the same key only the last is left."""
        own = self.scale(scale)
        words = list(self.overrides)
        for values, value in zip(self.axes.values(), key, strict=True):
            words += values[value] or []
        words += self._adjusted(self.adjust, key) + own.overrides + self._adjusted(own.adjust, key)
        last = {text.partition("=")[0].lstrip("+"): text for text in words}
        return list(last.values())

    def printed(self, measure: str) -> dict[Key, tuple[float, Published]]:
        """The published figures of a measure, by cell."""
        return {
            key: (number, block)
            for block in self.published
            if block.measure == measure
            for key, number in _flat(block.figures)
        }

    def claimed(self) -> list[Claimed]:
        return [parse(claim.claim) for claim in self.claims]

    def _adjusted(self, adjust: list[Adjust], key: Key) -> list[str]:
        look = self.look(key).__getitem__
        return [text for each in adjust if Where(each.where, "adjust.where")(look) for text in each.overrides]


def names(config_dir: str | None = None) -> list[str]:
    """Of all papers, a person's own among them."""
    return sorted({file.stem for folder in _folders(config_dir) for file in folder.glob("*.yaml")})


def load(name: str, config_dir: str | None = None) -> Paper:
    """The paper of `conf/paper/NAME.yaml`.

    Raises:
        ConfigError: for an unknown name, and for a file that does not hold a paper: a line for each mistake.
    """
    file = next((found for folder in _folders(config_dir) if (found := folder / f"{name}.yaml").is_file()), None)
    if file is None or Path(name).name != name:
        raise ConfigError(f"paper {name}: unknown; {choose_from(name, names(config_dir))}")
    where = f"paper/{name}.yaml"
    try:
        content = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: not YAML ({error.problem})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: holds no paper; it must be keys and values")
    try:
        paper = Paper.model_validate(content)
    except ValidationError as error:
        lines = explain(error, content, "", list(Paper.model_fields))
        raise ConfigError(*(f"{where}: {line}" for line in lines)) from None
    faults = [f"{where}: {line}" for line in list(_unreadable(paper)) or _faults(paper)]
    if faults:
        raise ConfigError(*faults)
    return paper


def _folders(config_dir: str | None) -> list[Path]:
    own = [] if config_dir is None else [Path(config_dir) / "paper"]
    return [*own, conf_dir() / "paper"]


def _unreadable(paper: Paper) -> Iterator[str]:
    """Conditions that mean nothing."""
    conditions = [("where", paper.where), *((f"{name}.where", paper.scale(name).where) for name in SCALES)]
    adjusted = [*paper.adjust, *paper.full.adjust, *paper.small.adjust]
    conditions += [("adjust.where", each.where) for each in adjusted]
    for source, text in conditions:
        try:
            named = [] if text is None else Where(text, source).names
        except ConfigError as error:
            yield error.lines[0]
            continue
        for name in named:
            if name not in paper.axes:
                yield f"{source}={text}: '{name}' is no axis; {choose_from(name, paper.axes)}"


def _faults(paper: Paper) -> Iterator[str]:
    """What does not fit together."""
    known = list(paper.axes)
    cells = set(itertools.product(*paper.axes.values()))
    existing = set(paper.cells())
    for block in paper.published:
        if block.measure not in paper.measures:
            yield f"published: measure '{block.measure}' is unknown; {choose_from(block.measure, paper.measures)}"
        for key, number in _flat(block.figures):
            if key not in cells:
                yield f"published.{block.measure}: ({','.join(key)}) is no cell; the axes are {', '.join(known)}"
            elif key not in existing:
                yield f"published.{block.measure}: ({','.join(key)}) is left out by where={paper.where}"
            elif not isinstance(number, int | float) or isinstance(number, bool):
                yield f"published.{block.measure}({','.join(key)})={number}: must be a number"
    for claim in paper.claims:
        try:
            used = parse(claim.claim).cells()
        except ConfigError as error:
            yield error.lines[0]
            continue
        for measure, key in used:
            if measure not in paper.measures:
                yield f"claims: '{claim.claim}': measure '{measure}' is unknown; {choose_from(measure, paper.measures)}"
            elif key not in existing:
                yield f"claims: '{claim.claim}': ({','.join(key)}) is no cell; the axes are {', '.join(known)}"
    if paper.figure is not None:
        for role, axis in (("x", paper.figure.x), ("lines", paper.figure.lines)):
            if axis is not None and axis not in paper.axes:
                yield f"figure.{role}={axis}: is no axis; {choose_from(axis, known)}"
        if paper.figure.measure is not None and paper.figure.measure not in paper.measures:
            yield f"figure.measure={paper.figure.measure}: unknown; {choose_from(paper.figure.measure, paper.measures)}"
    for name in SCALES:
        if not paper.wanted(name):
            yield f"{name}.where={paper.scale(name).where}: leaves no cell"


def _flat(figures: Figures, before: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, inner in figures.items():
        key = (*before, str(_name(name)))
        if isinstance(inner, dict):
            yield from _flat(inner, key)
        elif inner is not None:
            yield key, inner


def _number(value: str) -> Any:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value
