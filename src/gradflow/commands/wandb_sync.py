"""`gradflow wandb-sync`: upload what W&B has not got of the runs."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.errors import ConfigError
from gradflow.runs.wandb_project import check_project
from gradflow.usage import FAILED, OK

if TYPE_CHECKING:
    from gradflow.runs.wandb_sync import Pending

SUMMARY = "upload to W&B what runs have logged offline, or what did not arrive"
HELP = """Upload to W&B what runs have logged offline, only what is new, from a machine that reaches it; and what
had not arrived of runs with logger.mode=online when they ended. To another --project all is uploaded again.

  gradflow wandb-sync                       the default folder of runs
  gradflow wandb-sync sweeps/quickstart     the runs of a sweep
  gradflow wandb-sync --project other --entity team

Attempts of a run that was stopped and went on become one W&B run. Runs that are running are left for later. Where W&B's
log lacks something that the record has, since its process was killed, it is filled up from the record before.
"""
MOST = 10  # ids that are named in a line
# What W&B says that a person has to know: which host it is, where a run is now, and what went wrong.
TOLD = re.compile(
    r"credentials for|View run at|ERROR|WARN|Failed|killed in the middle|filled up|Not authenticated", re.IGNORECASE
)


def arguments(command: argparse.ArgumentParser) -> None:
    default = "sweeps, folders of runs, or runs (default: GRADFLOW_RUNS_DIR, or runs)"
    command.add_argument("folders", nargs="*", type=Path, metavar="DIR", help=default)
    command.add_argument("--project", metavar="NAME", help="instead of the one that a run was logged to")
    command.add_argument("--entity", metavar="NAME", help="the account or team, likewise")
    command.add_argument("--dry-run", action="store_true", help="say what would be uploaded")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Upload what was logged to W&B offline."""
    from gradflow.runs.credentials import has_wandb_key
    from gradflow.runs.locate import runs_dir
    from gradflow.runs.wandb_sync import alone, pending, upload

    check_project(options.project, f"--project {options.project}")
    chosen = [_chosen(folder) for folder in options.folders or [runs_dir()]]
    failed = False
    for runs, run_ids in chosen:
        where = runs, run_ids, options.project, options.entity
        if options.dry_run:
            _tell_pending(pending(*where))
            continue
        with alone(runs) as mine:
            if not mine:
                print(f"gradflow: {runs}: another process is uploading its runs", file=sys.stderr)
                return FAILED
            found = pending(*where)  # now that nobody else uploads any of it
            _tell_pending(found)
            found.remember()
            if not found.files:
                continue
            if not has_wandb_key():
                raise ConfigError("wandb-sync: no W&B API key found; run 'wandb login', or set WANDB_API_KEY")
            left = upload(found, _tell)
        print(f"{runs}: {len(found.files) - len(left)} runs uploaded")
        if left:
            again = usage.typed_again(typed)
            print(f"gradflow: {_named(left)} not uploaded; to try again: {again}", file=sys.stderr)
            failed = True
    return FAILED if failed else OK


def _tell_pending(found: Pending) -> None:
    if found.later:
        print(f"{found.runs}: {_named(found.later)} may be running and can be uploaded later")
    if not found.files:
        print(f"{found.runs}: nothing new to upload")
        return
    attempts = sum(map(len, found.files.values()))
    short = f"; {len(found.short)} to be filled up from the record" if found.short else ""
    print(f"{found.runs}: {len(found.files)} runs to upload, {attempts} attempts{short}", flush=True)


def _chosen(folder: Path) -> tuple[Path, list[str] | None]:
    """A folder of runs, and which of them: those of a plan, one, or None for all.

    Raises:
        ConfigError: if there is no such folder.
    """
    from gradflow.results.survey import survey

    whole = survey(folder)
    return whole.runs_dir, None if whole.only is None else list(whole.only)


def _named(run_ids: list[str]) -> str:
    runs = "run" if len(run_ids) == 1 else f"{len(run_ids)} runs:"
    return f"{runs} {', '.join(run_ids[:MOST])}" + (", …" if len(run_ids) > MOST else "")


def _tell(line: str) -> None:
    if TOLD.search(line):
        print(line.removeprefix("wandb: "), flush=True)
