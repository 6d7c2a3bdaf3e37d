"""`gradflow report`: the page and the files beside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradflow import usage
from gradflow.usage import OK

SUMMARY = "write report.html and the files beside it"


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: DIR itself)")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """The page and the files beside it."""
    from gradflow.results.publish import publish
    from gradflow.runs.planfile import collect

    collection = collect(options.folder)
    published = publish(collection, options.out or options.folder)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    print(published.page)
    return OK
