"""What is submitted to a real Slurm, and what it refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.compose import composer
from gradflow.runs.jobs import live, read_submissions
from gradflow.runs.planfile import PlannedRun
from gradflow.sweeps.launcher import read_launcher
from gradflow.sweeps.slurm import share_of, submit, submit_array

AWKWARD = 'it\'s 50% of $HOME; "x"'


def launcher(*words: str):
    with composer() as compose:
        return read_launcher(compose, ["launcher=slurm", *words])


def prepared(folder: Path, runs: int, name: str = "made"):
    """A sweep with so many runs to train, as far as a submission needs to know it."""
    missing = [PlannedRun(f"run{i}", [], {}, {}) for i in range(runs)]
    return SimpleNamespace(folder=folder / name, plan=SimpleNamespace(name=name), missing=missing, threads=1, devices=1)


def telling(script: Path, line: str = 'echo "told: $*"') -> None:
    """Edit a batch script so that its tasks say what they would run."""
    text = script.read_text()
    edited = re.sub(r'^command=\(.*(?= "\$@")', f"tell() {{ {line}; }}\ncommand=(tell", text, flags=re.MULTILINE)
    assert edited != text
    script.write_text(edited)


def told(folder: Path) -> dict[str, str]:
    """What each task has said, by its name."""
    logs = (folder / "slurm" / "logs").glob("*.log")
    return {log.stem: match[1] for log in logs if (match := re.search(r"^told: (.*)$", log.read_text(), re.MULTILINE))}


def test_what_slurm_refuses_is_said_in_its_words_and_nothing_is_submitted(cluster, tmp_path):
    before = cluster.queue()
    with pytest.raises(ConfigError, match=r"launcher=slurm: sbatch refuses: .*invalid partition specified: nowhere"):
        submit(prepared(tmp_path, 3), launcher("launcher.partition=nowhere"))
    assert cluster.queue() == before
    assert read_submissions(tmp_path / "made") == []
    assert list((tmp_path / "made" / "slurm").glob("submission-*")) == []


def test_where_the_second_array_is_refused_the_first_is_taken_back(cluster, tmp_path, monkeypatch):
    """By a `sbatch` that refuses from its second call on."""
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin" / "sbatch"
    refuse = 'case "$*" in *array=0-2*) echo "sbatch: error: too many jobs" >&2; exit 1;; esac'
    sbatch.write_text(f'#!/bin/sh\n{refuse}\nexec {shutil.which("sbatch")} "$@"\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    before = set(cluster.queue())
    with pytest.raises(ConfigError, match="sbatch refuses: too many jobs"):
        submit(prepared(tmp_path, 23), launcher("launcher.runs_per_task=1", "launcher.options=['--hold']"))
    cluster.wait_until(lambda: set(cluster.queue()) <= before)
    assert read_submissions(tmp_path / "made") == []


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"launcher=slurm: no 'sbatch' on the PATH; .*launcher=local"):
        submit(prepared(tmp_path, 3), launcher())
    assert not (tmp_path / "made").exists()


def test_a_long_array_is_split_and_an_edited_script_is_respected(cluster, tmp_path):
    """23 tasks where an array may have 20, of a sweep with a name that a shell would read otherwise."""
    sweep = prepared(tmp_path, 46, AWKWARD)
    options = "launcher.runs_per_task=2", "launcher.concurrent_tasks=8", "launcher.options=['--comment=a b;c']"
    with pytest.raises(ConfigError):
        submit(sweep, launcher(*options, "launcher.partition=nowhere"))  # it leaves its script behind
    script = sweep.folder / "slurm" / "sweep.sbatch"
    telling(script)
    script.write_text(script.read_text().replace("#SBATCH --partition=nowhere\n", ""))
    submitted = submit(sweep, launcher(*options))
    assert "was edited and is used as it stands" in submitted.note
    assert "have changed since it was made" in submitted.note  # the partition
    first, second = submitted.submission.job_ids
    assert cluster.show(f"{first}_0", "JobName").startswith("it's")
    assert cluster.show(f"{first}_0", "ArrayTaskThrottle") == "8"
    cluster.wait(first, second)

    tasks = submitted.submission.tasks
    assert list(tasks) == [f"{first}_{i}" for i in range(20)] + [f"{second}_{i}" for i in range(3)]
    assert [run for runs in tasks.values() for run in runs] == [f"run{i}" for i in range(46)]
    said = told(sweep.folder)
    assert set(said) == set(tasks)
    for number, task in enumerate(tasks):
        assert said[task] == f"work {sweep.folder} --submission 1 --task {number}"
        assert share_of(sweep.folder, 1, number).run_ids == tasks[task]
    with pytest.raises(ConfigError, match=r"--task 23: .* has 23 tasks"):
        share_of(sweep.folder, 1, 23)

    script.unlink()
    again = submit(sweep, launcher(*options, "launcher.options=['--hold']"))  # nothing was trained
    assert again.note is None
    assert (again.submission.number, again.under_way) == (2, 0)
    assert live(again.submission.job_ids) == cluster.states(again.submission.job_ids[0]) | cluster.states(
        again.submission.job_ids[1]
    )
    third = submit(sweep, launcher(*options))  # which these tasks have
    assert (third.submission, third.under_way) == (None, 46)
    cluster.ask("scancel", *again.submission.job_ids)
    cluster.wait(*again.submission.job_ids)


def test_tasks_that_share_their_work_out_are_numbered_through(cluster, tmp_path):
    folder = tmp_path / "search"
    jobs = submit_array(folder, ["tune-work", str(folder)], 3, launcher("launcher.options=['--hold']"), "search")
    telling(folder / "slurm" / "sweep.sbatch", 'echo "told: $*"; exit 3')
    (job,) = jobs
    assert [each.job_ids for each in read_submissions(folder)] == [jobs]
    cluster.ask("scancel", job)
    cluster.wait(job)
    (job,) = submit_array(folder, ["tune-work", str(folder)], 3, launcher(), "search")
    cluster.wait_for(job, "PENDING", "RUNNING")
    cluster.ask("scontrol", "release", job)
    cluster.wait(job)
    assert told(folder) == {f"{job}_{i}": f"tune-work {folder} --task {i}" for i in range(3)}
    assert cluster.show(f"{job}_0", "ExitCode") == "3:0"


def test_a_cancelled_task_knows_that_it_does_not_come_back(cluster, tmp_path):
    """One that leaves at once, as gradflow does where steps are short. Slurm kills what is left after KillWait."""
    folder = tmp_path / "search"
    (held,) = submit_array(folder, ["tune-work", str(folder)], 1, launcher("launcher.options=['--hold']"), "search")
    line = "trap 'exit 138' USR1 TERM; echo \"told: $*\"; while :; do sleep 0.1; done"
    telling(folder / "slurm" / "sweep.sbatch", line)
    cluster.ask("scancel", held)
    cluster.wait(held)
    (job,) = submit_array(folder, ["tune-work", str(folder)], 1, launcher(), "search")
    cluster.ask("scontrol", "release", job)
    cluster.wait_until(lambda: told(folder), "the task")
    cluster.ask("scancel", job)
    cluster.wait(job)
    said = (folder / "slurm" / "logs" / f"{job}_0.log").read_text()
    assert "--- does not requeue itself: to Slurm it is" in said
    assert "goes back into the queue" not in said
