"""How pictures look: sizes in inches, words, colours that colour-blind readers tell apart, and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Letters of an SVG are paths, so that it looks alike where its font is missing; those of a PDF are the font's own.
WORDS: Any = {
    **{"font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans", "font.size": 8, "axes.titlesize": 8},
    **{"svg.fonttype": "path", "svg.hashsalt": "gradflow", "pdf.fonttype": 42},
}
SHADES = "cividis"  # a scale of colours that rises evenly in grey, and for colour-blind eyes
KEY_HEIGHT = 0.18  # inches for a row of a legend
# Okabe and Ito's palette, without its yellow, which is too light for a line on white.
PALETTE = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX*"  # one more than there are colours, so that no two lines share both
REFERENCE = "#7f7f7f"  # lines to compare with: chance, theory


@dataclass(frozen=True)
class Look:
    """Of a line: told by its colour, by its dashes and by its marker, so that it is the same in grey."""

    color: str
    linestyle: Any
    marker: str = ""

    def key(self, name: str, marked: bool = True) -> Line2D:
        """For the legend."""
        look: Any = {"color": self.color, "linestyle": self.linestyle, "linewidth": 1.1, "label": plain(name)}
        return Line2D([], [], marker=self.marker if marked else "", markersize=3.5, **look)


def looks(count: int, ordered: bool) -> list[Look]:
    """One look per line; `ordered` lines, of a number, take their colours along a scale."""
    if ordered:
        colours = [to_hex(c) for c in colormaps[SHADES](np.linspace(0, 0.85, max(count, 2)))]
    else:
        colours = [PALETTE[i % len(PALETTE)] for i in range(count)]
    return [Look(colours[i], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in range(count)]


def reference(label: str) -> Line2D:
    """The key of a line to compare with."""
    return Line2D([], [], color=REFERENCE, linestyle="--", linewidth=0.9, label=label)


@dataclass(frozen=True)
class Room:
    """Inches around and between panels, and of one panel."""

    width: float = 2.05
    height: float = 1.75
    left: float = 0.62
    right: float = 0.15
    top: float = 0.62
    bottom: float = 0.5
    across: float = 0.18
    down: float = 0.35


def panels(
    rows: int, columns: int, room: Room, *, sharey: Any = True, sharex: Any = False
) -> tuple[Figure, np.ndarray]:
    """A figure with rows × columns panels in the room they are given; the caller draws within `rc_context(WORDS)`."""
    width = room.left + columns * room.width + (columns - 1) * room.across + room.right
    height = room.top + rows * room.height + (rows - 1) * room.down + room.bottom
    figure = Figure(figsize=(width, height), dpi=160)
    FigureCanvasAgg(figure)
    edges = {
        "left": room.left / width,
        "right": 1 - room.right / width,
        "top": 1 - room.top / height,
        "bottom": room.bottom / height,
        "wspace": room.across / room.width,
        "hspace": room.down / room.height,
    }
    return figure, figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False, gridspec_kw=edges)


def key_rows(labels: Sequence[str], width: float) -> tuple[int, int]:
    """(columns, rows) of a legend whose longest label fits so often into `width` inches."""
    longest = 0.45 + 0.058 * max(map(len, labels), default=0)
    columns = min(max(1, int(width / longest)), max(1, len(labels)))
    return columns, -(-len(labels) // columns)


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Below all panels."""
    columns, _ = key_rows([str(handle.get_label()) for handle in handles], figure.get_figwidth())
    figure.legend(handles=list(handles), loc="lower center", fontsize=7, ncols=columns, frameon=False, handlelength=3.2)


def headline(figure: Figure, name: str, words: str) -> None:
    """'name: words' above all panels, on two lines where the figure is too narrow for one."""
    one_line = 0.075 * len(f"{name}: {words}") < figure.get_figwidth()
    text = plain(f"{name}:{' ' if one_line else chr(10)}{words}")
    figure.suptitle(text, fontsize=9, y=1 - 0.1 / figure.get_figheight(), va="top")


def below(figure: Figure, text: str, key_count: int) -> None:
    """The name of the horizontal axis of all panels, above so many rows of keys."""
    y = (0.06 + KEY_HEIGHT * key_count) / figure.get_figheight()
    figure.supxlabel(text, fontsize=8, y=y, va="bottom")


def tidy(axis: Axes) -> None:
    """Thin lines to read values by, and no frame where nothing is."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, which="major", color="#e5e5e5", linewidth=0.5)
    axis.set_axisbelow(True)


def plain(text: str) -> str:
    """Words of a person, in which a dollar is a dollar."""
    return text.replace("$", r"\$")


def save(
    figure: Figure,
    stem: Path,
    mark: str = "",
    formats: Sequence[str] = ("png", "svg"),
    words: Any = None,
    dpi: int = 160,
) -> list[Path]:
    """Write `stem`.png and so on, the same bytes whenever the same is drawn; `mark` says what it was made from.

    Args:
        formats: pdf, svg, png.
        words: matplotlib's settings, if others than `WORDS`.
        dpi: of PNG files, and of the meshes within the others.
    """
    files = [stem.with_name(f"{stem.name}.{each}") for each in formats]
    told = {
        "png": {"Description": mark},
        "svg": {"Date": None, "Description": mark},
        "pdf": {"CreationDate": None, "Subject": mark},
    }
    with rc_context(words or WORDS):
        for each, file in zip(formats, files, strict=True):
            figure.savefig(file, metadata=told[each], dpi=dpi)
    return files
