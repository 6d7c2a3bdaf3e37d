"""Panels on a sheet. Whatever stands around them (ticks, titles, keys) is measured, and they share what is left of the
width; the height follows. So nothing overlaps and nothing is cut off, whatever the words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gradflow.results.pictures.sheet import GAP, Picture, Shape, Sheet
from gradflow.results.pictures.style import plain

EDGE = 0.04  # inches of nothing around everything
BAR = 0.1, 0.09, 2.4  # inches from the panels to a bar of colours, its width, its height at most beside many rows
NARROWEST = 0.2  # inches of a panel, whatever stands around it
SAFE = 0.97  # of a width: letters differ a little from format to format


@dataclass(frozen=True)
class Around:
    """What stands around the frames of panels, in inches: the most in each column, and in each row.

    Attributes:
        bar: taken by a bar of colours, right of all.
    """

    left: list[float]
    right: list[float]
    above: list[float]
    below: list[float]
    bar: float

    def like(self, other: Around) -> bool:
        """To a hundredth of an inch."""
        mine, others = ([*a.left, *a.right, *a.above, *a.below, a.bar] for a in (self, other))
        return max(abs(x - y) for x, y in zip(mine, others, strict=True)) < 0.01


class Panels:
    """A figure with so many panels, row by row. All is drawn within `with rc_context(sheet.words)`.

    Args:
        count: of panels, or of stacks.
        stacked: panels of a stack, one below the other.
        sharey, sharex: as matplotlib has it.

    Attributes:
        figure: with `notes`.
        axes: of the panels; `axes[i * stacked + k]` is the k-th of the i-th stack.
        across: stacks side by side.
    """

    def __init__(
        self, sheet: Sheet, shape: Shape, count: int, *, stacked: int = 1, sharey: Any = True, sharex: Any = False
    ) -> None:
        self.sheet = sheet
        self.across, self._width, self._height = sheet.size(shape, count)
        self.rows = -(-count // self.across) * stacked
        self.figure: Picture = Picture(figsize=(4, 4), dpi=160)
        self.figure.notes = []
        FigureCanvasAgg(self.figure)
        grid = self.figure.subplots(self.rows, self.across, sharey=sharey, sharex=sharex, squeeze=False)
        self._grid = grid
        places = [((i // self.across) * stacked + k, i % self.across) for i in range(count) for k in range(stacked)]
        self.axes: list[Axes] = [grid[place] for place in places]
        for axis in grid.flat:
            axis.set_visible(axis in self.axes)
        self._bar: Axes | None = None

    @property
    def points(self) -> float:
        """Of words beside panels."""
        return float(self.sheet.words["font.size"])

    @property
    def height(self) -> float:
        """Of a panel, in inches."""
        return self._height

    @property
    def letters(self) -> int:
        """That fit above a panel."""
        return int(self._width * 72 / (0.56 * self.points))

    def leftmost(self) -> list[Axes]:
        return [axis for axis in self._grid[:, 0] if axis.get_visible()]

    def lowest(self) -> list[Axes]:
        """The lowest panel of each column."""
        return [[axis for axis in column if axis.get_visible()][-1] for column in self._grid.T]

    def title(self, axis: Axes, words: str, small: Sequence[str] = (), color: str = "#444444") -> None:
        """Above a panel, on as many lines as it takes, and small notes between it and the panel."""
        lines = [line for note in small for line in textwrap.wrap(note, int(self.letters * 1.12))]
        gap = 3.0
        if lines:
            size = min(self.sheet.small, self.points - 0.5)
            axis.annotate(
                plain("\n".join(lines)), (0.5, 1), (0, 2), xycoords="axes fraction", textcoords="offset points",
                fontsize=size, color=color, ha="center", va="bottom", linespacing=1.1, annotation_clip=False,
            )  # fmt: skip
            gap += 1.18 * size * len(lines)
        axis.set_title(plain("\n".join(wrap(words, self.letters))), pad=gap)

    def bar(self) -> Axes:
        """Axes for a bar of colours, right of all panels."""
        self._bar = self._bar or self.figure.add_axes((0.9, 0.1, 0.05, 0.8), label="colours")
        return self._bar

    def finish(self, headline: str, below: str = "", keys: Sequence[Artist] = ()) -> Picture:
        """Put everything in its place.

        Args:
            headline: above all panels, unless the sheet has a title of its own.
            below: the name of the horizontal axis of all panels, in which a dollar begins mathematics.
            keys: handles of the legend, below everything.
        """
        figure = self.figure
        figure.align_ylabels(self.leftmost())
        around = self._around()
        width = self._fit_width(around)
        bottom = EDGE
        if keys:
            legend = self._legend(keys, width)
            bottom += _inches(figure, legend).height + 0.04
        under = figure.supxlabel(below, fontsize=self.points, va="bottom") if below else None
        if under is not None:
            place, bottom = bottom, bottom + _inches(figure, under).height + 0.05
        told = headline if self.sheet.title is None else self.sheet.title
        above = self._headline(told, width) if told else None
        top = EDGE + (0.08 + _inches(figure, above).height if above is not None else 0.0)
        self._fit_height(around, bottom, top)
        for _ in range(2):  # a panel of another size has other ticks
            before, around = around, self._around()
            if around.like(before):
                break
            self._fit_width(around)
            self._fit_height(around, bottom, top)
        height = figure.get_figheight()
        if keys:
            legend.set_bbox_to_anchor((0.5, EDGE / height), transform=figure.transFigure)
        if under is not None:
            middle = figure.subplotpars.left + figure.subplotpars.right
            under.set_position((middle / 2, place / height))
        if above is not None:
            above.set_position((0.5, 1 - EDGE / height))
        return figure

    # --- measuring ------------------------------------------------------------------------------------------------

    def _around(self) -> Around:
        figure = self.figure
        inches = figure.dpi_scale_trans.inverted()
        boxes = {
            (i, k): (_inches(figure, axis), axis.get_window_extent().transformed(inches))
            for (i, k), axis in np.ndenumerate(self._grid)
            if axis.get_visible()
        }

        def most(over: Callable[[Bbox, Bbox], float], place: int, count: int) -> list[float]:
            return [max(over(*pair) for at, pair in boxes.items() if at[place] == i) for i in range(count)]

        bar = 0.0
        if self._bar is not None:
            frame = self._bar.get_window_extent().transformed(inches)
            bar = BAR[0] + BAR[1] + float(_inches(figure, self._bar).x1 - frame.x1)
        return Around(
            left=most(lambda box, frame: frame.x0 - box.x0, 1, self.across),
            right=most(lambda box, frame: box.x1 - frame.x1, 1, self.across),
            above=most(lambda box, frame: box.y1 - frame.y1, 0, self.rows),
            below=most(lambda box, frame: frame.y0 - box.y0, 0, self.rows),
            bar=bar,
        )

    def _fit_width(self, around: Around) -> float:
        """Give every panel the same width; the figure's, in inches."""
        across = self.across
        gap = max((GAP + around.right[i] + around.left[i + 1] for i in range(across - 1)), default=0.0)
        left, right = EDGE + around.left[0], EDGE + around.right[-1] + around.bar
        if self.sheet.width is None:
            width = left + across * self._width + (across - 1) * gap + right
        else:
            width = self.sheet.width
            self._width = max((width - left - right - (across - 1) * gap) / across, NARROWEST)
        self.figure.set_figwidth(width)
        ends = {"left": left / width, "right": (left + across * self._width + (across - 1) * gap) / width}
        self.figure.subplots_adjust(**ends, wspace=gap / self._width)
        if self._bar is not None:
            x = (ends["right"] * width + around.right[-1] + BAR[0]) / width
            _, y, _, tall = self._bar.get_position().bounds
            self._bar.set_position((x, y, BAR[1] / width, tall))
        return float(width)

    def _fit_height(self, around: Around, bottom: float, top: float) -> None:
        """Give every panel its height, below the headline and above the keys."""
        rows = self.rows
        gap = max((0.7 * GAP + around.below[i] + around.above[i + 1] for i in range(rows - 1)), default=0.0)
        low, high = bottom + around.below[-1], top + around.above[0]
        height = low + rows * self._height + (rows - 1) * gap + high
        self.figure.set_figheight(height)
        self.figure.subplots_adjust(bottom=low / height, top=1 - high / height, hspace=gap / self._height)
        if self._bar is not None:
            x, _, wide, _ = self._bar.get_position().bounds
            tall = (height - low - high) if rows <= 2 else min(BAR[2], height - low - high)
            self._bar.set_position((x, 1 - (high + tall) / height, wide, tall / height))

    def _headline(self, words: str, width: float) -> Text:
        letters = int((width - 2 * EDGE) * 72 / (0.6 * (self.points + 1)))
        return self.figure.suptitle(plain(textwrap.fill(words, letters)), fontsize=self.points + 1, y=1, va="top")

    def _legend(self, keys: Sequence[Artist], width: float) -> Legend:
        """Below everything, in as many columns as fit."""
        letters = int((width - 0.5) * 72 / (0.55 * self.sheet.small))
        for key in keys:
            label = str(key.get_label())
            if len(label) > letters:
                key.set_label("\n".join(textwrap.wrap(label, letters)))
        for columns in dict.fromkeys(-(-len(keys) // rows) for rows in range(1, len(keys) + 1)):
            made = self.figure.legend(
                handles=list(keys), loc="lower center", fontsize=self.sheet.small, ncols=columns, frameon=False,
                handlelength=2.6, columnspacing=1.4, borderpad=0, borderaxespad=0, labelspacing=0.35,
            )  # fmt: skip
            if columns == 1 or _inches(self.figure, made).width <= SAFE * width - 2 * EDGE:
                break
            made.remove()
        return made


def wrap(title: str, letters: int) -> list[str]:
    """'relu · he_normal · batch' on lines of so many letters, broken between choices where it can be."""
    lines: list[str] = []
    for part in title.split(" · "):
        pieces = textwrap.wrap(part, letters) or [""]
        if lines and len(lines[-1]) + len(pieces[0]) + 3 <= letters:
            lines[-1] += f" · {pieces.pop(0)}"
        lines += pieces
    return lines


def _inches(figure: Picture, artist: Artist) -> Bbox:
    """Where an artist is with all that belongs to it."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    if isinstance(artist, Text):
        box = artist.get_window_extent(renderer)
    elif isinstance(artist, Axes):
        artist.apply_aspect()
        box = artist.get_tightbbox(renderer, bbox_extra_artists=_words_of(artist)) or artist.bbox
    else:
        box = artist.get_window_extent(renderer)
    return Bbox(box.transformed(figure.dpi_scale_trans.inverted()).get_points())


def _words_of(axis: Axes) -> list[Artist]:
    """Lines and meshes are clipped at the frame; words, and axes that belong to it, are not."""
    words = [each for each in axis.get_children() if isinstance(each, Text) and each is not axis.title]
    return [*words, *axis.child_axes]
