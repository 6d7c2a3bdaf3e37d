"""`gradflow import-wandb`: records from runs at W&B."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradflow.errors import ConfigError
from gradflow.runs.wandb_project import check_project
from gradflow.usage import OK

SUMMARY = "make records of runs that are at W&B, so that a table can mix them with your own"
HELP = """Make records of runs that are at W&B, so that a table can mix them with your own.

  gradflow import-wandb team/gradflow                              every run that has ended
  gradflow import-wandb team/gradflow --filter depth=10 --filter group=quickstart
  gradflow import-wandb team/other --metric test_acc:test/accuracy --label task=cifar10
                                                                   runs of other software, in the words of yours
  gradflow table runs                                              all of them, and your own

Runs that gradflow has logged come back with their results, verdicts, curves and what W&B was given of their gradients.
Those of other software have their config as labels, numbers of their summary as metrics, and 'source' as a label. A run
that has a record is left alone.
"""
MOST = 5  # reasons that are told


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("project", metavar="ENTITY/PROJECT")
    told = "only such runs: a label, or group, state, tag; all must hold"
    command.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help=told)
    told = "a number of the summary, of runs of other software, and what to call it; the first is to be compared by"
    command.add_argument("--metric", action="append", default=[], metavar="KEY[:NAME]", help=told)
    told = "a label of runs of other software, e.g. task=cifar10 or seed=0"
    command.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help=told)
    command.add_argument("--runs", type=Path, metavar="DIR", help="where (default: GRADFLOW_RUNS_DIR, or runs)")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Make records of what is at W&B and is not here."""
    from gradflow.runs.credentials import has_wandb_key
    from gradflow.runs.locate import runs_dir
    from gradflow.runs.wandb_import import filters_of, labels_of, metrics_of, pull

    if options.project.count("/") != 1 or not all(options.project.split("/")):
        raise ConfigError(f"import-wandb {options.project}: must be ENTITY/PROJECT, as in the address of its page")
    check_project(options.project.partition("/")[2], f"import-wandb {options.project}")
    filters, labels, metrics = filters_of(options.filter), labels_of(options.label), metrics_of(options.metric)
    if not has_wandb_key():
        raise ConfigError("import-wandb: no W&B API key found; run 'wandb login', or set WANDB_API_KEY")
    runs = options.runs if options.runs is not None else runs_dir()
    done = pull(options.project, runs, filters, metrics, labels, lambda title: print(f"  {title}", flush=True))
    there = f", {len(done.there)} there before" if done.there else ""
    print(f"{runs}: {len(done.new)} runs imported from {options.project}{there}")
    for name, reason in list(done.skipped.items())[:MOST]:
        print(f"gradflow: {name} left out: {reason}", file=sys.stderr)
    if len(done.skipped) > MOST:
        print(f"gradflow: {len(done.skipped) - MOST} more left out", file=sys.stderr)
    return OK
