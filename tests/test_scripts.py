"""The scripts, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LETTERS = {"healthy": "", "stagnant": "s", "vanishing": "v", "exploding": "x", "dead": "d", "diverged": "!"}
LETTERS |= {"saturated": "b", "rank_collapse": "r"}
QUICK = ("task=digits", "depth=2", "width=8", "init=he_normal", "trainer.max_steps=5", "hardware=cpu", "-j", "1")


def test_the_study_prints_one_line_per_activation_and_one_column_per_cell(tmp_path):
    """21 activations; with norm none and batch, and skip none and residual where the activation can follow a sum."""
    env = {**os.environ, "GRADFLOW_RUNS_DIR": str(tmp_path / "runs"), "GRADFLOW_SWEEPS_DIR": str(tmp_path / "sweeps")}
    words = [*QUICK, "norm=none,batch", "logger.mode=disabled", "instruments.every_n_steps=1"]
    done = subprocess.run(
        [sys.executable, "scripts/study.py", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*/result.json")]
    shown = {}
    for result in results:
        labels, accuracy = result["labels"], result["metrics"].get("test/accuracy")
        figure = "" if accuracy is None else f"{100 * accuracy:.0f}"
        shown[labels["activation"], labels["norm"], labels["skip"]] = figure + LETTERS[result["verdict"]]
    activations = {activation for activation, *_ in shown}
    assert (len(shown), len(activations)) == (78, 21)
    columns = [(norm, skip) for norm in ("batch", "none") for skip in ("none", "residual")]
    table = done.stdout.rpartition("depth 2")[2]
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}
    for activation in activations:
        assert lines[activation] == [shown.get((activation, *column), "·") for column in columns]
    assert lines["maxout"].count("·") == 2, "maxout cannot follow a sum"
    assert "v vanishing" in table
