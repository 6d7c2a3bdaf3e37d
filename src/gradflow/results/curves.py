"""The picture of learning: the validation metric over training, against what is scored without memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gradflow.results import style
from gradflow.results.equal import validations
from gradflow.results.lines import Panel, arrange
from gradflow.results.style import KEY_HEIGHT, REFERENCE, WORDS, Look, Room
from gradflow.runs.planfile import Collection
from gradflow.runs.record import Record

COLUMNS = 4  # panels side by side


@dataclass(frozen=True)
class Curve:
    """The validation metric over the seeds of a line.

    Attributes:
        steps: those at which all its seeds were validated.
        mean, low, high: over seeds; the range, not an interval: two seeds have one of many times its width.
        diverged: whether no seed reached the end.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
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
    return Curve(np.array(steps), stack.mean(0), stack.min(0), stack.max(0), not completed)


def draw(collection: Collection) -> Figure | None:
    """The validation metric over training steps, a line per network or recipe, a panel per other choice; mean over
    seeds, between their lowest and highest. A loss is on a logarithmic scale.

    None if no run has been validated twice, or too many lines would share a panel.
    """
    found = arrange(collection, lambda record: len(validations(record)) > 1)
    if found is None:
        return None
    look = dict(zip(found.names, style.looks(len(found.names), found.ordered), strict=True))
    keys: list[Artist] = [
        Line2D([], [], color=look[name].color, linestyle=look[name].linestyle, label=style.plain(name))
        for name in found.names
    ]
    if any(_chances(panel) for panel in found.panels):
        keys.append(Line2D([], [], color=REFERENCE, linestyle="--", linewidth=0.9, label="without memory (chance)"))
    if any(run.state == "diverged" for panel in found.panels for runs in panel.lines.values() for run in runs):
        keys.append(Line2D([], [], color="black", marker="x", markersize=5, linestyle="none", label="diverged"))
    if any(len(runs) > 1 for panel in found.panels for runs in panel.lines.values()):
        keys.append(Line2D([], [], color="black", alpha=0.15, linewidth=6, label="range over seeds"))
    across = min(COLUMNS, len(found.panels))
    rows = -(-len(found.panels) // across)
    width = 3.4 if across == 1 else 2.05
    one_scale = len({_metric(panel) for panel in found.panels}) == 1
    room = Room(width=width, height=1.9, right=0.3, across=0.18 if one_scale else 0.62)
    _, key_count = style.key_rows([str(key.get_label()) for key in keys], room.left + across * width + room.right)
    titles = 0.0 if all(not panel.title for panel in found.panels) else 0.2
    room = replace(room, bottom=0.48 + KEY_HEIGHT * key_count, top=0.42 + titles, down=0.5)
    with rc_context(WORDS):
        figure, axes = style.panels(rows, across, room, sharey=one_scale)
        for axis, panel in zip(axes.flat, found.panels, strict=False):
            for name, runs in panel.lines.items():
                _draw_line(axis, curve(runs), look[name])
            _dress(axis, panel)
        for axis in axes.flat[: len(found.panels)]:
            if axis.get_yscale() == "log":
                _mark(axis)
        for axis in axes.flat[len(found.panels) :]:
            axis.set_visible(False)
        for i, panel in enumerate(found.panels):
            if i % across == 0 or not one_scale:
                axes.flat[i].set_ylabel("validation " + _metric(panel)[0])
        style.below(figure, "training step", key_count)
        left_out = f" (the first {len(found.panels)} panels of {len(found.panels) + found.left_out})"
        words = f"learning curves{left_out if found.left_out else ''}"
        style.headline(figure, collection.name, words)
        style.legend(figure, keys)
    return figure


def _draw_line(axis: Axes, line: Curve | None, look: Look) -> None:
    """With a cross where no seed got further."""
    if line is None or not len(line.steps):
        return
    axis.plot(line.steps, line.mean, color=look.color, linestyle=look.linestyle, linewidth=1.1)
    axis.fill_between(line.steps, line.low, line.high, color=look.color, alpha=0.15, linewidth=0)
    if line.diverged:
        axis.plot(line.steps[-1], line.mean[-1], "x", color=look.color, markersize=5, markeredgewidth=1.2)


def _dress(axis: Axes, panel: Panel) -> None:
    style.tidy(axis)
    axis.set_title(style.plain(panel.title))
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    for level in _chances(panel):
        axis.axhline(level, color=REFERENCE, linestyle="--", linewidth=0.9, zorder=1)
    if not _metric(panel)[1]:
        axis.set_yscale("log")


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


def _results(panel: Panel) -> list[dict[str, object]]:
    return [run.result for runs in panel.lines.values() for run in runs if run.result]


def _metric(panel: Panel) -> tuple[str, bool]:
    """(its name, whether larger is better) of a panel's runs, which share a task."""
    result = _results(panel)[0]
    return str(result["metric"]).rpartition("/")[2], bool(result.get("larger_is_better", True))


def _chances(panel: Panel) -> list[float]:
    return sorted({float(str(result["chance"])) for result in _results(panel) if result.get("chance") is not None})
