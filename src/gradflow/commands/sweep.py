"""`gradflow sweep`: many runs."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import FAILED, OK, USAGE

if TYPE_CHECKING:
    from rich.console import Console

    from gradflow.runs.stop import Stop
    from gradflow.sweeps.launch import Prepared
    from gradflow.sweeps.launcher import Slurm, Workers


SUMMARY = "train a grid of runs and print their table"
HELP = """Train a grid of runs in worker processes, or on a Slurm cluster, then print their table.

  gradflow sweep depth=2,10,30 activation=sigmoid,tanh,relu 'seed=range(3)'
  gradflow sweep 'activation=glob(*)' depth=10,100 sweep.where="not (activation=='sigmoid' and depth>50)"
  gradflow sweep activation=relu,tanh init=he_normal,glorot_uniform 'sweep.zip=[activation,init]'
  gradflow sweep +sweep=quickstart -j 2
  gradflow sweep +sweep=study --plan          write the plan, say what it will cost, and stop
  gradflow sweep +sweep=study launcher=slurm launcher.partition=gpu launcher.runs_per_task=20
  gradflow sweep hardware=cpu,gpu,gpu_bf16 trainer.max_time=00:00:10:00     at equal steps and at equal time

Values follow Hydra's grammar: choices a,b,c; range(start,stop,step); glob(pattern) over a group's files.
The plan is checked and written before anything trains, and frozen: editing a config file changes nothing in it.
The same words find it again: what is missing or failed is trained, and nothing else. Ctrl-C stops at the next step.
"""


def arguments(command: argparse.ArgumentParser) -> None:
    usage.overrides(command)
    command.add_argument("-j", "--jobs", type=usage.whole_number, metavar="N", help="worker processes (default: cores)")
    plan = command.add_mutually_exclusive_group()
    plan.add_argument("--plan", action="store_true", help="write the plan, say what it will cost, and stop")
    plan.add_argument("--dry-run", action="store_true", help="say what would be trained, and write nothing")
    command.add_argument("--retry-failed", action="store_true", help="train those that have failed, and no others")
    again = "train a run anew (its record is moved aside); may be given several times"
    command.add_argument("--rerun", action="append", default=[], metavar="RUN_ID", help=again)
    command.add_argument("--replan", action="store_true", help="plan anew, with config files as they are now")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Many runs."""
    from rich.console import Console

    from gradflow.runs.compose import composer
    from gradflow.runs.ranks import only_one
    from gradflow.runs.stop import Stop
    from gradflow.sweeps import launch
    from gradflow.sweeps.plan import Refused

    console = Console(highlight=False)
    if not options.overrides:
        raise ConfigError("sweep: nothing to vary; e.g. 'gradflow sweep depth=2,10,30' or '+sweep=quickstart'")
    many = only_one("sweep")
    if many:
        raise ConfigError(many)
    words = [*options.overrides, *([f"launcher.jobs={options.jobs}"] if options.jobs else [])]
    stop = Stop()
    with composer(options.config_dir) as compose, stop.on_signals():
        try:
            with console.status("planning: every cell is composed, checked and built without memory"):
                prepared = launch.prepare(
                    compose,
                    words,
                    usage.typed_again(without(typed)),
                    replan=options.replan,
                    rerun=options.rerun,
                    write=not options.dry_run,
                )
        except Refused as refused:
            tell_refused(refused)
            return USAGE
        if options.retry_failed:
            prepared = prepared.only("failed", "rerun")
        tell(prepared, console)
        if options.plan or options.dry_run:
            tell_cost(prepared, console, every=options.dry_run)
            return OK
        if prepared.launcher.kind == "slurm":
            return submit(prepared, prepared.launcher, console)
        failed = train(prepared, prepared.launcher, stop, console) if not stop.requested else 0
    publish(prepared.folder, console)
    if stop.requested:
        print(f"stopped. To go on: {usage.typed_again(without(typed))}", file=sys.stderr)
        return 128 + int(stop.signal or signal.SIGTERM)
    return FAILED if failed else OK


def train(prepared: Prepared, workers: Workers, stop: Stop, console: Console) -> int:
    """Train what is missing on this machine; how many failed."""
    if not prepared.missing:
        return 0
    from gradflow.display import SweepDisplay
    from gradflow.runs.launches import announced
    from gradflow.sweeps import launch
    from gradflow.sweeps.allotment import allot

    allotment = allot(workers, prepared.threads, prepared.wants_gpu, prepared.devices)
    with (
        announced(prepared.folder, prepared.plan.command),
        SweepDisplay(console, prepared.plan.name) as display,
    ):
        return launch.train(prepared, allotment, stop, display.show).count("failed")


def submit(prepared: Prepared, launcher: Slurm, console: Console) -> int:
    """Hand what is missing to Slurm and leave."""
    from gradflow.sweeps.slurm import submit

    if not prepared.missing:
        publish(prepared.folder, console)
        return OK
    submitted = submit(prepared, launcher)
    if submitted.note:
        console.print(f"note: {submitted.note}", soft_wrap=True, markup=False)
    if submitted.under_way:
        console.print(f"{submitted.under_way} runs are in Slurm's queue already", soft_wrap=True)
    if submitted.submission is not None:
        jobs, tasks = submitted.submission.job_ids, submitted.submission.tasks
        runs = sum(map(len, tasks.values()))
        kind = "array" if len(jobs) == 1 else "arrays"
        console.print(f"submitted {runs} runs in {len(tasks)} tasks: {kind} {', '.join(jobs)}", soft_wrap=True)
        console.print(f"script: {submitted.script}", soft_wrap=True)
    console.print(f"to look:   gradflow status {prepared.folder}", soft_wrap=True)
    console.print(f"to cancel: gradflow cancel {prepared.folder}", soft_wrap=True)
    return OK


def tell(prepared: Prepared, console: Console) -> None:
    """What was planned, and what of it is left."""
    total, left = len(prepared.plan.runs), len(prepared.missing)
    done = total - len(prepared.states)
    if prepared.cells > total:
        what = "the others differ only in what does not change a run (logging, instruments, paths)"
        console.print(f"{prepared.cells} cells are {total} runs: {what}", soft_wrap=True)
    if prepared.replaced is not None:
        earlier = f"an earlier plan of {prepared.replaced} runs; their records stay"
        console.print(f"{prepared.folder}: this plan takes the place of {earlier}", soft_wrap=True)
    for note in prepared.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    for why, count in _alone(prepared).items():
        console.print(f"note: {count} of {left} runs are trained alone: {why}", soft_wrap=True, markup=False)
    others = len(prepared.states) - left
    passed = f", {others} not asked for" if others else ""
    console.print(f"{prepared.plan.name}: {total} runs, {done} done before, {left} to train{passed}", soft_wrap=True)


def _alone(prepared: Prepared) -> Counter[str]:
    """Of a packed sweep, what keeps runs from being trained with others."""
    if prepared.launcher.pack == 1:
        return Counter()
    from gradflow.runs.graph import graph_key, why_alone

    alike = Counter(graph_key(run.labels, run.config) for run in prepared.missing)
    only_one = "no other has a network of the same graph"
    found: Counter[str] = Counter()
    for run in prepared.missing:
        why = why_alone(run.labels, run.config)
        if why is not None or alike[graph_key(run.labels, run.config)] == 1:
            found[why or only_one] += 1
    return found


def tell_cost(prepared: Prepared, console: Console, every: bool) -> None:
    """What is left to train, by state, and what it is expected to cost; `every`: a line per run."""
    from rich.text import Text

    from gradflow.runs.identity import title
    from gradflow.sweeps.estimate import expected, summary

    seconds = expected(prepared)
    if every:
        for planned in prepared.missing:
            state, time = prepared.states[planned.run_id], seconds[planned.run_id]
            told = "" if time is None else f"  about {_duration(time)}"
            console.print(Text(f"{planned.run_id}  {state:<9} {title(planned.labels)}{told}"), soft_wrap=True)
    cost = summary(prepared)
    left = Counter(prepared.states[planned.run_id] for planned in prepared.missing)
    if left:
        console.print("to train:  " + ", ".join(f"{count} {state}" for state, count in sorted(left.items())))
        if cost.counted:
            of = "" if cost.counted == len(prepared.missing) else f" (of {cost.counted} runs)"
            console.print(f"work:      {cost.operations:.2g} floating-point operations{of}", soft_wrap=True)
        if cost.memory is not None:
            console.print(f"memory:    {_size(cost.memory)} for the largest run, without data and libraries")
        if cost.timed:
            of = "all of them" if cost.timed == len(prepared.missing) else f"{cost.timed} of them"
            console.print(
                f"time:      {_duration(cost.seconds)} of training, one run after another, by earlier runs like {of}"
            )
        else:
            console.print("time:      not known: nothing like it was trained on this hardware")
    if not every:
        console.print(f"plan:      {prepared.folder / 'plan.json'}", soft_wrap=True)


def tell_refused(refused: Exception) -> None:
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
    if refused.way_out:
        console.print(Text(f'to leave them out: sweep.where="{refused.way_out}"'), soft_wrap=True)


def publish(folder: Path, console: Console) -> None:
    """Write every view, print the table, name the page."""
    from gradflow.commands.report import progress, workers
    from gradflow.commands.table import show
    from gradflow.results.publish import publish as write
    from gradflow.results.status import is_complete, summary
    from gradflow.runs.planfile import collect

    collection = collect(folder)
    with progress(len(collection.planned)) as told:
        published = write(collection, folder, told, workers())
    show(console, published.table)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if not is_complete(collection):
        console.print(summary(collection), soft_wrap=True)
    others = ", ".join(file.name for file in published.files if file != published.page)
    console.print(f"files:  {others}", soft_wrap=True)
    console.print(f"report: {published.page}", soft_wrap=True)


def without(typed: list[str]) -> list[str]:
    """The words that go on with a sweep: what was said for one time only is left out."""
    kept, skip = [], False
    for word in typed:
        if skip:
            skip = False
        elif word == "--rerun":
            skip = True
        elif not word.startswith("--rerun=") and word not in ("--plan", "--dry-run", "--retry-failed", "--replan"):
            kept.append(word)
    return kept


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
