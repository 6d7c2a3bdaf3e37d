"""All views of a sweep, written into its folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradflow
from gradflow.results.formats import to_csv, to_latex, to_markdown, to_typst
from gradflow.results.pictures.kinds import ON_THE_PAGE
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
        told, workers: of the page, see `report.render`.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = make_table(collection)
    files = []
    for name, write in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex), ("typ", to_typst)):
        files.append(folder / f"results.{name}")
        write_bytes(files[-1], write(table).encode())
    mark = mark_of(collection)
    pictures = {name: draw_picture(name, collection, folder, mark) for name in PICTURES}
    page = folder / "report.html"
    from gradflow.results import report

    shown = {name: drawn[0] for name, drawn in pictures.items() if drawn}
    report.write(page, collection, table, shown, told, workers)
    return Published(table, [*files, *(file for drawn in pictures.values() for file in drawn), page], page)


def draw_heatmap(collection: Collection, folder: Path) -> list[Path]:
    """heatmap.png and heatmap.svg; none where the runs have no gradients on record, or one block."""
    return draw_picture("heatmap", collection, folder)


def draw_picture(name: str, collection: Collection, folder: Path, mark: str | None = None) -> list[Path]:
    """NAME.png and NAME.svg of one of `PICTURES`, or none where it would say nothing; not drawn again where those in
    the folder were made from the same records, as `mark` says."""
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    mark = mark or mark_of(collection)
    if all(file.exists() and mark.encode() in file.read_bytes() for file in files):
        return files
    from gradflow.results.pictures import kinds, style  # matplotlib: half a second to import
    from gradflow.results.pictures.nothing import SaysNothing

    try:
        return style.save(kinds.draw(name, collection), folder / name, mark)
    except SaysNothing:
        return []


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
