"""What tests of pictures share: an eye for words that overlap or are cut off, and records with long names."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gradflow.results.pictures.sheet import PAGE, Sheet
from gradflow.results.pictures.style import save
from gradflow.runs.record import write_json

TOLERANCE = 1.0  # points by which boxes may touch: letters do not fill them


def overlapping(one: Bbox, other: Bbox, by: float) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    tall = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > by and tall > by


def faults_of(figure: Figure, sheet: Sheet = PAGE) -> list[str]:
    """Words that leave the figure, that lie on one another, or that lie within a panel they do not belong to; and
    letters that a paper's reader could not read."""
    with rc_context(sheet.words):
        return _faults_of(figure)


def _faults_of(figure: Figure) -> list[str]:
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    point = figure.dpi / 72
    words = words_of(figure)
    boxes = [(each, each.get_window_extent(renderer)) for each in words]
    whole = figure.bbox.padded(TOLERANCE * point)
    found = [f"leaves the figure: {word.get_text()!r}" for word, box in boxes if not inside(box, whole)]
    for (one, box), (other, second) in itertools.combinations(boxes, 2):
        if overlapping(box, second, TOLERANCE * point):
            found.append(f"overlap: {one.get_text()!r} and {other.get_text()!r}")
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        for axis in (each for each in figure.axes if each.get_visible()):
            if overlapping(box, axis.get_window_extent(), TOLERANCE * point):
                found.append("a legend lies on a panel")
    found += [f"{word.get_fontsize()} points: {word.get_text()!r}" for word in words if word.get_fontsize() < 7]
    return found


def words_of(figure: Figure) -> list[Text]:
    """All that is drawn: of ticks only those within their axis."""
    axes = [axis for top in figure.axes for axis in (top, *top.child_axes)]
    ticked, drawn = set(), set()
    for axis in (each for top in axes for each in (top.xaxis, top.yaxis)):
        ticked |= {label for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
        drawn |= {label for tick in axis._update_ticks() for label in (tick.label1, tick.label2)}

    def is_shown(word: Text) -> bool:
        hidden = word.axes is not None and not word.axes.get_visible()
        return bool(word.get_text().strip()) and word.get_visible() and not hidden and word not in ticked - drawn

    return [word for word in figure.findobj(Text) if is_shown(word)]


def inside(box: Bbox, whole: Bbox) -> bool:
    return box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y0 >= whole.y0 and box.y1 <= whole.y1


@pytest.fixture(scope="session")
def faults() -> Callable[..., list[str]]:
    return faults_of


@pytest.fixture
def long_names(records, validated):
    """A sweep over depth, activations with long names of strange letters, and norms, with all that pictures show."""
    for depth in (4, 40):
        for activation in ("relu", "a_person's.module.ExtraordinarilyLongActivation $5 ^2"):
            for norm in ("none", "batch"):
                for seed in range(3):
                    norms = {step: [10.0 ** (-seed - block) for block in range(4)] for step in (0, 10, 20)}
                    curve = {10: (1.0, 0.3), 20: (2.0, 0.5 + seed / 10), 30: (3.0, 0.6 + seed / 10)}
                    path = validated(
                        curve, 3.0, depth=depth, activation=activation, norm=norm, seed=seed, norms=norms,
                        accuracy=0.5 + seed / 10,
                    )  # fmt: skip
                    why = "attention mixes tokens by weights that depend on the tokens themselves, and much more"
                    applies = activation == "relu"
                    log10 = [-3.0, -2.0, -1.0, 0.0] if applies else None
                    said = {"applies": applies, "why_not": None if applies else why, "band": None}
                    write_json(path / "prediction.json", {**said, "log10_delta": log10, "log10_grad": log10})
    return records.sweep("a_sweep $ with ^ a rather long name of its own")


@pytest.fixture(scope="session")
def saved() -> Callable[..., list[bytes]]:
    """The bytes of a figure in every format."""

    def read(figure: Figure, folder, words) -> list[bytes]:
        return [file.read_bytes() for file in save(figure, folder, "a mark", ("pdf", "svg", "png"), words)]

    return read
