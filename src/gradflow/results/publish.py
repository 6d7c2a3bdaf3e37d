"""All views of a sweep, written into its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradflow
from gradflow.results.formats import to_csv, to_latex, to_markdown, to_typst
from gradflow.results.pictures.kinds import ON_THE_PAGE
from gradflow.results.processes import processes
from gradflow.results.table import Table, make_table
from gradflow.runs.planfile import Collection
from gradflow.runs.record import write_bytes

if TYPE_CHECKING:
    from gradflow.results.page.parts import Told

PICTURES = ON_THE_PAGE


@dataclass(frozen=True)
class Published:
    """The table, and the files written."""

    table: Table
    files: list[Path]
    page: Path


def publish(collection: Collection, folder: Path, told: Told | None = None, workers: int = 1) -> Published:
    """Write results.csv, .md, .tex and .typ, those of `PICTURES` that say something as .png and .svg, and report.html.

    Args:
        told: of the page, see `report.render`.
        workers: processes; more than one draw the pictures while the page reads the runs.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = make_table(collection)
    files = []
    for name, write in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex), ("typ", to_typst)):
        files.append(folder / f"results.{name}")
        write_bytes(files[-1], write(table).encode())
    page = folder / "report.html"
    from gradflow.results import report

    with _drawing(collection, folder, workers) as drawn:
        shown = ((name, pictures[0]) for name in PICTURES if (pictures := drawn(name)))
        report.write(page, collection, table, shown, told, workers)
        return Published(table, [*files, *(file for name in PICTURES for file in drawn(name)), page], page)


@contextmanager
def _drawing(collection: Collection, folder: Path, workers: int) -> Iterator[Callable[[str], list[Path]]]:
    """A function that gives the files of one of `PICTURES`, drawn meanwhile by other processes where there are some."""
    mark = mark_of(collection)
    drawn = {name: files for name in PICTURES if (files := _up_to_date(name, folder, mark))}
    stale = [name for name in PICTURES if name not in drawn]

    def here(name: str) -> list[Path]:
        if name not in drawn:
            drawn[name] = draw_picture(name, collection, folder, mark)
        return drawn[name]

    if workers == 1 or len(stale) < 2:
        yield here
        return
    with processes(min(workers, len(stale))) as pool:
        begun = {name: pool.submit(draw_picture, name, collection, folder, mark) for name in stale}
        yield lambda name: drawn[name] if name in drawn else begun[name].result()


def draw_heatmap(collection: Collection, folder: Path) -> list[Path]:
    """heatmap.png and heatmap.svg; none where the runs have no gradients on record, or one block."""
    return draw_picture("heatmap", collection, folder)


def draw_picture(name: str, collection: Collection, folder: Path, mark: str | None = None) -> list[Path]:
    """NAME.png and NAME.svg of one of `PICTURES`, or none where it would say nothing; not drawn again where those in
    the folder were made from the same records, as `mark` says."""
    mark = mark or mark_of(collection)
    if files := _up_to_date(name, folder, mark):
        return files
    from gradflow.results.pictures import kinds, style  # matplotlib: half a second to import
    from gradflow.results.pictures.nothing import SaysNothing

    try:
        return style.save(kinds.draw(name, collection), folder / name, mark)
    except SaysNothing:
        return []


def _up_to_date(name: str, folder: Path, mark: str) -> list[Path]:
    """The files of a picture, where they are there and were made from these records; else none."""
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    return files if all(file.exists() and mark.encode() in file.read_bytes() for file in files) else []


def mark_of(collection: Collection) -> str:
    """A hash of what pictures show: the records, by their state and the time of their last change."""
    seen = [gradflow.__version__, collection.name]
    for run_id, record in collection.found.records.items():
        files = (
            record.path / name for name in ("gradflow.parquet", "metrics.parquet", "result.json", "prediction.json")
        )
        changed = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
        seen.append(f"{run_id} {record.state} {changed}")
    return "gradflow " + hashlib.sha256("\n".join(seen).encode()).hexdigest()
