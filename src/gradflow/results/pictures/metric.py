"""The picture of what it buys: the metric by depth, or by another choice, a line per technique."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from gradflow.errors import ConfigError, choose_from
from gradflow.results.choices import planned
from gradflow.results.estimate import mean_interval
from gradflow.results.pictures import style
from gradflow.results.pictures.lines import MOST_PANELS, Panel, arrange, in_order, numbers
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.pictures.style import Look
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.runs import Score, scores
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

SHAPE = Shape(width=2.05, height=1.75, alone=3.2, least=1.25)
LOG_FROM = 7.0  # numbers along the axis that span more than this factor are spaced by their logarithm
LOSS_FROM = 20.0  # the same of a metric of which less is better
APART = 0.5  # of the distance of two places, over which lines stand beside each other
ENDED = ("diverged", "failed")
WEIGHTS, BIASES = r"variance of weights $\sigma_w^2$", r"variance of biases $\sigma_b^2$"


@dataclass(frozen=True)
class Point:
    """The runs of a line at one place of the axis.

    Attributes:
        place: the value of the choice along the axis.
        interval: mean over the completed runs, with its 95 % interval (Student's t); None if none completed.
        ended: how many diverged or failed.
        missing: how many are still to come.
    """

    place: Any
    interval: Interval | None
    ended: int
    missing: int


def draw(
    collection: Collection, sheet: Sheet = PAGE, value: str = "metric", x: str | None = None, by: str | None = None
) -> Picture:
    """A figure of the results along a choice, mean and 95 % interval over the runs of a place; a cross on the lower
    edge where any of them diverged or failed.

    Args:
        value: 'metric', each task's own, or any figure of a result, e.g. 'test/accuracy'.
        x: the choice along the axis; unless given, each task's depth where it varies, else its first number that does.
        by: the choice that tells lines apart.

    Raises:
        SaysNothing: if no run has the figure, or no choice varies that could be the axis.
        ConfigError: if no run has the choice `x` or `by`.
    """
    found = {score.run_id: score for score in scores(collection, value)}
    if all(score.value is None for score in found.values()):
        raise SaysNothing(f"no completed run has the figure {value}" if value != "metric" else "no run is completed")
    tasks = [score.task for score in found.values() if score.value is not None]
    along = {task: key for task in dict.fromkeys(tasks) if (key := _axis(collection, task, x)) is not None}
    if not along:
        raise SaysNothing("no number varies that could be the horizontal axis; --x takes any choice")

    def has(record: Record) -> bool:
        score = found.get(record.run_id)
        return score is not None and score.task in along

    arranged = arrange(collection, has, by=by, along=along, most=min(MOST_PANELS, sheet.holds(SHAPE)))
    places = {task: _places(collection, task, key) for task, key in along.items()}
    look = dict(zip(arranged.names, style.looks(len(arranged.names), arranged.ordered), strict=True))
    drawn = [
        {name: points(runs, found, along[panel.task]) for name, runs in panel.lines.items()}
        for panel in arranged.panels
    ]
    metrics = [_metric(panel, found) for panel in arranged.panels]
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(arranged.panels), sharey=len(set(metrics)) == 1)
        for axis, panel, lines, (metric, larger) in zip(made.axes, arranged.panels, drawn, metrics, strict=True):
            _scale(axis, places[panel.task])
            for name in arranged.names:
                if name in lines:
                    i, count = list(lines).index(name), len(lines)
                    _draw_line(axis, lines[name], places[panel.task], look[name], (i + 0.5) / count - 0.5)
            same = [each for each, other in zip(drawn, metrics, strict=True) if other == (metric, larger)]
            _limits(axis, same, found, panel, larger)
            made.title(axis, panel.title)
            axis.set_xlabel(_words(along[panel.task]))
        for i, (axis, shown) in enumerate(zip(made.axes, metrics, strict=True)):
            if i % made.across == 0 or shown != metrics[i - 1]:
                axis.set_ylabel(figure_words(shown[0]))
        cut = left_out(made.figure, len(arranged.panels), len(arranged.panels) + arranged.left_out, "panels")
        names = " and ".join(dict.fromkeys(figure_words(metric) for metric, _ in metrics))
        keys = [*(look[name].key(name) for name in arranged.names), *_keys(drawn, arranged.panels, found)]
        axes = ", ".join(dict.fromkeys(key.replace("_", " ") for key in along.values()))
        return made.finish(f"{collection.name}: {names} by {axes}{cut}", "", keys)


def points(runs: Sequence[Record], found: dict[str, Score], key: str) -> list[Point]:
    """Of one line, in the order of the axis."""
    cells: dict[Any, list[Score]] = {}
    for run in runs:
        cells.setdefault(found[run.run_id].labels.get(key), []).append(found[run.run_id])
    return [
        Point(
            place,
            mean_interval([score.value for score in cells[place] if score.value is not None]),
            sum(score.state in ENDED for score in cells[place]),
            sum(score.value is None and score.state not in ENDED for score in cells[place]),
        )
        for place in in_order(list(cells))
    ]


def figure_words(metric: str) -> str:
    """'test/accuracy' as 'test accuracy'; 'cost/train_seconds' as 'train seconds'."""
    group, _, name = metric.rpartition("/")
    words = {"val": "validation ", "cost": "", "": ""}.get(group, f"{group} ")
    return words + name.replace("_", " ")


def _axis(collection: Collection, task: str, x: str | None) -> str | None:
    labels = planned(collection)
    runs = [each for each in labels.values() if str(each.get("task")) == task]
    if x is None:
        return next(iter(sorted(numbers(runs), key=lambda key: key != "depth")), None)
    known = sorted({key for each in labels.values() for key in each})
    if x not in known:
        raise ConfigError(f"--x {x}: unknown; {choose_from(x, known)}")
    return x if len({each.get(x) for each in runs}) > 1 else None


@dataclass(frozen=True)
class Places:
    """Where the values of a choice stand: numbers at themselves, words side by side."""

    values: list[Any]
    at: dict[Any, float]
    log: bool
    words: bool


def _places(collection: Collection, task: str, key: str) -> Places:
    values = in_order([each.get(key) for each in planned(collection).values() if str(each.get("task")) == task])
    words = not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    at = {value: float(i if words else value) for i, value in enumerate(values)}
    log = not words and min(at.values()) > 0 and max(at.values()) / min(at.values()) > LOG_FROM
    return Places(values, at, log, words)


def _scale(axis: Axes, places: Places) -> None:
    style.tidy(axis)
    if places.log:
        axis.set_xscale("log")
    at = list(places.at.values())
    seen = np.log(at) if places.log else np.array(at)
    margin = 0.09 * (seen.max() - seen.min())
    ends = seen.min() - margin, seen.max() + margin
    axis.set_xlim(*(np.exp(ends) if places.log else ends))
    kept: list[float] = []
    for spot, value in zip(seen, at, strict=True):
        near = kept and (spot - (np.log(kept[-1]) if places.log else kept[-1])) < 0.1 * (ends[1] - ends[0])
        if places.words or not near:
            kept.append(value)
    names = {places.at[value]: _short(value) for value in places.values}
    axis.xaxis.set_major_locator(FixedLocator(kept))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda spot, _: names.get(spot, "")))
    axis.xaxis.set_minor_locator(NullLocator())
    if places.words and sum(map(len, names.values())) > 18:
        axis.tick_params(axis="x", labelrotation=30)
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    word = str(value)
    return style.plain(word if len(word) <= 16 else word[:15] + "…")


def _draw_line(axis: Axes, line: list[Point], places: Places, look: Look, shift: float) -> None:
    """Means with bars; lines stand a little beside each other, so that no bar hides another."""
    seen = [np.log(at) if places.log else at for at in places.at.values()]
    closest = float(np.diff(sorted(seen)).min()) if len(seen) > 1 else 1.0
    move = shift * min(APART * closest, 0.05 * (max(seen) - min(seen) or 1.0))

    def spot(point: Point) -> float:
        at = places.at[point.place]
        return float(at * np.exp(move) if places.log else at + move)

    shown = [(spot(p), p.interval) for p in line if p.interval is not None]
    colour: Any = {"color": look.color, "linewidth": 1.1}
    dashes = "none" if places.words else look.linestyle
    axis.plot(
        [at for at, _ in shown], [each.value for _, each in shown], linestyle=dashes, marker=look.marker,
        markersize=3.2, zorder=3, **colour,
    )  # fmt: skip
    for at, each in shown:
        if each.low is not None and each.high is not None:
            axis.plot([at, at], [each.low, each.high], color=look.color, linewidth=0.8, zorder=2)
    gone = [spot(point) for point in line if point.ended]
    edge = axis.get_xaxis_transform()
    axis.plot(
        gone, [0.025] * len(gone), "x", color=look.color, transform=edge, markersize=4, markeredgewidth=1, zorder=4
    )


def _limits(
    axis: Axes, drawn: list[dict[str, list[Point]]], found: dict[str, Score], panel: Panel, larger: bool | None
) -> None:
    """The scale is the means': a wide interval leaves the panel rather than press all lines flat."""
    chances = _chances([panel], found)
    for chance in chances:
        axis.axhline(chance, color=style.REFERENCE, linestyle="--", linewidth=0.9, zorder=1)
    means = [p.interval.value for lines in drawn for line in lines.values() for p in line if p.interval is not None]
    if not means:
        return
    low, high = min([*means, *chances]), max([*means, *chances])
    if larger is False and low > 0 and high / low > LOSS_FROM:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.6, high * 1.6)
        axis.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
        axis.yaxis.set_minor_formatter(NullFormatter())
        return
    margin = 0.12 * (high - low or abs(high) or 1.0)
    axis.set_ylim(low - margin, high + margin)


def _metric(panel: Panel, found: dict[str, Score]) -> tuple[str, bool | None]:
    score = next(found[run.run_id] for runs in panel.lines.values() for run in runs)
    return score.metric, score.larger_is_better


def _chances(panels: list[Panel], found: dict[str, Score]) -> list[float]:
    runs = [run for panel in panels for line in panel.lines.values() for run in line]
    return sorted({chance for run in runs if (chance := found[run.run_id].chance) is not None})


def _keys(drawn: list[dict[str, list[Point]]], panels: list[Panel], found: dict[str, Score]) -> list[Artist]:
    every = [point for lines in drawn for line in lines.values() for point in line]
    keys: list[Artist] = []
    if _chances(panels, found):
        keys.append(style.reference("chance"))
    if any(point.interval is not None and point.interval.low is not None for point in every):
        keys.append(Line2D([], [], color="black", linewidth=0.8, label="95 % interval of the mean"))
    if any(point.ended for point in every):
        cross: Any = {"color": "black", "marker": "x", "markersize": 4, "linestyle": "none"}
        keys.append(Line2D([], [], label="some diverged or failed", **cross))
    return keys


def _words(key: str) -> str:
    """Of an axis."""
    known = {
        "depth": "depth (blocks)",
        "width": "width (units)",
        "task.length": "length of a sequence T",
        "recurrent_init.radius": "spectral radius ρ",
        "init.sigma_w2": WEIGHTS,
        "init.sigma_b2": BIASES,
        "optimizer.lr": "learning rate",
    }
    return known.get(key, style.plain(key.replace("_", " ")))
