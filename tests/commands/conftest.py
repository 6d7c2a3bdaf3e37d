"""What tests of single commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradflow.cli import main


@dataclass
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def typed(capsys, monkeypatch, tmp_path) -> Callable[..., Said]:
    """Types one command in this process; the default folders are below `tmp_path`, and there is no key of W&B."""
    monkeypatch.setenv("GRADFLOW_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("GRADFLOW_SWEEPS_DIR", str(tmp_path / "sweeps"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def type_(*words: object) -> Said:
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, words)))
        said = capsys.readouterr()
        return Said(int(caught.value.code or 0), said.out, said.err)

    return type_


@pytest.fixture
def slurm(monkeypatch, tmp_path) -> Callable[[str], Path]:
    """Puts a squeue that says the lines given, and a scancel that notes its words, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def say(lines: str) -> Path:
        for name, script in (("squeue", f"printf '{lines}'"), ("scancel", f'echo "$@" >> {folder}/cancelled')):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return folder / "cancelled"

    return say
