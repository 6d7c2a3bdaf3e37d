"""A paper's tables in the formats of tables: Markdown and LaTeX as one document, CSV with a line for each cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from gradflow.papers.table import NOTHING, PaperTable
from gradflow.results.formats.latex_format import to_latex
from gradflow.results.formats.markdown import escape, to_markdown
from gradflow.results.statistics.interval import Interval


def to_md(made: PaperTable, pictures: list[tuple[str, str]] | None = None) -> str:
    """A page: citation, protocol, pictures, tables, claims, deviations.

    Args:
        pictures: (file name, what it shows).
    """
    paper = made.paper
    command = f"gradflow paper run {made.name}" + ("" if made.scale in (None, "full") else f" --scale {made.scale}")
    parts = [f"# {escape(made.title)}", f"{escape(paper.citation)}. {escape(paper.about)}.", f"`{command}`"]
    parts += [f"![{escape(what)}]({file})" for file, what in pictures or []]
    for table in made.cells:
        parts += [
            f"## {escape(table.title)}",
            to_markdown(table).strip() if table.lines else f"{NOTHING.capitalize()}.",
        ]
    parts += ["## Claims", to_markdown(made.claims_table()).strip()]
    sections = {
        "Deviations from the paper's protocol": made.deviations,
        "The paper's protocol": paper.protocol,
        "What the paper leaves open": paper.ambiguities,
    }
    for title, sentences in sections.items():
        if sentences:
            parts += [f"## {title}", "\n".join(f"- {escape(sentence)}" for sentence in sentences)]
    return "\n\n".join(parts) + "\n"


def to_tex(made: PaperTable) -> str:
    """One table after another."""
    return "\n".join(to_latex(table) for table in (*made.cells, made.claims_table()) if table.lines)


def to_csv(made: PaperTable) -> str:
    """A line for each cell of each measure, then one for each comparison of a claim; numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    axes = list(made.paper.axes)
    writer.writerow(["measure", *axes, "published", "source", "ours", "low", "high", "seeds", "verdict"])
    for name, table in zip(made.paper.measures, made.cells, strict=True):
        for line in table.lines:
            ours, published = line.values["ours"], line.values["published"]
            numbers = _ends(ours)
            writer.writerow(
                [
                    name,
                    *(line.labels[axis] for axis in axes),
                    "" if published is None else published,
                    line.values["source"] or "",
                    *numbers,
                    ours.count if isinstance(ours, Interval) else 0,
                    line.values["verdict"] or "",
                ]
            )
    blank = [""] * len(axes)
    for line in made.claims_table().lines:
        source = line.values["source"]
        numbers = _ends(line.values["difference"])
        writer.writerow([line.values["checked as"], *blank, "", source, *numbers, "", line.values["verdict"]])
    return out.getvalue()


def _ends(value: object) -> list[object]:
    if not isinstance(value, Interval):
        return ["", "", ""]
    return [value.value, *("" if end is None else end for end in (value.low, value.high))]


WRITERS: dict[str, Callable[[PaperTable], str]] = {"md": to_md, "csv": to_csv, "latex": to_tex}
SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex"}
