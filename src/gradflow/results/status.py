"""How far a folder of runs has got, in words."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from gradflow.results.survey import Survey
from gradflow.runs import jobs
from gradflow.runs.planfile import Collection
from gradflow.runs.record import DONE
from gradflow.runs.states import Glance

ORDER = ("completed", "diverged", "running", "stale", "preempted", "failed", "pruned", "missing")
EXPLAINED = {
    "stale": "its process is gone without a word (killed?); starting the sweep again goes on from its checkpoint",
    "preempted": "stopped when asked; starting the sweep again goes on from its checkpoint",
    "failed": "starting the sweep again tries it once more",
}
LISTED = ("running", "stale", "preempted")
MOST = 20  # runs of each kind that are listed one by one
MOST_PROBLEMS = 20
AHEAD = 2.0  # seconds by which the clocks of two machines may differ unseen


def counts(collection: Collection) -> Counter[str]:
    """Planned runs by state; 'missing' have no record yet."""
    records = collection.found.records
    return Counter(records[run_id].state if run_id in records else "missing" for run_id in collection.planned)


def summary(collection: Collection) -> str:
    """One line, e.g. '30 runs: 28 completed, 2 diverged'."""
    return _in_words(counts(collection))


def summary_of(survey: Survey) -> str:
    """The same of what was looked at just now."""
    return _in_words(survey.tally())


def is_complete(collection: Collection) -> bool:
    return _all_done(counts(collection))


def is_over(survey: Survey) -> bool:
    """Whether every run is done; of a search, whether nothing is under way, for it may always make more."""
    counted = survey.tally()
    if survey.group is not None:
        return not (survey.launches or survey.tasks() or counted["running"])
    return _all_done(counted)


def to_rich(survey: Survey) -> list[Any]:
    """What `gradflow status` prints: counts, pace, Slurm's queue, runs that are not done, the last errors and where
    more is said of them, and what to type to go on."""
    counted = survey.tally()
    shown: list[Any] = [Text(_in_words(counted), style="bold")]
    shown += [Text(line) for line in (*_pace(survey), *_slurm(survey))]
    table = RichTable(box=box.SIMPLE_HEAD)
    for header in ("run", "state", "what", "step", "heartbeat"):
        table.add_column(Text(header), overflow="fold")
    more = []
    for state in LISTED:
        chosen = survey.chosen(state) if counted[state] else []
        for run_id, glance in chosen[:MOST]:
            table.add_row(*_row(run_id, glance, survey.when))
        more += [Text(f"… and {len(chosen) - MOST} more {state}")] if len(chosen) > MOST else []
    if table.row_count:
        shown.append(table)
    shown += more
    if counted["failed"]:
        shown += _errors(survey)
    shown += [Text(f"{state}: {why}") for state, why in EXPLAINED.items() if counted[state]]
    problems = list(survey.seen.problems.values())
    shown += [Text(f"unreadable: {problem}", style="red") for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        shown.append(Text(f"… and {len(problems) - MOST_PROBLEMS} more that cannot be read", style="red"))
    if survey.command and (survey.group is not None or not _all_done(counted)):
        shown.append(Text(f"to go on: {survey.command}"))
        if survey.launches or survey.tasks():
            shown.append(Text(f"to stop: gradflow cancel {survey.folder}"))
    return shown


def _in_words(counted: Counter[str]) -> str:
    told = ", ".join(f"{counted[state]} {state}" for state in ORDER if counted[state])
    return f"{counted.total()} runs: {told}" if told else "no runs yet"


def _all_done(counted: Counter[str]) -> bool:
    return sum(counted[state] for state in DONE) == counted.total()


def _pace(survey: Survey) -> Iterator[str]:
    found = survey.pace()
    if found is None:
        return
    left = "" if found.seconds_left is None else f", about {duration(found.seconds_left)} left"
    yield f"{found.runs_per_minute:.3g} runs/min over the last {found.window}{left}"


def _slurm(survey: Survey) -> Iterator[str]:
    if not survey.submissions or is_over(survey):
        return
    names = ", ".join(job_id for each in survey.submissions for job_id in each.job_ids)
    if survey.queue is None:
        yield f"Slurm job {names}: squeue does not answer here; runs are judged by their heartbeats"
        return
    tasks = survey.tasks()
    if not tasks:
        yield f"Slurm job {names}: none of its tasks is in the queue any more"
        return
    told = ", ".join(f"{count} {state.lower()}" for state, count in sorted(tasks.items()))
    waiting = survey.waiting()
    yield f"Slurm job {names}: tasks {told}" + (f"; {waiting} runs wait for theirs" if waiting else "")


def _row(run_id: str, glance: Glance, now: float) -> list[Text]:
    status = glance.status
    step = str(status.get("step", "")) + (f"/{status['total']}" if status.get("total") else "")
    words = run_id, glance.state, str(status.get("title", "")), step, age(glance.heartbeat, now)
    return [Text(word) for word in words]


def _errors(survey: Survey) -> Iterator[Text]:
    """The last failures, each with its error and where more is said of it."""
    failed = survey.chosen("failed")
    for run_id, glance in failed[:MOST]:
        told = str(glance.status.get("error") or "").strip().splitlines()
        yield Text.assemble(
            (f"failed {run_id}", "red"), f" {glance.status.get('title', '')}: {told[-1] if told else 'without a word'}"
        )
        log = survey.runs_dir / run_id / "log.txt"
        yield Text(f"  {log if log.exists() else log.with_name('status.json')}")
        slurm = jobs.log_of(survey.folder, run_id) if survey.submissions else None
        if slurm is not None:
            yield Text(f"  {slurm}")
    if len(failed) > MOST:
        yield Text(f"… and {len(failed) - MOST} more failed")


def age(heartbeat: float, now: float | None = None) -> str:
    """How long ago, in words; a time in the future comes from a clock that goes wrong.

    >>> age(10.0, now=70.0), age(100.0, now=70.0)
    ('60 s ago', 'clock?')
    """
    seconds = (time.time() if now is None else now) - heartbeat
    return "clock?" if seconds < -AHEAD else f"{max(0, int(seconds))} s ago"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725.4)
    '1:02:05'
    """
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
