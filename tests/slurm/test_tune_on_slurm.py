"""Three tasks of a real cluster on one search, one of them killed in the middle of a trial."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter

from gradflow.sweeps.tuning.desk import trials_of
from gradflow.sweeps.tuning.journal import open_studies
from gradflow.sweeps.tuning.search import read_search

WORDS = (
    *("tune", "tune.name=shared", "tune.trials=6", "tune.sampler=random", "tune.final_seeds=1", "depth=1", "width=4"),
    *("activation=gated", "norm=none,layer", "tune.per=norm", "optimizer.lr=tag(log,interval(1e-3,1))"),
    *("task=gaussian_teacher", "task.inputs=4", "task.outputs=2", "task.train_size=128", "task.batch_size=32"),
    *("hardware=cpu", "instruments=none", "logger.mode=disabled", "trainer.max_steps=200"),
    *("trainer.val_every_n_steps=100", "trainer.checkpoint_every_n_steps=10"),
)
ON_SLURM = (
    *("launcher=slurm", "launcher.runs_per_task=4", "launcher.jobs=1", "launcher.cpus_per_task=2"),
    "launcher.time=01:00:00",
)


def test_three_tasks_share_a_search_and_one_that_is_killed_loses_no_trial(
    cluster, new_shell, own, typed_here, wait_until
):
    shell = new_shell()
    words = *WORDS, "--config-dir", own / "conf"
    submitted = typed_here(shell, *words, *ON_SLURM, PYTHONPATH=str(own), DAWDLE="0.5")  # until the gate is opened
    assert submitted.returncode == 0, submitted.stderr
    assert "shared: 2 techniques × 6 trials, 0 done before, 12 to make" in submitted.stdout
    job = re.search(r"submitted 3 tasks: job (\d+)", submitted.stdout)[1]

    def under_way() -> dict[str, dict]:
        found = [json.loads(file.read_text()) for file in shell.runs.glob("*/status.json")]
        return {s["job_id"]: s for s in found if s["state"] == "running" and s["step"] > 0}

    wait_until(lambda: len(under_way()) == 3)
    again = typed_here(shell, *words, *ON_SLURM, PYTHONPATH=str(own))
    assert again.returncode == 0
    assert f"3 tasks are at it: {job}_0, {job}_1, {job}_2" in again.stdout
    killed = under_way()[f"{job}_2"]
    os.kill(killed["pid"], signal.SIGKILL)  # or it would see that its task is gone, and leave its trial in good order
    cluster.ask("scancel", "--signal=KILL", "--full", f"{job}_2")
    wait_until(lambda: f"{job}_2" not in cluster.queue())
    shell.gate.touch()
    cluster.wait(job)

    folder = shell.sweeps / "shared"
    search = read_search(folder)
    trials = [trial for study in open_studies(folder, search).values() for trial in trials_of(study)]
    assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 12}
    assert {name: len(trials_of(study)) for name, study in open_studies(folder, search).items()} == {
        "norm=none": 6,
        "norm=layer": 6,
    }
    runs = [trial.user_attrs["run_ids"][0] for trial in trials]
    assert len(set(runs)) == 12
    (died,) = (trial for trial in trials if trial.user_attrs.get("attempts", 1) > 1)
    assert died.user_attrs["run_ids"] == [killed["run_id"]]
    after = {run: json.loads((shell.runs / run / "status.json").read_text()) for run in runs}
    assert {run for run, status in after.items() if status["attempt"] > 1} == {killed["run_id"]}
    assert after[killed["run_id"]]["job_id"] != f"{job}_2"
    makers = Counter(status["job_id"] for status in after.values())
    assert set(makers) == {f"{job}_{task}" for task in (0, 1)}  # each had a part

    table = typed_here(shell, *words, "-j", "1")
    assert table.returncode == 0, table.stderr
    assert "12 done before, 0 to make" in table.stdout
    assert "best settings on seed 1000: 2 runs, 2 to train" in table.stdout
    assert [line.split(",")[0] for line in (folder / "tune" / "table.csv").read_text().splitlines()] == [
        "norm",
        "none",
        "layer",
    ]
