"""Hydra's own launchers, for those who use them: `scripts/train.py --multirun`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradflow.runs.identity import run_id
from gradflow.runs.record import read

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
WORDS = ("depth=2", "width=8", "trainer.max_steps=20", "hardware.device=cpu", "logger.mode=disabled")


def multirun(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "GRADFLOW_RUNS_DIR": str(folder / "runs"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, SCRIPT, "--multirun", *words], cwd=folder, env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize("launcher", [["basic"], ["joblib", "hydra.launcher.n_jobs=2"]], ids=lambda words: words[0])
def test_a_multirun_leaves_the_records_that_gradflow_itself_would(tmp_path, launcher, configure, own):
    """And a run that fails takes no other down."""
    (tmp_path / "own_activations.py").write_bytes((own / "own_activations.py").read_bytes())
    conf = f"hydra.searchpath=[file://{own / 'conf'}]"
    words = ("activation=tanh,broken", "remedy=[clip_norm]", f"hydra/launcher={launcher[0]}", *launcher[1:])
    done = multirun(tmp_path, *WORDS, *words, conf)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    config = configure("activation=tanh", "remedy=[clip_norm]")
    assert f"run {run_id(config)}: completed" in said
    records = {path.name: read(path) for path in (tmp_path / "runs").iterdir()}
    assert sorted(record.state for record in records.values()) == ["completed", "failed"]
    assert records[run_id(config)].state == "completed"
    (failed,) = [run_id for run_id, record in records.items() if record.state == "failed"]
    assert f"run {failed} failed: RuntimeError: no such neuron" in said


def test_what_cannot_run_is_refused_by_its_own_words(tmp_path):
    done = multirun(tmp_path, *WORDS, "activation=maxout", "skip=residual")
    assert done.returncode == 1
    assert "ConfigError" in done.stderr
    assert not (tmp_path / "runs").exists()
