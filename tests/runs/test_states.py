"""The glance at a run says what reading it whole says, and looks at nothing twice that cannot change."""

import json
import os
import shutil
import socket
import time

import pytest

from gradflow.runs import states as module
from gradflow.runs.claim import claim
from gradflow.runs.record import read_all, write_json
from gradflow.runs.states import look_again, states


def says(path, **changes):
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", {**status, **changes})


@pytest.fixture
def zoo(records):
    """Runs of every kind, sound and broken."""
    for seed, state in enumerate(("completed", "diverged", "running", "preempted", "failed", "pruned", "missing")):
        records.add(seed=seed, state=state)
    says(records.add(seed=10), state="running")  # killed after its result was committed
    broken = {
        "status.json": ["", "{", "[]", '{"format": 1}', '{"format": 99, "state": "failed", "labels": {}}'],
        "result.json": ["", "{", '{\n "format": 1\n', '{"format": 1, "run_id": "other"}'],
    }
    for file, texts in broken.items():
        for text in texts:
            (records.add(seed=20) / file).write_text(text)
    (records.add(seed=30) / "result.json").unlink()
    (records.add(seed=31) / "status.json").unlink()
    (records.runs / ".replaced").mkdir()
    return records


def test_a_glance_agrees_with_reading_the_whole_record(zoo):
    ids = [run.run_id for run in zoo.planned]
    whole, seen = read_all(zoo.runs, ids), states(zoo.runs, ids)
    assert {run_id: glance.state for run_id, glance in seen.runs.items()} == {
        run_id: record.state for run_id, record in whole.records.items()
    }
    assert sorted(seen.problems.values()) == sorted(whole.problems)
    assert len(seen.problems) == 11
    of_all = states(zoo.runs)
    assert (of_all.runs, of_all.problems) == (seen.runs, seen.problems)


def test_where_files_are_slow_many_are_read_at_a_time_with_the_same_outcome(zoo, monkeypatch):
    near = states(zoo.runs)
    monkeypatch.setattr(module, "SLOW", 0.0)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    far = states(zoo.runs)
    assert (far.runs, far.problems) == (near.runs, near.problems)


def test_only_what_can_have_changed_is_read_again(records, monkeypatch):
    done, open_, later = records.add(), records.add(seed=1, state="preempted"), records.add(seed=2, state="missing")
    ids = [run.run_id for run in records.planned]
    seen = states(records.runs, ids)
    read, whole = [], module._glance
    monkeypatch.setattr(module, "_glance", lambda runs, name: read.append(name) or whole(runs, name))
    look_again(seen, records.runs, ids)
    assert read == [open_.name]
    shutil.copytree(open_, later)
    look_again(seen, records.runs, ids)
    assert read[1:] == [open_.name, later.name]
    assert seen.runs[later.name].state == "preempted"
    os.rename(done, records.runs / ".aside")  # --rerun
    look_again(seen, records.runs, ids)
    assert done.name not in seen.runs
    shutil.copytree(open_, done)
    look_again(seen, records.runs, ids)
    assert seen.runs[done.name].state == "preempted"


def test_a_run_on_this_machine_lives_while_its_lock_is_held_whatever_the_clock_says(records):
    path = records.add(state="running")
    for heartbeat in (0.0, time.time(), time.time() + 3600):
        says(path, host=socket.gethostname(), heartbeat=heartbeat)
        with claim(path):
            assert states(records.runs).runs[path.name].state == "running"
        assert states(records.runs).runs[path.name].state == "stale"


def test_a_heartbeat_that_is_no_number_was_never_heard(records):
    path = records.add(state="running")
    says(path, heartbeat="long ago")
    assert states(records.runs).runs[path.name].state == "stale"


@pytest.mark.parametrize(
    ("queue", "heard", "state"),
    [
        ({"12_3": "RUNNING"}, 5, "running"),
        ({"12_3": "COMPLETING"}, 5, "running"),
        ({"12_3": "RUNNING"}, 3600, "stale"),  # the task lives, but its run is an orphan that nobody hears of
        ({"12_3": "PENDING"}, 5, "stale"),  # requeued: it will go on
        ({"12_4": "RUNNING"}, 5, "stale"),
        ({}, 5, "stale"),
        (None, 5, "running"),  # no squeue here
        (None, 3600, "stale"),
        (None, -3600, "running"),  # from a clock that goes ahead
    ],
)
def test_a_run_elsewhere_lives_by_slurms_queue_and_its_heartbeat(records, queue, heard, state):
    path = records.add(state="running")
    says(path, host="node7", job_id="12_3", heartbeat=time.time() - heard)
    asked = []
    seen = states(records.runs, None, lambda jobs: asked.append(jobs) or queue)
    assert seen.runs[path.name].state == state
    assert asked == [{"12"}]


def test_slurm_is_asked_only_for_runs_that_it_could_know_of(records):
    records.add()
    records.add(seed=1, state="running")  # without a job
    says(records.add(seed=2, state="failed"), job_id="12_3")
    asked = []
    states(records.runs, None, asked.append)
    assert asked == []
