"""`gradflow sweep`: many runs."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import FAILED, OK, USAGE

if TYPE_CHECKING:
    from rich.console import Console


SUMMARY = "train a grid of runs and print their table"
HELP = """Train a grid of runs in worker processes, then print their table.

  gradflow sweep depth=2,10,30 activation=sigmoid,tanh,relu 'seed=range(3)'
  gradflow sweep 'activation=glob(*)' depth=10
  gradflow sweep +sweep=quickstart -j 2
  gradflow sweep hardware=cpu,gpu,gpu_bf16 trainer.max_time=00:00:10:00     at equal steps and at equal time

Values follow Hydra's grammar: choices a,b,c; range(start,stop,step); glob(pattern) over a group's files.
The plan is checked and written before anything trains; runs that have a result are not trained again.
Ctrl-C stops at the next step; the same command goes on.
"""


def arguments(command: argparse.ArgumentParser) -> None:
    usage.overrides(command)
    command.add_argument("-j", "--jobs", type=usage.whole_number, metavar="N", help="worker processes (default: cores)")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Many runs."""
    from rich.console import Console

    from gradflow.runs.compose import composer
    from gradflow.runs.stop import Stop
    from gradflow.sweeps import launch
    from gradflow.sweeps.allotment import allot
    from gradflow.sweeps.launcher import read_launcher
    from gradflow.sweeps.plan import Refused

    console = Console(highlight=False)
    if not options.overrides:
        raise ConfigError("sweep: nothing to vary; e.g. 'gradflow sweep depth=2,10,30' or '+sweep=quickstart'")
    stop = Stop()
    with composer(options.config_dir) as compose, stop.on_signals():
        try:
            with console.status("planning: every cell is composed, checked and built without memory"):
                prepared = launch.prepare(compose, options.overrides, usage.typed_again(typed))
        except Refused as refused:
            _tell_refused(refused)
            return USAGE
        total, missing = len(prepared.plan.runs), len(prepared.missing)
        if prepared.cells > total:
            what = "the others differ only in what does not change a run (logging, instruments, paths)"
            console.print(f"{prepared.cells} cells are {total} runs: {what}", soft_wrap=True)
        if prepared.replaced is not None:
            earlier = f"an earlier plan of {prepared.replaced} runs; their records stay"
            console.print(f"{prepared.folder}: this plan takes the place of {earlier}", soft_wrap=True)
        for note in prepared.notes:
            console.print(f"note: {note}", soft_wrap=True, markup=False)
        workers = read_launcher(compose, [f"launcher.jobs={options.jobs}"] if options.jobs else [])
        allotment = allot(workers, prepared.threads, wants_gpu=False)
        console.print(
            f"{prepared.plan.name}: {total} runs, {total - missing} done before, {missing} to train", soft_wrap=True
        )
        failed = 0
        if missing and not stop.requested:
            from gradflow.display import SweepDisplay

            with SweepDisplay(console, prepared.plan.name) as display:
                progress = launch.train(prepared, allotment, stop, display.show)
            failed = progress.count("failed")
    _publish(prepared.folder, console)
    if stop.requested:
        print(f"stopped. To go on: {usage.typed_again(typed)}", file=sys.stderr)
        return 128 + int(stop.signal or signal.SIGTERM)
    return FAILED if failed else OK


def _tell_refused(refused: Exception) -> None:
    """Every fault of a plan at once, with the cells it is in."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gradflow.sweeps.plan import MOST_SHOWN, Refused

    assert isinstance(refused, Refused)
    grid = Table(box=box.SIMPLE_HEAD, title=Text(f"{refused}; nothing was trained"), title_justify="left")
    grid.add_column("cells", justify="right")
    grid.add_column("what is wrong", overflow="fold")
    grid.add_column("first such cell", overflow="fold")
    for fault in refused.faults[:MOST_SHOWN]:
        grid.add_row(Text(str(len(fault.cells))), Text(fault.line), Text(fault.cells[0]))
    console = Console(stderr=True, highlight=False)
    console.print(grid)
    if len(refused.faults) > MOST_SHOWN:
        console.print(f"… and {len(refused.faults) - MOST_SHOWN} more faults")


def _publish(folder: Path, console: Console) -> None:
    """Write every view, print the table, name the page."""
    from gradflow.commands.table import show
    from gradflow.results.publish import publish
    from gradflow.results.status import is_complete, summary
    from gradflow.runs.planfile import collect

    collection = collect(folder)
    published = publish(collection, folder)
    show(console, published.table)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if not is_complete(collection):
        console.print(summary(collection), soft_wrap=True)
    others = ", ".join(file.name for file in published.files if file != published.page)
    console.print(f"files:  {others}", soft_wrap=True)
    console.print(f"report: {published.page}", soft_wrap=True)
