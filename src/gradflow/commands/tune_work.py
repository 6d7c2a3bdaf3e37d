"""`gradflow tune-work`: one task of a search on a cluster; `sweeps/NAME/slurm/sweep.sbatch` types it."""

from __future__ import annotations

import argparse
import signal

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import OK

SUMMARY = "make trials of a search, as one task of a cluster"
HELP = """Make trials of a search until every technique has had its budget; other tasks are at the same search. A
cluster's batch script types this; you need not.

On SIGUSR1 or SIGTERM every run checkpoints at its next step, and the exit code is 128 + the signal's number. The same
command goes on.
"""


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    command.add_argument("--task", type=int, required=True, metavar="K", help="of the array, from 0")
    command.add_argument("--jobs", type=usage.whole_number, metavar="N", help="worker processes")
    command.add_argument("--workers-per-gpu", type=usage.whole_number, default=1, metavar="N")
    command.add_argument("--max-attempts", type=usage.whole_number, default=3, metavar="N")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Make trials until there are enough."""
    from rich.console import Console

    from gradflow.commands import searching
    from gradflow.runs.record import Unreadable
    from gradflow.runs.stop import Stop
    from gradflow.sweeps.launcher import Local
    from gradflow.sweeps.tuning.search import read_search

    try:
        search = read_search(options.folder)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    if search is None:
        raise ConfigError(f"{options.folder}: holds no search; 'gradflow tune' makes one")
    stop = Stop()
    with stop.on_signals():
        workers = Local(
            kind="local",
            jobs=options.jobs,
            workers_per_gpu=options.workers_per_gpu,
            max_attempts=options.max_attempts,
        )
        console = Console(highlight=False, force_terminal=False)
        code = searching.work(search, options.folder, workers, stop, console)
        if code is None and stop.requested and not searching.is_over(search, options.folder):
            console.print("stopped with trials to go", soft_wrap=True)
            return 128 + int(stop.signal or signal.SIGTERM)
    return OK if code is None else code
