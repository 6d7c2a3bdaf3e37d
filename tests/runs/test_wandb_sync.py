"""What was logged offline arrives at W&B once, whole and in order: W&B's own `wandb sync` against a stand-in of its
server on the loopback (`wandb_stand_in.py`)."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_wandb_logger import records_of
from wandb_stand_in import StandIn

from gradflow.runs import wandb_sync
from gradflow.runs.claim import claim
from gradflow.runs.record import write_json
from gradflow.runs.series import METRICS, Series
from gradflow.runs.wandb_file import Held, held, mend
from gradflow.runs.wandb_logger import finish, make_logger
from gradflow.runs.wandb_marks import is_uploaded
from gradflow.runs.wandb_sync import alone, pending, upload

KEY = "5ec2e7" * 6 + "abcd"
# One process that logs as `gradflow.runs.wandb_logger` does, and says where.
LOG = """
import os, sys, json, time
import wandb
for i, (folder, run_id, steps) in enumerate(json.loads(sys.argv[1])):
    time.sleep(1.1 * (i > 0))  # W&B names its folders by the second
    os.makedirs(folder, exist_ok=True)
    quiet = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True)
    resume = "allow" if os.path.exists(os.path.join(folder, "wandb")) else None
    run = wandb.init(id=run_id, dir=folder, mode="offline", resume=resume, project="gradflow", settings=quiet)
    for step in steps:
        run.log({"train/loss": 1000.0 + step, "trainer/global_step": step}, step=step)
    run.finish()
    print(run.settings.sync_file)
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> Path:
    """Offline folders of three runs: one attempt; three attempts, the second of which was killed in the middle of a
    record; one that was killed with half of its end."""
    folder = tmp_path_factory.mktemp("logged")
    attempts = [("one", [0, 10, 20], 0), ("many", [0, 10, 20], 0), ("many", [30, 40], 3), ("many", [40, 50], 0)]
    attempts += [("cut", [0, 10], 3)]
    words = json.dumps([[str(folder / name), name, steps] for name, steps, _ in attempts])
    done = subprocess.run([sys.executable, "-c", LOG, words], check=True, capture_output=True, text=True)
    for (_, _, killed), file in zip(attempts, map(Path, done.stdout.split()), strict=True):
        os.truncate(file, file.stat().st_size - killed)
    return folder


@pytest.fixture
def server(monkeypatch) -> Iterator[StandIn]:
    with StandIn() as stand_in:
        monkeypatch.setenv("WANDB_BASE_URL", stand_in.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_X_GRAPHQL_RETRY_MAX", "1")
        yield stand_in


@pytest.fixture
def offline(records, logged):
    """Makes a record with what was logged."""

    def make(name: str, state: str = "completed") -> Path:
        path = records.add(seed=len(records.planned), state=state)
        shutil.copytree(logged / name / "wandb", path / "wandb", symlinks=True)
        return path

    return make


def steps(server: StandIn, name: str) -> list[tuple[int, float]]:
    return [(row["trainer/global_step"], row["train/loss"]) for row in server.runs[name].history]


def send(records, said: list[str] | None = None, project: str | None = None) -> list[str]:
    return upload(pending(records.runs, project=project), (said if said is not None else []).append)


def test_runs_arrive_whole_and_attempts_one_after_another_and_are_not_sent_again(records, offline, server):
    offline("one")
    many = offline("many")
    said: list[str] = []
    assert send(records, said) == [], said
    assert steps(server, "one") == [(0, 1000.0), (10, 1010.0), (20, 1020.0)]
    assert [step for step, _ in steps(server, "many")] == [0, 10, 20, 30, 40, 40, 50]
    assert [row["_step"] for row in server.runs["many"].history] == [0, 10, 20, 30, 40, 41, 50]
    assert {name: run.exit_code for name, run in server.runs.items()} == {"one": 0, "many": 0}
    assert all(is_uploaded(file) for file in many.glob("wandb/offline-run-*/*.wandb"))
    assert KEY not in "\n".join(said)
    requests = server.requests
    assert pending(records.runs).files == {}
    assert send(records) == []
    assert server.requests == requests

    assert set(pending(records.runs, project="other").files) == {run.run_id for run in records.planned}
    server.runs.clear()  # it keeps no projects apart
    assert send(records, project="other") == []
    assert [step for step, _ in steps(server, "many")] == [0, 10, 20, 30, 40, 40, 50]
    assert {run.project for run in server.runs.values()} == {"other"}
    assert pending(records.runs, project="other").files == pending(records.runs).files == {}


def test_an_attempt_that_comes_after_an_upload_is_put_behind_it(records, offline, server):
    path = offline("many", "preempted")
    *_, last = sorted(path.glob("wandb/offline-run-*"))
    last.rename(path / "later")
    assert send(records, project="other") == []
    assert [step for step, _ in steps(server, "many")] == [0, 10, 20, 30, 40]
    (path / "later").rename(last)
    assert [file.parent for file in pending(records.runs).files[path.name]] == [last]
    assert send(records, project="other") == []
    assert [step for step, _ in steps(server, "many")] == [0, 10, 20, 30, 40, 40, 50]
    assert server.runs["many"].project == "other"


def test_a_run_that_went_on_and_logged_nothing_is_compared_with_its_record_again(records, offline, server):
    path = offline("one", "preempted")
    assert send(records) == []
    assert (pending(records.runs).files, pending(records.runs).short) == ({}, {})
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", {**status, "state": "failed", "attempt": status["attempt"] + 1})
    figures = Series(path / "metrics.parquet", METRICS)
    figures.add(step=60, epoch=0, split="train", name="loss", value=1.0)
    figures.write()
    assert pending(records.runs).short == {path.name: ["one"]}


def test_what_was_found_whole_is_not_read_again(records, offline, monkeypatch):
    path = offline("one")
    for file in path.glob("wandb/offline-run-*/*.wandb"):
        file.with_name(f"{file.name}.synced").touch()  # by W&B's own command
    found = pending(records.runs)
    assert (found.files, len(found.whole[path.name])) == ({}, 1)
    assert pending(records.runs).whole == found.whole  # nothing was written yet
    found.remember()
    monkeypatch.setattr(wandb_sync, "lacking", None)
    assert pending(records.runs).files == {}


def test_a_file_that_ends_in_half_a_record_is_cut_back_and_sent(records, offline, server):
    path = offline("cut", "failed")
    (file,) = path.glob("wandb/offline-run-*/*.wandb")
    size = file.stat().st_size
    said: list[str] = []
    assert send(records, said) == [], said
    assert any(f"{file}: its process was killed" in line for line in said)
    assert file.stat().st_size < size
    assert [step for step, _ in steps(server, "cut")] == [0, 10]
    assert server.runs["cut"].exit_code == 1
    assert not mend(file)  # whole by now


def test_what_did_not_arrive_is_named_and_sent_the_next_time(records, offline, server, monkeypatch):
    path = offline("one")
    server.refuses = True
    assert send(records) == [path.name]
    server.refuses = False
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is at home there
    assert send(records) == [path.name]
    assert server.runs == {}
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert send(records) == []
    assert [step for step, _ in steps(server, "one")] == [0, 10, 20]


def test_where_nobody_answers_the_rest_is_not_tried(records, offline, monkeypatch):
    names = [offline("one").name, offline("cut", "failed").name]
    tried = []
    monkeypatch.setattr(wandb_sync, "AT_ONCE", 1)
    monkeypatch.setattr(wandb_sync, "_run", lambda words, _: tried.append(words))
    assert send(records) == names
    assert len(tried) == 1


def test_runs_that_may_be_running_are_left_for_later(records, offline):
    running, failed, preempted = offline("one", "running"), offline("one", "failed"), offline("one", "preempted")
    records.add(seed=9)  # logs nothing
    with claim(preempted):
        found = pending(records.runs)
        assert set(found.files) == {failed.name}
        assert sorted(found.later) == sorted([running.name, preempted.name])
    assert set(pending(records.runs, [preempted.name]).files) == {preempted.name}


def test_a_log_that_cannot_be_filled_up_is_not_called_whole(records, offline, server):
    """The record of a run that is done says so, and its log does not; its config is lost."""
    path = offline("cut")
    for _ in range(2):
        said: list[str] = []
        assert send(records, said) == [path.name]
        assert any(line.startswith("ERROR") and "config.yaml" in line for line in said)
    assert [step for step, _ in steps(server, "cut")] == [0, 10]


def test_only_one_process_uploads_at_a_time(tmp_path):
    with alone(tmp_path) as mine, alone(tmp_path) as other:
        assert (mine, other) == (True, False)
    with alone(tmp_path) as mine:
        assert mine


def test_a_log_is_cut_back_to_its_last_whole_record_wherever_it_was_cut(logged, tmp_path):
    """The ends of records are found by W&B's own rule, which `test_wandb_logger` reads whole logs by."""
    (file,) = (logged / "one").glob("wandb/offline-run-*/*.wandb")
    whole, copy = file.read_bytes(), tmp_path / "run.wandb"
    count = len(list(records_of(file)))
    assert held([file]) == Held(20, ended=True)
    for cut in range(1, 400, 23):
        copy.write_bytes(whole[:-cut])
        before = list(records_of(copy))
        mend(copy)
        assert list(records_of(copy)) == before
        assert not held([file, copy]).ended
        assert not mend(copy)
        assert len(before) < count
    copy.write_bytes(whole + bytes(100))  # a machine that went down
    assert mend(copy)
    assert copy.read_bytes() == whole
    damaged = whole[:200] + b"\xff" * 50 + whole[250:]
    copy.write_bytes(damaged)
    mend(copy)
    assert len(copy.read_bytes()) >= 200
    assert not held([copy]).ended


def test_an_upload_that_broke_off_is_done_again_and_nothing_is_there_twice(records, offline, server):
    many = offline("many")
    assert send(records) == []
    *_, last = wandb_sync.attempts(many)
    last.with_name(f"{last.name}.synced").unlink()
    last.with_name(f"{last.name}.sending").touch()  # as an upload leaves it that was killed
    assert pending(records.runs).files == {many.name: wandb_sync.attempts(many)}
    assert send(records) == []
    assert [step for step, _ in steps(server, "many")] == [0, 10, 20, 30, 40, 40, 50]
    assert not list(many.rglob("*.sending"))
    assert pending(records.runs).files == {}


def test_what_gradflow_logs_can_be_sent_again_with_its_pictures(configure, records, server):
    """The first attempt takes the place of what is there, and the second, which logs no step again, goes behind."""
    config, path = configure("logger.mode=offline"), records.add()
    for first, last, state in ((0, 3, "failed"), (0, 5, "completed")):
        log = make_logger(config, path)
        assert log is not None
        for step in range(first, last):
            log.figure(step, {"train/loss": float(step)})
            row = {"step": step, "block": 0, "name": "blocks.00", "time": 0, "quantity": "time_grad_h", "value": 1.0}
            log.through_time([row])
        finish(state)
        time.sleep(1.1)  # W&B names its folders by the second
    for _ in range(2):
        assert send(records) == []
        (run,) = server.runs.values()
        assert [row["_step"] for row in run.history] == [0, 1, 2, 3, 4]
        (picture,) = {row["heat_map/time_grad"]["path"] for row in run.history if "heat_map/time_grad" in row}
        assert picture in run.files
        for mark in path.rglob("*.synced"):
            mark.unlink()
        run.files.clear()
