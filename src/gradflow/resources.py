"""Where gradflow's own files are."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """The folder of config files: inside an installed package, or at the top of a clone."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "conf"
