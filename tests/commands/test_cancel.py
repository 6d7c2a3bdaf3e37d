"""What is under way is ended, and only that."""

import json
import signal
import subprocess
import sys
import time

import pytest

from gradflow.runs.launches import announced, launches
from gradflow.runs.record import write_json

SWEEP = """
import signal, sys, time
from pathlib import Path
from gradflow.runs.launches import announced
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
with announced(Path(sys.argv[1]), "gradflow sweep depth=2,3"):
    print("announced", flush=True)
    while not stopped:
        time.sleep(0.01)
sys.exit(143)
"""


@pytest.fixture
def folder(records):
    records.add(state="missing")
    return records.sweep()


def test_a_sweep_on_this_machine_is_asked_to_leave_and_waited_for(typed, folder):
    process = subprocess.Popen([sys.executable, "-c", SWEEP, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "announced\n"
    try:
        said = typed("cancel", folder)
        assert (said.code, said.err) == (0, "")
        assert process.wait(30) == 143
    finally:
        process.kill()
        process.communicate()
    pid = process.pid
    assert said.out.splitlines() == [
        f"pid {pid} was asked to checkpoint and leave: gradflow sweep depth=2,3",
        f"pid {pid} has left",
        "to go on: gradflow sweep depth=2,3",
    ]
    assert launches(folder) == []


def test_where_nothing_is_under_way_that_is_said(typed, folder):
    said = typed("cancel", folder)
    assert (said.code, said.out, said.err) == (0, f"{folder}: nothing is under way\n", "")


def test_a_process_that_is_another_by_now_is_left_alone(typed, folder):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with announced(folder, ""):
            (file,) = (folder / "launches").glob("*.json")
            file.write_text(json.dumps({**json.loads(file.read_text()), "pid": process.pid}))
            assert typed("cancel", folder).out == f"{folder}: nothing is under way\n"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("beats", [True, False])
def test_for_another_machine_the_command_is_told_unless_nothing_lives_there(typed, records, folder, beats):
    run = records.add(state="running")
    folder = records.sweep()
    status = json.loads((run / "status.json").read_text())
    write_json(run / "status.json", {**status, "host": "node7", "heartbeat": time.time() - 1000 * (not beats)})
    with announced(folder, "gradflow sweep depth=2,3"):
        (file,) = (folder / "launches").glob("*.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "host": "node7", "pid": 4321}))
        said = typed("cancel", folder)
    if beats:
        assert said.code == 1
        assert "pid 4321 on node7 can only be stopped there; type: ssh node7 kill -TERM 4321" in said.err
    else:
        assert said.code == 0
        assert "pid 4321 on node7 was announced, but none of its runs gives a sign of life" in said.out
        assert f"{folder}: nothing is under way" in said.out


@pytest.fixture
def submitted(folder, records):
    (folder / "slurm").mkdir()
    tasks, arrays = [[records.planned[0].run_id]] * 3, [{"job_id": "12", "first": 0, "count": 3}]
    write_json(
        folder / "slurm" / "submission-1.json",
        {"number": 1, "submitted": time.time(), "tasks": tasks, "arrays": arrays},
    )
    return folder


def test_jobs_are_cancelled_in_slurms_queue(typed, submitted, slurm):
    cancelled = slurm("12_0 RUNNING\\n12_1 PENDING\\n12_2 PENDING\\n")
    said = typed("cancel", submitted)
    assert (said.code, said.err) == (0, "")
    assert "Slurm job 12 is cancelled: tasks 2 pending, 1 running" in said.out
    assert cancelled.read_text() == "12\n"
    cancelled.unlink()
    slurm("")
    assert typed("cancel", submitted).out == f"{submitted}: nothing is under way\n"
    assert not cancelled.exists()


def test_where_slurm_does_not_answer_the_command_is_told(typed, submitted, slurm):
    slurm("")
    (slurm("").parent / "squeue").write_text("#!/bin/sh\nexit 1\n")
    said = typed("cancel", submitted)
    assert said.code == 1
    assert "squeue does not answer here; on the cluster, type: scancel 12" in said.err


def test_a_sweep_that_is_done_needs_no_cluster(typed, records, submitted, slurm):
    (slurm("").parent / "squeue").write_text("#!/bin/sh\nexit 1\n")
    records.planned.clear()
    records.add()
    records.sweep()
    assert typed("cancel", submitted).out == f"{submitted}: nothing is under way\n"


def test_a_real_sweep_is_stopped_and_its_runs_checkpoint(typed, new_shell, grid, wait_until):
    shell = new_shell()
    process = shell.start("sweep", *grid, "-j", "2", "logger.mode=disabled")
    folder = shell.sweeps / "four"
    wait_until(lambda: any('"running"' in file.read_text() for file in shell.runs.glob("*/status.json")))
    said = typed("cancel", folder)
    assert said.code == 0, said.err
    assert f"pid {process.pid} has left" in said.out
    ended = shell.end(process)
    assert ended.returncode == 128 + signal.SIGTERM
    states = [json.loads(file.read_text())["state"] for file in shell.runs.glob("*/status.json")]
    assert "preempted" in states
    assert set(states) <= {"preempted", "completed"}
