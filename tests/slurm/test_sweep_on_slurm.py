"""A sweep of sixteen runs as an array of four tasks on a real cluster, disturbed in every way that a cluster knows.

Nothing is lost, nothing is trained twice, and the table is that of a sweep that nobody disturbed, value for value.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gradflow.runs.config import validate
from gradflow.runs.execute import execute
from gradflow.runs.jobs import read_submissions
from gradflow.runs.planfile import read_plan, write_plan
from gradflow.runs.stop import Stop

WORDS = (
    *("sweep", "sweep.name=sixteen", "depth=2,3", "width=8", "task=digits", "seed=range(4)"),
    *("init=he_normal,glorot_normal", "hardware.device=cpu", "logger.mode=disabled", "trainer.max_steps=60"),
    *("trainer.log_every_n_steps=1", "trainer.val_every_n_steps=60", "trainer.checkpoint_every_n_steps=30"),
    "instruments.every_n_steps=20",
)
ON_SLURM = (
    *("launcher=slurm", "launcher.runs_per_task=4", "launcher.cpus_per_task=4", "launcher.gpus_per_task=2"),
    *("launcher.time=01:00:00", "launcher.signal_seconds=90"),
)
COLUMNS = ("--rows", "depth,init,seed", "--value", "metric,val/loss,gradient_ratio,verdict,runs", "--format", "csv")


@dataclass
class Sweep:
    """The sweep under way: its shell, its folder, and its first job."""

    shell: object
    folder: Path
    words: tuple[str, ...]
    job: str

    def status(self, run_id: str) -> dict:
        return json.loads((self.shell.runs / run_id / "status.json").read_text())

    def under_way(self, task: int, attempt: int = 1) -> list[dict]:
        """Runs of a task that train."""
        found = [json.loads(file.read_text()) for file in self.shell.runs.glob("*/status.json")]
        name = f"{self.job}_{task}"
        mine = [each for each in found if each["state"] == "running" and each["job_id"] == name and each["step"] > 0]
        return [status for status in mine if status["attempt"] >= attempt]

    def results(self) -> dict[str, tuple[int, int]]:
        """Every result's inode and time of writing."""
        found = {file.parent.name: file.stat() for file in self.shell.runs.glob("*/result.json")}
        return {run_id: (stat.st_ino, stat.st_mtime_ns) for run_id, stat in found.items()}

    def logs(self) -> str:
        return "".join(file.read_text() for file in sorted((self.folder / "slurm" / "logs").glob("*.log")))

    def said(self, task: int) -> str:
        return (self.folder / "slurm" / "logs" / f"{self.job}_{task}.log").read_text()


@pytest.mark.timeout(900)  # two minutes where there is nothing else to do
def test_a_disturbed_sweep_ends_with_the_table_of_an_undisturbed_one(
    cluster, new_shell, crawling, typed_here, evidence, wait_until, tmp_path, monkeypatch
):
    words, shell = (*WORDS, *crawling.words), new_shell()
    _refuse_sacct(tmp_path)
    python = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **crawling.environment}
    submitted = typed_here(shell, *words, *ON_SLURM, **python)
    assert submitted.returncode == 0, submitted.stderr
    folder = shell.sweeps / "sixteen"
    sweep = Sweep(shell, folder, words, _jobs(folder)[0])
    assert f"submitted 16 runs in 4 tasks: array {sweep.job}" in submitted.stdout
    assert len(cluster.states(sweep.job)) == 4
    undisturbed = replace(read_plan(folder), runs_dir=tmp_path / "runs")
    write_plan(tmp_path / "undisturbed", undisturbed)
    with monkeypatch.context() as patch:  # while the cluster makes us wait
        patch.setenv("GATE", str(tmp_path))
        for run in undisturbed.runs:
            paths = {**run.config["paths"], "runs": str(undisturbed.runs_dir)}
            assert execute(validate({**run.config, "paths": paths}), [], Stop()).state == "completed"

    wait_until(lambda: all(len(sweep.under_way(task)) == 2 for task in range(4)))  # a worker for each of two GPUs
    where = {task: cluster.show(f"{sweep.job}_{task}", "NodeList") for task in range(4)}
    assert Counter(where.values()) == {"n1": 2, "n2": 2}
    first, second = (task for task, node in where.items() if node == "n1")
    third, fourth = (task for task, node in where.items() if node == "n2")

    for task in range(4):
        gpus = [_gpus(shell.runs / status["run_id"]) for status in sweep.under_way(task)]
        assert sorted(gpus) in ([["0"], ["1"]], [["2"], ["3"]])

    # A worker is killed: its run alone is tried again.
    victim = sweep.under_way(third)[0]
    os.kill(victim["pid"], signal.SIGKILL)
    wait_until(lambda: sweep.status(victim["run_id"])["attempt"] == 2)
    assert f"trying again {victim['run_id']}" in sweep.said(third)

    # A job of a higher partition takes one node, the other node is set down, and the controller is restarted.
    urgent = cluster.submit("--partition=high", "--nodelist=n1", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    cluster.ask("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    cluster.wait(urgent)
    cluster.resume()
    cluster.restart_controller()
    for task in (first, second):
        assert re.search("goes back into the queue|DUE TO PREEMPTION", sweep.said(task))  # Slurm does where we are slow
    wait_until(lambda: all(len(sweep.under_way(task, attempt=2)) == 2 for task in range(4)))
    assert sweep.results() == {}

    # One task comes near its limit, one is requeued by its owner, one is cancelled, and one loses its process.
    hours, minutes, _ = map(int, cluster.show(f"{sweep.job}_{first}", "RunTime").split(":"))
    cluster.ask("scontrol", "update", f"jobid={sweep.job}_{first}", f"timelimit={hours * 60 + minutes + 2}")
    cluster.ask("scontrol", "requeue", f"{sweep.job}_{second}")
    cluster.ask("scancel", f"{sweep.job}_{third}")
    os.kill(_task_of(sweep.under_way(fourth)[0]["pid"]), signal.SIGKILL)
    wait_until(lambda: set(cluster.states(sweep.job)) == {f"{sweep.job}_{first}", f"{sweep.job}_{second}"})
    wait_until(lambda: "goes back into the queue" in sweep.said(first).rpartition("start 2")[2])
    cluster.ask("scontrol", "update", f"jobid={sweep.job}_{first}", "timelimit=60")
    assert "goes back into the queue" not in sweep.said(third).rpartition("start 2")[2]

    # No run of a dead task is shown as running; the same words submit what no task has.
    shown = shell.run("status", folder).stdout.splitlines()
    dead = [run for task in (third, fourth) for run in read_submissions(folder)[0].tasks[f"{sweep.job}_{task}"]]
    told = {run: line for line in shown for run in dead if run in line}
    assert len(told) >= 4  # two workers each
    assert all("stale" in line or "preempted" in line for line in told.values()), shown
    again = typed_here(shell, *words, *ON_SLURM, **python)
    assert again.returncode == 0, again.stderr
    other = _jobs(folder)[1]
    assert len(cluster.states(other)) == 2
    shell.gate.touch()
    cluster.wait(sweep.job, other)
    before = sweep.results()
    assert len(before) == 16, sweep.logs()

    finished = typed_here(shell, *words, *ON_SLURM, **python)
    assert finished.returncode == 0, finished.stderr
    assert len(_jobs(folder)) == 2
    assert sweep.results() == before
    tables = [typed_here(shell, "table", each, *COLUMNS).stdout for each in (folder, tmp_path / "undisturbed")]
    assert tables[0] == tables[1]
    assert tables[0].count("\n") == 17
    for run_id in before:
        assert evidence(shell.runs / run_id) == evidence(undisturbed.runs_dir / run_id)
        assert sweep.status(run_id)["state"] == "completed"
    ended = Counter(re.findall(r"\] completed (\w+)", sweep.logs()))
    assert set(ended.values()) == {1}, ended
    assert not (tmp_path / "asked").exists()


def _jobs(folder: Path) -> list[str]:
    return [job for each in read_submissions(folder) for job in each.job_ids]


def _gpus(path: Path) -> list[str]:
    """What a run said of the GPUs that it sees."""
    return sorted(set(re.findall(r"sees GPU (.*)", (path / "log.txt").read_text())))


def _task_of(worker: int) -> int:
    """The process of `gradflow work` that a worker belongs to: its server's parent."""
    for _ in range(2):
        worker = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"work" in Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
    return worker


def _refuse_sacct(folder: Path) -> None:
    """A `sacct` that leaves a mark where it is asked."""
    (folder / "sacct").write_text(f"#!/bin/sh\ntouch {folder}/asked\nexit 1\n")
    (folder / "sacct").chmod(0o755)
