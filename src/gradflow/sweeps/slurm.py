"""A sweep on a Slurm cluster: arrays of tasks, submitted at once and left to themselves.

What each task is to do is written down before `sbatch` is called, so that one that starts at once finds it.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow.errors import ConfigError
from gradflow.runs.jobs import FOLDER, Submission, file_of, held, live, read_submissions
from gradflow.runs.record import Unreadable, load_json, write_json
from gradflow.sweeps.batch_script import write_script
from gradflow.sweeps.launcher import Slurm

if TYPE_CHECKING:
    from gradflow.sweeps.launch import Prepared

SETTLING = 10  # seconds for tasks that are being taken down to be gone, or to be back in the queue
PATIENCE = 120.0  # seconds for Slurm to answer: its commands ask again by themselves while the controller is restarting


@dataclass(frozen=True)
class Submitted:
    """What came of a submission.

    Attributes:
        submission: None where nothing was left to submit.
        under_way: how many missing runs were left out, because a task that waits or runs has them already.
        script: the file that sbatch was given.
        note: what to say of the script where a person has edited it.
    """

    submission: Submission | None
    under_way: int = 0
    script: Path | None = None
    note: str | None = None


@dataclass(frozen=True)
class Share:
    """What one task is to do: the ids of its runs, with what, and how many threads and GPUs each has."""

    run_ids: list[str]
    launcher: Slurm
    threads: int
    devices: int


def submit(prepared: Prepared, launcher: Slurm) -> Submitted:
    """Submit the missing runs of a sweep that no task has already.

    Raises:
        ConfigError: if there is no Slurm, it does not answer, or it refuses; nothing of this call is in its queue then.
        OSError: if the sweep's folder cannot be written.
    """
    _slurm_here()
    with _alone(prepared.folder):
        earlier = read_submissions(prepared.folder)
        states = _settled([job for each in earlier for job in each.job_ids])
        if states is None:
            raise ConfigError("launcher=slurm: squeue does not answer, so that nothing was submitted; try again later")
        taken = held(earlier, states)
        runs = [run.run_id for run in prepared.missing if run.run_id not in taken]
        under_way = len(prepared.missing) - len(runs)
        if not runs:
            return Submitted(None, under_way)
        size = launcher.runs_per_task
        shares = [runs[i : i + size] for i in range(0, len(runs), size)]
        words = ["work", str(prepared.folder.resolve())]
        name, needs = prepared.plan.name, {"threads": prepared.threads, "devices": prepared.devices}
        submission, script, note = _submit(prepared.folder, name, launcher, shares, words, needs)
    return Submitted(submission, under_way, script, note)


def submit_array(folder: Path, words: list[str], tasks: int, launcher: Slurm, name: str) -> list[str]:
    """Submit tasks that share their work out among themselves: each runs `gradflow WORDS --task K`, K = 0, 1, …

    Args:
        folder: a sweep's, whose submission it will be.
        name: of the jobs in Slurm's queue.

    Returns:
        The ids of the jobs.

    Raises:
        ConfigError, OSError: as `submit`.
    """
    _slurm_here()
    with _alone(folder):
        return _submit(folder, name, launcher, [[] for _ in range(tasks)], words, {})[0].job_ids


def share_of(folder: Path, number: int, task: int) -> Share:
    """What a task was given.

    Raises:
        ConfigError: if there is no such submission or task.
    """
    file = file_of(folder, number)
    try:
        values = load_json(file)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    if values is None:
        raise ConfigError(f"{file}: no such submission")
    if not 0 <= task < len(values["tasks"]):
        raise ConfigError(f"--task {task}: {file} has {len(values['tasks'])} tasks")
    needs = values["needs"]
    launcher = Slurm.model_validate(values["launcher"])
    return Share(values["tasks"][task], launcher, needs["threads"], needs["devices"])


def _submit(
    folder: Path, name: str, launcher: Slurm, shares: list[list[str]], words: list[str], needs: dict[str, int]
) -> tuple[Submission, Path, str | None]:
    longest = _longest_array()
    script, note = write_script(folder, name, launcher)
    number = 1 + max((int(file.stem.rpartition("-")[2]) for file in script.parent.glob("submission-*.json")), default=0)
    file = file_of(folder, number)
    values: dict[str, Any] = {"number": number, "submitted": time.time(), "needs": needs, "arrays": []}
    values |= {"launcher": launcher.model_dump(), "tasks": shares}
    write_json(file, values)
    if words[0] == "work":
        words = [*words, "--submission", str(number)]
    try:
        for first in range(0, len(shares), longest):
            count = min(longest, len(shares) - first)
            options = ["--parsable", f"--array=0-{count - 1}"]
            if launcher.concurrent_tasks is not None:
                options[-1] += f"%{launcher.concurrent_tasks}"
                if values["arrays"]:  # the limit is one array's: the next array waits for this one
                    options.append(f"--dependency=afterany:{values['arrays'][-1]['job_id']}")
            job_id = _sbatch([*options, str(script), str(first), *words])
            values["arrays"].append({"job_id": job_id, "first": first, "count": count})
            write_json(file, values)
    except BaseException:
        _take_back([array["job_id"] for array in values["arrays"]])
        file.unlink()
        raise
    return next(each for each in read_submissions(folder) if each.number == number), script, note


def _settled(job_ids: list[str]) -> dict[str, str] | None:
    """What the queue says, once no task is half gone: one that requeues itself still has its runs."""
    states = live(job_ids)
    for _ in range(SETTLING):
        if states is None or "COMPLETING" not in states.values():
            break
        time.sleep(1)
        states = live(job_ids)
    return states


def _sbatch(words: list[str]) -> str:
    """Call sbatch; the job's id."""
    said = _ask("sbatch", *words).strip()
    job_id = said.split(";")[0]  # a cluster's name may follow
    if not job_id.isdigit():
        raise ConfigError(f"launcher=slurm: sbatch gave no job id, but: {said or 'nothing'}")
    return job_id


def _take_back(job_ids: list[str]) -> None:
    if job_ids:
        with suppress(ConfigError):
            _ask("scancel", *job_ids)


def _longest_array() -> int:
    """The most tasks that one array may have: an index must be below MaxArraySize."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"), re.MULTILINE)
    longest = int(found[1]) if found else 0
    if longest < 1:
        raise ConfigError("launcher=slurm: this cluster has MaxArraySize=0 and takes no arrays, which gradflow submits")
    return longest


def _slurm_here() -> None:
    _ask("sbatch", "--version")


def _ask(*words: str) -> str:
    """What one of Slurm's commands says.

    Raises:
        ConfigError: if it is missing, refuses or does not answer.
    """
    # inside an allocation, its memory and CPUs must not become those of the new job
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        where = "log in where Slurm's commands are, or use launcher=local"
        raise ConfigError(f"launcher=slurm: no '{words[0]}' on the PATH; {where}") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"launcher=slurm: {words[0]} did not answer within {PATIENCE:.0f} s; before trying again, look at the queue"
        ) from None
    if done.returncode != 0:
        lines = [re.sub(rf"^{words[0]}: (error: )?", "", line) for line in done.stderr.splitlines() if line.strip()]
        raise ConfigError(f"launcher=slurm: {words[0]} refuses: {'; '.join(lines) or f'exit code {done.returncode}'}")
    return done.stdout


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep two `gradflow sweep` at the same moment from submitting the same runs."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with open(folder / FOLDER / ".lock", "a") as file:
        with suppress(OSError):  # a file system without locks: each run still has one writer at a time
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
