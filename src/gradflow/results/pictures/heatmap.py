"""The heat map: gradient norm by block and training step, and left of the first one what theory predicts of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from gradflow.results import predicted
from gradflow.results.choices import PARTS, network, planned, varying
from gradflow.results.pictures.lines import MOST_SEEDS, sign
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.rows import read
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.pictures.style import SHADES
from gradflow.runs.planfile import Collection
from gradflow.runs.record import DONE, Record

ZERO, BROKEN = "#d9d9d9", "#d62728"  # exactly zero; non-finite
FINE_TUNING = "#e6007e"  # the line at its start, seen on every colour of the scale and on white
SHAPE = Shape(width=1.65, height=1.85, alone=2.6, least=0.85, lowest=0.9, most=5, right=0.5)
MOST_PANELS = 24  # in one picture; more would neither be read nor be drawn in reasonable time
CAPTION = 114  # letters, on about three lines
NORM = r"$\|\partial L/\partial (W_l, b_l)\|$"
STRIP, GAP = 0.07, 0.025  # widths of the strip for theory and of what sets it apart, as shares of the steps


@dataclass(frozen=True)
class Panel:
    """One cell: log10 of the geometric mean over seeds, [blocks, steps]; −inf is an exact zero, NaN non-finite.

    A block is zero at a step where no seed has a positive norm, non-finite where any seed's is.

    Attributes:
        trained: [blocks, steps]; where a block has no gradient, as in layer-wise pre-training, it is false.
        ended: why the steps end before another panel's: 'diverged', 'unfinished', or nothing.
        fine_tuning: the step at which all blocks were first trained together, after stages of pre-training.
        theory: what is predicted of the first step, log10 [blocks], as large as the norm of the last block; None
            where a run has no prediction, or the theory does not apply.
        caption: why it does not apply.
    """

    title: str
    steps: np.ndarray
    values: np.ndarray
    trained: np.ndarray
    ended: str
    fine_tuning: int | None
    theory: np.ndarray | None = None
    caption: list[str] = field(default_factory=list)


def panels(collection: Collection, most: int = MOST_PANELS) -> tuple[int, list[Panel]]:
    """The greatest depth of the runs that have a record of their gradients, and at that depth a panel per cell of the
    sweep, of so many: runs that differ in their seed alone share one."""
    depth, found = cells(collection)
    return depth, [_panel(title, group[:MOST_SEEDS]) for title, group in found[:most]]


def cells(collection: Collection) -> tuple[int, list[tuple[str, list[Record]]]]:
    """The same with each cell's title and records."""
    runs = [
        collection.found.records[run_id]
        for run_id in collection.planned
        if run_id in collection.found.records and (collection.found.records[run_id].path / "gradflow.parquet").exists()
    ]
    if not runs:
        return 0, []
    depth = max(int(run.labels["depth"]) for run in runs)
    deepest = [run for run in runs if run.labels["depth"] == depth]
    labels = planned(collection)
    choices = varying([labels[run.run_id] for run in deepest])
    told = [key for key in choices if key not in ("depth", "network", "recipe", *PARTS)]
    in_a_word = "network" in choices and not PARTS & set(choices)  # of which the recipe follows
    groups: dict[tuple[object, ...], list[Record]] = {}
    for run in deepest:
        word = network(labels[run.run_id]) if in_a_word else run.labels["recipe"]
        groups.setdefault((word, *(run.labels.get(key) for key in told)), []).append(run)
    return depth, [(_title(key, told), group) for key, group in groups.items()]


def _title(cell: tuple[object, ...], told: list[str]) -> str:
    recipe, *values = cell
    return " · ".join([str(recipe), *(f"{sign(key)} {v}" for key, v in zip(told, values, strict=True))])


def seeds_left_out(found: list[tuple[str, list[Record]]]) -> list[str]:
    """A note, if a cell has more seeds than are read."""
    longest = max(len(group) for _, group in found)
    return [f"the first {MOST_SEEDS} of {longest} seeds of a cell"] if longest > MOST_SEEDS else []


def draw(collection: Collection, sheet: Sheet = PAGE) -> Picture:
    """One panel per recipe at the greatest depth, on one colour scale.

    Raises:
        SaysNothing: if no run has gradients on record, or none more than one block, of which a picture would say no
            more than a table.
    """
    depth, found = cells(collection)
    most = min(MOST_PANELS, sheet.holds(SHAPE))
    shown = [panel for panel in panels(collection, most)[1] if panel.values.size] if depth > 1 else []
    if all(len(panel.values) < 2 for panel in shown):
        raise SaysNothing("no run has the gradients of more than one block on record")
    finite = np.concatenate([each[np.isfinite(each)] for panel in shown for each in _coloured(panel)])
    low, high = (finite.min(), finite.max()) if finite.size else (-1.0, 0.0)
    scale = Normalize(np.floor(low), max(np.ceil(high), np.floor(low) + 1))
    colours = colormaps[SHADES]
    longest = max(int(panel.steps.max()) for panel in shown)
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(shown), sharex=True)
        for axis, panel in zip(made.axes, shown, strict=True):
            _draw_panel(axis, panel, colours, scale, longest, any(each.theory is not None for each in shown))
            made.title(axis, panel.title, panel.caption)
        for axis in made.lowest():
            axis.tick_params(labelbottom=True)
        for axis in made.leftmost():
            axis.set_ylabel("block (0 is nearest the input)" if made.height > 1.5 else "block")
        bar = made.figure.colorbar(ScalarMappable(scale, colours), cax=made.bar())
        bar.set_label(NORM)
        bar.locator = MaxNLocator(nbins=8, integer=True)
        bar.formatter = FuncFormatter(lambda value, _: f"$10^{{{int(value)}}}$")
        bar.update_ticks()
        bar.outline.set_linewidth(0.5)
        cut = left_out(made.figure, len(shown), len(found), "cells")
        made.figure.notes += seeds_left_out(found)
        headline = f"{collection.name}: gradient norm by block and step, depth {depth}{cut}"
        return made.finish(headline, "training step", _keys(shown))


def _panel(title: str, group: list[Record]) -> Panel:
    """Seeds are averaged in the logarithm at the steps that any of them has."""
    grids = [_grid(run.path) for run in group]
    steps = np.unique(np.concatenate([steps for steps, _, _ in grids]))
    blocks = max(values.shape[0] for _, values, _ in grids)
    stack = np.full((len(grids), blocks, len(steps)), np.nan)
    there = np.zeros(stack.shape, dtype=bool)
    for i, (own, values, has_gradient) in enumerate(grids):
        place = np.searchsorted(steps, own)
        stack[i][: len(values), place] = values
        there[i][: len(values), place] = has_gradient
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = there & np.isfinite(stack) & (stack > 0)
        mean = np.where(usable, np.log10(stack), 0.0).sum(0) / usable.sum(0)
    zero = (there & (stack == 0)).any(0) & ~usable.any(0)
    broken = (there & ~np.isfinite(stack)).any(0)
    values = np.where(broken, np.nan, np.where(zero, -np.inf, mean))
    prediction = predicted.of_group(group)
    relative = prediction.log10.get("grad_norm") if prediction else None
    return Panel(
        title,
        steps,
        values,
        np.asarray(there.any(0)),
        _ended(group),
        _fine_tuning(group),
        predicted.anchored(relative, values[:, 0]) if relative is not None and values.size else None,
        predicted.caption(prediction, CAPTION, lines=1),
    )


def _ended(group: list[Record]) -> str:
    if all(run.state == "diverged" for run in group):
        return "diverged"
    return "" if all(run.state in DONE for run in group) else "unfinished"


def _fine_tuning(group: list[Record]) -> int | None:
    """Where the last of several stages begins; runs of one cell go through the same."""
    for run in group:
        stages = run.result.get("stages", []) if run.result else []
        if len(stages) > 1:
            return int(stages[-1]["start"])
    return None


def _grid(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(steps [S], norms [L, S], whether a block has a norm at a step [L, S]) of one run."""
    rows = read(path, ("grad_norm",), ("step", "block", "value"), timed=False).get("grad_norm")
    if rows is None:
        return np.zeros(0, dtype=int), np.zeros((0, 0)), np.zeros((0, 0), dtype=bool)
    step, block, value = rows["step"], rows["block"].astype(int), rows["value"]
    steps, place = np.unique(step, return_inverse=True)
    norms = np.full((int(block.max()) + 1, len(steps)), np.nan)
    norms[block, place] = value
    has_norm = np.zeros(norms.shape, dtype=bool)
    has_norm[block, place] = True
    return steps, norms, has_norm


def _draw_panel(axis: Axes, panel: Panel, colours: Colormap, scale: Normalize, longest: int, with_theory: bool) -> None:
    blocks = panel.values.shape[0]
    last = float(panel.steps[-1] - panel.steps[-2]) if len(panel.steps) > 1 else 1.0
    edges = np.append(panel.steps, panel.steps[-1] + last).astype(float)
    options: Any = {"rasterized": True, "shading": "flat"}
    rows = np.arange(blocks + 1) - 0.5
    finite = np.where(np.isfinite(panel.values), panel.values, np.nan)
    axis.pcolormesh(edges, rows, np.ma.masked_invalid(finite), cmap=colours, norm=scale, **options)
    for special, colour in ((np.isneginf(panel.values), ZERO), (_broken(panel), BROKEN)):
        if special.any():
            axis.pcolormesh(
                edges, rows, np.ma.masked_where(~special, special), cmap=ListedColormap([colour]), **options
            )
    if panel.fine_tuning is not None:
        axis.axvline(panel.fine_tuning, color=FINE_TUNING, linewidth=0.9)
    axis.set_ylim(blocks - 0.5, -0.5)
    end = max(longest, edges[-1])
    if panel.theory is not None:
        strip = np.array([-(STRIP + GAP), -GAP]) * end
        axis.pcolormesh(strip, rows, panel.theory[:, None], cmap=colours, norm=scale, **options)
        outline = (strip[0], -0.5), strip[1] - strip[0], blocks
        axis.add_patch(Rectangle(*outline, fill=False, edgecolor="black", linewidth=0.6, clip_on=False))
    axis.set_xlim(-(STRIP + GAP) * end if with_theory else 0, end)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.xaxis.set_major_locator(FixedLocator(_steps(end)))
    if panel.ended and edges[-1] < 0.9 * longest:
        axis.text(
            edges[-1] + 0.02 * longest, blocks / 2, panel.ended, rotation=90, va="center", fontsize=7, clip_on=True
        )


def _steps(end: float) -> list[float]:
    """Ticks from 0 on, none at the very end, where the next panel's 0 is."""
    ticks = MaxNLocator(nbins=4, integer=True, prune="upper").tick_values(0, end)
    return [float(tick) for tick in ticks if 0 <= tick <= 0.95 * end]


def _keys(shown: list[Panel]) -> list[Artist]:
    """Names for what is not on the scale of colours, where it occurs."""
    keys: list[Artist] = []
    if any(np.isneginf(panel.values).any() for panel in shown):
        keys.append(Patch(color=ZERO, label="exactly zero"))
    if any(_broken(panel).any() for panel in shown):
        keys.append(Patch(color=BROKEN, label="not finite"))
    if not all(panel.trained.all() for panel in shown):
        keys.append(Patch(facecolor="white", edgecolor="#7f7f7f", linewidth=0.5, label="not trained"))
    if any(panel.fine_tuning is not None for panel in shown):
        keys.append(Line2D([], [], color=FINE_TUNING, linewidth=0.9, label="fine-tuning starts"))
    if any(panel.theory is not None for panel in shown):
        keys.append(Patch(facecolor="none", edgecolor="black", linewidth=0.6, label="left of step 0: predicted"))
    return keys


def _coloured(panel: Panel) -> list[np.ndarray]:
    """What the scale of colours must span."""
    return [panel.values] if panel.theory is None else [panel.values, panel.theory]


def _broken(panel: Panel) -> np.ndarray:
    """Where a norm is there and not finite."""
    broken: np.ndarray = np.isnan(panel.values) & panel.trained
    return broken
