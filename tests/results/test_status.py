"""How far a folder has got, in numbers and words."""

import io
import time

import pytest
from rich.console import Console

from gradflow.results.status import counts, is_complete, summary, to_rich
from gradflow.runs.planfile import collect


def told(collection) -> str:
    with io.StringIO() as out:
        console = Console(file=out, width=200)
        for shown in to_rich(collection):
            console.print(shown, soft_wrap=True)
        return out.getvalue()


def test_planned_runs_are_counted_by_state_and_what_is_open_is_explained(records, monkeypatch):
    states = "completed", "completed", "diverged", "running", "preempted", "failed", "missing"
    for seed, state in enumerate(states):
        error = "Traceback\nRuntimeError: no such neuron" if state == "failed" else None
        records.add(seed=seed, state=state, error=error)
    folder = records.sweep(command="gradflow sweep 'seed=range(7)'")
    collection = collect(folder)
    assert counts(collection) == {
        **{"completed": 2, "diverged": 1, "running": 1, "preempted": 1, "failed": 1, "missing": 1},
    }
    line = "7 runs: 2 completed, 1 diverged, 1 running, 1 preempted, 1 failed, 1 missing"
    assert summary(collection) == line
    assert not is_complete(collection)
    text = told(collection)
    assert line in text
    open_runs = [row for row in text.splitlines() if row.strip().startswith("0" * 11)]
    assert [row.split()[:2] for row in open_runs] == [
        ["0" * 11 + "3", "running"],
        ["0" * 11 + "4", "preempted"],
        ["0" * 11 + "5", "failed"],
    ]
    assert "RuntimeError: no such neuron" in open_runs[2]
    assert all(" 7 " in row and "s ago" in row for row in open_runs)  # step, heartbeat
    assert "failed: starting the sweep again tries it once more" in text
    assert "preempted: stopped when asked" in text
    assert "to go on: gradflow sweep 'seed=range(7)'" in text

    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    collection = collect(folder)
    assert counts(collection)["stale"] == 1
    assert "stale: its process is gone" in told(collection)
    assert "3600 s ago" in told(collection)


@pytest.mark.parametrize("state", ["completed", "diverged"])
def test_a_complete_sweep_says_no_more_than_that(records, state):
    records.add(state=state)
    collection = collect(records.sweep())
    assert is_complete(collection)
    assert told(collection).strip() == f"1 runs: 1 {state}"


def test_what_cannot_be_read_is_told_by_name(records):
    records.add()
    path = records.add(seed=1)
    (path / "result.json").write_text("{")
    text = told(collect(records.sweep()))
    assert "2 runs: 1 completed, 1 missing" in text
    assert f"unreadable: {path / 'result.json'}: truncated or not JSON; skipped" in text


def test_markup_in_a_record_is_text(records):
    records.add(state="failed", error="x\n[red]not markup[/red] [/bold]", activation="[b]")
    assert "[red]not markup[/red] [/bold]" in told(collect(records.sweep()))
