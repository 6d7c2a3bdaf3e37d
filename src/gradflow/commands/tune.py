"""`gradflow tune`: the best settings of each technique."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import OK, USAGE

if TYPE_CHECKING:
    from rich.console import Console

    from gradflow.runs.stop import Stop
    from gradflow.sweeps.launcher import Launcher, Slurm
    from gradflow.sweeps.tuning.search import Search


SUMMARY = "search for each technique's best settings, then compare them"
HELP = """Search for good settings, with the same number of trials for every technique, then train each
technique's best settings on fresh seeds and print their table.

  gradflow tune depth=10 activation=relu,tanh tune.per=activation 'optimizer.lr=tag(log,interval(1e-4,1))'
  gradflow tune tune=learning_rate activation=relu,tanh norm=none,batch tune.per=activation,norm tune.trials=30
  gradflow tune 'depth=int(interval(2,20))' 'optimizer.momentum=0,0.9' tune.sampler=random tune.pruner=asha
  gradflow tune 'width=range(16,129,16)' 'optimizer.lr=tag(log,interval(1e-3,1))' \\
      'tune.metric=[val/accuracy,cost/train_seconds]'

A key with several values, or an interval of them, is searched; one named by tune.per tells techniques apart.
Numbers: interval(LOW,HIGH), tag(log,interval(LOW,HIGH)), int(interval(LOW,HIGH)), range(START,STOP,STEP).
Trials are judged by the validation split. conf/tune/default.yaml has all keys of tune.
Trials are runs like any other; Ctrl-C stops at the next step; the same command goes on, or shows what was found.
"""


def arguments(command: argparse.ArgumentParser) -> None:
    usage.overrides(command)
    command.add_argument("-j", "--jobs", type=usage.whole_number, metavar="N", help="worker processes (default: cores)")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Search, then compare."""
    from rich.console import Console

    from gradflow.commands.sweep import tell_refused
    from gradflow.runs.compose import composer
    from gradflow.runs.launches import announced
    from gradflow.runs.stop import Stop
    from gradflow.sweeps.plan import Refused
    from gradflow.sweeps.tuning.settings import read_words

    console = Console(highlight=False)
    stop = Stop()
    with composer(options.config_dir) as compose, stop.on_signals():
        words = [*options.overrides, *([f"launcher.jobs={options.jobs}"] if options.jobs else [])]
        asked = read_words(compose, words)
        try:
            with console.status("planning: the corners of every technique's space are checked"):
                from gradflow.sweeps.tuning.ask import make_search

                search, folder = make_search(compose, asked, usage.typed_again(typed))
        except Refused as refused:
            tell_refused(refused)
            return USAGE
        with announced(folder, search.command):
            return _search(search, folder, asked.launcher, stop, console)


def _search(search: Search, folder: Path, launcher: Launcher, stop: Stop, console: Console) -> int:
    from gradflow.commands import searching
    from gradflow.sweeps.tuning.desk import tallies
    from gradflow.sweeps.tuning.journal import open_studies
    from gradflow.sweeps.tuning.search import write_search

    write_search(folder, search)
    search.runs_dir.mkdir(parents=True, exist_ok=True)
    seen = tallies(open_studies(folder, search), search)
    total, done = search.trials * len(seen), sum(min(tally.ended, search.trials) for tally in seen.values())
    what = f"{len(seen)} techniques × {search.trials} trials" if len(seen) > 1 else f"{search.trials} trials"
    console.print(f"{search.name}: {what}, {done} done before, {total - done} to make", soft_wrap=True)
    if done < total and not stop.requested:
        if launcher.kind == "slurm":
            return _submit(search, folder, launcher, total - done, console)
        _check_runs(search)
        code = searching.work(search, folder, launcher, stop, console)
        if code is not None:
            return code
    searching.tell(search, folder, console)
    if stop.requested:
        return _stopped(search, stop)
    code = searching.finish(search, folder, launcher, stop, console)
    return _stopped(search, stop) if stop.requested else code


def _check_runs(search: Search) -> None:
    """Data in place, and W&B's account where it is asked for."""
    from gradflow.runs.build import prepare_data
    from gradflow.runs.credentials import check_logger

    params = {d.key: d.corners()[0] for d in search.dimensions}
    configs = [search.config(technique, params, search.seeds[0]) for technique in search.techniques]
    for config in configs:
        check_logger(config)
    absent = prepare_data(configs)
    if absent:
        raise ConfigError(*absent)


def _submit(search: Search, folder: Path, launcher: Slurm, left: int, console: Console) -> int:
    """Tasks that share the trials out among themselves; those of an earlier call that are alive are left to it."""
    from gradflow.runs.jobs import live, read_submissions
    from gradflow.sweeps.slurm import submit_array

    states = live(job for each in read_submissions(folder) for job in each.job_ids)
    if states is None:
        raise ConfigError("launcher=slurm: squeue does not answer, so that nothing was submitted; try again later")
    if states:
        under_way = f"{len(states)} tasks are at it: {', '.join(sorted(states))}"
        console.print(f"{under_way}. When they are through, the same command compares what was found", soft_wrap=True)
        return OK
    _check_runs(search)
    tasks = max(1, math.ceil(left * len(search.seeds) / launcher.runs_per_task))
    tasks = min(tasks, launcher.concurrent_tasks or tasks, left)
    workers = ["--workers-per-gpu", str(launcher.workers_per_gpu), "--max-attempts", str(launcher.max_attempts)]
    workers += ["--jobs", str(launcher.jobs)] if launcher.jobs else []
    words = ["tune-work", str(folder.resolve()), *workers]
    jobs = submit_array(folder, words, tasks, launcher, search.name)
    console.print(f"submitted {tasks} tasks: job {', '.join(jobs)}", soft_wrap=True)
    console.print("when they are through, the same command compares what was found", soft_wrap=True)
    return OK


def _stopped(search: Search, stop: Stop) -> int:
    print(f"stopped. To go on: {search.command}", file=sys.stderr)
    return 128 + int(stop.signal or signal.SIGTERM)
