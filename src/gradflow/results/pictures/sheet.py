"""What a picture is drawn on: the page, or one or two columns of a paper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from gradflow.results.pictures.style import WORDS

COLUMN = {1: 3.25, 2: 6.75}  # inches: one column of a paper in two, and both, as in ICML's style
TALLEST = 8.6  # inches of a paper's page that a picture may take, its caption below it
AROUND = 0.6, 0.62  # inches taken, about, by what stands left of a panel, and above and below it
GAP = 0.1  # inches between what stands around two panels
# Thin lines and small words, so that a figure of a paper's width needs no scaling.
PAPER_WORDS = {
    **WORDS,
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
}


class Picture(Figure):
    """A figure, and in `notes` what a reader must know of it that is not in it: whoever shows it says so."""

    notes: list[str]


@dataclass(frozen=True)
class Sheet:
    """Its width, its words, and what stands on top.

    Attributes:
        width: in inches; None: as wide as the panels want to be.
        title: above all panels instead of the picture's own; '' for none, as a paper has its captions elsewhere.
        words: matplotlib's settings, within which all is drawn and saved.
        small: points of notes above a panel and of keys.
    """

    width: float | None = None
    title: str | None = None
    words: Any = field(default_factory=lambda: WORDS)
    small: float = 7.0

    def size(self, shape: Shape, count: int) -> tuple[int, float, float]:
        """(panels side by side, about the width and the height of each in inches) of so many panels."""
        if self.width is None:
            width = shape.alone if count == 1 else shape.width
            return _even(min(shape.most, count), count), width, shape.height
        left = self.width - AROUND[0] - shape.right
        across = _even(max(1, min(shape.most, count, int((left + GAP) / (shape.least + GAP)))), count)
        width = left / across - GAP
        return across, width, max(min(shape.height, max(shape.lowest, 0.8 * width)), 0.38 * width)

    def holds(self, shape: Shape, stacked: int = 1) -> int:
        """How many panels (stacks of so many) fit on a page of a paper."""
        if self.width is None:
            return 10**6
        across, _, height = self.size(shape, shape.most)
        return across * max(1, int(TALLEST / (stacked * (height + AROUND[1]))))


PAGE = Sheet()


def paper(columns: int, title: str = "") -> Sheet:
    """One of two columns of a paper, or both; `title` stands above the panels."""
    return Sheet(COLUMN[columns], title, PAPER_WORDS)


@dataclass(frozen=True)
class Shape:
    """Of a panel, in inches: without what stands around it.

    Attributes:
        width, height: as it wants to be.
        alone: its width where there is no other.
        least, lowest: its width and height in a paper, at least.
        most: panels side by side.
        right: taken by what stands right of all panels, a bar of colours.
    """

    width: float = 2.0
    height: float = 1.6
    alone: float = 3.2
    least: float = 1.1
    lowest: float = 1.0
    most: int = 4
    right: float = 0.05


def _even(across: int, count: int) -> int:
    """Not more side by side than are needed for as many rows: six panels are 3 + 3 rather than 4 + 2."""
    return -(-count // -(-count // across))


def left_out(figure: Picture, shown: int, of: int, what: str) -> str:
    """' (the first 12 of 30 cells)' for a headline, noted for those who show the figure without one."""
    if shown >= of:
        return ""
    words = f"the first {shown} of {of} {what}"
    figure.notes.append(words)
    return f" ({words})"


def drawing(sheet: Sheet, **more: Any) -> Any:
    """The context in which a picture is made."""
    words: Any = {**sheet.words, **more}
    return rc_context(words)
