"""The picture of learning: the validation metric over training, against what is scored without memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gradflow.results.equal import validations
from gradflow.results.estimate import mean_interval
from gradflow.results.pictures import style
from gradflow.results.pictures.lines import MOST_PANELS, MOST_SEEDS, Panel, arrange
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.pictures.style import REFERENCE, Look
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

SHAPE = Shape(width=2.05, height=1.75, alone=3.4)
FEWEST = 3  # seeds of which an interval of the mean is shown: that of two is 12.7 standard errors wide
MARKS = 5  # markers of a line, about


@dataclass(frozen=True)
class Curve:
    """The validation metric over the seeds of a line.

    Attributes:
        steps: those at which all its seeds were validated.
        mean: over seeds.
        low, high: the 95 % interval of the mean (Student's t) of at least `FEWEST` seeds, else their range.
        seeds: how many.
        diverged: whether no seed reached the end.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int
    diverged: bool


def curve(runs: list[Record]) -> Curve | None:
    """The curve of a line's runs; None if none has a finite figure.

    Seeds that diverged are left out beside others that did not: a mean must not jump where a seed leaves it.
    """
    finite = [(run.state, {v.step: v.value for v in validations(run) if math.isfinite(v.value)}) for run in runs]
    completed = [series for state, series in finite if series and state == "completed"]
    series = completed or [each for _, each in finite if each]
    if not series:
        return None
    steps = sorted(set.intersection(*(set(each) for each in series)))
    stack = np.array([[each[step] for step in steps] for each in series]).reshape(len(series), len(steps))
    mean, low, high = stack.mean(0), stack.min(0), stack.max(0)
    if len(series) >= FEWEST:
        halves = np.array([found.half for row in stack.T.tolist() if (found := mean_interval(row))], dtype=float)
        low, high = mean - halves, mean + halves
    return Curve(np.array(steps), mean, low, high, len(series), not completed)


def draw(collection: Collection, sheet: Sheet = PAGE, by: str | None = None) -> Picture:
    """The validation metric over training steps, a line per network or recipe (or choice `by`), a panel per other
    choice; mean over seeds, with its 95 % interval, or the range of two. A loss is on a logarithmic scale.

    Raises:
        SaysNothing: if no run has been validated twice, or too many lines would share a panel.
        ConfigError: if no run has the choice `by`.
    """
    most = min(MOST_PANELS, sheet.holds(SHAPE))
    found = arrange(collection, _may_have, by=by, most=most, seeds=MOST_SEEDS)
    lines = {
        (i, name): line
        for i, panel in enumerate(found.panels)
        for name, runs in panel.lines.items()
        if (line := curve(runs)) is not None and len(line.steps)
    }
    if all(len(line.steps) < 2 for line in lines.values()):
        raise SaysNothing("no run was validated more than once")
    names = [name for name in found.names if any(name == drawn for _, drawn in lines)]
    look = dict(zip(names, style.looks(len(names), found.ordered), strict=True))
    one_scale = len({(panel.task, _metric(panel)) for panel in found.panels}) == 1
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(found.panels), sharey=one_scale)
        for i, (axis, panel) in enumerate(zip(made.axes, found.panels, strict=True)):
            for name in names:
                if (i, name) in lines:
                    _draw_line(axis, lines[i, name], look[name])
            _dress(axis, panel)
            made.title(axis, panel.title)
        for i, (axis, panel) in enumerate(zip(made.axes, found.panels, strict=True)):
            _limit(axis, [line for (place, _), line in lines.items() if one_scale or place == i])
            if axis.get_yscale() == "log":
                _mark(axis)
            if i % made.across == 0 or (not one_scale and panel.task != found.panels[i - 1].task):
                axis.set_ylabel("validation " + _metric(panel)[0].replace("_", " "))
        made.figure.notes += found.notes
        cut = left_out(made.figure, len(found.panels), len(found.panels) + found.left_out, "panels")
        keys = [*(look[name].key(name) for name in names), *_keys(found.panels, list(lines.values()))]
        return made.finish(f"{collection.name}: learning curves{cut}", "training step", keys)


def _may_have(record: Record) -> bool:
    """Whether there is a series to look into: to read those of thousands of runs would take too long."""
    return record.result is not None and (record.path / "metrics.parquet").exists()


def _draw_line(axis: Axes, line: Curve, look: Look) -> None:
    """With a cross where no seed got further."""
    every = max(1, len(line.steps) // MARKS)
    axis.plot(
        line.steps, line.mean, color=look.color, linestyle=look.linestyle, linewidth=1.1,
        marker=look.marker, markersize=2.8, markevery=every,
    )  # fmt: skip
    axis.fill_between(line.steps, line.low, line.high, color=look.color, alpha=0.15, linewidth=0)
    if line.diverged:
        axis.plot(line.steps[-1], line.mean[-1], "x", color=look.color, markersize=5, markeredgewidth=1.2)


def _dress(axis: Axes, panel: Panel) -> None:
    style.tidy(axis)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    for level in _chances(panel):
        axis.axhline(level, color=REFERENCE, linestyle="--", linewidth=0.9, zorder=1)
    if not _metric(panel)[1]:
        axis.set_yscale("log")


def _limit(axis: Axes, lines: list[Curve]) -> None:
    """The scale is the means': a wide interval leaves the panel rather than press all lines flat."""
    if not lines:
        return
    means = np.concatenate([line.mean for line in lines])
    low, high = axis.get_ylim()
    if axis.get_yscale() == "log":
        positive = means[means > 0]
        if positive.size:
            axis.set_ylim(max(low, positive.min() / 3), min(high, means.max() * 3))
        return
    margin = 0.25 * (float(means.max() - means.min()) or abs(float(means.max())) or 1.0)
    axis.set_ylim(max(low, means.min() - margin), min(high, means.max() + margin))
    chances = [float(np.ravel(line.get_ydata())[0]) for line in axis.lines if line.get_linestyle() == "--"]
    if chances:
        axis.set_ylim(min(axis.get_ylim()[0], min(chances) - 0.1 * margin), max(axis.get_ylim()[1], max(chances)))


def _mark(axis: Axes) -> None:
    """Powers of ten on a logarithmic scale, with 2 and 5 times them where there are few, or even steps in a decade."""
    low, high = axis.get_ylim()
    if high / low >= 100:
        axis.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
    else:
        even = MaxNLocator(nbins=6)
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)) if high / low >= 5 else even)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _keys(panels: list[Panel], lines: list[Curve]) -> list[Artist]:
    """What else is drawn."""
    keys: list[Artist] = []
    if any(_chances(panel) for panel in panels):
        keys.append(style.reference(_chance_words(panels)))
    if any(line.diverged for line in lines):
        keys.append(Line2D([], [], color="black", marker="x", markersize=5, linestyle="none", label="diverged"))
    if any(line.seeds >= FEWEST for line in lines):
        keys.append(Patch(color="black", alpha=0.15, linewidth=0, label="95 % interval of the mean"))
    if any(1 < line.seeds < FEWEST for line in lines):
        keys.append(Patch(color="black", alpha=0.15, linewidth=0, label="range of two seeds"))
    return keys


def _chance_words(panels: list[Panel]) -> str:
    recurrent = any(run.labels.get("cell") for panel in panels for runs in panel.lines.values() for run in runs)
    return "without memory (chance)" if recurrent else "chance"


def _results(panel: Panel) -> list[dict[str, object]]:
    return [run.result for runs in panel.lines.values() for run in runs if run.result]


def _metric(panel: Panel) -> tuple[str, bool]:
    """(its name, whether larger is better) of a panel's runs, which share a task."""
    result = _results(panel)[0]
    return str(result["metric"]).rpartition("/")[2], bool(result.get("larger_is_better", True))


def _chances(panel: Panel) -> list[float]:
    return sorted({float(str(result["chance"])) for result in _results(panel) if result.get("chance") is not None})
