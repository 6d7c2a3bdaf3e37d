"""`gradflow status`: how far a folder has got."""

from __future__ import annotations

import argparse

from gradflow import usage
from gradflow.usage import OK

SUMMARY = "how far a folder of runs has got"


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """How far a folder has got."""
    from rich.console import Console

    from gradflow.results.status import to_rich
    from gradflow.runs.planfile import collect

    console = Console(highlight=False)
    for shown in to_rich(collect(options.folder)):
        console.print(shown, soft_wrap=True)
    return OK
