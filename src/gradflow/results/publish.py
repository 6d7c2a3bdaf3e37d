"""All views of a sweep, written into its folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import gradflow
from gradflow.results.formats import to_csv, to_latex, to_markdown
from gradflow.results.table import Table, make_table
from gradflow.runs.planfile import Collection
from gradflow.runs.record import write_bytes


@dataclass(frozen=True)
class Published:
    """The table, and the files written."""

    table: Table
    files: list[Path]
    page: Path


def publish(collection: Collection, folder: Path) -> Published:
    """Write results.csv, .md and .tex, heatmap.png and .svg, and report.html.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = make_table(collection)
    files = []
    for name, content in (("csv", to_csv(table)), ("md", to_markdown(table)), ("tex", to_latex(table))):
        files.append(folder / f"results.{name}")
        write_bytes(files[-1], content.encode())
    pictures = draw_heatmap(collection, folder)
    page = folder / "report.html"
    from gradflow.results import report

    report.write(page, collection, table, pictures[0] if pictures else None)
    return Published(table, [*files, *pictures, page], page)


def draw_heatmap(collection: Collection, folder: Path) -> list[Path]:
    """heatmap.png and heatmap.svg; not drawn again where those in the folder were made from the same records."""
    files = [folder / "heatmap.png", folder / "heatmap.svg"]
    mark = _mark(collection)
    if all(file.exists() and mark.encode() in file.read_bytes() for file in files):
        return files
    from gradflow.results import heatmap  # matplotlib: half a second to import

    figure = heatmap.draw(collection)
    return heatmap.save(figure, folder / "heatmap", mark) if figure is not None else []


def _mark(collection: Collection) -> str:
    """A hash of what the picture shows: the records, by their state and the time of their last change."""
    seen = [gradflow.__version__, collection.name]
    for run_id, record in collection.found.records.items():
        series = record.path / "gradflow.parquet"
        changed = series.stat().st_mtime_ns if series.exists() else 0
        seen.append(f"{run_id} {record.state} {changed}")
    return "gradflow " + hashlib.sha256("\n".join(seen).encode()).hexdigest()
