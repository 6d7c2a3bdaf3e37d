"""Performance profiles: which share of a technique's runs scores more than τ (Agarwal et al. 2021, section 4.2)."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.patches import Patch

from gradflow.errors import ConfigError
from gradflow.results.kinds.asked import Asked, look_up
from gradflow.results.kinds.profiles import make_profiles
from gradflow.results.pictures import style
from gradflow.results.pictures.lines import MOST_LINES, sign, technique
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import PAGE, Picture, Shape, Sheet, drawing, left_out
from gradflow.results.statistics.interval import Interval
from gradflow.results.table import Line
from gradflow.runs.planfile import Collection

SHAPE = Shape(width=2.2, height=1.8, alone=3.2, least=1.3)


def draw(collection: Collection, sheet: Sheet = PAGE, value: str = "metric", by: str | None = None) -> Picture:
    """The figures of `gradflow table --kind profiles`: a line per technique with its pointwise 95 % band, a panel for
    each task that must be looked at by itself.

    Raises:
        SaysNothing: where techniques share no setting, or are too many to tell apart.
    """
    try:
        asked = Asked(by=(by,) if by else (), value=value)
        table, named = make_profiles(collection, asked), look_up(collection, asked).technique
    except ConfigError as error:
        raise SaysNothing(error.lines[0]) from None
    count = len(table.columns)
    if count > MOST_LINES:
        raise SaysNothing(f"{count} techniques: no more than {MOST_LINES} can be told apart; --by names fewer")
    parts: dict[tuple[Any, ...], list[Line]] = {}
    for line in table.lines:
        parts.setdefault(tuple(line.labels[row] for row in table.rows if row != "τ"), []).append(line)
    shown = dict(list(parts.items())[: sheet.holds(SHAPE)])
    look = dict(zip(table.columns, style.looks(len(table.columns), False), strict=True))
    banded = False
    with drawing(sheet):
        made = Panels(sheet, SHAPE, len(shown))
        for axis, (part, lines) in zip(made.axes, shown.items(), strict=True):
            style.tidy(axis)
            for name in table.columns:
                points = [(line.labels["τ"], line.values[name]) for line in lines]
                known = [(tau, share) for tau, share in points if isinstance(share, Interval)]
                if not known:
                    continue
                at, colour = [tau for tau, _ in known], look[name].color
                axis.plot(
                    at, [share.value for _, share in known], color=colour, linestyle=look[name].linestyle,
                    marker=look[name].marker, markersize=2.8, linewidth=1.1, clip_on=False, zorder=3,
                )  # fmt: skip
                bands = [(tau, s.low, s.high) for tau, s in known if s.low is not None and s.high is not None]
                banded = banded or bool(bands)
                within, low, high = ([band[i] for band in bands] for i in range(3))
                axis.fill_between(within, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.set_xlim(0, 1)
            axis.set_ylim(0, 1)
            rows = [row for row in table.rows if row != "τ"]
            words = [str(key) if row == "task" else f"{sign(row)} {key}" for row, key in zip(rows, part, strict=True)]
            made.title(axis, " · ".join(words))
        for axis in made.leftmost():
            axis.set_ylabel("share of runs above τ")
        keys: list[Artist] = [look[name].key(technique(named, name)) for name in table.columns]
        keys += [Patch(color="black", alpha=0.15, linewidth=0, label="95 % (bootstrap)")] if banded else []
        cut = left_out(made.figure, len(shown), len(parts), "panels")
        return made.finish(f"{table.title}{cut}", "normalised score τ (chance 0, perfect 1)", keys)
