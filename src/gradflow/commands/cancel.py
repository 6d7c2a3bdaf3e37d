"""`gradflow cancel`: end what is under way for a sweep."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow.errors import ConfigError
from gradflow.usage import FAILED, OK

if TYPE_CHECKING:
    from gradflow.results.survey import Survey
    from gradflow.runs.launches import Launch

SUMMARY = "stop what is under way for a sweep; its runs checkpoint"
HELP = """Stop what is under way for a sweep: its processes on this machine, and its jobs in Slurm's queue.

  gradflow cancel sweeps/quickstart

Runs checkpoint at their next step, and starting the sweep again goes on from there: nothing is lost.
"""
PATIENCE = 90.0  # seconds for a sweep's processes to leave, which give their runs 60 s to checkpoint


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder (sweeps/NAME)")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """End what is under way for a sweep."""
    from gradflow.results.status import is_over
    from gradflow.runs.jobs import read_submissions
    from gradflow.runs.launches import launches

    folder: Path = options.folder
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a sweep's (sweeps/NAME)")
    found, submissions = launches(folder), read_submissions(folder)
    here = [launch for launch in found if launch.is_here]
    elsewhere = [launch for launch in found if not launch.is_here]
    job_ids = [job_id for submission in submissions for job_id in submission.job_ids]
    looked = _survey(folder)
    over = looked is not None and is_over(looked)  # then no job is left to cancel, and a cluster need not be near
    outcomes = [_cancel_jobs(job_ids)] if job_ids and not over else []
    if here:
        outcomes.append(_stop(here))
    outcomes += [_tell_elsewhere(launch, looked) for launch in elsewhere]
    if not any(outcomes):
        print(f"{folder}: nothing is under way")
        return OK
    command = (looked.command if looked is not None else None) or (found[-1].command if found else None)
    if command:
        print(f"to go on: {command}")
    return FAILED if "failed" in outcomes else OK


def _stop(here: list[Launch]) -> str | None:
    """Ask processes of this machine to leave, and wait for them."""
    asked, outcome = [], None
    for launch in here:
        try:
            if launch.terminate():
                asked.append(launch)
                print(f"pid {launch.pid} was asked to checkpoint and leave: {launch.command}", flush=True)
        except PermissionError:
            print(f"gradflow: pid {launch.pid} is another user's and goes on: {launch.command}", file=sys.stderr)
            outcome = "failed"
    until = time.monotonic() + PATIENCE
    while (left := [launch for launch in asked if launch.is_alive()]) and time.monotonic() < until:
        time.sleep(0.1)
    for launch in asked:
        if launch in left:
            print(f"gradflow: pid {launch.pid} has not left within {PATIENCE:g} s", file=sys.stderr)
            outcome = "failed"
        else:
            print(f"pid {launch.pid} has left")
    return outcome or ("stopped" if asked else None)


def _cancel_jobs(job_ids: list[str]) -> str | None:
    """Take a sweep's jobs out of Slurm's queue. Tasks that run are told to checkpoint, for which they have KillWait."""
    from gradflow.runs.jobs import live

    queue = live(job_ids)
    if queue is None:
        print(
            f"gradflow: squeue does not answer here; on the cluster, type: scancel {' '.join(job_ids)}", file=sys.stderr
        )
        return "failed"
    wanted = [job_id for job_id in job_ids if any(task.partition("_")[0] == job_id for task in queue)]
    if not wanted:
        return None
    done = subprocess.run(["scancel", *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"gradflow: scancel {' '.join(wanted)}: {done.stderr.strip()}", file=sys.stderr)
        return "failed"
    states = list(queue.values())
    told = ", ".join(f"{states.count(state)} {state.lower()}" for state in sorted(set(states)))
    print(f"Slurm job {', '.join(wanted)} is cancelled: tasks {told}; what runs is told to checkpoint first")
    return "stopped"


def _tell_elsewhere(launch: Launch, looked: Survey | None) -> str | None:
    """A process that only its own machine can end; one that shows no sign of life may be long gone."""
    where = f"pid {launch.pid} on {launch.host}"
    if looked is not None and all(run.status.get("host") != launch.host for _, run in looked.chosen("running")):
        print(f"{where} was announced, but none of its runs gives a sign of life")
        return None
    kill = f"ssh {launch.host} kill -TERM {launch.pid}"
    print(f"gradflow: {where} can only be stopped there; type: {kill}", file=sys.stderr)
    return "failed"


def _survey(folder: Path) -> Survey | None:
    """What goes on in a sweep; None where nothing was planned yet."""
    from gradflow.results.survey import survey

    try:
        return survey(folder)
    except ConfigError:
        return None
