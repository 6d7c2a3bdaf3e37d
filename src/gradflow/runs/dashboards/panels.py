"""The words in which a dashboard is described: panels of keys that runs log, sections and blocks that hold them.

Keys are those of `gradflow.runs.wandb_keys`. `by` is a config key: runs that share its value become one bar or line.
Needs no wandb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Axis:
    """One number or word of each run, that of its config or of its summary.

    Attributes:
        key: its name there.
        title: for people.
        log: whether to draw it by its logarithm.
    """

    section: Literal["config", "summary"]
    key: str
    title: str
    log: bool = False


@dataclass(frozen=True)
class Bars:
    """Figures of the summary over runs: their mean, with the smallest and the largest, or their sum.

    Without `by` those are together that the run set has together.
    """

    title: str
    metrics: tuple[str, ...]
    by: str | None = None
    over: Literal["mean", "sum"] = "mean"


@dataclass(frozen=True)
class Lines:
    """Figures of the history over training steps; with `by` the mean of each group, with its smallest and largest."""

    title: str
    metrics: tuple[str, ...]
    by: str | None = None
    log: bool = False


@dataclass(frozen=True)
class Scatter:
    """One point per run."""

    title: str
    x: Axis
    y: Axis
    colour: Axis | None = None


@dataclass(frozen=True)
class Parallel:
    """One line per run across axes."""

    title: str
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Importance:
    """How much each config key has to say about a summary's figure, as W&B's random forest has it."""

    title: str
    metric: str


@dataclass(frozen=True)
class Pictures:
    """Images that runs have logged."""

    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """Markdown."""

    title: str
    markdown: str


Panel = Bars | Lines | Scatter | Parallel | Importance | Pictures | Note


@dataclass(frozen=True)
class Which:
    """Which of a project's runs.

    Attributes:
        ids: these.
        group: or all of this W&B group, which is the sweep that trained them; with neither all of the project.
    """

    ids: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True)
class Section:
    title: str
    panels: tuple[Panel, ...]
    opened: bool = True


@dataclass(frozen=True)
class Workspace:
    """A saved view of a project.

    Attributes:
        name: a second one of this name takes the place of the first.
        runs: those it shows.
        columns: of the runs table.
    """

    name: str
    sections: tuple[Section, ...]
    runs: Which = Which()
    columns: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class RunSet:
    """Which runs the panels of a grid show.

    Attributes:
        name: what it is called.
        by: config or summary, and its key: runs that share its value are shown together; () for each run by itself.
        where: config keys and the value that a run must have.
    """

    name: str
    by: tuple[Axis, ...] = ()
    where: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Heading:
    text: str
    level: Literal[1, 2] = 1


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Markdown:
    text: str


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Grid:
    runs: RunSet
    panels: tuple[Panel, ...]


Block = Heading | Words | Markdown | Code | Grid


@dataclass(frozen=True)
class Report:
    """A page of text and panels.

    Attributes:
        title: a second one of this title takes the place of the first.
        runs: those that its grids show.
    """

    title: str
    description: str
    blocks: tuple[Block, ...]
    runs: Which = Which()
