"""`gradflow logs`: what a run said, and what went wrong in it."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.usage import OK

if TYPE_CHECKING:
    from gradflow.runs.states import Glance

SUMMARY = "what a run said, and its error"
HELP = """What a run said: its error, its log, and where Slurm's log is.

  gradflow logs 1f0c2a7b9e3d            a run in the default folder of runs; the beginning of an id will do
  gradflow logs 1f0c sweeps/NAME        one of a sweep
  gradflow logs 1f0c --follow           until the run ends, or Ctrl-C
"""
LINES = 100
EVERY = 0.5  # seconds between two looks


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN_ID", help="of a run, its beginning, or the run's folder")
    where = "a sweep's folder, or a folder of runs (default: GRADFLOW_RUNS_DIR, or runs)"
    command.add_argument("folder", nargs="?", type=Path, metavar="DIR", help=where)
    command.add_argument("--follow", action="store_true", help="go on while the run is running")
    last = f"the last N lines of the log (default: {LINES})"
    command.add_argument("-n", "--lines", type=usage.whole_number, default=LINES, metavar="N", help=last)


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """What a run said, and what went wrong in it."""
    from gradflow.runs.jobs import log_of
    from gradflow.runs.locate import folder_of, runs_of, sweeps_dir

    runs = None if options.folder is None else runs_of(options.folder)
    path = folder_of(Path(options.run), runs)
    log, glance = path / "log.txt", _look(path)
    if glance is None and not log.exists():
        raise ConfigError(f"{path}: holds no run; give a run's id or its folder, e.g. runs/RUN_ID")
    if glance is not None:
        print(_heading(path, glance))
        if glance.status.get("error"):
            print(str(glance.status["error"]).rstrip())
        sweep = options.folder or sweeps_dir() / str(glance.status.get("group"))
        slurm = log_of(sweep, path.resolve().name)
        if slurm is not None:
            print(f"--- Slurm's log: {slurm}")
    end = _print_last(log, options.lines)
    if options.follow:
        with suppress(KeyboardInterrupt):
            _follow(path, log, end)
    return OK


def _look(path: Path) -> Glance | None:
    """The run as it is now.

    Raises:
        ConfigError: if its record cannot be read.
    """
    from gradflow.runs.states import states

    whole = path.resolve()
    seen = states(whole.parent, [whole.name])
    if seen.problems:
        raise ConfigError(*seen.problems.values())
    return seen.runs.get(whole.name)


def _heading(path: Path, glance: Glance) -> str:
    from gradflow.results.status import age

    status = glance.status
    where = f"on {status.get('host')}" + (f", Slurm job {status['job_id']}" if status.get("job_id") else "")
    step = f"step {status.get('step')}" + (f"/{status['total']}" if status.get("total") else "")
    attempt = f"attempt {status.get('attempt')}"
    told = f"{glance.state}, {attempt} {where}, {step}, heard of {age(glance.heartbeat)}"
    return f"{path.resolve().name} {status.get('title', '')}: {told}"


def _print_last(log: Path, lines: int) -> int:
    """Print the end of a log; where it ends."""
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        print(f"--- {log}: not there, or the run was trained by 'gradflow train', which says all on the terminal")
        return 0
    kept = content.splitlines(keepends=True)
    of = f", the last {lines} of {len(kept)} lines" if len(kept) > lines else ""
    print(f"--- {log}{of}")
    _print(b"".join(kept[-lines:]))
    return len(content)


def _follow(path: Path, log: Path, end: int) -> None:
    """Print what is added to a log until its run has ended."""
    while True:
        glance = _look(path)  # before the log, of which nothing is to be missed
        with suppress(FileNotFoundError), log.open("rb") as file:
            if file.seek(0, 2) < end:  # the run was begun anew
                end = 0
            file.seek(end)
            _print(file.read())
            end = file.tell()
        if glance is None or glance.state != "running":
            print(f"--- the run is {'gone' if glance is None else glance.state}")
            return
        time.sleep(EVERY)


def _print(content: bytes) -> None:
    sys.stdout.write(content.decode(errors="replace"))
    sys.stdout.flush()
