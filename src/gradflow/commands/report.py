"""`gradflow report`: the page and the files beside it, or the page served while a sweep runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import OK

SUMMARY = "write report.html and the files beside it, or serve the page"
HELP = """Write report.html, a page in one file that opens from disk, and beside it the table and the pictures; or serve
the page.

  gradflow report sweeps/quickstart
  gradflow report sweeps/quickstart --out paper
  gradflow report sweeps/quickstart --serve       live, while the sweep runs; until Ctrl-C

The server answers on 127.0.0.1 alone and writes nothing. From another machine: ssh -L 8765:localhost:8765 HOST.
"""
MOST_WORKERS = 8  # processes that read records at the same time


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    command.add_argument("--out", type=usage.out_folder, metavar="DIR", help="where to write (default: DIR itself)")
    command.add_argument("--serve", action="store_true", help="serve the page, live, instead of writing it")
    command.add_argument("--port", type=_port, metavar="N", help="of --serve (default: 8765; 0: any that is free)")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """The page and the files beside it."""
    if options.serve and options.out is not None:
        raise ConfigError("--out: --serve writes nothing; leave one of them out")
    if options.port is not None and not options.serve:
        raise ConfigError("--port: says where to --serve; add --serve, or leave it out")
    with _in_order_on_sigterm():
        return _serve(options.folder, options.port) if options.serve else _write(options.folder, options.out)


def _write(folder: Path, out: Path | None) -> int:
    from gradflow.results.publish import publish
    from gradflow.runs.planfile import collect

    collection = collect(folder)
    with progress(len(collection.planned)) as told:
        published = publish(collection, out or folder, told=told, workers=workers())
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    print(published.page)
    return OK


def _serve(folder: Path, port: int | None) -> int:
    """Until Ctrl-C, which is how it is meant to end."""
    from gradflow.results.serve import PORT, Server

    with Server(folder, PORT if port is None else port) as server, suppress(KeyboardInterrupt):
        print(f"{server.url}  (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return OK


@contextmanager
def _in_order_on_sigterm() -> Iterator[None]:
    """Leave as by an error, so that no process that was started stays behind."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress(runs: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal while the records of many runs are read; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("reading records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=runs)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def workers() -> int:
    """Processes: as many as there are cores for this one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, cores)


def _port(word: str) -> int:
    if not word.isdigit() or int(word) > 65535:
        raise argparse.ArgumentTypeError(f"{word!r}: must be a whole number from 0 to 65535")
    return int(word)
