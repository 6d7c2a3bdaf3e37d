"""`gradflow diagnose`: what is wrong, and what would help."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradflow import usage
from gradflow.usage import OK

SUMMARY = "what is wrong with a run, and what would help"
HELP = """Say what is wrong with a run: the verdict, every sign with its number and threshold, and what would help.

  gradflow diagnose runs/1f0c2a7b9e3d        one run, by its folder or its id
  gradflow diagnose sweeps/quickstart        a line per run
  gradflow diagnose 1f0c2a7b9e3d --thresholds mine.yaml

The verdict is made anew from the record; thresholds and their sources are in conf/diagnosis.yaml.
"""


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    command.add_argument("--thresholds", type=Path, metavar="FILE", help="instead of those in conf/diagnosis.yaml")
    command.add_argument("--format", choices=["json"], help="instead of a terminal's table")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """What is wrong, and what would help."""
    from rich.console import Console

    from gradflow.diagnosis.thresholds import overridden
    from gradflow.results import diagnoses
    from gradflow.runs.locate import folder_of

    limits = overridden(options.thresholds) if options.thresholds else None
    found = diagnoses.of(folder_of(options.folder), limits)
    for problem in found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if options.format == "json":
        print(diagnoses.to_json(found))
        return OK
    console = Console(highlight=False)
    for shown in diagnoses.to_rich(found):
        console.print(shown, soft_wrap=isinstance(shown, str), markup=False)
    return OK
