"""`gradflow rank`: one of several processes of one run; `gradflow.runs.rank_processes` starts it."""

from __future__ import annotations

import argparse
import os
import sys

from gradflow.usage import OK

SUMMARY = "train one process's share of a run"
HELP = """Train one process's share of a run. gradflow starts this for `trainer.devices` above 1; you need not."""


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("pipe", type=int, metavar="FD", help="an open pipe, through which orders come")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Do what the pipe says."""
    import gradflow.lightning  # noqa: F401 - before anything that imports torch: it is quick
    from gradflow.runs.rank_processes import serve

    serve(options.pipe)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(OK)  # all is written; to take torch and Lightning down piece by piece takes seconds
