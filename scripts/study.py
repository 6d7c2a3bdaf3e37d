"""Which cells vanish: every activation × init × norm × skip on MNIST at depth 30 and 100, as two tables.

    python scripts/study.py [-j N] [overrides]

Trains the named sweep 'study' (702 short runs; what is trained already is not trained again), then prints for each
depth one line per activation and one column per init, norm and skip: test accuracy in percent after 50 steps, and a
letter where something is wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradflow.cli import main
from gradflow.runs.planfile import Collection, collect
from gradflow.runs.record import Record

MARKS = {"healthy": "", "stagnant": "s", "vanishing": "v", "exploding": "x", "dead": "d", "diverged": "!"}
MARKS |= {"saturated": "b", "rank_collapse": "r"}
COLOURS = {"healthy": "green", "stagnant": "yellow", "vanishing": "magenta", "dead": "magenta"}
SHORT = {"glorot_uniform": "glorot", "he_normal": "he", "orthogonal": "orthog.", "none": "–", "residual": "res."}
ACROSS = ("init", "norm", "skip")
LEGEND = (
    "test accuracy in %; v vanishing, d dead (gradient exactly zero), x exploding, b saturated (units at their bound), "
    "r rank collapse, ! diverged, s at chance"
)


def study(words: list[str]) -> int:
    """Train what is missing and print the tables; the sweep's exit status."""
    try:
        main(["sweep", "+sweep=study", "sweep.name=study", *words])
    except SystemExit as ended:
        status = int(ended.code or 0)
    folder = Path(os.environ.get("GRADFLOW_SWEEPS_DIR", "sweeps")) / "study"
    if (folder / "plan.json").exists():
        show(collect(folder), Console(highlight=False, width=160))
    return status


def show(collection: Collection, console: Console) -> None:
    """One table per depth."""
    runs = {run_id: labels for run_id, labels in collection.planned.items() if labels["seed"] == 0}
    for depth in sorted({labels["depth"] for labels in runs.values()}):
        cells = {
            (labels["activation"], *(labels[name] for name in ACROSS)): collection.found.records.get(run_id)
            for run_id, labels in runs.items()
            if labels["depth"] == depth
        }
        console.print(_table(f"depth {depth}", cells))
    console.print(LEGEND)


def _table(title: str, cells: dict[tuple[str, ...], Record | None]) -> Table:
    columns = sorted({key[1:] for key in cells})
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("init\nnorm\nskip")
    for column in columns:
        table.add_column("\n".join(SHORT.get(word, word) for word in column), justify="right")
    for activation in dict.fromkeys(key[0] for key in cells):
        table.add_row(activation, *(_cell(cells.get((activation, *column))) for column in columns))
    return table


def _cell(record: Record | None) -> Text:
    if record is None or not record.result:
        return Text("·", style="bright_black")
    verdict, accuracy = record.result["verdict"], record.result["metrics"].get("test/accuracy")
    shown = "" if accuracy is None else f"{100 * accuracy:.0f}"
    return Text(shown + MARKS.get(verdict, "?"), style=COLOURS.get(verdict, "red"))


if __name__ == "__main__":
    sys.exit(study(sys.argv[1:]))
