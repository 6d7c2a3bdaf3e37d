"""What is known of a sweep's jobs on a Slurm cluster: what was submitted, what is in the queue, where the logs are.

Everything is asked of `squeue` and of the sweep's own folder. `sacct`, which a cluster may not have, is not needed: how
a run ended is in its record.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradflow.runs.record import Unreadable, load_json

FOLDER = "slurm"  # in a sweep's folder
PATIENCE = 30.0  # seconds for squeue to answer: it asks again by itself while the controller is restarting
LEAVING = ("COMPLETING", "STOPPED")  # of a task that will start no further run


@dataclass(frozen=True)
class Submission:
    """One `gradflow sweep launcher=slurm`: an array of tasks, or several where the cluster allows no longer one.

    Attributes:
        number: from 1.
        job_ids: of its arrays.
        tasks: "JOBID_INDEX", as Slurm calls a task → the ids of the runs it was given.
        submitted: when, in seconds since 1970.
    """

    number: int
    job_ids: list[str]
    tasks: dict[str, list[str]]
    submitted: float


def read_submissions(folder: Path) -> list[Submission]:
    """All submissions of a sweep, the oldest first; one that cannot be read, or was never accepted, is left out."""
    found = []
    for file in (folder / FOLDER).glob("submission-*.json"):
        try:
            values = load_json(file)
            if values is not None:
                found.append(_submission(values))
        except (Unreadable, KeyError, TypeError, IndexError):
            continue
    return sorted((each for each in found if each.job_ids), key=lambda each: each.number)


def file_of(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"submission-{number}.json"


def live(job_ids: Iterable[str]) -> dict[str, str] | None:
    """What the queue says of these jobs: "JOBID_INDEX" → PENDING, RUNNING, COMPLETING, …; what has ended is not in it.

    None where there is no squeue, or it does not answer.
    """
    wanted = set(job_ids)
    if not wanted:
        return {}
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")
    }  # a person's filters
    words = ["squeue", "--noheader", "--all", "--array", "--format=%i %T", f"--jobs={','.join(sorted(wanted))}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:  # an id that Slurm has forgotten is an error when all are
        return {} if "Invalid job id" in done.stderr else None
    lines = (line.split() for line in done.stdout.splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2 and line[0].split("_")[0] in wanted}


def held(submissions: Iterable[Submission], states: dict[str, str]) -> dict[str, str]:
    """The runs that a task has which waits or runs: run id → "JOBID_INDEX"."""
    return {
        run_id: task
        for submission in submissions
        for task, runs in submission.tasks.items()
        if states.get(task, LEAVING[0]) not in LEAVING
        for run_id in runs
    }


def log_of(folder: Path, run_id: str) -> Path | None:
    """The newest log of a task that had the run."""
    for submission in reversed(read_submissions(folder)):
        for task, runs in submission.tasks.items():
            log = folder / FOLDER / "logs" / f"{task}.log"
            if run_id in runs and log.exists():
                return log
    return None


def _submission(values: dict[str, Any]) -> Submission:
    shares, tasks = values["tasks"], {}
    for array in values["arrays"]:
        for i in range(array["count"]):
            tasks[f"{array['job_id']}_{i}"] = shares[array["first"] + i]
    return Submission(values["number"], [each["job_id"] for each in values["arrays"]], tasks, values["submitted"])
