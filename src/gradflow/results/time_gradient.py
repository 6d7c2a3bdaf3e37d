"""The picture of the time axis: how large the gradient is at every step of a sequence, before and after training.

Shapes: S steps of the sequence at which it was measured.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from gradflow.results import style
from gradflow.results.lines import Arranged, arrange
from gradflow.results.style import KEY_HEIGHT, WORDS, Look, Room
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

QUANTITIES = ("time_grad_h", "time_grad_h_q10", "time_grad_h_q90")
# Decades shown below and above the gradient at the last step; what goes further leaves the panel, its slope still seen.
BELOW, ABOVE = 12, 6
COLUMNS = 4  # panels side by side
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


def draw(collection: Collection) -> Figure | None:
    """‖∂L/∂h_t‖ over t: a column of panels per length, a line per network; above as initialised, below after training.

    None if no run has it on record, or too many lines would share a panel.
    """
    measured = {run_id: profiles(record.path) for run_id, record in collection.found.records.items()}
    if not any(measured.values()):
        return None
    found = arrange(collection, lambda record: bool(measured.get(record.run_id) or _without(record)), ("task.length",))
    if found is None:
        return None
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
    keys = _keys(found, measured, look, 10.0**low)
    across = min(COLUMNS, len(found.panels))
    stacks = -(-len(found.panels) // across)
    width = 3.2 if across == 1 else 2.05
    room = Room(width=width, height=1.55, left=0.9, right=0.3)
    _, key_count = style.key_rows([str(key.get_label()) for key in keys], room.left + across * width + room.right)
    room = replace(room, bottom=0.48 + KEY_HEIGHT * key_count, down=0.3)
    with rc_context(WORDS):
        figure, axes = style.panels(stacks * moments, across, room)
        for axis in axes.flat:
            axis.set_visible(False)
        for i, moment in itertools.product(range(len(found.panels)), range(moments)):
            axis = axes[(i // across) * moments + moment, i % across]
            axis.set_visible(True)
            for name in found.names:
                if (i, moment, name) in lines:
                    _draw_line(axis, lines[i, moment, name], look[name])
            _dress(axis, "" if moment else found.panels[i].title, last=moment == moments - 1)
        axes[0, 0].set_ylim(10.0**low, 10.0**high)
        axes[0, 0].yaxis.set_major_locator(LogLocator(base=10, numticks=7))
        axes[0, 0].yaxis.set_minor_locator(NullLocator())
        for row in range(stacks * moments):
            axes[row, 0].set_ylabel(_moment(row % moments, measured) + "\n" + r"$\|\partial L/\partial h_t\|$")
        style.below(figure, "time step t of the sequence", key_count)
        left_out = f" (the first {len(found.panels)} panels of {len(found.panels) + found.left_out})"
        words = f"gradient at every time step, first block{left_out if found.left_out else ''}"
        style.headline(figure, collection.name, words)
        style.legend(figure, keys)
    return figure


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
    axis.plot(t, median, color=look.color, linestyle=look.linestyle, linewidth=1.1)
    if np.isfinite(low).any():
        axis.fill_between(t, low, high, color=look.color, alpha=0.15, linewidth=0)
    ends = _borders(curve.median)
    axis.plot(t[ends], median[ends], "x", color=look.color, markersize=4, markeredgewidth=1, linestyle="none")


def _borders(median: np.ndarray) -> np.ndarray:
    """Where a positive gradient has an exact zero beside it."""
    zero = np.concatenate([[False], median == 0, [False]])
    borders: np.ndarray = (median > 0) & (zero[:-2] | zero[2:])
    return borders


def _dress(axis: Axes, title: str, last: bool) -> None:
    axis.set_yscale("log")
    style.tidy(axis)
    axis.set_title(style.plain(title))
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
            keys.append(Line2D([], [], color=look[name].color, linestyle=look[name].linestyle, label=style.plain(name)))
        else:
            label = f"{style.plain(name)}: no gradient through time"
            keys.append(Line2D([], [], color=WITHOUT, linestyle="none", marker="_", markersize=0, label=label))
    every = [profile for each in measured.values() for profile in each]
    if any((profile.median[_borders(profile.median)] > low).any() for profile in every):
        keys.append(Line2D([], [], color="black", marker="x", markersize=4, linestyle="none", label="zero beyond"))
    if any(np.isfinite(profile.low).any() for profile in every):
        keys.append(Line2D([], [], color="black", alpha=0.15, linewidth=6, label="10–90 % of a batch"))
    return keys
