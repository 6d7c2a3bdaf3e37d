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

WORDS: Any = {"svg.fonttype": "path", "font.size": 8, "axes.titlesize": 8, "svg.hashsalt": "gradflow"}
KEY_HEIGHT = 0.18  # inches for a row of a legend
# Okabe and Ito's palette, without its yellow, which is too light for a line on white.
PALETTE = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP*"
REFERENCE = "#7f7f7f"  # lines to compare with: chance, theory


@dataclass(frozen=True)
class Look:
    """Of a line: told by its colour and by its dashes, so that it is the same in grey."""

    color: str
    linestyle: Any


def looks(count: int, ordered: bool) -> list[Look]:
    """One look per line; `ordered` lines, of a number, take their colours along a scale."""
    if ordered:
        colours = [to_hex(c) for c in colormaps["viridis"](np.linspace(0, 0.9, max(count, 2)))]
    else:
        colours = [PALETTE[i % len(PALETTE)] for i in range(count)]
    return [Look(colours[i], DASHES[i % len(DASHES)]) for i in range(count)]


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
    return figure, figure.subplots(rows, columns, sharey=sharey, squeeze=False, gridspec_kw=edges)


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


def save(figure: Figure, stem: Path, mark: str = "") -> list[Path]:
    """Write `stem`.png and `stem`.svg; `mark` says in both what they were made from."""
    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with rc_context(WORDS):
        figure.savefig(files[0], metadata={"Description": mark})
        figure.savefig(files[1], metadata={"Date": None, "Description": mark})
    return files
