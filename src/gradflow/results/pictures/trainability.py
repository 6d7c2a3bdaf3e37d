"""The map of trainability: a figure of the results by depth and variance of the weights, with the depth to which theory
says that a signal reaches (Schoenholz et al. 2017, figure 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from gradflow.results.choices import planned, varying
from gradflow.results.pictures.lines import in_order, sign
from gradflow.results.pictures.metric import LOSS_FROM, WEIGHTS, figure_words
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.pictures.style import SHADES
from gradflow.results.predicted import FILE
from gradflow.results.statistics.runs import Score, scores
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Unreadable, load_json

SHAPE = Shape(width=2.1, height=1.9, alone=2.9, least=1.0, right=0.5)
FACTOR = "init.sigma_w2"
DIVERGED, NOTHING = "#d62728", "#e8e8e8"
FINE = 120  # points of the theory's curve

# (a run's id, σ_w²) → 6 ξ_c, where somebody can compute it between the runs' own values.
Theory = Callable[[str, list[float]], "np.ndarray | None"]


@dataclass(frozen=True)
class Map:
    """Runs that are alike but for depth, σ_w² and their seeds. Shapes: D depths, W variances.

    Attributes:
        title: the other choices.
        depths, sigma_w2: rising.
        values: mean over completed runs, [D, W]; NaN where none is completed.
        diverged: whether all runs of a cell diverged or failed, [D, W].
        curve: σ_w² and 6 ξ_c as theory has it, ∞ where it knows no limit; None where it does not apply.
    """

    title: str
    depths: list[int]
    sigma_w2: list[float]
    values: np.ndarray
    diverged: np.ndarray
    curve: tuple[np.ndarray, np.ndarray] | None


def maps(collection: Collection, value: str = "metric", theory: Theory | None = None) -> list[Map]:
    """One per choice of all that is not depth, σ_w² or a seed; of those with two depths and two variances at least."""
    found = {score.run_id: score for score in scores(collection, value)}
    runs = {run_id: each for run_id, each in planned(collection).items() if each.get(FACTOR) is not None}
    choices = [key for key in varying(runs.values()) if key not in ("depth", FACTOR)] if runs else []
    groups: dict[tuple[Any, ...], list[Score]] = {}
    for run_id, each in runs.items():
        groups.setdefault(tuple(each.get(key) for key in choices), []).append(found[run_id])
    made = [_map(collection, choices, key, group, theory) for key, group in groups.items()]
    return [each for each in made if len(each.depths) > 1 and len(each.sigma_w2) > 1]


def draw(collection: Collection, sheet: Sheet = PAGE, value: str = "metric", theory: Theory | None = None) -> Picture:
    """A cell per depth and σ_w², on one scale of colours; the line is 6 ξ_c.

    Raises:
        SaysNothing: unless depth and init.sigma_w2 vary together.
    """
    found = maps(collection, value, theory)
    if not found:
        raise SaysNothing(f"needs runs over both depth and {FACTOR} (init=mean_field {FACTOR}=1,1.5,2)")
    shown = found[: sheet.holds(SHAPE)]
    finite = np.concatenate([each.values[np.isfinite(each.values)] for each in shown])
    if not finite.size:
        raise SaysNothing(f"no completed run has the figure {value}")
    metrics = list(dict.fromkeys(s.metric for s in scores(collection, value) if s.value is not None))
    low, high = float(finite.min()), float(finite.max())
    wide = low > 0 and high / low > LOSS_FROM
    scale: Normalize = LogNorm(low, high) if wide else Normalize(low, high if high > low else low + 1e-9)
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(shown), sharey=False)
        for axis, each in zip(made.axes, shown, strict=True):
            _draw_map(axis, each, colormaps[SHADES], scale)
            made.title(axis, each.title)
            axis.set_xlabel(WEIGHTS)
        for axis in made.leftmost():
            axis.set_ylabel("depth (blocks)")
        bar = made.figure.colorbar(ScalarMappable(scale, colormaps[SHADES]), cax=made.bar())
        bar.set_label(figure_words(metrics[0]) if len(metrics) == 1 else "metric")
        bar.outline.set_linewidth(0.5)
        cut = left_out(made.figure, len(shown), len(found), "maps")
        headline = f"{collection.name}: trainability by depth and variance of weights{cut}"
        return made.finish(headline, "", _keys(shown))


def _map(
    collection: Collection, choices: list[str], key: tuple[Any, ...], group: list[Score], theory: Theory | None
) -> Map:
    depths = in_order([score.labels["depth"] for score in group])
    sigma_w2 = in_order([float(score.labels[FACTOR]) for score in group])
    values = np.full((len(depths), len(sigma_w2)), np.nan)
    diverged = np.zeros(values.shape, dtype=bool)
    cells: dict[tuple[int, int], list[Score]] = {}
    for score in group:
        place = depths.index(score.labels["depth"]), sigma_w2.index(float(score.labels[FACTOR]))
        cells.setdefault(place, []).append(score)
    for place, here in cells.items():
        known = [score.value for score in here if score.value is not None]
        if known:
            values[place] = math.fsum(known) / len(known)
        diverged[place] = not known and all(score.state in ("diverged", "failed") for score in here)
    words = " · ".join(f"{sign(name)} {value}" for name, value in zip(choices, key, strict=True))
    return Map(words, depths, sigma_w2, values, diverged, _curve(collection, group, sigma_w2, theory))


def _curve(
    collection: Collection, group: list[Score], sigma_w2: list[float], theory: Theory | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """As the records' predictions have it at the runs' own σ_w², or finer where `theory` computes it. Runs that nobody
    watched have no predictions: theory then speaks of plain networks alone."""
    said: dict[float, float] = {}
    predicted = False
    for score in group:
        at = float(score.labels[FACTOR])
        record = collection.found.records.get(score.run_id)
        if at in said or record is None:
            continue
        try:
            prediction = load_json(record.path / FILE)
        except Unreadable:
            continue
        predicted = predicted or prediction is not None
        if prediction is not None and prediction.get("applies") and prediction.get("phase") is not None:
            depth = prediction.get("trainable_depth")
            said[at] = math.inf if depth is None else float(depth)
    plain = all(score.labels.get(factor, "none") == "none" for score in group for factor in ("norm", "skip"))
    if len(said) < 2 and (predicted or not plain):
        return None
    if theory is not None:
        first, last = _edges(sigma_w2)[0], _edges(sigma_w2)[-1]
        grid = np.linspace(max(first, 1e-3), last, FINE)
        fine = theory(group[0].run_id, grid.tolist())
        if fine is not None:
            return grid, fine
    known = sorted(said)
    if len(known) < 2:
        return None
    return np.array(known), np.array([said[each] for each in known])


def _draw_map(axis: Axes, shown: Map, colours: Colormap, scale: Normalize) -> None:
    x = _edges(shown.sigma_w2)
    y = np.exp(_edges(np.log(shown.depths).tolist()))
    look: Any = {"rasterized": True, "shading": "flat"}
    axis.pcolormesh(x, y, np.ma.masked_invalid(shown.values), cmap=colours, norm=scale, **look)
    for i, j in zip(*np.nonzero(np.isnan(shown.values)), strict=True):
        corners = [(x[j], y[i]), (x[j + 1], y[i]), (x[j + 1], y[i + 1]), (x[j], y[i + 1])]
        colour, hatch = (DIVERGED, "xxxx") if shown.diverged[i, j] else (NOTHING, "////")
        axis.fill(*zip(*corners, strict=True), facecolor="white", edgecolor=colour, hatch=hatch, linewidth=0.3)
    axis.set_yscale("log")
    if shown.curve is not None:
        at, depth = shown.curve
        line = np.where(np.isfinite(depth), depth, 1e9)
        outline = [Stroke(linewidth=2.6, foreground="white"), Normal()]
        axis.plot(at, line, color="black", linewidth=1.2, path_effects=outline)
    axis.set_xlim(x[0], x[-1])
    axis.set_ylim(y[0], y[-1])
    axis.yaxis.set_major_locator(FixedLocator(list(map(float, shown.depths))))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    if len(shown.sigma_w2) <= 5:
        axis.xaxis.set_major_locator(FixedLocator(shown.sigma_w2))


def _edges(at: list[float]) -> np.ndarray:
    """Between neighbours, and as far beyond the first and the last."""
    middle = (np.array(at[1:]) + np.array(at[:-1])) / 2
    return np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])


def _keys(shown: list[Map]) -> list[Artist]:
    keys: list[Artist] = []
    if any(each.curve is not None for each in shown):
        keys.append(Line2D([], [], color="black", linewidth=1.2, label=r"theory: $6\,\xi_c$"))
    if any(each.diverged.any() for each in shown):
        keys.append(_hatched("xxxx", DIVERGED, "diverged or failed"))
    if any((np.isnan(each.values) & ~each.diverged).any() for each in shown):
        keys.append(_hatched("////", NOTHING, "no result yet"))
    return keys


def _hatched(hatch: str, colour: str, label: str) -> Patch:
    return Patch(facecolor="white", edgecolor=colour, hatch=hatch, linewidth=0.3, label=label)
