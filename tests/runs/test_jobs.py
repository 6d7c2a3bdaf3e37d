"""What is known of a sweep's jobs, with a `squeue` that says what a test wants; tests/slurm asks a real one."""

import stat

import pytest

from gradflow.runs import jobs
from gradflow.runs.record import write_json


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Makes a squeue that runs a line of shell, and writes down how it was called."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def make(line: str) -> None:
        file = tmp_path / "bin" / "squeue"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n{line}\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return make


def submit(folder, number, arrays, tasks):
    """Write a submission's file: `arrays` as (job id, first task, tasks)."""
    (folder / "slurm" / "logs").mkdir(parents=True, exist_ok=True)
    listed = [{"job_id": job, "first": first, "count": count} for job, first, count in arrays]
    values = {"number": number, "submitted": 1000.0 + number, "arrays": listed, "tasks": tasks}
    write_json(jobs.file_of(folder, number), values)


def test_tasks_of_a_split_array_are_named_as_slurm_names_them(tmp_path):
    submit(tmp_path, 2, [("31", 0, 1)], [["c"]])
    submit(tmp_path, 1, [("12", 0, 2), ("13", 2, 1)], [["a", "b"], ["c"], ["d"]])
    first, second = jobs.read_submissions(tmp_path)
    assert (first.number, first.job_ids, first.submitted) == (1, ["12", "13"], 1001.0)
    assert first.tasks == {"12_0": ["a", "b"], "12_1": ["c"], "13_0": ["d"]}
    assert second.tasks == {"31_0": ["c"]}


def test_a_submission_that_is_damaged_or_was_never_accepted_is_left_out(tmp_path):
    submit(tmp_path, 1, [], [["a"]])
    submit(tmp_path, 2, [("12", 0, 1)], [["a"]])
    submit(tmp_path, 3, [("13", 0, 2)], [["a"]])  # says more tasks than it has
    jobs.file_of(tmp_path, 4).write_text('{"format": 1, "numb')
    assert [each.number for each in jobs.read_submissions(tmp_path)] == [2]
    assert jobs.read_submissions(tmp_path / "none") == []


def test_the_queue_tells_the_state_of_every_task(tmp_path, squeue):
    squeue("printf '12_0 RUNNING\\n12_1 COMPLETING\\n12_2 PENDING\\n7 RUNNING\\n'")
    assert jobs.live(["12"]) == {"12_0": "RUNNING", "12_1": "COMPLETING", "12_2": "PENDING"}
    called = (tmp_path / "called").read_text()
    assert "--jobs=12" in called
    assert "--array" in called  # without which waiting tasks are one line


def test_jobs_that_slurm_has_forgotten_are_over(squeue):
    squeue("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert jobs.live(["12"]) == {}


def test_no_answer_is_no_knowledge(squeue, monkeypatch):
    squeue("echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1")
    assert jobs.live(["12"]) is None
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    squeue("exec sleep 5")
    assert jobs.live(["12"]) is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert jobs.live(["12"]) is None
    assert jobs.live([]) == {}  # nothing is asked


def test_a_run_is_with_a_task_that_waits_or_runs(tmp_path):
    submit(tmp_path, 1, [("12", 0, 4)], [["a"], ["b"], ["c"], ["d"]])
    states = {"12_0": "RUNNING", "12_1": "PENDING", "12_2": "COMPLETING"}
    assert jobs.held(jobs.read_submissions(tmp_path), states) == {"a": "12_0", "b": "12_1"}


def test_the_log_of_a_run_is_that_of_its_last_task_that_has_one(tmp_path):
    submit(tmp_path, 1, [("12", 0, 2)], [["a"], ["b"]])
    submit(tmp_path, 2, [("13", 0, 1)], [["b"]])
    assert jobs.log_of(tmp_path, "b") is None
    old, new = (tmp_path / "slurm" / "logs" / f"{task}.log" for task in ("12_1", "13_0"))
    old.touch()
    assert jobs.log_of(tmp_path, "b") == old  # the newer task has not started
    new.touch()
    assert jobs.log_of(tmp_path, "b") == new
    assert jobs.log_of(tmp_path, "c") is None
