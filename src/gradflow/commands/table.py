"""`gradflow table`: the results table."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.usage import OK

if TYPE_CHECKING:
    from rich.console import Console

    from gradflow.results.table import Table


SUMMARY = "the results table of a folder of runs"


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    columns = "metric,metric@steps,metric@time,gradient_ratio,verdict,runs, or any figure, e.g. val/loss"
    command.add_argument("--rows", metavar="A,B", help="choices that tell rows apart, e.g. depth,activation")
    command.add_argument("--cols", metavar="A,B", help=columns)
    command.add_argument("--format", choices=["md", "csv", "latex"], help="instead of a terminal's table")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """The results table."""
    from gradflow.results import formats
    from gradflow.results.table import make_table
    from gradflow.runs.planfile import collect

    collection = collect(options.folder)
    made = make_table(collection, _names(options.rows), _names(options.cols))
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if options.format is None:
        from rich.console import Console

        show(Console(highlight=False), made)
    else:
        write = {"md": formats.to_markdown, "csv": formats.to_csv, "latex": formats.to_latex}[options.format]
        print(write(made), end="")
    return OK


def show(console: Console, made: Table) -> None:
    """At its natural width: a terminal may wrap a line, but no number is cut and no column dropped."""
    from rich.console import Console
    from rich.measure import Measurement

    from gradflow.results.formats import to_rich

    shown = to_rich(made)
    wanted = Measurement.get(console, console.options.update(max_width=10_000), shown).maximum
    wide = Console(file=console.file, width=max(console.width, wanted), highlight=False)
    wide.print(shown, crop=False)
    for note in made.notes:
        console.print(note, style="dim")


def _names(words: str | None) -> list[str] | None:
    return [word.strip() for word in words.split(",") if word.strip()] if words else None
