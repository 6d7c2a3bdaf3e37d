"""What is going on in a folder of runs: its records at a glance, Slurm's queue, and who works on it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradflow.errors import ConfigError
from gradflow.results.pace import Pace, Stint, pace
from gradflow.runs import jobs
from gradflow.runs.launches import Launch, launches
from gradflow.runs.planfile import PLAN, Plan, read_plan
from gradflow.runs.record import DONE, Unreadable, load_json
from gradflow.runs.states import Glance, Seen, look_again

SEARCH = "tune/tune.json"  # in the folder of a search; see `gradflow.sweeps.tuning.search`
UNDER_WAY = ("running", "missing", "preempted", "stale")  # with work still to be done; a failed run waits for a person


@dataclass
class Survey:
    """Of a sweep's folder, a folder of runs, or one run. Made by `survey`; `look` brings it up to date.

    Attributes:
        folder: what was asked for.
        runs_dir: where the records are.
        only: the ids of a plan or of the one run, with their labels as far as they are known; None for all of a folder.
        command: how to go on, if it was planned.
        group: the name of a search, which does not know beforehand what it will train: its runs are of this group.
        estimates: what the plan says that its runs cost.
        seen: the runs.
        launches: processes that are announced in the sweep's folder, on whatever machine.
        submissions: of the sweep to Slurm.
        queue: state of each task that Slurm still knows, '12_3': 'PENDING'; None if it was not asked or is not there.
        when: it was looked at last, in seconds since 1970.
    """

    folder: Path
    runs_dir: Path
    only: dict[str, dict[str, Any]] | None
    command: str | None
    group: str | None = None
    estimates: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    launches: list[Launch] = field(default_factory=list)
    submissions: list[jobs.Submission] = field(default_factory=list)
    queue: Mapping[str, str] | None = None
    when: float = 0.0

    def look(self) -> None:
        """Read what can have changed."""
        self.launches = launches(self.folder)
        self.submissions = jobs.read_submissions(self.folder)
        submitted = {job_id for submission in self.submissions for job_id in submission.job_ids}
        self.queue, asked = None, False

        def ask(others: set[str]) -> Mapping[str, str] | None:
            nonlocal asked
            asked, self.queue = True, jobs.live(sorted(submitted | others))
            return self.queue

        if self.group is None:
            look_again(self.seen, self.runs_dir, self.only, ask)
        else:
            look_again(self.seen, self.runs_dir, None, ask)
            runs = self.seen.runs.items()
            self.only = {run_id: {} for run_id, glance in runs if glance.status.get("group") == self.group}
        if submitted and not asked and self.tally().total() > sum(self.tally()[state] for state in DONE):
            ask(set())
        self.when = time.time()

    @property
    def run_ids(self) -> list[str]:
        """In the order of the plan."""
        return sorted(self.seen.runs) if self.only is None else list(self.only)

    def tally(self) -> Counter[str]:
        """Runs by state; 'missing' have no record that can be read."""
        if self.only is None:
            return Counter(glance.state for glance in self.seen.runs.values())
        return Counter(self.state(run_id) for run_id in self.only)

    def state(self, run_id: str) -> str:
        glance = self.seen.runs.get(run_id)
        return "missing" if glance is None else glance.state

    def chosen(self, state: str) -> list[tuple[str, Glance]]:
        """The runs in a state, the one that was heard of last first."""
        found = [(run_id, self.seen.runs[run_id]) for run_id in self.run_ids if self.state(run_id) == state]
        return sorted(found, key=lambda pair: -pair[1].heartbeat)

    def tasks(self) -> Counter[str]:
        """Tasks of the sweep that Slurm still knows, by state."""
        queue = self.queue or {}
        return Counter(queue[task] for each in self.submissions for task in each.tasks if task in queue)

    def waiting(self) -> int:
        """Runs that are not done and are in a task that has not started."""
        queue = self.queue or {}
        tasks = {task: runs for each in self.submissions for task, runs in each.tasks.items()}
        waits = {run_id for task, runs in tasks.items() if queue.get(task) == "PENDING" for run_id in runs}
        return sum(self.state(run_id) not in DONE for run_id in waits)

    def pace(self) -> Pace | None:
        """None where nothing is under way."""
        counted = self.tally()
        if not counted["running"]:
            return None
        work = works({run_id: self._labels(run_id) for run_id in self.run_ids}, self.estimates)
        stints, rest = [], 0.0
        for run_id in self.run_ids:
            glance = self.seen.runs.get(run_id)
            share = progress(glance) if glance is not None else 0.0
            if self.state(run_id) in UNDER_WAY:
                rest += (1 - share) * work[run_id]
            if glance is not None and glance.state in (*DONE, "running"):
                ended = glance.state in DONE
                until = glance.heartbeat if ended else self.when
                began = float(glance.status.get("started") or until)
                stints.append(Stint(work[run_id], share, began, until, ended))
        return pace(stints, rest, self.when)

    def _labels(self, run_id: str) -> dict[str, Any]:
        if self.only is not None and self.only[run_id]:
            return self.only[run_id]
        glance = self.seen.runs.get(run_id)
        return {} if glance is None else dict(glance.status.get("labels") or {})


def survey(folder: Path) -> Survey:
    """Look at a sweep's folder, a folder of runs, or one run.

    Raises:
        ConfigError: if it is none of these.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a sweep's (sweeps/NAME), a folder of runs, or one run's")
    try:
        plan = read_plan(folder)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    made = _of_search(folder) if plan is None else _of_plan(folder, plan)
    if made is None:
        made = _of_runs(folder)
    made.look()
    if made.only is None and not made.seen.runs and not made.seen.problems:
        raise ConfigError(f"{folder}: holds neither a {PLAN} nor runs; a sweep's folder is sweeps/NAME")
    return made


def _of_plan(folder: Path, plan: Plan) -> Survey:
    estimates = {run.run_id: run.estimate for run in plan.runs if run.estimate is not None}
    labels = {run.run_id: run.labels for run in plan.runs}
    return Survey(folder, plan.runs_dir, labels, plan.command, estimates=estimates)


def _of_search(folder: Path) -> Survey | None:
    """One that has no final table yet, and so no plan."""
    try:
        said = load_json(folder / SEARCH)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    if said is None:
        return None
    runs_dir = Path(os.path.normpath(folder / str(said.get("runs_dir"))))
    return Survey(folder, runs_dir, {}, str(said.get("command")), str(said.get("name")))


def _of_runs(folder: Path) -> Survey:
    if (folder / "status.json").exists():
        whole = folder.resolve()
        return Survey(folder, whole.parent, {whole.name: {}}, None)
    return Survey(folder, folder, None, None)


def works(labels: Mapping[str, Mapping[str, Any]], estimates: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What each run costs beside the others: operations, if the plan knows those of all; otherwise steps times layers,
    the stem and the head counted as one each."""
    known = {run_id: estimate.get("operations") for run_id, estimate in estimates.items()}
    if all(known.get(run_id) for run_id in labels):
        return {run_id: float(known[run_id] or 0.0) for run_id in labels}
    return {
        run_id: float(of.get("trainer.max_steps") or 1) * (float(of.get("depth") or 1) + 2)
        for run_id, of in labels.items()
    }


def progress(glance: Glance) -> float:
    """The share of its steps that a run has made, 0 to 1."""
    if glance.state in DONE:
        return 1.0
    status = glance.status
    total = status.get("total") or (status.get("labels") or {}).get("trainer.max_steps")
    step = status.get("step")
    if not isinstance(total, int | float) or not isinstance(step, int | float) or total <= 0:
        return 0.0
    return min(1.0, step / total)
