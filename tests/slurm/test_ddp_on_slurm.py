"""One run on two nodes through `slurm/train_ddp.sbatch`: preempted once, it ends with the numbers of one process."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gradflow.runs.compose import composer
from gradflow.runs.execute import execute
from gradflow.runs.identity import run_id
from gradflow.runs.stop import Stop

SCRIPT = Path(__file__).parents[2] / "slurm" / "train_ddp.sbatch"
RUN = (
    *("activation=gated", "depth=2", "width=8", "hardware.device=cpu", "hardware.precision=64", "logger.mode=disabled"),
    *("trainer.max_steps=60", "trainer.log_every_n_steps=5", "trainer.val_every_n_steps=20"),
    *("trainer.checkpoint_every_n_steps=10", "instruments.every_n_steps=5"),
)
SIZE = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gres=none")


def status(path: Path) -> dict[str, Any]:
    with suppress(OSError):
        return json.loads((path / "status.json").read_text())
    return {}


@pytest.fixture
def run_of_one(own: Path, importable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of the run that one process trains, outside of any job."""
    with composer(str(own / "conf")) as compose:
        config = compose.config([*RUN, f"paths.runs={tmp_path}/alone"])
    with monkeypatch.context() as patch:
        patch.delenv("GATE", raising=False)
        assert execute(config, [], Stop()).state == "completed"
    return Path(config.paths.runs) / run_id(config)


def test_two_nodes_train_what_one_process_trains(cluster, own, run_of_one, evidence, wait_until, tmp_path, monkeypatch):
    gate, runs, log = tmp_path / "gate", tmp_path / "runs", tmp_path / "job.log"
    monkeypatch.setenv("GATE", str(gate))
    monkeypatch.setenv("PYTHONPATH", str(own))
    monkeypatch.setenv("GRADFLOW", f"{sys.executable} -m gradflow")
    monkeypatch.setenv("GRADFLOW_RUNS_DIR", str(runs))
    job = cluster.submit(*SIZE, f"--output={log}", SCRIPT, *RUN, "--config-dir", own / "conf")

    wait_until(lambda: [path for path in runs.glob("*") if status(path).get("step", 0) > 0])
    (path,) = runs.iterdir()
    assert (status(path)["state"], status(path)["job_id"]) == ("running", job)
    cluster.ask("scancel", "--batch", "--signal=USR1", job)  # as Slurm announces a preemption
    wait_until(lambda: status(path)["state"] == "preempted")
    gate.touch()
    cluster.wait(job)  # it puts itself back into the queue

    said = log.read_text()
    assert "goes back into the queue" in said
    result = json.loads((path / "result.json").read_text())
    assert (result["state"], result["cost"]["attempts"], result["labels"]["hardware.devices"]) == ("completed", 2, 2)
    assert said.count("completed: ") == 1  # rank 0 alone tells of it
    evidence(path).shows(evidence(run_of_one), rel=1e-10)
