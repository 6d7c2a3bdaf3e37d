"""`gradflow status`: how far a folder has got."""

from __future__ import annotations

import argparse
import gc
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.usage import OK

if TYPE_CHECKING:
    from rich.console import Console

    from gradflow.results.survey import Survey

SUMMARY = "how far a folder of runs has got, and what went wrong"
HELP = """How far a folder of runs has got: runs by state, pace and time left, Slurm's queue, the last errors and where
their logs are.

  gradflow status sweeps/quickstart
  gradflow status sweeps/quickstart --watch       until all is done, or Ctrl-C
"""
EVERY = 2.0  # seconds between two looks


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    command.add_argument("--watch", action="store_true", help=f"look again every {EVERY:g} s until all is done")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """How far a folder has got."""
    from rich.console import Console

    from gradflow.results.status import to_rich
    from gradflow.results.survey import survey

    console = Console(highlight=False)
    gc.disable()  # of the thousands of records that are read now none is garbage
    found = survey(options.folder)
    gc.freeze()
    gc.enable()
    if options.watch:
        with suppress(KeyboardInterrupt):
            _watch(found, console)
    for shown in to_rich(found):
        console.print(shown, soft_wrap=True)
    return OK


def _watch(found: Survey, console: Console) -> None:
    """Until all is done: redrawn on a terminal, elsewhere a line whenever something has ended or begun."""
    from rich.console import Group
    from rich.live import Live

    from gradflow.results.status import is_over, summary_of, to_rich

    with Live(console=console, auto_refresh=False, transient=True) as live:
        told = ""
        while not is_over(found):
            if console.is_terminal:
                live.update(Group(*to_rich(found)), refresh=True)
            elif told != (told := summary_of(found)):
                console.print(told, soft_wrap=True)
            time.sleep(EVERY)
            found.look()
