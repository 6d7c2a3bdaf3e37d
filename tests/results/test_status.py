"""How far a folder has got, in numbers and words."""

import io
import json
import re
import time

import pytest
from rich.console import Console

from gradflow.errors import ConfigError
from gradflow.results.status import is_complete, is_over, summary, summary_of, to_rich
from gradflow.results.survey import survey
from gradflow.runs import jobs
from gradflow.runs.launches import announced
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json


def told(folder) -> str:
    with io.StringIO() as out:
        console = Console(file=out, width=200)
        for shown in to_rich(survey(folder)):
            console.print(shown, soft_wrap=True)
        return out.getvalue()


def says(path, **changes):
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", {**status, **changes})


def test_planned_runs_are_counted_by_state_and_what_is_open_is_explained(records, monkeypatch):
    states = "completed", "completed", "diverged", "running", "preempted", "failed", "missing", "pruned"
    for seed, state in enumerate(states):
        error = "Traceback\nRuntimeError: no such neuron" if state == "failed" else None
        records.add(seed=seed, state=state, error=error)
    folder = records.sweep(command="gradflow sweep 'seed=range(8)'")
    collection = collect(folder)
    line = "8 runs: 2 completed, 1 diverged, 1 running, 1 preempted, 1 failed, 1 pruned, 1 missing"
    assert summary(collection) == summary_of(survey(folder)) == line
    assert not is_complete(collection)
    assert not is_over(survey(folder))
    text = told(folder)
    assert line in text
    open_runs = [row for row in text.splitlines() if row.strip().startswith("0" * 11)]
    assert [row.split()[:2] for row in open_runs] == [["0" * 11 + "3", "running"], ["0" * 11 + "4", "preempted"]]
    assert all(" 7 " in row and "s ago" in row for row in open_runs)  # step, heartbeat
    assert "failed 000000000005 digits relu · he_normal seed 5: RuntimeError: no such neuron" in text
    assert f"  {records.runs / '000000000005' / 'status.json'}\n" in text
    assert "failed: starting the sweep again tries it once more" in text
    assert "preempted: stopped when asked" in text
    assert "to go on: gradflow sweep 'seed=range(8)'" in text

    (records.runs / "000000000005" / "log.txt").write_text("--- node7\n")
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    text = told(folder)
    assert "1 stale, 1 preempted" in text
    assert "stale: its process is gone" in text
    assert "3600 s ago" in text
    assert f"  {records.runs / '000000000005' / 'log.txt'}\n" in text


@pytest.mark.parametrize("state", ["completed", "diverged"])
def test_a_complete_sweep_says_no_more_than_that(records, state):
    records.add(state=state)
    folder = records.sweep()
    assert is_complete(collect(folder))
    assert is_over(survey(folder))
    assert told(folder).strip() == f"1 runs: 1 {state}"


def test_what_cannot_be_read_is_told_by_name(records):
    records.add()
    path = records.add(seed=1)
    (path / "result.json").write_text("{")
    text = told(records.sweep())
    assert "2 runs: 1 completed, 1 missing" in text
    assert f"unreadable: {path / 'result.json'}: truncated or not JSON; skipped" in text


def test_markup_in_a_record_is_text(records):
    records.add(state="failed", error="x\n[red]not markup[/red] [/bold]", activation="[b]")
    assert "[red]not markup[/red] [/bold]" in told(records.sweep())


def test_of_many_open_runs_the_last_heard_of_are_listed_and_the_others_counted(records):
    now = time.time()
    for seed in range(25):
        says(records.add(seed=seed, state="failed", error="E"), heartbeat=now - seed)
        says(records.add(seed=seed, state="preempted"), heartbeat=now - seed)
    text = told(records.sweep())
    assert "… and 5 more failed" in text
    assert "… and 5 more preempted" in text
    listed = re.findall(r"failed 0+([0-9a-f]+) ", text)
    assert [int(run_id or "0", 16) for run_id in listed] == list(range(0, 40, 2))


def test_a_heartbeat_in_the_future_is_a_clock_that_goes_wrong(records):
    says(records.add(state="running"), heartbeat=time.time() + 600)
    text = told(records.sweep())
    assert "clock?" in text
    assert not re.search(r"-\d+ s", text)


def test_pace_and_time_left_are_those_of_the_runs_under_way(records):
    """Four runs of a minute each with two workers; of two that run, one has half of its steps; six are to come."""
    now, steps = time.time(), {"trainer.max_steps": 100}
    for seed in range(4):
        began = now - 120 + 60 * (seed // 2)
        says(records.add(seed=seed, **steps), started=began, heartbeat=began + 60)
    for seed, step in ((4, 50), (5, 0)):
        says(records.add(seed=seed, state="running", **steps), started=now - step / 100 * 60, step=step, total=100)
    for seed in range(6, 12):
        records.add(seed=seed, state="missing", **steps)
    text = told(records.sweep())
    # 4.5 runs' work in 120 s; 7.5 are left
    assert "2 runs/min over the last 10 min, about 0:03:" in text
    assert survey(records.sweeps / "hand").pace().seconds_left == pytest.approx(7.5 * 120 / 4.5, rel=0.01)


def test_without_anything_under_way_there_is_no_pace(records):
    says(records.add(), started=time.time() - 60)
    records.add(seed=1, state="missing")
    assert "runs/min" not in told(records.sweep())


def test_a_folder_of_runs_and_one_run_have_a_status_too(records):
    records.add()
    open_ = records.add(seed=1, state="preempted")
    assert "2 runs: 1 completed, 1 preempted" in told(records.runs)
    assert "1 runs: 1 preempted" in told(open_)


def test_who_works_on_a_sweep_can_be_stopped_by_a_command_that_is_told(records):
    records.add(state="missing")
    folder = records.sweep()
    assert "to stop" not in told(folder)
    with announced(folder, "gradflow sweep depth=2,3"):
        assert f"to stop: gradflow cancel {folder}" in told(folder)


def test_a_search_has_the_runs_of_its_trials_by_now(records, tmp_path):
    folder = records.sweeps / "find"
    (folder / "tune").mkdir(parents=True)
    said = {"name": "find", "command": "gradflow tune +tune=find", "runs_dir": "../../runs"}
    write_json(folder / "tune" / "tune.json", said)
    text = told(folder)
    assert "no runs yet" in text
    assert "to go on: gradflow tune +tune=find" in text
    for seed, state in enumerate(("completed", "pruned", "running", "failed")):
        says(records.add(seed=seed, state=state), group="find")
    records.add(seed=9)  # of another sweep
    assert "4 runs: 1 completed, 1 running, 1 failed, 1 pruned\n" in told(folder)
    assert not is_over(survey(folder))
    says(records.runs / "000000000002", state="preempted")
    assert is_over(survey(folder))
    with announced(folder, "gradflow tune +tune=find"):
        assert not is_over(survey(folder))
    (folder / "tune" / "tune.json").write_text("{")
    with pytest.raises(ConfigError, match="truncated or not JSON"):
        survey(folder)


# --- Slurm --------------------------------------------------------------------------------------------------------


@pytest.fixture
def submitted(records, monkeypatch):
    """A sweep of four runs, submitted as two tasks of two; gives its folder and what squeue is to say."""
    for seed in range(4):
        records.add(seed=seed, state="missing")
    folder = records.sweep()
    ids = [run.run_id for run in records.planned]
    arrays = [{"job_id": "12", "first": 0, "count": 2}]
    (folder / "slurm" / "logs").mkdir(parents=True)
    write_json(
        folder / "slurm" / "submission-1.json",
        {"number": 1, "submitted": time.time(), "tasks": [ids[:2], ids[2:]], "arrays": arrays},
    )
    queue = {}
    monkeypatch.setattr(jobs, "live", lambda job_ids: queue.get("says") if list(job_ids) == ["12"] else {})
    return folder, queue


def test_the_queue_is_told_task_by_task(submitted):
    folder, queue = submitted
    queue["says"] = {"12_0": "RUNNING", "12_1": "PENDING"}
    text = told(folder)
    assert "Slurm job 12: tasks 1 pending, 1 running; 2 runs wait for theirs" in text
    assert f"to stop: gradflow cancel {folder}" in text
    queue["says"] = {}
    assert "Slurm job 12: none of its tasks is in the queue any more" in told(folder)
    queue["says"] = None
    assert "Slurm job 12: squeue does not answer here" in told(folder)


def test_a_run_whose_task_is_gone_is_stale_at_once_and_its_log_is_named(records, submitted):
    folder, queue = submitted
    (records.runs / "000000000000").mkdir()
    status = {"run_id": "000000000000", "labels": {}, "title": "one", "host": "node7", "job_id": "12_0"}
    write_json(records.runs / "000000000000" / "status.json", {**status, "state": "running", "heartbeat": time.time()})
    queue["says"] = {"12_0": "RUNNING", "12_1": "PENDING"}
    assert "1 running, 3 missing" in told(folder)
    queue["says"] = {"12_1": "PENDING"}
    assert "1 stale, 3 missing" in told(folder)
    says(records.runs / "000000000000", state="failed", error="RuntimeError: x")
    log = folder / "slurm" / "logs" / "12_0.log"
    log.write_text("slurmstepd: killed\n")
    assert f"  {log}\n" in told(folder)
