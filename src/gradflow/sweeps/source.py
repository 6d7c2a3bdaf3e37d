"""What a plan was made from: whether config files have changed since is told by a hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gradflow
from gradflow.resources import conf_dir


def source(config_dir: str | None = None) -> str:
    """A hash of all config files and of gradflow's version, in twelve hexadecimal digits.

    Args:
        config_dir: a person's own folder, beside gradflow's.
    """
    found = hashlib.sha256(gradflow.__version__.encode())
    for folder in (conf_dir(), *([Path(config_dir)] if config_dir is not None else [])):
        for file in sorted(folder.rglob("*.yaml")):
            if file.parent == folder / "paper":
                continue  # a paper's grid is among its plan's words, and its figures change no run
            found.update(str(file.relative_to(folder)).encode() + b"\0")
            found.update(file.read_bytes() + b"\0")
    return found.hexdigest()[:12]
