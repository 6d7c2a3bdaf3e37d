"""`launcher=slurm launcher.pack=N` on a real cluster: the runs of a task are trained as one network."""

from __future__ import annotations

import json

import pytest

from gradflow.runs.jobs import read_submissions

WORDS = (
    *("sweep", "sweep.name=eight", "depth=2", "width=8", "seed=range(8)", "hardware.device=cpu"),
    *("trainer.max_steps=20", "trainer.val_every_n_steps=10", "logger.mode=disabled", "instruments.every_n_steps=5"),
)
ON_SLURM = (
    *("launcher=slurm", "launcher.pack=8", "launcher.runs_per_task=4", "launcher.cpus_per_task=1", "launcher.jobs=1"),
    "launcher.time=01:00:00",
)


def results(shell):
    return {file.parent.name: json.loads(file.read_text()) for file in shell.runs.glob("*/result.json")}


def test_the_runs_of_a_task_are_trained_at_once(cluster, new_shell, typed_here):
    shell = new_shell()
    submitted = typed_here(shell, *WORDS, *ON_SLURM)
    assert "submitted 8 runs in 2 tasks" in submitted.stdout, submitted.stderr
    (submission,) = read_submissions(shell.sweeps / "eight")
    cluster.wait(*submission.job_ids)
    ours = results(shell)
    assert {run_id: result["state"] for run_id, result in ours.items()} == dict.fromkeys(ours, "completed")
    assert len(ours) == 8
    for runs in submission.tasks.values():
        statuses = [json.loads((shell.runs / run / "status.json").read_text()) for run in runs]
        ended = [(shell.runs / run / "result.json").stat().st_mtime for run in runs]
        assert len({status["pid"] for status in statuses}) == 1
        assert max(status["started"] for status in statuses) < min(ended)  # all had begun before one had ended

    plain = new_shell()
    assert plain.run(*WORDS).returncode == 0
    alone = results(plain)
    assert sorted(alone) == sorted(ours)
    for run_id, result in alone.items():
        assert ours[run_id]["metrics"] == pytest.approx(result["metrics"], rel=1e-3)
        assert ours[run_id]["gradient"]["ratio"] == pytest.approx(result["gradient"]["ratio"], rel=1e-3)
