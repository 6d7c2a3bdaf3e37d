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

PICTURES = ("heatmap", "gradient_by_block", "time_gradient", "decay", "curves")


@dataclass(frozen=True)
class Published:
    """The table, and the files written."""

    table: Table
    files: list[Path]
    page: Path


def publish(collection: Collection, folder: Path) -> Published:
    """Write results.csv, .md and .tex, those of `PICTURES` that say something as .png and .svg, and report.html.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = make_table(collection)
    files = []
    for name, content in (("csv", to_csv(table)), ("md", to_markdown(table)), ("tex", to_latex(table))):
        files.append(folder / f"results.{name}")
        write_bytes(files[-1], content.encode())
    pictures = {name: draw_picture(name, collection, folder) for name in PICTURES}
    page = folder / "report.html"
    from gradflow.results import report

    report.write(page, collection, table, {name: drawn[0] for name, drawn in pictures.items() if drawn})
    return Published(table, [*files, *(file for drawn in pictures.values() for file in drawn), page], page)


def draw_heatmap(collection: Collection, folder: Path) -> list[Path]:
    """heatmap.png and heatmap.svg; none where the runs have no gradients on record, or one block."""
    return draw_picture("heatmap", collection, folder)


def draw_picture(name: str, collection: Collection, folder: Path) -> list[Path]:
    """NAME.png and NAME.svg of one of `PICTURES`, or none where it would say nothing; not drawn again where those in
    the folder were made from the same records."""
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    mark = _mark(collection)
    if all(file.exists() and mark.encode() in file.read_bytes() for file in files):
        return files
    from gradflow.results import (  # matplotlib: half a second to import
        curves,
        decay,
        gradient_by_block,
        heatmap,
        style,
        time_gradient,
    )

    draw = {
        "heatmap": heatmap.draw,
        "gradient_by_block": gradient_by_block.draw,
        "time_gradient": time_gradient.draw,
        "decay": decay.draw,
        "curves": curves.draw,
    }[name]
    figure = draw(collection)
    return style.save(figure, folder / name, mark) if figure is not None else []


def _mark(collection: Collection) -> str:
    """A hash of what pictures show: the records, by their state and the time of their last change."""
    seen = [gradflow.__version__, collection.name]
    for run_id, record in collection.found.records.items():
        files = (
            record.path / name for name in ("gradflow.parquet", "metrics.parquet", "result.json", "prediction.json")
        )
        changed = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
        seen.append(f"{run_id} {record.state} {changed}")
    return "gradflow " + hashlib.sha256("\n".join(seen).encode()).hexdigest()
