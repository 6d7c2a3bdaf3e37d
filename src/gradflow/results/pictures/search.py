"""Pictures of a search: when each technique found what, which keys mattered, and what a better figure costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from gradflow.results.pictures import style
from gradflow.results.pictures.style import KEY_HEIGHT, MARKERS, PALETTE, REFERENCE, WORDS, Room
from gradflow.results.search import Found, Key, Trial, Tuned, best, front, so_far

COLUMNS, MOST = 4, 12  # panels side by side, and in all
LOG_FROM = 20.0  # a loss that spans more than this factor is drawn on a logarithmic scale
COLOUR = {"complete": "#0072b2", "pruned": "#e69f00", "diverged": "#d55e00", "failed": "#d55e00"}
MARKER = {"complete": "o", "pruned": "^", "diverged": "x", "failed": "+"}
FILLED = "o^"
NAMES = {"diverged": "diverged (no value)", "failed": "failed (no value)", "pruned": "pruned (last value)"}


def history(found: Found) -> Figure | None:
    """The first metric over trials, a panel per technique on one scale; a line is the best so far. None without a
    single complete trial."""
    shown = [each for each in found.techniques if each.trials][:MOST]
    if not any(best(found, each) for each in shown):
        return None
    scale = _scale(found, [trial for each in shown for trial in each.trials])
    keys = [Line2D([], [], color="black", linewidth=1.1, label="best so far"), *_keys(shown, scale)]
    across = min(COLUMNS, len(shown))
    rows = -(-len(shown) // across)
    width = 3.4 if across == 1 else 2.05
    room = Room(width=width, height=1.75, across=0.18, right=0.2)
    _, key_count = style.key_rows([str(key.get_label()) for key in keys], room.left + across * width + room.right)
    room = Room(
        width=width, height=1.75, across=0.18, right=0.2, down=0.5, top=0.62, bottom=0.48 + KEY_HEIGHT * key_count
    )
    with rc_context(WORDS):
        figure, axes = style.panels(rows, across, room)
        for axis, technique in zip(axes.flat, shown, strict=False):
            _dress(axis, scale)
            _points(axis, technique.trials, [trial.number for trial in technique.trials], scale)
            steps = so_far(found, technique)
            if steps:
                end = max(trial.number for trial in technique.trials)
                numbers, values = zip(*steps, (end, steps[-1][1]), strict=True)
                axis.step(numbers, values, where="post", color="black", linewidth=1.1, zorder=3)
            axis.set_title(style.plain(technique.name), pad=8)
            axis.set_xlim(-0.7, max(found.trials, max(t.number for t in technique.trials) + 1) - 0.3)
            axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        for row in axes[:, 0]:
            row.set_ylabel(_words(found.metrics[0][0]))
        style.below(figure, "trial", key_count)
        left_out = len(found.techniques) - len(shown)
        words = f"history of the search{f' (the first {len(shown)} techniques)' if left_out else ''}"
        style.headline(figure, found.name, words)
        style.legend(figure, keys)
    return figure


def importance(found: Found, technique: Tuned) -> Figure | None:
    """Each key's share, and the first metric against each of them. None where shares are not known, unless one key
    alone was searched."""
    several = len(found.keys) > 1
    if not best(found, technique) or (several and not technique.importance):
        return None
    ranked = sorted(technique.importance.items(), key=lambda item: -item[1])
    keys = {key.name: key for key in found.keys}
    drawn = [keys[name] for name, _ in ranked][: COLUMNS - 1] if several else found.keys
    scale = _scale(found, technique.trials)
    left = 0.25 + 0.062 * max(len(name) for name in keys) if several else 0.7
    width = 2.0 if several else 3.4
    room = Room(width=width, height=1.75, left=left, right=0.2, across=0.7, top=0.45, bottom=0.62 + KEY_HEIGHT)
    with rc_context(WORDS):
        figure, axes = style.panels(1, several + len(drawn), room, sharey=False)
        if several:
            _bars(axes[0, 0], ranked)
        for axis, key in zip(axes[0, several:], drawn, strict=True):
            _dress(axis, scale)
            places = [_place(key, trial.params[key.name]) for trial in technique.trials]
            _points(axis, technique.trials, places, scale)
            _key_axis(axis, key, places)
        axes[0, int(several)].set_ylabel(_words(found.metrics[0][0]))
        style.headline(figure, found.name, f"what matters to {technique.name}")
        style.legend(figure, _keys([technique], scale))
    return figure


def _bars(axis: Axes, ranked: Sequence[tuple[str, float]]) -> None:
    """Shares of 1, the largest on top, each with its number."""
    style.tidy(axis)
    axis.barh([name for name, _ in ranked], [share for _, share in ranked], color="#0072b2", height=0.6)
    axis.set_ylim(len(ranked) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    for i, (_, share) in enumerate(ranked):
        inside = share > 0.75
        place, colour = (share - 0.03, "white") if inside else (share + 0.03, "black")
        axis.text(place, i, f"{share:.2f}", va="center", ha="right" if inside else "left", color=colour, fontsize=7)
    axis.set_xlabel("importance (PED-ANOVA)")


def pareto(found: Found) -> Figure | None:
    """Two metrics against each other, and for each technique the line of trials that none of its others beats. None
    without a complete trial."""
    shown = [each for each in found.techniques if each.count("complete")]
    if not shown:
        return None
    keys: list[Artist] = []
    (first, first_larger), (second, _) = found.metrics
    room = Room(width=3.6, height=2.6, left=0.7, right=0.3)
    looks = [(PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i in range(len(shown))]
    for technique, (colour, marker) in zip(shown, looks, strict=True):
        keys.append(Line2D([], [], color=colour, marker=marker, markersize=4, label=style.plain(technique.name)))
    keys.append(Line2D([], [], color=REFERENCE, marker="o", markersize=3, linestyle="none", label="beaten (pale)"))
    _, key_count = style.key_rows([str(key.get_label()) for key in keys], 4.6)
    room = Room(width=3.6, height=2.6, left=0.7, right=0.3, top=0.4, bottom=0.5 + KEY_HEIGHT * key_count)
    with rc_context(WORDS):
        figure, axes = style.panels(1, 1, room)
        axis = axes[0, 0]
        style.tidy(axis)
        for technique, (colour, marker) in zip(shown, looks, strict=True):
            best_ones = front(found, technique.trials)
            numbers = {trial.number for trial in best_ones}
            rest = [t for t in technique.trials if t.state == "complete" and t.number not in numbers]
            axis.plot(*_xy(rest), marker, color=colour, alpha=0.3, markersize=3, linestyle="none")
            x, y = _xy(best_ones)
            axis.step(x, y, where="post", color=colour, linewidth=1.0)
            axis.plot(x, y, marker, color=colour, markersize=5, linestyle="none")
        costs = [y for t in shown for y in _xy([each for each in t.trials if each.state == "complete"])[1]]
        if min(costs) > 0 and max(costs) / min(costs) > LOG_FROM:
            axis.set_yscale("log")
        axis.set_xlabel(_words(first) + (" (larger is better)" if first_larger else " (smaller is better)"))
        axis.set_ylabel(_words(second))
        style.headline(figure, found.name, "best compromises")
        style.legend(figure, keys)
    return figure


# --- points ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Of the first metric: from `low` to `high`, and where trials stand that have no value or one beyond it."""

    low: float
    high: float
    log: bool
    edge: float

    def beyond(self, value: float) -> bool:
        return not self.low <= value <= self.high


def _scale(found: Found, trials: Sequence[Trial]) -> Scale:
    """Over all values, but for the worst where they lie further from the middle than Tukey's outer fence: one trial
    that all but diverged would squeeze the others together."""
    loss = not found.metrics[0][1]
    values = np.array([v for t in trials if (v := _value(t)) is not None] or [0.0, 1.0])
    values = values if loss else -values
    quarter = float(np.quantile(values, 0.75))
    best, worst = float(values.min()), min(float(values.max()), quarter + 3 * (quarter - float(values.min())))
    if loss and best > 0 and worst / best > LOG_FROM:
        span = (worst / best) ** 0.08
        return Scale(best / span, worst * span, True, worst * span)
    span = 0.08 * (worst - best) or 0.05 * abs(worst) or 0.5
    low, high = best - span, worst + span
    return Scale(low, high, False, high) if loss else Scale(-high, -low, False, -high)


def _value(trial: Trial) -> float | None:
    valued = trial.state in ("complete", "pruned") and trial.values
    return trial.values[0] if valued and trial.values and math.isfinite(trial.values[0]) else None


def _points(axis: Axes, trials: Sequence[Trial], places: Sequence[float], scale: Scale) -> None:
    """Every trial where it belongs; hollow at the worst end where that is beyond the scale."""
    for place, trial in zip(places, trials, strict=True):
        value, colour, marker = _value(trial), COLOUR[trial.state], MARKER[trial.state]
        shown = scale.edge if value is None or scale.beyond(value) else value
        hollow = shown != value and marker in FILLED
        axis.plot(
            *([place], [shown], marker),
            color=colour,
            markersize=4,
            markerfacecolor="white" if hollow else colour,
            markeredgewidth=0.0 if marker in FILLED and not hollow else 1.0,
            alpha=0.85,
            clip_on=False,
        )


def _keys(shown: Sequence[Tuned], scale: Scale) -> list[Artist]:
    """Of the states that there are, and of what stands at the edge."""
    trials = [trial for each in shown for trial in each.trials]
    keys: list[Artist] = [_key(state) for state in MARKER if any(trial.state == state for trial in trials)]
    if any((value := _value(trial)) is not None and scale.beyond(value) for trial in trials):
        keys.append(Line2D([], [], color="black", marker="o", markerfacecolor="white", markersize=4, linestyle="none",
                           label="beyond the scale"))  # fmt: skip
    return keys


def _key(state: str) -> Line2D:
    label = NAMES.get(state, state)
    return Line2D([], [], color=COLOUR[state], marker=MARKER[state], markersize=4, linestyle="none", label=label)


def _dress(axis: Axes, scale: Scale) -> None:
    style.tidy(axis)
    if scale.log:
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(scale.low, scale.high)


def _place(key: Key, value: object) -> float:
    return float(key.words.index(str(value))) if key.words else float(str(value))


def _key_axis(axis: Axes, key: Key, places: Sequence[float]) -> None:
    axis.set_xlabel(key.name)
    if key.words:
        axis.set_xlim(-0.5, len(key.words) - 0.5)
        axis.xaxis.set_major_locator(FixedLocator(range(len(key.words))))
        names = [word if len(word) <= 10 else word[:9] + "…" for word in key.words]
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: names[int(x)] if 0 <= x < len(names) else ""))
        if sum(map(len, names)) > 24:
            axis.tick_params(axis="x", labelrotation=20)
    elif key.log and min(places) > 0:
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _xy(trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([trial.values for trial in trials], dtype=float).reshape(len(trials), 2)
    return values[:, 0], values[:, 1]


def _words(metric: str) -> str:
    """'val/loss' as 'validation loss'."""
    group, _, name = metric.partition("/")
    return {"val": "validation ", "cost": "cost: "}.get(group, f"{group} ") + name.replace("_", " ")
