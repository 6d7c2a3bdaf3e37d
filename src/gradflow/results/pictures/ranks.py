"""Mean ranks of techniques, and which of them cannot be told apart (Demšar 2006)."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from gradflow.errors import ConfigError
from gradflow.results.kinds.asked import Asked, arranged, look_up, nothing
from gradflow.results.kinds.rank_table import blocks
from gradflow.results.pictures import style
from gradflow.results.pictures.effects import LETTERS
from gradflow.results.pictures.lines import sign, technique
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.results.pictures.panels import Panels
from gradflow.results.pictures.sheet import COLUMN, PAGE, Picture, Shape, Sheet, drawing
from gradflow.results.pictures.style import PALETTE
from gradflow.results.statistics.ranks import Ranks, rank
from gradflow.runs.planfile import Collection

MOST = 16  # techniques of a part, the best
ROW = 0.165  # inches of a technique whose name is one line
BEST, OTHER = PALETTE[5], PALETTE[0]


@dataclass(frozen=True)
class Part:
    """Techniques that are compared with each other: their names, their ranks, and over what these are."""

    title: str
    names: list[str]
    ranks: Ranks
    kind: str

    def ordered(self) -> list[int]:
        return sorted(range(len(self.names)), key=self.ranks.mean.__getitem__)


def parts(collection: Collection, value: str = "metric", by: str | None = None) -> list[Part]:
    """The figures of `gradflow table --kind ranks`.

    Raises:
        SaysNothing: where techniques share no setting.
    """
    try:
        scored = look_up(collection, Asked(by=(by,) if by else (), value=value))
        found = []
        for part, runs in scored.parts.items():
            made, shared = arranged(runs, scored.by)
            rows, kind = blocks(made, shared)
            if len(rows) > 1 and len(made.names) > 1:
                words = [str(v) if key == "task" else f"{sign(key)} {v}" for key, v in scored.labels(part).items()]
                found.append(
                    Part(" · ".join(words), [technique(scored.technique, n) for n in made.names], rank(rows), kind)
                )
        if not found:
            raise nothing(scored)
    except ConfigError as error:
        raise SaysNothing(error.lines[0]) from None
    return found


def draw(collection: Collection, sheet: Sheet = PAGE, value: str = "metric", by: str | None = None) -> Picture:
    """A row per technique, the best on top, with a bar of one critical difference around its mean rank: two whose bars
    overlap cannot be told apart. The best, and all that cannot be told from it, are blue circles.

    Raises:
        SaysNothing: where techniques share no setting.
    """
    found = parts(collection, value, by)
    letters = LETTERS[sheet.width is None or sheet.width > COLUMN[1]]
    rows = max(min(MOST, len(part.names)) for part in found)
    named = {name: _name(name, letters) for part in found for name in part.names}
    height = 0.2 + ROW * rows * (1.6 if any("\n" in name for name in named.values()) else 1)
    shape = Shape(width=2.2, height=height, alone=2.6, least=2.2, lowest=height, most=2)
    shown = found[: max(1, sheet.holds(shape))]
    with drawing(sheet):
        made = Panels(sheet, shape, len(shown), sharey=False)
        for axis, part in zip(made.axes, shown, strict=True):
            _draw(axis, part, rows, named)
            made.title(axis, part.title)
            axis.set_xlabel(f"mean rank over {part.ranks.blocks} {part.kind} (1: best)")
            if len(part.names) > MOST:
                prefix = f"{part.title}: " if part.title else ""
                made.figure.notes.append(f"{prefix}the {MOST} best of {len(part.names)} techniques")
        if len(shown) < len(found):
            made.figure.notes.append(f"the first {len(shown)} of {len(found)} panels")
        notes = f" ({'; '.join(made.figure.notes)})" if made.figure.notes else ""
        return made.finish(f"{collection.name}: mean ranks{notes}", "", _keys(shown))


def _draw(axis: Axes, part: Part, rows: int, named: dict[str, str]) -> None:
    style.tidy(axis)
    axis.grid(False, axis="y")
    shown = part.ordered()[:MOST]
    half = part.ranks.critical / 2
    for row, place in enumerate(shown):
        mean = part.ranks.mean[place]
        colour, marker = (BEST, "o") if place in part.ranks.groups[0] else (OTHER, "s")
        axis.plot([mean - half, mean + half], [row, row], color=colour, linewidth=1.1, zorder=2)
        axis.plot(mean, row, marker, color=colour, markersize=3.8, zorder=3)
    axis.set_xlim(0.5, max(part.ranks.mean[place] for place in shown) + 0.6 * half + 0.5)  # a long bar leaves the panel
    names = [named[part.names[place]] for place in shown]
    axis.set_ylim(rows - 0.4, -0.6)
    axis.yaxis.set_major_locator(FixedLocator(range(len(names))))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda at, _: names[int(at)] if 0 <= at < len(names) else ""))
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _name(name: str, letters: int) -> str:
    return style.plain("\n".join(textwrap.wrap(name, letters, max_lines=2, placeholder=" …")))


def _keys(shown: list[Part]) -> list[Artist]:
    keys: list[Artist] = [
        Line2D([], [], color=BEST, marker="o", markersize=3.8, linewidth=1.1, label="not told from the best"),
    ]
    if any(place not in part.ranks.groups[0] for part in shown for place in part.ordered()[:MOST]):
        keys.append(Line2D([], [], color=OTHER, marker="s", markersize=3.8, linewidth=1.1, label="worse"))
    keys.append(Line2D([], [], color="black", linewidth=1.1, label="critical difference (Nemenyi, 0.05)"))
    return keys
