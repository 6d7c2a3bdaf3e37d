"""Real worker processes, killed and stopped in the middle: nothing is lost, nothing is trained twice."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture
def shell(new_shell):
    return new_shell()


def statuses(runs: Path) -> dict[str, dict]:
    """What each record says of itself."""
    found = {}
    for file in runs.glob("*/status.json"):
        status = json.loads(file.read_text())
        found[status["run_id"]] = status
    return found


def under_way(runs: Path) -> list[dict]:
    """Those that have trained a step and go on."""
    return [s for s in statuses(runs).values() if s["state"] == "running" and s["step"] > 0]


def checkpointed(runs: Path) -> list[dict]:
    return [s for s in under_way(runs) if (runs / s["run_id"] / "checkpoints" / "last.ckpt").exists()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def table_of(folder: Path) -> str:
    return (folder / "results.csv").read_text()


def test_the_same_run_shows_the_same_in_any_process(baseline, own, configure, evidence, monkeypatch):
    """One that a worker of a sweep has trained, and one that this process trains."""
    from gradflow.runs.execute import execute
    from gradflow.runs.stop import Stop

    monkeypatch.syspath_prepend(str(own))
    config = configure(
        *("activation=gated", "seed=2", "trainer.max_steps=60", "trainer.log_every_n_steps=5"),
        *("trainer.val_every_n_steps=20", "trainer.checkpoint_every_n_steps=20", "instruments.every_n_steps=5"),
        config_dir=own / "conf",
    )
    outcome = execute(config, [], Stop())
    assert outcome.run_id == baseline.run_ids[2]
    ours, theirs = (evidence(Path(runs) / outcome.run_id) for runs in (config.paths.runs, baseline.shell.runs))
    assert ours == theirs


def test_a_run_whose_worker_is_killed_goes_on_and_one_that_fails_by_itself_does_not(
    shell, grid, baseline, typed_here, evidence, wait_until
):
    """A worker takes only its own run down. Typed again, the command tries again what failed, and nothing else."""
    words = *(word for word in grid if not word.startswith(("activation", "seed", "sweep."))), "-j", "2"
    words = "sweep", "sweep.name=mixed", "activation=gated,broken", "seed=range(2)", "logger.mode=disabled", *words
    process = shell.start(*words)
    killed = wait_until(lambda: checkpointed(shell.runs))[0]
    os.kill(killed["pid"], signal.SIGKILL)
    wait_until(lambda: statuses(shell.runs)[killed["run_id"]]["attempt"] == 2)
    shell.gate.touch()
    done = shell.end(process)
    assert done.returncode == 1
    assert f"trying again {killed['run_id']}" in done.stdout
    assert "its worker process died (signal 9)" in done.stdout
    assert done.stdout.count("RuntimeError: no such neuron") == 2

    after = statuses(shell.runs)
    broken = [s for s in after.values() if s["labels"]["activation"] == "own_activations.Broken"]
    assert [(s["state"], s["attempt"]) for s in broken] == [("failed", 1)] * 2
    assert all(s["error"].startswith("Traceback") and "own_activations.py" in s["error"] for s in broken)
    assert all("no such neuron" in (shell.runs / s["run_id"] / "log.txt").read_text() for s in broken)
    finished = {s["run_id"]: s for s in after.values() if s["state"] == "completed"}
    assert {run_id: s["attempt"] for run_id, s in finished.items()} == {
        run_id: 1 + (run_id == killed["run_id"]) for run_id in baseline.run_ids[:2]
    }
    assert (shell.runs / killed["run_id"] / "log.txt").read_text().count("--- 20") == 2  # a line for each attempt

    again = typed_here(shell, *words)
    assert again.returncode == 1  # of the broken ones
    assert "4 runs, 2 done before, 2 to train" in again.stdout
    assert "its worker process died" not in again.stdout
    later = statuses(shell.runs)
    assert {run_id: later[run_id] for run_id in finished} == finished
    assert [later[s["run_id"]]["attempt"] for s in broken] == [2, 2]
    for run_id in finished:
        assert evidence(shell.runs / run_id) == evidence(baseline.shell.runs / run_id)


def test_a_run_whose_workers_die_again_and_again_is_given_up(shell, grid, typed_here):
    words = *(word for word in grid if not word.startswith(("activation", "seed", "sweep."))), "-j", "2"
    shell.gate.touch()
    words = "sweep", "sweep.name=deadly", "activation=deadly,gelu", "seed=0", "logger.mode=disabled", *words
    done = typed_here(shell, *words)
    assert done.returncode == 1
    assert done.stdout.count("trying again") == 2
    (dead,) = [s for s in statuses(shell.runs).values() if s["state"] == "failed"]
    assert dead["attempt"] == 3
    assert dead["error"] == "its worker process died (signal 11), attempt 3 of 3"
    assert "Segmentation fault" in (shell.runs / dead["run_id"] / "log.txt").read_text()
    assert [s["state"] for s in statuses(shell.runs).values() if s is not dead].count("completed") == 1


def test_ctrl_c_or_a_kill_leaves_no_worker_behind_and_three_sweeps_at_once_train_each_run_once(
    shell, grid, baseline, evidence, wait_until
):
    """The same plan twice, and another plan that has three of the four runs, from its other end."""
    words = "sweep", *grid, "logger.mode=disabled"
    process = shell.start(*words, "-j", "2", DAWDLE="0.1")
    wait_until(lambda: len(checkpointed(shell.runs)) == 2)
    workers = [status["pid"] for status in under_way(shell.runs)]
    process.send_signal(signal.SIGINT)
    stopped = shell.end(process)
    assert stopped.returncode == 130
    assert "stopped. To go on: gradflow sweep sweep.name=four activation=gated" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "4 runs: 2 preempted, 2 missing" in stopped.stdout
    first = statuses(shell.runs)
    assert [status["state"] for status in first.values()] == ["preempted", "preempted"]
    assert all(20 <= status["step"] < 60 for status in first.values())
    assert not any(map(is_alive, workers))

    process = shell.start(*words, "-j", "2", DAWDLE="0.2")
    wait_until(lambda: [status["attempt"] for status in under_way(shell.runs)] == [2, 2])
    workers = [status["pid"] for status in under_way(shell.runs)]
    process.kill()
    shell.end(process)
    wait_until(lambda: not any(map(is_alive, workers)))
    second = statuses(shell.runs)
    assert [status["state"] for status in second.values()] == ["preempted", "preempted"]
    assert all(second[run_id]["step"] >= first[run_id]["step"] for run_id in first)
    assert all((shell.runs / run_id / "checkpoints" / "last.ckpt").exists() for run_id in first)

    other = *(word for word in words if not word.startswith(("sweep.", "seed"))), "sweep.name=other", "seed=3,2,1"
    sweeps = [shell.start(*each, "-j", "1", DAWDLE="0.5") for each in (words, words, other)]
    wait_until(lambda: len({s["pid"] for s in statuses(shell.runs).values() if s["state"] == "running"}) == 3)
    shell.gate.touch()
    for process, runs in zip(sweeps, (4, 4, 3), strict=True):
        done = shell.end(process)
        assert done.returncode == 0, done.stderr
        assert f"{runs} runs" in done.stdout
    after = statuses(shell.runs)
    assert {run_id: (s["state"], s["attempt"]) for run_id, s in after.items()} == {
        run_id: ("completed", 3 if run_id in first else 1) for run_id in baseline.run_ids
    }
    assert table_of(shell.sweeps / "four") == table_of(baseline.folder)
    for run_id in baseline.run_ids:
        assert evidence(shell.runs / run_id) == evidence(baseline.shell.runs / run_id)


def test_a_finished_sweep_is_only_shown_again(baseline, grid, typed_here):
    records = {file: file.stat().st_mtime_ns for file in baseline.shell.runs.glob("*/*.json")}
    again = typed_here(baseline.shell, "sweep", *grid, "logger.mode=offline")
    assert again.returncode == 0, again.stderr
    assert "4 runs, 4 done before, 0 to train" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in baseline.shell.runs.glob("*/*.json")} == records
    assert "test" in baseline.output
    assert again.stdout.partition("\n\n")[2] in baseline.output
