"""Hydra's own launcher for Slurm, for those who use it."""

import os
import subprocess
import sys
from pathlib import Path

from gradflow.runs.record import read

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


def test_a_multirun_by_submitit_leaves_ordinary_records(cluster, tmp_path):
    words = ("depth=2", "width=8", "trainer.max_steps=20", "hardware.device=cpu", "logger.mode=disabled", "seed=0,1")
    launcher = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=debug", "hydra.launcher.timeout_min=5")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--multirun", *words, *launcher, "hydra.launcher.cpus_per_task=1"],
        cwd=tmp_path,
        env={**os.environ, "GRADFLOW_RUNS_DIR": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = [read(path) for path in (tmp_path / "runs").iterdir()]
    assert [record.state for record in records] == ["completed"] * 2
    assert {record.labels["seed"] for record in records} == {0, 1}
    assert all(record.status["job_id"] for record in records)
