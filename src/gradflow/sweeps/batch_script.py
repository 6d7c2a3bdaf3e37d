"""The file that `sbatch` is given: made from `slurm/sweep.sbatch`, kept beside the plan, and a person's to edit."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gradflow.resources import slurm_dir
from gradflow.runs.jobs import FOLDER
from gradflow.runs.record import write_bytes
from gradflow.sweeps.launcher import Slurm

NAME = "sweep.sbatch"
SEAL = "# As gradflow made it: "


def write_script(folder: Path, name: str, launcher: Slurm) -> tuple[Path, str | None]:
    """Write a sweep's batch script, unless a person has edited the one that is there.

    Args:
        folder: the sweep's.
        name: of the jobs in Slurm's queue.

    Returns:
        The file, and what to say of it where it was edited.
    """
    file = folder / FOLDER / NAME
    (file.parent / "logs").mkdir(parents=True, exist_ok=True)
    made = sealed(render(folder, name, launcher))
    try:
        before = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        before = None
    if before is None or sealed(_without_seal(before)) == before:
        write_bytes(file, made.encode())
        os.chmod(file, os.stat(file).st_mode | 0o111)
        return file, None
    note = f"{file} was edited and is used as it stands; delete it to have it made anew"
    if _seal(before) != _seal(made):
        note += ". The launcher's options have changed since it was made, and do not reach it"
    return file, note


def render(folder: Path, name: str, launcher: Slurm) -> str:
    """The script's text. Whatever comes from a config stands in quotes, but for lines of `setup`, which are shell."""
    environment = Environment(
        loader=FileSystemLoader(slurm_dir()),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["quote"] = shlex.quote
    environment.filters["pattern"] = lambda path: str(path).replace("%", "%%")  # % begins what Slurm fills in
    return environment.get_template(NAME).render(
        name=name,
        launcher=launcher.model_dump(),
        logs=(folder / FOLDER / "logs").resolve(),
        command=command(launcher),
    )


def command(launcher: Slurm) -> str:
    """How a task calls gradflow: by the Python that runs now, or by what the container has."""
    words = [*shlex.split(launcher.container), "gradflow"] if launcher.container else [sys.executable, "-m", "gradflow"]
    return shlex.join(words)


def sealed(text: str) -> str:
    """A script with its checksum as last line, by which an edited one is known."""
    return f"{text}{SEAL}{hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def _without_seal(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(SEAL))


def _seal(text: str) -> str | None:
    return next((line for line in text.splitlines() if line.startswith(SEAL)), None)
