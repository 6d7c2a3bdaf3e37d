"""`gradflow work`: one task's share of a sweep on a cluster; `sweeps/NAME/slurm/sweep.sbatch` types it."""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import FAILED, OK

if TYPE_CHECKING:
    from gradflow.runs.stop import Stop


SUMMARY = "train one task's share of a sweep on a cluster"
HELP = """Train one task's share of a sweep. A cluster's batch script types this; you need not.

On SIGUSR1 or SIGTERM every run checkpoints at its next step, and the exit code is 128 + the signal's number. The same
command goes on.
"""
ENDED = ("completed", "diverged", "done", "pruned", "failed")


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    command.add_argument(
        "--submission", type=usage.whole_number, required=True, metavar="N", help="of the sweep, from 1"
    )
    command.add_argument("--task", type=int, required=True, metavar="K", help="of the submission, from 0")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Train what this task was given and has no result yet."""
    from gradflow.runs.stop import Stop

    stop = Stop()
    with stop.on_signals():
        return _work(options, stop)


def _work(options: argparse.Namespace, stop: Stop) -> int:
    from rich.console import Console

    from gradflow.display import SweepDisplay
    from gradflow.runs.planfile import read_plan
    from gradflow.runs.record import Unreadable, is_done
    from gradflow.sweeps.allotment import allot
    from gradflow.sweeps.pool import run_all
    from gradflow.sweeps.slurm import share_of

    share = share_of(options.folder, options.submission, options.task)
    try:
        plan = read_plan(options.folder)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    if plan is None:
        raise ConfigError(f"{options.folder}: holds no plan")
    mine = set(share.run_ids)
    runs = [run for run in plan.runs if run.run_id in mine]
    missing = [run for run in runs if not is_done(plan.runs_dir / run.run_id)]
    console = Console(highlight=False, force_terminal=False)
    replaced = f", {len(mine) - len(runs)} no longer in the plan" if len(runs) < len(mine) else ""
    console.print(f"{len(mine)} runs, {len(runs) - len(missing)} done before{replaced}", soft_wrap=True)
    allotment = allot(share.launcher, share.threads, share.launcher.gpus_per_task > 0, share.devices)
    with SweepDisplay(console, plan.name) as display:
        progress = run_all(missing, allotment, plan.runs_dir, len(runs) - len(missing), stop, display.show)
    ended = progress.count(*ENDED)
    if stop.requested and ended < len(missing):
        console.print(f"stopped with {len(missing) - ended} runs to go", soft_wrap=True)
        return 128 + int(stop.signal or signal.SIGTERM)
    return FAILED if progress.count("failed") else OK
