"""`gradflow gc`: what may be deleted, and its deletion."""

from __future__ import annotations

import argparse
import math
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow.usage import FAILED, OK

if TYPE_CHECKING:
    from gradflow.runs.garbage import Item

SUMMARY = "show what may be deleted from a folder of runs, and delete it"
HELP = """Show what may be deleted from a folder of runs: records moved aside, temporary files of killed writers, and
checkpoints of runs that are done. Nothing is deleted without --delete, and never anything of a run under way.

  gradflow gc
  gradflow gc --delete
  gradflow gc runs --orphans --uploaded 30
"""
MOST = 10  # of each kind that are listed one by one


def arguments(command: argparse.ArgumentParser) -> None:
    runs, sweeps = "a folder of runs (default: GRADFLOW_RUNS_DIR, or runs)", "where the plans are (default: sweeps)"
    command.add_argument("runs", nargs="?", type=Path, metavar="RUNS", help=runs)
    command.add_argument("--sweeps", type=Path, metavar="DIR", help=sweeps)
    command.add_argument("--delete", action="store_true", help="delete what is shown")
    command.add_argument("--orphans", action="store_true", help="also whole records that are in no plan")
    days = "also W&B's offline folders of runs of which all was uploaded more than DAYS ago"
    command.add_argument("--uploaded", type=float, metavar="DAYS", help=days)


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """What may be deleted, and its deletion."""
    from gradflow.runs.garbage import delete, garbage
    from gradflow.runs.locate import runs_dir, sweeps_dir

    runs = options.runs or runs_dir()
    found = garbage(runs, options.sweeps or sweeps_dir(), options.uploaded, options.orphans)
    if not found:
        print(f"{runs}: nothing to delete")
        return OK
    for category, items in groupby(found, key=lambda item: item.category):
        _tell(category, list(items))
    if not options.delete:
        print(f"to delete all of it, {amount(sum(item.size for item in found))}: add --delete")
        return OK
    freed, failed = 0, False
    for item in found:
        try:
            freed += delete(item)
        except OSError as error:
            print(f"gradflow: {error.filename or item.path}: {error.strerror or error}", file=sys.stderr)
            failed = True
    print(f"freed {amount(freed)}")
    return FAILED if failed else OK


def _tell(category: str, items: list[Item]) -> None:
    print(f"{category}: {len(items)}, {amount(sum(item.size for item in items))}")
    for item in items[:MOST]:
        print(f"  {item.path}  {amount(item.size)}")
    if len(items) > MOST:
        print(f"  … and {len(items) - MOST} more")


def amount(size: float) -> str:
    """Bytes in words.

    >>> amount(17), amount(1_536_000)
    ('17 bytes', '1.5 MB')
    """
    if size < 1000:
        return f"{size:.0f} bytes"
    power = min(3, int(math.log10(size)) // 3)
    return f"{size / 1000**power:.1f} {('', 'kB', 'MB', 'GB')[power]}"
