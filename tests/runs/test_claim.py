"""Two processes never both write a run, nor both keep a result."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from gradflow.runs import claim as claim_module
from gradflow.runs import record as record_module
from gradflow.runs.claim import Claim, Lost, claim, mark_failed
from gradflow.runs.record import is_locked, read, write_json

HOLD = """
import sys
from pathlib import Path
from gradflow.runs.claim import claim
with claim(Path(sys.argv[1])) as mine:
    print(mine is not None, flush=True)
    if mine:
        sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Starts a process that holds a run's lock; its first word is whether it got it."""
    started = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, hold):
    path = tmp_path / "run"
    first, got = hold(path)
    assert got == "True"
    assert is_locked(path)
    assert hold(path)[1] == "False"
    with claim(path) as mine:
        assert not mine
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not is_locked(path)
    assert hold(path)[1] == "True"


def test_looking_at_a_lock_does_not_take_it(tmp_path):
    assert not is_locked(tmp_path / "nowhere")
    with claim(tmp_path / "run") as mine:
        assert mine
        assert is_locked(tmp_path / "run")
    assert not is_locked(tmp_path / "run")
    with claim(tmp_path / "run") as mine:
        assert mine


def test_a_running_record_is_stale_once_nobody_holds_its_lock(records, hold):
    path = records.add(state="running")
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", {**status, "host": record_module.socket.gethostname()})
    holder, _ = hold(path)
    assert read(path).state == "running"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read(path).state == "stale"


@pytest.mark.parametrize(("age", "state"), [(0, "running"), (60, "running"), (3600, "stale")])
def test_on_another_host_the_heartbeat_decides(records, age, state):
    path = records.add(state="running")  # by a host called 'elsewhere'
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", {**status, "heartbeat": time.time() - age})
    assert read(path).state == state


def test_only_an_unfinished_run_that_nobody_is_on_is_marked_failed(records, hold):
    dead, done, alive = records.add(state="running"), records.add(), records.add(state="running")
    hold(alive)
    for path in (dead, done, alive):
        mark_failed(path, "its worker process died (signal 9)")
    assert [read(path).state for path in (dead, done, alive)] == ["failed", "completed", "running"]
    assert read(dead).status["error"] == "its worker process died (signal 9)"


# --- where file locks do not reach --------------------------------------------------------------------------------


def _elsewhere(path, *, state="running"):
    """A record whose owner is on another machine."""
    write_json(path / "status.json", {"state": state, "host": "elsewhere", "labels": {}, "run_id": path.name})
    (path / ".owner").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "theirs"}))


@pytest.mark.parametrize(
    ("age", "state", "free"),
    [
        (0, "running", False),
        (60, "running", False),
        (3600, "running", True),
        (0, "preempted", True),
        (-3600, "running", True),
    ],
)
def test_an_owner_elsewhere_keeps_its_run_while_it_is_heard_of(tmp_path, age, state, free):
    _elsewhere(tmp_path, state=state)
    then = time.time() - age
    os.utime(tmp_path / "status.json", (then, then))
    with claim(tmp_path) as mine:
        assert (mine is not None) is free


def test_a_record_cut_off_before_its_first_status_is_free(tmp_path):
    (tmp_path / ".owner").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "theirs"}))
    with claim(tmp_path) as mine:
        assert mine is not None


def test_without_file_locks_the_owners_name_decides(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(claim_module.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claim_module.fcntl, "flock", refuses)
    with claim(tmp_path) as mine:
        assert mine is not None
        mine.check()
    _elsewhere(tmp_path)
    with claim(tmp_path) as mine:
        assert mine is None


def test_a_sleeper_whose_run_was_taken_over_neither_writes_nor_keeps(tmp_path):
    with claim(tmp_path) as sleeper:
        other = Claim(tmp_path)  # on a machine that the lock does not reach
        with pytest.raises(Lost):
            sleeper.check()
        with pytest.raises(Lost):
            sleeper.commit(tmp_path / "result.json", {"by": "sleeper"})
        assert other.commit(tmp_path / "result.json", {"by": "other"})
    assert json.loads((tmp_path / "result.json").read_text())["by"] == "other"
    assert [file.name for file in tmp_path.glob(".result*")] == []


def test_of_two_commits_the_first_is_kept(tmp_path):
    mine = Claim(tmp_path)
    assert mine.commit(tmp_path / "result.json", {"value": 1})
    assert not mine.commit(tmp_path / "result.json", {"value": 2})
    assert json.loads((tmp_path / "result.json").read_text())["value"] == 1


def test_where_there_are_no_hard_links_a_result_is_kept_all_the_same(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(claim_module.errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(claim_module.os, "link", refuses)
    assert Claim(tmp_path).commit(tmp_path / "result.json", {"value": 1})
    assert json.loads((tmp_path / "result.json").read_text())["value"] == 1


def test_whoever_leaves_a_run_leaves_no_name(tmp_path):
    with claim(tmp_path):
        assert json.loads((tmp_path / ".owner").read_text())["host"] == socket.gethostname()
    assert not (tmp_path / ".owner").exists()


RACE = """
import sys, time
from pathlib import Path
from gradflow.runs.claim import claim
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with claim(path) as mine:
    if mine is None:
        print("busy")
    elif (path / "result.json").exists():
        print("done")
    else:
        time.sleep(0.2)
        print("kept" if mine.commit(path / "result.json", {"by": sys.argv[2]}) else "second")
"""


def test_of_four_processes_that_begin_at_once_one_keeps_the_run(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path / "run"), str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].strip() for process in started]
    assert said.count("kept") == 1
    assert set(said) <= {"kept", "busy", "done"}
    kept = json.loads((tmp_path / "run" / "result.json").read_text())["by"]
    assert said[int(kept)] == "kept"
