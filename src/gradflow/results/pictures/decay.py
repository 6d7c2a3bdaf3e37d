"""The picture of a spectral radius: how fast the influence of a state decays, against what a linear network's would."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from gradflow.results.choices import network
from gradflow.results.pictures import style
from gradflow.results.pictures.lines import in_order
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing
from gradflow.results.pictures.style import MARKERS, PALETTE, REFERENCE
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

SHAPE = Shape(width=2.9, height=2.4, alone=3.2, least=1.4, lowest=1.6)
RADIUS, LENGTH = "recurrent_init.radius", "task.length"


@dataclass(frozen=True)
class Point:
    """One run at one moment.

    Attributes:
        network: its word.
        radius: the spectral radius with which it was drawn.
        length: of its sequences; None if its task has no such key.
        moment: 'first' or 'last'.
        decay: slope of the logarithm per step of lag.
        low, high: its 95 % interval; None where only ‖∂L/∂h_t‖ was measured.
    """

    network: str
    radius: float
    length: int | None
    moment: str
    decay: float
    low: float | None
    high: float | None


def points(collection: Collection) -> list[Point]:
    """Every measured decay of the sweep: of the Jacobian ∂h_T/∂h_t where there is one, else of ∂L/∂h_t."""
    records = collection.found.records
    return [
        point
        for run_id in collection.planned
        if run_id in records
        for moment in ("first", "last")
        if (point := _point(records[run_id], moment)) is not None
    ]


def draw(collection: Collection, sheet: Sheet = PAGE) -> Picture:
    """Decay per step against ln(radius), a marker per network and length; the line is a linear network's, y = x.

    Raises:
        SaysNothing: unless at least two radii have been measured.
    """
    found = points(collection)
    if len({point.radius for point in found}) < 2:
        raise SaysNothing(f"needs runs at two values of {RADIUS} at least, with the decay of their gradient on record")
    networks, lengths = in_order([point.network for point in found]), in_order([point.length for point in found])
    shown = [(each, length) for each in networks for length in lengths]
    shown = [pair for pair in shown if any((point.network, point.length) == pair for point in found)]
    moments = [moment for moment in ("first", "last") if any(point.moment == moment for point in found)]
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(moments))
        for axis, moment in zip(made.axes, moments, strict=True):
            for i, pair in enumerate(shown):
                group = [p for p in found if (p.network, p.length) == pair and p.moment == moment]
                _draw_points(axis, group, PALETTE[1 + i % (len(PALETTE) - 1)], MARKERS[i % len(MARKERS)], i, len(shown))
            _dress(axis, {"first": "as initialised", "last": "after training"}[moment], found)
        for axis in made.leftmost():
            axis.set_ylabel(_what(collection))
        headline = f"{collection.name}: how fast the past fades, by spectral radius ρ"
        return made.finish(headline, r"$\ln\,\rho$", _keys(shown, any(point.low is not None for point in found)))


def _point(record: Record, moment: str) -> Point | None:
    radius = record.labels.get(RADIUS)
    probe: dict[str, Any] = (((record.result or {}).get("time") or {}).get(moment)) or {}
    if radius is None or float(radius) <= 0:
        return None
    low, decay, high = (probe.get(name) for name in ("jacobian_decay_low", "jacobian_decay", "jacobian_decay_high"))
    if decay is None:
        low, decay, high = None, probe.get("time_decay"), None
    if decay is None or not math.isfinite(decay):
        return None
    return Point(network(record.labels), float(radius), record.labels.get(LENGTH), moment, float(decay), low, high)


def _what(collection: Collection) -> str:
    """Of what the slope is taken, by what most of the runs have."""
    times = [record.result.get("time") or {} for record in collection.found.records.values() if record.result]
    has = any((time.get("first") or {}).get("jacobian_decay") is not None for time in times)
    of = r"\partial h_T/\partial h_t" if has else r"\partial L/\partial h_t"
    return rf"slope of $\ln\,\|{of}\|$ per step of lag $T-t$"


def _draw_points(axis: Axes, group: list[Point], colour: str, marker: str, place: int, count: int) -> None:
    """Markers of several groups stand beside each other, by less than the marker's width."""
    shift = 0.006 * (place - (count - 1) / 2)
    for point in group:
        x = math.log(point.radius) + shift
        if point.low is not None and point.high is not None:
            axis.plot([x, x], [point.low, point.high], color=colour, linewidth=0.9)
        axis.plot(x, point.decay, marker, color=colour, markersize=4, markeredgecolor="white", markeredgewidth=0.4)


def _dress(axis: Axes, title: str, found: list[Point]) -> None:
    style.tidy(axis)
    logs = [math.log(point.radius) for point in found]
    margin = 0.06 * (max(logs) - min(logs))
    ends = np.array([min(logs) - margin, max(logs) + margin])
    axis.plot(ends, ends, color=REFERENCE, linestyle="--", linewidth=0.9, zorder=1)
    axis.axhline(0, color="black", linewidth=0.5, zorder=1)
    axis.set_xlim(*ends)
    above = axis.secondary_xaxis("top")
    kept: list[float] = []
    for radius in sorted({point.radius for point in found}):
        if not kept or math.log(radius / kept[-1]) > 0.1 * (ends[1] - ends[0]):
            kept.append(radius)  # as many as have room
    above.set_xticks([math.log(radius) for radius in kept], [f"{radius:g}" for radius in kept])
    above.set_xlabel(f"{title}, ρ =", labelpad=3)
    above.spines["top"].set_visible(False)


def _keys(shown: list[tuple[str, Any]], intervals: bool) -> list[Artist]:
    keys: list[Artist] = []
    several = len({each for each, _ in shown}) > 1
    for i, (each, length) in enumerate(shown):
        words = [each] if several else []
        words += [] if length is None else [f"T = {length}"]
        name = ", ".join(words) or "measured"
        look: Any = {"color": PALETTE[1 + i % (len(PALETTE) - 1)], "marker": MARKERS[i % len(MARKERS)]}
        keys.append(Line2D([], [], linestyle="none", markersize=4, label=name, **look))
    keys.append(Line2D([], [], color=REFERENCE, linestyle="--", linewidth=0.9, label=r"linear network: ln ρ"))
    if intervals:
        keys.append(Line2D([], [], color="black", linewidth=0.9, label="95 % interval"))
    return keys
