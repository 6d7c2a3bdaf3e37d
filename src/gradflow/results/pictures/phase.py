"""Order and chaos, and where in them a folder's runs are: what theory says of an initialisation beside what became of
the networks that had it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from gradflow.diagnosis.verdicts import VERDICTS
from gradflow.results.choices import planned
from gradflow.results.pictures.metric import BIASES, WEIGHTS
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.predicted import FILE
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Unreadable, load_json

SHAPE = Shape(width=2.4, height=1.9, alone=2.9, least=1.2, right=0.55)
SPAN = 0.05, 0.3  # decades per block, up and down, that the colours tell apart: fewest and most
SHADES_OF_PHASES = "RdBu_r"
MARKS = {
    **{"healthy": "o", "vanishing": "v", "exploding": "^", "diverged": "X"},
    **{"stagnant": "s", "rank_collapse": "*", "saturated": "P", "dead": "D"},
}
OTHER = "h"
FACTOR = r"gradient per block, $\log_{10}\sqrt{\chi_1}$"

Diagram = Callable[[str], "dict[str, Any] | None"]  # of a run's activation, by the run's id


@dataclass(frozen=True)
class Dot:
    """Runs that began alike: the most frequent verdict of the deepest of them."""

    sigma_w2: float
    sigma_b2: float
    depth: int
    verdict: str
    run_id: str


def dots(collection: Collection) -> dict[str, list[Dot]]:
    """By activation: of plain networks, of which a prediction says the variances and the phase."""
    runs = planned(collection)
    found: dict[str, dict[tuple[float, float], list[tuple[int, str, str]]]] = {}
    for run_id, record in collection.found.records.items():
        if run_id not in runs or record.result is None:
            continue
        try:
            said = load_json(record.path / FILE)
        except Unreadable:
            continue
        if said is None or said.get("phase") is None or said.get("sigma_w2") is None:
            continue
        if runs[run_id].get("norm", "none") != "none" or runs[run_id].get("skip", "none") != "none":
            continue
        at = float(said["sigma_w2"]), float(said["sigma_b2"])
        here = found.setdefault(str(runs[run_id].get("activation")), {}).setdefault(at, [])
        here.append((int(runs[run_id]["depth"]), str(record.result["verdict"]), run_id))
    return {word: [_dot(at, here) for at, here in sorted(points.items())] for word, points in found.items()}


def draw(collection: Collection, sheet: Sheet = PAGE, diagram: Diagram | None = None) -> Picture:
    """A panel per activation: blue where gradients vanish (order), red where they explode (chaos), the critical line
    between, and the runs, marked by their verdict.

    Args:
        diagram: what `gradflow.runs.phase_diagram` says of a run's activation; None where it knows nothing.

    Raises:
        SaysNothing: if no run is a plain network of which theory knows the variances.
    """
    found = dots(collection)
    known = {word: each for word, points in found.items() if diagram and (each := diagram(_widest(points))) is not None}
    if not known:
        raise SaysNothing("no run that is done is a plain network (no norm, no skip) whose σ_w² and σ_b² theory knows")
    words = list(known)[: sheet.holds(SHAPE)]
    span = float(np.clip(max(np.abs(known[word]["log10_factor"]).max() for word in words), *SPAN))
    with drawing(sheet, **{"hatch.linewidth": 0.4}):
        made = Panels(sheet, SHAPE, len(words), sharey=False)
        for axis, word in zip(made.axes, words, strict=True):
            mesh = background(axis, known[word], span)
            for dot in found[word]:
                mark: Any = {"color": "white", "markeredgecolor": "black", "markeredgewidth": 0.7, "linestyle": "none"}
                at = dot.sigma_w2, dot.sigma_b2
                axis.plot(*at, MARKS.get(dot.verdict, OTHER), markersize=4.5, clip_on=False, zorder=5, **mark)
            axis.xaxis.set_major_locator(MaxNLocator(nbins=4, prune="upper"))
            axis.set_xlabel(WEIGHTS)
            made.title(axis, word if len(words) > 1 else "")
        for axis in made.leftmost():
            axis.set_ylabel(BIASES)
        bar = made.figure.colorbar(mesh, cax=made.bar(), extend=beyond([known[word] for word in words], span))
        bar.set_label(FACTOR)
        bar.outline.set_linewidth(0.5)
        cut = left_out(made.figure, len(words), len(known), "activations")
        shown = [dot for word in words for dot in found[word]]
        return made.finish(f"{collection.name}: order, chaos and the runs{cut}", "", _keys(shown, known))


def background(axis: Axes, diagram: dict[str, Any], span: float) -> Any:
    """The phases and the critical line, on axes that the caller dresses; the mesh, for a bar of colours."""
    grid = diagram["sigma_w2"], diagram["sigma_b2"]
    look: Any = {"cmap": SHADES_OF_PHASES, "vmin": -span, "vmax": span, "shading": "gouraud", "rasterized": True}
    mesh = axis.pcolormesh(*grid, diagram["log10_factor"].clip(-span, span), **look)
    axis.plot(diagram["critical"], grid[1], color="black", linewidth=1.5)
    if diagram["unbounded"].any():
        axis.contourf(*grid, diagram["unbounded"].astype(float), levels=[0.5, 1.5], colors="none", hatches=["////"])
    axis.set_xlim(0, grid[0][-1])
    axis.set_ylim(0, grid[1][-1])
    return mesh


def phase_keys(diagrams: list[dict[str, Any]]) -> list[Artist]:
    """Of what `background` draws."""
    keys: list[Artist] = []
    if any(np.isfinite(diagram["critical"]).any() for diagram in diagrams):
        keys.append(Line2D([], [], color="black", linewidth=1.5, label=r"critical line, $\chi_1=1$"))
    if any(diagram["unbounded"].any() for diagram in diagrams):
        label = "signal grows without bound"
        keys.append(Patch(facecolor="none", edgecolor="black", hatch="////", label=label))
    return keys


def beyond(diagrams: list[dict[str, Any]], span: float) -> str:
    """At which ends colours stand for more than the bar says."""
    less = any((diagram["log10_factor"] < -span).any() for diagram in diagrams)
    more = any((diagram["log10_factor"] > span).any() for diagram in diagrams)
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get((less, more), "neither")


def _dot(at: tuple[float, float], here: list[tuple[int, str, str]]) -> Dot:
    deepest = max(depth for depth, _, _ in here)
    verdicts = Counter(verdict for depth, verdict, _ in here if depth == deepest)
    return Dot(*at, deepest, verdicts.most_common(1)[0][0], here[0][2])


def _widest(points: list[Dot]) -> str:
    """The run whose variances the axes must reach."""
    return max(points, key=lambda dot: (dot.sigma_w2, dot.sigma_b2)).run_id


def _keys(shown: list[Dot], known: dict[str, dict[str, Any]]) -> list[Artist]:
    keys = phase_keys(list(known.values()))
    depths = sorted({dot.depth for dot in shown})
    at = f" at depth {depths[0]}" if len(depths) == 1 else " at the greatest depth"
    for verdict in sorted({dot.verdict for dot in shown}, key=lambda word: [*VERDICTS, word].index(word)):
        mark: Any = {"color": "white", "markeredgecolor": "black", "markeredgewidth": 0.7, "linestyle": "none"}
        keys.append(Line2D([], [], marker=MARKS.get(verdict, OTHER), markersize=4.5, label=verdict + at, **mark))
    return keys
