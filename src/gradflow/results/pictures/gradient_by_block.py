"""The picture of the vanishing gradient: how large it is in every block, at the start and at the end of training, with
what theory predicts of the start.

Shapes: L blocks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from gradflow.results import predicted
from gradflow.results.pictures import style
from gradflow.results.pictures.heatmap import MOST_PANELS, cells, seeds_left_out
from gradflow.results.pictures.lines import MOST_SEEDS
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.rows import read
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.pictures.style import PALETTE, REFERENCE
from gradflow.results.predicted import Deviation, Prediction
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

QUANTITIES = ("delta_norm", "grad_norm")  # the first that all runs of a panel have
SIGNS = {"delta_norm": r"$\|\partial L/\partial x_l\|$", "grad_norm": r"$\|\partial L/\partial (W_l, b_l)\|$"}
SHAPE = Shape(height=1.6, least=1.0)
START, END, THEORY = PALETTE[5], PALETTE[1], PALETTE[0]
CAPTION = 132  # letters of a caption, on about three lines
DECADES = 1.0  # shown at least


@dataclass(frozen=True)
class Panel:
    """Runs that differ in their seed alone. Of every row, 0 is an exact zero and NaN what is not there or not finite.

    Attributes:
        quantity: what was measured, one of `QUANTITIES`.
        start: at the first logged step, a row per seed, [seeds, L].
        end: at the last one, the same; None where that is the first.
        steps: (first, last) logged step.
        prediction: of `start`, relative to the last block; None where no record holds one.
    """

    title: str
    quantity: str
    start: np.ndarray
    end: np.ndarray | None
    steps: tuple[int, int]
    prediction: Prediction | None

    @property
    def log10_predicted(self) -> np.ndarray | None:
        """In the units of `start`'s mean over seeds, with which it agrees at the last block; None if there is none."""
        found = self.prediction.log10.get(self.quantity) if self.prediction else None
        return None if found is None else predicted.anchored(found, log10_mean(self.start))

    @property
    def deviation(self) -> Deviation | None:
        """The largest of the mean over seeds from the prediction."""
        found = self.prediction.log10.get(self.quantity) if self.prediction else None
        return None if found is None else predicted.deviation(found, log10_mean(self.start))


def panels(collection: Collection, most: int = MOST_PANELS) -> list[Panel]:
    """One per cell of the sweep, at the greatest depth, as in the heat map; of so many cells."""
    _, found = cells(collection)
    made = [panel(title, group[:MOST_SEEDS]) for title, group in found[:most]]
    return [each for each in made if each is not None and each.start.shape[1] > 1]


def draw(collection: Collection, sheet: Sheet = PAGE) -> Picture:
    """The gradient over blocks, each panel on a logarithmic scale of its own: thin lines are seeds, thick ones their
    geometric mean; dashed is the prediction, as large as the measurement at the last block.

    Raises:
        SaysNothing: if no run has the gradients of more than one block on record.
    """
    depth, found = cells(collection)
    shown = panels(collection, min(MOST_PANELS, sheet.holds(SHAPE))) if depth > 1 else []
    if not shown:
        raise SaysNothing("no run has the gradients of more than one block on record")
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(shown), sharey=False)
        for axis, each in zip(made.axes, shown, strict=True):
            draw_panel(axis, each)
            _dress(axis)
            made.title(axis, each.title, _caption(each))
        for i, each in enumerate(shown):
            if i % made.across == 0 or each.quantity != shown[i - 1].quantity:
                made.axes[i].set_ylabel(SIGNS[each.quantity], labelpad=2)
        cut = left_out(made.figure, len(shown), len(found), "cells")
        made.figure.notes += seeds_left_out(found)
        headline = f"{collection.name}: gradient by block, measured and predicted, depth {depth}{cut}"
        return made.finish(headline, "block l (0 is nearest the input)", _keys(shown))


def draw_panel(axis: Axes, panel: Panel) -> None:
    """The lines of one panel, on axes that the caller dresses."""
    blocks = np.arange(panel.start.shape[1])
    _draw_line(axis, blocks, panel.start, START)
    if panel.end is not None:
        _draw_line(axis, blocks, panel.end, END)
    placed = panel.log10_predicted
    if placed is not None and panel.prediction is not None:
        with np.errstate(over="ignore", under="ignore"):
            line = 10.0**placed
            axis.plot(blocks, line, color=THEORY, linestyle=(0, (4, 2)), linewidth=1.2, zorder=4)
            band = panel.prediction.band
            if band is not None and len(band) == len(line):
                axis.fill_between(
                    blocks, line * np.exp(-band), line * np.exp(band), color=REFERENCE, alpha=0.3, linewidth=0, zorder=1
                )
    axis.set_yscale("log")


def log10_mean(rows: np.ndarray) -> np.ndarray:
    """log10 of the geometric mean over seeds, [L]; −∞ where all that is finite is zero, NaN where nothing is there."""
    usable = np.isfinite(rows) & (rows > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(usable, np.log10(rows), 0.0).sum(0) / usable.sum(0)
    return np.where(usable.any(0), mean, np.where((rows == 0).any(0), -np.inf, np.nan))


def panel(title: str, group: list[Record]) -> Panel | None:
    """Of runs that differ in their seed alone; None if they have no quantity in common."""
    tables = [_measured(run.path) for run in group]
    tables = [table for table in tables if table]
    quantity = next((each for each in QUANTITIES if tables and all(each in table for table in tables)), None)
    if quantity is None:
        return None
    series = [table[quantity] for table in tables]
    blocks = max(len(row) for each in series for row in each.values())
    first = Counter(min(each) for each in series).most_common(1)[0][0]
    last = max(max(each) for each in series)
    start = _stack([each[first] for each in series if first in each], blocks)
    end = _stack([each[last] for each in series if last in each], blocks) if last > first else None
    return Panel(title, quantity, start, end, (first, last), predicted.of_group(group))


def _measured(path: Path) -> dict[str, dict[int, np.ndarray]]:
    """quantity → step → values of all blocks, [L], at the first and the last step that were logged."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, rows in read(path, QUANTITIES, ("step", "block", "value"), timed=False).items():
        step, block, value = rows["step"], rows["block"].astype(int), rows["value"]
        found[name] = {}
        for moment in sorted({int(step.min()), int(step.max())}):
            here = step == moment
            row = np.full(int(block.max()) + 1, np.nan)
            row[block[here]] = np.where(np.isfinite(value[here]), value[here], np.nan)
            found[name][moment] = row
    return found


def _stack(rows: list[np.ndarray], blocks: int) -> np.ndarray:
    stack = np.full((len(rows), blocks), np.nan)
    for own, row in zip(stack, rows, strict=True):
        own[: len(row)] = row
    return stack


def _draw_line(axis: Axes, blocks: np.ndarray, rows: np.ndarray, colour: str) -> None:
    """Seeds thin, their mean thick, and a cross on the lower edge where all of them are exactly zero."""
    mean = log10_mean(rows)
    with np.errstate(invalid="ignore", under="ignore"):
        if len(rows) > 1:
            for row in rows:
                axis.plot(blocks, np.where(row > 0, row, np.nan), color=colour, linewidth=0.4, alpha=0.5)
        axis.plot(blocks, np.where(np.isfinite(mean), 10.0**mean, np.nan), color=colour, linewidth=1.2)
    zero = blocks[np.isneginf(mean)]
    edge = axis.get_xaxis_transform()
    axis.plot(
        zero, np.full(len(zero), 0.03), "x", color=colour, transform=edge, markersize=3, markeredgewidth=0.8, zorder=5
    )


def _dress(axis: Axes) -> None:
    style.tidy(axis)
    limits(axis)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def limits(axis: Axes) -> None:
    """At least a decade, and labels where decades are few."""
    low, high = np.log10(axis.get_ylim())
    if high - low < DECADES:
        middle = (low + high) / 2
        low, high = middle - DECADES / 2, middle + DECADES / 2
        axis.set_ylim(10.0**low, 10.0**high)
    if high - low > 2.5:
        axis.yaxis.set_major_locator(LogLocator(base=10, numticks=7))
        axis.yaxis.set_minor_locator(NullLocator())
    else:
        axis.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if high - low < 1.5 else (1, 3)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _caption(panel: Panel) -> list[str]:
    """What a panel says in small letters of its prediction."""
    apart = panel.deviation
    if apart is not None:
        return [f"largest deviation {apart}"]
    return predicted.caption(panel.prediction, CAPTION, lines=1)


def _keys(shown: list[Panel]) -> list[Artist]:
    """Names for what occurs."""
    firsts, lasts = {panel.steps[0] for panel in shown}, {panel.steps[1] for panel in shown if panel.end is not None}
    when = "as initialised" if firsts == {0} else "first logged step"
    keys: list[Artist] = [Line2D([], [], color=START, linewidth=1.2, label=f"measured {when}")]
    if lasts:
        at = f"at step {min(lasts)}" if len(lasts) == 1 else "at the last logged step"
        keys.append(Line2D([], [], color=END, linewidth=1.2, label=f"measured {at}"))
    placed = [panel for panel in shown if panel.log10_predicted is not None]
    if placed:
        keys.append(Line2D([], [], color=THEORY, linestyle=(0, (4, 2)), linewidth=1.2, label="predicted"))
    if any(panel.prediction is not None and panel.prediction.band is not None for panel in placed):
        keys.append(Patch(color=REFERENCE, alpha=0.3, linewidth=0, label="± one standard deviation over weights"))
    rows = [rows for panel in shown for rows in (panel.start, panel.end) if rows is not None]
    if any(len(each) > 1 for each in rows):
        keys.append(Line2D([], [], color="black", linewidth=0.4, alpha=0.6, label="single seeds"))
    if any(np.isneginf(log10_mean(each)).any() for each in rows):
        keys.append(Line2D([], [], color="black", marker="x", markersize=3, linestyle="none", label="exactly zero"))
    return keys
