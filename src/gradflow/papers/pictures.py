"""A paper's figure beside ours: the published numbers in one panel, those of our runs in the next, on the same axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from textwrap import wrap
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from gradflow.papers.paper import Key, Picture
from gradflow.papers.table import PaperTable
from gradflow.results.choices import differing
from gradflow.results.pictures import style
from gradflow.results.pictures.style import Look, Room
from gradflow.results.statistics.interval import Interval
from gradflow.runs.planfile import Collection

ROOM = Room(height=1.9, left=0.78, top=0.55, bottom=0.5, across=0.18, down=0.42)
WIDTH = 5.1  # inches of all panels beside each other
ACROSS = 2  # panels, where there is nothing to stand beside
LINE = 0.15  # inches of a line of the title
SIDES = ("published", "ours")


def draw(made: PaperTable) -> Figure | None:
    """Of the axes that the paper's `figure` names; None where the paper names none, or there is nothing to show.

    Lines are told by colour, dashes and marker; bars are 95 % intervals. Panels for each value of the axes that are
    neither along the bottom nor lines.
    """
    asked = made.paper.figure
    if asked is None:
        return None
    measure = asked.measure or next(iter(made.paper.measures))
    sides = {
        "published": {key: Interval(float(n), None, None, 1) for key, (n, _) in made.paper.printed(measure).items()},
        "ours": {key: ours for key in made.values.runs if (ours := made.values((measure, key))) is not None},
    }
    shown = [side for side in SIDES if sides[side]]
    if not shown:
        return None
    axes = list(made.paper.axes)
    rest = [axis for axis in axes if axis not in (asked.x, asked.lines)]
    groups = [
        values for values in product(*(made.paper.axes[axis] for axis in rest)) if _any(sides, axes, rest, values)
    ]
    lines = _lines(made, asked, sides)
    looks = dict(zip(lines, style.looks(len(lines), False), strict=True))
    panels = [(values, side) for values in groups for side in shown]
    across = len(shown) if len(shown) > 1 else min(ACROSS, len(panels))
    width = WIDTH / across
    title = wrap(f"{made.paper.authors} {made.paper.year}: {made.paper.shows}", 80)
    with rc_context(style.WORDS):
        keys = [look.key(name) for name, look in looks.items() if name]
        _, key_rows = style.key_rows([str(key.get_label()) for key in keys], WIDTH)
        top, bottom = ROOM.top + LINE * (len(title) - 1), ROOM.bottom + style.KEY_HEIGHT * key_rows
        room = replace(ROOM, width=width, top=top, bottom=bottom)
        figure, grid = style.panels(-(-len(panels) // across), across, room, sharey=True, sharex=True)
        for axis in grid.flat[len(panels) :]:
            axis.set_visible(False)
        for axis, (values, side) in zip(grid.flat, panels, strict=False):
            _scale(axis, made, asked, sides)
            for name, look in looks.items():
                _line(axis, _points(made, asked, sides[side], dict(zip(rest, values, strict=True)), name), look)
            where = ", ".join(f"{each} {value}" for each, value in zip(rest, values, strict=True))
            scale = f" ({made.told_scale})" if side == "ours" else ""
            axis.set_title(style.plain(", ".join(filter(None, (f"{side}{scale}", where)))), fontsize=8)
        _limits(grid[0, 0], [each.value for side in shown for each in sides[side].values()], asked.log_y)
        unit = made.paper.measures[measure].unit
        label = made.paper.measures[measure].label + (f" ({unit})" if unit else "")
        words = "\n".join(wrap(style.plain(label), 34))
        figure.supylabel(words, fontsize=8, x=0.06 / figure.get_figwidth(), ha="left")
        style.below(figure, style.plain(asked.x.replace("_", " ")), key_rows if keys else 0)
        if keys:
            style.legend(figure, keys)
        y = 1 - 0.1 / figure.get_figheight()
        figure.suptitle(style.plain("\n".join(title)), fontsize=9, y=y, va="top")
    return figure


def told_by_cell(made: PaperTable, collection: Collection) -> Collection:
    """The runs of a paper, told apart by its axes instead of by the choices in which their configs differ."""
    labels = {i: collection.planned[i] for ids in made.values.runs.values() for i in ids if i in collection.planned}
    apart = set(differing(labels.values())) - {"task"}
    told = {}
    for key, ids in made.values.runs.items():
        cell = made.paper.look(key)
        for i in ids:
            same = {name: value for name, value in labels.get(i, {}).items() if name not in apart}
            told[i] = same | {axis: value for axis, value in cell.items() if axis not in same}
    return replace(collection, planned={i: told[i] for i in labels})


def _any(sides: Mapping[str, Mapping[Key, Interval]], axes: list[str], rest: list[str], values: Key) -> bool:
    """Whether some panel of a row has a point."""
    places = [axes.index(axis) for axis in rest]
    return any(tuple(key[i] for i in places) == values for side in sides.values() for key in side)


def _lines(made: PaperTable, asked: Picture, sides: Mapping[str, Mapping[Key, Interval]]) -> list[str]:
    """Values of the axis of lines that have a point; one without a name where there is no such axis."""
    if asked.lines is None:
        return [""]
    place = list(made.paper.axes).index(asked.lines)
    found = {key[place] for side in sides.values() for key in side}
    return [value for value in made.paper.axes[asked.lines] if value in found]


def _points(
    made: PaperTable, asked: Picture, values: Mapping[Key, Interval], fixed: dict[str, str], line: str
) -> list[tuple[float, Interval]]:
    axes = list(made.paper.axes)
    wanted = fixed | ({asked.lines: line} if asked.lines is not None else {})
    found = []
    for key, value in values.items():
        at = dict(zip(axes, key, strict=True))
        if all(at[axis] == each for axis, each in wanted.items()):
            found.append((_place(made, asked, at[asked.x]), value))
    return sorted(found, key=lambda each: each[0])


def _place(made: PaperTable, asked: Picture, value: str) -> float:
    """A number at itself, a word at its place among the others."""
    try:
        return float(value)
    except ValueError:
        return float(list(made.paper.axes[asked.x]).index(value))


def _scale(axis: Axes, made: PaperTable, asked: Picture, sides: Mapping[str, Mapping[Key, Interval]]) -> None:
    """Both scales; along x the values that have a point on some side are named."""
    style.tidy(axis)
    if asked.log_x:
        axis.set_xscale("log")
    if asked.log_y:
        axis.set_yscale("log")
    place = list(made.paper.axes).index(asked.x)
    names = {_place(made, asked, key[place]): key[place] for side in sides.values() for key in side}
    axis.xaxis.set_major_locator(FixedLocator(_spaced(sorted(names), asked.log_x)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda at, _: names.get(at, "")))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(labelsize=7)


def _limits(axis: Axes, values: list[float], log: bool) -> None:
    """The scale is the means': a wide interval leaves the panel rather than press all lines flat."""
    low, high = min(values), max(values)
    if log and low > 0:
        if high / low > 10:
            axis.yaxis.set_minor_formatter(NullFormatter())
        else:  # no power of ten may lie within
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_locator(NullLocator())
        margin = (high / low) ** 0.08 if high > low else 2.0
        axis.set_ylim(low / margin, high * margin)
    elif not log:
        space = 0.1 * (high - low or abs(high) or 1.0)
        axis.set_ylim(low - space, high + space)


def _spaced(places: list[float], log: bool) -> list[float]:
    """Those that have room for their names, the last among them."""
    import math

    seen = [math.log(place) if log else place for place in places]
    room = 0.11 * ((seen[-1] - seen[0]) or 1.0)
    kept: list[int] = []
    for i, at in enumerate(seen):
        if not kept or at - seen[kept[-1]] >= room:
            kept.append(i)
    if len(kept) > 1:
        kept[-1] = len(places) - 1
    return [places[i] for i in kept]


def _line(axis: Axes, points: Iterable[tuple[float, Interval]], look: Look) -> None:
    shown = list(points)
    colour: Any = {"color": look.color, "linewidth": 1.1}
    axis.plot(
        [at for at, _ in shown],
        [each.value for _, each in shown],
        linestyle=look.linestyle,
        marker=look.marker,
        markersize=3.5,
        zorder=3,
        **colour,
    )
    for at, each in shown:
        if each.low is not None and each.high is not None:
            axis.plot([at, at], [each.low, each.high], color=look.color, linewidth=0.8, zorder=2)
