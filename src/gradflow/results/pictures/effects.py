"""What changed the most: the mean paired difference that each level of each factor makes, with its interval."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from gradflow.results.pictures import style
from gradflow.results.pictures.lines import sign
from gradflow.results.pictures.metric import figure_words
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import COLUMN, PAGE, Picture, Shape, Sheet, drawing
from gradflow.results.pictures.style import PALETTE
from gradflow.results.statistics.effects import Effect, effects
from gradflow.runs.planfile import Collection

MOST = 14  # effects of a task, the largest
BETTER, WORSE = PALETTE[5], PALETTE[4]
ROW = 0.165  # inches of an effect whose name is one line
LETTERS = 24, 34  # of a name's line, in one column of a paper and elsewhere


def draw(collection: Collection, sheet: Sheet = PAGE, value: str = "metric") -> Picture:
    """A row per level of a factor, a panel per task: a circle where it is better than the factor's first level, a
    square where it is worse; hollow where the interval contains 0.

    Raises:
        SaysNothing: if no two runs differ in one factor alone.
    """
    found = _by_parts(effects(collection, value))
    if not found:
        raise SaysNothing("no two completed runs of a seed differ in one factor alone")
    tasks = list(dict.fromkeys(effect.task for effect in found))
    by_task = {task: [effect for effect in found if effect.task == task] for task in tasks}
    letters = LETTERS[sheet.width is None or sheet.width > COLUMN[1]]
    rows = max(min(MOST, len(each)) for each in by_task.values())
    names = {effect: _name(effect, letters) for each in by_task.values() for effect in each[:MOST]}
    height = 0.2 + ROW * rows * (1.6 if any("\n" in name for name in names.values()) else 1)
    shape = Shape(width=2.2, height=height, alone=2.6, least=2.2, lowest=height, most=2)
    shown = tasks[: max(1, sheet.holds(shape))]
    with drawing(sheet):
        made = Panels(sheet, shape, len(shown), sharey=False)
        for axis, task in zip(made.axes, shown, strict=True):
            _draw(axis, by_task[task][:MOST], rows, names)
            made.title(axis, task if len(tasks) > 1 else "")
            axis.set_xlabel(f"change of {figure_words(by_task[task][0].metric)}")
            if len(by_task[task]) > MOST:
                prefix = f"{task}: " if len(tasks) > 1 else ""
                made.figure.notes.append(f"{prefix}the {MOST} largest of {len(by_task[task])} effects")
        notes = f" ({'; '.join(made.figure.notes)})" if made.figure.notes else ""
        if len(shown) < len(tasks):
            made.figure.notes.append(f"the first {len(shown)} of {len(tasks)} tasks")
        every = [effect for task in shown for effect in by_task[task][:MOST]]
        return made.finish(f"{collection.name}: what changed the most{notes}", "", _keys(every))


def _by_parts(found: list[Effect]) -> list[Effect]:
    """Without what says again, of a whole recipe or network, what its parts say one by one."""
    told = {(effect.task, effect.factor) for effect in found}

    def again(effect: Effect) -> bool:
        words = f"{effect.level} · {effect.reference}".split(" · ")
        if effect.factor == "network":
            return (effect.task, "cell") in told
        return effect.factor == "recipe" and len(words) > 2 and (effect.task, "activation") in told

    return [effect for effect in found if not again(effect)]


def _draw(axis: Axes, shown: list[Effect], rows: int, named: dict[Effect, str]) -> None:
    style.tidy(axis)
    axis.grid(False, axis="y")
    axis.axvline(0, color="black", linewidth=0.6, zorder=1)
    for i, effect in enumerate(shown):
        low, high = effect.difference.low, effect.difference.high
        colour, marker = (BETTER, "o") if effect.better else (WORSE, "s")
        if low is not None and high is not None:
            axis.plot([low, high], [i, i], color=colour, linewidth=1.1, zorder=2)
        fill = colour if _apart(effect) else "white"
        axis.plot(
            effect.difference.value, i, marker, color=colour, markersize=3.8, markerfacecolor=fill,
            markeredgewidth=0.9, zorder=3,
        )  # fmt: skip
    values = np.array([effect.difference.value for effect in shown])
    reach = 1.35 * float(np.abs(values).max() or 1.0)  # a wide interval leaves the panel
    low, high = axis.get_xlim()
    left, right = min(-0.35 * reach, values.min() - 0.4 * reach), max(0.35 * reach, values.max() + 0.4 * reach)
    axis.set_xlim(max(low, left), min(high, right))
    axis.set_ylim(rows - 0.4, -0.6)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    names = [named[effect] for effect in shown]
    axis.yaxis.set_major_locator(FixedLocator(range(len(names))))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda at, _: names[int(at)] if 0 <= at < len(names) else ""))
    axis.tick_params(axis="y", length=0)


def _name(effect: Effect, letters: int) -> str:
    """'norm batch vs none', on two lines at most."""
    words = f"{sign(effect.factor)} {effect.level} vs {effect.reference}"
    lines = textwrap.wrap(words, letters, max_lines=2, placeholder=" …")
    return style.plain("\n".join(lines))


def _apart(effect: Effect) -> bool:
    """Whether the interval leaves 0 out."""
    low, high = effect.difference.low, effect.difference.high
    return low is not None and high is not None and (low > 0 or high < 0)


def _keys(shown: list[Effect]) -> list[Artist]:
    keys: list[Artist] = []
    for better, colour, marker, words in ((True, BETTER, "o", "better"), (False, WORSE, "s", "worse")):
        if any(effect.better == better for effect in shown):
            keys.append(Line2D([], [], color=colour, marker=marker, markersize=3.8, linewidth=1.1, label=words))
    if not all(_apart(effect) for effect in shown):
        keys.append(
            Line2D([], [], color="black", marker="o", markerfacecolor="white", markersize=3.8, linestyle="none",
                   label="95 % interval contains 0")
        )  # fmt: skip
    keys.append(Line2D([], [], color="black", linewidth=1.1, label="95 % interval, paired"))
    return keys
