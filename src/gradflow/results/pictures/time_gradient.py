"""The picture of the time axis: how large the gradient is at every step of a sequence, before and after training.

Shapes: S steps of the sequence at which it was measured.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gradflow.results.pictures import style
from gradflow.results.pictures.lines import MOST_PANELS, MOST_SEEDS, Arranged, arrange
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.pictures.style import Look
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

QUANTITIES = ("time_grad_h", "time_grad_h_q10", "time_grad_h_q90")
# Decades shown below and above the gradient at the last step; what goes further leaves the panel, its slope still seen.
BELOW, ABOVE = 12, 6
SHAPE = Shape(width=2.05, height=1.55, right=0.15)
MARKS = 5  # markers of a line, about
WITHOUT = "#9e9e9e"  # in the legend, of a network without a gradient through time


@dataclass(frozen=True)
class Profile:
    """‖∂L/∂h_t‖ over t at one moment of a run.

    Attributes:
        step: the number of updates made.
        t: the steps of the sequence at which it was measured, rising, [S].
        median, low, high: over the examples of a batch, [S]: median, 10 % and 90 % quantile. An exact zero is 0; NaN is
            what was not finite, or not recorded.
    """

    step: int
    t: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def profiles(path: Path) -> list[Profile]:
    """The first and the last profile of block 0 in a record: two, one if it was measured once, or none."""
    file = path / "gradflow.parquet"
    if not file.exists():
        return []
    columns = ["step", "block", "name", "time", "quantity", "value"]
    table = pq.read_table(file, columns=columns, filters=[("quantity", "in", QUANTITIES), ("block", "=", 0)])
    table = table.filter(table["time"].is_valid())
    if not len(table):
        return []
    step, time, value = (table[name].to_numpy() for name in ("step", "time", "value"))
    quantity, name = (np.asarray(table[column].to_pylist()) for column in ("quantity", "name"))
    one = name == name[0]  # a layer that reads in two directions has two, the forward one first
    found = []
    for moment in sorted({int(step.min()), int(step.max())}):
        here = (step == moment) & one
        t = np.unique(time[here])
        rows = np.full((len(QUANTITIES), len(t)), np.nan)
        for row, what in zip(rows, QUANTITIES, strict=True):
            own = here & (quantity == what)
            row[np.searchsorted(t, time[own])] = np.where(np.isfinite(value[own]), value[own], np.nan)
        found.append(Profile(moment, t, *rows))
    return found


def over_seeds(group: list[Profile]) -> Profile:
    """The geometric mean over seeds of each of the three curves; where no seed's is positive, 0 if any is zero."""
    t = np.unique(np.concatenate([profile.t for profile in group]))
    curves = []
    for name in ("median", "low", "high"):
        stack = np.full((len(group), len(t)), np.nan)
        for row, profile in zip(stack, group, strict=True):
            row[np.searchsorted(t, profile.t)] = getattr(profile, name)
        usable = np.isfinite(stack) & (stack > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.exp(np.where(usable, np.log(stack), 0).sum(0) / usable.sum(0))
        curves.append(np.where(usable.any(0), mean, np.where((stack == 0).any(0), 0.0, np.nan)))
    return Profile(group[0].step, t, *curves)


def draw(collection: Collection, sheet: Sheet = PAGE, by: str | None = None) -> Picture:
    """‖∂L/∂h_t‖ over t: a column of panels per length, a line per network (or choice `by`); above as initialised, below
    after training.

    Raises:
        SaysNothing: if no run has it on record, or too many lines would share a panel.
        ConfigError: if no run has the choice `by`.
    """
    most = min(MOST_PANELS, sheet.holds(SHAPE, stacked=2))
    found = arrange(collection, _may_have, ("task.length",), by=by, most=most, seeds=MOST_SEEDS)
    runs = [run for panel in found.panels for line in panel.lines.values() for run in line]
    measured = {run.run_id: profiles(run.path) for run in runs}
    if not any(measured.values()):
        raise SaysNothing("no run has the gradient of its time steps on record (a recurrent model measures it)")
    found = _with_something(found, measured)
    moments = max(len(each) for each in measured.values())
    look = dict(zip(found.names, style.looks(len(found.names), found.ordered), strict=True))
    lines = {
        (i, moment, name): over_seeds(group)
        for i, panel in enumerate(found.panels)
        for moment in range(moments)
        for name, runs in panel.lines.items()
        if (group := [measured[run.run_id][-1 if moment else 0] for run in runs if measured.get(run.run_id)])
    }
    low, high = _limits(list(lines.values()))
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(found.panels), stacked=moments)
        for i, moment in itertools.product(range(len(found.panels)), range(moments)):
            axis = made.axes[i * moments + moment]
            for name in found.names:
                if (i, moment, name) in lines:
                    _draw_line(axis, lines[i, moment, name], look[name])
            _dress(axis, last=moment == moments - 1)
            if not moment:
                made.title(axis, found.panels[i].title)
            if i % made.across == 0:
                axis.set_ylabel(_moment(moment, measured) + "\n" + r"$\|\partial L/\partial h_t\|$")
        made.axes[0].set_ylim(10.0**low, 10.0**high)
        made.axes[0].yaxis.set_major_locator(LogLocator(base=10, numticks=7))
        made.axes[0].yaxis.set_minor_locator(NullLocator())
        made.figure.notes += found.notes
        cut = left_out(made.figure, len(found.panels), len(found.panels) + found.left_out, "panels")
        headline = f"{collection.name}: gradient at every time step, first block{cut}"
        return made.finish(headline, "time step t of the sequence", _keys(found, measured, look, 10.0**low))


def _may_have(record: Record) -> bool:
    """Whether there is a file to look into, or a reason why there is none: to read all would take too long."""
    timed = bool(record.labels.get("cell")) and (record.path / "gradflow.parquet").exists()
    return timed or _without(record) is not None


def _with_something(found: Arranged, measured: dict[str, list[Profile]]) -> Arranged:
    """Without lines of which nothing is known."""

    def told(runs: list[Record]) -> bool:
        return any(measured.get(run.run_id) or _without(run) for run in runs)

    panels = [
        replace(panel, lines={name: runs for name, runs in panel.lines.items() if told(runs)}) for panel in found.panels
    ]
    panels = [panel for panel in panels if any(measured.get(r.run_id) for runs in panel.lines.values() for r in runs)]
    names = [name for name in found.names if any(name in panel.lines for panel in panels)]
    return replace(found, panels=panels, names=names)


def _without(record: Record) -> str | None:
    return record.result.get("no_gradient") if record.result else None


def _moment(moment: int, measured: dict[str, list[Profile]]) -> str:
    if moment:
        return "after training"
    first = {each[0].step for each in measured.values() if each}
    return "as initialised" if first == {0} else "first measured"


def _draw_line(axis: Axes, curve: Profile, look: Look) -> None:
    """A line where the gradient is positive, and a cross where it borders on an exact zero."""
    t = curve.t
    median, low, high = (np.where(row > 0, row, np.nan) for row in (curve.median, curve.low, curve.high))
    axis.plot(
        t, median, color=look.color, linestyle=look.linestyle, linewidth=1.1,
        marker=look.marker, markersize=2.8, markevery=max(1, len(t) // MARKS),
    )  # fmt: skip
    if np.isfinite(low).any():
        axis.fill_between(t, low, high, color=look.color, alpha=0.15, linewidth=0)
    ends = _borders(curve.median)
    axis.plot(t[ends], median[ends], "x", color=look.color, markersize=4, markeredgewidth=1, linestyle="none")


def _borders(median: np.ndarray) -> np.ndarray:
    """Where a positive gradient has an exact zero beside it."""
    zero = np.concatenate([[False], median == 0, [False]])
    borders: np.ndarray = (median > 0) & (zero[:-2] | zero[2:])
    return borders


def _dress(axis: Axes, last: bool) -> None:
    axis.set_yscale("log")
    style.tidy(axis)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axis.tick_params(labelbottom=last)


def _limits(curves: list[Profile]) -> tuple[float, float]:
    """Powers of ten: one scale for all panels, around the gradient at the last step, as wide as there are values."""
    rows = np.concatenate([np.concatenate([curve.median, curve.low, curve.high]) for curve in curves])
    rows = np.log10(rows[np.isfinite(rows) & (rows > 0)])
    if not rows.size:
        return -1.0, 0.0
    last = [float(np.log10(curve.median[curve.median > 0][-1])) for curve in curves if (curve.median > 0).any()]
    centre = float(np.median(last))
    low, high = max(rows.min(), centre - BELOW), min(rows.max(), centre + ABOVE)
    return float(np.floor(low - 0.1)), float(np.ceil(high + 0.1))


def _keys(found: Arranged, measured: dict[str, list[Profile]], look: dict[str, Look], low: float) -> list[Artist]:
    """Every line by its name, one without a gradient as such; and the two marks, where they occur."""
    keys: list[Artist] = []
    for name in found.names:
        runs = [run for panel in found.panels for run in panel.lines.get(name, [])]
        if any(measured.get(run.run_id) for run in runs):
            keys.append(look[name].key(name))
        else:
            label = f"{style.plain(name)}: no gradient through time"
            keys.append(Line2D([], [], color=WITHOUT, linestyle="none", marker="_", markersize=0, label=label))
    every = [profile for each in measured.values() for profile in each]
    if any((profile.median[_borders(profile.median)] > low).any() for profile in every):
        keys.append(Line2D([], [], color="black", marker="x", markersize=4, linestyle="none", label="zero beyond"))
    if any(np.isfinite(profile.low).any() for profile in every):
        keys.append(Patch(color="black", alpha=0.15, linewidth=0, label="10–90 % of a batch"))
    return keys
