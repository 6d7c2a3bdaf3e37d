"""`gradflow doctor`: is this machine ready?"""

from __future__ import annotations

import argparse

from gradflow import usage
from gradflow.usage import FAILED, OK

SUMMARY = "is this machine ready? versions, devices, data, W&B, Slurm"


def arguments(command: argparse.ArgumentParser) -> None:
    usage.overrides(command)


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Is this machine ready?"""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gradflow.doctor import examine
    from gradflow.runs.compose import composer

    with composer(options.config_dir) as compose:
        checks = examine(compose.config(options.overrides))
    grid = Table.grid(padding=(0, 2))
    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    for check in checks:
        grid.add_row(Text(check.grade, style=colours[check.grade]), Text(check.what), Text(check.found))
    Console(highlight=False).print(grid)
    return FAILED if any(check.grade == "problem" for check in checks) else OK
