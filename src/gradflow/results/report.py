"""The page: one HTML file with the table, the pictures and every run. It opens from disk and needs no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradflow.results.page import parts
from gradflow.results.page.document import PLOTLY, document, plotly
from gradflow.results.page.pack import content, encoded, stamp
from gradflow.results.page.parts import Tasks, Told
from gradflow.results.table import Table
from gradflow.runs.planfile import Collection
from gradflow.runs.record import write_bytes

HEADINGS = {  # of a picture, and what to tell somebody who cannot see it
    "heatmap": (
        "Gradient norm by block and training step",
        "Heat map of the gradient norm of every block over training, one panel per recipe",
    ),
    "gradient_by_block": (
        "Gradient by block, measured and predicted",
        "Norm of the gradient in every block as initialised and at the end of training, with what theory predicts of "
        "the start, one panel per recipe",
    ),
    "time_gradient": (
        "Gradient at every time step",
        "Norm of the gradient with respect to the state of the first block at every step of a sequence, one line per "
        "network, as initialised and after training",
    ),
    "decay": (
        "Decay of the gradient by spectral radius",
        "Decay per time step of the gradient against the logarithm of the spectral radius of the recurrent weights",
    ),
    "curves": (
        "Learning curves",
        "Validation metric over training steps, one line per network or recipe, with the score without memory",
    ),
}


def render(
    collection: Collection,
    table: Table,
    pictures: Iterable[tuple[str, Path]],
    told: Told | None = None,
    workers: int = 1,
) -> str:
    """The page's HTML: the same records give the same bytes, wherever they lie.

    Args:
        pictures: names, of those in `HEADINGS`, and PNG files; asked for when all else is done.
        told: is told how many of how many runs have been read.
        workers: processes to read them; with more than one, the module that was started must bear to be imported.
    """
    tasks = Tasks(collection, parts.plan_of(collection))
    chunks, details = parts.in_chunks(list(collection.planned), parts.all_details(tasks, workers, told))
    small = {name: parts.part(name, collection, table, chunks) for name in parts.names(collection)}
    made = {name: content(part) for name, part in (small | details).items() if part}
    shown = [_picture(name, file) for name, file in pictures]
    boot: dict[str, Any] = parts.boot(collection, table, shown, live=False)
    boot["parts"] = {name: stamp(each) for name, each in made.items()}
    boot["stamp"] = stamp(encoded(boot).encode())
    return document(boot, {**made, PLOTLY: plotly()})


def write(
    file: Path,
    collection: Collection,
    table: Table,
    pictures: Iterable[tuple[str, Path]],
    told: Told | None = None,
    workers: int = 1,
) -> None:
    """Write the page in one piece; see `render`."""
    write_bytes(file, render(collection, table, pictures, told, workers).encode())


def _picture(name: str, file: Path) -> dict[str, str]:
    title, alt = HEADINGS[name]
    picture = {"title": title, "alt": alt, "png": base64.b64encode(file.read_bytes()).decode()}
    svg = file.with_suffix(".svg")
    return picture | ({"svg": svg.name} if svg.exists() else {})
