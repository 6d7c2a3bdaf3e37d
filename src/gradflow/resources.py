"""Where gradflow's own files are."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """The folder of config files: inside an installed package, or at the top of a clone."""
    return _folder("conf")


def slurm_dir() -> Path:
    """The folder of batch scripts and templates of such, likewise."""
    return _folder("slurm")


def _folder(name: str) -> Path:
    installed = Path(__file__).parent / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / name
